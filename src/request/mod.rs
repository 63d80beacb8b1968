//! Request and reply: who waits for which answer, and what he holds meanwhile.
//!
//! Promises: exactly one answer, or one reason why there is none. Knows events and nothing else of the engine.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use crate::event::{Envelope, Key, Tenant};

/// The open end of a request.
#[derive(Debug)]
pub(crate) struct Request {
    /// The name of the event that answers it.
    wanted: &'static str,
    /// What waits for the answer, where a handler asked.
    pub(crate) hold: Option<Arc<Hold>>,
    reply: Mutex<Option<oneshot::Sender<Answer>>>,
}

/// What ends a request before its deadline.
pub(crate) type Answer = Result<Arc<Envelope>, NoAnswer>;

/// Why a request that was queued got no answer.
#[derive(Clone, Debug)]
pub(crate) enum NoAnswer {
    NoHandler,
    NoReply,
    Failed { subscription: String, source: Arc<dyn Error + Send + Sync> },
    Deadlock { subscription: String },
    Abandoned,
}

/// A delivery that waits for a request's answer, and those that wait for it in turn.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) subscription: u64,
    pub(crate) delivery: u64,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) key: Option<(Option<Tenant>, Key)>,
    pub(crate) above: Option<Arc<Hold>>,
}

impl Hold {
    /// This one and all above it.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |hold| hold.above.as_deref())
    }
}

impl Request {
    pub(crate) fn new(wanted: &'static str, hold: Option<Arc<Hold>>) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Arc::new(Self { wanted, hold, reply: Mutex::new(Some(reply)) }), answer)
    }

    /// Answers it if this is an event of the wanted name; the first answer counts.
    pub(crate) fn offer(&self, event: &Arc<Envelope>) {
        if event.name.as_str() == self.wanted || event.data.event_name() == Some(self.wanted) {
            self.end(Ok(Arc::clone(event)));
        }
    }

    /// Ends it without an answer, unless it was answered.
    pub(crate) fn fail(&self, reason: NoAnswer) {
        self.end(Err(reason));
    }

    fn end(&self, answer: Answer) {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reply) = reply {
            // Whoever asked may have given up; then nobody needs the answer.
            drop(reply.send(answer));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.fail(NoAnswer::Abandoned);
    }
}
