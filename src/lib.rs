//! The event engine that you can test.

pub use millstream_operators::Timestamp;
