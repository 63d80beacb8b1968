//! What a delivery must pass before it starts: its subscription's share of the queue, the order of emission, its key,
//! its tenant's quota, a slot. And what happens behind it when it has gone through.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    task::Context,
};

use super::{
    dispatcher::Dispatcher,
    job::{Job, OrderKey, Stake},
};
use crate::{
    dead_letter::Death,
    event::{Envelope, Tenant, Way},
    intake::{Held, Saturated},
    queue::CLASSES,
    request::{Hold, NoAnswer},
    stage::{HandlerError, Order, Share},
};
use millstream_middleware::ErrorKind;

impl Dispatcher {
    pub(super) fn make_job(&mut self, held: Held, event: usize, place: usize, sequence: u64) -> Job {
        self.last_job += 1;
        let open = &mut self.open[event];
        open.open += 1;
        open.with_room += 1;
        self.done.book.deliveries.created += 1;
        let subscriber = &mut self.subscribers[place];
        subscriber.open += 1;
        subscriber.entry.meter.created.up();
        Job {
            id: self.last_job,
            held,
            event,
            subscriber: place,
            sequence,
            turn: 0,
            attempt: 1,
            conflicts: 0,
            past: None,
            has_key: false,
            stake: Stake::Fresh,
            logged: None,
        }
    }

    /// Whether a delivery to this subscription has nothing to wait for.
    pub(super) fn is_free(&self, place: usize, event: &Envelope) -> bool {
        let subscriber = &self.subscribers[place];
        subscriber.is_free(event.priority.class())
            && event.tenant.as_ref().is_none_or(|tenant| self.parts.quotas.of(tenant).concurrency.is_none())
    }

    /// Makes a delivery and takes it as far as it can go now.
    pub(super) fn deliver(&mut self, held: Held, event: usize, place: usize, sequence: u64, cx: &mut Context<'_>) {
        let job = self.make_job(held, event, place, sequence);
        let Some(job) = self.within_share(job) else { return };
        if self.subscribers[place].entry.options.order == Order::Strict {
            self.pin_blocked(job, |subscriber, job| drop(subscriber.early.insert(job.sequence, job)));
            return;
        }
        if let Some(job) = self.pass_key(job) {
            self.start(job, cx);
        }
    }

    /// Lets those of strict orders go before which nothing can come any more.
    pub(super) fn release_early(&mut self, oldest: Option<u64>) {
        if !self.is_strict {
            return;
        }
        let mut released = Vec::new();
        for (_, subscriber) in &mut self.subscribers {
            while let Some(first) = subscriber.early.first_entry()
                && oldest.is_none_or(|oldest| *first.key() < oldest)
            {
                released.push(first.remove());
            }
        }
        for job in released {
            self.done.book.deliveries.blocked -= 1;
            self.subscribers[job.subscriber].entry.meter.waiting.down();
            if let Some(job) = self.pass_key(job) {
                self.ready.push_back(job);
            }
        }
    }

    /// Does what the subscription's policy says where it holds its whole share.
    fn within_share(&mut self, mut job: Job) -> Option<Job> {
        let (place, class) = (job.subscriber, job.class());
        if !self.subscribers[place].saturated[class] {
            return Some(job);
        }
        match self.subscribers[place].entry.options.share {
            // What handlers return is not refused, so its room must be: or a cycle would fill the memory.
            Share::Refuse if job.held.event.lineage.way == Way::Returned => Some(job),
            Share::Refuse => {
                job.stake = Stake::Excess;
                self.subscribers[place].excess[class] += 1;
                self.give_room_back(&job);
                Some(job)
            }
            Share::DeadLetter => {
                self.bury(job, Death::Saturated);
                None
            }
            Share::DropOldest => {
                if let Some(oldest) = self.take_oldest_waiting(place, class) {
                    self.drop_saturated(oldest);
                    Some(job)
                } else {
                    self.drop_saturated(job);
                    None
                }
            }
        }
    }

    fn drop_saturated(&mut self, job: Job) {
        self.done.book.deliveries.dropped += 1;
        let name = self.subscribers[job.subscriber].entry.name().to_string();
        metrics::counter!("millstream_dropped_total", "stage" => name, "reason" => "saturated").increment(1);
        self.release_key(&job);
        self.end(job, Some(NoAnswer::Abandoned));
    }

    /// Its key, if it is ordered by one.
    pub(super) fn pass_key(&mut self, mut job: Job) -> Option<Job> {
        let subscriber = &mut self.subscribers[job.subscriber];
        if job.has_key || !subscriber.is_ordered() {
            return self.pass_slot(job);
        }
        let Some(key) = job.order_key() else { return self.pass_slot(job) };
        if let Some(line) = subscriber.keys.get(&key) {
            let is_halted = line.is_halted;
            // Those that had no room to leave the log go first after a restart: then so does what comes behind them.
            let may_leave = line.waiting.back().is_none_or(|last| !last.is_in_log());
            if (line.head_waits || is_halted) && may_leave {
                self.log_blocked(&mut job);
            }
            return self.wait_for_key(job, key, is_halted);
        }
        subscriber.keys.entry(key).or_default();
        job.has_key = true;
        self.pass_slot(job)
    }

    fn wait_for_key(&mut self, job: Job, key: OrderKey, is_halted: bool) -> Option<Job> {
        if is_halted && self.has_left(job.subscriber) && job.logged.is_none() {
            self.bury(job, Death::Halted);
            return None;
        }
        let place = job.subscriber;
        let holds_key = |hold: &Hold| hold.key.as_ref() == Some(&key);
        if self.waits_for_itself(&job, holds_key, 1) {
            self.deadlocked(job);
            return None;
        }
        self.pin_blocked(job, |subscriber, job| subscriber.keys.entry(key).or_default().waiting.push_back(job));
        if is_halted {
            self.done.book.deliveries.blocked -= 1;
            self.done.book.deliveries.parked += 1;
            if self.has_left(place) {
                self.let_parked_go(place);
            }
        }
        None
    }

    /// Its tenant's quota and a slot, both or none.
    pub(super) fn pass_slot(&mut self, mut job: Job) -> Option<Job> {
        let class = job.class();
        if self.is_over_quota(&job) {
            let tenant = job.tenant().cloned()?;
            let places = self.loads.get(&tenant).map_or(0, |load| load.in_flight);
            if Self::held_above(&job, |hold| hold.tenant.as_ref() == Some(&tenant)) >= places {
                self.deadlocked(job);
                return None;
            }
            let waiting = self.with_turn(job);
            let line = &mut self.loads.entry(tenant).or_default().waiting;
            line.insert(line.partition_point(|other| other.turn < waiting.turn), waiting);
            return None;
        }
        let subscriber = &mut self.subscribers[job.subscriber];
        if subscriber.has_slot(class) {
            subscriber.take_slot(class);
            self.load_in_flight(job.tenant().cloned());
            job.turn = 0;
            return Some(job);
        }
        let slots = subscriber.in_flight;
        if self.waits_for_itself(&job, |_| true, slots) {
            self.deadlocked(job);
            return None;
        }
        let job = self.with_turn(job);
        let tenant = job.tenant().cloned();
        self.subscribers[job.subscriber].for_slot.insert(class, tenant.as_ref(), job.turn, job);
        None
    }

    /// Counts it as blocked, in its turn: who waits for a slot after a quota, or the other way round, stays before those that
    /// came later.
    fn with_turn(&mut self, mut job: Job) -> Job {
        if job.turn == 0 {
            self.last_turn += 1;
            job.turn = self.last_turn;
        }
        self.blocked(job)
    }

    fn is_over_quota(&self, job: &Job) -> bool {
        let limit =
            job.tenant().and_then(|tenant| self.parts.quotas.of(tenant).concurrency.map(|limit| (tenant, limit)));
        limit.is_some_and(|(tenant, limit)| self.loads.get(tenant).is_some_and(|load| load.in_flight >= limit.get()))
    }

    pub(super) fn load_in_flight(&mut self, tenant: Option<Tenant>) {
        if let Some(tenant) = tenant
            && self.parts.quotas.of(&tenant).concurrency.is_some()
        {
            self.loads.entry(tenant).or_default().in_flight += 1;
        }
    }

    /// Whether a request waits, through the handlers that wait for it, for what only they can free.
    fn waits_for_itself(&self, job: &Job, is_held: impl Fn(&Hold) -> bool, enough: usize) -> bool {
        let id = self.subscribers[job.subscriber].entry.id;
        let held = Self::held_above(job, |hold| hold.subscription == id && is_held(hold));
        job.held.request().is_some_and(|request| request.hold.is_some()) && held >= enough
    }

    /// How many deliveries that wait for this request hold what `is_held` says.
    fn held_above(job: &Job, is_held: impl Fn(&Hold) -> bool) -> usize {
        let Some(hold) = job.held.request().and_then(|request| request.hold.as_ref()) else { return 0 };
        let holding = hold.chain().filter(|hold| is_held(hold));
        holding.map(|hold| hold.delivery).collect::<HashSet<_>>().len()
    }

    fn deadlocked(&mut self, job: Job) {
        let subscription = self.subscribers[job.subscriber].entry.name().to_string();
        let message = format!("the request waits for `{subscription}`, which waits for the request");
        self.open[job.event].failure = Some(NoAnswer::Deadlock { subscription });
        let error = HandlerError::new(ErrorKind::Rejected, message).never_retry();
        self.fail(job, &error, self.now);
    }

    /// Counts it as blocked.
    fn blocked(&mut self, mut job: Job) -> Job {
        self.done.book.deliveries.blocked += 1;
        self.subscribers[job.subscriber].entry.meter.waiting.up();
        self.pin(&mut job);
        job
    }

    fn pin_blocked(&mut self, job: Job, keep: impl FnOnce(&mut super::subscriber::Subscriber, Job)) {
        let job = self.blocked(job);
        keep(&mut self.subscribers[job.subscriber], job);
    }

    /// Counts it against its subscription's share, once.
    pub(super) fn pin(&mut self, job: &mut Job) {
        if job.stake != Stake::Fresh {
            return;
        }
        job.stake = Stake::Pinned;
        let (share, class) = (self.parts.share, job.class());
        let subscriber = &mut self.subscribers[job.subscriber];
        subscriber.pinned[class] += 1;
        if subscriber.pinned[class] >= share && !subscriber.saturated[class] {
            subscriber.saturated[class] = true;
            self.publish_saturated();
        }
    }

    pub(super) fn unpin(&mut self, job: &Job) {
        let (share, class) = (self.parts.share, job.class());
        let subscriber = &mut self.subscribers[job.subscriber];
        subscriber.pinned[class] -= usize::from(job.stake == Stake::Pinned);
        subscriber.excess[class] -= usize::from(job.stake == Stake::Excess);
        // What is beyond the share counts as well, or each event that ends would let a whole queue in behind it.
        if subscriber.saturated[class] && subscriber.pinned[class] + subscriber.excess[class] < share {
            subscriber.saturated[class] = false;
            self.publish_saturated();
        }
    }

    /// Lets the intake know who refuses more.
    pub(super) fn publish_saturated(&mut self) {
        let mut saturated = Vec::new();
        for (_, subscriber) in &self.subscribers {
            let refuses = subscriber.entry.options.share == Share::Refuse && subscriber.is_subscribed;
            for class in (0..CLASSES).filter(|&class| refuses && subscriber.saturated[class]) {
                saturated.push(Saturated {
                    subscription: subscriber.entry.name().to_string(),
                    pattern: subscriber.entry.pattern.clone(),
                    tenant: subscriber.entry.tenant.clone(),
                    class,
                    held: subscriber.pinned[class],
                });
            }
        }
        self.done.saturated = Some(saturated);
    }

    /// After an attempt: its slot goes to whoever waits for one, its tenant's place likewise.
    pub(super) fn leave_flight(&mut self, job: &Job) {
        self.done.book.deliveries.in_flight -= 1;
        self.subscribers[job.subscriber].free_slot(job.class());
        self.leave_quota(job);
        while let Some(next) = self.subscribers[job.subscriber].next_for_slot() {
            self.unblock(next);
        }
    }

    /// The tenant's place goes to whoever can use it: those that find no slot wait for one, and leave the place.
    fn leave_quota(&mut self, job: &Job) {
        let Some(load) = job.tenant().and_then(|tenant| self.loads.get_mut(tenant)) else { return };
        load.in_flight = load.in_flight.saturating_sub(1);
        while !self.is_over_quota(job)
            && let Some(load) = job.tenant().and_then(|tenant| self.loads.get_mut(tenant))
            && let Some(next) = load.waiting.pop_front()
        {
            self.unblock(next);
        }
        self.forget_idle_load(job.tenant().cloned());
    }

    pub(super) fn forget_idle_load(&mut self, tenant: Option<Tenant>) {
        if let Some(tenant) = tenant
            && self.loads.get(&tenant).is_some_and(|l| l.in_flight == 0 && l.retries == 0 && l.waiting.is_empty())
        {
            self.loads.remove(&tenant);
        }
    }

    fn unblock(&mut self, job: Job) {
        self.done.book.deliveries.blocked -= 1;
        self.subscribers[job.subscriber].entry.meter.waiting.down();
        if let Some(job) = self.pass_slot(job) {
            self.ready.push_back(job);
        }
    }

    /// Its key goes to whoever waits for it.
    pub(super) fn release_key(&mut self, job: &Job) {
        let Some(key) = job.order_key().filter(|_| job.has_key) else { return };
        self.next_of_key(job.subscriber, &key);
    }

    pub(super) fn next_of_key(&mut self, place: usize, key: &OrderKey) {
        let subscriber = &mut self.subscribers[place];
        let Some(line) = subscriber.keys.get_mut(key) else { return };
        line.head_waits = false;
        let next = line.waiting.pop_front();
        match next {
            None => drop(subscriber.keys.remove(key)),
            Some(mut next) => {
                next.has_key = true;
                self.unblock(next);
            }
        }
    }

    /// Stops a key whose head has died.
    pub(super) fn halt_key(&mut self, job: &Job) {
        if let Some(key) = job.order_key()
            && let Some(line) = self.subscribers[job.subscriber].keys.get_mut(&key)
        {
            line.is_halted = true;
            let waiting = line.waiting.len() as u64;
            self.done.book.deliveries.blocked -= waiting;
            self.done.book.deliveries.parked += waiting;
        }
    }

    /// A subscription was taken back: nobody can mend the heads of its halted keys for it any more.
    pub(super) fn end_halts(&mut self, place: usize) {
        if self.durable.is_none() {
            let name = Arc::clone(self.subscribers[place].entry.name());
            self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).halt_nobody(&name);
        }
        self.let_parked_go(place);
    }

    /// Whether it was taken back, so that its halted keys go on no more.
    pub(super) fn has_left(&self, place: usize) -> bool {
        !self.subscribers[place].is_subscribed
    }

    /// What is parked is for whoever has the subscription's name next: it goes to the dead letters. In a durable runtime it lies
    /// in the store already, behind the letter that halted its key.
    pub(super) fn let_parked_go(&mut self, place: usize) {
        let lines = self.subscribers[place].keys.values_mut().filter(|line| line.is_halted);
        let mut parked: Vec<_> = lines.flat_map(|line| std::mem::take(&mut line.waiting)).collect();
        parked.sort_unstable_by_key(|job| job.id);
        for job in parked {
            self.done.book.deliveries.parked -= 1;
            self.subscribers[place].entry.meter.waiting.down();
            if job.logged.is_some() {
                self.done.book.deliveries.abandoned += 1;
                self.end(job, Some(NoAnswer::Abandoned));
            } else {
                self.bury(job, Death::Halted);
            }
        }
    }

    /// Whether its key is halted.
    pub(super) fn is_halted(&self, place: usize, job: &Job) -> bool {
        let line = job.order_key().and_then(|key| self.subscribers[place].keys.get(&key));
        line.is_some_and(|line| line.is_halted)
    }

    /// A replayed head of a halted key has its place again, and the rest waits for it alone. Other letters of the key, which
    /// never had it, wait like the rest.
    pub(super) fn resume_own_key(&mut self, job: &Job) {
        if job.has_key
            && let Some(key) = job.order_key()
        {
            self.resume_key(job.subscriber, &key);
        }
    }

    /// Lets a halted key go on; whoever waits for it is blocked again.
    pub(super) fn resume_key(&mut self, place: usize, key: &OrderKey) -> bool {
        let Some(line) = self.subscribers[place].keys.get_mut(key).filter(|line| line.is_halted) else { return false };
        line.is_halted = false;
        let waiting = line.waiting.len() as u64;
        self.done.book.deliveries.parked -= waiting;
        self.done.book.deliveries.blocked += waiting;
        true
    }
}
