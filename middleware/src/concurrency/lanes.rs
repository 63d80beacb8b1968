//! Turns by key, in the order in which they were asked for.
//!
//! One lock holds all keys. A key has an entry only while a call of it runs or waits. The lock is never held while
//! foreign code runs: a waiter is woken, and a permit dropped, after it is released.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use crate::clock::lock;

/// Turns for every key.
#[derive(Debug)]
pub(crate) struct Lanes<K> {
    lanes: Mutex<Map<K>>,
}

#[derive(Debug)]
struct Map<K> {
    max: usize,
    tickets: u64,
    by_key: HashMap<K, Lane, RandomState>,
}

/// One key: calls that run, and those that wait in the order of their tickets.
#[derive(Debug)]
struct Lane {
    running: usize,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// The answer to a request for a turn.
#[derive(Debug)]
pub(crate) enum Asked<K: Hash + Eq> {
    /// Now.
    Granted(Held<K>),
    /// When the receiver hears of it.
    Queued(Queued<K>),
    /// Never: the queue is full.
    Full,
}

impl<K: Hash + Eq + Clone> Lanes<K> {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let map = Map { max, tickets: 0, by_key: HashMap::default() };
        Arc::new(Self { lanes: Mutex::new(map) })
    }

    /// Asks for a turn. `queue` is how many may wait at this key.
    pub(crate) fn ask(self: &Arc<Self>, key: K, queue: usize) -> Asked<K> {
        let mut map = lock(&self.lanes);
        let (max, ticket) = (map.max, map.tickets);
        let Some(lane) = map.by_key.get_mut(&key) else {
            map.by_key.insert(key.clone(), Lane { running: 1, waiting: VecDeque::new() });
            return Asked::Granted(Held::new(self, key));
        };
        if lane.running < max && lane.waiting.is_empty() {
            lane.running += 1;
            return Asked::Granted(Held::new(self, key));
        }
        if lane.waiting.len() >= queue {
            return Asked::Full;
        }
        let (turn, granted) = oneshot::channel();
        lane.waiting.push_back((ticket, turn));
        map.tickets += 1;
        Asked::Queued(Queued { lanes: Arc::clone(self), key: Some(key), ticket, granted })
    }

    /// Changes how many calls of a key run at once; those that may begin now are woken.
    pub(crate) fn set_max(&self, max: usize) {
        let keys: Vec<K> = {
            let mut map = lock(&self.lanes);
            let raised = max > map.max;
            map.max = max;
            let waiting = map.by_key.iter().filter(|(_, lane)| raised && !lane.waiting.is_empty());
            waiting.map(|(key, _)| key.clone()).collect()
        };
        for key in keys {
            self.settle(&key, 0);
        }
    }

    /// How many calls run and wait, over all keys.
    pub(crate) fn load(&self) -> (usize, usize) {
        let map = lock(&self.lanes);
        map.by_key.values().fold((0, 0), |(run, wait), lane| (run + lane.running, wait + lane.waiting.len()))
    }
}

impl<K: Hash + Eq> Lanes<K> {
    /// How many keys have a call that runs or waits.
    pub(crate) fn keys(&self) -> usize {
        lock(&self.lanes).by_key.len()
    }

    /// Takes back `freed` turns and hands out what is free. A turn whose waiter has gone is handed to the next.
    fn settle(&self, key: &K, mut freed: usize) {
        while let Some(turn) = self.next(key, freed) {
            freed = usize::from(turn.send(()).is_err());
        }
    }

    fn next(&self, key: &K, freed: usize) -> Option<oneshot::Sender<()>> {
        let mut map = lock(&self.lanes);
        let max = map.max;
        let lane = map.by_key.get_mut(key)?;
        lane.running -= freed;
        if lane.running < max
            && let Some((_, turn)) = lane.waiting.pop_front()
        {
            lane.running += 1;
            return Some(turn);
        }
        if lane.running == 0 {
            map.by_key.remove(key);
        }
        None
    }

    fn leave(&self, key: &K, ticket: u64) {
        let mut map = lock(&self.lanes);
        if let Some(lane) = map.by_key.get_mut(key)
            && let Ok(place) = lane.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
        {
            lane.waiting.remove(place);
        }
    }
}

/// A turn; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held<K: Hash + Eq> {
    lanes: Arc<Lanes<K>>,
    key: K,
}

impl<K: Hash + Eq> Held<K> {
    fn new(lanes: &Arc<Lanes<K>>, key: K) -> Self {
        Self { lanes: Arc::clone(lanes), key }
    }
}

impl<K: Hash + Eq> Drop for Held<K> {
    fn drop(&mut self) {
        self.lanes.settle(&self.key, 1);
    }
}

/// A place in line; left when dropped. A turn that was granted but not taken is given back.
#[derive(Debug)]
pub(crate) struct Queued<K: Hash + Eq> {
    lanes: Arc<Lanes<K>>,
    key: Option<K>,
    ticket: u64,
    granted: oneshot::Receiver<()>,
}

impl<K: Hash + Eq> Queued<K> {
    /// Waits for the turn.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Held<K>> {
        ready!(Pin::new(&mut self.granted).poll(cx)).expect("a sender in the queue is used or its receiver is gone");
        let key = self.key.take().expect("a turn is granted once");
        Poll::Ready(Held::new(&self.lanes, key))
    }
}

impl<K: Hash + Eq> Drop for Queued<K> {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        // Closed first: from here on no turn can be granted, so it either is in the channel or goes to the next.
        self.granted.close();
        if self.granted.try_recv().is_ok() {
            self.lanes.settle(key, 1);
        } else {
            self.lanes.leave(key, self.ticket);
        }
    }
}
