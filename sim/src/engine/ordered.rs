//! Holds what is handled in an order that nothing may break: behind a dead letter nothing of its key, and versions of a cart
//! one after the other, whatever their classes.

use std::collections::BTreeMap;

use super::{
    check::Check,
    events::{Bill, Order, rooms},
};

/// A user of a tenant.
type User = (u8, u32);

fn user(order: &Order) -> User {
    (order.tenant, order.user)
}

impl Check<'_> {
    /// Orders of a user are settled in the order of the log, each once; where one is a dead letter, all before it and none
    /// behind it.
    pub(super) fn settled(&mut self) -> Result<(), String> {
        let rows = self.orders_rows::<Bill>(rooms::SETTLED)?;
        for (order, settled) in rows.iter().filter(|(_, settled)| settled.times != 1) {
            self.say(format!("order {order} was settled {} times", settled.times));
        }
        let mut dead = self.unsettled()?;
        for (user, orders) in self.orders_of_users() {
            let mut settled: Vec<_> = orders.iter().filter_map(|order| Some((rows.get(order)?.nth, *order))).collect();
            if self.keeps_all() {
                settled.sort_unstable();
            }
            let settled: Vec<_> = settled.into_iter().map(|(_, order)| order).collect();
            let dead = dead.remove(&user);
            let is_well = match dead {
                None => settled == orders,
                Some(dead) if !self.keeps_all() => !settled.contains(&dead),
                Some(dead) => orders.strip_prefix(&settled[..]).is_some_and(|rest| rest.first() == Some(&dead)),
            };
            if !is_well {
                self.say(format!("of {user:?} were settled {settled:?} of {orders:?}, and {dead:?} is a dead letter"));
            }
        }
        for (user, order) in dead {
            self.say(format!("order {order} of {user:?} is a dead letter of `settle`, and was never there"));
        }
        Ok(())
    }

    /// The order of each user that is a dead letter, for which others wait.
    fn unsettled(&mut self) -> Result<BTreeMap<User, u64>, String> {
        let mut dead = BTreeMap::new();
        for letter in self.found.letters.iter().filter(|letter| letter.subscription.as_deref() == Some("settle")) {
            let order: Order = letter.event.decode().map_err(|error| error.to_string())?;
            if let Some(other) = dead.insert(user(&order), order.number) {
                self.say(format!("orders {other} and {} are both dead letters of one who has to wait", order.number));
            }
        }
        Ok(dead)
    }

    /// The orders that are there: in the order of the log, where it has them all.
    fn orders_of_users(&self) -> BTreeMap<User, Vec<u64>> {
        let mut users = BTreeMap::<_, Vec<u64>>::new();
        let mut add = |order: &Order| users.entry(user(order)).or_default().push(order.number);
        if self.keeps_all() {
            self.found.events::<Order>().for_each(|(_, order)| add(&order));
        } else {
            let there = self.there.iter().filter_map(|&number| self.order(number));
            there.for_each(|asked| add(&asked.what.order));
        }
        users
    }

    /// Somebody has handled all versions of each cart; that it was in their order, he has seen to himself.
    pub(super) fn journal(&mut self) -> Result<(), String> {
        let found = self.found;
        let journal: BTreeMap<(u8, u64), u64> = found.rows(rooms::JOURNAL)?;
        let last = found.carts.iter().map(|((tenant, cart), all)| ((*tenant, (*cart).into()), all.len() as u64));
        let last: BTreeMap<(u8, u64), u64> = last.collect();
        if journal != last {
            self.say(format!("the journal has the versions {journal:?}, and carts have {last:?}"));
        }
        Ok(())
    }
}
