//! Tenants: what each may use, and what each uses now.
//!
//! Promises: a tenant that is over its quota is refused by name while others go on; whoever uses nothing is forgotten.
//! Knows events' tenants and nothing else of the engine.

mod ledger;
mod quota;

pub(crate) use self::ledger::{Ledger, Use};
pub use self::quota::{Quota, Quotas};
