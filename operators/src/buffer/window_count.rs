//! `window_count`: windows of n items, as they open, fill and close.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{built, count},
};

/// What happens to a window. Windows are numbered from 0 as they open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Window<T> {
    /// The window opened.
    Open(u64),
    /// An item came into the window.
    Item(u64, T),
    /// The window closed.
    Close(u64),
}

/// The operator of [`window_count`](Flow::window_count).
#[derive(Clone, Copy, Debug)]
pub struct WindowCount {
    size: NonZeroUsize,
    every: NonZeroUsize,
}

impl WindowCount {
    /// A window of `size` items, a new one every `every` items.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where one is zero.
    pub fn new(size: usize, every: usize) -> Result<Self, BuildError> {
        Ok(Self { size: count("window_count", "size", size)?, every: count("window_count", "step", every)? })
    }
}

/// What [`WindowCount`] remembers: which windows are open, and how many items came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCountState {
    /// The oldest window that is open.
    first: u64,
    /// The next window to open.
    next: u64,
    seen: u64,
}

impl WindowCountState {
    fn open<T>(&mut self, at: Timestamp, out: &mut impl FnMut(Window<T>, Timestamp)) {
        out(Window::Open(self.next), at);
        self.next += 1;
    }

    fn close<T>(&mut self, at: Timestamp, out: &mut impl FnMut(Window<T>, Timestamp)) {
        out(Window::Close(self.first), at);
        self.first += 1;
    }
}

impl<T: Clone> Operator<T> for WindowCount {
    type Out = Window<T>;
    type State = WindowCountState;

    fn init(&self) -> WindowCountState {
        WindowCountState { first: 0, next: 0, seen: 0 }
    }

    fn on_start(&self, state: &mut WindowCountState, at: Timestamp, out: &mut impl FnMut(Window<T>, Timestamp)) {
        state.open(at, out);
    }

    fn on_item(
        &self,
        state: &mut WindowCountState,
        item: T,
        at: Timestamp,
        out: &mut impl FnMut(Window<T>, Timestamp),
    ) {
        let (size, every) = (self.size.get() as u64, self.every.get() as u64);
        for window in state.first..state.next {
            out(Window::Item(window, item.clone()), at);
        }
        state.seen += 1;
        if state.seen >= size && (state.seen - size).is_multiple_of(every) {
            state.close(at, out);
        }
        if state.seen.is_multiple_of(every) {
            state.open(at, out);
        }
    }

    fn on_end(&self, state: &mut WindowCountState, at: Timestamp, out: &mut impl FnMut(Window<T>, Timestamp)) {
        while state.first < state.next {
            state.close(at, out);
        }
    }

    // A key that was forgotten would open its first window again.
    fn vacant(&self, _: &WindowCountState) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Tells what happens to windows of `size` items, of which a new one opens every `every` items: overlapping where
    /// `every` is less than `size`, with gaps where it is more. Whole windows as `Vec`s:
    /// [`buffer_count_every`](Flow::buffer_count_every).
    ///
    /// The next window opens as the step is complete, as in RxJS, so the last may be empty.
    ///
    /// ```text
    /// in   ----1------2-------------3-------|
    /// window_count(2, 2)
    /// out  +0--(0,1)--(0,2) -0 +1---(1,3)---|-1
    /// ```
    ///
    /// Completes with its input, after every window has closed. An `Err` is an item. An early drop loses nothing. Items
    /// in a gap are lost: that is its purpose.
    ///
    /// # Panics
    /// Where one is zero; [`WindowCount::new`] returns an error instead.
    ///
    /// ```
    /// use millstream_operators::{buffer::Window::{Close, Item, Open}, chain};
    ///
    /// let seen = chain().window_count(2, 2).run_now(['a', 'b']);
    /// assert_eq!(seen, [Open(0), Item(0, 'a'), Item(0, 'b'), Close(0), Open(1), Close(1)]);
    /// ```
    #[track_caller]
    pub fn window_count(self, size: usize, every: usize) -> Flow<S, Then<O, WindowCount>>
    where
        O::Out: Clone,
    {
        self.apply(built(WindowCount::new(size, every)))
    }
}
