//! Stream operators as pure state machines. Time is an argument: no clock, no task, no I/O inside.

mod timestamp;

pub use timestamp::Timestamp;
