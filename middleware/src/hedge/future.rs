use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::layer::Hedging;
use crate::future::{Ending, Once};
use crate::retry::Purse;

pin_project! {
    /// The future of [`Hedge`](super::Hedge).
    #[must_use = "futures do nothing unless polled"]
    pub struct HedgeFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        first: Ending<S::Future>,
        others: Vec<Pin<Box<Once<S, R>>>>,
        spare: Option<(S, R)>,
        #[pin]
        alarm: Option<Sleep>,
        running: u32,
        after: Duration,
        left: u32,
        purse: Arc<Purse>,
    }
}

impl<S: Service<R>, R> HedgeFuture<S, R> {
    pub(super) fn new(first: S::Future, service: S, request: R, hedging: Hedging, purse: Arc<Purse>) -> Self {
        Self {
            first: Ending::running(first),
            others: Vec::new(),
            spare: Some((service, request)),
            alarm: None,
            running: 1,
            after: hedging.after,
            left: hedging.calls - 1,
            purse,
        }
    }
}

type Output<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

impl<S, R> Future for HedgeFuture<S, R>
where
    S: Service<R> + Clone,
    R: Clone,
{
    type Output = Output<S, R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(output) = self.as_mut().poll_calls(cx) {
                self.end();
                return Poll::Ready(output);
            }
            if self.as_mut().poll_alarm(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S, R> HedgeFuture<S, R>
where
    S: Service<R> + Clone,
    R: Clone,
{
    /// The first answer, or the error of the last call that was under way.
    fn poll_calls(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output<S, R>> {
        let this = self.project();
        let running = this.running;
        let mut decides = |poll: Poll<Output<S, R>>| match poll {
            Poll::Ready(Err(_)) if *running > 1 => {
                *running -= 1;
                None
            }
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        };
        if let Some(output) = decides(this.first.poll(cx)) {
            return Poll::Ready(output);
        }
        this.others.iter_mut().find_map(|other| decides(other.as_mut().poll(cx))).map_or(Poll::Pending, Poll::Ready)
    }

    /// Ready when a further call was begun and wants to be polled.
    fn poll_alarm(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some((service, request)) = this.spare else { return Poll::Pending };
        if this.alarm.is_none() {
            this.alarm.set(Some(sleep(*this.after)));
        }
        let rung = this.alarm.as_mut().as_pin_mut().is_some_and(|alarm| alarm.poll(cx).is_ready());
        if !rung {
            return Poll::Pending;
        }
        *this.left -= 1;
        this.alarm.set(None);
        let paid = this.purse.pay();
        if paid {
            this.others.push(Box::pin(Once::new(service.clone(), request.clone())));
            *this.running += 1;
        }
        if !paid || *this.left == 0 {
            *this.spare = None;
        }
        if paid { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Drops the calls that have lost, now.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.first.end();
        this.others.clear();
        *this.spare = None;
        this.alarm.set(None);
    }
}

impl<S: Service<R>, R> fmt::Debug for HedgeFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture").field("running", &self.running).finish_non_exhaustive()
    }
}
