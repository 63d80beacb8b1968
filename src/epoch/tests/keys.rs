//! More keys than memory, and more timers.

use std::collections::HashSet;

use millstream_operators::{Chain, chain, durable::Durable};
use serde_json::json;

use super::kit::{Rig, STAGE, Tick, millis, ms, out};
use crate::{
    epoch::{
        Remaining, Stage, StageError, Step,
        rows::{DELTAS, STATES, TABLES, TIMERS},
        rows_to_forget,
    },
    event::{Draft, Priority},
    store::{CommitError, MAX_BATCH_BYTES, Op, RowKey},
};

const KEYS: u32 = 3_000;

/// Keys with states that are larger together than a batch may be.
const LARGE: u32 = 60;

fn ticks(number: u32, at: u64) -> Vec<(Tick, millstream_operators::Timestamp)> {
    (0..KEYS).map(|key| (Tick { key, number }, ms(at))).collect()
}

fn sums() -> Stage<Tick, Chain<Tick, impl Durable<Tick, Out = Draft, State: Send> + Send + 'static>> {
    let chain = chain().scan(0_u32, |sum, tick: Tick| *sum += tick.number).map(out);
    Stage::keyed(|tick: &Tick| tick.key, chain).epoch(100).state_memory(256 << 10)
}

#[tokio::test]
async fn state_may_be_larger_than_memory() {
    let mut rig = Rig::new(sums()).await;
    for round in 1..=4_u32 {
        rig.append(Priority::Normal, &ticks(round, 0)).await;
        rig.settle().await;
        let status = rig.stage.status();
        assert!(status.keys < KEYS as usize / 2 && status.bytes <= 300 << 10, "{status:?}");
        let expected = (1..=round).sum::<u32>();
        assert!(rig.data().await[(round as usize - 1) * KEYS as usize..].iter().all(|sum| *sum == json!(expected)));
        if round == 2 {
            rig.restart(sums()).await;
        }
    }
    assert_eq!(rig.states().await.len(), KEYS as usize);
}

#[tokio::test]
async fn less_memory_after_a_restart_writes_back_no_more_than_a_batch_may_have() {
    let stage = |memory| {
        let chain = chain().scan((0, String::new()), |(count, text), _: Tick| {
            *count += 1;
            *text = "x".repeat(MAX_BATCH_BYTES / 50);
        });
        let chain = chain.map(|(count, _): (u32, String)| out(count));
        Stage::keyed(|tick: &Tick| tick.key, chain).epoch(30).state_memory(memory)
    };
    let mut rig = Rig::new(stage(1 << 30)).await;
    let ticks: Vec<_> = (0..LARGE).map(|key| (Tick { key, number: 0 }, ms(0))).collect();
    rig.append(Priority::Normal, &ticks).await;
    rig.settle().await;
    rig.restart(stage(64 << 10)).await;
    for key in 0..LARGE {
        rig.tick(key, 1, 0).await;
        assert!(matches!(rig.settle().await, Step::Idle { .. }), "{:?}", rig.stage.status().parked);
    }
    assert_eq!(rig.data().await[LARGE as usize..], vec![json!(2); LARGE as usize]);
}

#[tokio::test]
async fn a_large_state_is_not_written_back_beside_another() {
    let chain = chain().scan((0, String::new()), |(count, text), tick: Tick| {
        *count += 1;
        *text = "x".repeat(tick.number as usize * (MAX_BATCH_BYTES / 10));
    });
    let chain = chain.map(|(count, _): (u32, String)| out(count));
    let mut rig = Rig::new(Stage::keyed(|tick: &Tick| tick.key, chain).state_memory(1 << 30)).await;
    let ticks: Vec<_> = (0..20).map(|key| (Tick { key, number: if key == 0 { 6 } else { 0 } }, ms(0))).collect();
    rig.append(Priority::Normal, &ticks).await;
    rig.settle().await;
    for number in [5, 1, 0] {
        rig.tick(1, number, 0).await;
        while let Err(error) = rig.try_settle().await {
            assert!(matches!(error, StageError::Commit(CommitError::TooLarge { .. })), "{error}");
            rig.restore().await;
        }
        assert_eq!(rig.stage.status().parked, None);
    }
    assert_eq!(rig.data().await[20..], [json!(2), json!(3), json!(4)]);
}

#[tokio::test]
async fn keys_that_are_as_good_as_fresh_are_forgotten() {
    let stage = || Stage::keyed(|tick: &Tick| tick.key, chain().debounce(millis(10)).map(out)).epoch(100);
    let mut rig = Rig::new(stage()).await;
    rig.append(Priority::Normal, &ticks(1, 0)).await;
    rig.settle().await;
    assert_eq!(rig.states().await.len(), KEYS as usize);
    rig.now = ms(10);
    rig.settle().await;
    assert_eq!(rig.outputs().await.len(), KEYS as usize);
    assert_eq!(rig.states().await.len(), 0);
    rig.check_timers().await;
    // What is left of them goes with the epochs that follow.
    for round in 0..3_000 {
        rig.tick(1, round, 10).await;
        rig.settle().await;
    }
    assert!(rig.count(DELTAS).await < 2_000 && rig.count(STATES).await < 20 && rig.count(TIMERS).await < 20);
}

#[tokio::test]
async fn more_timers_than_memory_at_one_moment_fire_in_the_order_of_their_keys_over_restarts() {
    let stage = || {
        Stage::keyed(|tick: &Tick| tick.key, chain().delay(millis(10)).map(|tick: Tick| out(tick.key)))
            .epoch(100)
            .state_memory(128 << 10)
    };
    let mut rig = Rig::new(stage()).await;
    for _ in 0..4 {
        rig.append(Priority::Normal, &ticks(1, 0)).await;
    }
    rig.settle().await;
    let deadline = Some(ms(10));
    assert!(matches!(rig.settle().await, Step::Idle { deadline: due, .. } if due == deadline));
    rig.restart(stage()).await;
    assert!(matches!(rig.settle().await, Step::Idle { deadline: due, .. } if due == deadline));
    rig.now = ms(99);
    for step in 0..30 {
        rig.step().await.unwrap();
        rig.store.decide(super::slow::Fate::Landed).await;
        if step == 15 {
            rig.restart(stage()).await;
            rig.check_timers().await;
        }
    }
    rig.settle().await;
    let outputs = rig.outputs().await;
    let mut expected: Vec<_> = (0..KEYS).map(|key| key.to_string()).collect();
    expected.sort_unstable();
    let expected: Vec<_> = expected.iter().flat_map(|key| vec![json!(key); 4]).collect();
    assert!(outputs.iter().map(|output| output[0].clone()).eq(expected));
    assert!(outputs.iter().all(|output| output[3] == json!(10_000_000)), "each at its own time");
    assert_eq!(rig.states().await.len(), 0);
}

#[tokio::test]
async fn a_stage_that_is_forgotten_leaves_nothing() {
    let mut rig = Rig::new(sums()).await;
    rig.append(Priority::Normal, &ticks(1, 0)).await;
    rig.settle().await;
    let mut batches = 0;
    loop {
        let Remaining { rows, .. } = rows_to_forget(&*rig.reader(), STAGE, &HashSet::new()).await.unwrap();
        if rows.is_empty() {
            break;
        }
        batches += 1;
        let batch = rows.into_iter().map(|RowKey { table, key }| Op::Delete { table, key });
        let commit = rig.tenure.commit(batch.collect());
        rig.store.decide(super::slow::Fate::Landed).await;
        commit.await.unwrap();
    }
    assert!(batches > 3);
    for table in TABLES {
        assert_eq!(rig.count(table).await, 0);
    }
    rig.restart(sums()).await;
    rig.settle().await;
    assert_eq!(rig.stage.status().cursor, rig.stage.status().taken_to);
}
