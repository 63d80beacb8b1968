//! Holds what is found in an engine at rest to its chronicle.
//!
//! What was acknowledged is there once; what was refused or never asked for is not. Each order that is there is billed once
//! or is a dead letter, and what came of the bill, its event, its entry in a ledger, its rows, is there once. Orders of a
//! user were billed in their order. Stages have made of the log what they make of it, once. Carts and ledgers have all their
//! versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use serde::de::DeserializeOwned;

use super::{
    chronicle::{Asked, Chronicle, Emitted, Fate, Noted},
    events::{Bill, Billed, Calm, Change, Entry, Order, Total, has_entry, is_doomed, rooms},
    found::Found,
    plan::Part,
};

/// What is wrong with what was found in an engine whose disk had recorded so many steps when it crashed. Nothing, if all is
/// well.
/// What an earlier recovery was told that is lost, if there was one, nobody knows.
pub fn check(chronicle: &Chronicle, position: usize, found: &Found, has_crashed_again: bool) -> Vec<String> {
    let mut check = Check {
        chronicle,
        position,
        found,
        has_crashed_again,
        there: BTreeSet::new(),
        billed: BTreeSet::new(),
        wrong: Vec::new(),
    };
    let looked = check.look();
    check.wrong.extend(looked.err());
    check.wrong
}

/// A look at an engine.
pub(super) struct Check<'a> {
    pub(super) chronicle: &'a Chronicle,
    pub(super) position: usize,
    pub(super) found: &'a Found,
    pub(super) has_crashed_again: bool,
    /// Orders that are there, by number.
    pub(super) there: BTreeSet<u64>,
    /// Those that were billed.
    billed: BTreeSet<u64>,
    wrong: Vec<String>,
}

impl<'a> Check<'a> {
    pub(super) fn say(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    pub(super) fn keeps_all(&self) -> bool {
        self.chronicle.plan.keeps_all()
    }

    fn has(&self, part: Part) -> bool {
        self.chronicle.plan.has(part)
    }

    fn look(&mut self) -> Result<(), String> {
        self.bills()?;
        self.orders();
        if self.chronicle.plan.may_lose() {
            self.slow()?;
        }
        let parked = self.found.parked.iter().map(|stage| format!("a stage does not go on: {stage}"));
        self.wrong.extend(parked);
        self.what_comes_of_bills()?;
        self.order_of_users()?;
        if self.has(Part::Windows) {
            self.windows()?;
        }
        if self.has(Part::Halts) {
            self.settled()?;
        }
        if self.has(Part::Totals) {
            self.totals()?;
        }
        if self.has(Part::Calm) {
            self.calm()?;
        }
        self.carts()?;
        self.ledgers()?;
        self.notes()
    }

    pub(super) fn order(&self, number: u64) -> Option<&'a Asked<Emitted>> {
        self.chronicle.orders.get(usize::try_from(number).ok()?)
    }

    /// Each order is billed once, or is a dead letter, and not both.
    fn bills(&mut self) -> Result<(), String> {
        let bills = self.orders_rows::<Bill>(rooms::BILLS)?;
        for (order, bill) in &bills {
            if bill.times != 1 {
                self.say(format!("order {order} is billed {} times", bill.times));
            }
        }
        self.billed = bills.into_keys().collect();
        self.there.clone_from(&self.billed);
        for letter in self.found.letters.iter().filter(|letter| letter.subscription.as_deref() == Some("bill")) {
            match letter.event.decode::<Order>() {
                Err(error) => self.say(format!("a dead letter holds no order: {error}")),
                Ok(order) if !self.there.insert(order.number) => {
                    self.say(format!("order {} is a dead letter, and another or billed as well", order.number));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Orders that were acknowledged are there, once, as they were; and no others.
    fn orders(&mut self) {
        if self.keeps_all() {
            let mut log = BTreeMap::new();
            let found = self.found;
            for (event, order) in found.events::<Order>() {
                if log.insert(order.number, event.id()).is_some() {
                    self.say(format!("order {} is there twice", order.number));
                }
                let asked = self.order(order.number);
                if asked.is_none_or(|asked| asked.what.order != order) {
                    self.say(format!("order {} is not what was emitted", order.number));
                }
                let acked = asked.filter(|asked| asked.is_acked_by(self.position)).and_then(|asked| asked.what.id);
                if acked.is_some_and(|id| id != event.id()) {
                    self.say(format!("order {} is {}, and was acknowledged as {acked:?}", order.number, event.id()));
                }
            }
            for order in log.keys().filter(|order| !self.there.contains(order)) {
                self.wrong.push(format!("order {order} is neither billed nor a dead letter"));
            }
            for order in self.there.difference(&log.keys().copied().collect()) {
                self.wrong.push(format!("order {order} is billed or a dead letter, and was never there"));
            }
        }
        let asked = &self.chronicle.orders;
        let lost = self.hold_numbered(asked, &self.there.clone(), "order");
        self.excuse("bill", lost);
        if self.there.iter().any(|&number| self.order(number).is_none()) {
            self.say("an order is there that nobody emitted");
        }
    }

    /// Whether something may be there, or must.
    pub(super) fn hold<T>(&mut self, asked: &Asked<T>, is_there: bool, what: &dyn Display) {
        if asked.is_acked_by(self.position) && !is_there {
            self.say(format!("{what} was acknowledged and is lost"));
        }
        if is_there && !asked.may_be_there(self.position) {
            self.say(format!("{what} is there, asked for at {}: {:?}", asked.handed, asked.fate));
        }
    }

    /// Numbers of what is there, and must be or may not: what was lost.
    pub(super) fn hold_numbered<T>(&mut self, asked: &[Asked<T>], there: &BTreeSet<u64>, what: &str) -> Vec<String> {
        let mut lost = Vec::new();
        for (asked, number) in asked.iter().zip(0..) {
            if there.contains(&number) {
                self.hold(asked, true, &format!("{what} {number}"));
            } else if asked.is_acked_by(self.position) {
                lost.push(format!("{what} {number} was acknowledged and is lost"));
            }
        }
        lost
    }

    /// Events and rows by order: each of those that must be there once.
    fn once(&mut self, what: &str, subscription: &str, found: impl IntoIterator<Item = u64>, expected: &BTreeSet<u64>) {
        let mut seen = BTreeSet::new();
        for order in found {
            if !seen.insert(order) {
                self.say(format!("{what} of {order} is there twice"));
            }
        }
        let lost = expected.difference(&seen).map(|order| format!("{what} of {order} is lost"));
        self.excuse(subscription, lost.collect());
        for order in seen.difference(expected) {
            self.wrong.push(format!("{what} of {order} is there, and nothing led to it"));
        }
    }

    /// Rows by the numbers of orders.
    pub(super) fn orders_rows<T: DeserializeOwned>(&mut self, room: &str) -> Result<BTreeMap<u64, T>, String> {
        let plan = self.chronicle.plan;
        self.rows_of(room, |number| Some(plan.tenant_of(number)))
    }

    /// Rows by numbers, of which each is of one tenant.
    pub(super) fn rows_of<T: DeserializeOwned>(
        &mut self,
        room: &str,
        tenant_of: impl Fn(u64) -> Option<u8>,
    ) -> Result<BTreeMap<u64, T>, String> {
        let rows: BTreeMap<(u8, u64), T> = self.found.rows(room)?;
        for (tenant, number) in rows.keys().filter(|(tenant, number)| tenant_of(*number) != Some(*tenant)) {
            self.say(format!("{number} of `{room}` is of another tenant, and is there of {tenant}"));
        }
        Ok(rows.into_iter().map(|((_, number), row)| (number, row)).collect())
    }

    /// Each has been handled once, or is a dead letter: then it may not have been.
    fn handled(&mut self, room: &str, subscription: &str, rows: BTreeMap<u64, u64>, expected: &BTreeSet<u64>) {
        for (number, times) in rows.iter().filter(|(_, times)| **times != 1) {
            self.say(format!("{number} of `{room}` was handled {times} times"));
        }
        let mut handled: Vec<_> = rows.into_keys().collect();
        let letters = self.found.letters.iter().filter(|letter| letter.subscription.as_deref() == Some(subscription));
        let numbers = |letter: &millstream::DeadLetter| {
            let json = letter.event.data().to_json().ok()?;
            json.get("order").or_else(|| json.get("number"))?.as_u64()
        };
        handled.extend(letters.filter_map(numbers));
        self.once(room, subscription, handled, expected);
    }

    fn what_comes_of_bills(&mut self) -> Result<(), String> {
        let billed = self.billed.clone();
        if self.keeps_all() {
            let found = self.found;
            self.once("the event of the bill", "", found.events::<Billed>().map(|(_, billed)| billed.order), &billed);
        }
        let rows = self.orders_rows(rooms::BILLED)?;
        self.handled(rooms::BILLED, "archive", rows, &billed);
        Ok(())
    }

    /// Orders of a user are billed in the order of the log, but for those that were dead letters.
    fn order_of_users(&mut self) -> Result<(), String> {
        if !self.keeps_all() || self.chronicle.reported > 0 {
            return Ok(());
        }
        let bills = self.orders_rows::<Bill>(rooms::BILLS)?;
        let mut last = BTreeMap::<(u8, u32), (u64, u64)>::new();
        let found = self.found;
        for (_, order) in found.events::<Order>().filter(|(_, order)| !is_doomed(order.number)) {
            let Some(bill) = bills.get(&order.number) else { continue };
            if let Some((before, nth)) =
                last.insert((order.tenant, order.user), (order.number, bill.nth)).filter(|(_, n)| *n >= bill.nth)
            {
                self.say(format!(
                    "order {} was billed as number {}, {before} before it as {nth}",
                    order.number, bill.nth
                ));
            }
        }
        Ok(())
    }

    /// The stage `totals` has counted each order once, in the order of the log, and said so once.
    fn totals(&mut self) -> Result<(), String> {
        let mut sums = BTreeMap::<(u8, u64), Total>::new();
        let mut add = |order: &Order| {
            let Order { tenant, user, .. } = *order;
            let total = sums.entry((tenant, user.into())).or_insert(Total { tenant, user, ..Total::default() });
            (total.count, total.cents) = (total.count + 1, total.cents + order.cents);
            *total
        };
        let found = self.found;
        if self.keeps_all() {
            let mut expected: BTreeMap<(u8, u32), Vec<Total>> = BTreeMap::new();
            for (_, order) in found.events::<Order>() {
                expected.entry((order.tenant, order.user)).or_default().push(add(&order));
            }
            let mut said: BTreeMap<(u8, u32), Vec<Total>> = BTreeMap::new();
            for (_, total) in found.events::<Total>() {
                said.entry((total.tenant, total.user)).or_default().push(total);
            }
            if said != expected {
                self.say(format!("totals are {said:?}, not what came in: {expected:?}"));
            }
        } else {
            let there = self.there.iter().filter_map(|&number| self.order(number));
            there.for_each(|asked| {
                add(&asked.what.order);
            });
        }
        let kept: BTreeMap<(u8, u64), Total> = found.rows(rooms::TOTALS)?;
        if kept != sums {
            self.say(format!("the last totals are {kept:?}, not what came in: {sums:?}"));
        }
        Ok(())
    }

    /// The stage `calm` has said of each user's last order that it was the last, and of no order twice.
    fn calm(&mut self) -> Result<(), String> {
        if !self.keeps_all() {
            return Ok(());
        }
        let (mut places, mut last) = (BTreeMap::new(), BTreeMap::new());
        let found = self.found;
        for (place, (_, order)) in found.events::<Order>().enumerate() {
            places.insert((order.user, order.number), place);
            last.insert((order.tenant, u64::from(order.user)), order.number);
        }
        let mut said = BTreeMap::new();
        for (_, calm) in found.events::<Calm>() {
            let Some(place) = places.get(&(calm.user, calm.order)) else {
                self.say(format!("order {} is calm and was never there", calm.order));
                continue;
            };
            let user = (self.chronicle.plan.tenant_of(calm.order), u64::from(calm.user));
            if said.insert(user, (place, calm.order)).is_some_and(|(before, _)| before >= place) {
                self.say(format!("order {} is calm again or late, which is not what came in", calm.order));
            }
        }
        for (user, order) in &last {
            if said.get(user).is_none_or(|(_, calm)| calm != order) {
                self.say(format!("order {order} was never calm, the last of user {user:?}"));
            }
        }
        let kept: BTreeMap<(u8, u64), u64> = found.rows(rooms::CALM)?;
        if self.found.letters.is_empty() && kept != last {
            self.say(format!("the last calm orders are {kept:?}, not what came in: {last:?}"));
        }
        Ok(())
    }

    /// Carts have all versions from 1 on, and what was appended whole or not at all.
    fn carts(&mut self) -> Result<(), String> {
        let mut versions = BTreeMap::new();
        let found = self.found;
        for ((tenant, cart), events) in &found.carts {
            for (event, version) in events.iter().zip(1..) {
                let change: Change = event.decode().map_err(|error| error.to_string())?;
                let is_well = event.aggregate().is_some_and(|own| own.version == version)
                    && (change.tenant, change.cart) == (*tenant, *cart);
                if !is_well || versions.insert(change.number, version).is_some() {
                    self.say(format!(
                        "version {version} of cart {cart} of {tenant} is {change:?} as {:?}",
                        event.aggregate()
                    ));
                }
            }
        }
        for (asked, place) in self.chronicle.appends.iter().zip(0..) {
            let there: Vec<u64> =
                asked.what.numbers.clone().filter_map(|number| versions.get(&number).copied()).collect();
            if !there.is_empty()
                && (there.len() as u64 != asked.what.numbers.clone().count() as u64 || !there.is_sorted())
            {
                self.say(format!("append {place} is there by half, as {there:?}"));
            }
            self.hold(asked, !there.is_empty(), &format!("append {place}"));
            if matches!(asked.fate, Fate::Acked(at) if at <= self.position) && there.last() != Some(&asked.what.version)
            {
                self.say(format!("append {place} was acknowledged as {}, and is {there:?}", asked.what.version));
            }
        }
        let changes: BTreeSet<u64> = versions.into_keys().collect();
        if changes.last().is_some_and(|last| *last >= self.chronicle.changes()) {
            self.say("a change is there that nobody appended");
        }
        if self.keeps_all() {
            self.once("the change", "", found.events::<Change>().map(|(_, change)| change.number), &changes);
        }
        let chronicle = self.chronicle;
        if self.has(Part::Carts) {
            let rows = self.rows_of(rooms::CARTS, |number| chronicle.tenant_of_change(number))?;
            self.handled(rooms::CARTS, "carts", rows, &changes);
        }
        if self.has(Part::Strict) {
            self.journal()?;
        }
        Ok(())
    }

    /// Ledgers have an entry for each bill that makes one.
    fn ledgers(&mut self) -> Result<(), String> {
        let mut entries = Vec::new();
        let found = self.found;
        for ((tenant, user), events) in &found.ledgers {
            for (event, version) in events.iter().zip(1..) {
                let entry: Entry = event.decode().map_err(|error| error.to_string())?;
                let is_own = entry.user == *user && self.chronicle.plan.tenant_of(entry.order) == *tenant;
                if event.aggregate().is_none_or(|own| own.version != version) || !is_own {
                    self.say(format!(
                        "version {version} of ledger {user} of {tenant} is {entry:?} as {:?}",
                        event.aggregate()
                    ));
                }
                entries.push(entry.order);
            }
        }
        let billed = self.billed.iter().copied().filter(|_| self.has(Part::Ledgers));
        let expected: BTreeSet<u64> = billed.filter(|order| has_entry(*order)).collect();
        self.once("the ledger's entry", "", entries, &expected);
        if self.keeps_all() {
            self.once("the entry's event", "", found.events::<Entry>().map(|(_, entry)| entry.order), &expected);
        }
        let rows = self.orders_rows(rooms::ENTRIES)?;
        self.handled(rooms::ENTRIES, "entries", rows, &expected);
        Ok(())
    }

    /// Each note has the value that was written last, or one that may have been.
    fn notes(&mut self) -> Result<(), String> {
        let rows: BTreeMap<(u8, u64), u64> = self.found.rows(rooms::NOTES)?;
        for key in (0..self.chronicle.plan.tenants()).flat_map(|tenant| (0..3).map(move |key| (tenant, key))) {
            let own = |note: &Noted| (note.tenant, u64::from(note.key)) == key;
            let notes = || self.chronicle.notes.iter().filter(|asked| own(&asked.what));
            let acked = notes().filter(|asked| asked.is_acked_by(self.position)).map(|asked| asked.what.value).max();
            let is_well = match rows.get(&key) {
                None => acked.is_none(),
                Some(value) => {
                    let written = notes().find(|asked| asked.what.value == *value);
                    acked.is_none_or(|acked| acked <= *value)
                        && written.is_some_and(|asked| asked.may_be_there(self.position))
                }
            };
            if !is_well {
                self.say(format!("note {key:?} is {:?}, and {acked:?} was acknowledged and is lost", rows.get(&key)));
            }
        }
        Ok(())
    }
}
