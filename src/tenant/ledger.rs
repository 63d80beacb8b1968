//! What each tenant uses now.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use governor::{
    RateLimiter,
    clock::{self, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use super::{Quota, Quotas};
use millstream_operators::Timestamp;

use crate::event::{Clock, Tenant};

/// What is counted for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Queue,
    Delayed,
}

impl Use {
    fn limit(self, quota: &Quota) -> Option<NonZeroUsize> {
        match self {
            Self::Queue => quota.queue,
            Self::Delayed => quota.delayed,
        }
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

/// The runtime's clock as governor wants it: governor's own ignores tokio's paused clock.
#[derive(Clone, Debug)]
struct Ticks(Clock);

impl clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.now().as_nanos())
    }
}

#[derive(Debug, Default)]
struct Usage {
    counts: [usize; 2],
    rate: Option<Rate>,
}

#[derive(Debug)]
struct Rate {
    limiter: Limiter,
    fresh_at: Timestamp,
}

/// The table is swept when it has at least so many tenants.
const SWEEP_AT_LEAST: usize = 1_024;

/// The tenants that use anything now, and their rate limiters.
#[derive(Debug)]
pub(crate) struct Ledger {
    quotas: Quotas,
    clock: Clock,
    usage: HashMap<Tenant, Usage>,
    sweep_at: usize,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas, clock: Clock) -> Self {
        Self { quotas, clock, usage: HashMap::new(), sweep_at: SWEEP_AT_LEAST }
    }

    pub(crate) fn used(&self, tenant: &Tenant, what: Use) -> usize {
        self.usage.get(tenant).map_or(0, |usage| usage.counts[what as usize])
    }

    /// The limit, where one more would exceed it.
    pub(crate) fn exceeded(&self, tenant: &Tenant, what: Use) -> Option<usize> {
        let limit = what.limit(self.quotas.of(tenant))?.get();
        (self.used(tenant, what) >= limit).then_some(limit)
    }

    pub(crate) fn add(&mut self, tenant: &Tenant, what: Use) {
        self.entry(tenant).counts[what as usize] += 1;
    }

    pub(crate) fn remove(&mut self, tenant: &Tenant, what: Use) {
        if let Some(usage) = self.usage.get_mut(tenant) {
            usage.counts[what as usize] = usage.counts[what as usize].saturating_sub(1);
            if usage.rate.is_none() && usage.counts == [0; 2] {
                self.usage.remove(tenant);
            }
        }
    }

    /// Takes one from the tenant's rate.
    ///
    /// # Errors
    /// How long until the next one may come.
    pub(crate) fn take_rate(&mut self, tenant: &Tenant) -> Result<(), Duration> {
        let Some((per_second, burst)) = self.quotas.of(tenant).rate else { return Ok(()) };
        let now = self.clock.now();
        let ticks = Ticks(self.clock);
        let rate = self.entry(tenant).rate.get_or_insert_with(|| {
            let quota = governor::Quota::per_second(per_second).allow_burst(burst);
            Rate { limiter: RateLimiter::direct_with_clock(quota, ticks), fresh_at: now }
        });
        let since = Nanos::from(now.as_nanos());
        rate.limiter.check().map_err(|until| Duration::from(until.earliest_possible().duration_since(since)))?;
        rate.fresh_at = now + Duration::from_secs(1) * burst.get() / per_second.get();
        Ok(())
    }

    /// When the table has doubled, limiters are forgotten whose whole burst is there again: a new one is the same.
    fn entry(&mut self, tenant: &Tenant) -> &mut Usage {
        if self.usage.len() >= self.sweep_at && !self.usage.contains_key(tenant) {
            let now = self.clock.now();
            self.usage
                .retain(|_, usage| usage.counts != [0; 2] || usage.rate.as_ref().is_some_and(|r| r.fresh_at > now));
            self.sweep_at = (self.usage.len() * 2).max(SWEEP_AT_LEAST);
        }
        self.usage.entry(tenant.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_gives_its_burst_then_its_pace_and_says_how_long_to_wait() {
        let quotas = Quotas { each: Quota::new().rate(10, 2), ..Quotas::default() };
        let mut ledger = Ledger::new(quotas, Clock::system());
        let tenant = Tenant::from("a");
        assert_eq!((ledger.take_rate(&tenant), ledger.take_rate(&tenant)), (Ok(()), Ok(())));
        assert_eq!(ledger.take_rate(&tenant), Err(Duration::from_millis(100)));
        assert_eq!(ledger.take_rate(&Tenant::from("b")), Ok(()));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(ledger.take_rate(&tenant), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_uses_nothing_is_forgotten() {
        let quotas = Quotas { each: Quota::new().rate(10, 2), ..Quotas::default() };
        let mut ledger = Ledger::new(quotas, Clock::system());
        for number in 0..10 * SWEEP_AT_LEAST {
            ledger.take_rate(&Tenant::from(number.to_string())).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(ledger.usage.len() <= 2 * SWEEP_AT_LEAST, "{}", ledger.usage.len());
        let tenant = Tenant::from("c");
        ledger.add(&tenant, Use::Queue);
        ledger.remove(&tenant, Use::Queue);
        assert!(!ledger.usage.contains_key(&tenant));
    }
}
