//! Several items as one.

mod batch;
mod buffer_count;
mod buffer_time;
mod tumbling;
mod window_count;

pub use batch::{Batch, BatchState, BatchWeight, BatchWeightState};
pub use buffer_count::{BufferCount, BufferCountState};
pub use buffer_time::{BufferTime, BufferTimeState};
pub use tumbling::{Tumbling, TumblingState, Windowed};
pub use window_count::{Window, WindowCount, WindowCountState};
