//! One item in, one item out, and what goes before or after.

mod default_if_empty;
mod end_with;
mod inspect;
mod map;
mod pairwise;
mod scan;
mod start_with;

pub use default_if_empty::DefaultIfEmpty;
pub use end_with::EndWith;
pub use inspect::Inspect;
pub use map::Map;
pub use pairwise::Pairwise;
pub use scan::{Scan, ScanFirst};
pub use start_with::StartWith;
