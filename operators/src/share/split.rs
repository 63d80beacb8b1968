//! `split`: each item to one of several outputs.

use std::{
    array,
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::fan_out::FanOut;
use crate::{Flow, Operator, flow};

/// How many items may wait for one output before the source is held back.
const CAPACITY: usize = 1_024;

struct State<S: Stream, F> {
    /// Gone once it has ended.
    source: Option<Pin<Box<S>>>,
    route: F,
    /// An output that was dropped has no queue.
    queues: Vec<Option<VecDeque<S::Item>>>,
}

struct Router<S: Stream, F> {
    state: Mutex<State<S, F>>,
    waiting: Arc<FanOut>,
}

impl<S: Stream, F> Router<S, F> {
    fn lock(&self) -> MutexGuard<'_, State<S, F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which output an item goes to. Every `FnMut(&T) -> usize` is one.
pub trait Route<T> {
    /// The output's number, from 0; one beyond the last drops the item.
    fn route(&mut self, item: &T) -> usize;
}

impl<T, F: FnMut(&T) -> usize> Route<T> for F {
    fn route(&mut self, item: &T) -> usize {
        self(item)
    }
}

/// One output of [`split`].
pub struct Part<S: Stream, F> {
    router: Arc<Router<S, F>>,
    number: usize,
}

impl<S: Stream, F: Route<S::Item>> Stream for Part<S, F> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let (router, number) = (&*self.router, self.number);
        let mut state = router.lock();
        let State { source, route, queues } = &mut *state;
        router.waiting.wait(number, cx.waker());
        if let Some(queue) = &mut queues[number]
            && let Some(item) = queue.pop_front()
        {
            if queue.len() + 1 >= CAPACITY {
                router.waiting.wake_all();
            }
            return Poll::Ready(Some(item));
        }
        let waker = Arc::clone(&router.waiting).into();
        let mut source_cx = Context::from_waker(&waker);
        while let Some(stream) = source {
            if queues.iter().flatten().any(|queue| queue.len() >= CAPACITY) {
                return Poll::Pending;
            }
            match stream.as_mut().poll_next(&mut source_cx) {
                Poll::Ready(Some(item)) => {
                    let to = route.route(&item);
                    if to == number {
                        return Poll::Ready(Some(item));
                    }
                    if let Some(Some(queue)) = queues.get_mut(to) {
                        queue.push_back(item);
                        router.waiting.wake_one(to);
                    }
                }
                Poll::Ready(None) => {
                    *source = None;
                    router.waiting.wake_all();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

impl<S: Stream, F> Drop for Part<S, F> {
    fn drop(&mut self) {
        let queue = self.router.lock().queues[self.number].take();
        self.router.waiting.leave(self.number);
        // Another must now poll the source, or finds room.
        self.router.waiting.wake_all();
        drop(queue);
    }
}

impl<S: Stream, F> fmt::Debug for Part<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Sends each item of `source` to the output whose number `route` returns, from 0; one beyond the last drops it. See
/// [`Flow::split`].
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::share::split;
///
/// # futures::executor::block_on(async {
/// let [small, large] = split(iter([1, 20, 3]), |x| usize::from(*x > 9));
/// assert_eq!(small.collect::<Vec<_>>().await, [1, 3]);
/// assert_eq!(large.collect::<Vec<_>>().await, [20]);
/// # });
/// ```
pub fn split<const N: usize, S, F>(source: S, route: F) -> [Flow<Part<S, F>>; N]
where
    S: Stream,
    F: FnMut(&S::Item) -> usize,
{
    outputs(source, route)
}

pub(super) fn outputs<const N: usize, S: Stream, F: Route<S::Item>>(source: S, route: F) -> [Flow<Part<S, F>>; N] {
    let queues = (0..N).map(|_| Some(VecDeque::new())).collect();
    let state = Mutex::new(State { source: Some(Box::pin(source)), route, queues });
    let router = Arc::new(Router { state, waiting: Arc::default() });
    array::from_fn(|number| flow(Part { router: Arc::clone(&router), number }))
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Sends each item to one of several outputs: the one whose number `route` returns, from 0. A number beyond the last
    /// drops the item.
    ///
    /// ```text
    /// in     --1--2--3--4--|
    /// split(x % 3)
    /// out 0  --------3-----|
    /// out 1  --1--------4--|
    /// out 2  -----2--------|
    /// ```
    ///
    /// Each output completes with the input. An `Err` is an item. The input is polled when an output is; where 1,024
    /// items wait for one output, it waits for that one, so poll all outputs, or drop those that are not wanted: items
    /// of an output that was dropped are lost.
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let [even, odd] = flow(futures::stream::iter(1..=4)).split(|x| x % 2);
    /// assert_eq!(even.collect::<Vec<_>>().await, [2, 4]);
    /// assert_eq!(odd.collect::<Vec<_>>().await, [1, 3]);
    /// # });
    /// ```
    pub fn split<const N: usize, F: FnMut(&O::Out) -> usize>(self, route: F) -> [Flow<Part<Self, F>>; N] {
        split(self, route)
    }
}
