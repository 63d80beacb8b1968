//! The RxJS vectors: what a case is, and how it is run through flows and through chains.

pub(crate) mod case;
pub(crate) mod chains;
pub(crate) mod flows;
pub(crate) mod functions;
pub(crate) mod ports;
pub(crate) mod pure;
pub(crate) mod timeline;
