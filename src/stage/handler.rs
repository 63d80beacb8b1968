//! Handlers: async functions of extractors that return events.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll, ready},
    time::Duration,
};

use millstream_middleware::retry::RetryIf;
use pin_project_lite::pin_project;
use tower_layer::Identity;
use tower_service::Service;

use super::{
    BoxError, Configured, Context, Delivery, Extract, HandlerError, Inside, IntoOutputs, Layered, Options, Order,
    Outcome, Outputs, Requirements, Share, SpawnLayer, Start,
    call::{Call, Caller, HandlerCall},
    outputs::outcome,
    outside::Outside,
};
use crate::{event::Envelope, queue::CLASSES};

/// An async function whose arguments are extractors and whose return value becomes events; up to eight arguments.
///
/// Options are set on the handler, and `layer` wraps it in any tower layer:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Draft, Handler, Json, Retry, Runtime};
///
/// async fn greet(Json(name): Json) -> Result<Draft, String> {
///     let name = name.as_str().ok_or("a name is text")?;
///     Ok(Draft::json("greeted", format!("hello {name}").into()))
/// }
///
/// let runtime = Runtime::builder().build()?;
/// runtime.on("greet", greet.named("greeter").retry(Retry::exponential()).concurrency(8))?;
/// runtime.emit(Draft::json("greet", "world".into()))?;
/// runtime.process().await?;
/// assert_eq!(runtime.stats().deliveries.handled, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an async function, or a closure that returns a future: put `#[millstream::debug_handler]` over an `async fn` to be told what is wrong with it",
    note = "an argument is an event (derive `millstream::Event`), `Arc<T>` of one, `Json`, `Context`, `State<S>`, `Arc<Envelope>`, or your own `Extract`; up to eight",
    note = "it returns `()`, an event, a `Draft`, an `Option`, `Vec`, array or tuple of these, or a `Result` of these with any error",
    note = "its future must be `Send`, and what it captures `Send + 'static`; wrap a function that blocks: `blocking(function)`"
)]
pub trait Handler<Args>: Sized + Send + 'static {
    /// One attempt.
    type Future: Future<Output = Outcome> + Send + 'static;

    /// Begins an attempt.
    fn call(&self, delivery: Delivery) -> Self::Future;

    /// Begins an attempt with a delivery that is only lent: what needs no more than a look at it copies nothing.
    #[doc(hidden)]
    fn call_lent(&mut self, delivery: &Delivery) -> Self::Future {
        self.call(delivery.clone())
    }

    /// What its arguments need.
    fn requirements(&self) -> Requirements;

    /// The most events that one attempt can return, where its type says so.
    fn most_outputs(&self) -> Option<usize>;

    #[doc(hidden)]
    fn options(&self) -> Options {
        Options::default()
    }

    /// The handler as the dispatcher calls it, in all layers.
    #[doc(hidden)]
    fn dress(self, outside: &Outside) -> Box<dyn Call>
    where
        Args: 'static,
    {
        if outside.is_empty() {
            return Box::new(Caller::new(HandlerCall::new(self)));
        }
        outside.dress(self.into_service())
    }

    /// Wraps it in a tower layer. Layers are **outermost first, as written**, like in `tower::ServiceBuilder`: in
    /// `handler.layer(a).layer(b)` a delivery goes through `a`, then `b`, then the handler; those of the runtime
    /// ([`Builder::layer`](crate::Builder::layer)) come before. Options may be set in between.
    ///
    /// The layer is applied once, by [`on`](crate::Runtime::on), and its service is cloned for each delivery, as axum does: a layer
    /// that shares state between clones (a concurrency limit) shares it between all deliveries of this subscription. One layer value that
    /// several handlers wear is shared as that layer says; see [What is shared](crate::middleware#what-is-shared).
    ///
    /// Retry has one owner. A [`RetryLayer`](crate::middleware::retry::RetryLayer) as the outermost layer becomes the
    /// subscription's policy, as [`retry`](Self::retry) would (the last one written counts); further in, also inside of a
    /// stack, [`on`](crate::Runtime::on) refuses it.
    ///
    /// ```
    /// # use millstream::{Handler, Json, Retry, Runtime, middleware::stack::Resilient};
    /// # let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # tokio.block_on(async {
    /// # let runtime = Runtime::builder().build()?;
    /// async fn charge(order: Json) {}
    ///
    /// // Breaker, concurrency and timeout of each attempt; the subscription retries.
    /// let attempt = Resilient::default().attempt()?;
    /// runtime.on("order.placed", charge.retry(Retry::exponential()).layer(attempt))?;
    /// let worn = &runtime.describe().subscriptions[0].layers;
    /// assert_eq!(worn[0].name(), "resilient");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// A function that returns `impl Handler` hides the layers of what it returns: a further layer goes around the whole.
    fn layer<L: 'static>(self, layer: L) -> Layered<Self, Inside<L, Identity>, Args> {
        let options = self.options();
        Layered::around(self.into_service(), layer, options)
    }

    /// The handler as a `tower::Service`. It is always ready.
    fn into_service(self) -> HandlerService<Self, Args> {
        HandlerService { handler: Arc::new(SyncCell::new(self)), args: PhantomData }
    }

    /// Runs each attempt as a tokio task of its own, so that a multi-threaded tokio runtime spreads handlers over its
    /// threads. The task is aborted when the attempt is dropped.
    ///
    /// Among layers it has its place like one of them: those written before it are polled by the dispatcher, those after it run
    /// inside of the task.
    fn spawned(self) -> Layered<Self, Inside<SpawnLayer, Identity>, Args> {
        let options = self.options();
        Layered::within(self.into_service(), SpawnLayer, options)
    }

    /// A name, unique in the runtime. Default: the pattern, with a number where that is taken.
    fn named(self, name: impl Into<String>) -> Configured<Self, Args> {
        let name = name.into();
        Configured::new(self, |options| options.name = Some(name))
    }

    /// Where a durable subscription begins that the store does not know. Default [`Start::Latest`]. One that it knows goes
    /// on where it was. In memory it has no effect: a subscription begins with what waits in the queue.
    fn starting_at(self, start: Start) -> Configured<Self, Args> {
        Configured::new(self, |options| options.start = start)
    }

    /// What a durable subscription was called before: it goes on where that one was, and its
    /// [`effect_key`](crate::Context::effect_key)s stay what they were.
    fn was(self, name: impl Into<String>) -> Configured<Self, Args> {
        let name = name.into();
        Configured::new(self, |options| options.was = Some(name))
    }

    /// Takes only events for which this is true. A panic in it fails the delivery.
    fn filter(self, accepts: impl Fn(&Envelope) -> bool + Send + Sync + 'static) -> Configured<Self, Args> {
        Configured::new(self, |options| options.filter = Some(Arc::new(accepts)))
    }

    /// Its place among the handlers of an event: they start in falling order, equal ones in the order of `on`.
    /// Default 0.
    fn priority(self, priority: i32) -> Configured<Self, Args> {
        Configured::new(self, |options| options.priority = priority)
    }

    /// How many deliveries may be in flight at once; further ones wait. Default 100.
    fn concurrency(self, most: usize) -> Configured<Self, Args> {
        Configured::new(self, |options| options.concurrency = most)
    }

    /// Of the `concurrency`, so many for events of this class alone, so that slow work of other classes cannot take
    /// them all. Default 0.
    fn reserve(self, class: crate::Priority, slots: usize) -> Configured<Self, Args> {
        Configured::new(self, |options| options.reserved[class.class()] = slots)
    }

    /// One event of a key at a time, in the order of their dispatch: first in, first out within a class, and more
    /// urgent classes may overtake. Retries keep the key waiting. Events without a key are not ordered.
    fn ordered_by_key(self) -> Configured<Self, Args> {
        Configured::new(self, |options| options.order = Order::ByKey)
    }

    /// One event of a key at a time, in the order of their emission, whatever their class.
    fn strict_key_order(self) -> Configured<Self, Args> {
        Configured::new(self, |options| options.order = Order::Strict)
    }

    /// When an event of a key becomes a dead letter, the later ones of the key wait until it is replayed with success
    /// or purged. Default: they go on. Needs an order by key.
    fn halt_key_on_dead(self) -> Configured<Self, Args> {
        Configured::new(self, |options| options.halt = true)
    }

    /// When and how often a failed delivery is tried again; [`Retry::when`](crate::Retry::when) decides by the error itself. Default:
    /// the policy of the runtime's outermost retry layer ([`Builder::layer`](crate::Builder::layer)); without one never, it
    /// goes to the dead letters. A policy of its own wins, [`Retry::none`](crate::Retry::none) too.
    fn retry(self, policy: impl Into<RetryIf<HandlerError>>) -> Configured<Self, Args> {
        let policy = policy.into();
        Configured::new(self, |options| options.retry = Some(policy))
    }

    /// How long one attempt may take; then its future is dropped and the attempt has failed. Default: the runtime's
    /// `operation_timeout`.
    fn timeout(self, limit: Duration) -> Configured<Self, Args> {
        Configured::new(self, |options| options.timeout = Some(limit))
    }

    /// How many events one attempt may return; more is an error that is not retried. Default: what the return type
    /// says, and 1,000 where it is a `Vec`.
    fn max_outputs(self, most: usize) -> Configured<Self, Args> {
        Configured::new(self, |options| options.max_outputs = Some(most))
    }

    /// How many events one root may cause through this subscription. Default: the runtime's `max_events_per_root`.
    fn max_events_per_root(self, most: u32) -> Configured<Self, Args> {
        Configured::new(self, |options| options.per_root = Some(most))
    }

    /// What happens when the subscription holds its share of a class, half of the queue. Default: [`Share::Refuse`].
    fn when_saturated(self, share: Share) -> Configured<Self, Args> {
        Configured::new(self, |options| options.share = share)
    }
}

pin_project! {
    /// One attempt of an async function.
    pub struct HandlerFuture<F> {
        #[pin]
        attempt: Attempt<F>,
        // There until the attempt has ended.
        context: Option<Context>,
    }

    impl<F> PinnedDrop for HandlerFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(context) = this.project().context {
                context.give_up();
            }
        }
    }
}

pin_project! {
    #[project = AttemptProjected]
    enum Attempt<F> {
        Running { #[pin] future: F },
        Refused { error: Option<HandlerError> },
    }
}

impl<F> HandlerFuture<F> {
    pub(super) fn running(future: F, context: Option<Context>) -> Self {
        Self { attempt: Attempt::Running { future }, context }
    }

    pub(super) fn refused(error: HandlerError) -> Self {
        Self { attempt: Attempt::Refused { error: Some(error) }, context: None }
    }
}

impl<F: Future<Output: IntoOutputs>> Future for HandlerFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        let returned = match this.attempt.project() {
            AttemptProjected::Running { future } => ready!(future.poll(cx)),
            AttemptProjected::Refused { error } => {
                return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
            }
        };
        let Some(context) = this.context else { return Poll::Ready(outcome(returned)) };
        let mut outputs = context.close();
        let outcome = returned.add_to(&mut outputs).map(|()| outputs);
        if outcome.is_ok() {
            *this.context = None;
        }
        Poll::Ready(outcome)
    }
}

impl<F> fmt::Debug for HandlerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}

macro_rules! attempt {
    ($function:ident, $delivery:expr, $($arg:ident)*) => {{
        let delivery: &Delivery = $delivery;
        $(let $arg = match $arg::extract(delivery) {
            Ok(argument) => argument,
            Err(error) => return HandlerFuture::refused(error),
        };)*
        HandlerFuture::running($function($($arg),*), delivery.asked_context())
    }};
}

macro_rules! handlers {
    ($($arg:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<Function, Fut, Returned, $($arg),*> Handler<($($arg,)*)> for Function
        where
            Function: Fn($($arg),*) -> Fut + Send + 'static,
            Fut: Future<Output = Returned> + Send + 'static,
            Returned: IntoOutputs,
            $($arg: Extract,)*
        {
            type Future = HandlerFuture<Fut>;

            #[allow(non_snake_case, reason = "the type parameters name the arguments")]
            fn call(&self, delivery: Delivery) -> Self::Future {
                attempt!(self, &delivery, $($arg)*)
            }

            #[allow(non_snake_case, reason = "the type parameters name the arguments")]
            fn call_lent(&mut self, delivery: &Delivery) -> Self::Future {
                attempt!(self, delivery, $($arg)*)
            }

            fn requirements(&self) -> Requirements {
                #[allow(unused_mut, reason = "there may be no argument")]
                let mut requirements = Requirements::default();
                $($arg::require(&mut requirements);)*
                requirements
            }

            fn most_outputs(&self) -> Option<usize> {
                Returned::MOST
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D E);
handlers!(A B C D E G);
handlers!(A B C D E G H);
handlers!(A B C D E G H I);

/// A handler as a `tower::Service` of [`Delivery`]: always ready, cheap to clone.
pub struct HandlerService<H, Args> {
    handler: Arc<SyncCell<H>>,
    args: PhantomData<fn(Args)>,
}

/// Shares a handler that is `Send` but perhaps not `Sync`: one call at a time is made through it.
struct SyncCell<H>(Mutex<H>);

impl<H> SyncCell<H> {
    fn new(handler: H) -> Self {
        Self(Mutex::new(handler))
    }
}

impl<H, Args> HandlerService<H, Args> {
    /// Looks at the handler.
    pub(super) fn with<R>(&self, look: impl FnOnce(&H) -> R) -> R {
        look(&self.handler.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<H, Args> Clone for HandlerService<H, Args> {
    fn clone(&self) -> Self {
        Self { handler: Arc::clone(&self.handler), args: PhantomData }
    }
}

impl<H, Args> fmt::Debug for HandlerService<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

impl<H: Handler<Args>, Args> Service<Delivery> for HandlerService<H, Args> {
    type Response = Outputs;
    type Error = HandlerError;
    type Future = H::Future;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        // A handler that panicked between its arguments and its future holds nothing half-changed of the engine's.
        self.with(|handler| handler.call(delivery))
    }
}

/// Errors of layers become handlers' errors.
pub(super) fn from_layer(error: impl Into<BoxError>) -> HandlerError {
    HandlerError::from_layer(error.into())
}

const _: () = assert!(CLASSES == crate::Priority::ALL.len());
