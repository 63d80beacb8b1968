//! A durable runtime: emit, wait until it is on disk; where it handles, a handler of its own gets each event.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use millstream::{Event, Handler as _, Runtime, UnroutedPolicy, store::Redb};
use serde::{Deserialize, Serialize};

use crate::{
    harness::{Contender, handle},
    ours::Counted,
};

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order.placed")]
pub struct Placed {
    order: String,
}

impl Placed {
    pub fn new(event: Bytes) -> Self {
        Self { order: String::from_utf8(event.into()).expect("text") }
    }
}

async fn count(placed: Placed) {
    assert!(handle(placed.order.as_bytes()), "it is an event");
}

/// A runtime with a store in one file.
#[derive(Clone)]
pub struct Engine {
    runtime: Arc<Runtime>,
}

impl Engine {
    pub fn open(path: &Path, handles: bool) -> Self {
        let store = Redb::builder().open_on(Counted::open(path)).expect("a store");
        let runtime = Runtime::builder()
            .queue_size(10_000)
            .store(store)
            .unrouted(UnroutedPolicy::Ignore)
            .build()
            .expect("right settings");
        if handles {
            runtime.on("order.placed", count.named("count")).expect("a new name");
        }
        Self { runtime: Arc::new(runtime) }
    }
}

impl Contender for Engine {
    async fn append(&self, event: Bytes) {
        self.runtime.emit(Placed::new(event)).expect("room for each who emits").await.expect("it is on disk");
    }

    async fn drive(&self) {
        self.runtime.run().await.expect("nobody else drives it for good");
    }

    async fn rest(&self) {
        self.runtime.process().await.expect("it is driven");
        self.runtime.shutdown(Duration::from_secs(10)).await.expect("it is driven");
    }
}
