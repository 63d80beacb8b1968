//! The layers of a runtime: outside of all that its handlers wear.

use std::{fmt, future::pending, sync::Arc};

use millstream_middleware::{
    SettingError,
    from_tower::{BoxCloneService, ServiceExt, service_fn},
    hear,
    retry::RetryIf,
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    BoxError, Delivery, HandlerError, IntoOutputs, Outputs,
    call::{Call, Caller, ServiceCall, contained},
    handler::from_layer,
    lift::{buried, policy_of, refused, told},
    outputs::outcome,
};

/// A handler of any kind with all that it wears: what the layers of a runtime wrap.
pub type BoxedHandler = BoxCloneService<Delivery, Outputs, HandlerError>;

type Wrap = dyn Fn(BoxedHandler) -> BoxedHandler + Send + Sync;

/// The layers of a runtime, outermost first, and the retry policy that was lifted out of them.
#[derive(Clone, Default)]
pub struct Outside {
    layers: Vec<Arc<Wrap>>,
    retry: Option<RetryIf<HandlerError>>,
    buried: Option<&'static str>,
}

impl Outside {
    /// Adds a layer inside of those before it. A plain retry layer that is the first becomes the default policy.
    pub(crate) fn add<L>(&mut self, layer: L)
    where
        L: Layer<BoxedHandler> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        let is_outermost = self.layers.is_empty() && self.retry.is_none();
        match policy_of(&layer) {
            Some(Ok(policy)) if is_outermost => self.retry = Some(policy),
            Some(Ok(_)) => self.buried = Some("another layer is around it"),
            Some(Err(why)) => self.buried = Some(why),
            None => self.layers.push(Arc::new(move |inner| boxed(told(&layer, inner)))),
        }
    }

    /// The policy of subscriptions that have none of their own.
    pub(crate) fn retry(&self) -> Option<&RetryIf<HandlerError>> {
        self.retry.as_ref()
    }

    /// Why these layers cannot be. They are applied once, to hear what they are.
    pub(crate) fn refused(&self) -> Vec<SettingError> {
        let nobody = service_fn(|_: Delivery| pending::<Result<Outputs, HandlerError>>());
        // A layer that cannot be made here and now panics where a handler wears it, too, and is heard there.
        let (_, heard) = hear(|| contained(|| drop(self.wrap(BoxCloneService::new(nobody)))));
        let policy = self.retry.as_ref().and_then(|retry| retry.policy().check().err()).into_iter().flatten();
        policy.chain(self.buried.map(refused)).chain(buried(&heard)).collect()
    }

    fn wrap(&self, handler: BoxedHandler) -> BoxedHandler {
        self.layers.iter().rev().fold(handler, |inner, layer| layer(inner))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// A service as the dispatcher calls it, with these layers around it.
    pub(super) fn dress<S>(&self, service: S) -> Box<dyn Call>
    where
        S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        if self.is_empty() {
            return Box::new(Caller::new(ServiceCall(service)));
        }
        Box::new(Caller::new(ServiceCall(self.wrap(boxed(service)))))
    }
}

fn boxed<S>(service: S) -> BoxedHandler
where
    S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let fails_alike = service.map_err(from_layer);
    BoxCloneService::new(fails_alike.map_result(|result: Result<S::Response, HandlerError>| outcome(result)))
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("layers", &self.layers.len())
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
