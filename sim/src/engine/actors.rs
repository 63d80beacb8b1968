//! Those who work with a runtime from outside: they emit orders, append to carts and write notes, and write down what they
//! were told.

use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use millstream::{
    Advice, AppendError, Appended as Receipted, Draft, EventId, ExpectedVersion, PersistError, Priority, Receipt,
    Timestamp,
};
use tokio::time::sleep;

use super::{
    chronicle::{Appended, Asked, Emitted, Fate, Noted, START},
    events::{self, Change, Order, Reading, rooms},
    found::{aggregate, storage},
    life::Life,
    plan::Part,
};
use crate::images::mix;

/// How often somebody tries again before he gives up, in a run with faults.
const TRIES: usize = 40;
/// How long he waits in between.
const PAUSE: Duration = Duration::from_millis(300);

impl Life<'_> {
    /// Emits orders, alone and together, with an idempotency key or without, and some of them again.
    pub(super) async fn emit_orders(&self, mut rng: Rng) {
        for _ in 0..self.plan.rounds {
            match rng.u8(..10) {
                0..6 => {
                    let number = self.new_order(&mut rng);
                    self.emit(number, None).await;
                }
                6..8 => self.emit_together(&mut rng).await,
                _ => self.emit_again(&mut rng).await,
            }
            if rng.bool() {
                sleep(Duration::from_millis(rng.u64(..3_000))).await;
            }
        }
    }

    fn new_order(&self, rng: &mut Rng) -> u64 {
        let handed = self.disk.position();
        let mut chronicle = self.chronicle();
        let number = chronicle.orders.len() as u64;
        let delay_ms = if rng.u8(..6) == 0 { rng.u64(1..60_000) } else { 0 };
        let most = [1, 40, 40, 300, 3_000, 12_000][rng.usize(..6)];
        let len = rng.usize(..most);
        let pad = if rng.bool() { (0..len).map(|_| rng.alphanumeric()).collect() } else { "-".repeat(len) };
        let (tenant, user) = (self.plan.tenant_of(number), rng.u32(..self.plan.users));
        let order = Order { number, tenant, user, cents: rng.u64(1..10_000), delay_ms, pad };
        chronicle.orders.push(Asked::at(Emitted { order, is_once: rng.u8(..3) == 0, id: None }, handed));
        number
    }

    fn draft(&self, number: u64) -> Draft {
        let chronicle = self.chronicle();
        let Emitted { order, is_once, .. } = &chronicle.orders[index(number)].what;
        // One class for a user: between classes there is no order.
        let class = Priority::ALL[order.user as usize % Priority::ALL.len()];
        let mut draft = owned(Draft::new(order.clone()).priority(class), order.tenant);
        if order.delay_ms > 0 {
            draft = draft.delay(Duration::from_millis(order.delay_ms));
        }
        // Each tenant has the same keys.
        let key = format!("order {}", number / u64::from(self.plan.tenants()));
        if *is_once { draft.idempotency_key(key) } else { draft }
    }

    /// Emits an order until it is known what became of it, or nobody can know.
    async fn emit(&self, number: u64, mut begun: Option<Receipt>) {
        let mut may_be_there = false;
        for _ in 0..TRIES {
            let receipt = if let Some(receipt) = begun.take() {
                Ok(receipt)
            } else {
                self.chronicle().orders[index(number)].fate = Fate::Open;
                self.runtime.emit(self.draft(number))
            };
            match receipt {
                Ok(receipt) => match receipt.await {
                    Ok(id) => return self.acked(number, id),
                    Err(error) => {
                        self.report("an emit failed", &error);
                        let mut chronicle = self.chronicle();
                        let asked = &mut chronicle.orders[index(number)];
                        let is_refused = matches!(error, PersistError::Refused { .. });
                        may_be_there |= !is_refused;
                        if !may_be_there {
                            asked.fate = Fate::Refused(self.disk.position());
                        } else if !asked.what.is_once {
                            return;
                        }
                    }
                },
                Err(refused) => {
                    self.report("an emit was refused", &refused);
                    if refused.reason.advice() == Advice::Never {
                        return;
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn acked(&self, number: u64, id: EventId) {
        let at = self.disk.position();
        let mut chronicle = self.chronicle();
        let asked = &mut chronicle.orders[index(number)];
        asked.fate = Fate::Acked(at);
        let before = asked.what.id.replace(id);
        if before.is_some_and(|before| before != id) {
            chronicle.wrong.push(format!("order {number} was acknowledged as {before:?} and as {id}"));
        }
    }

    async fn emit_together(&self, rng: &mut Rng) {
        let most = if self.plan.users > 16 { 40 } else { 5 };
        let numbers: Vec<_> = (0..rng.usize(2..most)).map(|_| self.new_order(rng)).collect();
        let drafts: Vec<_> = numbers.iter().map(|number| self.draft(*number)).collect();
        let receipts = match self.runtime.emit_all(drafts) {
            Ok(receipts) => receipts,
            Err(refused) => {
                self.report("an emit was refused", &refused.reason);
                refused.accepted
            }
        };
        let receipts = receipts.into_iter().map(Some).chain(std::iter::repeat(None));
        join_all(numbers.into_iter().zip(receipts).map(|(number, receipt)| self.emit(number, receipt))).await;
    }

    /// Emits an order with an idempotency key once more.
    async fn emit_again(&self, rng: &mut Rng) {
        let chosen = {
            let chronicle = self.chronicle();
            let known = chronicle.orders.iter().filter(|asked| asked.what.is_once && asked.what.id.is_some());
            rng.choice(known.map(|asked| asked.what.order.number).collect::<Vec<_>>())
        };
        let Some(number) = chosen else { return };
        if let Ok(receipt) = self.runtime.emit(self.draft(number))
            && let Ok(id) = receipt.await
            && self.chronicle().orders[index(number)].what.id != Some(id)
        {
            self.chronicle().wrong.push(format!("order {number} is there twice: its key did not keep {id} out"));
        }
    }

    /// Appends changes to carts, behind a version or whatever it is, with an idempotency key or without.
    pub(super) async fn append_changes(&self, mut rng: Rng) {
        for _ in 0..self.plan.rounds.div_ceil(2) {
            let (tenant, cart) = (rng.u8(..self.plan.tenants()), rng.u32(..3));
            let (place, nth) = self.new_append(tenant, cart, &mut rng);
            let expected = if rng.bool() { None } else { Some(rng.bool()) };
            // Carts of other tenants have the same keys.
            let key = rng.bool().then(|| format!("append {nth}"));
            self.append(place, expected, key.as_deref()).await;
            sleep(Duration::from_millis(rng.u64(..4_000))).await;
        }
    }

    /// The place of a new append, and how many there were before it of its cart.
    fn new_append(&self, tenant: u8, cart: u32, rng: &mut Rng) -> (usize, usize) {
        let handed = self.disk.position();
        let mut chronicle = self.chronicle();
        let begin = chronicle.changes();
        let numbers = begin..begin + rng.u64(1..4);
        let others = chronicle.appends.iter().filter(|asked| (asked.what.tenant, asked.what.cart) == (tenant, cart));
        let nth = others.count();
        chronicle.appends.push(Asked::at(Appended { tenant, cart, numbers, version: 0 }, handed));
        (chronicle.appends.len() - 1, nth)
    }

    async fn append(&self, place: usize, expects_version: Option<bool>, key: Option<&str>) {
        let mut may_be_there = false;
        for _ in 0..TRIES {
            self.chronicle().appends[place].fate = Fate::Open;
            let appended = self.try_append(place, expects_version, key).await;
            let at = self.disk.position();
            match appended {
                Ok(appended) => {
                    self.appended(place, at, appended.version);
                    if let Some(key) = key {
                        self.append_again(place, key, &appended).await;
                    }
                    return;
                }
                Err(AppendError::Conflict { .. }) => {
                    self.chronicle().appends[place].fate = Fate::Refused(at);
                    return;
                }
                Err(error) => {
                    self.report("an append failed", &error);
                    may_be_there |= matches!(error, AppendError::Unknown { .. });
                    if !may_be_there {
                        self.chronicle().appends[place].fate = Fate::Refused(at);
                    } else if key.is_none() {
                        return;
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn appended(&self, place: usize, at: usize, version: u64) {
        let mut chronicle = self.chronicle();
        let asked = &mut chronicle.appends[place];
        (asked.fate, asked.what.version) = (Fate::Acked(at), version);
    }

    async fn try_append(
        &self,
        place: usize,
        expects_version: Option<bool>,
        key: Option<&str>,
    ) -> Result<Receipted, AppendError> {
        let Appended { tenant, cart, numbers, .. } = self.chronicle().appends[place].what.clone();
        let aggregate = aggregate(&self.runtime, tenant, "cart", cart);
        let expected = match expects_version {
            None => ExpectedVersion::Any,
            // Sometimes not the newest: then it is refused.
            Some(_) => match aggregate.version().await? {
                None => ExpectedVersion::New,
                Some(version) => ExpectedVersion::At(version),
            },
        };
        let append = aggregate.append(expected, numbers.map(|number| self.change(number, tenant, cart)));
        match key {
            Some(key) => append.idempotency_key(key).await,
            None => append.await,
        }
    }

    fn change(&self, number: u64, tenant: u8, cart: u32) -> Draft {
        let classes = [Priority::Normal, Priority::Low, Priority::Critical, Priority::High];
        let class = if self.plan.has(Part::Strict) { mix(&[number, 81]) % 4 } else { 0 };
        let class = classes[index(class)];
        Draft::new(Change { number, tenant, cart }).priority(class)
    }

    /// The same append once more writes nothing and says the same.
    async fn append_again(&self, place: usize, key: &str, first: &Receipted) {
        if let Ok(again) = self.try_append(place, None, Some(key)).await
            && (again.version, &again.ids, again.is_duplicate) != (first.version, &first.ids, true)
        {
            self.chronicle().wrong.push(format!("append {place} was acknowledged as {first:?} and as {again:?}"));
        }
    }

    /// Emits what meters showed some time ago, now and then so long ago that it comes late.
    pub(super) async fn read_meters(&self, mut rng: Rng) {
        for _ in 0..self.plan.rounds {
            let numbers: Vec<_> = (0..rng.usize(1..5)).map(|_| self.new_reading(&mut rng)).collect();
            join_all(numbers.into_iter().map(|number| self.emit_reading(number))).await;
            sleep(Duration::from_millis(rng.u64(..4_000))).await;
        }
    }

    fn new_reading(&self, rng: &mut Rng) -> u64 {
        let handed = self.disk.position();
        let ago = Duration::from_millis([0, 1_000, 3_000, 12_000][rng.usize(..4)] + rng.u64(..1_000));
        let mut chronicle = self.chronicle();
        let number = chronicle.readings.len() as u64;
        // Meters have a time of their own, which stands still while nobody reads them, unless the clock's time counts as well.
        let own = START + Duration::from_millis(700 * number);
        let now = if self.plan.is_idle_timed { self.runtime.clock().now() } else { own };
        let at_ms = (now - ago).as_millis();
        let (tenant, meter) = (rng.u8(..self.plan.tenants()), rng.u32(..3));
        chronicle.readings.push(Asked::at(Reading { number, tenant, meter, at_ms }, handed));
        number
    }

    async fn emit_reading(&self, number: u64) {
        let reading = self.chronicle().readings[index(number)].what.clone();
        let (tenant, time) = (reading.tenant, Timestamp::from_millis(reading.at_ms));
        let receipt = match self.runtime.emit(owned(Draft::new(reading).time(time), tenant)) {
            Ok(receipt) => receipt,
            Err(refused) => {
                self.report("a reading was refused", &refused);
                self.chronicle().readings[index(number)].fate = Fate::Refused(self.disk.position());
                return;
            }
        };
        let persisted = receipt.await;
        let at = self.disk.position();
        match persisted {
            Ok(_) => self.chronicle().readings[index(number)].fate = Fate::Acked(at),
            Err(error) => {
                self.report("a reading was not written", &error);
                if matches!(error, PersistError::Refused { .. }) {
                    self.chronicle().readings[index(number)].fate = Fate::Refused(at);
                }
            }
        }
    }

    /// Writes rows by itself.
    pub(super) async fn write_notes(&self, mut rng: Rng) {
        for _ in 0..self.plan.rounds.div_ceil(2) {
            let (tenant, key, handed) = (rng.u8(..self.plan.tenants()), rng.u8(..3), self.disk.position());
            let notes = storage(&self.runtime, tenant, rooms::NOTES);
            let (place, value) = {
                let mut chronicle = self.chronicle();
                let value = chronicle.notes.len() as u64;
                chronicle.notes.push(Asked::at(Noted { tenant, key, value }, handed));
                (chronicle.notes.len() - 1, value)
            };
            match notes.put_json(key.to_string(), &value).await {
                Ok(()) => self.chronicle().notes[place].fate = Fate::Acked(self.disk.position()),
                Err(error) => self.report("a note was not written", &error),
            }
            sleep(Duration::from_millis(rng.u64(..4_000))).await;
        }
    }
}

/// A draft of a tenant's.
fn owned(draft: Draft, number: u8) -> Draft {
    if let Some(tenant) = events::tenant(number) { draft.tenant(tenant) } else { draft }
}

#[expect(clippy::cast_possible_truncation, reason = "a number is a place in a vector")]
fn index(number: u64) -> usize {
    number as usize
}
