//! `filter`: only the items that pass.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`filter`](Flow::filter).
#[derive(Clone, Copy, Debug)]
pub struct Filter<F>(F);

impl<T, F: Fn(&T) -> bool> Operator<T> for Filter<F> {
    type Out = T;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if (self.0)(&item) {
            out(item, at);
        }
    }

    #[inline]
    fn select(&self, mut items: Vec<T>) -> Vec<T> {
        if std::mem::needs_drop::<T>() || size_of::<T>() > 16 {
            items.retain(&self.0);
            return items;
        }
        // Without a branch on the answer: what passes is swapped to the front, in order.
        let mut kept = 0;
        for i in 0..items.len() {
            let passes = (self.0)(&items[i]);
            items.swap(kept, i);
            kept += usize::from(passes);
        }
        items.truncate(kept);
        items
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Lets only those items pass for which `f` is true.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// filter(even)
    /// out  -----2-----4--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; holds nothing back, so an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().filter(|x| x % 2 == 0).run_now([1, 2, 3, 4]), [2, 4]);
    /// ```
    #[inline]
    pub fn filter<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, Filter<F>>> {
        self.apply(Filter(f))
    }
}
