//! Chains that change between two runs.

use std::sync::Arc;

use millstream_operators::{Chain, chain, durable::Durable};
use serde_json::json;

use super::kit::{Plain, Rig, Tick, millis, out};
use crate::{
    epoch::{MigrateError, Stage, Step},
    event::Draft,
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
