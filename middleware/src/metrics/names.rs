//! The keys of the metrics, made once a layer. The recorder is asked at each call, so it may be installed later.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, with_recorder};

use super::future::Outcome;
use crate::ErrorKind;

static METADATA: Metadata<'static> = Metadata::new("millstream", Level::INFO, Some(module_path!()));

const OUTCOMES: usize = ErrorKind::ALL.len() + 2;

#[derive(Debug)]
pub(super) struct Names {
    in_flight: Key,
    calls: [Key; OUTCOMES],
    durations: [Key; OUTCOMES],
}

impl Names {
    pub(super) fn new(service: &str) -> Self {
        let service = Label::new("service", service.to_owned());
        let keys = |name: &'static str| {
            std::array::from_fn(|outcome| {
                let labels = vec![service.clone(), Label::from_static_parts("outcome", outcome_name(outcome))];
                Key::from_parts(name, labels)
            })
        };
        Self {
            calls: keys("millstream_calls_total"),
            durations: keys("millstream_call_duration_seconds"),
            in_flight: Key::from_parts("millstream_calls_in_flight", vec![service.clone()]),
        }
    }

    pub(super) fn in_flight(&self) -> Gauge {
        with_recorder(|recorder| recorder.register_gauge(&self.in_flight, &METADATA))
    }

    pub(super) fn calls(&self, outcome: Outcome) -> Counter {
        with_recorder(|recorder| recorder.register_counter(&self.calls[index(outcome)], &METADATA))
    }

    pub(super) fn duration(&self, outcome: Outcome) -> Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.durations[index(outcome)], &METADATA))
    }
}

const fn index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Dropped => 1,
        Outcome::Failed(kind) => 2 + kind as usize,
    }
}

const fn outcome_name(index: usize) -> &'static str {
    match index {
        0 => "ok",
        1 => "dropped",
        failed => ErrorKind::ALL[failed - 2].name(),
    }
}
