//! Several inputs. Each is a port, and the end of a port is an item like any other, so an operator of several inputs is
//! an ordinary [`Operator`](crate::Operator) and runs without streams too.

mod buffer_on;
mod combine_latest;
mod concat;
mod merge;
mod port;
mod port_n;
mod port_tuple;
mod race;
pub(crate) mod ready;
mod sample_on;
mod skip_until;
mod take_until;
mod with_latest_from;
mod zip;

pub use buffer_on::{BufferOn, BufferOnState};
pub use combine_latest::{CombineLatest, combine_latest};
pub use concat::concat;
pub use merge::{Merge, merge};
pub use port::IntoPorts;
pub use port_n::{PortN, PortsN};
pub use port_tuple::{
    Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, Ports3, Ports4, Ports5, Ports6, Ports7, Ports8,
};
pub use race::{Race, RaceState, race};
pub use sample_on::{SampleOn, SampleOnState};
pub use skip_until::{SkipUntil, SkipUntilState};
pub use take_until::{TakeUntil, TakeUntilState};
pub use with_latest_from::{WithLatestFrom, WithLatestState, with_latest_from};
pub use zip::{Zip, ZipQueue, zip};
