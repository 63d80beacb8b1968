//! Operators of several inputs, without streams: what the inputs do, in the order of time, as items of ports.

use millstream_operators::{
    chain,
    combine::{
        BufferOn, CombineLatest, Merge, Port2, PortN, Race, SampleOn, SkipUntil, TakeUntil, WithLatestFrom, Zip,
    },
};
use serde_json::{Value, json};

use super::{
    case::{Case, Mark, Timeline},
    chains::{Step, drive},
};

/// Everything that the inputs do. At one time the ports come in the order `first`, then the others.
fn ports(case: &Case, first_last: bool) -> Vec<(u64, Step<PortN<Value>>)> {
    let mut all = Vec::new();
    for (port, input) in case.inputs.iter().enumerate() {
        for (index, event) in input.iter().enumerate() {
            let rank = if first_last && port == 0 { case.inputs.len() } else { port };
            let step = match event.mark.clone() {
                Mark::Next(value) => Step::Item(PortN { port, item: Some(value) }),
                Mark::Complete => Step::Item(PortN { port, item: None }),
                Mark::Error(error) => Step::Fail(error),
            };
            all.push(((event.at, rank, index), step));
        }
    }
    all.sort_by_key(|(order, _)| *order);
    let mut steps: Vec<_> = all.into_iter().map(|((at, ..), step)| (at, step)).collect();
    // All ports ended: so has the input.
    let ends = |line: &Timeline| matches!(line.last(), Some(event) if event.mark == Mark::Complete);
    if case.inputs.iter().all(ends) {
        let last = steps.last().map_or(0, |(at, _)| *at);
        steps.push((last, Step::End));
    }
    steps
}

/// The same for an input and its signal.
fn pair(case: &Case, first_last: bool) -> Vec<(u64, Step<Port2<Value, Value>>)> {
    let two = |item: PortN<Value>| if item.port == 0 { Port2::A(item.item) } else { Port2::B(item.item) };
    let steps = ports(case, first_last).into_iter().map(|(at, step)| {
        let step = match step {
            Step::Item(item) => Step::Item(two(item)),
            Step::End => Step::End,
            Step::Fail(error) => Step::Fail(error),
        };
        (at, step)
    });
    steps.collect()
}

pub(crate) fn run(case: &Case) -> Option<Timeline> {
    let (n, until) = (case.inputs.len(), case.horizon);
    let list = |items: Vec<Value>| Ok(json!(items));
    Some(match case.op.as_str() {
        "merge" => drive(&chain().apply(Merge).map(Ok), ports(case, false), until),
        "race" => drive(&chain().apply(Race).map(Ok), race(case), until),
        "zip" => drive(&chain().apply(Zip::new(n)).map(list), ports(case, false), until),
        "combine_latest" => drive(&chain().apply(CombineLatest::new(n)).map(list), ports(case, false), until),
        "with_latest_from" => drive(&chain().apply(WithLatestFrom::new(n)).map(list), ports(case, true), until),
        "take_until" => drive(&chain().apply(TakeUntil).map(Ok), pair(case, true), until),
        "skip_until" => drive(&chain().apply(SkipUntil).map(Ok), pair(&one_signal(case), true), until),
        "sample_on" => drive(&chain().apply(SampleOn).map(Ok), pair(case, false), until),
        "buffer_on" => drive(&chain().apply(BufferOn).map(list), pair(case, false), until),
        _ => return None,
    })
}

/// A driver drops the signal once it has spoken.
fn one_signal(case: &Case) -> Case {
    let mut case = case.clone();
    if let Some(signal) = case.inputs.get_mut(1) {
        let spoken = signal.iter().position(|event| matches!(event.mark, Mark::Next(_)));
        signal.truncate(spoken.map_or(usize::MAX, |index| index + 1));
    }
    case
}

/// Only the winner's error counts: a driver drops the others.
fn race(case: &Case) -> Vec<(u64, Step<PortN<Value>>)> {
    let first = case.inputs.iter().enumerate().filter_map(|(port, line)| line.first().map(|event| (event.at, port)));
    let winner = first.min().map_or(0, |(_, port)| port);
    let mut only = case.clone();
    for (port, line) in only.inputs.iter_mut().enumerate() {
        if port != winner {
            line.retain(|event| !matches!(event.mark, Mark::Error(_)));
        }
    }
    ports(&only, false)
}
