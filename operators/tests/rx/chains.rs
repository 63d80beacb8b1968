//! Cases without streams: a chain, a clock that is a number.

use millstream_operators::{Chain, Operator, Steps, Timestamp, chain};
use serde_json::Value;

use super::{
    case::{Case, Event, Mark, Timeline},
    ports,
    pure::{Visit, pure},
    timeline::Outcome,
};

/// What an input does next.
pub(crate) enum Step<In> {
    Item(In),
    End,
    /// Where an error is terminal, it ends the run at once.
    Fail(String),
}

struct Recorder {
    seen: Timeline,
    over: bool,
}

impl Recorder {
    fn push(&mut self, at: u64, mark: Mark) {
        if !self.over {
            self.over = !matches!(mark, Mark::Next(_));
            self.seen.push(Event { at, mark });
        }
    }

    fn outcome(&mut self, item: Outcome, at: Timestamp) {
        self.push(at.as_millis(), item.map_or_else(Mark::Error, Mark::Next));
    }
}

/// Runs `input` up to the horizon, every deadline at its own time.
pub(crate) fn drive<In, O: Operator<In, Out = Outcome>>(
    chain: &Chain<In, O>,
    input: Vec<(u64, Step<In>)>,
    horizon: Option<u64>,
) -> Timeline {
    let mut record = Recorder { seen: Vec::new(), over: false };
    let zero = Timestamp::EPOCH;
    let mut steps = Steps::start(chain, zero, &mut |item, at| record.outcome(item, at));
    let mut now = 0;
    let mut pass = |steps: &mut Steps<In, &Chain<In, O>>, record: &mut Recorder, to: Timestamp| {
        while let Some(due) = steps.deadline()
            && due <= to
            && !steps.completed()
        {
            now = due.as_millis();
            steps.advance(due, &mut |item, at| record.outcome(item, at));
            if steps.completed() {
                record.push(now, Mark::Complete);
            }
        }
    };
    if steps.completed() {
        record.push(0, Mark::Complete);
    }
    for (millis, step) in input {
        let at = Timestamp::from_millis(millis);
        pass(&mut steps, &mut record, at);
        match step {
            Step::Item(item) => steps.item(item, at, &mut |item, at| record.outcome(item, at)),
            Step::End => steps.end(at, &mut |item, at| record.outcome(item, at)),
            Step::Fail(error) => record.push(millis, Mark::Error(error)),
        }
        if steps.completed() {
            record.push(millis, Mark::Complete);
        }
    }
    let last = horizon.map_or(10_000_000, |horizon| horizon.saturating_sub(1));
    pass(&mut steps, &mut record, Timestamp::from_millis(last));
    record.seen
}

struct Synchronously<'a>(&'a Case);

impl Visit for Synchronously<'_> {
    type Output = Timeline;

    fn visit<O: Operator<Value, Out = Outcome>>(self, chain: Chain<Value, O>) -> Timeline {
        let steps = self.0.inputs[0].iter().map(|event| {
            let step = match event.mark.clone() {
                Mark::Next(value) => Step::Item(value),
                Mark::Complete => Step::End,
                Mark::Error(error) => Step::Fail(error),
            };
            (event.at, step)
        });
        drive(&chain, steps.collect(), self.0.horizon)
    }
}

fn recover(case: &Case) -> Timeline {
    let value = case.params["value"].clone();
    let chain = chain::<Outcome>().recover(move |_| value.clone()).map(Ok);
    let steps = case.inputs[0].iter().map(|event| {
        let step = match event.mark.clone() {
            Mark::Next(value) => Step::Item(Ok(value)),
            Mark::Complete => Step::End,
            Mark::Error(error) => Step::Item(Err(error)),
        };
        (event.at, step)
    });
    drive(&chain, steps.collect(), case.horizon)
}

/// `None` where the operator is not pure.
pub(crate) fn run(case: &Case) -> Option<Vec<Timeline>> {
    let seen = if case.op == "recover" {
        Some(recover(case))
    } else {
        pure(case, Synchronously(case)).or_else(|| ports::run(case))
    };
    seen.map(|seen| vec![seen])
}
