use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use millstream_middleware::metrics::MetricsLayer;
use millstream_middleware::trace::TraceLayer;
use tower::{Service, ServiceBuilder, ServiceExt};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_by_outcome_and_the_gauge_goes_down() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let mut service = ServiceBuilder::new().layer(MetricsLayer::new("pay")).service(Probe::new());
    service.clone().oneshot(req(1, Act::Take(S * 2))).await.unwrap();
    service.clone().oneshot(req(2, Act::Fail(BROKEN))).await.unwrap_err();
    let mut dropped = Box::pin(service.ready().await.unwrap().call(req(3, Act::Hang)));
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);

    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    let count = |outcome: &str| match seen.get(&format!("millstream_calls_total pay {outcome}")) {
        Some(DebugValue::Counter(n)) => *n,
        other => panic!("{other:?} of {seen:?}"),
    };
    assert_eq!((count("ok"), count("other"), count("dropped")), (1, 1, 1));
    assert_eq!(seen["millstream_calls_in_flight pay"], DebugValue::Gauge(0.0.into()));
    let durations = &seen["millstream_call_duration_seconds pay ok"];
    assert!(matches!(durations, DebugValue::Histogram(all) if all.len() == 1 && all[0].into_inner() >= 2.0));
}

/// Writes down what spans and events say.
#[derive(Clone, Default)]
struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    ids: Arc<AtomicU64>,
}

impl Visit for Notes {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.lines.lock().unwrap().push(format!("{field}={value:?}"));
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "millstream"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(self.ids.fetch_add(1, SeqCst) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_call_is_a_span_with_its_outcome() {
    let notes = Notes::default();
    let _guard = tracing::subscriber::set_default(notes.clone());
    let mut service = ServiceBuilder::new().layer(TraceLayer::new("pay")).service(Probe::new());
    service.clone().oneshot(req(1, Act::Answer)).await.unwrap();
    service.clone().oneshot(req(2, Act::Fail(BROKEN))).await.unwrap_err();
    let dropped = service.ready().await.unwrap().call(req(3, Act::Hang));
    drop(dropped);
    let lines = notes.lines.lock().unwrap().join(" ");
    let expected = "service=pay outcome=\"ok\" \
                    service=pay message=call failed kind=\"other\" error=broken: other outcome=\"other\" \
                    service=pay outcome=\"dropped\"";
    assert_eq!(lines, expected);
}
