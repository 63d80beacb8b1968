//! What becomes of an `Err`. To every other operator it is an item like any other; these take it as the end.

mod catch;
mod fail_fast;
mod recover;
mod repeat;
mod retry;

pub use catch::Catch;
pub use fail_fast::{FailFast, FailScope, Guard, IntoResult, fail_fast};
pub use recover::{Recover, RecoverState};
pub use repeat::{Repeat, RepeatPolicy, repeat};
pub use retry::{Retry, RetryPolicy, retry};
