//! What is killed: a process at full load on a real file. Many emit side by side, each waiting for the acknowledgement of
//! its last before it emits the next; each acknowledgement is told on the standard output. Another part reads the logs and
//! counts, with its cursor in the same batch as its counts.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, executor::block_on, future::try_join, stream::FuturesUnordered};
use millstream::{
    Timestamp,
    store::{CLASSES, Claim, Class, CommitError, Op, Record, Redb, Seq, Store, StoreError, Wanted},
};

use crate::{
    history::{CURSOR, HERE, STATE},
    ledger::{Ack, Count, Emit},
};

/// How many bytes are read of a log at once.
const PAGE_BYTES: usize = 256 << 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file of the store.
    pub file: PathBuf,
    /// Which start of the process this is.
    pub cycle: u32,
    /// How many emit side by side.
    pub emitters: u32,
}

/// Why it stopped before it was killed.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store takes nothing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody listens.
    #[error(transparent)]
    Pipe(#[from] io::Error),
}

/// Works until it is killed.
///
/// # Errors
/// Whatever stopped it before.
pub fn run(settings: &Settings) -> Result<(), ChildError> {
    let store: Arc<dyn Store> = Arc::new(Redb::open(&settings.file)?);
    let claim = block_on(store.claim(HERE))?;
    block_on(try_join(emit(&*store, settings), count(&*store, claim))).map(drop)
}

/// Emits as fast as it can and tells of each acknowledgement.
async fn emit(store: &dyn Store, settings: &Settings) -> Result<(), ChildError> {
    let next = |emitter, number| {
        let emit = Emit { cycle: settings.cycle, emitter, number };
        let record = Record { name: "emitted".into(), time: Timestamp::EPOCH, bytes: emit.encode(), keys: Vec::new() };
        let commit = store.append(HERE, vec![Op::Append { class: emit.class(), records: vec![record] }]);
        commit.map(move |answer| answer.map(|_| Ack { emitter, number }))
    };
    let mut flying: FuturesUnordered<_> = (0..settings.emitters).map(|emitter| next(emitter, 0)).collect();
    let (mut out, mut acks) = (io::stdout().lock(), Vec::new());
    while let Some(first) = flying.next().await {
        let mut answer = Some(first);
        while let Some(ack) = answer.transpose()? {
            acks.push(ack);
            // What is told already goes out together.
            answer = flying.next().now_or_never().flatten();
        }
        out.write_all(&acks.iter().flat_map(Ack::encode).collect::<Vec<_>>())?;
        out.flush()?;
        // Nobody emits before his last was told of: so one more may be there than was told, and never two.
        flying.extend(acks.drain(..).map(|ack| next(ack.emitter, ack.number + 1)));
    }
    Ok(())
}

/// Reads all classes and counts what it reads.
async fn count(store: &dyn Store, claim: Claim) -> Result<(), ChildError> {
    let mut partition = claim.partition;
    let keys: Vec<Bytes> = (0..CLASSES).map(|class| vec![class].into()).collect();
    let cursors = partition.get(CURSOR, &keys).await?;
    let counts = partition.get(STATE, &keys).await?;
    let mut cursors: Vec<Seq> = cursors.iter().map(|row| row.as_deref().and_then(place).unwrap_or_default()).collect();
    let mut counts: Vec<Count> =
        counts.iter().map(|row| row.as_deref().map(Count::decode).unwrap_or_default()).collect();
    loop {
        let mut batch = Vec::new();
        for class in 0..CLASSES {
            let (cursor, count) = (&mut cursors[usize::from(class)], &mut counts[usize::from(class)]);
            let page = partition.read(Class(class), *cursor, PAGE_BYTES, &Wanted::default()).await?;
            if page.records.is_empty() {
                continue;
            }
            page.records.iter().for_each(|record| count.add(&record.bytes));
            *cursor = page.next;
            let key = &keys[usize::from(class)];
            let next = Bytes::copy_from_slice(&page.next.0.to_be_bytes());
            batch.push(Op::Put { table: CURSOR, key: key.clone(), value: next });
            batch.push(Op::Put { table: STATE, key: key.clone(), value: count.encode() });
        }
        if batch.is_empty() {
            let end = cursors.iter().copied().max().unwrap_or_default();
            store.appended(HERE, end).await?;
        } else {
            partition.commit(batch).await?;
        }
    }
}

/// A place, as a row holds it.
pub fn place(row: &[u8]) -> Option<Seq> {
    Some(Seq(u64::from_be_bytes(row.try_into().ok()?)))
}
