//! Stream operators as pure state machines. Time is an argument: no clock, no task, no I/O inside.
//!
//! ```
//! use std::time::Duration;
//! use millstream_operators::{Timestamp, chain, flow};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! // A chain is bound to no source. It is tested without a clock:
//! let alarms = chain().filter(|level: &u32| *level > 3).debounce(Duration::from_millis(20));
//! let ms = Timestamp::from_millis;
//! assert_eq!(alarms.run([(5, ms(10)), (9, ms(15)), (1, ms(90))], ms(100)), [(9, ms(35))]);
//!
//! // .. and runs on any stream, on tokio's clock:
//! let levels = futures::stream::iter([5, 9, 1]);
//! assert_eq!(flow(levels).apply(alarms).collect::<Vec<_>>().await, [9]);
//! # }
//! ```
//!
//! - [`Operator`]: logic behind `&self`, [state](Operator::State) apart, so that any state can be saved, loaded and
//!   inspected, and one copy of the logic serves a million keys.
//! - [`Chain`]: operators in a row, bound to no source. [`Steps`] drives one by hand.
//! - [`Flow`]: a chain on a stream; itself a stream. Every operator is a method of both.
//! - [`durable`]: a chain's state by name, to save and to load.
//! - The operators, by what they do: [`transform`], [`filter`], [`reduce`], [`time`], [`buffer`], [`combine`], [`nested`],
//!   [`keyed`], [`share`], [`error`], [`task`].
//!
//! An `Err` is an item like any other, but for the operators of [`error`].
#![allow(clippy::inline_always, reason = "operators fuse into one loop only where each step is inlined")]

pub mod buffer;
pub mod combine;
pub mod durable;
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
mod by_reference;
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
