//! One event on its way into one subscription: the request type of a handler as a `tower::Service`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{Context, Extensions, lend};
use crate::{
    event::{Draft, Envelope, Way},
    intake::{Cause, Intake, Seat},
    request::Hold,
    storage::Shelf,
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
    pub(crate) shelf: Arc<Shelf>,
    /// Cancelled when a shutdown's grace is over.
    pub(crate) stop: CancellationToken,
}

/// What a handler has emitted through its context and not returned yet. Closed when the handler ends, so that nothing
/// is put in that nobody takes out.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<Tray>);

#[derive(Debug)]
enum Tray {
    Open(Vec<Draft>),
    /// The handler has ended well.
    Taken,
    /// It has failed, or was dropped.
    GivenUp,
}

/// What became of a draft that was put into an outbox.
#[derive(Debug)]
pub(crate) enum Put {
    In,
    /// As many are there as an attempt may return.
    Full(Draft),
    /// The handler has ended.
    Late(Draft),
    /// The attempt came to nothing, and so does what it emits.
    GivenUp(Draft),
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Tray::Open(Vec::new())))
    }

    /// Puts a draft in, unless `most` are there.
    pub(crate) fn put(&self, draft: Draft, most: usize) -> Put {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Tray::Open(drafts) if drafts.len() >= most => Put::Full(draft),
            Tray::Open(drafts) => {
                drafts.push(draft);
                Put::In
            }
            Tray::Taken => Put::Late(draft),
            Tray::GivenUp => Put::GivenUp(draft),
        }
    }

    pub(crate) fn close(&self) -> Vec<Draft> {
        self.end(Tray::Taken)
    }

    pub(crate) fn give_up(&self) {
        drop(self.end(Tray::GivenUp));
    }

    fn end(&self, end: Tray) -> Vec<Draft> {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), end);
        if let Tray::Open(drafts) = before { drafts } else { Vec::new() }
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

    /// The context that all extractors of this delivery share. What is emitted with it goes with what the handler returns: a
    /// layer that answers without calling what it wraps returns its events, or emits with [`Context::handle`].
    pub fn context(&self) -> &Context {
        self.context.get_or_init(|| Context::of(self))
    }

    /// Runs something as this delivery, on a thread that is not the dispatcher's. A panic goes on when the thread is rid of
    /// the delivery.
    pub(super) fn around<R>(self, work: impl FnOnce() -> R) -> R {
        let mut worked = None;
        lend(|| self, |_| worked = Some(catch_unwind(AssertUnwindSafe(work))), drop);
        #[expect(clippy::expect_used, reason = "what is lent is polled")]
        worked.expect("the work was done").unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What its handler causes by emitting.
    pub(super) fn to_cause(&self) -> Cause {
        let (event, seat) = (&self.event, &self.site.seat);
        let key = event.key.as_ref().filter(|_| seat.ordered);
        let hold = Hold {
            subscription: seat.subscription,
            delivery: self.id,
            tenant: event.tenant.clone(),
            key: key.map(|key| (event.tenant.clone(), key.clone())),
            above: self.above.clone(),
        };
        Cause { event: Arc::clone(event), per_root: seat.per_root, hold: Some(Arc::new(hold)), way: Way::Emitted }
    }

    /// The event and the site again.
    pub(crate) fn into_parts(self) -> (Arc<Envelope>, Arc<Site>) {
        (self.event, self.site)
    }

    /// The context, if any extractor asked for it.
    pub(crate) fn asked_context(&self) -> Option<Context> {
        self.context.get().cloned()
    }
}
