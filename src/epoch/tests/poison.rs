//! What panics is given up, and leaves no trace but that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use millstream_operators::{Chain, chain, durable::Durable};
use serde::{Deserialize, Serialize, Serializer, ser::Error};
use serde_json::json;

use super::{
    kit::{Rig, Tick, millis, ms, out, record},
    slow::Fate,
};
use crate::{
    epoch::{Replayed, Stage, StateKey, Step},
    event::Draft,
    store::PageRecord,
};

const POISON: u32 = 13;

/// Sums, and panics at 13 once it has changed the sum.
fn touchy(
    panics: &Arc<AtomicUsize>,
) -> Stage<Tick, Chain<Tick, impl Durable<Tick, Out = Draft, State: Send> + Send + 'static>> {
    let panics = Arc::clone(panics);
    let sum = chain().scan(0_u64, move |sum, tick: Tick| {
        *sum += u64::from(tick.number);
        if tick.number == POISON {
            panics.fetch_add(1, Ordering::Relaxed);
            panic!("thirteen");
        }
    });
    Stage::keyed(|tick: &Tick| tick.key, sum.map(out))
}

#[tokio::test]
async fn an_event_that_panics_is_given_up_and_nothing_else_is() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics)).await;
    rig.tick(1, 5, 0).await;
    rig.tick(2, 7, 0).await;
    let poison = rig.tick(1, POISON, 0).await;
    rig.tick(1, 6, 0).await;
    rig.tick(2, 8, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(5), json!(7), json!(11), json!(15)]);
    let dead = rig.dead().await;
    assert_eq!(dead.into_iter().collect::<Vec<_>>(), [(poison.0, "Panicked(\"thirteen\")".to_owned())]);
    assert_eq!(panics.load(Ordering::Relaxed), 1);

    rig.restart(touchy(&panics)).await;
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await.last(), Some(&json!(12)));
    assert_eq!(panics.load(Ordering::Relaxed), 1, "nothing panics again");
    assert_eq!(rig.stage.status().counts.dead, 1);
}

#[tokio::test]
async fn a_crash_before_the_commit_gives_the_event_up_again_and_once() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics)).await;
    rig.tick(1, 5, 0).await;
    let poison = rig.tick(1, POISON, 0).await;
    rig.tick(1, 6, 0).await;
    while rig.store.pending() == 0 {
        rig.step().await.unwrap();
    }
    assert_eq!((rig.dead().await.len(), rig.outputs().await.len()), (0, 0), "nothing is visible before its commit");
    rig.store.decide(Fate::Lost).await;
    rig.step().await.unwrap_err();
    rig.restore().await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(5), json!(11)]);
    assert_eq!(rig.dead().await.into_keys().collect::<Vec<_>>(), [poison.0]);
}

#[tokio::test]
async fn many_events_that_panic_are_each_given_up() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics).epoch(10)).await;
    for number in 0..60 {
        rig.tick(number % 3, if number % 4 == 3 { POISON } else { 1 }, 0).await;
    }
    rig.settle().await;
    assert_eq!((rig.outputs().await.len(), rig.dead().await.len()), (45, 15));
    assert_eq!(panics.load(Ordering::Relaxed), 15);
}

#[tokio::test]
async fn an_event_that_has_waited_for_the_watermark_is_given_up_as_well() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics).event_time(millis(10)).epoch(1)).await;
    let poison = rig.tick(1, POISON, 10).await;
    rig.tick(1, 6, 11).await;
    rig.settle().await;
    assert_eq!(rig.outputs().await.len(), 0);
    rig.restart(touchy(&panics).event_time(millis(10)).epoch(1)).await;
    rig.tick(2, 1, 30).await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(6)]);
    assert_eq!(rig.dead().await.into_keys().collect::<Vec<_>>(), [poison.0]);
    assert_eq!(panics.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn time_is_that_of_the_last_cut_when_an_epoch_is_run_again() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics).event_time(millis(0))).await;
    for (number, at) in [(5, 10), (POISON, 20), (6, 20), (7, 30)] {
        rig.tick(1, number, at).await;
    }
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(5), json!(11), json!(18)]);
    assert_eq!((rig.stage.status().counts.late, rig.dead().await.len()), (0, 1));
}

/// Gives out after a delay what it took, and panics at 13 when it is due.
fn timed() -> Stage<Tick, Chain<Tick, impl Durable<Tick, Out = Draft, State: Send> + Send + 'static>> {
    let late = chain().delay(millis(10)).map(|tick: Tick| {
        assert!(tick.number != POISON, "thirteen");
        out(tick.number)
    });
    Stage::keyed(|tick: &Tick| tick.key, late)
}

#[tokio::test]
async fn a_timer_that_panics_parks_its_key_for_good() {
    let mut rig = Rig::new(timed()).await;
    rig.tick(1, POISON, 0).await;
    rig.tick(2, 5, 0).await;
    rig.settle().await;
    rig.now = ms(50);
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(5)]);
    let key = StateKey::new(None, "1");
    for restarts in 0..2 {
        let parked = rig.stage.status().parked_keys;
        assert_eq!(parked.len(), 1);
        assert!(parked[0].0 == key && parked[0].1.at == ms(10) && parked[0].1.reason.contains("thirteen"));
        let refused = rig.tick(1, 6, 60).await;
        rig.settle().await;
        assert_eq!(rig.dead().await.get(&refused.0).map(String::as_str), Some("Parked"));
        assert_eq!(rig.dead().await.len(), restarts + 1);
        rig.check_timers().await;
        rig.restart(timed()).await;
    }
    // Mended: the timer fires after all.
    let mended = Stage::keyed(|tick: &Tick| tick.key, chain().delay(millis(10)).map(|tick: Tick| out(tick.number)));
    rig.restart(mended).await;
    assert!(rig.stage.unpark(&key) && !rig.stage.unpark(&key));
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(5), json!(POISON)]);
    rig.restart(timed()).await;
    rig.settle().await;
    assert_eq!(rig.stage.status().parked_keys, []);
    assert_eq!(rig.states().await.len(), 0);
}

#[tokio::test]
async fn an_output_that_cannot_be_emitted_gives_its_event_up_without_a_trace() {
    let chain = chain()
        .scan(0_u32, |sum, tick: Tick| *sum += tick.number)
        .map(|sum| if sum == POISON { out("unspeakable") } else { out(sum) });
    let mut rig = Rig::new(Stage::new(chain)).await;
    for number in [6, 7, 8] {
        rig.tick(1, number, 0).await;
    }
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(6), json!(14)]);
    assert!(rig.dead().await.into_values().all(|why| why.contains("it is unspeakable")));
}

/// A sum that cannot be written at 13.
#[derive(Clone, Default, Deserialize)]
struct Shy(u32);

impl Serialize for Shy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == POISON { Err(S::Error::custom("shy")) } else { self.0.serialize(serializer) }
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_written_gives_up_the_event_that_made_it_so() {
    let chain = chain().scan(Shy::default(), |sum, tick: Tick| sum.0 += tick.number).map(|sum: Shy| out(sum.0));
    let mut rig = Rig::new(Stage::new(chain)).await;
    for number in [6, 7] {
        rig.tick(1, number, 0).await;
    }
    rig.settle().await;
    rig.tick(1, 8, 0).await;
    rig.settle().await;
    assert_eq!(rig.data().await, [json!(6), json!(14)]);
    assert!(rig.dead().await.into_values().all(|why| why.contains("shy")));
}

/// Numbers that cannot be written with a 13 among them.
#[derive(Clone, Default, Deserialize)]
struct Wary(Vec<u32>);

impl Serialize for Wary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains(&POISON) { Err(S::Error::custom("wary")) } else { self.0.serialize(serializer) }
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_written_gives_up_no_event_of_the_epoch_but_that_one() {
    for epoch in [1, 7, 1_000] {
        let chain = chain().scan(Wary::default(), |seen, tick: Tick| seen.0.push(tick.number));
        let mut rig = Rig::new(Stage::new(chain.map(|seen: Wary| out(seen.0.len()))).epoch(epoch)).await;
        for number in 0..40 {
            rig.tick(number % 3, number, 0).await;
        }
        rig.settle().await;
        assert_eq!(rig.dead().await.len(), 1, "epochs of {epoch}");
        assert_eq!(rig.data().await, (1..40).map(|count| json!(count)).collect::<Vec<_>>());
        assert!(rig.stage.status().epoch < 60, "{:?}", rig.stage.status());
    }
}

#[tokio::test]
async fn a_deadline_that_does_not_rise_parks_its_key_and_does_not_spin() {
    use millstream_operators::{Operator, Timestamp, durable::Part};

    struct Stuck;

    impl Part for Stuck {
        const KIND: &'static str = "stuck";
    }

    impl Operator<Tick> for Stuck {
        type Out = Draft;
        type State = Option<u64>;
        const TIMED: bool = true;

        fn init(&self) -> Option<u64> {
            None
        }

        fn on_item(&self, due: &mut Option<u64>, _: Tick, at: Timestamp, _: &mut impl FnMut(Draft, Timestamp)) {
            *due = Some(at.as_millis() + 5);
        }

        fn deadline(&self, due: &Option<u64>) -> Option<Timestamp> {
            due.map(ms)
        }
    }

    let mut rig = Rig::new(Stage::new(chain().apply(Stuck)).epoch(1_000_000)).await;
    rig.tick(1, 1, 0).await;
    rig.settle().await;
    rig.now = ms(9);
    assert!(matches!(rig.settle().await, Step::Idle { .. }));
    assert!(rig.stage.status().parked_keys[0].1.reason.contains("does not rise"));
}

#[tokio::test]
async fn a_letter_whose_epoch_did_not_land_is_given_back_and_one_that_landed_is_not() {
    let panics = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::new(touchy(&panics)).await;
    let poison = rig.tick(1, POISON, 0).await;
    rig.tick(1, 5, 0).await;
    rig.settle().await;
    let mended = record(&rig.ids, &Tick { key: 1, number: 6 }, ms(0));
    let (name, time, bytes) = (mended.name, mended.time, mended.bytes);
    let replayed = Replayed { number: poison.0, record: PageRecord { seq: poison, name, time, bytes } };
    rig.stage.replay(replayed.clone());
    rig.tick(1, 7, 0).await;
    let cursor = rig.stage.status().cursor;
    for fate in [Fate::TooLarge, Fate::Landed] {
        while rig.store.pending() == 0 {
            rig.step().await.unwrap();
        }
        assert_eq!(rig.stage.take_back(true), [0; 0], "it is on its way");
        rig.store.decide(fate).await;
        if fate == Fate::Landed {
            break;
        }
        rig.step().await.unwrap_err();
        assert_eq!((rig.stage.take_back(false), rig.dead().await.len()), (vec![poison.0], 1));
        rig.restore().await;
        rig.stage.replay(replayed.clone());
    }
    rig.settle().await;
    assert_eq!((rig.stage.take_back(true).len(), rig.dead().await.len()), (0, 0));
    assert_eq!(rig.data().await, [json!(5), json!(11), json!(18)]);
    assert!(rig.stage.status().cursor > cursor, "its old place does not move the cursor back");
}
