//! One event on its way into one subscription: the request type of a handler as a `tower::Service`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Context, Extensions};
use crate::{
    event::{Draft, Envelope},
    intake::{Current, Intake, Seat},
    request::Hold,
};

/// One event for one subscription: what extractors read, and the request of a handler's [`HandlerService`](crate::HandlerService).
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(crate) event: Arc<Envelope>,
    pub(crate) attempt: u32,
    pub(crate) id: u64,
    pub(crate) site: Arc<Site>,
    pub(crate) above: Option<Arc<Hold>>,
    context: OnceLock<Context>,
}

/// What all deliveries of one subscription share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) seat: Arc<Seat>,
    pub(crate) name: Arc<str>,
    /// Its first name, where a durable subscription was renamed.
    pub(crate) origin: OnceLock<Arc<str>>,
    /// The most events that an attempt may return.
    pub(crate) max_outputs: usize,
    pub(crate) intake: Arc<Intake>,
    pub(crate) extensions: Arc<Extensions>,
    /// Cancelled when a shutdown's grace is over.
    pub(crate) stop: CancellationToken,
}

/// What a handler has emitted through its context and not returned yet. Closed when the handler ends, so that nothing
/// is put in that nobody takes out.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<Option<Vec<Draft>>>);

/// What became of a draft that was put into an outbox.
#[derive(Debug)]
pub(crate) enum Put {
    In,
    /// As many are there as an attempt may return.
    Full(Draft),
    /// The handler has ended.
    Late(Draft),
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Puts a draft in, unless `most` are there.
    pub(crate) fn put(&self, draft: Draft, most: usize) -> Put {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(drafts) if drafts.len() >= most => Put::Full(draft),
            Some(drafts) => {
                drafts.push(draft);
                Put::In
            }
            None => Put::Late(draft),
        }
    }

    pub(crate) fn close(&self) -> Vec<Draft> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

impl Delivery {
    pub(crate) fn new(event: Arc<Envelope>, attempt: u32, id: u64, site: Arc<Site>, above: Option<Arc<Hold>>) -> Self {
        Self { event, attempt, id, site, above, context: OnceLock::new() }
    }

    /// The event.
    pub fn event(&self) -> &Arc<Envelope> {
        &self.event
    }

    /// Which attempt it is, the first being 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        &self.site.name
    }

    /// The context that all extractors of this delivery share.
    pub fn context(&self) -> &Context {
        self.context.get_or_init(|| Context::of(self))
    }

    /// This delivery, for whoever runs its handler elsewhere than in the dispatcher.
    pub(super) fn current(&self) -> Current {
        let (event, seat) = (Arc::clone(&self.event), Arc::clone(&self.site.seat));
        Current { event, seat, delivery: self.id, above: self.above.clone() }
    }

    /// The site again, which was lent.
    pub(crate) fn into_site(self) -> Arc<Site> {
        self.site
    }

    /// The context, if any extractor asked for it.
    pub(crate) fn take_context(&mut self) -> Option<Context> {
        self.context.take()
    }
}
