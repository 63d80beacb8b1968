//! Calls pass while a calendar says so, and work begins when it says so.
//!
//! A [`Schedule`] is open by hours of the week or by a cron pattern, in a time zone of the IANA data base. [`ScheduleLayer`]
//! lets calls through while it is open:
//!
//! | setting | default |
//! | --- | --- |
//! | [`refuse`](ScheduleLayer::refuse) or [`hold`](ScheduleLayer::hold) what comes while it is closed | as chosen |
//! | [`patience`](ScheduleLayer::patience), longest hold; a call that would be held for longer is refused at once | no limit |
//! | [`starting_at`](ScheduleLayer::starting_at), a clock that follows tokio's from a given time | the system's clock |
//!
//! A refusal is a [`Closed`], which says when it opens. A held call looks at the clock again at least once a minute, so that
//! a system clock that is set is noticed. Held calls pass together when it opens: put a limit inside.
//!
//! In the night when clocks go forward, an opening in the gap is at its end; when they go back, an hour that comes twice is
//! open twice.
//!
//! A [`Trigger`] ticks at intervals or by cron, and [`drive`] calls a service at each tick. A tick that comes while a call
//! still runs is skipped, and counted.

mod calendar;
mod error;
mod future;
mod service;
mod trigger;

pub use calendar::{Schedule, Weekday};
pub use error::Closed;
pub use future::{Opening, ScheduleFuture};
pub use service::{ScheduleLayer, Scheduled};
pub use trigger::{Tick, Trigger, drive};
