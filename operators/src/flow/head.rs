//! Where a flow begins.

use std::{fmt, marker::PhantomData};

use futures_core::Stream;

use super::Running;

/// Where a flow begins: a stream, an open input, or a keyed scope. There is no need to implement it: every stream has
/// it.
pub trait Head {
    /// What enters the chain.
    type Item;
    /// What a started flow remembers; `()` where it cannot start.
    type Run<St, T>;
    #[doc(hidden)]
    fn fresh<St, T>() -> Self::Run<St, T>;
    /// An operator was added, perhaps after the first poll.
    #[doc(hidden)]
    fn grow<St, T, St2, T2>(
        run: Self::Run<St, T>,
        grow: impl FnOnce(Running<St, T>) -> Running<St2, T2>,
    ) -> Self::Run<St2, T2>;
}

/// The head of a [`Chain`](crate::Chain): no source yet.
pub struct Open<In>(PhantomData<fn(In)>);

impl<In> Open<In> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<In> Clone for Open<In> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<In> fmt::Debug for Open<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

impl<In> Head for Open<In> {
    type Item = In;
    type Run<St, T> = ();

    fn fresh<St, T>() {}

    fn grow<St, T, St2, T2>((): (), _: impl FnOnce(Running<St, T>) -> Running<St2, T2>) {}
}

impl<S: Stream> Head for S {
    type Item = <S as Stream>::Item;
    type Run<St, T> = Running<St, T>;

    #[inline]
    fn fresh<St, T>() -> Running<St, T> {
        Running::fresh()
    }

    #[inline]
    fn grow<St, T, St2, T2>(
        run: Running<St, T>,
        grow: impl FnOnce(Running<St, T>) -> Running<St2, T2>,
    ) -> Running<St2, T2> {
        grow(run)
    }
}
