//! A handler behind tower layers.

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{self, Poll, ready},
};

use millstream_middleware::hear;
use pin_project_lite::pin_project;
use tower_layer::{Identity, Layer};
use tower_service::Service;

use super::{
    BoxError, Delivery, Handler, HandlerService, IntoOutputs, Options, Outcome, Requirements, SpawnLayer,
    call::Call,
    handler::from_layer,
    lift::{lift, told},
    outputs::outcome,
    outside::Outside,
};

/// A handler and its layers, outermost first as written; made by [`Handler::layer`] and [`Handler::spawned`].
///
/// It has the options of a [`Handler`], and keeps its layers apart from the handler, so that a further layer goes inside
/// of those before it, whatever is set in between.
pub struct Layered<H, L, Args> {
    core: HandlerService<H, Args>,
    layers: L,
    /// The whole as a service, for whoever calls it other than by [`dress`](Handler::dress): made once and from then on only cloned.
    /// Its type is known where all layers are; the lock makes one that is not `Sync` shareable.
    service: Mutex<Option<Box<dyn Any + Send>>>,
    options: Options,
}

/// A layer inside of those that were written before it.
#[derive(Clone, Debug)]
pub struct Inside<L, Outer> {
    layer: L,
    outer: Outer,
    /// It stands for a policy that the dispatcher has taken over, and is no layer to be shown.
    is_lifted: bool,
}

impl<S, L: Layer<S>, Outer: Layer<L::Service>> Layer<S> for Inside<L, Outer> {
    type Service = Outer::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.outer.layer(if self.is_lifted { hear(|| self.layer.layer(inner)).0 } else { told(&self.layer, inner) })
    }
}

impl<H, L: 'static, Args> Layered<H, Inside<L, Identity>, Args> {
    /// The first layer of a handler, outside of all that it may wear already.
    pub(super) fn around(core: HandlerService<H, Args>, layer: L, mut options: Options) -> Self {
        let is_outermost = true;
        let (layer, is_lifted) = lift(layer, &mut options, is_outermost);
        Self::new(core, Inside { layer, outer: Identity::new(), is_lifted }, options)
    }

    /// The first layer, where it is none of those that an outermost retry must be outside of.
    pub(super) fn within(core: HandlerService<H, Args>, layer: L, options: Options) -> Self {
        Self::new(core, Inside { layer, outer: Identity::new(), is_lifted: false }, options)
    }
}

impl<H, L, Args> Layered<H, L, Args> {
    fn new(core: HandlerService<H, Args>, layers: L, options: Options) -> Self {
        Self { core, layers, service: Mutex::new(None), options }
    }

    /// Adds a tower layer inside of those before it; see [`Handler::layer`].
    pub fn layer<N: 'static>(self, layer: N) -> Layered<H, Inside<N, L>, Args> {
        let Self { core, layers, mut options, .. } = self;
        let (layer, is_lifted) = lift(layer, &mut options, false);
        Layered::new(core, Inside { layer, outer: layers, is_lifted }, options)
    }

    /// Runs what is inside of the layers before it as a task; see [`Handler::spawned`].
    pub fn spawned(self) -> Layered<H, Inside<SpawnLayer, L>, Args> {
        let Self { core, layers, options, .. } = self;
        Layered::new(core, Inside { layer: SpawnLayer, outer: layers, is_lifted: false }, options)
    }

    pub(super) fn set(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }
}

#[diagnostic::do_not_recommend]
impl<H, L, Args> Handler<Args> for Layered<H, L, Args>
where
    H: Handler<Args>,
    L: Layer<HandlerService<H, Args>> + Send + 'static,
    L::Service: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
    <L::Service as Service<Delivery>>::Future: Send + 'static,
    Args: 'static,
{
    type Future = LayeredFuture<L::Service>;

    fn call(&self, delivery: Delivery) -> Self::Future {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        let service = service.get_or_insert_with(|| Box::new(self.layers.layer(self.core.clone())));
        #[expect(clippy::expect_used, reason = "nothing else is ever put there")]
        let service = service.downcast_ref::<L::Service>().expect("it is what these layers make").clone();
        LayeredFuture::new(service, delivery)
    }

    fn requirements(&self) -> Requirements {
        self.core.with(H::requirements)
    }

    fn most_outputs(&self) -> Option<usize> {
        self.core.with(H::most_outputs)
    }

    fn options(&self) -> Options {
        self.options.clone()
    }

    fn dress(self, outside: &Outside) -> Box<dyn Call> {
        outside.dress(self.layers.layer(self.core))
    }
}

impl<H, L, Args> fmt::Debug for Layered<H, L, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("options", &self.options).finish_non_exhaustive()
    }
}

pin_project! {
    /// One attempt through layers: waits until the service is ready, then calls that same clone of it.
    pub struct LayeredFuture<S: Service<Delivery>> {
        #[pin]
        stage: Stage<S, S::Future>,
    }
}

pin_project! {
    #[project = StageProjected]
    enum Stage<S, F> {
        Waiting { service: S, delivery: Option<Delivery> },
        Called { #[pin] future: F },
    }
}

impl<S: Service<Delivery>> LayeredFuture<S> {
    pub(super) fn new(service: S, delivery: Delivery) -> Self {
        Self { stage: Stage::Waiting { service, delivery: Some(delivery) } }
    }
}

impl<S> Future for LayeredFuture<S>
where
    S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let mut stage = self.project().stage;
        loop {
            let future = match stage.as_mut().project() {
                StageProjected::Called { future } => {
                    let response = ready!(future.poll(cx)).map_err(from_layer)?;
                    return Poll::Ready(outcome(response));
                }
                StageProjected::Waiting { service, delivery } => {
                    ready!(service.poll_ready(cx)).map_err(from_layer)?;
                    let Some(delivery) = delivery.take() else { return Poll::Pending };
                    service.call(delivery)
                }
            };
            stage.set(Stage::Called { future });
        }
    }
}

impl<S: Service<Delivery>> fmt::Debug for LayeredFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredFuture").finish_non_exhaustive()
    }
}
