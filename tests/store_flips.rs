//! Every bit of a file may flip: a reader is told, or is given what was written. A program of its own, for it silences the
//! panics of redb that the store contains. `MILLSTREAM_FLIPS=N` sets how many bits are flipped (3,000 by default).
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]
#![expect(clippy::print_stdout, reason = "what became of the bits is a figure to read")]

mod disk;

use bytes::Bytes;
use disk::Disk;
use futures::FutureExt;
use millstream::{
    Timestamp,
    store::{Class, KeyRange, Op, PageRecord, PartitionId, Record, Redb, Seq, Store, StoreError, Table, Wanted},
};

const HOME: PartitionId = PartitionId(0);
const NOTES: Class = Class(1);
const ROWS: Table = Table("rows");

fn append(text: impl Into<Bytes>) -> Op {
    let record = Record { name: "note".into(), time: Timestamp::EPOCH, bytes: text.into(), keys: Vec::new() };
    Op::Append { class: NOTES, records: vec![record] }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
    Op::Put { table: ROWS, key: key.into(), value: value.into() }
}

async fn log(store: &Redb) -> Result<Vec<PageRecord>, StoreError> {
    let (reader, mut from, mut records) = (store.reader(HOME), Seq(0), Vec::new());
    loop {
        let page = reader.read(NOTES, from, 1 << 20, &Wanted::default()).await?;
        records.extend(page.records);
        from = page.next;
        if page.is_end {
            return Ok(records);
        }
    }
}

/// A disk with a log and a table of a few hundred kilobytes.
async fn filled() -> Disk {
    let disk = Disk::default();
    let store = Redb::builder().open_on(disk.clone()).unwrap();
    let mut claim = store.claim(HOME).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for batch in 0..60 {
        let mut ops = Vec::new();
        for number in 0..40 {
            let number = batch * 40 + number;
            ops.push(append(format!("{number}-{}", "x".repeat(random.usize(0..150)))));
            ops.push(put(format!("key-{:04}", (number * 7) % 1_500), format!("{number}-{:08x}", random.u32(..))));
        }
        claim.partition.commit(ops).await.unwrap();
    }
    disk
}

struct Contents {
    log: Vec<PageRecord>,
    rows: Vec<(Bytes, Bytes)>,
}

async fn contents(disk: Disk) -> Contents {
    let store = Redb::builder().open_on(disk).unwrap();
    let rows = store.reader(HOME).scan(ROWS, KeyRange::all(), 10_000).await.unwrap();
    Contents { log: log(&store).await.unwrap(), rows }
}

#[derive(Debug, Default)]
struct Flips {
    at_opening: u32,
    by_reading: u32,
    harmless: u32,
}

/// Whether a disk with a flipped bit says so, or gives what was written.
async fn look(disk: Disk, check: u64, written: &Contents, flips: &mut Flips) {
    let store = match Redb::builder().check(check).open_on(disk) {
        Ok(store) => store,
        Err(error) => {
            assert!(!matches!(error, StoreError::Closed | StoreError::Full), "{error:?}");
            flips.at_opening += 1;
            return;
        }
    };
    let mut is_detected = false;
    match log(&store).await {
        Ok(log) => assert!(log == written.log, "a wrong record"),
        Err(error) => is_detected |= is_corrupt(&error),
    }
    let reader = store.reader(HOME);
    match reader.scan(ROWS, KeyRange::all(), 10_000).await {
        Ok(rows) => assert!(rows == written.rows, "a wrong row"),
        Err(error) => is_detected |= is_corrupt(&error),
    }
    for (key, value) in written.rows.iter().step_by(13) {
        match reader.get(ROWS, std::slice::from_ref(key)).await {
            Ok(found) => assert!(found[0].as_ref() == Some(value), "a wrong value"),
            Err(error) => is_detected |= is_corrupt(&error),
        }
    }
    flips.by_reading += u32::from(is_detected);
    flips.harmless += u32::from(!is_detected);
}

fn is_corrupt(error: &StoreError) -> bool {
    assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Io { .. }), "{error:?}");
    true
}

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::AssertUnwindSafe(flip_bits()).catch_unwind().await;
    drop(std::panic::take_hook());
    let flips = result.unwrap();
    assert!(flips[0].at_opening > 0 && flips[1].by_reading > 0, "{flips:?}");
}

async fn flip_bits() -> [Flips; 2] {
    let count: u32 = std::env::var("MILLSTREAM_FLIPS").map_or(3_000, |count| count.parse().unwrap());
    let disk = filled().await;
    let (whole, written) = (disk.bytes(), contents(disk).await);
    assert_eq!((written.log.len(), written.rows.len()), (2_400, 1_500));
    let mut random = fastrand::Rng::with_seed(1);
    let mut flips = [Flips::default(), Flips::default()];
    for number in 0..count {
        let mut bytes = whole.clone();
        bytes[random.usize(..whole.len())] ^= 1 << random.u8(0..8);
        // Half of the files are checked when they are opened, half only where they are read.
        let is_checked = number % 2 == 0;
        let check = if is_checked { u64::MAX } else { 0 };
        look(Disk::holding(bytes), check, &written, &mut flips[usize::from(!is_checked)]).await;
    }
    println!("{count} flipped bits: checked when opened {:?}, not checked {:?}", flips[0], flips[1]);
    flips
}
