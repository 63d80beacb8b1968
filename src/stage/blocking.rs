//! Handlers that block.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use tokio::task::JoinHandle;

use super::{Delivery, Extract, Handler, HandlerError, HandlerFuture, IntoOutputs, Outcome, Outputs, Requirements};

/// A function that blocks, run on tokio's blocking pool; made by [`blocking`].
#[derive(Clone, Copy, Debug)]
pub struct Blocking<F>(F);

/// Makes a handler of a plain function: each attempt runs on tokio's blocking pool, so that it may wait for a disk, a
/// lock or a long computation without holding up anybody.
///
/// A blocking attempt cannot be aborted: after a timeout its result is dropped, the function itself runs on.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Draft, Json, Runtime, blocking};
///
/// let runtime = Runtime::builder().build()?;
/// runtime.on("file.wanted", blocking(|Json(path): Json| match std::fs::read(path.as_str().unwrap_or_default()) {
///     Ok(bytes) => Ok(Draft::json("file.read", bytes.len().into())),
///     Err(error) => Err(error),
/// }))?;
/// runtime.emit(Draft::json("file.wanted", "/no/such/file".into()))?;
/// runtime.process().await?;
/// assert_eq!(runtime.stats().deliveries.dead, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub fn blocking<F>(function: F) -> Blocking<Arc<F>> {
    Blocking(Arc::new(function))
}

/// Marks the arguments of a [`Blocking`] handler.
#[derive(Debug)]
pub struct BlockingArgs<Args>(Args);

/// One attempt on the blocking pool.
pub struct Pooled(JoinHandle<Outcome>);

impl Future for Pooled {
    type Output = Result<Outputs, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(HandlerError::panicked(&*payload)),
                Err(error) => Err(HandlerError::transient(error)),
            },
        })
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

macro_rules! handlers {
    ($($arg:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<Function, Returned, $($arg),*> Handler<BlockingArgs<($($arg,)*)>> for Blocking<Arc<Function>>
        where
            Function: Fn($($arg),*) -> Returned + Send + Sync + 'static,
            Returned: IntoOutputs,
            $($arg: Extract + 'static,)*
        {
            type Future = HandlerFuture<Pooled>;

            #[allow(non_snake_case, unused_variables, reason = "the type parameters name the arguments; there may be none")]
            fn call(&self, delivery: Delivery) -> Self::Future {
                $(let $arg = match $arg::extract(&delivery) {
                    Ok(argument) => argument,
                    Err(error) => return HandlerFuture::refused(error),
                };)*
                let function = Arc::clone(&self.0);
                let context = delivery.asked_context();
                let attempt = move || delivery.around(|| super::outputs::outcome(function($($arg),*)));
                let attempt = tokio::task::spawn_blocking(attempt);
                HandlerFuture::running(Pooled(attempt), context)
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
