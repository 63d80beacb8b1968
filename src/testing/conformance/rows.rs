//! Tables: what is put, kept out, refused and scanned.

use std::sync::Arc;

use bytes::Bytes;

use super::driver::{AWAY, Driver, HOME, ROWS, append, put, put_new, record, texts};
use crate::{
    Timestamp,
    store::{Class, CommitError, KeyRange, Op, Record, RowKey, Store, Table},
};

const NOTES: Class = Class(1);

fn delete(key: &'static str) -> Op {
    Op::Delete { table: ROWS, key: key.into() }
}

pub(super) async fn a_row_is_what_was_put_last(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [None]);
    driver.sure(vec![put("a", "1"), put("b", "2"), put("", "empty"), put("\u{0}\u{7f}", "")]).await;
    driver.sure(vec![put("a", "3"), delete("b"), delete("never there")]).await;
    let values = driver.get(ROWS, &[b"b", b"a", b"", b"\x00\x7f", b"a", b"c"]).await;
    assert_eq!(values, [None, Some("3".into()), Some("empty".into()), Some(Bytes::new()), Some("3".into()), None]);
    driver.claim().await;
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [Some("3".into())]);
}

pub(super) async fn steps_of_a_batch_see_those_before_them(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let conflict = driver.commit(vec![put("a", "1"), put_new("a", "2")]).await;
    assert!(matches!(conflict, Err(CommitError::Conflict { .. })), "{conflict:?}");
    driver.sure(vec![put("a", "1"), delete("a"), put_new("a", "2"), put("a", "3")]).await;
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [Some("3".into())]);
    driver.sure(vec![delete("a"), put_new("a", "4")]).await;
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [Some("4".into())]);
    driver.sure(vec![put("b", "1"), delete("b")]).await;
    assert_eq!(driver.get(ROWS, &[b"b"]).await, [None]);
}

pub(super) async fn a_batch_is_applied_whole_or_not_at_all(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.sure(vec![put("there", "1"), append(NOTES, "before")]).await;
    let end = driver.claim().await.end;
    let batch = vec![
        append(NOTES, "never"),
        put("new", "never"),
        delete("there"),
        Op::Trim { class: NOTES, below: end },
        Op::Send { to: AWAY, class: NOTES, records: vec![record("note", 0, "never")] },
        put("there", "2"),
        put_new("there", "3"),
    ];
    let conflict = driver.commit(batch).await;
    assert!(matches!(conflict, Err(CommitError::Conflict { .. })), "{conflict:?}");
    driver.sure(vec![append(NOTES, "after")]).await;
    assert_eq!(driver.get(ROWS, &[b"new", b"there"]).await, [None, Some("1".into())]);
    assert_eq!(texts(&driver.log(NOTES).await), ["before", "after"]);
    assert_eq!(Driver::new(&store, AWAY).log(NOTES).await, []);
}

pub(super) async fn a_batch_that_is_refused_fails_alone(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.sure(vec![put("there", "1")]).await;
    let batch = |number: usize| {
        let text = append(NOTES, number.to_string());
        let new = |key: Bytes| Op::PutNew { table: ROWS, key, value: Bytes::new(), life: None };
        let mut batch = vec![text, new(number.to_string().into())];
        batch.extend(number.is_multiple_of(3).then(|| new("there".into())));
        batch
    };
    let in_flight: Vec<_> = (0..90).map(|number| store.append(HOME, batch(number))).collect();
    let mut known = Vec::new();
    for (number, commit) in in_flight.into_iter().enumerate() {
        match commit.await {
            Ok(_) => known.push(number.to_string()),
            Err(CommitError::Conflict { .. }) => assert!(number.is_multiple_of(3), "{number} has no conflict"),
            Err(CommitError::Unknown { .. }) => {}
            refused => unreachable!("{refused:?}"),
        }
    }
    let log = texts(&driver.log(NOTES).await);
    assert!(known.iter().all(|text| log.contains(text)), "what was acknowledged is there");
    for number in 0..90 {
        let row = driver.get(ROWS, &[number.to_string().as_bytes()]).await;
        assert_eq!(row[0].is_some(), log.contains(&number.to_string()), "rows and records of {number} are one");
    }
    let is_right = |text: &String| text.parse::<usize>().is_ok_and(|number| !number.is_multiple_of(3));
    assert!(log.iter().all(is_right), "what was refused is not: {log:?}");
    assert!(log.is_sorted_by_key(|text| text.parse::<usize>().unwrap_or_default()));
}

pub(super) async fn a_conflict_names_the_row_that_is_there(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.append(vec![put_new("a", "first")]).await.expect("it is new");
    let refused = driver.append(vec![put_new("a", "second")]).await;
    let Err(CommitError::Conflict { table, key, value }) = refused else { unreachable!("{refused:?}") };
    assert_eq!((table, &key[..], &value[..]), (ROWS, &b"a"[..], &b"first"[..]));
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [Some("first".into())]);
}

fn lives(key: impl Into<Bytes>, now: u64, until: u64) -> Op {
    let life = Some((Timestamp::from_millis(now), Timestamp::from_millis(until)));
    Op::PutNew { table: ROWS, key: key.into(), value: now.to_string().into(), life }
}

pub(super) async fn a_row_that_has_expired_keeps_nobody_out(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.sure(vec![lives("a", 0, 100)]).await;
    for now in [0, 99] {
        let refused = driver.commit(vec![lives("a", now, 500)]).await;
        assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    }
    let for_ever = driver.commit(vec![put_new("a", "without a time")]).await;
    assert!(matches!(for_ever, Err(CommitError::Conflict { .. })), "without a time nothing has expired");
    driver.sure(vec![lives("a", 100, 200)]).await;
    assert_eq!(driver.get(ROWS, &[b"a"]).await, [Some("100".into())], "a row's value comes without its life");
    assert_eq!(driver.scan(ROWS, KeyRange::all(), 9).await, [("a".into(), "100".into())]);
}

pub(super) async fn expired_rows_are_swept_away_and_others_are_not(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.sure(vec![put_new("for ever", "1"), lives("a long time", 0, u64::MAX / 1_000_000)]).await;
    for number in 0..200 {
        driver.sure(vec![lives(format!("{number:05}"), number, number + 10)]).await;
    }
    let rows = driver.scan(ROWS, KeyRange::all(), 1_000).await;
    assert!(rows.len() < 150, "what has expired does not stay for ever: {}", rows.len());
    let kept = driver.get(ROWS, &[b"for ever", b"a long time", b"00199", b"00195"]).await;
    assert!(kept.iter().all(Option::is_some), "{kept:?}");
}

pub(super) async fn the_rows_of_a_record_hold_its_place_and_must_be_new(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let keyed = |text: &'static str, keys: &[&'static str]| {
        let keys = keys.iter().map(|key| RowKey { table: ROWS, key: (*key).into() }).collect();
        Op::Append {
            class: NOTES,
            records: vec![record("note", 0, "between"), Record { keys, ..record("note", 0, text) }],
        }
    };
    driver.sure(vec![keyed("1", &["a", "b"])]).await;
    driver.append(vec![keyed("2", &["c"])]).await.expect("it is new");
    for taken in [&["d", "b"][..], &["e", "e"]] {
        let refused = driver.append(vec![keyed("3", taken)]).await;
        assert!(matches!(refused, Err(CommitError::Conflict { table: ROWS, .. })), "{refused:?}");
    }
    let log = driver.log(NOTES).await;
    assert_eq!(texts(&log), ["between", "1", "between", "2"]);
    let place = |at: usize| Some(Bytes::copy_from_slice(&log[at].seq.0.to_be_bytes()));
    assert_eq!(driver.get(ROWS, &[b"a", b"b", b"c", b"d", b"e"]).await, [place(1), place(1), place(3), None, None]);
}

pub(super) async fn a_scan_is_in_the_order_of_the_keys(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in (0..100_u8).rev() {
        let (key, value) = (vec![b'k', number * 2], vec![number; usize::from(number)]);
        driver.sure(vec![Op::Put { table: ROWS, key: key.into(), value: value.into() }]).await;
    }
    driver.sure(vec![put("a", "before"), put("z", "after"), put("k", "the prefix itself")]).await;
    let all = driver.scan(ROWS, KeyRange::prefix("k"), 1_000).await;
    assert_eq!(all.len(), 101);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0));
    assert!(all[1..].iter().all(|(key, value)| value.iter().all(|byte| *byte == key[1] / 2)));
    assert_eq!(driver.scan(ROWS, KeyRange::prefix("k"), 7).await, all[..7]);
    assert_eq!(driver.scan(ROWS, KeyRange::prefix("k").after(&all[6].0), 1_000).await, all[7..]);
    assert_eq!(driver.scan(ROWS, KeyRange::all(), 1_000).await.len(), 103);
    assert_eq!(driver.scan(ROWS, KeyRange::all(), 0).await, []);
    let bounded = KeyRange { start: all[3].0.clone(), end: Some(all[5].0.clone()) };
    assert_eq!(driver.scan(ROWS, bounded, 1_000).await, all[3..5]);
    assert_eq!(driver.scan(Table("never written"), KeyRange::all(), 1_000).await, []);
}

pub(super) async fn tables_and_partitions_are_apart(store: Arc<dyn Store>) {
    const OTHER: Table = Table("rows.other");
    let mut drivers = [HOME, AWAY].map(|partition| Driver::new(&store, partition));
    for driver in &mut drivers {
        for table in [ROWS, OTHER] {
            let value = Bytes::from(format!("{} in {}", table.0, driver.partition.0));
            let new = |key: &'static str| Op::PutNew { table, key: key.into(), value: value.clone(), life: None };
            driver.sure(vec![new("k"), new("")]).await;
        }
    }
    for driver in &drivers {
        for table in [ROWS, OTHER] {
            let value = format!("{} in {}", table.0, driver.partition.0);
            assert_eq!(driver.get(table, &[b"k"]).await, [Some(value.into())]);
            assert_eq!(driver.scan(table, KeyRange::all(), 9).await.len(), 2);
        }
    }
}

pub(super) async fn the_last_row_of_a_range_is_the_last(store: Arc<dyn Store>) {
    let mut drivers = [HOME, AWAY].map(|partition| Driver::new(&store, partition));
    for driver in &mut drivers {
        driver.sure(vec![put("a", "1"), put("ka", "2"), put("kb", "3"), put("z", "4")]).await;
    }
    for partition in [HOME, AWAY] {
        let reader = store.reader(partition);
        let last = async |range| reader.last(ROWS, range).await.expect("it is read").map(|(key, _)| key);
        assert_eq!(last(KeyRange::prefix("k")).await, Some("kb".into()));
        assert_eq!(last(KeyRange::all()).await, Some("z".into()), "of this partition");
        assert_eq!(last(KeyRange { start: "ka".into(), end: Some("kb".into()) }).await, Some("ka".into()));
        assert_eq!(last(KeyRange::prefix("m")).await, None);
        assert_eq!(last(KeyRange { start: "zz".into(), end: None }).await, None);
        assert_eq!(reader.last(Table("never written"), KeyRange::all()).await.expect("it is read"), None);
    }
}
