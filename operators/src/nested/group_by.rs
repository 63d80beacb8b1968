//! `group_by`: a stream for each key.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use foldhash::fast::RandomState;
use futures_core::Stream;
use tokio::time::{Instant, Sleep};

use crate::{BuildError, Flow, Operator, build_error::Period, build_error::built, flow, share::fan_out::FanOut};

/// How many items may wait in all groups, and how many groups for the consumer, before the source is held back.
const CAPACITY: usize = 1_024;

/// How often consumers step back at most before one of them takes the next item.
const PATIENCE: usize = 64;

/// The consumer of the groups themselves waits under this number, the groups under those that follow.
const OUTER: usize = 0;

struct Inbox<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

struct State<S: Stream, F, K> {
    /// Gone once it has ended.
    source: Option<Pin<Box<S>>>,
    key: F,
    open: HashMap<K, (usize, Option<Instant>), RandomState>,
    inboxes: Vec<Option<Inbox<S::Item>>>,
    free: Vec<usize>,
    /// How many items wait in all inboxes.
    waiting: usize,
    /// How often one stepped back since an item was taken out.
    yields: usize,
    /// Groups that nobody has taken yet.
    fresh: VecDeque<(K, usize, Option<Instant>)>,
    /// Nobody will take any more.
    abandoned: bool,
}

struct Hub<S: Stream, F, K> {
    state: Mutex<State<S, F, K>>,
    ttl: Option<Duration>,
    waiting: Arc<FanOut>,
}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> State<S, F, K> {
    fn inbox(&mut self, number: usize) -> Option<&mut Inbox<S::Item>> {
        self.inboxes.get_mut(number - 1)?.as_mut()
    }

    fn is_full(&self) -> bool {
        self.fresh.len() >= CAPACITY || self.waiting >= CAPACITY
    }

    /// What came first is to come out first: while items wait, whoever would take the next one steps back, though not
    /// for ever: who should take them may never do so.
    fn yields(&mut self, cx: &Context<'_>) -> bool {
        let steps_back = self.waiting > 0 && self.yields <= self.open.len().min(PATIENCE);
        if steps_back {
            self.yields += 1;
            cx.waker().wake_by_ref();
        }
        steps_back
    }

    /// Opens a group; returns its number.
    fn open(&mut self, key: K, due: Option<Instant>) -> usize {
        let free = self.free.pop().unwrap_or_else(|| {
            self.inboxes.push(None);
            self.inboxes.len() - 1
        });
        self.inboxes[free] = Some(Inbox { waiting: VecDeque::new(), closed: false });
        let number = free + 1;
        self.open.insert(key.clone(), (number, due));
        self.fresh.push_back((key, number, due));
        number
    }

    fn close(&mut self, number: usize) {
        if let Some(inbox) = self.inbox(number) {
            inbox.closed = true;
        }
    }

    /// Puts the item into its group; returns the group's number and whether it is new.
    fn route(&mut self, item: S::Item, now: Option<Instant>, due: Option<Instant>) -> (usize, bool) {
        let key = (self.key)(&item);
        let open = self.open.get(&key).copied();
        let live = open.filter(|(_, until)| now.zip(*until).is_none_or(|(now, until)| now < until));
        let number = match (live, open) {
            (Some((number, _)), _) => number,
            (None, late) => {
                if let Some((number, _)) = late {
                    self.close(number);
                }
                if self.abandoned {
                    return (OUTER, false);
                }
                self.open(key, due)
            }
        };
        if let Some(inbox) = self.inbox(number) {
            inbox.waiting.push_back(item);
            self.waiting += 1;
        }
        (number, live.is_none())
    }
}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Hub<S, F, K> {
    fn lock(&self) -> MutexGuard<'_, State<S, F, K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the source: true where an item was routed or the source ended.
    fn pull(&self, state: &mut State<S, F, K>) -> bool {
        if state.is_full() {
            return false;
        }
        let Some(source) = &mut state.source else { return false };
        let waker = Arc::clone(&self.waiting).into();
        match source.as_mut().poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(item)) => {
                let now = self.ttl.map(|_| now());
                let due = now.zip(self.ttl).and_then(|(now, ttl)| now.checked_add(ttl));
                let (number, new) = state.route(item, now, due);
                self.waiting.wake_one(if new { OUTER } else { number });
            }
            Poll::Ready(None) => {
                state.source = None;
                state.inboxes.iter_mut().flatten().for_each(|inbox| inbox.closed = true);
                self.waiting.wake_all();
            }
            Poll::Pending => return false,
        }
        true
    }
}

#[expect(clippy::disallowed_methods, reason = "a flow's clock is tokio's, pausable")]
fn now() -> Instant {
    Instant::now()
}

/// The stream of [`group_by`](Flow::group_by): its items are groups.
pub struct GroupBy<S: Stream, F, K>(Arc<Hub<S, F, K>>);

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> GroupBy<S, F, K> {
    /// Groups `source` by what `key` returns. With `ttl`, a group closes that long after its first item.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `ttl` is zero.
    pub fn new(source: S, key: F, ttl: Option<Duration>) -> Result<Self, BuildError> {
        if let Some(ttl) = ttl {
            Period::new("group_by", "time to live", ttl)?;
        }
        let state = State {
            source: Some(Box::pin(source)),
            key,
            open: HashMap::default(),
            inboxes: Vec::new(),
            free: Vec::new(),
            waiting: 0,
            yields: 0,
            fresh: VecDeque::new(),
            abandoned: false,
        };
        Ok(Self(Arc::new(Hub { state: Mutex::new(state), ttl, waiting: Arc::default() })))
    }
}

impl<S: Stream, F, K> Drop for GroupBy<S, F, K> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.abandoned = true;
        // Groups that were not taken take no items: they must not hold back those that were.
        let untaken = std::mem::take(&mut state.fresh);
        let dropped = untaken.iter().filter_map(|(_, number, _)| state.inboxes[number - 1].take());
        let dropped: Vec<_> = dropped.collect();
        state.waiting -= dropped.iter().map(|inbox| inbox.waiting.len()).sum::<usize>();
        drop(state);
        self.0.waiting.wake_all();
    }
}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Stream for GroupBy<S, F, K> {
    type Item = Group<S, F, K>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let hub = &self.0;
        let mut state = hub.lock();
        hub.waiting.wait(OUTER, cx.waker());
        loop {
            if let Some((key, number, due)) = state.fresh.pop_front() {
                let sleep = due.map(|due| Box::pin(tokio::time::sleep_until(due)));
                return Poll::Ready(Some(Group { hub: Arc::clone(hub), key, number, sleep }));
            }
            if state.source.is_none() {
                return Poll::Ready(None);
            }
            if state.yields(cx) || !hub.pull(&mut state) {
                return Poll::Pending;
            }
        }
    }
}

/// The items of one key: see [`group_by`](Flow::group_by).
pub struct Group<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> {
    hub: Arc<Hub<S, F, K>>,
    key: K,
    number: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

// The key is never pinned.
impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Unpin for Group<S, F, K> {}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Group<S, F, K> {
    /// What the items have in common.
    pub const fn key(&self) -> &K {
        &self.key
    }
}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Stream for Group<S, F, K> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.get_mut();
        let (hub, number) = (&*this.hub, this.number);
        let mut state = hub.lock();
        hub.waiting.wait(number, cx.waker());
        loop {
            let Some(inbox) = state.inbox(number) else { return Poll::Ready(None) };
            if let Some(item) = inbox.waiting.pop_front() {
                state.waiting -= 1;
                state.yields = 0;
                if state.waiting + 1 >= CAPACITY {
                    hub.waiting.wake_all();
                }
                return Poll::Ready(Some(item));
            }
            if inbox.closed {
                return Poll::Ready(None);
            }
            if let Some(sleep) = &mut this.sleep
                && sleep.as_mut().poll(cx).is_ready()
            {
                inbox.closed = true;
                return Poll::Ready(None);
            }
            if state.yields(cx) || !hub.pull(&mut state) {
                return Poll::Pending;
            }
        }
    }
}

impl<S: Stream, F: FnMut(&S::Item) -> K, K: Hash + Eq + Clone> Drop for Group<S, F, K> {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        let inbox = state.inboxes.get_mut(self.number - 1).and_then(Option::take);
        state.waiting -= inbox.as_ref().map_or(0, |inbox| inbox.waiting.len());
        state.free.push(self.number - 1);
        if state.open.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            state.open.remove(&self.key);
        }
        drop(state);
        self.hub.waiting.leave(self.number);
        // Another must now poll the source, or finds room.
        self.hub.waiting.wake_all();
        drop(inbox);
    }
}

impl<S: Stream, F, K> fmt::Debug for GroupBy<S, F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBy").finish_non_exhaustive()
    }
}

impl<S, F, K> fmt::Debug for Group<S, F, K>
where
    S: Stream,
    F: FnMut(&S::Item) -> K,
    K: Hash + Eq + Clone + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// A stream of groups, one for each key, each a stream of its items. For a chain for each key,
    /// [`per_key`](Flow::per_key) is simpler, faster and has no limits.
    ///
    /// ```text
    /// in     --a1--b1--a2--|
    /// group_by(letter)
    /// out    --a---b-------|
    /// group a  a1------a2--|
    /// group b      b1------|
    /// ```
    ///
    /// Completes with its input, and so does each group. An `Err` is an item. A group that is dropped loses the items
    /// that wait in it; the next item of its key opens a new one. Once this stream of groups is dropped, items of keys
    /// whose group was not taken are lost. The input is polled when the groups' stream or a group
    /// is; where 1,024 items wait in groups, or 1,024 groups to be taken, it waits for that, so poll all groups, or drop
    /// those that are not wanted.
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let sums = flow(futures::stream::iter(1..=4))
    ///     .group_by(|x| x % 2)
    ///     .flat_map(usize::MAX, |group| flow(group).fold(0, |sum, x| *sum += x));
    /// assert_eq!(sums.collect::<Vec<_>>().await, [4, 6]);
    /// # });
    /// ```
    pub fn group_by<K, F>(self, key: F) -> Flow<GroupBy<Self, F, K>>
    where
        K: Hash + Eq + Clone,
        F: FnMut(&O::Out) -> K,
    {
        flow(built(GroupBy::new(self, key, None)))
    }

    /// Like [`group_by`](Flow::group_by), but a group closes `ttl` after its first item; the next item of its key opens
    /// a new one.
    ///
    /// # Panics
    /// Where `ttl` is zero; [`GroupBy::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::flow;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ticks = flow(futures::stream::iter(1..=4)).rate_limit(Duration::from_millis(10));
    /// let groups = ticks
    ///     .group_by_for(|_| (), Duration::from_millis(15))
    ///     .flat_map(usize::MAX, |group| flow(group).to_vec());
    /// assert_eq!(groups.collect::<Vec<_>>().await, [[1, 2], [3, 4]]);
    /// # }
    /// ```
    #[track_caller]
    pub fn group_by_for<K, F>(self, key: F, ttl: Duration) -> Flow<GroupBy<Self, F, K>>
    where
        K: Hash + Eq + Clone,
        F: FnMut(&O::Out) -> K,
    {
        flow(built(GroupBy::new(self, key, Some(ttl))))
    }
}
