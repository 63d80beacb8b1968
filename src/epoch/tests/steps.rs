//! Time, epochs, and what a step says.

use millstream_operators::{Timestamp, chain};
use serde_json::json;

use super::{
    kit::{Rig, Tick, millis, ms, out},
    slow::Fate,
};
use crate::{
    epoch::{Late, Stage, StageError, Step, entry::Live},
    event::{IdSource, Priority},
    store::{Class, CommitError, Op, PartitionId, Record, Seq, Store},
};

#[expect(clippy::needless_pass_by_value, reason = "chains hand items over")]
fn number(tick: Tick) -> crate::event::Draft {
    out(tick.number)
}

#[tokio::test]
async fn timers_fire_at_their_own_time_over_a_restart_and_the_clock_never_goes_back() {
    let stage = || Stage::new(chain().delay(millis(10)).map(number));
    let mut rig = Rig::new(stage()).await;
    rig.now = ms(100);
    rig.tick(1, 1, 0).await;
    assert!(matches!(rig.settle().await, Step::Idle { deadline: Some(due), .. } if due == ms(110)));
    rig.now = ms(105);
    rig.tick(1, 2, 0).await;
    rig.settle().await;
    rig.restart(stage()).await;
    rig.now = ms(20);
    rig.tick(1, 3, 0).await;
    rig.settle().await;
    rig.now = ms(500);
    assert!(matches!(rig.settle().await, Step::Idle { deadline: None, .. }));
    let times: Vec<_> =
        rig.outputs().await.iter().map(|output| output[2].as_u64().map(Timestamp::from_nanos)).collect();
    assert_eq!(times, [Some(ms(110)), Some(ms(115)), Some(ms(115))], "the third came when the clock stood at 105");
}

#[tokio::test]
async fn two_epochs_are_in_flight_and_the_second_knows_what_the_first_did() {
    let stage = Stage::new(chain().scan(0_u32, |sum, tick: Tick| *sum += tick.number).map(out)).epoch(1);
    let mut rig = Rig::new(stage).await;
    for number in 1..=5 {
        rig.tick(1, number, 0).await;
    }
    for _ in 0..20 {
        rig.step().await.unwrap();
    }
    assert_eq!(rig.store.pending(), 2);
    assert_eq!(rig.step().await.unwrap(), Step::Committing);
    assert_eq!(rig.outputs().await.len(), 0);
    assert_eq!(rig.stage.status().epoch, 0);
    rig.settle().await;
    assert_eq!(rig.data().await, [1, 3, 6, 10, 15].map(|sum| json!(sum)));
}

#[tokio::test]
async fn an_epoch_whose_predecessor_is_not_there_is_never_applied() {
    let stage = Stage::new(chain().scan(0_u32, |sum, tick: Tick| *sum += tick.number).map(out)).epoch(1);
    let mut rig = Rig::new(stage).await;
    for number in 1..=5 {
        rig.tick(1, number, 0).await;
    }
    while rig.store.pending() < 2 {
        rig.step().await.unwrap();
    }
    rig.store.decide(Fate::Full).await;
    rig.store.decide(Fate::Landed).await;
    assert_eq!(rig.outputs().await.len(), 0);
    let refused = rig.step().await.unwrap_err();
    assert!(matches!(refused, StageError::Commit(CommitError::Full)), "{refused:?}");
    assert!(matches!(rig.step().await, Err(StageError::Blank)));
    rig.restore().await;
    rig.settle().await;
    assert_eq!(rig.data().await, [1, 3, 6, 10, 15].map(|sum| json!(sum)));
}

#[tokio::test]
async fn epochs_that_are_too_large_get_smaller() {
    let mut rig = Rig::new(Stage::new(chain().map(number)).epoch(64)).await;
    for number in 0..64 {
        rig.tick(1, number, 0).await;
    }
    for _ in 0..2 {
        while rig.store.pending() == 0 {
            rig.step().await.unwrap();
        }
        rig.store.decide(Fate::TooLarge).await;
        rig.step().await.unwrap_err();
        rig.restore().await;
    }
    rig.settle().await;
    // Four of 16 events, and one more to leave what came out of them behind.
    assert_eq!((rig.outputs().await.len(), rig.stage.status().epoch), (64, 5));
}

#[tokio::test]
async fn late_events_are_dropped_or_kept_and_counted_in_any_case() {
    for (policy, dead) in [(Late::Drop, 0), (Late::DeadLetter, 1)] {
        let mut rig = Rig::new(Stage::new(chain().map(number)).event_time(millis(5)).late(policy)).await;
        rig.tick(1, 1, 20).await;
        rig.tick(1, 2, 14).await;
        rig.tick(1, 3, 15).await;
        rig.tick(1, 4, 30).await;
        rig.settle().await;
        assert_eq!(rig.data().await, [json!(3), json!(1)]);
        assert_eq!((rig.stage.status().counts.late, rig.dead().await.len()), (1, dead));
        assert_eq!(rig.stage.status().watermark, ms(25));
    }
}

#[tokio::test]
async fn time_goes_on_with_the_clock_once_the_input_is_idle_over_a_restart_too() {
    let stage = || Stage::new(chain().debounce(millis(50)).map(number)).event_time(millis(5)).idle(millis(1_000));
    let mut rig = Rig::new(stage()).await;
    rig.now = ms(9_000);
    rig.tick(1, 7, 100).await;
    assert!(matches!(rig.settle().await, Step::Idle { deadline: Some(due), .. } if due == ms(10_000)));
    rig.restart(stage()).await;
    rig.now = ms(9_999);
    rig.settle().await;
    assert_eq!(rig.outputs().await.len(), 0);
    rig.now = ms(10_000);
    rig.settle().await;
    let outputs = rig.outputs().await;
    assert_eq!((outputs[0][1].clone(), outputs[0][2].as_u64()), (json!(7), Some(ms(150).as_nanos())));
}

#[tokio::test]
async fn classes_are_merged_by_sequence_and_other_events_are_passed_over() {
    let mut rig = Rig::new(Stage::new(chain().map(number))).await;
    let classes = [Priority::Low, Priority::Critical, Priority::Normal, Priority::High];
    for number in 0..40 {
        rig.append(classes[number as usize % 4], &[(Tick { key: 1, number }, ms(0))]).await;
        let other = Record { name: "other".into(), time: ms(0), bytes: "x".into(), keys: Vec::new() };
        let batch = vec![Op::Append { class: Class(1), records: vec![other] }];
        rig.store.append(PartitionId(0), batch).await.unwrap();
        if number == 20 {
            rig.settle().await;
        }
    }
    let Step::Idle { from, .. } = rig.settle().await else { panic!("idle") };
    assert!(rig.data().await.into_iter().eq((0..40).map(|number| json!(number))));
    assert!(from > Seq(79), "{from:?}");
}

#[tokio::test]
async fn what_is_appended_while_classes_are_read_keeps_its_place() {
    for polls in 0..8 {
        let mut rig = Rig::new(Stage::new(chain().map(number))).await;
        let (store, ids) = (rig.store.clone(), IdSource::new(2));
        let batch = |class, number| {
            let record = super::kit::record(&ids, &Tick { key: 1, number }, ms(0));
            store.append(PartitionId(0), vec![Op::Append { class: Class(class), records: vec![record] }])
        };
        let mut step = Some(rig.stage.step(ms(0)));
        for _ in 0..polls {
            if let Some(begun) = &mut step
                && futures::poll!(begun).is_ready()
            {
                step = None;
            }
        }
        for (class, number) in [(3, 0), (0, 1), (2, 2), (1, 3), (0, 4)] {
            batch(class, number).await.unwrap();
        }
        futures_util::future::OptionFuture::from(step).await.transpose().unwrap();
        rig.settle().await;
        assert!(rig.data().await.into_iter().eq((0..5).map(|number| json!(number))), "{polls}");
    }
}

#[tokio::test]
async fn what_is_no_event_or_not_the_right_one_is_a_dead_letter() {
    let mut rig = Rig::new(Stage::new(chain().map(number)).pattern("*")).await;
    for (name, bytes) in [("tick", "x"), ("tock", "")] {
        let record = Record { name: name.into(), time: ms(0), bytes: bytes.into(), keys: Vec::new() };
        let batch = vec![Op::Append { class: Class(2), records: vec![record] }];
        rig.store.append(PartitionId(0), batch).await.unwrap();
    }
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await[0], json!(1));
    assert!(rig.dead().await.values().all(|why| why.starts_with("Undecodable")) && rig.dead().await.len() >= 2);
}

#[tokio::test]
async fn a_step_may_be_dropped_at_any_wait() {
    let mut rig =
        Rig::new(Stage::keyed(|tick: &Tick| tick.key, chain().debounce(millis(5)).map(number)).epoch(3)).await;
    for n in 0..20 {
        rig.tick(n % 4, n, 0).await;
    }
    for polls in 0..50 {
        rig.begin_step(polls % 7).await;
        rig.store.decide(Fate::Landed).await;
    }
    rig.now = ms(5);
    rig.settle().await;
    assert_eq!(rig.outputs().await.len(), 4);
}

#[test]
fn items_of_one_time_wait_in_the_order_of_the_log() {
    use crate::{epoch::Origin, event::Lineage, store::PageRecord};
    let id = IdSource::new(1).next(ms(0));
    let origin = |at| Origin { event: id, lineage: Lineage::root(id), at };
    let mut live: Live<u32, ()> = Live {
        state: ().into(),
        waiting: std::collections::VecDeque::new(),
        depth: 0,
        origin: None,
        is_started: false,
    };
    for (seq, at) in [(1, 9), (2, 5), (3, 9), (4, 5)] {
        let record = PageRecord { seq: Seq(seq), name: "x".into(), time: ms(0), bytes: bytes::Bytes::new() };
        live.wait(ms(at), record, 0.into(), origin(ms(at)));
    }
    let order: Vec<_> = live.waiting.iter().map(|waiting| waiting.record.seq.0).collect();
    assert_eq!(order, [2, 4, 1, 3]);
}
