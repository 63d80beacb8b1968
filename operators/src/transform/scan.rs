//! `scan`: the running state after each item.

use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`scan`](Flow::scan).
#[derive(Clone, Copy, Debug)]
pub struct Scan<A, F> {
    seed: A,
    step: F,
}

impl<T, A: Clone, F: Fn(&mut A, T)> Operator<T> for Scan<A, F> {
    type Out = A;
    type State = A;

    #[inline]
    fn init(&self) -> A {
        self.seed.clone()
    }

    #[inline(always)]
    fn on_item(&self, state: &mut A, item: T, at: Timestamp, out: &mut impl FnMut(A, Timestamp)) {
        (self.step)(state, item);
        out(state.clone(), at);
    }

    // `A` cannot be compared with the seed.
    fn vacant(&self, _: &A) -> bool {
        false
    }
}

/// The operator of [`scan_first`](Flow::scan_first).
#[derive(Clone, Copy, Debug)]
pub struct ScanFirst<F>(F);

impl<T: Clone, F: Fn(T, T) -> T> Operator<T> for ScanFirst<F> {
    type Out = T;
    type State = Held<T>;

    #[inline]
    fn init(&self) -> Held<T> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, state: &mut Held<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        let next = match state.take() {
            Some(before) => (self.0)(before, item),
            None => item,
        };
        **state = Some(next.clone());
        out(next, at);
    }

    fn vacant(&self, state: &Held<T>) -> bool {
        state.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Folds each item into a state and gives out the state after each: a running sum, say. The seed itself does not
    /// come out.
    ///
    /// Not `futures`' `scan`, which maps each item beside a state and may end the stream.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// scan(0, +)
    /// out  --1--3--6--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the state and no item.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().scan(0, |sum, x: u32| *sum += x).run_now([1, 2, 3]), [1, 3, 6]);
    /// ```
    #[inline]
    pub fn scan<A: Clone, F: Fn(&mut A, O::Out)>(self, seed: A, step: F) -> Flow<S, Then<O, Scan<A, F>>> {
        self.apply(Scan { seed, step })
    }

    /// Like [`scan`](Flow::scan) with the first item for a seed; the first item comes out as it is.
    ///
    /// ```text
    /// in   --3--1--5--|
    /// scan_first(max)
    /// out  --3--3--5--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the state and no item.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().scan_first(u32::max).run_now([3, 1, 5]), [3, 3, 5]);
    /// ```
    #[inline]
    pub fn scan_first<F>(self, step: F) -> Flow<S, Then<O, ScanFirst<F>>>
    where
        O::Out: Clone,
        F: Fn(O::Out, O::Out) -> O::Out,
    {
        self.apply(ScanFirst(step))
    }
}
