//! Each item becomes a stream or a future. These hold what they start, so they end a fused chain and begin a new one,
//! and live on flows alone.

mod concat_map;
mod exhaust_map;
mod flat_map;
mod group_by;
mod map_async;
mod switch_map;

pub use concat_map::ConcatMap;
pub use exhaust_map::ExhaustMap;
pub use flat_map::FlatMap;
pub use group_by::{Group, GroupBy};
pub use map_async::{MapAsync, MapAsyncUnordered};
pub use switch_map::SwitchMap;

/// How many outer items are taken in one poll before the inner streams have their turn.
const BUDGET: u32 = 32;
