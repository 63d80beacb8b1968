//! One event on its way into one subscription: the request type of a handler as a `tower::Service`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Context, Extensions};
use crate::{
    event::{Draft, Envelope},
    intake::{Intake, Seat},
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
    pub(crate) intake: Arc<Intake>,
    pub(crate) extensions: Arc<Extensions>,
    /// Cancelled when a shutdown's grace is over.
    pub(crate) stop: CancellationToken,
}

/// What a handler has emitted through its context and not returned yet. Closed when the handler ends, so that nothing
/// is put in that nobody takes out.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<Option<Vec<Draft>>>);

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Puts a draft in, or hands it back where the handler has ended.
    pub(crate) fn put(&self, draft: Draft) -> Option<Draft> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(drafts) => {
                drafts.push(draft);
                None
            }
            None => Some(draft),
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

    /// The site again, which was lent.
    pub(crate) fn into_site(self) -> Arc<Site> {
        self.site
    }

    /// The context, if any extractor asked for it.
    pub(crate) fn take_context(&mut self) -> Option<Context> {
        self.context.take()
    }
}
