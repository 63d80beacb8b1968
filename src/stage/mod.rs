//! Stages: what takes an event and returns events. A handler is one; layers wrap it; a stream's end is one too.
//!
//! Promises: a stage returns what it emits and never pushes into the queue that feeds it; a panic is an error of that
//! one event; a handler is a `tower::Service`, so any tower layer fits. Knows events, the intake (to hand out handles)
//! and the middleware's policies; no dispatcher.

mod blocking;
mod call;
mod configure;
mod context;
mod current;
mod delivery;
mod error;
mod extract;
mod handler;
mod layered;
mod lift;
mod outputs;
mod outside;
mod spawned;

pub use self::{
    blocking::{Blocking, blocking},
    configure::{Configured, Share, Start},
    context::{Context, Handle},
    delivery::Delivery,
    error::{BoxError, HandlerError},
    extract::{Extract, Json, Requirements, State},
    handler::{Handler, HandlerFuture, HandlerService},
    layered::{Inside, Layered, LayeredFuture},
    outputs::{IntoOutputs, Outcome, Outputs},
    outside::BoxedHandler,
    spawned::{SpawnLayer, Spawned, SpawnedFuture},
};
pub(crate) use self::{
    call::{Call, Parked, Started, contained},
    configure::{Options, Order, Since},
    current::{cause_at, lend},
    delivery::Site,
    extract::Extensions,
    lift::buried,
    outside::Outside,
};
