use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::layer::Seen;
use crate::future::{Ending, Refusable};
use crate::key::Key;

/// The future of [`Dedupe`](super::Dedupe).
pub type DedupeFuture<K, F, E> = Refusable<Remembered<K, F>, E>;

pin_project! {
    /// A call whose key is forgotten unless it succeeds.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Remembered<K: Key, F> {
        #[pin]
        call: Ending<F>,
        mark: Mark<K>,
    }
}

impl<K: Key, F> Remembered<K, F> {
    pub(super) const fn new(future: F, mark: Mark<K>) -> Self {
        Self { call: Ending::running(future), mark }
    }
}

impl<K, F, T, E> Future for Remembered<K, F>
where
    K: Key,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.call.poll(cx));
        this.mark.end(output.is_ok());
        Poll::Ready(output)
    }
}

/// The key of a call that runs; forgotten when dropped.
pub(super) struct Mark<K: Key> {
    seen: Option<Arc<Seen<K>>>,
    key: K,
    call: u64,
}

impl<K: Key> Mark<K> {
    pub(super) fn new(seen: &Arc<Seen<K>>, key: K, call: u64) -> Self {
        Self { seen: Some(Arc::clone(seen)), key, call }
    }

    fn end(&mut self, remember: bool) {
        if let Some(seen) = self.seen.take()
            && !remember
        {
            seen.forget(&self.key, self.call);
        }
    }
}

impl<K: Key> Drop for Mark<K> {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl<K: Key> fmt::Debug for Mark<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mark").finish_non_exhaustive()
    }
}
