//! `reduce`: one item of all.

use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`reduce`](Flow::reduce).
#[derive(Clone, Copy, Debug)]
pub struct Reduce<F>(F);

impl<T, F: Fn(T, T) -> T> Operator<T> for Reduce<F> {
    type Out = T;
    type State = Held<T>;

    #[inline]
    fn init(&self) -> Held<T> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, state: &mut Held<T>, item: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        **state = Some(match state.take() {
            Some(before) => (self.0)(before, item),
            None => item,
        });
    }

    fn on_end(&self, state: &mut Held<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some(all) = state.take() {
            out(all, at);
        }
    }

    fn vacant(&self, state: &Held<T>) -> bool {
        state.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Folds all items into one, the first being the seed; it comes out when the input ends. An input without items
    /// gives nothing.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// reduce(+)
    /// out  -----------6|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the state.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().reduce(|a: u32, b| a + b).run_now([1, 2, 3]), [6]);
    /// ```
    #[inline]
    pub fn reduce<F: Fn(O::Out, O::Out) -> O::Out>(self, step: F) -> Flow<S, Then<O, Reduce<F>>> {
        self.apply(Reduce(step))
    }
}
