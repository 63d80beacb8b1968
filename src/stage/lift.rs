//! Retry has one owner: on a subscription it is the dispatcher, whose backoff holds no slot. A retry layer that is the
//! outermost one says what the dispatcher shall do; further in it would multiply attempts, so it is refused.

use std::any::{Any, type_name};

use millstream_middleware::retry::{Retry, RetryLayer};

use super::{HandlerError, Options};

/// Takes the policy out of a retry layer and leaves a layer that tries once; other layers stay as they are.
pub(super) fn lift<L: 'static>(layer: L, options: &mut Options) -> L {
    if options.is_lifted {
        options.buried_retry = Some("another layer is around it");
    }
    let any: &dyn Any = &layer;
    match any.downcast_ref::<RetryLayer<HandlerError>>() {
        None if type_name::<L>().contains("::RetryLayer<") => {
            options.buried_retry = Some("it is inside a stack of layers");
            layer
        }
        None => layer,
        Some(retry) if !retry.is_plain() => {
            options.buried_retry = Some("it has a budget or an observer, which are for services");
            layer
        }
        Some(retry) => {
            options.retry = retry.policy().clone();
            options.is_lifted = true;
            once().unwrap_or(layer)
        }
    }
}

/// A retry layer that never retries, if that is what an `L` is.
fn once<L: 'static>() -> Option<L> {
    let once: Box<dyn Any> = Box::new(RetryLayer::<HandlerError>::new(Retry::none()).ok()?);
    once.downcast().ok().map(|layer| *layer)
}
