//! Who subscribes: handlers that join, and those that go.

use std::{collections::HashSet, sync::Arc};

use super::{dispatcher::Dispatcher, registry::Entry, subscriber::Subscriber};
use crate::stage::{Call, Order, contained};

impl Dispatcher {
    /// Sees who has subscribed and who has left since the last time.
    pub(super) fn catch_up(&mut self) {
        self.version = self.parts.registry.version();
        let (entries, added, unseen) = self.parts.registry.catch_up();
        for (name, start) in unseen {
            self.keep_start(&name, start.get().copied());
        }
        for (entry, call) in added {
            self.add_subscriber(entry, call);
        }
        let left: HashSet<_> = entries.iter().map(|entry| entry.id).collect();
        let mut taken_back = Vec::new();
        for (place, subscriber) in &mut self.subscribers {
            let was_subscribed = std::mem::replace(&mut subscriber.is_subscribed, left.contains(&subscriber.entry.id));
            if was_subscribed && !subscriber.is_subscribed {
                taken_back.push(place);
            }
        }
        for place in taken_back {
            self.end_halts(place);
        }
        self.detach_unsubscribed();
        self.tell_orphans();
        let gone = self.subscribers.iter().filter(|(_, subscriber)| !subscriber.is_subscribed && subscriber.open == 0);
        for place in gone.map(|(place, _)| place).collect::<Vec<_>>() {
            self.drop_subscriber(place);
        }
        self.routes.forget();
        self.is_strict = self.subscribers.iter().any(|(_, s)| s.entry.options.order == Order::Strict);
        let mut state = self.parts.intake.lock();
        if self.is_strict && !state.dispatch_is_strict {
            // The batch was pulled when nobody asked what it leaves behind.
            self.oldest = state.queue.oldest();
        }
        state.dispatch_is_strict = self.is_strict;
        drop(state);
        self.publish_saturated();
    }

    fn add_subscriber(&mut self, entry: Arc<Entry>, call: Box<dyn Call>) {
        if entry.options.is_tap {
            self.begin_tap(&entry);
        }
        self.subscribers.insert(Subscriber::new(entry, call));
    }

    pub(super) fn has_new_subscribers(&self) -> bool {
        self.version != self.parts.registry.version()
    }

    /// Handlers may hold the runtime that holds them: a stopped runtime lets go of them.
    pub(super) fn drop_handlers(&mut self) {
        for place in self.subscribers.iter().map(|(place, _)| place).collect::<Vec<_>>() {
            self.drop_subscriber(place);
        }
        self.routes.forget();
    }

    /// A handler goes. What it holds is the user's, and may panic.
    pub(super) fn drop_subscriber(&mut self, place: usize) {
        self.close_reader(place);
        let subscriber = self.subscribers.remove(place);
        let name = Arc::clone(subscriber.entry.name());
        if subscriber.is_broken {
            self.forget_damage(&name);
        }
        if let Err(panic) = contained(|| drop(subscriber)) {
            tracing::error!(subscription = &*name, error = %panic, "a handler panicked while it was dropped");
            self.done.book.deliveries.panics += 1;
        }
    }

    /// Lets go of handlers that were taken back, where nobody drives. `false` where that may set deliveries going, which is
    /// for whoever drives.
    pub(crate) fn tidy(&mut self) -> bool {
        if self.done.book.deliveries.parked > 0 {
            return false;
        }
        while self.has_new_subscribers() {
            self.catch_up();
        }
        true
    }
}
