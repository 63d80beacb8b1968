//! The surface that users hold: auto traits, sizes of promises, observability.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    error::Error,
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use millstream::{
    Builder, Context, Data, DeadLetter, Delivery, Description, Draft, EmitError, Envelope, Event, EventSource,
    EventStream, Flow, Handle, Handler, HandlerError, Pattern, Persisted, Receipt, Refusal, RequestError, Retry,
    Runtime, ShutdownReport, StreamMeter, TenantHandle,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::ServiceBuilder;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tick {
    n: u64,
}

#[test]
fn auto_traits_are_as_promised() {
    fn future<F: Send>(_: F) {}
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    fn error<T: Error + Send + Sync + 'static>() {}
    shared::<(Runtime, TenantHandle, Handle, Context)>();
    shared::<(Draft, Envelope, Data, Receipt, Pattern, DeadLetter, Description, ShutdownReport)>();
    shared::<(Persisted, EventStream<Tick>, Flow<EventStream<Tick>>, StreamMeter, Delivery, Builder)>();
    sent::<EventSource<Tick>>();
    error::<EmitError<Tick>>();
    error::<Refusal>();
    error::<HandlerError>();
    error::<RequestError>();
    let runtime = || Runtime::builder().build().expect("the defaults are possible");
    future(runtime().process());
    future(runtime().run());
    future(runtime().emit_wait(Tick { n: 1 }));
    future(runtime().request::<Tick>(Tick { n: 1 }, std::time::Duration::ZERO));
    future(runtime().shutdown(std::time::Duration::ZERO));
}

#[test]
fn any_tower_layer_fits_a_handler_and_the_first_written_is_the_outermost() {
    testing::run(Runtime::builder(), async |kit| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tell = |name: &'static str| {
            let seen = Arc::clone(&seen);
            tower::util::MapRequestLayer::new(move |delivery: Delivery| {
                seen.lock().unwrap().push(name);
                delivery
            })
        };
        let probe = Probe::<Tick>::new().takes(std::time::Duration::from_secs(1));
        let stack = ServiceBuilder::new().layer(tell("outer")).layer(tell("inner")).concurrency_limit(2);
        kit.on("tick", probe.handler().layer(tell("outermost")).layer(stack))?;
        for n in 0..4 {
            kit.emit(Tick { n })?;
        }
        kit.settle().await;
        assert_eq!((probe.attempts(), probe.most_running()), (4, 2));
        assert_eq!(seen.lock().unwrap()[..3], ["outermost", "outer", "inner"]);
        Ok(())
    });
}

#[test]
fn errors_of_layers_are_errors_of_the_delivery() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Tick>::new().hangs();
        let stack = ServiceBuilder::new().timeout(std::time::Duration::from_secs(1));
        kit.on(
            "tick",
            probe.handler().layer(stack).retry(Retry::fixed(std::time::Duration::from_secs(1)).attempts(2)),
        )?;
        kit.emit(Tick { n: 1 })?;
        kit.settle().await;
        assert_eq!(kit.elapsed(), std::time::Duration::from_secs(3));
        assert!(kit.assert_one_dead_letter().reason().contains("timed out"));
        Ok(())
    });
}

#[test]
fn a_description_draws_the_graph_with_its_counts() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("order.placed", (|| async { Tick { n: 1 } }).named("reserve \"it\""))?;
        kit.on("tick", || async {})?;
        kit.emit(Draft::json("order.placed", json!(1)))?;
        kit.settle().await;
        let description = kit.describe();
        let mermaid = description.to_mermaid();
        for line in
            ["flowchart LR", "e0([\"order.placed\"])", "s0[\"reserve #34;it#34;\"]", "e0 -->|1| s0", "s0 -->|1| e1"]
        {
            assert!(mermaid.contains(line), "{line}\n{mermaid}");
        }
        let dot = description.to_dot();
        assert!(dot.starts_with("digraph millstream {") && dot.contains("s0 -> e1 [label=\"1\"];"), "{dot}");
        let json = serde_json::to_value(&description)?;
        assert_eq!(json["subscriptions"][0]["book"]["handled"], 1);
        assert_eq!(json["stats"]["events"]["emitted"], 2);
        Ok(())
    });
}

#[test]
fn an_envelope_serialises_with_all_that_it_knows() {
    testing::run(Runtime::builder(), async |kit| {
        kit.emit(Draft::new(Tick { n: 1 }).key("k").actor("ann"))?;
        let json = serde_json::to_value(&*kit.events()[0])?;
        assert_eq!((&json["name"], &json["key"], &json["actor"]), (&json!("tick"), &json!("k"), &json!("ann")));
        assert_eq!((&json["data"], &json["depth"], &json["priority"]), (&json!({"n": 1}), &json!(0), &json!("normal")));
        Ok(())
    });
}

/// Sums every counter and counts every histogram record, by name and labels.
#[derive(Clone, Default)]
struct Sums(Arc<Mutex<std::collections::BTreeMap<String, u64>>>);

struct Sum(Sums, String);

impl CounterFn for Sum {
    fn increment(&self, by: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += by;
    }

    fn absolute(&self, to: u64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), to);
    }
}

impl HistogramFn for Sum {
    fn record(&self, _: f64) {
        self.increment(1);
    }
}

fn shown(key: &Key) -> String {
    key.labels().fold(key.name().to_owned(), |text, label| format!("{text} {}={}", label.key(), label.value()))
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Sum(self.clone(), shown(key))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Sum(self.clone(), shown(key))))
    }
}

#[test]
fn metrics_count_what_happens() {
    let sums = Sums::default();
    metrics::with_local_recorder(&sums, || {
        testing::run(Runtime::builder().queue_size(2), async |kit| {
            let flaky = Probe::<Tick>::new().fails(1).takes(std::time::Duration::from_secs(1));
            kit.on(
                "tick",
                flaky.handler().named("flaky").retry(Retry::fixed(std::time::Duration::from_secs(1)).attempts(2)),
            )?;
            kit.on("bad", || async { Err::<(), _>("no") })?;
            kit.emit(Tick { n: 1 })?;
            kit.emit(Draft::json("bad", json!(1)))?;
            assert!(kit.emit(Tick { n: 2 }).is_err());
            kit.settle().await;
            kit.emit(Draft::json("unrouted", json!(1)))?;
            kit.settle().await;
            Ok(())
        });
    });
    let sums = sums.0.lock().unwrap().clone();
    let table = [
        ("millstream_events_emitted_total", 3),
        ("millstream_events_refused_total", 1),
        ("millstream_events_unrouted_total", 1),
        ("millstream_retries_total", 1),
        ("millstream_dead_letters_total", 1),
        ("millstream_queue_wait_seconds", 3),
        ("millstream_handler_duration_seconds handler=flaky outcome=handled", 1),
        ("millstream_handler_duration_seconds handler=flaky outcome=failed", 1),
    ];
    for (name, expected) in table {
        assert_eq!(sums.get(name), Some(&expected), "{name} in {sums:#?}");
    }
}
