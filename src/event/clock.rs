//! The one clock of a runtime, its layers and its streams.

use std::time::SystemTime;

use millstream_operators::Timestamp;
use tokio::time::Instant;

/// Wall-clock time that follows tokio's clock, so that a paused tokio runtime owns it and it never goes back.
///
/// The wall clock is read once, when the clock is made; from then on time is that reading plus what tokio's monotonic
/// clock has advanced.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    epoch: Timestamp,
}

impl Clock {
    /// A clock that starts at the system's time.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(Timestamp::EPOCH + wall)
    }

    /// A clock that starts at a given time, for tests that print times.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { start: Self::instant(), epoch }
    }

    /// The same clock, or one that begins there where it has not come so far.
    pub(crate) fn not_before(self, floor: Timestamp) -> Self {
        if self.now() < floor { Self::starting_at(floor) } else { self }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn instant() -> Instant {
        Instant::now()
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.epoch + Self::instant().saturating_duration_since(self.start)
    }

    /// The instant to sleep until, for a time of this clock.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        self.start + at.since(self.epoch)
    }
}
