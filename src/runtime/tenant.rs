//! A runtime as one tenant sees it.

use std::time::Duration;

use millstream_operators::Flow;

use super::{EventStream, OnError, Runtime, StreamOptions, SubscriptionId};
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter},
    event::{Draft, Event, IntoDraft, Tenant},
    intake::{EmitError, Receipt, Refusal, RequestError},
    stage::{Extract, Handler},
};

/// A runtime as one tenant sees it: it stamps the tenant on what it emits, and hears only that tenant's events.
#[derive(Clone, Debug)]
pub struct TenantHandle {
    pub(super) runtime: Runtime,
    pub(super) tenant: Tenant,
}

impl Runtime {
    /// The runtime as one tenant sees it.
    pub fn tenant(&self, tenant: impl Into<Tenant>) -> TenantHandle {
        TenantHandle { runtime: self.clone(), tenant: tenant.into() }
    }
}

impl TenantHandle {
    /// Whose handle it is.
    pub fn name(&self) -> &Tenant {
        &self.tenant
    }

    /// Emits for this tenant; see [`Runtime::emit`].
    ///
    /// # Errors
    /// As there; an event of another tenant is refused.
    pub fn emit<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        let draft = self.stamp(event)?;
        self.runtime.emit(draft).map_err(EmitError::handed_back)
    }

    /// Emits for this tenant, after waiting for room, rate and quota; see [`Runtime::emit_wait`].
    ///
    /// # Errors
    /// As there; an event of another tenant is refused.
    pub async fn emit_wait<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        let draft = self.stamp(event)?;
        self.runtime.emit_wait(draft).await.map_err(EmitError::handed_back)
    }

    /// Asks for this tenant; see [`Runtime::request`].
    ///
    /// # Errors
    /// As there; a request of another tenant is refused.
    pub async fn request<R: Event>(&self, question: impl IntoDraft, deadline: Duration) -> Result<R, RequestError> {
        let question = self
            .stamp(question.into_draft())
            .map_err(|error| RequestError::Refused { reason: error.reason, request: Box::new(error.event) })?;
        self.runtime.request(question, deadline).await
    }

    /// Subscribes to this tenant's events; see [`Runtime::on`].
    ///
    /// # Errors
    /// As there.
    pub fn on<H, Args>(&self, pattern: &str, handler: H) -> Result<SubscriptionId, OnError>
    where
        H: Handler<Args>,
        Args: 'static,
    {
        self.runtime.subscribe(pattern, handler, Some(self.tenant.clone()))
    }

    /// A stream of this tenant's events; see [`Runtime::stream`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn stream<T: Extract + 'static>(&self, pattern: &str) -> Flow<EventStream<T>> {
        self.runtime.stream_or_ended(pattern, Some(&self.tenant))
    }

    /// A stream of this tenant's events with a buffer of one's own; see [`Runtime::stream_with`].
    ///
    /// # Errors
    /// As there.
    pub fn stream_with<T: Extract + 'static>(
        &self,
        pattern: &str,
        options: StreamOptions,
    ) -> Result<Flow<EventStream<T>>, OnError> {
        self.runtime.open_stream(pattern, options, Some(&self.tenant))
    }

    /// This tenant's dead letters that a filter selects.
    pub fn dead_letters(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        self.runtime.dead_letters(&filter.clone().tenant(&self.tenant))
    }

    fn stamp<E: IntoDraft>(&self, event: E) -> Result<Draft, EmitError<E>> {
        let draft = event.into_draft();
        match draft.tenant.clone() {
            Some(other) if other != self.tenant => {
                let reason = Refusal::ForeignTenant { own: self.tenant.clone(), other };
                Err(EmitError { event: E::handed_back(draft), reason })
            }
            _ => Ok(draft.tenant(&self.tenant)),
        }
    }
}
