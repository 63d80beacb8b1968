//! Request: emit and wait for the answer.

use std::{error::Error, sync::Arc, time::Duration};

use super::{Cause, Intake, Refusal};
use crate::{
    event::{DecodeError, Draft, Envelope, Event},
    request::{NoAnswer, Request},
};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request itself was refused, and never emitted.
    #[error("the request was refused: {reason}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// The request, to try again.
        request: Box<Draft>,
    },
    /// No answer within the deadline. The request may still be handled.
    #[error(
        "no `{wanted}` came within {deadline:?}{}",
        if *.is_driven { "" } else { ", and nobody drives the runtime: `process` or `run` it" }
    )]
    Timeout {
        /// The name of the answer.
        wanted: &'static str,
        /// The deadline.
        deadline: Duration,
        /// Whether somebody drove the runtime at that time.
        is_driven: bool,
    },
    /// Nobody handles such events.
    #[error("nobody handles `{name}`")]
    NoHandler {
        /// The request's name.
        name: String,
    },
    /// All handlers succeeded, and none returned the wanted event.
    #[error("`{name}` was handled, and no `{wanted}` came of it")]
    NoReply {
        /// The request's name.
        name: String,
        /// The name of the answer.
        wanted: &'static str,
    },
    /// A handler failed for good. The request is a dead letter.
    #[error("`{subscription}` failed: {error}")]
    Failed {
        /// The subscription.
        subscription: String,
        /// Its last error.
        error: Arc<dyn Error + Send + Sync>,
    },
    /// The request would wait for a key or a subscription that waits for the request.
    #[error("the request waits for `{subscription}`, which waits for the request")]
    Deadlock {
        /// The subscription that is held.
        subscription: String,
    },
    /// The answer is not of the wanted shape.
    #[error("the answer could not be read")]
    Decode(#[from] DecodeError),
    /// The request was cancelled, dropped for want of room, or cut off by a shutdown.
    #[error("the request was given up before it was answered")]
    Abandoned,
}

impl Intake {
    /// Emits a question and waits for the first event named `R::NAME` that its handlers return.
    ///
    /// # Cancel safety
    /// Dropped, the question stays emitted and its answer is an event like others.
    pub(crate) async fn request<R: Event>(
        &self,
        question: Draft,
        deadline: Duration,
        cause: Option<Cause>,
    ) -> Result<R, RequestError> {
        let name = question.name().to_string();
        let cause = cause.or_else(|| self.cause_here());
        let (request, answer) = Request::new(R::NAME, cause.as_ref().and_then(|cause| cause.hold.clone()));
        let emitted = self.emit_draft(question, cause.as_ref(), Some(request));
        emitted
            .map_err(|refused| RequestError::Refused { reason: refused.reason, request: Box::new(refused.event) })?;
        match tokio::time::timeout(deadline, answer).await {
            Err(_) => Err(RequestError::Timeout { wanted: R::NAME, deadline, is_driven: true }),
            Ok(Err(_)) => Err(RequestError::Abandoned),
            Ok(Ok(Ok(event))) => Ok(Envelope::decode(&event)?),
            Ok(Ok(Err(reason))) => Err(RequestError::because(reason, name, R::NAME)),
        }
    }

    /// What can be wrong with an event that a handler emits, apart from room.
    pub(crate) fn check_output(&self, draft: &mut Draft, cause: &Envelope) -> Result<(), Refusal> {
        self.check(draft)?;
        let (depth, limit) = (cause.lineage.depth + 1, self.limits.depth);
        let is_delayed = draft.more.as_ref().is_some_and(|more| more.due.is_some());
        if depth > limit && !is_delayed {
            return Err(Refusal::TooDeep { name: draft.name.clone(), depth, limit });
        }
        Ok(())
    }
}

impl RequestError {
    fn because(reason: NoAnswer, name: String, wanted: &'static str) -> Self {
        match reason {
            NoAnswer::NoHandler => Self::NoHandler { name },
            NoAnswer::NoReply => Self::NoReply { name, wanted },
            NoAnswer::Failed { subscription, source } => Self::Failed { subscription, error: source },
            NoAnswer::Deadlock { subscription } => Self::Deadlock { subscription },
            NoAnswer::Abandoned => Self::Abandoned,
        }
    }
}
