//! A handler behind tower layers.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    BoxError, Delivery, Handler, IntoOutputs, Options, Outcome, Requirements, handler::from_layer, outputs::outcome,
};

/// A handler behind tower layers; made by [`Handler::layer`].
pub struct Layered<S, Args> {
    /// Only ever cloned; the lock makes a service that is not `Sync` shareable.
    service: Mutex<S>,
    options: Options,
    requirements: Mutex<Option<Requirements>>,
    most: Option<usize>,
    args: PhantomData<fn(Args)>,
}

impl<S, Args> Layered<S, Args> {
    pub(super) fn new(service: S, options: Options, requirements: Requirements, most: Option<usize>) -> Self {
        let requirements = Mutex::new(Some(requirements));
        Self { service: Mutex::new(service), options, requirements, most, args: PhantomData }
    }
}

impl<S, Args> Handler<Args> for Layered<S, Args>
where
    S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Args: 'static,
{
    type Future = LayeredFuture<S>;

    fn call(&self, delivery: Delivery) -> Self::Future {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LayeredFuture { stage: Stage::Waiting { service, delivery: Some(delivery) } }
    }

    fn call_lent(&mut self, delivery: &mut Delivery) -> Self::Future {
        let service = self.service.get_mut().unwrap_or_else(PoisonError::into_inner).clone();
        LayeredFuture { stage: Stage::Waiting { service, delivery: Some(delivery.clone()) } }
    }

    fn requirements(&self) -> Requirements {
        self.requirements.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    fn most_outputs(&self) -> Option<usize> {
        self.most
    }

    fn options(&self) -> Options {
        self.options.clone()
    }
}

impl<S, Args> fmt::Debug for Layered<S, Args> {
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
