//! The futures that several layers share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::TryFuture;
use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// The inner call, or a refusal that is ready at once.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Refusable<F, E> {
        #[pin]
        state: RefusableState<F, E>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = RefusableProjection]
    enum RefusableState<F, E> {
        Running { #[pin] future: F },
        Refused { error: Option<E> },
    }
}

impl<F, E> Refusable<F, E> {
    pub(crate) const fn running(future: F) -> Self {
        Self { state: RefusableState::Running { future } }
    }

    pub(crate) fn refused(error: impl Into<E>) -> Self {
        Self { state: RefusableState::Refused { error: Some(error.into()) } }
    }
}

impl<F, T, E> Future for Refusable<F, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            RefusableProjection::Running { future } => future.poll(cx),
            RefusableProjection::Refused { error } => Poll::Ready(Err(error.take().expect("polled after the end"))),
        }
    }
}

pin_project! {
    /// The inner call and what it holds while it runs: a permit, a probe, a gauge.
    ///
    /// The call is dropped before what it holds, when it ends and when the future is dropped alike.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Guarded<F, G> {
        #[pin]
        call: Ending<F>,
        guard: Option<G>,
    }
}

impl<F, G> Guarded<F, G> {
    pub(crate) const fn new(future: F, guard: G) -> Self {
        Self { call: Ending::running(future), guard: Some(guard) }
    }
}

impl<F: Future, G> Future for Guarded<F, G> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.call.poll(cx));
        *this.guard = None;
        Poll::Ready(output)
    }
}

pin_project! {
    /// A future that is dropped the moment it ends.
    #[derive(Debug)]
    #[project = EndingProjection]
    pub(crate) enum Ending<F> {
        Running { #[pin] future: F },
        Ended,
    }
}

impl<F> Ending<F> {
    pub(crate) const fn running(future: F) -> Self {
        Self::Running { future }
    }

    /// Drops the future now.
    pub(crate) fn end(mut self: Pin<&mut Self>) {
        self.set(Self::Ended);
    }
}

impl<F: Future> Future for Ending<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = match self.as_mut().project() {
            EndingProjection::Running { future } => ready!(future.poll(cx)),
            EndingProjection::Ended => return Poll::Pending,
        };
        self.end();
        Poll::Ready(output)
    }
}

pin_project! {
    /// Waits at a gate, then for the service to be ready, then for the call; holds what the gate gave until the call
    /// has ended.
    ///
    /// The service inside is a clone that has not been polled before, so nothing that readiness reserves is held at
    /// the gate.
    #[must_use = "futures do nothing unless polled"]
    pub struct Gated<G, S, R>
    where
        G: TryFuture,
        S: Service<R>,
    {
        #[pin]
        gate: Ending<G>,
        #[pin]
        call: Once<S, R>,
        pass: Option<G::Ok>,
    }
}

impl<G, S, R> Gated<G, S, R>
where
    G: TryFuture,
    S: Service<R>,
{
    pub(crate) const fn new(gate: G, service: S, request: R) -> Self {
        Self { gate: Ending::running(gate), call: Once::new(service, request), pass: None }
    }

    /// Where the gate was open: nothing of it is carried about.
    pub(crate) const fn passed(pass: G::Ok, service: S, request: R) -> Self {
        Self { gate: Ending::Ended, call: Once::new(service, request), pass: Some(pass) }
    }
}

impl<G, S, R> Future for Gated<G, S, R>
where
    G: Future<Output = Result<<G as TryFuture>::Ok, <G as TryFuture>::Error>> + TryFuture,
    S: Service<R, Error: From<<G as TryFuture>::Error>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.pass.is_none() {
            match ready!(this.gate.poll(cx)) {
                Ok(pass) => *this.pass = Some(pass),
                Err(refusal) => {
                    this.call.end();
                    return Poll::Ready(Err(refusal.into()));
                }
            }
        }
        let output = ready!(this.call.as_mut().poll(cx));
        *this.pass = None;
        Poll::Ready(output)
    }
}

impl<G, S, R> std::fmt::Debug for Gated<G, S, R>
where
    G: TryFuture,
    S: Service<R>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gated").field("passed", &self.pass.is_some()).finish_non_exhaustive()
    }
}

pin_project! {
    /// One call of a service of its own: readiness, then the call. All is dropped the moment it ends.
    #[must_use = "futures do nothing unless polled"]
    #[project = OnceProjection]
    pub(crate) enum Once<S, R>
    where
        S: Service<R>,
    {
        Readying { service: S, request: Option<R> },
        Calling { #[pin] future: S::Future },
        Ended,
    }
}

impl<S: Service<R>, R> Once<S, R> {
    pub(crate) const fn new(service: S, request: R) -> Self {
        Self::Readying { service, request: Some(request) }
    }

    pub(crate) const fn calling(future: S::Future) -> Self {
        Self::Calling { future }
    }

    /// Drops the call now.
    pub(crate) fn end(mut self: Pin<&mut Self>) {
        self.set(Self::Ended);
    }
}

impl<S: Service<R>, R> Future for Once<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let output = match self.as_mut().project() {
                OnceProjection::Readying { service, request } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => {
                        let request = request.take().expect("the request is taken once, by this call");
                        let future = service.call(request);
                        self.set(Self::Calling { future });
                        continue;
                    }
                    Err(error) => Err(error),
                },
                OnceProjection::Calling { future } => ready!(future.poll(cx)),
                OnceProjection::Ended => return Poll::Pending,
            };
            self.end();
            return Poll::Ready(output);
        }
    }
}
