//! Emit: one event, many, or one after waiting for room.

use std::{pin::pin, sync::Arc};

use millstream_operators::Timestamp;
use tokio::sync::oneshot;

use super::{
    Advice, Cause, EmitError, Handling, Intake, Phase, Receipt, Refusal, Waiter,
    accept::Entry,
    prepare::{Prepared, Refused, refused},
    room::Grant,
};
use crate::{
    event::{Draft, IntoDraft},
    request::Request,
};

impl Intake {
    /// Emits, or hands back.
    pub(crate) fn emit<E: IntoDraft>(&self, event: E, cause: Option<&Cause>) -> Result<Receipt, EmitError<E>> {
        self.emit_draft(event.into_draft(), cause, None).map_err(|refused| refused.handed_back())
    }

    pub(crate) fn emit_draft(
        &self,
        draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Receipt, Refused> {
        self.try_emit(draft, cause, request, Entry::Outside).inspect_err(|refused| self.count_refusal(refused))
    }

    /// Emits, or hands back what is not counted as refused: the caller may try again.
    #[inline]
    fn try_emit(
        &self,
        mut draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
        entry: Entry,
    ) -> Result<Receipt, Refused> {
        // Checked and timed where it lies: only then is it moved, when what was just written has settled.
        if let Err(reason) = self.check(&mut draft) {
            return Err(refused(draft, reason));
        }
        let now = self.clock.now();
        if cause.is_none() && Handling::is_any() {
            return self.emit_inside(now, draft, request, entry);
        }
        self.emit_checked(now, draft, cause, request, entry)
    }

    /// Emits inside a handler, which is the cause if it is one of this runtime's.
    #[cold]
    fn emit_inside(
        &self,
        now: Timestamp,
        draft: Draft,
        request: Option<Arc<Request>>,
        outside: Entry,
    ) -> Result<Receipt, Refused> {
        let cause = self.cause_here();
        let entry = match (&cause, outside) {
            (Some(_), Entry::Waits) => Entry::HandlerWaits,
            (Some(_), _) => Entry::Handler,
            (None, outside) => outside,
        };
        self.emit_checked(now, draft, cause.as_ref(), request, entry)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the draft becomes an event in the queue without a copy between")]
    fn emit_checked(
        &self,
        now: Timestamp,
        draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
        entry: Entry,
    ) -> Result<Receipt, Refused> {
        let prepared = self.prepare_at(now, draft, cause, request)?;
        let claim = prepared.claim();
        let mut state = self.lock();
        let accepted = self.accept(&mut state, prepared, entry);
        self.let_in(state);
        Ok(claim.receipt(accepted?))
    }

    /// Emits each, under one lock, until one is refused: that one and the rest come back.
    pub(crate) fn emit_all<E: IntoDraft>(
        &self,
        events: impl IntoIterator<Item = E>,
        cause: Option<&Cause>,
    ) -> (Vec<Receipt>, Option<EmitError<E>>, Vec<E>) {
        let current = if cause.is_none() { self.cause_here() } else { None };
        let cause = current.as_ref().or(cause);
        // What the caller's iterator does, it does before the lock is taken and before the time is read: they are emitted
        // at once.
        let drafts: Vec<_> = events.into_iter().map(IntoDraft::into_draft).collect();
        let now = self.clock.now();
        let prepare = |draft: Draft| self.prepare(now, draft, cause, None);
        let mut prepared = drafts.into_iter().map(prepare).collect::<Vec<_>>().into_iter();
        let (mut accepted, mut refused) = (Vec::with_capacity(prepared.len()), None);
        let mut state = self.lock();
        for next in prepared.by_ref() {
            let entry = if current.is_some() { Entry::Handler } else { Entry::Outside };
            let accept = |prepared: Prepared| {
                let claim = prepared.claim();
                self.accept(&mut state, prepared, entry).map(|fate| claim.receipt(fate))
            };
            match next.and_then(accept) {
                Ok(receipt) => accepted.push(receipt),
                Err(first) => {
                    refused = Some(first);
                    break;
                }
            }
        }
        self.let_in(state);
        if let Some(refused) = &refused {
            self.count_refusal(refused);
        }
        let draft = |rest: Result<Prepared, Refused>| rest.map_or_else(|refused| refused.event, Prepared::into_draft);
        let rest = prepared.map(|rest| E::handed_back(draft(rest))).collect();
        (accepted, refused.map(|refused| refused.handed_back()), rest)
    }

    /// Emits, after waiting for room where there is none.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event is dropped with it and not counted; room that was granted goes to the next.
    pub(crate) async fn emit_wait<E: IntoDraft>(
        self: &Arc<Self>,
        event: E,
        cause: Option<&Cause>,
    ) -> Result<Receipt, EmitError<E>> {
        let mut draft = event.into_draft();
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            let refused = match self.try_emit(draft, cause, None, Entry::Waits) {
                Ok(receipt) => return Ok(receipt),
                Err(refused) => *refused,
            };
            draft = refused.event;
            match self.wait_out(&draft, refused.reason, settled).await {
                Ok(Some(grant)) => return self.redeem(draft, cause, grant),
                Ok(None) => {}
                Err(reason) => {
                    let refused = Box::new(EmitError { event: draft, reason });
                    self.count_refusal(&refused);
                    return Err(refused.handed_back());
                }
            }
        }
    }

    /// Waits until trying again makes sense, or has room held.
    async fn wait_out(
        self: &Arc<Self>,
        draft: &Draft,
        reason: Refusal,
        settled: impl Future<Output = ()>,
    ) -> Result<Option<Grant>, Refusal> {
        if reason.advice() == Advice::Never {
            return Err(reason);
        }
        if self.is_inside() {
            return Err(Refusal::WouldDeadlock);
        }
        match reason {
            Refusal::Full { .. } | Refusal::QuotaExceeded { what: "queued events", .. } => {
                return self.wait_for_room(draft).await.map(Some);
            }
            Refusal::RateExceeded { retry_after, .. } => tokio::time::sleep(retry_after).await,
            _ => settled.await,
        }
        Ok(None)
    }

    async fn wait_for_room(self: &Arc<Self>, draft: &Draft) -> Result<Grant, Refusal> {
        self.line_up(draft).await.map_err(|_| self.closed())
    }

    /// The end of the line, where there will be room some time; none in a runtime that is closed.
    fn line_up(self: &Arc<Self>, draft: &Draft) -> oneshot::Receiver<Grant> {
        let (grant, room) = oneshot::channel();
        let class = draft.priority.unwrap_or_default().class();
        let mut state = self.lock();
        if state.phase == Phase::Open {
            let gone = state.waiting.push(Waiter { class, tenant: draft.tenant.clone(), grant });
            // Room may have come free between the refusal and this lock.
            let granted = self.serve_waiting(&mut state);
            drop(state);
            drop(gone);
            granted.tell();
        }
        room
    }

    fn redeem<E: IntoDraft>(&self, draft: Draft, cause: Option<&Cause>, grant: Grant) -> Result<Receipt, EmitError<E>> {
        let accepted = self.prepare(self.clock.now(), draft, cause, None).and_then(|prepared| {
            let claim = prepared.claim();
            let mut state = self.lock();
            let accepted = self.accept(&mut state, prepared, Entry::Granted);
            self.let_in(state);
            Ok(claim.receipt(accepted?))
        });
        if accepted.is_ok() {
            grant.redeem();
        }
        accepted.inspect_err(|refused| self.count_refusal(refused)).map_err(|refused| refused.handed_back())
    }

    #[cold]
    fn count_refusal(&self, refused: &Refused) {
        self.lock().tally.refused += 1;
        tracing::debug!(event = %refused.event.name, reason = %refused.reason, "refused");
    }
}
