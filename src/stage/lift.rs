//! Retry has one owner: on a subscription it is the dispatcher, whose backoff holds no slot. A retry layer that is the
//! outermost one says what the dispatcher shall do; further in it would multiply attempts, so it is refused.

use std::any::{Any, type_name};

use millstream_middleware::{
    Part, SettingError, hear,
    retry::{Retry, RetryIf, RetryLayer},
    tell,
};
use tower_layer::Layer;

use super::{HandlerError, Options, configure::Worn};

const AROUND: &str = "another layer is around it";

/// Takes the policy out of an outermost retry layer and leaves a layer that tries once; other layers stay as they are.
/// Whether it did.
pub(super) fn lift<L: 'static>(layer: L, options: &mut Options, goes_outside: bool) -> (L, bool) {
    if goes_outside && options.worn == Worn::Retry {
        options.buried_retry = Some(AROUND);
    }
    let is_outermost = goes_outside || options.worn == Worn::Nothing;
    if options.worn == Worn::Nothing {
        options.worn = Worn::Layers;
    }
    let once = match policy_of(&layer) {
        Some(Ok(policy)) if is_outermost => {
            options.retry = Some(policy);
            options.worn = Worn::Retry;
            once()
        }
        Some(Ok(_)) => {
            options.buried_retry = Some(AROUND);
            None
        }
        Some(Err(why)) => {
            options.buried_retry = Some(why);
            None
        }
        None => None,
    };
    match once {
        Some(once) => (once, true),
        None => (layer, false),
    }
}

/// The policy of a retry layer for handlers, or why it cannot be lifted; nothing where it is another layer.
pub(super) fn policy_of<L: 'static>(layer: &L) -> Option<Result<RetryIf<HandlerError>, &'static str>> {
    let layer: &RetryLayer<HandlerError> = (layer as &dyn Any).downcast_ref()?;
    let budgeted = "it has a budget or an observer, which are for services";
    Some(if layer.is_plain() { Ok(layer.policy().clone()) } else { Err(budgeted) })
}

/// A retry layer that never retries, if that is what an `L` is.
fn once<L: 'static>() -> Option<L> {
    let once: Box<dyn Any> = Box::new(RetryLayer::<HandlerError>::new(Retry::none()).ok()?);
    once.downcast().ok().map(|layer| *layer)
}

/// Applies a layer and sees to it that it tells what it is: a layer of another crate by the name of its type.
pub(super) fn told<S, L: Layer<S>>(layer: &L, inner: S) -> L::Service {
    let (service, heard) = hear(|| layer.layer(inner));
    let retries = is_foreign_retry(type_name::<L>());
    if retries || heard.is_empty() {
        let foreign = Part::new(short(type_name::<L>()));
        tell(|| if retries { foreign.repeating() } else { foreign });
    }
    // The innermost tells first.
    heard.into_iter().rev().for_each(|part| tell(|| part));
    service
}

/// Layers of other crates do not tell, so their types have to.
fn is_foreign_retry(name: &str) -> bool {
    name.replace("millstream_middleware::retry::layer::RetryLayer<", "").contains("RetryLayer<")
}

/// The type's own name: without its path and its parameters.
fn short(name: &'static str) -> &'static str {
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

/// What is to be said of a retry that cannot be lifted.
pub(crate) fn refused(why: &str) -> SettingError {
    let mend = "write it alone and first, or say `.retry(policy)` on the handler";
    SettingError::new("layer", format!("a retry layer would multiply the subscription's attempts: {why}; {mend}"))
}

/// A retry among layers that are applied, of which none can be lifted any more.
pub(crate) fn buried(layers: &[Part]) -> Option<SettingError> {
    let part = layers.iter().find(|part| part.repeats())?;
    let name = part.name();
    Some(refused(&if part.layers().is_empty() {
        format!("`{name}` is inside a stack of layers, or its errors are no `HandlerError`s")
    } else {
        format!("it is inside a stack of layers, `{name}` (of `Resilient`, take `attempt` instead of `build`)")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_of_another_crate_is_known_by_its_type_and_ours_is_not_taken_for_one() {
        assert!(is_foreign_retry("tower_layer::stack::Stack<tower::retry::layer::RetryLayer<P>, Identity>"));
        let ours = type_name::<RetryLayer<HandlerError>>();
        assert!(ours.contains("RetryLayer<") && !is_foreign_retry(ours), "{ours}");
        assert_eq!(short(ours), "RetryLayer");
    }
}
