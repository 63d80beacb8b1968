//! Logs: what is appended, read, sent and trimmed.

use std::{pin::pin, sync::Arc};

use futures_util::FutureExt as _;

use super::driver::{AWAY, Driver, HOME, append, named, numbers, record, texts};
use crate::{
    Timestamp,
    store::{CLASSES, Class, Op, Seq, Store, StoreError, Wanted},
};

const NOTES: Class = Class(1);

pub(super) async fn records_are_read_as_they_were_appended(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let mut written = Vec::new();
    for batch in 0..30_u64 {
        let sizes = [0, 1, 20, 200, 5_000, 70_000];
        let records: Vec<_> = (0..=batch)
            .map(|number| {
                let size = sizes[usize::try_from((batch + number) % 6).unwrap_or_default()];
                let name = ["", "order.placed", "ordre.plac\u{e9}"][usize::try_from(number % 3).unwrap_or_default()];
                let byte = u8::try_from((batch * 31 + number) % 256).unwrap_or_default();
                let mut bytes = vec![byte; size];
                bytes.iter_mut().step_by(7).zip(0_u8..255).for_each(|(byte, other)| *byte ^= other);
                record(name, u64::MAX / 1_000_000 - batch * number, bytes)
            })
            .collect();
        written.extend(records.clone());
        driver.sure(vec![Op::Append { class: NOTES, records }]).await;
        if batch % 10 == 9 {
            driver.claim().await;
        }
    }
    let read = driver.log(NOTES).await;
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!((&read.name, read.time), (&written.name, written.time));
        assert_eq!(read.bytes, written.bytes);
    }
}

pub(super) async fn places_rise_over_all_classes_of_a_partition(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let mut order = Vec::new();
    for number in 0..60_u8 {
        let class = Class(number % CLASSES);
        let committed = driver.commit(vec![append(class, "a"), append(class, "b")]).await;
        if let Some(committed) = committed.expect("nothing speaks against it") {
            assert_eq!(committed.appended.len(), 2);
            assert!(committed.appended[1] < committed.end);
            order.extend(committed.appended.into_iter().map(|seq| (class, seq)));
        }
    }
    assert!(order.is_sorted_by_key(|(_, seq)| *seq), "one sequence for all classes");
    for class in (0..CLASSES).map(Class) {
        let log = driver.log(class).await;
        assert_eq!(log.len(), 30);
        assert!(log.is_sorted_by(|a, b| a.seq < b.seq));
        let told = order.iter().filter(|(of, _)| *of == class);
        assert!(told.clone().all(|(_, seq)| log.iter().any(|record| record.seq == *seq)), "read where it was told");
    }
}

pub(super) async fn a_read_is_bounded_and_goes_on_where_it_stopped(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in 0..300 {
        let other = append(Class(2), "between");
        driver.sure(vec![append(NOTES, format!("{number:0100}")), other]).await;
    }
    let reader = store.reader(HOME);
    let (mut from, mut seen) = (Seq(0), 0);
    loop {
        let page = reader.read(NOTES, from, 1_000, &Wanted::default()).await.expect("it is read");
        let bytes: usize = page.records.iter().rev().skip(1).map(|record| record.bytes.len()).sum();
        assert!(bytes <= 1_000, "no record more once the bytes are passed: {bytes}");
        for record in &page.records {
            assert_eq!(record.bytes, format!("{seen:0100}"));
            seen += 1;
        }
        from = page.next;
        if page.is_end {
            break;
        }
    }
    assert_eq!(seen, 300);
    let log = driver.log(NOTES).await;
    let middle = driver.read(NOTES, log[150].seq, 0, &Wanted::default()).await.expect("it is read");
    assert_eq!(middle, log[150..], "from any place on, one by one");
    let end = reader.read(NOTES, from, 1_000, &Wanted::default()).await.expect("it is read");
    assert_eq!(end.records, []);
    assert_eq!(driver.read(Class(3), Seq(0), 1, &Wanted::default()).await.expect("it is read"), []);
}

pub(super) async fn a_reader_sees_only_what_it_wants_and_all_of_it(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in 0..400_u64 {
        let name = if number / 100 == 2 { "rare" } else { ["a", "b"][usize::try_from(number % 2).unwrap_or(0)] };
        driver.sure(vec![Op::Append { class: NOTES, records: vec![record(name, number, vec![1; 300])] }]).await;
    }
    let log = driver.log(NOTES).await;
    let millis = |number| Some(Timestamp::from_millis(number));
    let all = [
        (named(&["rare"]), 100),
        (named(&["a", "rare"]), 250),
        (named(&["nobody"]), 0),
        (Wanted { since: millis(350), ..Wanted::default() }, 50),
        (Wanted { until: millis(50), ..Wanted::default() }, 50),
        (Wanted { since: millis(100), until: millis(102), ..named(&["a"]) }, 1),
        (Wanted { below: Some(log[7].seq), ..Wanted::default() }, 7),
        (Wanted { below: Some(log[250].seq), ..named(&["rare"]) }, 50),
    ];
    for (wanted, count) in all {
        for max_bytes in [0, 5_000, 1 << 20] {
            let read = driver.read(NOTES, Seq(0), max_bytes, &wanted).await.expect("it is read");
            assert_eq!(read.len(), count, "{wanted:?}");
            assert!(read.is_sorted_by(|a, b| a.seq < b.seq));
        }
    }
    let wanted = Wanted { below: Some(log[7].seq), ..Wanted::default() };
    let page = store.reader(HOME).read(NOTES, Seq(0), 1 << 20, &wanted).await.expect("it is read");
    assert!(page.next <= log[7].seq, "what another reader may want is not passed over");
}

pub(super) async fn a_trim_keeps_what_it_should_and_says_what_is_gone(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in 0..200 {
        let text = || format!("{number:0500}");
        driver.sure(vec![append(NOTES, text()), append(Class(2), text())]).await;
    }
    let (log, other) = (driver.log(NOTES).await, driver.log(Class(2)).await);
    for at in [0, 1, 60, 61, 150, 199] {
        driver.sure(vec![Op::Trim { class: NOTES, below: log[at].seq }]).await;
        let first = match driver.read(NOTES, Seq(0), 1 << 20, &Wanted::default()).await {
            Err(StoreError::Trimmed { first }) => first,
            kept => {
                assert_eq!(kept.expect("it is read"), log, "nothing is gone");
                continue;
            }
        };
        assert!(Seq(0) < first && first <= log[at].seq, "no more is gone than was asked for");
        let kept =
            driver.read(NOTES, first, 1 << 20, &Wanted::default()).await.expect("from the first on all is there");
        assert_eq!(kept, log[log.len() - kept.len()..], "the rest, as it was");
        assert!(kept.len() >= log.len() - at);
    }
    assert_eq!(driver.log(Class(2)).await, other, "another class is not touched");
}

pub(super) async fn places_are_not_used_again_after_a_trim(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    for number in 0..50 {
        driver.sure(vec![append(NOTES, number.to_string())]).await;
    }
    let last = driver.log(NOTES).await[49].seq;
    let far = Seq(u64::MAX);
    driver.sure(vec![Op::Trim { class: NOTES, below: far }, append(NOTES, "after the trim")]).await;
    driver.claim().await;
    driver.sure(vec![append(NOTES, "after the claim")]).await;
    let read = driver.read(NOTES, last.next(), 1 << 20, &Wanted::default()).await.expect("what comes after is there");
    assert_eq!(texts(&read), ["after the trim", "after the claim"]);
    assert!(read[0].seq > last);
}

pub(super) async fn what_is_sent_arrives_once_and_in_order(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let away = Driver::new(&store, AWAY);
    for number in 0..40 {
        let send = |to| Op::Send { to, class: NOTES, records: vec![record("note", 0, number.to_string())] };
        let committed = driver.commit(vec![send(AWAY), append(Class(2), "mine"), send(HOME)]).await;
        let committed = committed.expect("nothing speaks against it");
        assert!(committed.is_none_or(|committed| committed.appended.len() == 1), "what is sent is not appended");
    }
    assert_eq!(texts(&away.arrived(NOTES, 40).await), numbers(0..40));
    assert_eq!(texts(&driver.arrived(NOTES, 40).await), numbers(0..40));
    driver.sure(vec![append(NOTES, "40")]).await;
    assert_eq!(away.log(NOTES).await.len(), 40, "and no more");
    assert_eq!(driver.log(NOTES).await.len(), 41);
}

pub(super) async fn whoever_waits_for_a_record_is_woken(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    drop(store.appended(HOME, Seq(0)));
    let mut waiting = pin!(store.appended(HOME, Seq(0)));
    assert!(waiting.as_mut().now_or_never().is_none(), "there is no record yet");
    driver.sure(vec![append(NOTES, "1")]).await;
    waiting.await.expect("it is there");
    let first = driver.log(NOTES).await[0].seq;
    store.appended(HOME, first).await.expect("it is there already");
    let next = driver.claim().await.end;
    let waiting = async {
        store.appended(HOME, next).await.expect("it comes");
        driver_sees(&store, next).await;
    };
    let mut other = Driver::new(&store, HOME);
    futures_util::join!(waiting, async { other.append(vec![append(Class(0), "2")]).await.expect("it is allowed") });
}

async fn driver_sees(store: &Arc<dyn Store>, from: Seq) {
    let log = Driver::new(store, HOME).read(Class(0), from, 1, &Wanted::default()).await.expect("it is read");
    assert_eq!(texts(&log), ["2"], "whoever is woken finds what he waited for");
}

pub(super) async fn partitions_have_logs_of_their_own(store: Arc<dyn Store>) {
    let mut drivers = [HOME, AWAY].map(|partition| Driver::new(&store, partition));
    for number in 0..20 {
        for driver in &mut drivers {
            driver.sure(vec![append(NOTES, format!("{number} in {}", driver.partition.0))]).await;
        }
    }
    for driver in &drivers {
        let wanted: Vec<String> = (0..20).map(|number| format!("{number} in {}", driver.partition.0)).collect();
        assert_eq!(texts(&driver.log(NOTES).await), wanted);
    }
}

pub(super) async fn an_extent_says_where_logs_begin_and_end_and_what_they_take(store: Arc<dyn Store>) {
    let mut driver = Driver::new(&store, HOME);
    let reader = store.reader(HOME);
    let empty = reader.extent().await.expect("it is read");
    assert_eq!((empty.bytes(), empty.end), (0, Seq(0)), "there is nothing");
    let mut before = 0;
    for number in 0..150_u32 {
        // Nothing that can be compressed.
        let noise = (0..2_000_u32).map(|at| (at ^ number).wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        driver.sure(vec![append(NOTES, noise.collect::<Vec<u8>>()), append(Class(2), "x")]).await;
        let bytes = reader.extent().await.expect("it is read").log(NOTES).bytes;
        assert!(number % 50 < 49 || bytes > before, "it grows: {before}, {bytes}");
        before = if number % 50 == 49 { bytes } else { before };
    }
    driver.claim().await;
    let whole = reader.extent().await.expect("it is read");
    let log = driver.log(NOTES).await;
    assert_eq!(whole.log(NOTES).first, log[0].seq);
    assert!(whole.end > log[log.len() - 1].seq);
    assert!((100_000..1_000_000).contains(&whole.log(NOTES).bytes), "{whole:?}");
    assert_eq!(whole.bytes(), whole.log(NOTES).bytes + whole.log(Class(2)).bytes);
    driver.sure(vec![Op::Trim { class: NOTES, below: log[120].seq }]).await;
    let trimmed = reader.extent().await.expect("it is read");
    assert!(trimmed.log(NOTES).bytes < whole.log(NOTES).bytes / 2, "what is trimmed takes nothing: {trimmed:?}");
    assert_eq!(trimmed.log(Class(2)), whole.log(Class(2)));
    let kept = driver.read(NOTES, trimmed.log(NOTES).first, 1 << 20, &Wanted::default()).await.expect("all is there");
    assert_eq!(kept, log[log.len() - kept.len()..]);
    driver.sure(vec![Op::Trim { class: NOTES, below: trimmed.end }]).await;
    let gone = reader.extent().await.expect("it is read");
    assert_eq!((gone.log(NOTES).bytes, gone.end >= whole.end), (0, true), "nothing of it is left");
}
