//! One chain for every key. The logic is shared; a key costs its state.

mod due;
mod expire;
mod keys;
mod per_key;
mod scope;

pub use expire::{Expire, ExpireState};
pub use keys::Keys;
pub use per_key::PerKey;
pub use scope::Keyed;
