//! `share`: one run of a source for all who listen.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::fan_out::FanOut;
use crate::{Flow, Operator, flow};

/// How many items may wait for one subscriber before the source is held back.
const CAPACITY: usize = 1_024;
/// How many items a source may give at once to a subscriber that finds it unattended.
const CATCH_UP: usize = 65_536;

/// What makes the stream of each run. Every `FnMut() -> S` does.
pub trait Begin<S> {
    /// The stream of the next run; `None` where there is none, which is an end.
    fn begin(&mut self) -> Option<S>;
}

impl<S, F: FnMut() -> S> Begin<S> for F {
    fn begin(&mut self) -> Option<S> {
        Some(self())
    }
}

/// A stream that runs once.
#[derive(Clone, Debug)]
pub struct Once<S>(Option<S>);

impl<S> Once<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self(Some(stream))
    }
}

impl<S> Begin<S> for Once<S> {
    fn begin(&mut self) -> Option<S> {
        self.0.take()
    }
}

/// What happens at the edges of a source's run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How many items a late subscriber gets.
    pub(super) replay: usize,
    /// Whether the source is dropped with its last subscriber.
    pub(super) ref_count: bool,
    /// Whether a subscriber after the end starts the source again.
    pub(super) restart: bool,
}

/// One subscriber's items.
struct Inbox<T> {
    waiting: VecDeque<T>,
    ended: bool,
}

enum Run<S> {
    Idle,
    Live(Pin<Box<S>>),
    Ended,
}

struct State<S: Stream, F> {
    make: F,
    rules: Rules,
    /// Whether an item is the last of its run: such a one is not replayed, and the next subscriber starts anew.
    last: fn(&S::Item) -> bool,
    run: Run<S>,
    inboxes: Vec<Option<Inbox<S::Item>>>,
    replay: VecDeque<S::Item>,
}

impl<S: Stream, F> State<S, F>
where
    S::Item: Clone,
{
    fn live(&mut self) -> impl Iterator<Item = &mut Inbox<S::Item>> {
        self.inboxes.iter_mut().flatten().filter(|inbox| !inbox.ended)
    }

    fn end(&mut self, run: Run<S>) {
        self.live().for_each(|inbox| inbox.ended = true);
        self.run = run;
    }

    fn begin(&mut self)
    where
        F: Begin<S>,
    {
        self.run = self.make.begin().map_or(Run::Ended, |stream| Run::Live(Box::pin(stream)));
    }

    fn reset(&mut self) {
        self.replay.clear();
        self.end(Run::Idle);
    }

    fn publish(&mut self, item: S::Item) {
        let last = (self.last)(&item);
        if self.rules.replay > 0 {
            if self.replay.len() >= self.rules.replay {
                self.replay.pop_front();
            }
            self.replay.push_back(item.clone());
        }
        self.live().for_each(|inbox| inbox.waiting.push_back(item.clone()));
        if last {
            self.reset();
        }
    }

    /// One step of the source: true where something was published or the run ended.
    fn pull(&mut self, cx: &mut Context<'_>) -> bool {
        let Run::Live(source) = &mut self.run else { return false };
        match source.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => self.publish(item),
            Poll::Ready(None) if self.rules.restart => self.reset(),
            Poll::Ready(None) => self.end(Run::Ended),
            Poll::Pending => return false,
        }
        true
    }
}

struct Hub<S: Stream, F> {
    state: Mutex<State<S, F>>,
    waiting: Arc<FanOut>,
}

impl<S: Stream, F> Hub<S, F> {
    fn lock(&self) -> MutexGuard<'_, State<S, F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that is shared: see [`share`]. A clone shares the same run.
pub struct Share<S: Stream, F>(Arc<Hub<S, F>>);

impl<S, F> Share<S, F>
where
    S: Stream,
    S::Item: Clone,
    F: Begin<S>,
{
    pub(super) fn new(make: F, rules: Rules, last: fn(&S::Item) -> bool) -> Self {
        let (inboxes, replay) = (Vec::new(), VecDeque::new());
        let state = Mutex::new(State { make, rules, last, run: Run::Idle, inboxes, replay });
        Self(Arc::new(Hub { state, waiting: Arc::default() }))
    }

    /// Listens from now on. The first subscriber starts the source; its first poll is the source's first.
    pub fn subscribe(&self) -> Flow<Subscription<S, F>> {
        let mut state = self.0.lock();
        if matches!(state.run, Run::Idle) {
            state.begin();
        } else if state.live().next().is_none() {
            // Nobody polled the source meanwhile: what it has ready belongs to the past.
            let waker = Arc::clone(&self.0.waiting).into();
            let mut cx = Context::from_waker(&waker);
            for _ in 0..CATCH_UP {
                if !state.pull(&mut cx) {
                    break;
                }
            }
            if matches!(state.run, Run::Idle) {
                state.begin();
            }
        }
        let inbox = Inbox { waiting: state.replay.clone(), ended: matches!(state.run, Run::Ended) };
        let number = state.inboxes.iter().position(Option::is_none).unwrap_or(state.inboxes.len());
        if number == state.inboxes.len() {
            state.inboxes.push(None);
        }
        state.inboxes[number] = Some(inbox);
        drop(state);
        flow(Subscription { hub: Arc::clone(&self.0), number })
    }
}

impl<S: Stream, F> Clone for Share<S, F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Stream, F> fmt::Debug for Share<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").finish_non_exhaustive()
    }
}

/// One who listens to a [`Share`].
pub struct Subscription<S: Stream, F> {
    hub: Arc<Hub<S, F>>,
    number: usize,
}

impl<S, F> Stream for Subscription<S, F>
where
    S: Stream,
    S::Item: Clone,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let (hub, number) = (&*self.hub, self.number);
        let mut state = hub.lock();
        hub.waiting.wait(number, cx.waker());
        loop {
            let Some(inbox) = &mut state.inboxes[number] else { return Poll::Ready(None) };
            let was_full = inbox.waiting.len() >= CAPACITY;
            if let Some(item) = inbox.waiting.pop_front() {
                drop(state);
                if was_full {
                    hub.waiting.wake_all();
                }
                return Poll::Ready(Some(item));
            }
            if inbox.ended {
                return Poll::Ready(None);
            }
            if state.live().any(|inbox| inbox.waiting.len() >= CAPACITY) {
                return Poll::Pending;
            }
            let waker = Arc::clone(&hub.waiting).into();
            if !state.pull(&mut Context::from_waker(&waker)) {
                return Poll::Pending;
            }
            hub.waiting.wake_all();
        }
    }
}

impl<S: Stream, F> Drop for Subscription<S, F> {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.inboxes[self.number] = None;
        let unheard = !state.inboxes.iter().flatten().any(|inbox| !inbox.ended);
        let mut dropped = Run::Idle;
        if unheard && state.rules.ref_count && matches!(state.run, Run::Live(_)) {
            state.replay.clear();
            std::mem::swap(&mut state.run, &mut dropped);
        }
        drop(state);
        self.hub.waiting.leave(self.number);
        // Another must now poll the source, or find room.
        self.hub.waiting.wake_all();
        // Outside the lock: a source may hold anything.
        drop(dropped);
    }
}

impl<S: Stream, F> fmt::Debug for Subscription<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("number", &self.number).finish_non_exhaustive()
    }
}

/// One run of the source that `make` makes, for all who [`subscribe`](Share::subscribe): each gets every item from then
/// on. The source starts with the first subscriber, is dropped with the last, and starts again with the next.
///
/// ```text
/// source  --1--2--3--|
/// first   --1--2--3--|
/// second    ---2--3--|
/// ```
///
/// A subscription completes with the run that it listens to. An `Err` is an item. An early drop loses that subscriber's
/// items alone. The source is polled when a subscriber is; where 1,024 items wait for one of them, it waits for that one.
/// A source that panics does so in the subscriber that polled it.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::share::share;
///
/// # futures::executor::block_on(async {
/// let shared = share(|| iter([1, 2]));
/// let (first, second) = (shared.subscribe(), shared.subscribe());
/// assert_eq!(first.collect::<Vec<_>>().await, [1, 2]);
/// assert_eq!(second.collect::<Vec<_>>().await, [1, 2]);
/// # });
/// ```
pub fn share<S, F>(make: F) -> Share<S, F>
where
    S: Stream,
    S::Item: Clone,
    F: FnMut() -> S,
{
    Share::new(make, Rules { replay: 0, ref_count: true, restart: true }, |_| false)
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Shares this flow: see [`share`](share()), which can start again. This one runs once; who subscribes after its end
    /// gets the end alone.
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let shared = flow(futures::stream::iter([1, 2])).share();
    /// let (first, second) = (shared.subscribe(), shared.subscribe());
    /// assert_eq!(first.collect::<Vec<_>>().await, [1, 2]);
    /// assert_eq!(second.collect::<Vec<_>>().await, [1, 2]);
    /// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, []);
    /// # });
    /// ```
    pub fn share(self) -> Share<Self, Once<Self>>
    where
        O::Out: Clone,
    {
        Share::new(Once::new(self), Rules { replay: 0, ref_count: true, restart: true }, |_| false)
    }
}
