//! A request is checked before the service sees it, and what was parsed is what the service gets.
//!
//! | rule | request | the service gets |
//! | --- | --- | --- |
//! | [`check`], a closure | `R` | the same `R` |
//! | [`parse`], a closure | `R` | what the closure made of it |
//! | `typed`, feature `garde` | `R: garde::Validate` | the same `R` |
//! | `Schema`, feature `jsonschema` | a JSON value | the same value |
//! | `Schema::into`, the same | a JSON value | a type, by serde |
//!
//! [`Invalid`] lists every violation with its path, not the first alone; its kind is
//! [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), which is not retried. An error of the service passes as it is.
//!
//! Where the request is more than its data, a closure takes the data out: `check(move |delivery: &Delivery| …)`, with
//! `Schema::check` for JSON.
//!
//! What becomes of an invalid request is a policy:
//!
//! | policy | how |
//! | --- | --- |
//! | fail (default) | the caller gets [`Invalid`] |
//! | dead-letter | [`DeadLetterLayer`](crate::dead_letter::DeadLetterLayer) with `.kinds([ErrorKind::Invalid])` outside |
//! | skip | [`SkipLayer::<Invalid>`](crate::fallback::SkipLayer) outside: an empty answer, counted |
//!
//! ```
//! use millstream_middleware::{BoxError, validate::{Invalid, ValidateLayer, parse}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let number = parse(|text: &String| text.parse::<u32>().map_err(|error| Invalid::at("/", error)));
//! let service = ValidateLayer::new(number).layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
//! assert_eq!(service.clone().oneshot("41".to_owned()).await?, 42);
//! assert_eq!(service.oneshot("x".to_owned()).await.unwrap_err().to_string(), "invalid: /: invalid digit found in string");
//! # Ok::<(), BoxError>(())
//! # }).unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```

mod error;
mod rule;
#[cfg(feature = "jsonschema")]
mod schema;
mod service;
#[cfg(feature = "garde")]
mod typed;

pub use error::{Invalid, Violation};
pub use rule::{Check, Parse, Rule, check, parse};
#[cfg(feature = "jsonschema")]
pub use schema::{Schema, SchemaInto};
pub use service::{Validate, ValidateLayer};
#[cfg(feature = "garde")]
pub use typed::{Typed, typed};
