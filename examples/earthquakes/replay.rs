//! The replay: news in any order into a runtime, windows of event time out of it.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::Result;
use millstream::{
    Runtime, StreamOptions, Timestamp,
    operators::{buffer::Windowed, time::Late},
};
use serde::Serialize;

use crate::quakes::Quake;

/// What is told of a window. The longest quiet depends on the order of the quakes, so it is right only in event time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) quakes: u64,
    pub(crate) magnitude: f64,
    pub(crate) place: String,
    pub(crate) quiet_seconds: u64,
    #[serde(skip)]
    last: Option<Timestamp>,
}

impl Summary {
    fn add(&mut self, quake: &Quake) {
        let strength = quake.magnitude().total_cmp(&self.magnitude);
        if self.quakes == 0 || strength.then_with(|| quake.place().cmp(&self.place)).is_gt() {
            self.magnitude = quake.magnitude();
            quake.place().clone_into(&mut self.place);
        }
        let quiet = self.last.map_or(Duration::ZERO, |last| quake.time().since(last));
        self.quiet_seconds = self.quiet_seconds.max(quiet.as_secs());
        self.last = Some(quake.time());
        self.quakes += 1;
    }
}

/// What came of a replay.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) windows: Vec<Windowed<Summary>>,
    /// The side output: quakes whose window had closed.
    pub(crate) late: Vec<Late<Quake>>,
    /// What the stream's reader missed.
    pub(crate) dropped: u64,
}

impl Outcome {
    pub(crate) fn on_time(&self) -> u64 {
        self.windows.iter().map(|window| window.item.quakes).sum()
    }
}

/// Emits the quakes in the order given, as fast as they are handled, and gathers windows of event time.
pub(crate) async fn replay(quakes: &[Quake], window: Duration, lateness: Duration) -> Result<Outcome> {
    let runtime = Runtime::builder().build()?;
    // A replay is faster than any reader; it must miss nothing.
    let room = NonZeroUsize::new(quakes.len()).unwrap_or(NonZeroUsize::MIN);
    let reports = runtime.stream_with::<Quake>("quake.*", StreamOptions::default().capacity(room))?;
    let meter = reports.head().meter();
    let windows = reports.event_time(Quake::time, lateness, |each| {
        each.tumbling(window, |window| window.fold(Summary::default(), |summary, quake| summary.add(&quake)))
    });
    // `run` ends with the shutdown, and so does the stream; the first that fails ends all.
    let drive = async { Ok(runtime.run().await?) };
    let feed = async {
        for quake in quakes {
            runtime.emit_wait(quake.clone()).await?;
        }
        runtime.shutdown(Duration::from_secs(10)).await?;
        anyhow::Ok(())
    };
    let mut outcome = Outcome::default();
    let gather = windows.for_each(|item| match item {
        Ok(window) => outcome.windows.push(window),
        Err(late) => outcome.late.push(late),
    });
    let gather = async {
        gather.await;
        Ok(())
    };
    tokio::try_join!(drive, feed, gather)?;
    outcome.dropped = meter.dropped();
    Ok(outcome)
}
