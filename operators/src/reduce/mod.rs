//! Many items in, one answer out: each is a flow of one item.

mod any;
mod count;
mod every;
mod fold;
mod is_empty;
mod max;
mod min;
#[expect(clippy::module_inception, reason = "the folder's general case has its name")]
mod reduce;
mod to_vec;

pub use any::Any;
pub use count::Count;
pub use every::Every;
pub use fold::Fold;
pub use is_empty::IsEmpty;
pub use max::{Max, MaxByKey};
pub use min::{Min, MinByKey};
pub use reduce::Reduce;
pub use to_vec::ToVec;

use serde::{Deserialize, Serialize};

/// Whether a question that may be answered early still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// No item decided it so far.
    Open,
    /// The answer came out.
    Answered,
}
