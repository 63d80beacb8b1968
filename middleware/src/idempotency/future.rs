use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::store::{AnswerStore, Token};

pin_project! {
    /// The future of [`Idempotency`](super::Idempotency).
    #[must_use = "futures do nothing unless polled"]
    pub struct IdempotencyFuture<F, T, E> {
        #[pin]
        state: State<F, T, E>,
    }
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

pin_project! {
    #[project = StateProjection]
    enum State<F, T, E> {
        Passing { #[pin] future: F },
        Keyed { future: Boxed<T, E> },
    }
}

impl<F, T, E> IdempotencyFuture<F, T, E> {
    pub(super) const fn passing(future: F) -> Self {
        Self { state: State::Passing { future } }
    }

    pub(super) fn keyed(future: impl Future<Output = Result<T, E>> + Send + 'static) -> Self {
        Self { state: State::Keyed { future: Box::pin(future) } }
    }
}

impl<F, T, E> Future for IdempotencyFuture<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passing { future } => future.poll(cx),
            StateProjection::Keyed { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, T, E> fmt::Debug for IdempotencyFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyed = matches!(self.state, State::Keyed { .. });
        f.debug_struct("IdempotencyFuture").field("keyed", &keyed).finish_non_exhaustive()
    }
}

/// A key that a call holds; given up when dropped.
pub(super) struct Held<'a, K, T, A: AnswerStore<K, T>> {
    store: Option<&'a A>,
    key: &'a K,
    token: Token,
    answers: PhantomData<fn() -> T>,
}

impl<'a, K, T, A: AnswerStore<K, T>> Held<'a, K, T, A> {
    pub(super) const fn new(store: &'a A, key: &'a K, token: Token) -> Self {
        Self { store: Some(store), key, token, answers: PhantomData }
    }

    /// The call has succeeded: the key is not given up.
    pub(super) fn keep(mut self) {
        self.store = None;
    }
}

impl<K, T, A: AnswerStore<K, T>> Drop for Held<'_, K, T, A> {
    fn drop(&mut self) {
        if let Some(store) = self.store {
            store.give_up(self.key, self.token);
        }
    }
}
