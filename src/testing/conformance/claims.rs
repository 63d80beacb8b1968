//! Who may write, and in which order.

use std::sync::Arc;

use super::driver::{AWAY, Driver, HOME, ROWS, append, numbers, put, put_new, record, texts};
use crate::store::{CLASSES, Class, CommitError, MAX_BATCH_BYTES, Op, Seq, Store};

const NOTES: Class = Class(1);

pub(super) async fn a_later_claim_ends_an_earlier_one(store: Arc<dyn Store>) {
    let (mut first, mut second) = (Driver::new(&store, HOME), Driver::new(&store, HOME));
    first.sure(vec![append(NOTES, "first")]).await;
    let early = store_claim(&mut first).await;
    let late = store_claim(&mut second).await;
    assert!(late.1 > early.1, "each fence is higher than all before it");
    let mut early = early.0;
    for _ in 0..2 {
        let refused = early.commit(vec![append(NOTES, "too late")]).await;
        assert!(matches!(refused, Err(CommitError::Fenced | CommitError::Unknown { .. })), "{refused:?}");
    }
    second.sure(vec![append(NOTES, "second")]).await;
    assert_eq!(texts(&second.log(NOTES).await), ["first", "second"]);
    let mut elsewhere = Driver::new(&store, AWAY);
    elsewhere.sure(vec![append(NOTES, "elsewhere")]).await;
    assert_eq!(texts(&elsewhere.log(NOTES).await), ["elsewhere"]);
}

async fn store_claim(driver: &mut Driver) -> (Box<dyn crate::store::Partition>, u64) {
    driver.claim().await;
    let store = Arc::clone(&driver.store);
    loop {
        if let Ok(claim) = store.claim(driver.partition).await {
            return (claim.partition, claim.fence);
        }
    }
}

pub(super) async fn a_claim_says_where_the_partition_ends(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let empty = driver.claim().await.end;
    assert_eq!(driver.log(NOTES).await, []);
    for class in [Class(0), NOTES] {
        driver.sure(vec![append(class, "1"), append(class, "2")]).await;
    }
    let end = driver.claim().await.end;
    let last = driver.log(NOTES).await[1].seq;
    assert!(empty < end && last < end, "{empty:?}, {last:?}, {end:?}");
    driver.sure(vec![append(Class(3), "3")]).await;
    assert!(driver.log(Class(3)).await[0].seq >= end, "the next record goes to the end at the earliest");
}

pub(super) async fn a_strangers_batch_appends_and_puts_new_rows_alone(store: Arc<dyn Store>) {
    let mut stranger = Driver::new(&store, HOME);
    stranger.append(vec![append(NOTES, "before any claim"), put_new("k", "v")]).await.expect("both are allowed");
    let mut holder = Driver::new(&store, HOME);
    holder.claim().await;
    stranger.append(vec![append(NOTES, "beside a claim")]).await.expect("anyone may append");
    let others = [
        put("k", "w"),
        Op::Delete { table: ROWS, key: "k".into() },
        Op::Trim { class: NOTES, below: Seq(u64::MAX) },
        Op::Send { to: AWAY, class: NOTES, records: vec![record("note", 0, "sent")] },
    ];
    for other in others {
        let refused = stranger.append(vec![append(NOTES, "with it"), other]).await;
        assert!(matches!(refused, Err(CommitError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(texts(&holder.log(NOTES).await), ["before any claim", "beside a claim"]);
    assert_eq!(holder.get(ROWS, &[b"k"]).await, [Some("v".into())]);
}

pub(super) async fn batches_of_a_claim_are_applied_in_the_order_of_the_calls(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let claim = driver.claim().await;
    let in_flight: Vec<_> =
        (0..200).map(|number: usize| claim.partition.commit(vec![append(NOTES, number.to_string())])).collect();
    let (mut committed, mut has_ended) = (Vec::new(), false);
    for (number, commit) in in_flight.into_iter().enumerate() {
        match commit.await {
            Ok(_) => {
                assert!(!has_ended, "after an unknown commit no later one of the claim is known");
                committed.push(number.to_string());
            }
            Err(CommitError::Unknown { .. } | CommitError::Fenced) => has_ended = true,
            refused => unreachable!("{refused:?}"),
        }
    }
    driver.claim().await;
    let log = texts(&driver.log(NOTES).await);
    assert_eq!(log[..committed.len()], committed, "what was acknowledged comes first, in its order");
    let rest = &log[committed.len()..];
    let all = numbers(committed.len()..200);
    assert!(rest.iter().map(|text| all.iter().position(|one| one == text)).is_sorted(), "{rest:?}");
}

pub(super) async fn a_batch_lands_though_its_future_was_dropped(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in 0..20 {
        let dropped = put("dropped", "landed");
        // A store may lose what nobody asks for; a second look goes through a commit that is known.
        drop(driver.claim().await.partition.commit(vec![dropped]));
        driver.sure(vec![append(NOTES, number.to_string())]).await;
    }
    assert_eq!(driver.get(ROWS, &[b"dropped"]).await, [Some("landed".into())], "twenty times handed over");
    assert_eq!(texts(&driver.log(NOTES).await), numbers(0..20));
}

pub(super) async fn a_partition_is_released_after_all_that_was_handed_over(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let (mut partition, _) = store_claim(&mut driver).await;
    let in_flight = partition.commit(vec![append(NOTES, "1")]);
    let released = partition.release().await;
    let landed = in_flight.await.is_ok();
    driver.claim().await;
    let log = texts(&driver.log(NOTES).await);
    assert!(log == ["1"] || !landed, "{log:?}, {released:?}");
    driver.sure(vec![append(NOTES, "2")]).await;
    assert_eq!(driver.log(NOTES).await.last().map(|record| record.bytes.clone()), Some("2".into()));
}

pub(super) async fn what_is_not_allowed_is_invalid(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let keyed = crate::store::Record {
        keys: vec![crate::store::RowKey { table: ROWS, key: "k".into() }],
        ..record("note", 0, "keyed")
    };
    let wrong = [
        append(Class(CLASSES), "no such class"),
        Op::Trim { class: Class(CLASSES), below: Seq(1) },
        Op::Send { to: AWAY, class: NOTES, records: vec![keyed] },
        Op::Append { class: NOTES, records: vec![record(&"n".repeat(70_000), 0, "a name without an end")] },
    ];
    for op in wrong {
        let refused = driver.commit(vec![append(NOTES, "with it"), op]).await;
        assert!(matches!(refused, Err(CommitError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(driver.log(NOTES).await, []);
}

pub(super) async fn a_batch_that_is_too_large_is_refused(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let refused = driver.commit(vec![append(NOTES, vec![0; MAX_BATCH_BYTES + 1])]).await;
    let Err(CommitError::TooLarge { bytes, max }) = refused else { unreachable!("{refused:?}") };
    assert!(bytes > max);
    driver.sure(vec![append(NOTES, vec![7; 1 << 20])]).await;
    assert_eq!(driver.log(NOTES).await[0].bytes, vec![7; 1 << 20]);
}

pub(super) async fn an_empty_batch_is_committed(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    driver.sure(vec![]).await;
    driver.sure(vec![Op::Append { class: NOTES, records: vec![] }]).await;
    driver.append(vec![]).await.expect("nothing speaks against it");
    assert_eq!(driver.log(NOTES).await, []);
}
