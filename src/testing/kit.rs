//! A runtime in virtual time.

use std::{error::Error, ops::Deref, sync::Arc, time::Duration};

use millstream_operators::Timestamp;

use super::timeline::{Recorder, Timeline};
use crate::{
    event::Clock,
    runtime::{Builder, ProcessError, ProcessReport, Runtime},
    store::hold_clock,
};

/// What a test of [`run`] returns: any error fails it.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A runtime in virtual time that keeps everything that happens to it. Everything that a [`Runtime`] can, it can.
#[derive(Clone, Debug)]
pub struct TestKit {
    runtime: Runtime,
    recorder: Arc<Recorder>,
    start: Timestamp,
}

/// When virtual time begins: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// Runs a test on a current-thread tokio runtime whose clock is paused, and settles at its end.
///
/// # Panics
/// Where the builder has impossible settings, the test returns an error, or a book does not balance: that is how a test
/// fails.
#[track_caller]
#[expect(clippy::panic, reason = "a test that fails panics")]
pub fn run(builder: Builder, test: impl AsyncFnOnce(TestKit) -> Outcome) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = match tokio {
        Ok(tokio) => tokio.block_on(async {
            let kit = TestKit::new(builder)?;
            test(kit.clone()).await?;
            kit.assert_balanced();
            Ok(())
        }),
        Err(error) => Err(error.into()),
    };
    let outcome: Outcome = outcome;
    if let Err(error) = outcome {
        panic!("the test failed: {}", crate::intake::chain(&*error));
    }
}

impl TestKit {
    /// A kit inside a tokio runtime whose clock is paused, such as that of `#[tokio::test(start_paused = true)]`. Times
    /// begin at 2026-01-01T00:00:00Z; ids and jitter repeat from run to run; there is no watchdog.
    ///
    /// # Errors
    /// The builder's impossible settings.
    #[track_caller]
    pub fn new(builder: Builder) -> Result<Self, crate::BuildError> {
        // For as long as the thread lives: a paused clock is one thread's.
        #[expect(clippy::mem_forget, reason = "nobody is there who could give it back in time")]
        std::mem::forget(hold_clock());
        let recorder = Arc::new(Recorder::default());
        let builder = builder.clock(Clock::starting_at(START)).observer(Arc::clone(&recorder) as _);
        let runtime = builder.seed_unless_set(7).build()?;
        // A durable runtime goes on from the time of the one before it.
        let start = runtime.clock().now();
        Ok(Self { runtime, recorder, start })
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs until nothing is queued, in flight or in backoff; virtual time moves as far as retries and handlers need.
    ///
    /// Where the store of a durable runtime fails, it waits and tries again, for up to an hour.
    ///
    /// # Panics
    /// Where a book does not balance, it is called inside a handler, or the store goes on to fail.
    #[track_caller]
    #[expect(clippy::manual_async_fn, reason = "an async function cannot track its caller")]
    pub fn settle(&self) -> impl Future<Output = ProcessReport> {
        async move {
            let end = self.now() + Duration::from_hours(1);
            let report = loop {
                match self.runtime.process().await {
                    Ok(report) => break report,
                    Err(ProcessError::Store { .. }) if self.now() < end => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    #[expect(clippy::panic, reason = "a test that fails panics")]
                    Err(error) => panic!("it cannot settle: {error}"),
                }
            };
            self.assert_balanced();
            report
        }
    }

    /// Moves virtual time, and does everything that is due until then, each at its own time.
    ///
    /// # Panics
    /// Where a book does not balance, or the clock is not paused.
    pub async fn advance(&self, time: Duration) {
        self.advance_until(self.now() + time).await;
    }

    /// As [`advance`](Self::advance), to a given time.
    ///
    /// # Panics
    /// As there.
    pub async fn advance_until(&self, target: Timestamp) {
        let clock = self.runtime.clock();
        let end = clock.instant_of(target);
        while let Ok(Ok(report)) = tokio::time::timeout_at(end, self.runtime.process()).await {
            match report.next_deadline.filter(|&next| next <= target && clock.now() < target) {
                Some(next) => tokio::time::sleep_until(clock.instant_of(next)).await,
                None if clock.now() < target => tokio::time::sleep_until(end).await,
                None => break,
            }
        }
        self.assert_balanced();
    }

    /// Virtual time now.
    pub fn now(&self) -> Timestamp {
        self.runtime.clock().now()
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.now().since(self.start)
    }

    /// Everything that happened so far.
    pub fn timeline(&self) -> Timeline {
        self.recorder.timeline(self.start)
    }
}

impl Deref for TestKit {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}
