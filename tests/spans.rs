//! The spans of an event's way. Alone in its file: a subscriber sees all that it should only where no other thread meets
//! a span for the first time meanwhile.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::{Arc, Mutex};

use millstream::{
    Event, Handler, Retry, Runtime,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tick {
    n: u64,
}

/// What was said about spans, a line each.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl Spans {
    fn keep(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn the_first_attempt_is_a_child_of_where_the_event_was_emitted_and_a_retry_follows_from_there() {
    let spans = Spans::default();
    tracing::subscriber::with_default(Whole(spans.clone(), Mutex::default()), || {
        testing::run(Runtime::builder(), async |kit| {
            let probe = Probe::<Tick>::new().fails(1);
            kit.on("tick", probe.handler().retry(Retry::fixed(std::time::Duration::from_secs(1))))?;
            tracing::info_span!("emitting").in_scope(|| kit.emit(Tick { n: 1 }))?;
            kit.settle().await;
            Ok(())
        });
    });
    assert_eq!(*spans.0.lock().unwrap(), ["emitting under 0", "handle under 1", "handle under 0", "3 follows 1"]);
}

/// A subscriber that tells [`Spans`], and knows which span is entered.
struct Whole(Spans, Mutex<Vec<(u64, &'static tracing::Metadata<'static>)>>);

impl tracing::Subscriber for Whole {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let parent = attributes.parent().map_or(0, tracing::span::Id::into_u64);
        self.0.keep(format!("{} under {parent}", attributes.metadata().name()));
        let mut spans = self.1.lock().unwrap();
        spans.push((0, attributes.metadata()));
        tracing::span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, span: &tracing::span::Id, follows: &tracing::span::Id) {
        self.0.keep(format!("{} follows {}", span.into_u64(), follows.into_u64()));
    }

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, span: &tracing::span::Id) {
        let place = usize::try_from(span.into_u64() - 1).unwrap();
        self.1.lock().unwrap()[place].0 += 1;
    }

    fn exit(&self, span: &tracing::span::Id) {
        let place = usize::try_from(span.into_u64() - 1).unwrap();
        self.1.lock().unwrap()[place].0 -= 1;
    }

    fn current_span(&self) -> tracing_core::span::Current {
        let spans = self.1.lock().unwrap();
        let entered = spans.iter().enumerate().rev().find(|(_, (entered, _))| *entered > 0);
        entered.map_or_else(tracing_core::span::Current::none, |(place, (_, metadata))| {
            tracing_core::span::Current::new(tracing::span::Id::from_u64(place as u64 + 1), metadata)
        })
    }
}
