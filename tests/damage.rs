//! A damaged row of a durable runtime stops what it belongs to and nothing else, is said in health, and has a way out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use millstream::{
    Builder, DeadLetterFilter, Draft, Envelope, Handler, HandlerError, Json, Retry, Runtime, Stage, Start, chain,
    store::{
        Class, FoundRow, KeyRange, Memory, Op, PartitionId, Reader, Row, Seq, Store, StoreError, StoreFuture, Table,
        Wanted, tables,
    },
    testing::{self, HookedStore, StoreHooks, TestKit},
};
use serde_json::json;

const HOME: PartitionId = PartitionId(0);

type Seen = Arc<Mutex<Vec<u64>>>;

/// A store some of whose rows have a wrong checksum, so that whoever reads them is told.
type Harmed = HookedStore<Harm>;

#[derive(Default)]
struct Harm {
    inner: Memory,
    rows: Mutex<Vec<(Table, Row)>>,
}

impl Harm {
    fn store() -> Harmed {
        let hooks = Self::default();
        HookedStore::new(hooks.inner.clone(), hooks)
    }

    fn harm(&self, table: Table, key: impl Into<Bytes>) {
        let key = key.into();
        let row = rows(&self.inner, table).into_iter().find(|(other, _)| *other == key);
        self.rows.lock().unwrap().push((table, row.unwrap()));
    }

    /// The only row of a table.
    fn only(&self, table: Table) -> Row {
        let rows = rows(&self.inner, table);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    /// A row that was written again is whole.
    fn check(&self, table: Table, row: &Row) -> Result<(), StoreError> {
        let is_harmed = self.rows.lock().unwrap().contains(&(table, row.clone()));
        if is_harmed { Err(StoreError::Corrupt { what: format!("a row of `{}`", table.0) }) } else { Ok(()) }
    }
}

impl StoreHooks for Harm {
    fn get<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        keys: &'a [Bytes],
    ) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(async move {
            let values = reader.get(table, keys).await?;
            let mut rows = keys.iter().zip(&values).filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
            rows.try_for_each(|row| self.check(table, &row)).map(|()| values)
        })
    }

    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            let rows = reader.scan(table, range, limit).await?;
            rows.iter().try_for_each(|row| self.check(table, row)).map(|()| rows)
        })
    }

    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move {
            let rows = reader.scan(table, range, limit).await?;
            Ok(rows.into_iter().map(|row| (row.0.clone(), self.check(table, &row).map(|()| row.1))).collect())
        })
    }
}

/// What a store in memory does is done at once.
fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().unwrap()
}

fn rows(store: &impl Store, table: Table) -> Vec<Row> {
    let rows = store.reader(HOME);
    now(rows.scan(table, KeyRange::all(), usize::MAX)).unwrap()
}

/// Makes the value of a row something that nothing reads.
fn spoil(store: &impl Store, table: Table, key: &Bytes) {
    now(async {
        let mut claim = store.claim(HOME).await.unwrap();
        let op = Op::Put { table, key: key.clone(), value: Bytes::from_static(b"\xff\xff\xff\xff\xff") };
        claim.partition.commit(vec![op]).await.unwrap();
    });
}

fn on(store: &(impl Store + Clone)) -> Builder {
    Runtime::builder().store(store.clone())
}

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

fn seen(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().clone()
}

fn keep(name: &'static str, seen: &Seen) -> impl Handler<(Json,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |Json(event): Json| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(event.as_u64().unwrap()) }
    };
    handler.named(name)
}

/// Dies of some, and lets others wait.
fn fail(name: &'static str) -> impl Handler<(Json,)> {
    let handler = |Json(event): Json| async move {
        match event.as_u64() {
            Some(0..10) => Err::<(), _>(HandlerError::permanent("no")),
            _ => Err(HandlerError::transient("closed")),
        }
    };
    handler.named(name).retry(Retry::fixed(Duration::from_hours(1)).attempts(9))
}

async fn emit(kit: &TestKit, ids: impl IntoIterator<Item = u64>) -> testing::Outcome {
    for id in ids {
        kit.emit(number(id))?.await?;
    }
    Ok(())
}

/// Drives for a while in which no retry is due.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

fn finding(kit: &TestKit, part: &str) -> String {
    let findings = kit.health().findings;
    findings.iter().find(|finding| finding.contains(part)).unwrap_or_else(|| panic!("{part}: {findings:?}")).clone()
}

fn letters(kit: &TestKit) -> Vec<u64> {
    kit.dead_letters(&DeadLetterFilter::all()).iter().map(|letter| letter.number).collect()
}

/// Whatever finds the damage: the store by its checksum, or whoever reads the row.
fn each_harm(prepare: impl Fn(&Harmed), harmed: impl Fn(&Harmed) -> (Table, Bytes), check: impl Fn(&Harmed)) {
    for by_checksum in [true, false] {
        let store = Harm::store();
        prepare(&store);
        let (table, key) = harmed(&store);
        if by_checksum {
            store.hooks().harm(table, key);
        } else {
            spoil(&store, table, &key);
        }
        check(&store);
    }
}

#[test]
fn a_damaged_dead_letter_keeps_its_place_and_its_number_and_hides_no_other() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            kit.on("number", fail("one"))?;
            emit(&kit, 0..3).await?;
            drive(&kit).await;
            Ok(())
        });
    };
    let last = |store: &Harmed| (tables::DEAD, rows(&store.hooks().inner, tables::DEAD)[2].0.clone());
    each_harm(prepare, last, |store| {
        testing::run(on(store), async |kit: TestKit| {
            kit.on("number", fail("one"))?;
            emit(&kit, [3]).await?;
            drive(&kit).await;
            assert_eq!(letters(&kit), [1, 2, 4]);
            let said = finding(&kit, "dead letters that cannot be read");
            assert!(said.contains("1 (3)") && said.contains("verify") && said.contains("`dead`"), "{said}");
            assert_eq!(rows(&store.hooks().inner, tables::DEAD).len(), 4);
            assert_eq!(kit.purge(&DeadLetterFilter::all().subscription("one").numbers([3])).len(), 0);
            drive(&kit).await;
            assert_eq!(
                rows(&store.hooks().inner, tables::DEAD).len(),
                4,
                "only a number alone means what cannot be read"
            );
            assert_eq!(kit.purge(&DeadLetterFilter::all().numbers([3, 4])).len(), 1);
            drive(&kit).await;
            assert_eq!(rows(&store.hooks().inner, tables::DEAD).len(), 2);
            assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
            kit.assert_balanced();
            Ok(())
        });
    });
}

#[test]
fn a_damaged_delivery_that_waits_keeps_its_place_and_hides_no_other() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            kit.on("number", fail("one"))?;
            emit(&kit, 10..13).await?;
            drive(&kit).await;
            Ok(())
        });
    };
    let second = |store: &Harmed| (tables::FAILED, rows(&store.hooks().inner, tables::FAILED)[1].0.clone());
    each_harm(prepare, second, |store| {
        let all = Seen::default();
        testing::run(on(store), async |kit: TestKit| {
            kit.on("number", keep("one", &all))?;
            emit(&kit, [20]).await?;
            drive(&kit).await;
            tokio::time::advance(Duration::from_hours(2)).await;
            drive(&kit).await;
            let said = finding(&kit, "deliveries of subscription `one`");
            assert!(said.contains("`failed`") && said.contains("verify"), "{said}");
            assert_eq!(rows(&store.hooks().inner, tables::FAILED).len(), 1);
            kit.assert_balanced();
            Ok(())
        });
        let mut all = seen(&all);
        all.sort_unstable();
        assert_eq!(all, [10, 12, 20]);
    });
}

#[test]
fn a_key_that_halts_is_not_overtaken_where_its_head_may_be_damaged() {
    let store = Harm::store();
    let keyed = |id: u64| number(id).key("k");
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", fail("one").ordered_by_key().halt_key_on_dead())?;
        kit.emit(keyed(10))?.await?;
        kit.emit(keyed(11))?.await?;
        drive(&kit).await;
        Ok(())
    });
    store.hooks().harm(tables::FAILED, rows(&store.hooks().inner, tables::FAILED)[0].0.clone());
    let all = Seen::default();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("one", &all).ordered_by_key().halt_key_on_dead())?;
        tokio::time::advance(Duration::from_hours(2)).await;
        drive(&kit).await;
        assert!(finding(&kit, "subscription `one` cannot read on").contains("`failed`"));
        Ok(())
    });
    assert_eq!(seen(&all), [0; 0]);
}

/// Two subscriptions, of which the first is harmed.
fn two(store: &Harmed) {
    let none = Seen::default();
    testing::run(on(store), async |kit: TestKit| {
        kit.on("number", keep("first", &none))?;
        emit(&kit, [100]).await?;
        drive(&kit).await;
        kit.on("number", keep("second", &none))?;
        emit(&kit, [101]).await?;
        drive(&kit).await;
        Ok(())
    });
}

fn of_the_log(store: &Harmed) -> usize {
    let reader = store.hooks().inner.reader(HOME);
    let wanted = Wanted::default();
    now(async {
        let mut records = 0;
        for class in (0..4).map(Class) {
            match reader.read(class, Seq(0), usize::MAX, &wanted).await {
                Ok(page) => records += page.records.len(),
                Err(StoreError::Trimmed { .. }) => return 0,
                Err(error) => panic!("{error}"),
            }
        }
        records
    })
}

/// Only the first is stopped; it begins anew once it was forgotten, and not before.
fn only_the_first_is_stopped(store: &Harmed) {
    let (first, second, third) = (Seen::default(), Seen::default(), Seen::default());
    testing::run(on(store), async |kit: TestKit| {
        drive(&kit).await;
        assert!(finding(&kit, "`first`, and the store keeps").contains("nobody"), "it is an orphan");
        let harmed = kit.on("number", keep("first", &first))?;
        kit.on("number", keep("second", &second))?;
        kit.on("number", keep("third", &third))?;
        emit(&kit, 0..3_000).await?;
        drive(&kit).await;
        let said = finding(&kit, "subscription `first` cannot read on");
        assert!(said.contains("damaged") && said.contains("verify") && said.contains("forget"), "{said}");
        assert_eq!(seen(&first), [0; 0]);
        assert!(seen(&second) == (0..3_000).collect::<Vec<_>>() && seen(&third) == seen(&second));
        assert!(of_the_log(store) > 3_000, "what it may not have read is kept");
        kit.off(harmed);
        drive(&kit).await;
        finding(&kit, "subscription `first` cannot read on");
        let again = kit.on("number", keep("first", &first))?;
        drive(&kit).await;
        assert_eq!(seen(&first), [0; 0], "taken back alone it begins nowhere");
        kit.off(again);
        kit.on("number", keep("first", &first).starting_at(Start::Earliest))?;
        drive(&kit).await;
        assert_eq!(seen(&first), [0; 0], "a start says where a new name begins");
        kit.forget("first");
        drive(&kit).await;
        assert_eq!(seen(&first).len(), 3_002);
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        kit.assert_balanced();
        Ok(())
    });
    // And so it is when the store is opened again.
    testing::run(on(store), async |kit: TestKit| {
        kit.on("number", keep("first", &first))?;
        kit.on("number", keep("second", &second))?;
        kit.on("number", keep("third", &third))?;
        emit(&kit, [7]).await?;
        drive(&kit).await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
    assert_eq!((seen(&first).len(), seen(&second).len(), seen(&third).len()), (3_003, 3_001, 3_001));
}

#[test]
fn a_damaged_cursor_stops_its_subscription_alone() {
    for class in [0, 2] {
        each_harm(
            two,
            |store| (tables::CURSOR, rows(&store.hooks().inner, tables::CURSOR)[class].0.clone()),
            |store| {
                only_the_first_is_stopped(store);
            },
        );
    }
}

#[test]
fn a_damaged_subscription_is_stopped_alone() {
    each_harm(two, |_| (tables::SUBSCRIPTION, Bytes::from_static(b"first")), only_the_first_is_stopped);
}

#[test]
fn a_subscription_whose_very_name_is_damaged_does_not_begin_anew() {
    let store = Harm::store();
    two(&store);
    let row = rows(&store.hooks().inner, tables::SUBSCRIPTION)[0].clone();
    now(async {
        let mut claim = store.claim(HOME).await.unwrap();
        let ops = vec![
            Op::Delete { table: tables::SUBSCRIPTION, key: row.0 },
            Op::Put { table: tables::SUBSCRIPTION, key: Bytes::from_static(b"girst"), value: row.1 },
        ];
        claim.partition.commit(ops).await.unwrap();
    });
    store.hooks().harm(tables::SUBSCRIPTION, &b"girst"[..]);
    let (first, second) = (Seen::default(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("first", &first))?;
        kit.on("number", keep("second", &second))?;
        emit(&kit, [1]).await?;
        drive(&kit).await;
        assert!(finding(&kit, "subscription `first` cannot read on").contains("`girst`"));
        assert_eq!((seen(&first), seen(&second)), (vec![], vec![1]));
        kit.forget("girst");
        drive(&kit).await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        emit(&kit, [2]).await?;
        drive(&kit).await;
        Ok(())
    });
    assert_eq!((seen(&first).last(), seen(&second)), (Some(&2), vec![1, 2]));
}

#[test]
fn a_new_subscription_never_gets_the_number_of_one_that_cannot_be_read() {
    let store = Harm::store();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", fail("first"))?;
        emit(&kit, 10..12).await?;
        drive(&kit).await;
        Ok(())
    });
    spoil(&store, tables::SUBSCRIPTION, &store.hooks().only(tables::SUBSCRIPTION).0);
    let new = Seen::default();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new))?;
        emit(&kit, [20]).await?;
        drive(&kit).await;
        tokio::time::advance(Duration::from_hours(2)).await;
        drive(&kit).await;
        kit.forget("first");
        drive(&kit).await;
        assert_eq!(rows(&store.hooks().inner, tables::FAILED), []);
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
    assert_eq!(seen(&new), [20]);
}

#[test]
fn a_number_that_nobody_can_have_is_damage_and_the_next_one_follows_the_last_that_somebody_has() {
    let (store, both) = (Harm::store(), [Seen::default(), Seen::default()]);
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("first", &both[0]))?;
        kit.settle().await;
        Ok(())
    });
    spoil(&store, tables::CURSOR, &Bytes::from_static(b"\xff\xff\xff\xff\0"));
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("first", &both[0]))?;
        kit.on("number", keep("second", &both[1]))?;
        emit(&kit, [1]).await?;
        drive(&kit).await;
        Ok(())
    });
    assert_eq!((seen(&both[0]), seen(&both[1])), (vec![1], vec![1]));
    let numbers = rows(&store.hooks().inner, tables::SUBSCRIPTION).into_iter();
    let numbers = numbers.map(|(_, row)| serde_json::from_slice::<serde_json::Value>(&row).unwrap()["id"].clone());
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
}

/// Sums, one sum for each stage.
fn sums(kit: &TestKit, names: &[&'static str]) -> testing::Outcome {
    for name in names {
        let sum = chain().scan(0, |sum: &mut u64, number: Arc<Envelope>| {
            *sum += number.data().to_json().unwrap().as_u64().unwrap();
        });
        let total = format!("total.{name}");
        kit.stage(name, Stage::new(sum.map(move |sum| Draft::json(&total, json!(sum)))).pattern("number"))?;
    }
    Ok(())
}

/// What is damaged of the first of two stages stops that one until it is forgotten, and lets nothing be trimmed.
fn only_the_first_stage_is_stopped(store: &Harmed) {
    let (first, second) = (Seen::default(), Seen::default());
    let kept = of_the_log(store);
    testing::run(on(store), async |kit: TestKit| {
        sums(&kit, &["first", "second"])?;
        kit.on("total.first", keep("of_first", &first))?;
        kit.on("total.second", keep("of_second", &second))?;
        emit(&kit, 2_000..4_500).await?;
        drive(&kit).await;
        assert!(finding(&kit, "stage `first` is parked").contains("forget"));
        assert!(of_the_log(store) >= kept + 2_500, "nothing is trimmed");
        assert!(seen(&first).is_empty() && seen(&second).len() >= 2_500);
        kit.forget("first");
        drive(&kit).await;
        emit(&kit, [7]).await?;
        drive(&kit).await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
    assert_eq!(seen(&first).last(), Some(&((2_000..4_500).sum::<u64>() + 7)), "it begins anew");
}

#[test]
fn a_damaged_header_of_a_stage_stops_that_stage_alone() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            sums(&kit, &["first", "second"])?;
            emit(&kit, [1]).await?;
            drive(&kit).await;
            Ok(())
        });
    };
    each_harm(prepare, |_| (Table("stage"), Bytes::from_static(b"first\0")), only_the_first_stage_is_stopped);
}

#[test]
fn a_stage_whose_very_name_is_damaged_does_not_begin_anew() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            sums(&kit, &["first", "second"])?;
            emit(&kit, [1]).await?;
            drive(&kit).await;
            Ok(())
        });
        now(async {
            let header = rows(store, Table("stage")).remove(0);
            let ops = vec![
                Op::Delete { table: Table("stage"), key: header.0 },
                Op::Put { table: Table("stage"), key: Bytes::from_static(b"girst\0"), value: header.1 },
            ];
            store.claim(HOME).await.unwrap().partition.commit(ops).await.unwrap();
        });
    };
    each_harm(
        prepare,
        |_| (Table("stage"), Bytes::from_static(b"girst\0")),
        |store| {
            let (first, second) = (Seen::default(), Seen::default());
            let may_be_first = now(store.reader(HOME).scan(Table("stage"), KeyRange::all(), 9)).is_err();
            testing::run(on(store), async |kit: TestKit| {
                sums(&kit, &["first", "second"])?;
                kit.on("total.first", keep("of_first", &first))?;
                kit.on("total.second", keep("of_second", &second))?;
                emit(&kit, [2]).await?;
                drive(&kit).await;
                assert_eq!(finding(&kit, "stage `first` is parked").contains("`girst`"), may_be_first);
                assert_eq!((seen(&first), seen(&second)), (vec![], vec![3]));
                for name in ["first", "girst"] {
                    kit.forget(name);
                }
                drive(&kit).await;
                assert_eq!(kit.health().findings.is_empty(), may_be_first, "{:?}", kit.health());
                Ok(())
            });
            let expected = if may_be_first { vec![2] } else { Vec::new() };
            assert_eq!(seen(&first), expected, "it begins anew where it was given");
        },
    );
}

#[test]
fn a_damaged_beginning_of_a_stage_stops_that_stage_alone() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            sums(&kit, &["second"])?;
            drive(&kit).await;
            // It is marked, and the process ends before anybody drives.
            sums(&kit, &["first"])?;
            emit(&kit, [1]).await?;
            Ok(())
        });
    };
    each_harm(prepare, |_| (tables::START, Bytes::from_static(b"\0first")), only_the_first_stage_is_stopped);
}

#[test]
fn a_damaged_reading_of_the_clock_stops_nobody() {
    let prepare = |store: &Harmed| {
        testing::run(on(store), async |kit: TestKit| {
            kit.on("number", keep("one", &Seen::default()))?;
            tokio::time::advance(Duration::from_secs(2)).await;
            emit(&kit, [1]).await?;
            drive(&kit).await;
            Ok(())
        });
    };
    each_harm(
        prepare,
        |_| (tables::ENGINE, Bytes::from_static(b"now")),
        |store| {
            let one = Seen::default();
            testing::run(on(store), async |kit: TestKit| {
                kit.on("number", keep("one", &one))?;
                emit(&kit, [2]).await?;
                drive(&kit).await;
                tokio::time::advance(Duration::from_secs(2)).await;
                emit(&kit, [3]).await?;
                drive(&kit).await;
                assert!(kit.health().findings.is_empty(), "it is written anew: {:?}", kit.health());
                Ok(())
            });
            assert_eq!(seen(&one), [2, 3]);
        },
    );
}

#[test]
fn a_damaged_delayed_event_keeps_no_other_from_coming() {
    for is_spoilt in [false, true] {
        let (store, all) = (Harm::store(), Seen::default());
        testing::run(on(&store), async |kit: TestKit| {
            kit.on("number", keep("all", &Seen::default()))?;
            for id in 0..3_000 {
                kit.emit(number(id).delay(Duration::from_hours(1) + Duration::from_secs(id % 100)))?.await?;
            }
            kit.settle().await;
            Ok(())
        });
        let keys: Vec<_> = rows(&store.hooks().inner, tables::DELAYED).into_iter().map(|(key, _)| key).collect();
        for place in [0, 1, 1_500, 2_999] {
            if is_spoilt {
                spoil(&store, tables::DELAYED, &keys[place]);
            } else {
                store.hooks().harm(tables::DELAYED, keys[place].clone());
            }
        }
        testing::run(on(&store), async |kit: TestKit| {
            kit.on("number", keep("all", &all))?;
            kit.advance(Duration::from_hours(2)).await;
            kit.settle().await;
            finding(&kit, "a delayed event cannot be read");
            Ok(())
        });
        assert_eq!(seen(&all).len(), 2_996, "is_spoilt: {is_spoilt}");
        assert_eq!(rows(&store.hooks().inner, tables::DELAYED).len(), 4);
    }
}

/// Has a row of a stage whose key is damaged: it is told where damaged rows are, and nobody who removes it finds it.
struct Stray {
    key: Bytes,
    told: Mutex<u32>,
}

impl StoreHooks for Stray {
    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        if table == STATES && range.contains(&self.key) {
            return Box::pin(async { Err(StoreError::Corrupt { what: "a row of `stage_state`".to_owned() }) });
        }
        reader.scan(table, range, limit)
    }

    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move {
            let is_here = table == STATES && range.contains(&self.key);
            let mut found = reader.scan_each(table, range, limit).await?;
            if is_here {
                let mut told = self.told.lock().unwrap();
                *told += 1;
                assert!(*told < 100, "it is asked about again and again");
                found.push((self.key.clone(), Err(StoreError::Corrupt { what: "a row of `stage_state`".to_owned() })));
            }
            Ok(found)
        })
    }
}

const STATES: Table = Table("stage_state");

#[test]
fn a_stage_is_forgotten_though_one_of_its_rows_cannot_be_removed() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        sums(&kit, &["first"])?;
        emit(&kit, [1]).await?;
        drive(&kit).await;
        Ok(())
    });
    assert!(!rows(&store, Table("stage")).is_empty());
    let stray = Stray { key: Bytes::from_static(b"first\0\xff"), told: Mutex::default() };
    testing::run(on(&HookedStore::new(store.clone(), stray)), async |kit: TestKit| {
        drive(&kit).await;
        kit.forget("first");
        drive(&kit).await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
    assert!(["stage", "stage_state", "stage_delta"].iter().all(|table| rows(&store, Table(table)).is_empty()));
}
