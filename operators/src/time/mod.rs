//! What depends on when an item comes.

mod audit;
mod debounce;
mod delay;
mod rate_limit;
mod sample;
mod throttle;
mod timeout;

pub use audit::{Audit, AuditState};
pub use debounce::{Debounce, DebounceMax, DebounceMaxState, DebounceState};
pub use delay::{Delay, DelayState};
pub use rate_limit::{RateLimit, RateLimitState};
pub use sample::{Sample, SampleState};
pub use throttle::{Edge, Throttle, ThrottleState};
pub use timeout::{Timeout, TimeoutError, TimeoutState};
