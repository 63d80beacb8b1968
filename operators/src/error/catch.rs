//! `catch`: another stream in place of an error.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{Flow, Operator, flow};

pin_project! {
    /// The stream of [`catch`](Flow::catch).
    #[derive(Debug)]
    pub struct Catch<S, B, F> {
        #[pin]
        source: Option<S>,
        #[pin]
        fallback: Option<B>,
        make: Option<F>,
    }
}

impl<S, B, F, T, E, E2> Stream for Catch<S, B, F>
where
    S: Stream<Item = Result<T, E>>,
    B: Stream<Item = Result<T, E2>>,
    F: FnOnce(E) -> B,
{
    type Item = Result<T, E2>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if let Some(source) = this.source.as_mut().as_pin_mut() {
            match ready!(source.poll_next(cx)) {
                Some(Ok(item)) => return Poll::Ready(Some(Ok(item))),
                Some(Err(error)) => {
                    this.source.set(None);
                    this.fallback.set(this.make.take().map(|make| make(error)));
                }
                None => this.source.set(None),
            }
        }
        let Some(fallback) = this.fallback.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = ready!(fallback.poll_next(cx));
        if item.is_none() {
            this.fallback.set(None);
        }
        Poll::Ready(item)
    }
}

impl<S, O, T, E> Flow<S, O>
where
    S: Stream,
    O: Operator<S::Item, Out = Result<T, E>>,
{
    /// Takes the first `Err` for the end of this flow and goes on with the stream that `f` makes of it. An `Err` of that
    /// stream is an item.
    ///
    /// ```text
    /// in        --1--2--Err
    /// fallback          --8--9--|
    /// catch
    /// out       --1--2----8--9--|
    /// ```
    ///
    /// Completes with its input or with the fallback. The source is dropped with its first `Err`. An early drop loses
    /// nothing.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let items = flow(iter([Ok(1), Err("oh"), Ok(3)])).catch(|_| iter([Ok::<_, &str>(8)]));
    /// assert_eq!(items.collect::<Vec<_>>().await, [Ok(1), Ok(8)]);
    /// # });
    /// ```
    pub fn catch<B, E2, F>(self, f: F) -> Flow<Catch<Self, B, F>>
    where
        B: Stream<Item = Result<T, E2>>,
        F: FnOnce(E) -> B,
    {
        flow(Catch { source: Some(self), fallback: None, make: Some(f) })
    }
}
