//! What depends on when an item comes, or on the time that it carries.

mod audit;
mod debounce;
mod delay;
mod event_time;
mod rate_limit;
mod reorder;
mod sample;
mod throttle;
mod timeout;

pub use audit::{Audit, AuditState};
pub use debounce::{Debounce, DebounceMax, DebounceMaxState, DebounceState};
pub use delay::{Delay, DelayState};
pub use event_time::{EventTime, EventTimeState};
pub use rate_limit::{RateLimit, RateLimitState};
pub use reorder::{Late, Reorder, ReorderState};
pub use sample::{Sample, SampleState};
pub use throttle::{Edge, Throttle, ThrottleState};
pub use timeout::{Timeout, TimeoutError, TimeoutState};
