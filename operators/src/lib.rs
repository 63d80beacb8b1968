//! Stream operators as pure state machines. Time is an argument: no clock, no task, no I/O inside.
#![allow(clippy::inline_always, reason = "operators fuse into one loop only where each step is inlined")]

pub mod buffer;
pub mod combine;
pub mod error;
pub mod filter;
pub mod keyed;
pub mod nested;
pub mod reduce;
pub mod share;
pub mod task;
pub mod time;
pub mod transform;

mod build_error;
mod flow;
mod operator;
mod pace;
mod steps;
mod then;
mod timestamp;

pub use build_error::BuildError;
pub use flow::{BoxChain, BoxFlow, BoxOperator, BoxState, Chain, Flow, Head, IntoFlow, Open, Running, chain, flow};
pub use operator::Operator;
pub use steps::Steps;
pub use then::{Identity, Then};
pub use timestamp::Timestamp;
