//! Holds what a subscription may lose, where the log has no room for what it has not handled, to what it was told.

use std::collections::{BTreeMap, BTreeSet};

use super::{check::Check, events::rooms};

impl Check<'_> {
    /// What a subscription has lost is wrong, unless it was told of so many.
    pub(super) fn excuse(&mut self, subscription: &str, lost: Vec<String>) {
        let told = self.told(subscription);
        if lost.len() as u64 > told {
            let told = if told > 0 { format!("; `{subscription}` was told of {told}") } else { String::new() };
            for what in lost {
                self.say(format!("{what}{told}"));
            }
        }
    }

    /// Of how many events a subscription was told that it may have lost them.
    fn told(&self, subscription: &str) -> u64 {
        if !self.chronicle.plan.may_lose() || subscription.is_empty() {
            return 0;
        }
        if self.has_crashed_again {
            return u64::MAX;
        }
        let now = self.found.lost.get(subscription).copied().unwrap_or_default();
        now + self.chronicle.lost_by(self.position, subscription)
    }

    /// One who is slow has handled each order once, but for what it was told that it has lost.
    pub(super) fn slow(&mut self) -> Result<(), String> {
        let rows: BTreeMap<u64, u64> = self.orders_rows(rooms::SLOW)?;
        for (order, times) in rows.iter().filter(|(_, times)| **times != 1) {
            self.say(format!("order {order} was handled {times} times by `slow`"));
        }
        let handled: BTreeSet<u64> = rows.into_keys().collect();
        let chronicle = self.chronicle;
        let lost = self.hold_numbered(&chronicle.orders, &handled, "by `slow`: order");
        self.excuse("slow", lost);
        Ok(())
    }
}
