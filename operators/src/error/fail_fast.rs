//! `fail_fast`: the first error of any input ends the whole flow.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{Flow, flow, share::fan_out::FanOut};

struct Slot<E> {
    error: Mutex<Option<E>>,
    /// The flows that the error ends, by number.
    waiting: FanOut,
    flows: AtomicUsize,
}

/// Guards streams: see [`fail_fast`]. A clone guards for the same flows.
pub struct FailScope<E>(Arc<Slot<E>>);

impl<E> Default for FailScope<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> FailScope<E> {
    /// A scope without guards. For one flow there is [`fail_fast`].
    pub fn new() -> Self {
        Self(Arc::new(Slot { error: Mutex::new(None), waiting: FanOut::default(), flows: AtomicUsize::new(0) }))
    }

    /// Ends `flow` with the first error of any guard of this scope; any number of flows, each with a clone of it.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::error::FailScope;
    ///
    /// # futures::executor::block_on(async {
    /// let scope = FailScope::new();
    /// let (even, odd) = scope.guard(iter([Ok(1), Ok(2), Err("oh")])).partition(|x| x % 2 == 0);
    /// let (even, odd) = (scope.end(even), scope.end(odd));
    /// assert_eq!(even.collect::<Vec<_>>().await, [Ok(2), Err("oh")]);
    /// assert_eq!(odd.collect::<Vec<_>>().await, [Err("oh")]);
    /// # });
    /// ```
    pub fn end<S: Stream>(&self, flow: S) -> Flow<FailFast<S, E>>
    where
        E: Clone,
    {
        self.ending(flow, |error| error.clone())
    }

    /// Passes on what is in `Ok`; the first `Err` ends the flow of this scope.
    pub fn guard<S>(&self, stream: S) -> Flow<Guard<S, E>>
    where
        S: Stream<Item: IntoResult<Error = E>>,
    {
        flow(Guard { stream: Some(stream), scope: self.clone() })
    }

    fn ending<S: Stream>(&self, inner: S, read: fn(&mut Option<E>) -> Option<E>) -> Flow<FailFast<S, E>> {
        let number = self.0.flows.fetch_add(1, Ordering::Relaxed);
        flow(FailFast { inner: Some(inner), scope: self.clone(), number, read })
    }

    fn error(&self) -> MutexGuard<'_, Option<E>> {
        // Nothing but an error's clone could panic under this lock, which leaves it as it was.
        self.0.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: E) {
        self.error().get_or_insert(error);
        self.0.waiting.wake_all();
    }
}

impl<E> Clone for FailScope<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for FailScope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailScope")
    }
}

/// A `Result`, named by its parts.
pub trait IntoResult {
    /// What is in `Ok`.
    type Value;
    /// What is in `Err`.
    type Error;
    /// The result itself.
    ///
    /// # Errors
    /// Where it is one.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, E> IntoResult for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

pin_project! {
    /// A stream guarded by a [`FailScope`].
    #[derive(Debug)]
    pub struct Guard<S, E> {
        #[pin]
        stream: Option<S>,
        scope: FailScope<E>,
    }
}

impl<S, E> Stream for Guard<S, E>
where
    S: Stream<Item: IntoResult<Error = E>>,
{
    type Item = <S::Item as IntoResult>::Value;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else {
            // It failed: whoever holds this will be dropped.
            return Poll::Pending;
        };
        match ready!(stream.poll_next(cx)).map(IntoResult::into_result) {
            Some(Ok(item)) => Poll::Ready(Some(item)),
            Some(Err(error)) => {
                this.stream.set(None);
                this.scope.fail(error);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

pin_project! {
    /// The stream of [`fail_fast`].
    #[derive(Debug)]
    pub struct FailFast<S, E> {
        #[pin]
        inner: Option<S>,
        scope: FailScope<E>,
        number: usize,
        read: fn(&mut Option<E>) -> Option<E>,
    }
}

impl<S: Stream, E> Stream for FailFast<S, E> {
    type Item = Result<S::Item, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        this.scope.0.waiting.wait(*this.number, cx.waker());
        let mut error = (this.read)(&mut this.scope.error());
        if error.is_none() {
            let polled = inner.poll_next(cx);
            error = (this.read)(&mut this.scope.error());
            if error.is_none() {
                return polled.map(|item| item.map(Ok));
            }
        }
        this.scope.0.waiting.leave(*this.number);
        // What came with the error came after it.
        this.inner.set(None);
        Poll::Ready(error.map(Err))
    }
}

/// A flow that the first `Err` of any guarded input ends, as in RxJS: the error comes out at once, and what the operators
/// hold back is dropped. Elsewhere an `Err` is an item.
///
/// `build` makes the flow from inputs that it [guards](FailScope::guard); its items come out in `Ok`.
///
/// ```text
/// a    --1-------2-----3--|
/// b    -----7-------Err
/// fail_fast(combine_latest)
/// out  -----(1,7)(2,7)Err|
/// ```
///
/// Completes with the flow or with the first `Err`. An error and what was held back at that moment: the error wins.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::error::fail_fast;
///
/// # futures::executor::block_on(async {
/// let parsed = fail_fast(|scope| {
///     let numbers = iter(["1", "2", "x", "4"]).map(str::parse::<u32>);
///     scope.guard(numbers).map(|x| x * 10)
/// });
/// # use futures::StreamExt as _;
/// let seen = parsed.collect::<Vec<_>>().await;
/// assert_eq!(seen[..2], [Ok(10), Ok(20)]);
/// assert!(seen[2].is_err() && seen.len() == 3);
/// # });
/// ```
pub fn fail_fast<S: Stream, E>(build: impl FnOnce(&FailScope<E>) -> S) -> Flow<FailFast<S, E>> {
    let scope = FailScope::new();
    let flow = build(&scope);
    scope.ending(flow, Option::take)
}
