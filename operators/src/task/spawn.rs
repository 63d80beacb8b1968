//! `spawn`: the source in a task of its own, behind a bounded buffer.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tokio::task::JoinSet;

use super::{Full, Overflow};
use crate::{
    BuildError, Flow, Operator,
    build_error::{built, count},
    flow,
};

/// How many items the task takes before it lets others run.
const BUDGET: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Ended,
    Failed,
}

struct Buffer<T> {
    waiting: VecDeque<T>,
    capacity: NonZeroUsize,
    lost: u64,
    phase: Phase,
    consumer: Option<Waker>,
    producer: Option<Waker>,
}

type Shared<T> = Arc<Mutex<Buffer<T>>>;

fn lock<T>(buffer: &Mutex<Buffer<T>>) -> MutexGuard<'_, Buffer<T>> {
    // A policy that panics takes its task with it; the buffer is as that left it.
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the item in, or asks the policy; what must wait comes back.
fn offer<T, P: Overflow<T>>(buffer: &Mutex<Buffer<T>>, policy: &mut P, item: T) -> Option<T> {
    let mut guard = lock(buffer);
    let mut back = None;
    if guard.waiting.len() < guard.capacity.get() {
        guard.waiting.push_back(item);
    } else {
        match policy.full(&mut guard.waiting, item) {
            Full::Wait(item) => back = Some(item),
            Full::Lost(items) => guard.lost += items,
            Full::Fail => guard.phase = Phase::Failed,
        }
    }
    let consumer = guard.consumer.take();
    drop(guard);
    if let Some(consumer) = consumer {
        consumer.wake();
    }
    back
}

async fn room<T>(buffer: &Mutex<Buffer<T>>) {
    poll_fn(|cx| {
        let mut guard = lock(buffer);
        if guard.waiting.len() < guard.capacity.get() {
            return Poll::Ready(());
        }
        guard.producer = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// The task: until the source ends or the policy fails.
async fn produce<S: Stream, P: Overflow<S::Item>>(source: S, mut policy: P, buffer: Shared<S::Item>) {
    let mut source = std::pin::pin!(source);
    let mut budget = BUDGET;
    while let Some(item) = poll_fn(|cx| source.as_mut().poll_next(cx)).await {
        let mut waits = offer(&buffer, &mut policy, item);
        while let Some(item) = waits {
            room(&buffer).await;
            waits = offer(&buffer, &mut policy, item);
        }
        if lock(&buffer).phase == Phase::Failed {
            return;
        }
        budget -= 1;
        if budget == 0 {
            budget = BUDGET;
            tokio::task::yield_now().await;
        }
    }
    let mut guard = lock(&buffer);
    guard.phase = Phase::Ended;
    let consumer = guard.consumer.take();
    drop(guard);
    if let Some(consumer) = consumer {
        consumer.wake();
    }
}

/// The stream of [`spawn`](Flow::spawn). The task starts with the first poll and ends with this stream.
pub struct Spawned<S: Stream, P> {
    idle: Option<(Pin<Box<S>>, P)>,
    task: JoinSet<()>,
    buffer: Shared<S::Item>,
}

// The source is in a box of its own, the policy is never pinned.
impl<S: Stream, P> Unpin for Spawned<S, P> {}

impl<S: Stream, P> Spawned<S, P> {
    /// A buffer of `capacity` items before `source`.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `capacity` is zero.
    pub fn new(source: S, capacity: usize, policy: P) -> Result<Self, BuildError> {
        let buffer = Buffer {
            waiting: VecDeque::new(),
            capacity: count("spawn", "capacity", capacity)?,
            lost: 0,
            phase: Phase::Running,
            consumer: None,
            producer: None,
        };
        let buffer = Arc::new(Mutex::new(buffer));
        Ok(Self { idle: Some((Box::pin(source), policy)), task: JoinSet::new(), buffer })
    }

    /// How many items the policy has dropped so far.
    pub fn lost(&self) -> u64 {
        lock(&self.buffer).lost
    }
}

impl<S, P> Stream for Spawned<S, P>
where
    S: Stream + Send + 'static,
    S::Item: Send,
    P: Overflow<S::Item> + Send + 'static,
{
    type Item = P::Out;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P::Out>> {
        let this = self.get_mut();
        if let Some((source, policy)) = this.idle.take() {
            this.task.spawn(produce(source, policy, Arc::clone(&this.buffer)));
        }
        // A panic of the task is this stream's.
        if let Poll::Ready(Some(Err(error))) = this.task.poll_join_next(cx)
            && let Ok(panic) = error.try_into_panic()
        {
            lock(&this.buffer).phase = Phase::Ended;
            std::panic::resume_unwind(panic);
        }
        let mut guard = lock(&this.buffer);
        if let Some(item) = guard.waiting.pop_front() {
            let producer = guard.producer.take();
            drop(guard);
            if let Some(producer) = producer {
                producer.wake();
            }
            return Poll::Ready(Some(P::out(item)));
        }
        match guard.phase {
            Phase::Running => {
                guard.consumer = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::Ended => Poll::Ready(None),
            Phase::Failed => {
                guard.phase = Phase::Ended;
                Poll::Ready(P::failed())
            }
        }
    }
}

impl<S: Stream, P> fmt::Debug for Spawned<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Runs everything so far in a task of its own that fills a buffer of `capacity` items; `policy` says what happens
    /// when that is full: [`Wait`](super::Wait), [`DropNewest`](super::DropNewest), [`DropOldest`](super::DropOldest),
    /// [`Conflate`](super::Conflate) or [`Fail`](super::Fail). So the source goes on while the consumer is busy.
    ///
    /// ```text
    /// in        --1-2-3-4-----------|
    /// consumer  --1---------(busy)
    /// spawn(1, DropOldest)
    /// out       --1---------4-------|
    /// ```
    ///
    /// Completes when its input has ended and the buffer is empty; a panic of the task comes out of this stream's poll.
    /// An `Err` is an item. The task starts with the first poll, on the tokio runtime of that poll, and is stopped when
    /// this is dropped, which loses what waits in the buffer. What the policy dropped is counted: [`Spawned::lost`].
    ///
    /// # Panics
    /// Where `capacity` is zero; [`Spawned::new`] returns an error instead. Where it is polled outside a tokio runtime.
    ///
    /// ```
    /// use millstream_operators::{flow, task::{DropOldest, Wait}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let all = flow(futures::stream::iter(0..5)).spawn(2, Wait);
    /// assert_eq!(all.collect::<Vec<_>>().await, [0, 1, 2, 3, 4]);
    ///
    /// let mut newest = flow(futures::stream::iter(0..5)).spawn(2, DropOldest);
    /// assert_eq!(newest.next().await, Some(3));
    /// assert_eq!(newest.head().lost(), 3);
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn<P>(self, capacity: usize, policy: P) -> Flow<Spawned<Self, P>>
    where
        Self: Send + 'static,
        O::Out: Send,
        P: Overflow<O::Out> + Send + 'static,
    {
        flow(built(Spawned::new(self, capacity, policy)))
    }
}
