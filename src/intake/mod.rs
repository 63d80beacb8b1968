//! Where events enter: emit, its refusals and receipts, the queue under its lock, and the books.
//!
//! Promises: `Ok` means accepted and counted; whatever is refused comes back; the books balance at every moment, for
//! all that they count changes under one lock. Knows events, requests, the
//! queue, tenants and the store; no handler.

mod accept;
mod append;
mod books;
mod cause;
mod door;
mod emit;
mod error;
mod exchange;
mod landing;
mod log_side;
mod loops;
mod observe;
mod prepare;
mod pump;
mod receipt;
mod request;
mod room;
mod state;
mod types;

#[cfg(feature = "testing")]
pub use self::observe::What;
#[cfg(not(feature = "testing"))]
pub(crate) use self::observe::What;
pub(crate) use self::{
    append::{Group, Once},
    books::{DispatchBook, Tally},
    cause::{Cause, FindCause, Handling, Seat},
    door::{Intake, Limits},
    exchange::{NotWritten, Outlook, Settlement},
    landing::{Landing, Outcome, Teller},
    log_side::{Landed, LogSide, Shore, Told},
    loops::Roots,
    observe::{Observer, Step},
    prepare::Prepared,
    pump::{Interest, MARK, Pump, Stored, chain, class_of, record},
    room::{Granted, Waiter, Waiting},
    state::{Held, Origin, Phase, Pulled, Saturated, State},
    types::{EventType, Types},
};
pub use self::{
    books::{DeliveryBook, Drops, EventBook},
    error::{Advice, EmitAllError, EmitError, Refusal},
    receipt::{Fate, PersistError, Persisted, Receipt},
    request::RequestError,
};
