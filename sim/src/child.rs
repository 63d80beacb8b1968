//! What is killed: a process with a whole durable runtime at full load on a real file. Many emit side by side, each waiting for
//! the acknowledgement of its last before it emits the next; each acknowledgement is told on the standard output before the
//! next emit. A handler and a stage count.

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use millstream::Runtime;

use crate::{
    ledger::Ack,
    load::{self, Answers, Tick},
};

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file of the store.
    pub file: PathBuf,
    /// Which start of the process this is, from 1 on.
    pub cycle: u32,
    /// How many emit side by side.
    pub emitters: u32,
}

/// Works until it is killed.
///
/// # Errors
/// Whatever stopped it before.
pub fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    tokio.block_on(async {
        let runtime = load::open(&settings.file, &Answers::default())?;
        tokio::select! {
            driven = runtime.run() => Err(driven.map_or_else(Into::into, |_| "it was shut down".into())),
            emitted = emit(&runtime, settings) => emitted,
        }
    })
}

/// Emits as fast as it can and tells of each acknowledgement.
async fn emit(runtime: &Runtime, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let next = async |emitter, number| -> Result<Ack, Box<dyn Error>> {
        let receipt = runtime.emit_wait(Tick::new(settings.cycle, emitter, number)).await?;
        receipt.await?;
        Ok(Ack { emitter, number })
    };
    let mut flying: FuturesUnordered<_> = (0..settings.emitters).map(|emitter| next(emitter, 0)).collect();
    let mut out = io::stdout().lock();
    let (mut acked, mut told) = (Vec::new(), Vec::new());
    while let Some(first) = flying.next().await {
        let mut answer = Some(first);
        while let Some(ack) = answer.transpose()? {
            told.extend_from_slice(&ack.encode());
            acked.push(ack);
            // What is told already goes out together.
            answer = flying.next().now_or_never().flatten();
        }
        out.write_all(&told)?;
        out.flush()?;
        told.clear();
        flying.extend(acked.drain(..).map(|ack| next(ack.emitter, ack.number + 1)));
    }
    Ok(())
}
