//! What a stage must come to, from the operators alone: no epochs, no store, no lanes.

use std::{collections::BTreeMap, time::Duration};

use millstream_operators::{
    Chain, Steps, Timestamp,
    durable::{Durable, Labels, Parts},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::kit::Tick;
use crate::{epoch::StateKey, event::Draft, store::Seq};

#[derive(Debug, Default, PartialEq)]
pub(super) struct Model {
    /// What comes out for each key: data and time.
    pub(super) outputs: BTreeMap<StateKey, Vec<(Value, u64)>>,
    /// The parts of each key that is remembered, by label.
    pub(super) states: BTreeMap<StateKey, BTreeMap<String, Vec<u8>>>,
    /// The deadline of each.
    pub(super) deadlines: BTreeMap<StateKey, Timestamp>,
    pub(super) late: usize,
}

#[derive(Default)]
struct Collect(Labels, BTreeMap<String, Vec<u8>>);

impl Parts for Collect {
    type Error = std::convert::Infallible;

    fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &'static str,
        name: Option<&'static str>,
        state: &mut T,
    ) -> Result<(), Self::Error> {
        self.1.insert(self.0.label(kind, name).unwrap(), rmp_serde::to_vec_named(state).unwrap());
        Ok(())
    }
}

/// Runs a chain for each key over what came, each item at its own time, up to the watermark at the end.
pub(super) fn model<O: Durable<Tick, Out = Draft>>(
    chain: &Chain<Tick, O>,
    key: impl Fn(&Tick) -> String,
    items: &[(Seq, Tick, Timestamp)],
    lateness: Duration,
) -> Model {
    let (mut model, mut watermark) = (Model::default(), Timestamp::EPOCH);
    let mut by_key: BTreeMap<StateKey, Vec<(Timestamp, Seq, Tick)>> = BTreeMap::new();
    for (seq, tick, at) in items {
        if *at < watermark {
            model.late += 1;
            continue;
        }
        watermark = watermark.max(*at - lateness);
        by_key.entry(StateKey::new(None, &key(tick))).or_default().push((*at, *seq, tick.clone()));
    }
    for (key, mut items) in by_key {
        items.sort();
        items.retain(|(at, ..)| *at <= watermark);
        let Some((first, ..)) = items.first() else { continue };
        let mut seen = Vec::new();
        let mut out = |draft: Draft, at: Timestamp| seen.push((draft.data().to_json().unwrap(), at.as_nanos()));
        let mut steps = Steps::start(chain.operator(), *first, &mut out);
        for (at, _, tick) in &items {
            steps.item(tick.clone(), *at, &mut out);
        }
        steps.advance(watermark, &mut out);
        let mut state = steps.into_state();
        if !seen.is_empty() {
            model.outputs.insert(key.clone(), seen);
        }
        if !chain.operator().vacant(&state) {
            let mut parts = Collect::default();
            let Ok(()) = chain.parts(&mut state, None, &mut parts);
            model.deadlines.extend(chain.operator().deadline(&state).map(|due| (key.clone(), due)));
            model.states.insert(key, parts.1);
        }
    }
    model
}
