//! Key-value storage: what handlers and plugins keep, by tenant, namespace and key.
//!
//! Promises: what a handler writes is written in the commit of its outcome, or not at all; a key that it has read and
//! writes was not written by anybody in between, or the attempt begins again; what is read is what was written last, on its
//! way to the store included. Knows tenants and the store; who commits is handed to it.

mod desk;
mod error;
mod handle;
mod scope;
mod shelf;
mod writes;

pub(crate) use self::{
    desk::Desk,
    handle::{Writer, Written},
    scope::Scope,
    shelf::Shelf,
    writes::{Stale, Writes},
};
pub use self::{
    error::StorageError,
    handle::{Expect, Storage},
};
