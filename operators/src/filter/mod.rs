//! Fewer items out than in, each as it was.

mod distinct;
mod distinct_until_changed;
mod element_at;
#[expect(clippy::module_inception, reason = "the folder's first operator has its name")]
mod filter;
mod filter_map;
mod find;
mod first;
mod ignore_elements;
mod last;
mod skip;
mod skip_last;
mod skip_while;
mod take;
mod take_last;
mod take_while;

pub use distinct::{Distinct, DistinctByKey};
pub use distinct_until_changed::{DistinctUntilChanged, DistinctUntilKeyChanged};
pub use element_at::{ElementAt, ElementAtOr, OutOfRangeError};
pub use filter::Filter;
pub use filter_map::FilterMap;
pub use find::{Find, FindState};
pub use first::{EmptyError, First, FirstOr};
pub use ignore_elements::IgnoreElements;
pub use last::{Last, LastOr};
pub use skip::Skip;
pub use skip_last::SkipLast;
pub use skip_while::SkipWhile;
pub use take::Take;
pub use take_last::TakeLast;
pub use take_while::TakeWhile;
