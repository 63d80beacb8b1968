//! What an operator stage gave up is taken by it once more: exactly once, in the commit that removes the letter.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream::{
    DeadLetter, DeadLetterFilter, Death, Draft, Envelope, Event, Handler, Late, ProcessError, Replay, Runtime, Stage,
    Start, Timestamp, chain,
    operators::durable::Durable,
    store::Memory,
    testing::{self, FaultyStore, TestKit},
};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "sale", key = "shop")]
struct Sale {
    shop: u32,
    cents: u64,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "total")]
struct Total {
    shop: u32,
    cents: u64,
}

/// Sums, and panics at 13 once it has changed the sum, until it is mended.
fn touchy(is_mended: &Arc<AtomicBool>) -> Stage<Sale, impl Durable<Sale, Out = Total, State: Send> + Send + 'static> {
    let is_mended = Arc::clone(is_mended);
    let chain = chain().scan((0, 0), move |sum: &mut (u32, u64), sale: Sale| {
        *sum = (sale.shop, sum.1 + sale.cents);
        assert!(sale.cents != 13 || is_mended.load(Ordering::Relaxed), "thirteen");
    });
    Stage::keyed(|sale: &Sale| sale.shop, chain.map(|(shop, cents)| Total { shop, cents }))
}

type Seen = Arc<Mutex<Vec<Arc<Envelope>>>>;

fn keep(seen: &Seen) -> impl Handler<(Arc<Envelope>,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |total: Arc<Envelope>| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(total) }
    };
    handler.named("keep")
}

fn cents(seen: &Seen) -> Vec<u64> {
    let seen = seen.lock().unwrap();
    seen.iter().map(|total| total.data().to_json().unwrap()["cents"].as_u64().unwrap()).collect()
}

fn letters(kit: &TestKit) -> Vec<DeadLetter> {
    kit.dead_letters(&DeadLetterFilter::all())
}

fn sale(cents: u64) -> Draft {
    Draft::new(Sale { shop: 1, cents })
}

#[test]
fn a_letter_of_a_stage_is_taken_once_more_with_its_state_and_is_gone() {
    let (store, seen, is_mended) = (Memory::new(), Seen::default(), Arc::default());
    let mut poison = None;
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", touchy(&is_mended))?;
        kit.on("total", keep(&seen))?;
        for cents in [5, 13, 7] {
            let id = kit.emit(sale(cents))?.await?;
            poison = poison.or((cents == 13).then_some(id));
        }
        kit.settle().await;
        assert_eq!((cents(&seen), letters(&kit).len()), (vec![5, 12], 1));
        is_mended.store(true, Ordering::Relaxed);
        kit.emit(sale(100))?;
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        assert_eq!(letters(&kit).len(), 0);
        let (all, counts) = (cents(&seen), kit.stages()[0].counts);
        assert!(all == [5, 12, 25, 125] || all == [5, 12, 112, 125], "{all:?}");
        assert_eq!((counts.emitted, counts.dead), (4, 1));
        let caused = |total: &Arc<Envelope>| total.causation_id() == poison;
        assert_eq!(seen.lock().unwrap().iter().filter(|total| caused(total)).count(), 1, "it is the same event");
        kit.assert_balanced();
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        kit.stage("totals", touchy(&is_mended))?;
        kit.on("total", keep(&seen))?;
        kit.settle().await;
        assert_eq!(kit.replay(&Replay::all()).replayed, 0);
        kit.emit(sale(1))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(cents(&seen).last(), Some(&126), "it is in the state once, also after a restart");
}

#[test]
fn what_is_given_up_again_is_one_new_letter() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let seen = Seen::default();
        kit.stage("totals", touchy(&Arc::default()))?;
        kit.on("total", keep(&seen))?;
        for cents in [5, 13, 13, 7] {
            kit.emit(sale(cents))?;
        }
        kit.settle().await;
        let before = letters(&kit);
        assert_eq!(kit.replay(&Replay::all().limit(1)).replayed, 1);
        kit.settle().await;
        let after = letters(&kit);
        assert_eq!(after.iter().map(|letter| letter.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(after[1].event.id(), before[0].event.id());
        kit.emit(sale(1))?;
        kit.settle().await;
        assert_eq!(cents(&seen), [5, 12, 13]);
        assert_eq!(kit.stages()[0].counts.dead, 3);
        Ok(())
    });
}

#[test]
fn letters_are_replayed_at_the_rate_that_was_asked_for() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let (seen, is_mended) = (Seen::default(), Arc::default());
        kit.stage("totals", touchy(&is_mended))?;
        kit.on("total", keep(&seen))?;
        for _ in 0..4 {
            kit.emit(sale(13))?;
        }
        kit.settle().await;
        is_mended.store(true, Ordering::Relaxed);
        let began = kit.now();
        kit.replay(&Replay::all().rate(2.try_into()?));
        kit.settle().await;
        assert_eq!((cents(&seen), letters(&kit).len()), (vec![13, 26, 39, 52], 0));
        assert_eq!(kit.now().since(began), Duration::from_millis(1_500));
        Ok(())
    });
}

#[test]
fn a_stage_that_is_parked_or_not_there_takes_no_letter() {
    let (store, is_mended) = (Memory::new(), Arc::new(AtomicBool::new(false)));
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", touchy(&is_mended))?;
        kit.emit(sale(13))?;
        kit.settle().await;
        Ok(())
    });
    is_mended.store(true, Ordering::Relaxed);
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.settle().await;
        assert_eq!(kit.replay(&Replay::all()).kept, 1);
        kit.stage("totals", touchy(&is_mended).version(2))?;
        kit.replay(&Replay::all());
        kit.settle().await;
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!(letters(&kit).len(), 1, "{:?}", kit.stages());
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        kit.settle().await;
        kit.stage("totals", touchy(&is_mended))?;
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!((letters(&kit).len(), kit.stages()[0].counts.emitted), (0, 1));
        Ok(())
    });
}

#[test]
fn what_came_late_is_late_again() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let stage = touchy(&Arc::default()).event_time(Duration::from_secs(1)).late(Late::DeadLetter);
        kit.stage("totals", stage)?;
        for second in [10, 20, 1] {
            kit.emit(sale(1).time(Timestamp::from_secs(1_000 + second)))?;
        }
        kit.settle().await;
        kit.replay(&Replay::all());
        kit.settle().await;
        let letters = letters(&kit);
        assert_eq!(letters.iter().map(|letter| (letter.number, letter.death)).collect::<Vec<_>>(), [(2, Death::Late)]);
        Ok(())
    });
}

/// Replays until nothing is dead, and drives.
async fn mend(kit: &TestKit) {
    for _ in 0..1_000 {
        kit.replay(&Replay::all());
        match tokio::time::timeout(Duration::from_mins(1), kit.runtime().process()).await {
            Ok(Err(ProcessError::Store { .. })) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(Ok(_)) if letters(kit).is_empty() => return,
            _ => {}
        }
    }
    panic!("there are letters still: {:?} {:?}", letters(kit), kit.health());
}

#[test]
fn totals_are_exact_whatever_the_store_does_while_letters_are_replayed() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let (store, seen, is_mended) = (Memory::new(), Seen::default(), Arc::new(AtomicBool::new(false)));
        let mut expected = 0;
        testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
            kit.stage("totals", touchy(&is_mended).epoch(3))?;
            for number in 0..12 {
                let cents = if number % 2 == 0 { 13 } else { 1 };
                expected += cents;
                kit.emit(sale(cents))?;
            }
            kit.settle().await;
            assert_eq!(letters(&kit).len(), 6);
            Ok(())
        });
        is_mended.store(true, Ordering::Relaxed);
        for life in 0..4 {
            let faulty = FaultyStore::new(store.clone(), seed * 10 + life).one_in(if life == 3 { 0 } else { 6 });
            testing::run(Runtime::builder().store(faulty).seed(seed), async |kit: TestKit| {
                kit.stage("totals", touchy(&is_mended).epoch(3))?;
                kit.on("total", keep(&seen).starting_at(Start::Earliest))?;
                for turn in 0..6 {
                    kit.replay(&Replay::all().limit(1 + turn % 3));
                    drop(tokio::time::timeout(Duration::from_millis(20), kit.runtime().process()).await);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                if life == 3 {
                    mend(&kit).await;
                }
                Ok(())
            });
        }
        assert_eq!(cents(&seen).into_iter().max(), Some(expected), "seed {seed}");
    }
}

#[cfg(feature = "archive")]
#[test]
fn a_tool_asks_for_letters_of_a_stage_which_takes_them_when_it_runs() {
    use millstream::{Clock, archive::Archive};

    let (store, seen, is_mended) = (Memory::new(), Seen::default(), Arc::new(AtomicBool::new(false)));
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", touchy(&is_mended))?;
        for cents in [5, 13] {
            kit.emit(sale(cents))?;
        }
        kit.settle().await;
        Ok(())
    });
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
        let archive = Archive::new(store.clone());
        for _ in 0..2 {
            assert_eq!(archive.replay(&Replay::all(), &Clock::system()).await.unwrap().replayed, 1);
        }
        assert_eq!(archive.dead_letters(&DeadLetterFilter::all()).await.unwrap().letters.len(), 1);
    });
    is_mended.store(true, Ordering::Relaxed);
    for round in 0..3 {
        testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
            kit.on("total", keep(&seen))?;
            if round > 0 {
                kit.stage("totals", touchy(&is_mended))?;
            }
            kit.settle().await;
            assert_eq!(letters(&kit).len(), usize::from(round == 0));
            Ok(())
        });
    }
    assert_eq!(cents(&seen), [18]);
}
