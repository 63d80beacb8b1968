//! `buffer_count`: every n items, overlapping or with gaps too.

use std::{collections::VecDeque, num::NonZeroUsize};

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{built, count},
};

/// The most that a buffer reserves ahead of its items.
const RESERVE: usize = 1_024;

/// The operator of [`buffer_count`](Flow::buffer_count).
#[derive(Clone, Copy, Debug)]
pub struct BufferCount {
    size: NonZeroUsize,
    every: NonZeroUsize,
}

impl BufferCount {
    /// `size` items from every `every`th on.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where one is zero.
    pub fn new(size: usize, every: usize) -> Result<Self, BuildError> {
        Ok(Self { size: count("buffer_count", "size", size)?, every: count("buffer_count", "step", every)? })
    }
}

/// What [`BufferCount`] remembers: the open buffers, and how many items until the next opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferCountState<T> {
    oldest: Option<Vec<T>>,
    younger: VecDeque<Vec<T>>,
    until_next: usize,
}

impl<T: Clone> Operator<T> for BufferCount {
    type Out = Vec<T>;
    type State = BufferCountState<T>;

    fn init(&self) -> BufferCountState<T> {
        BufferCountState { oldest: None, younger: VecDeque::new(), until_next: 0 }
    }

    #[inline]
    fn on_item(
        &self,
        state: &mut BufferCountState<T>,
        item: T,
        at: Timestamp,
        out: &mut impl FnMut(Vec<T>, Timestamp),
    ) {
        if state.until_next == 0 {
            state.until_next = self.every.get();
            let fresh = Vec::with_capacity(self.size.get().min(RESERVE));
            match state.oldest {
                None => state.oldest = Some(fresh),
                Some(_) => state.younger.push_back(fresh),
            }
        }
        state.until_next -= 1;
        if !state.younger.is_empty() {
            state.younger.iter_mut().for_each(|buffer| buffer.push(item.clone()));
        }
        let Some(oldest) = &mut state.oldest else { return };
        oldest.push(item);
        if oldest.len() >= self.size.get() {
            let full = std::mem::take(oldest);
            state.oldest = state.younger.pop_front();
            out(full, at);
        }
    }

    fn on_end(&self, state: &mut BufferCountState<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        for buffer in state.oldest.take().into_iter().chain(state.younger.drain(..)) {
            out(buffer, at);
        }
    }

    fn vacant(&self, state: &BufferCountState<T>) -> bool {
        state.oldest.is_none() && state.until_next == 0
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gathers each `size` items into one `Vec`.
    ///
    /// ```text
    /// in   --1--2--3--4--5--|
    /// buffer_count(2)
    /// out  -----[1,2]-[3,4]-[5]|
    /// ```
    ///
    /// Completes with its input, after what there is. An `Err` is an item. An early drop loses what was gathered.
    ///
    /// # Panics
    /// Where `size` is zero; [`BufferCount::new`] returns an error instead.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().buffer_count(2).run_now([1, 2, 3, 4, 5]), [vec![1, 2], vec![3, 4], vec![5]]);
    /// ```
    #[track_caller]
    pub fn buffer_count(self, size: usize) -> Flow<S, Then<O, BufferCount>>
    where
        O::Out: Clone,
    {
        self.apply(built(BufferCount::new(size, size)))
    }

    /// The same as [`buffer_count`](Flow::buffer_count), under the name that `futures` gives it.
    ///
    /// # Panics
    /// Where `size` is zero.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().chunks(2).run_now([1, 2, 3]), [vec![1, 2], vec![3]]);
    /// ```
    #[track_caller]
    pub fn chunks(self, size: usize) -> Flow<S, Then<O, BufferCount>>
    where
        O::Out: Clone,
    {
        self.buffer_count(size)
    }

    /// Gathers `size` items from every `every`th item on: overlapping where `every` is less than `size`, with gaps where
    /// it is more.
    ///
    /// ```text
    /// in   --1--2--3------4------|
    /// buffer_count_every(3, 1)
    /// out  --------[1,2,3][2,3,4][3,4][4]|
    /// ```
    ///
    /// Completes with its input, after the open buffers, oldest first. An `Err` is an item. An early drop loses what was
    /// gathered. Items in a gap are lost: that is its purpose.
    ///
    /// # Panics
    /// Where one is zero; [`BufferCount::new`] returns an error instead.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// let sliding = chain().buffer_count_every(2, 1);
    /// assert_eq!(sliding.run_now([1, 2, 3]), [vec![1, 2], vec![2, 3], vec![3]]);
    /// ```
    #[track_caller]
    pub fn buffer_count_every(self, size: usize, every: usize) -> Flow<S, Then<O, BufferCount>>
    where
        O::Out: Clone,
    {
        self.apply(built(BufferCount::new(size, every)))
    }
}
