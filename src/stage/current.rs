//! The current delivery: the one whose handler is polled on this thread. It lets an emit on a captured runtime know its
//! cause, and a wait inside a handler know that it would wait for itself.
//!
//! While a handler is polled its delivery lies in a thread-local, and the handler borrows it from there: nothing is
//! counted or copied for it. A handler may poll another runtime, whose handlers then run inside of it; each runtime finds
//! its own.

use std::{
    cell::{Cell, RefCell},
    mem::ManuallyDrop,
};

use super::Delivery;
use crate::intake::{Cause, Handling};

thread_local! {
    /// The outermost one. Not dropped with its thread, which saves a look at each use: it is empty by then.
    static OUTERMOST: ManuallyDrop<RefCell<Option<Delivery>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// Those inside of it, innermost last.
    static INNER: RefCell<Vec<Delivery>> = const { RefCell::new(Vec::new()) };
    /// How many are inside of it: without any, nobody looks for them.
    static DEEP: Cell<usize> = const { Cell::new(0) };
}

/// Makes a delivery, the current one while its handler is polled, and gives back what is wanted of it. Made where it lies
/// and not moved: what is only just written is slow to copy.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the delivery is made in its place")]
#[expect(clippy::expect_used, reason = "nobody takes out what is borrowed")]
pub(crate) fn lend<R>(
    make: impl FnOnce() -> Delivery,
    poll: impl FnOnce(&Delivery),
    give_back: impl FnOnce(Delivery) -> R,
) -> R {
    OUTERMOST.with(|place| {
        match place.try_borrow_mut() {
            // A panic of the engine's own may have left another one there.
            Ok(mut place) => *place = Some(make()),
            Err(_) => return give_back(lend_inside(make(), poll)),
        }
        let handling = Handling::begin();
        poll(place.borrow().as_ref().expect("the delivery is where it was put"));
        drop(handling);
        give_back(place.take().expect("the delivery is where it was put"))
    })
}

#[cold]
fn lend_inside(delivery: Delivery, poll: impl FnOnce(&Delivery)) -> Delivery {
    /// Takes the innermost out again, even where the poll panics.
    struct Inside(Handling);

    impl Drop for Inside {
        fn drop(&mut self) {
            DEEP.set(DEEP.get() - 1);
            drop(INNER.with_borrow_mut(Vec::pop));
        }
    }

    INNER.with_borrow_mut(|inner| inner.push(delivery.clone()));
    DEEP.set(DEEP.get() + 1);
    let inside = Inside(Handling::begin());
    poll(&delivery);
    drop(inside);
    delivery
}

/// What the handler that a runtime polls on this thread causes, if there is one: of that runtime, the innermost.
pub(crate) fn cause_at(intake: usize) -> Option<Cause> {
    let is_its = |delivery: &&Delivery| delivery.site.seat.intake == intake;
    let of_inner = || INNER.with_borrow(|inner| inner.iter().rev().find(is_its).map(Delivery::to_cause));
    let inner = (DEEP.get() > 0).then(of_inner).flatten();
    inner.or_else(|| OUTERMOST.with(|place| place.borrow().as_ref().filter(is_its).map(Delivery::to_cause)))
}
