//! Which delivery goes where a subscription holds its whole share and drops its oldest.

use super::{
    dispatcher::Dispatcher,
    job::{Job, OrderKey, Stake},
};
use crate::event::Tenant;

/// What a delivery waits for, other than its next attempt.
#[derive(Clone)]
enum Wait {
    /// Its key, behind others or behind one that is halted.
    Key(OrderKey),
    Slot,
    /// Whatever was emitted before it, by its own sequence.
    Turn(u64),
    Quota(Tenant),
}

impl Dispatcher {
    /// Takes out the oldest delivery of a class that waits and counts against its subscription's share.
    pub(super) fn take_oldest_waiting(&mut self, place: usize, class: usize) -> Option<Job> {
        let (id, wait) = self.oldest_waiting(place, class)?;
        let subscriber = &mut self.subscribers[place];
        let mut is_parked = false;
        let oldest = match wait {
            Wait::Slot => subscriber.for_slot.take_where(class, |job| job.id == id),
            Wait::Turn(sequence) => subscriber.early.remove(&sequence),
            Wait::Key(key) => subscriber.keys.get_mut(&key).and_then(|line| {
                is_parked = line.is_halted;
                let place = line.waiting.iter().position(|job| job.id == id)?;
                line.waiting.remove(place)
            }),
            Wait::Quota(tenant) => self.loads.get_mut(&tenant).and_then(|load| {
                let place = load.waiting.iter().position(|job| job.id == id)?;
                load.waiting.remove(place)
            }),
        }?;
        let book = &mut self.done.book.deliveries;
        let column = if is_parked { &mut book.parked } else { &mut book.blocked };
        *column -= 1;
        self.subscribers[place].entry.meter.waiting.down();
        Some(oldest)
    }

    /// Its id, which rises from delivery to delivery, and where it is.
    fn oldest_waiting(&self, place: usize, class: usize) -> Option<(u64, Wait)> {
        let subscriber = &self.subscribers[place];
        let counts = |job: &&Job| job.class() == class && job.stake == Stake::Pinned;
        let first = |jobs: &mut dyn Iterator<Item = &Job>| jobs.filter(counts).map(|job| job.id).min();
        let of_key = |(key, line): (&OrderKey, &super::subscriber::KeyLine)| {
            Some((first(&mut line.waiting.iter())?, Wait::Key(key.clone())))
        };
        let of_load = |(tenant, load): (&Tenant, &super::dispatcher::Load)| {
            let own = &mut load.waiting.iter().filter(|job| job.subscriber == place);
            Some((first(own)?, Wait::Quota(tenant.clone())))
        };
        let slot = first(&mut subscriber.for_slot.iter_of(class)).map(|id| (id, Wait::Slot));
        let early = subscriber.early.values().filter(counts).map(|job| (job.id, Wait::Turn(job.sequence)));
        let keyed = subscriber.keys.iter().filter_map(of_key);
        let over_quota = self.loads.iter().filter_map(of_load);
        keyed.chain(over_quota).chain(early).chain(slot).min_by_key(|&(id, _)| id)
    }
}
