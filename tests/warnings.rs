//! What a durable runtime warns of in its log. Alone in its file: a subscriber sees all that it should only where no other thread
//! meets a place for the first time meanwhile.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use millstream::{
    Draft, Handler, HandlerError, Json, Runtime,
    store::Memory,
    testing::{self, TestKit},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// What was warned of, a line each.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "message" | "subscription" | "event" | "was") {
            write!(self.0, "{value:?};").unwrap();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn it_names_events_that_nobody_wants_once_earlier_names_that_nobody_had_and_whose_delivery_died() {
    let warnings = Warnings::default();
    let die = |_: Json| async { Err::<Draft, _>(HandlerError::permanent("no")) };
    let pass_on = |_: Json| async { Draft::json("typo.out", 1.into()) };
    tracing::subscriber::with_default(warnings.clone(), || {
        testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
            kit.on("order", die.named("charge").was("chrage"))?;
            kit.on("order", pass_on.named("ship"))?;
            for name in ["oder", "order", "oder"] {
                kit.emit(Draft::json(name, 1.into()))?.await?;
            }
            kit.settle().await;
            Ok(())
        });
    });
    let mut lines = warnings.0.lock().unwrap().clone();
    lines.sort_unstable();
    let all = lines.join("\n");
    assert_eq!(all.matches("no subscription wants this event").count(), 2, "{all}");
    assert!(all.contains("oder;") && all.contains("typo.out"), "{all}");
    assert_eq!(all.matches("chrage").count(), 1, "{all}");
    let dead: Vec<_> = lines.iter().filter(|line| line.contains("went to the dead letters")).collect();
    assert!(dead.len() == 1 && dead[0].contains("charge"), "{all}");
}
