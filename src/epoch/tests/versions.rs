//! Chains that change between two runs.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use millstream_operators::{
    Chain, chain,
    durable::{Durable, Held},
};
use serde_json::{Value, json};

use super::kit::{Plain, Rig, STAGE, Tick, millis, out};
use crate::{
    epoch::{
        MigrateError, Stage, StateKey, Step,
        rows::{Rows, STATES},
    },
    event::Draft,
    store::{Op, PartitionId, Store},
};

#[expect(clippy::needless_pass_by_value, reason = "chains hand items over")]
fn sum(sum: &mut u32, tick: Tick) {
    *sum += tick.number;
}

fn first() -> Stage<Tick, Chain<Tick, impl Durable<Tick, Out = Draft, State: Send> + Send + 'static>> {
    Stage::keyed(|tick: &Tick| tick.key, chain().scan(0_u32, sum).map(out))
}

async fn rig_with_some() -> Rig {
    let mut rig = Rig::new(first()).await;
    for key in 0..40 {
        rig.tick(key, 5, 0).await;
    }
    rig.settle().await;
    rig
}

async fn parked(rig: &mut Rig) -> String {
    rig.tick(1, 1, 0).await;
    assert_eq!(rig.settle().await, Step::Parked);
    rig.stage.status().parked.unwrap()
}

#[tokio::test]
async fn a_chain_that_was_edited_finds_its_states_again() {
    let mut rig = rig_with_some().await;
    let edited =
        chain().inspect(|_| {}).filter(|tick: &Tick| tick.number < 100).scan(0_u32, sum).map(|sum| out(sum * 2));
    rig.restart(Stage::keyed(|tick: &Tick| tick.key, edited)).await;
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await.last(), Some(&json!(12)));
}

#[tokio::test]
async fn a_part_that_is_missing_or_unclaimed_or_bad_parks_the_stage_until_the_chain_fits_again() {
    let mut rig = rig_with_some().await;
    rig.restart(Stage::keyed(|tick: &Tick| tick.key, chain().scan(0_u32, sum).skip(1).map(out))).await;
    let reason = parked(&mut rig).await;
    assert!(reason.contains("key `1`") && reason.contains("`skip#0` was not saved"), "{reason}");
    rig.restart(Stage::keyed(|tick: &Tick| tick.key, chain().map(out))).await;
    assert!(parked(&mut rig).await.contains("`scan#0` was saved and the chain has none"));
    let text = chain().scan(String::new(), |_, _: Tick| {}).map(out);
    rig.restart(Stage::keyed(|tick: &Tick| tick.key, text)).await;
    assert!(parked(&mut rig).await.contains("`scan#0` is of another shape"));
    rig.restart(first()).await;
    rig.settle().await;
    assert_eq!(rig.data().await[40..], [json!(6), json!(7), json!(8)], "nothing was taken in between");
}

#[tokio::test]
async fn another_version_parks_the_stage_unless_it_migrates() {
    let mut rig = rig_with_some().await;
    rig.restart(first().version(2)).await;
    let reason = parked(&mut rig).await;
    assert!(reason.contains("version 1, the stage is 2"), "{reason}");
    rig.restart(first().version(0)).await;
    assert!(parked(&mut rig).await.contains("version 1, the stage is 0"));

    let text = || {
        let chain =
            chain().scan(String::new(), |text: &mut String, tick: Tick| *text = format!("{text},{}", tick.number));
        Stage::keyed(|tick: &Tick| tick.key, chain.named("text").map(out)).version(2).migrate(|from, parts| {
            assert_eq!(from, 1);
            let sum: u32 = parts.get("scan#0")?.ok_or_else(|| MigrateError::new("there is no sum"))?;
            parts.remove("scan#0");
            parts.put("text", &sum.to_string())
        })
    };
    rig.restart(text()).await;
    rig.settle().await;
    assert_eq!(rig.data().await.last(), Some(&json!("5,1,1")));
    // What was not touched is still of version 1, and is migrated when it is.
    rig.restart(text()).await;
    rig.tick(30, 2, 0).await;
    rig.tick(1, 3, 0).await;
    rig.settle().await;
    let data = rig.data().await;
    assert_eq!(data[data.len() - 2..], [json!("5,2"), json!("5,1,1,3")]);
}

#[tokio::test]
async fn a_migration_that_fails_parks_the_stage() {
    let mut rig = rig_with_some().await;
    rig.restart(first().version(2).migrate(|_, _| Err(MigrateError::new("not from there")))).await;
    assert!(parked(&mut rig).await.contains("not from there"));
}

#[tokio::test]
async fn a_stage_may_have_other_lanes_after_a_restart() {
    let mut rig = rig_with_some().await;
    for lanes in [16, 4, 1] {
        rig.restart(first().lanes(lanes)).await;
        for key in 0..40 {
            rig.tick(key, 1, 0).await;
        }
        rig.settle().await;
    }
    assert!(rig.data().await[120..].iter().all(|sum| *sum == json!(8)));
}

#[test]
fn bad_settings_are_refused_all_at_once() {
    let chain = || chain::<Tick>().take(1).take(2).debounce(millis(5)).map(out);
    let stage = Stage::new(chain()).epoch(0).lanes(0).state_memory(1).pattern("a..b").idle(millis(0));
    let refused = stage.build("", Arc::new(Plain)).unwrap_err();
    let settings: Vec<_> = refused.refused().iter().map(super::super::super::SettingError::setting).collect();
    assert_eq!(settings, ["name", "epoch", "lanes", "state_memory", "idle", "idle", "pattern", "chain"]);
    assert!(refused.to_string().contains("2 operators `take` have no name"), "{refused}");
}

/// Numbers, each with the one before it, as JSON that is a list itself.
fn pairs() -> Stage<Tick, Chain<Tick, impl Durable<Tick, Out = Draft, State: Send> + Send + 'static>> {
    let listed = chain().map(|tick: Tick| json!([tick.number])).pairwise();
    Stage::keyed(|tick: &Tick| tick.key, listed.map(out))
}

/// A state of format 1 with one part.
fn dated(label: &str, part: &impl serde::Serialize) -> Bytes {
    let part = rmp_serde::to_vec_named(part).unwrap();
    let mut value = vec![1, 0];
    value.put_u32(1);
    value.put_u32(0);
    value.put_u16(1);
    value.put_u8(u8::try_from(label.len()).unwrap());
    value.put_slice(label.as_bytes());
    value.put_u32(u32::try_from(part.len()).unwrap());
    value.put_slice(&part);
    value.put_u32(0);
    value.into()
}

impl Rig {
    /// The state of a key, as an earlier build has written it.
    async fn put_state(&self, key: &str, value: Bytes) {
        let key = Rows::of(STAGE).state(&StateKey::new(None, key));
        self.store.append(PartitionId(0), vec![Op::PutNew { table: STATES, key, value, life: None }]).await.unwrap();
    }
}

#[tokio::test]
async fn what_an_earlier_build_remembered_of_items_in_another_form_is_refused_and_never_read_wrongly() {
    for part in [json!([5]), json!([]), json!(null), json!(5)] {
        let mut rig = Rig::new(pairs()).await;
        rig.put_state("1", dated("pairwise#0", &part)).await;
        let reason = parked(&mut rig).await;
        assert!(reason.contains("key `1`") && reason.contains("`pairwise#0`"), "{reason}");
        assert!(reason.contains("an earlier build") && reason.contains("or another name"), "{reason}");
    }
}

#[tokio::test]
async fn other_states_of_an_earlier_build_are_read_as_they_are() {
    let mut rig = Rig::new(first()).await;
    rig.put_state("1", dated("scan#0", &7)).await;
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    rig.restart(first()).await;
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(8), json!(9)]);
}

#[tokio::test]
async fn a_migration_brings_what_an_earlier_build_remembered_into_the_form_of_now() {
    let mut rig = Rig::new(pairs()).await;
    rig.tick(2, 1, 0).await;
    rig.settle().await;
    rig.put_state("1", dated("pairwise#0", &Some(json!([5])))).await;
    rig.restart(pairs().version(2).migrate(|_, _| Ok(()))).await;
    assert!(parked(&mut rig).await.contains("an earlier build saved `pairwise#0`"));
    rig.restart(pairs().version(2).migrate(|_, parts| {
        if parts.is_dated("pairwise#0") {
            let last: Option<Value> = parts.get("pairwise#0")?.flatten();
            parts.put("pairwise#0", &Held::from(last))?;
        }
        Ok(())
    }))
    .await;
    rig.tick(2, 2, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!([[5], [1]]), json!([[1], [2]])]);
}
