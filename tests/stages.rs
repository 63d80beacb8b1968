//! Durable operator stages in a runtime: state, timers and outputs exactly once, beside durable handlers.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{
    DeadLetterFilter, Death, Draft, Event, Handler, Late, OnError, ProcessError, Runtime, Stage, StageError, Start,
    chain,
    store::Memory,
    testing::{self, FaultyStore, Probe, TestKit},
};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "sale", key = "shop")]
struct Sale {
    shop: u32,
    cents: u64,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "total", key = "shop")]
struct Total {
    shop: u32,
    cents: u64,
}

fn totals() -> Stage<Sale, impl millstream::operators::durable::Durable<Sale, Out = Total, State: Send> + Send + 'static>
{
    let chain = chain().scan((0, 0), |sum: &mut (u32, u64), sale: Sale| {
        *sum = (sale.shop, sum.1 + sale.cents);
    });
    Stage::keyed(|sale: &Sale| sale.shop, chain.map(|(shop, cents)| Total { shop, cents }))
}

type Seen = Arc<Mutex<Vec<Total>>>;

fn keep(seen: &Seen) -> impl Handler<(Total,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |total: Total| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(total) }
    };
    handler.named("keep")
}

#[test]
fn a_stage_takes_what_is_emitted_and_its_outputs_reach_handlers() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let seen = Seen::default();
        kit.stage("totals", totals())?;
        kit.on("total", keep(&seen))?;
        for cents in [5, 7, 1] {
            kit.emit(Sale { shop: 3, cents })?;
        }
        let report = kit.settle().await;
        assert_eq!((report.handled, report.dead), (3, 0));
        assert_eq!(seen.lock().unwrap().iter().map(|total| total.cents).collect::<Vec<_>>(), [5, 12, 13]);
        assert_eq!((kit.stages()[0].counts.taken, kit.stages()[0].counts.emitted), (3, 3));
        Ok(())
    });
}

#[test]
fn state_goes_on_after_a_restart() {
    let (store, seen) = (Memory::new(), Seen::default());
    for round in 0..4 {
        testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
            kit.stage("totals", totals())?;
            kit.on("total", keep(&seen))?;
            kit.emit(Sale { shop: 1, cents: 10 })?;
            kit.settle().await;
            kit.emit(Sale { shop: 2, cents: round })?.await?;
            Ok(())
        });
    }
    let last: BTreeMap<u32, u64> = seen.lock().unwrap().iter().map(|total| (total.shop, total.cents)).collect();
    assert_eq!(last, BTreeMap::from([(1, 40), (2, 3)]), "the last one of shop 2 waits in the log");
}

#[test]
fn a_timer_fires_after_a_restart_at_its_time() {
    let (store, seen) = (Memory::new(), Seen::default());
    let debounced = || {
        let chain = chain().debounce(Duration::from_mins(1));
        Stage::keyed(|sale: &Sale| sale.shop, chain.map(|sale: Sale| Total { shop: sale.shop, cents: sale.cents }))
    };
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("calm", debounced())?;
        kit.on("total", keep(&seen))?;
        kit.emit(Sale { shop: 1, cents: 10 })?;
        let report = kit.settle().await;
        assert!(report.next_deadline.is_some());
        kit.advance(Duration::from_secs(30)).await;
        kit.emit(Sale { shop: 1, cents: 11 })?;
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("calm", debounced())?;
        kit.on("total", keep(&seen))?;
        kit.settle().await;
        assert_eq!(*seen.lock().unwrap(), []);
        kit.advance(Duration::from_mins(1)).await;
        assert_eq!(*seen.lock().unwrap(), [Total { shop: 1, cents: 11 }]);
        Ok(())
    });
}

#[test]
fn what_a_stage_gives_up_is_a_dead_letter_and_stays_one() {
    let store = Memory::new();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let chain = chain().map(|sale: Sale| {
            assert!(sale.cents != 13, "an unlucky number");
            Total { shop: sale.shop, cents: sale.cents }
        });
        let totals = Probe::<Total>::new();
        kit.on("total", totals.handler().named("totals"))?;
        kit.stage("lucky", chain)?;
        for cents in [12, 13, 14] {
            kit.emit(Sale { shop: 1, cents })?;
        }
        kit.settle().await;
        assert_eq!(totals.received().iter().map(|total| total.cents).collect::<Vec<_>>(), [12, 14]);
        let letters = kit.dead_letters(&DeadLetterFilter::all().subscription("lucky"));
        assert_eq!(letters.iter().map(|letter| letter.death).collect::<Vec<_>>(), [Death::Permanent]);
        assert!(letters[0].reason().contains("an unlucky number"), "{}", letters[0].reason());
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 1);
        Ok(())
    });
}

#[test]
fn late_events_are_dead_letters_and_time_is_that_of_the_events() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let totals = Probe::<Total>::new();
        kit.on("total", totals.handler().named("totals"))?;
        let counts = chain().tumbling(Duration::from_secs(10), millstream::Flow::count);
        let stage = Stage::keyed(|sale: &Sale| sale.shop, counts.map(|count| Total { shop: 1, cents: count.item }));
        kit.stage("windows", stage.event_time(Duration::from_secs(1)).late(Late::DeadLetter))?;
        for (second, cents) in [(1, 1), (3, 2), (2, 3), (12, 4), (4, 5), (23, 6)] {
            let sale = Draft::new(Sale { shop: 1, cents }).time(millstream::Timestamp::from_secs(1_000 + second));
            kit.emit(sale)?;
        }
        kit.settle().await;
        assert_eq!(totals.received().iter().map(|total| total.cents).collect::<Vec<_>>(), [3, 1]);
        let letters = kit.dead_letters(&DeadLetterFilter::all().death(Death::Late));
        assert_eq!(letters.len(), 1);
        Ok(())
    });
}

#[test]
fn a_stage_needs_a_store_and_a_name_of_its_own_and_possible_settings() {
    testing::run(Runtime::builder(), async |kit: TestKit| {
        assert!(matches!(kit.stage("totals", totals()), Err(StageError::NeedsStore { .. })));
        Ok(())
    });
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        assert!(matches!(kit.stage("totals", totals()), Err(StageError::DuplicateName { .. })));
        let error = kit.stage("other", totals().epoch(0).lanes(0)).unwrap_err();
        let StageError::Settings { wrong, .. } = &error else { panic!("{error}") };
        assert_eq!(wrong.refused().len(), 2);
        Ok(())
    });
}

#[test]
fn another_version_parks_the_stage_and_health_says_so() {
    let store = Memory::new();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        kit.emit(Sale { shop: 1, cents: 1 })?;
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        kit.stage("totals", totals().version(2))?;
        kit.emit(Sale { shop: 1, cents: 1 })?;
        kit.settle().await;
        assert!(kit.stages()[0].parked.as_ref().is_some_and(|why| why.contains("version")), "{:?}", kit.stages());
        assert!(kit.health().findings.iter().any(|finding| finding.contains("`totals`")), "{:?}", kit.health());
        Ok(())
    });
}

#[test]
fn totals_are_exact_whatever_the_store_does() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let (store, seen) = (Memory::new(), Seen::default());
        let mut expected = BTreeMap::<u32, u64>::new();
        for life in 0..4_u64 {
            let faulty = FaultyStore::new(store.clone(), seed * 100 + life).one_in(9);
            let mut random = fastrand::Rng::with_seed(seed * 100 + life);
            let (seen, expected) = (&seen, &mut expected);
            testing::run(Runtime::builder().store(faulty.clone()).seed(seed), async move |kit: TestKit| {
                kit.stage("totals", totals().epoch(3).starting_at(Start::Earliest))?;
                kit.on("total", keep(seen).starting_at(Start::Earliest))?;
                for number in 0..10 {
                    let sale = Sale { shop: random.u32(0..3), cents: random.u64(1..100) };
                    *expected.entry(sale.shop).or_default() += sale.cents;
                    let draft = Draft::new(sale).idempotency_key(format!("{life} {number}"));
                    loop {
                        if let Ok(receipt) = kit.emit(draft.clone())
                            && receipt.await.is_ok()
                        {
                            break;
                        }
                        drop(tokio::time::timeout(Duration::from_millis(20), kit.runtime().process()).await);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    if random.bool() {
                        drop(tokio::time::timeout(Duration::from_millis(100), kit.runtime().process()).await);
                    }
                }
                if life == 3 {
                    let _quiet = faulty.one_in(0);
                    while let Err(ProcessError::Store { .. }) = kit.runtime().process().await {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Ok(())
            });
        }
        let seen = seen.lock().unwrap();
        for (shop, cents) in expected {
            let of_shop: Vec<_> = seen.iter().filter(|total| total.shop == shop).map(|total| total.cents).collect();
            assert_eq!(of_shop.iter().max(), Some(&cents), "seed {seed}, shop {shop}: {of_shop:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_rest_beside_a_driver_sees_a_timer_of_a_stage_end() {
    let kit = TestKit::new(Runtime::builder().store(Memory::new())).unwrap();
    let calm = chain().debounce(Duration::from_mins(1)).map(|sale: Sale| Total { shop: sale.shop, cents: sale.cents });
    kit.stage("calm", Stage::keyed(|sale: &Sale| sale.shop, calm)).unwrap();
    let seen = Seen::default();
    kit.on("total", keep(&seen)).unwrap();
    let waits = async {
        kit.emit(Sale { shop: 1, cents: 10 }).unwrap();
        while let Some(next) = kit.runtime().process().await.unwrap().next_deadline {
            tokio::time::sleep_until(kit.clock().instant_of(next)).await;
        }
        assert_eq!(seen.lock().unwrap().len(), 1);
        kit.shutdown(Duration::from_secs(1)).await.unwrap();
    };
    let both = async { tokio::join!(kit.run(), waits) };
    let (ran, ()) = tokio::time::timeout(Duration::from_hours(1), both).await.unwrap();
    ran.unwrap();
}

#[test]
fn a_stage_and_a_subscription_have_no_name_in_common() {
    let store = Memory::new();
    let nothing = || (|_: Total| async {}).named("totals");
    let parked = |kit: &TestKit| kit.stages()[0].parked.clone();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        assert!(matches!(kit.on("total", nothing()), Err(OnError::NameOfStage { .. })));
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("total", nothing())?;
        assert!(matches!(kit.stage("totals", totals()), Err(StageError::NameOfSubscription { .. })));
        kit.settle().await;
        let findings = kit.health().findings;
        assert!(findings.iter().any(|finding| finding.contains("a stage of this name")), "{findings:?}");
        // Without the stage the name is the subscription's.
        kit.forget("totals");
        kit.settle().await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        kit.emit(Total { shop: 1, cents: 1 })?.await?;
        assert_eq!(kit.settle().await.handled, 1);
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        kit.settle().await;
        assert!(parked(&kit).is_some_and(|why| why.contains("a subscription of this name")), "{:?}", kit.stages());
        Ok(())
    });
}
