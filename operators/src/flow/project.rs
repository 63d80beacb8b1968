//! The pin projection of [`Flow`], by hand: a macro's would put its source into users' error notes.
#![expect(unsafe_code, reason = "a pin projection: the head is pinned, the operator and its state are not")]

use std::pin::Pin;

use super::{Flow, Head};
use crate::Operator;

/// A pinned flow, taken apart.
pub(super) struct Parts<'a, S: Head, O: Operator<S::Item>> {
    pub(super) head: Pin<&'a mut S>,
    pub(super) operator: &'a O,
    pub(super) run: &'a mut S::Run<O::State, O::Out>,
}

// Only the head is ever pinned, so it alone decides.
impl<S: Head + Unpin, O: Operator<S::Item>> Unpin for Flow<S, O> {}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    #[inline]
    pub(super) fn project(self: Pin<&mut Self>) -> Parts<'_, S, O> {
        // SAFETY: `head` is structurally pinned: nothing moves it out of a pinned flow (`Flow` has no `Drop`, is not
        // `packed`, and every method that takes it apart takes it by value, so unpinned), and `Flow: Unpin` only
        // where the head is. `operator` and `run` are never handed out pinned.
        let this = unsafe { self.get_unchecked_mut() };
        Parts {
            // SAFETY: as above: `head` stays where it is for as long as the flow is pinned.
            head: unsafe { Pin::new_unchecked(&mut this.head) },
            operator: &this.operator,
            run: &mut this.run,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        marker::PhantomPinned,
        pin::{Pin, pin},
        task::{Context, Poll},
    };

    use futures_core::Stream;

    use crate::flow;

    /// Says where it is: a pinned stream must not move between polls.
    struct Address(PhantomPinned, u8);

    impl Stream for Address {
        type Item = usize;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<usize>> {
            Poll::Ready(Some(std::ptr::from_ref(&self.1).addr()))
        }
    }

    #[test]
    fn a_pinned_head_stays_where_it_is() {
        futures::executor::block_on(async {
            let mut flow = pin!(flow(Address(PhantomPinned, 0)).map(|at| at).filter(|_| true));
            let first = poll_fn(|cx| flow.as_mut().poll_next(cx)).await;
            let second = poll_fn(|cx| flow.as_mut().poll_next(cx)).await;
            assert_eq!(first, second);
        });
    }

    #[test]
    fn a_flow_moves_freely_where_its_head_does() {
        fn unpin<T: Unpin>(_: &T) {}
        unpin(&flow(futures::stream::iter([1])).map(|x| x));
    }
}
