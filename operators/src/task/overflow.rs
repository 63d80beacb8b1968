//! What becomes of an item that finds a buffer full.

use std::collections::VecDeque;

/// What an [`Overflow`] decided about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full<T> {
    /// The item waits, and the source with it, until there is room.
    Wait(T),
    /// The buffer was changed instead; this many items were lost.
    Lost(u64),
    /// The stream fails.
    Fail,
}

/// The policy of a buffer that is full: [`Wait`], [`DropNewest`], [`DropOldest`], [`Conflate`], [`Fail`], or your own.
pub trait Overflow<T> {
    /// What comes out of the buffer.
    type Out;
    /// `item` came, and the buffer, which is not empty, is full. It must not grow.
    fn full(&mut self, buffer: &mut VecDeque<T>, item: T) -> Full<T>;
    /// An item leaves the buffer.
    fn out(item: T) -> Self::Out;
    /// What comes out last where the stream failed.
    fn failed() -> Option<Self::Out> {
        None
    }
}

/// The source waits until there is room. Nothing is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait;

impl<T> Overflow<T> for Wait {
    type Out = T;

    fn full(&mut self, _: &mut VecDeque<T>, item: T) -> Full<T> {
        Full::Wait(item)
    }

    fn out(item: T) -> T {
        item
    }
}

/// The item that came is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropNewest;

impl<T> Overflow<T> for DropNewest {
    type Out = T;

    fn full(&mut self, _: &mut VecDeque<T>, _: T) -> Full<T> {
        Full::Lost(1)
    }

    fn out(item: T) -> T {
        item
    }
}

/// The item that waited longest is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropOldest;

impl<T> Overflow<T> for DropOldest {
    type Out = T;

    fn full(&mut self, buffer: &mut VecDeque<T>, item: T) -> Full<T> {
        buffer.pop_front();
        buffer.push_back(item);
        Full::Lost(1)
    }

    fn out(item: T) -> T {
        item
    }
}

/// The item that came is merged into the newest that waits, by a function of both: a sum, the later of two.
#[derive(Clone, Copy, Debug)]
pub struct Conflate<F>(pub F);

impl<T, F: FnMut(T, T) -> T> Overflow<T> for Conflate<F> {
    type Out = T;

    fn full(&mut self, buffer: &mut VecDeque<T>, item: T) -> Full<T> {
        let merged = match buffer.pop_back() {
            Some(newest) => (self.0)(newest, item),
            None => item,
        };
        buffer.push_back(merged);
        Full::Lost(0)
    }

    fn out(item: T) -> T {
        item
    }
}

/// A buffer was full, and its policy was [`Fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the buffer was full")]
pub struct OverflowError;

/// The stream fails: what waits comes out in `Ok`, then an [`OverflowError`], and the source is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fail;

impl<T> Overflow<T> for Fail {
    type Out = Result<T, OverflowError>;

    fn full(&mut self, _: &mut VecDeque<T>, _: T) -> Full<T> {
        Full::Fail
    }

    fn out(item: T) -> Self::Out {
        Ok(item)
    }

    fn failed() -> Option<Self::Out> {
        Some(Err(OverflowError))
    }
}
