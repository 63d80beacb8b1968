//! What a tenant may use.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroUsize},
};

use crate::event::Tenant;

/// What one tenant may use at a time. Nothing is limited by default.
///
/// ```
/// use millstream::Quota;
///
/// let small = Quota::new().queue(100).rate(50, 10).concurrency(4);
/// # let _ = small;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Quota {
    pub(crate) queue: Option<NonZeroUsize>,
    pub(crate) rate: Option<(NonZeroU32, NonZeroU32)>,
    pub(crate) concurrency: Option<NonZeroUsize>,
    pub(crate) delayed: Option<NonZeroUsize>,
    pub(crate) retries: Option<NonZeroUsize>,
    pub(crate) dead_letters: Option<NonZeroUsize>,
    pub(crate) zero: Option<&'static str>,
}

macro_rules! limit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Zero is refused when the runtime is built.
        pub fn $name(mut self, most: usize) -> Self {
            self.$name = NonZeroUsize::new(most);
            if most == 0 {
                self.zero = Some(stringify!($name));
            }
            self
        }
    };
}

impl Quota {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    limit! {
        /// Events that may hold room in the queue, those being handled among them. Beyond it emits are refused.
        queue
    }
    limit! {
        /// Deliveries in flight. Further ones wait, and nobody else waits for them.
        concurrency
    }
    limit! {
        /// Events that may wait for their due time in memory. Beyond it delayed emits are refused. In a durable runtime they wait in
        /// the store, where this is no limit; those on their way there count as queued.
        delayed
    }
    limit! {
        /// Deliveries that may wait for a retry. Beyond it a failed delivery goes to the dead letters at once.
        retries
    }
    limit! {
        /// Dead letters kept. Beyond it the tenant's oldest is dropped and counted.
        dead_letters
    }

    /// Emits a second, and how many may come at once. Beyond it emits are refused with the time to wait.
    ///
    /// Zero is refused when the runtime is built.
    pub fn rate(mut self, per_second: u32, burst: u32) -> Self {
        self.rate = NonZeroU32::new(per_second).zip(NonZeroU32::new(burst));
        if self.rate.is_none() {
            self.zero = Some("rate");
        }
        self
    }
}

/// Every tenant's quota: one for all, and exceptions by name.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    pub(crate) each: Quota,
    pub(crate) by_tenant: HashMap<Tenant, Quota>,
}

impl Quotas {
    pub(crate) fn of(&self, tenant: &Tenant) -> &Quota {
        self.by_tenant.get(tenant).unwrap_or(&self.each)
    }

    pub(crate) fn zeros(&self) -> impl Iterator<Item = String> {
        let each = self.each.zero.map(|zero| format!("tenant_quota: `{zero}` is 0; allowed is 1 or more"));
        let named = self.by_tenant.iter().filter_map(|(tenant, quota)| {
            quota.zero.map(|zero| format!("quota of tenant `{tenant}`: `{zero}` is 0; allowed is 1 or more"))
        });
        each.into_iter().chain(named)
    }
}
