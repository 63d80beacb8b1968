//! What failed for good is kept, with its request, before the error goes back.
//!
//! Stand it *outside* retry, so that only the last failure is buried. The caller still gets the error: burying is not
//! handling. The request is cloned at each call, so it should be cheap to clone.
//!
//! | setting | default |
//! | --- | --- |
//! | sink | as given: a [`DeadLetters`], or a bounded `tokio::sync::mpsc::Sender` of [`Letter`]s |
//! | [`kinds`](DeadLetterLayer::kinds), errors that are buried | every kind |
//! | a sink that is full | the letter is lost, and counted: [`lost`](DeadLetterLayer::lost) |

mod future;
mod layer;
mod service;
mod sink;

pub use future::DeadLetterFuture;
pub use layer::DeadLetterLayer;
pub use service::DeadLettering;
pub use sink::{DeadLetters, Letter};
