//! The storage as everybody has it who is no handler.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use futures_util::future::FutureExt as _;
use tokio::sync::oneshot;

use super::{Runtime, TenantHandle, handle::Shared};
use crate::{
    dispatch::{Command, Write},
    event::Tenant,
    intake::chain,
    storage::{Scope, Stale, Storage, StorageError, Writer, Writes, Written},
};

type Answer = Result<Result<(), Stale>, StorageError>;

impl Runtime {
    /// What is kept by key in a namespace, of no tenant. Each write is a commit of its own; handlers write with their outcome,
    /// through [`Context::storage`](crate::Context::storage). See [`Storage`].
    pub fn storage(&self, namespace: &str) -> Storage {
        self.storage_of(None, namespace)
    }

    fn storage_of(&self, tenant: Option<&Tenant>, namespace: &str) -> Storage {
        let shelf = &self.shared.shelf;
        let writer: Arc<dyn Writer> =
            if shelf.is_direct() { Arc::clone(shelf) as _ } else { Arc::clone(&self.shared) as _ };
        Storage::outside(shelf, Scope::new(tenant, namespace), writer)
    }

    /// Waits until it is known what became of a write. Drives the store meanwhile where nobody does, unless a handler waits,
    /// which somebody drives.
    async fn await_write(&self, mut answer: oneshot::Receiver<Answer>) -> Answer {
        let may_drive = self.must_be_outside().is_ok();
        loop {
            let mut settled = pin!(self.shared.intake.settled.notified());
            settled.as_mut().enable();
            if self.is_stopped() {
                return answer.try_recv().unwrap_or(Err(StorageError::Closed));
            }
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or(Err(StorageError::Closed)),
                mut dispatcher = self.shared.dispatcher.lock(), if may_drive => {
                    if self.is_stopped() {
                        continue;
                    }
                    dispatcher.change_hands();
                    // A shutdown whose grace is over wants the dispatcher.
                    let mut aborted = pin!(self.shared.stop.cancelled());
                    return poll_fn(|cx| {
                        dispatcher.storage_round(cx);
                        if let Poll::Ready(answer) = answer.poll_unpin(cx) {
                            return Poll::Ready(answer.unwrap_or(Err(StorageError::Closed)));
                        }
                        if aborted.as_mut().poll(cx).is_ready() {
                            let reason = "the runtime was shut down".to_owned();
                            return Poll::Ready(Err(StorageError::Unknown { reason }));
                        }
                        match dispatcher.store_error() {
                            Some(error) => {
                                let reason = chain(error);
                                answer.close();
                                dispatcher.drop_given_up();
                                Poll::Ready(Err(StorageError::Unknown { reason }))
                            }
                            None => Poll::Pending,
                        }
                    })
                    .await;
                }
                () = settled => {}
            }
        }
    }
}

impl TenantHandle {
    /// What is kept by key in a namespace of this tenant; see [`Runtime::storage`].
    pub fn storage(&self, namespace: &str) -> Storage {
        self.runtime.storage_of(Some(&self.tenant), namespace)
    }
}

impl Writer for Shared {
    fn write(self: Arc<Self>, writes: Writes) -> Written {
        let runtime = Runtime { shared: self };
        Box::pin(async move {
            if runtime.is_stopped() {
                return Err(StorageError::Closed);
            }
            let (reply, answer) = oneshot::channel();
            runtime.shared.command(Command::Write(Write { writes, reply }));
            runtime.await_write(answer).await
        })
    }
}
