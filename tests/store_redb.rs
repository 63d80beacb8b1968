//! The store in one file: what it says of bad files and bad disks, its tools, and the clock that it holds.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]
#![expect(clippy::disallowed_methods, reason = "the clock that is looked at is the one that is paused")]

mod disk;

use std::{
    fs,
    future::poll_fn,
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use disk::{Disk, Failure};
use futures::FutureExt as _;
use millstream::{
    Timestamp,
    store::{
        Class, CommitError, KeyRange, Op, PageRecord, Partition, PartitionId, Record, Redb, Seq, Store, StoreError,
        Table, Wanted,
    },
    testing,
};
use redb::ReadableTable as _;

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

fn texts(records: &[PageRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.bytes.to_vec()).unwrap()).collect()
}

/// What somebody is told who opens a file with these bytes.
fn refusal(path: &Path, bytes: &[u8]) -> StoreError {
    fs::write(path, bytes).unwrap();
    Redb::open(path).unwrap_err()
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let noise = vec![7; 100_000];
    let foreign = [&b"SQLite format 3\0"[..], b"x", &noise, b"{\"json\": true}\n"];
    for bytes in foreign {
        let error = refusal(&path, bytes);
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error:?}");
        assert!(error.to_string().contains("name another file"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    let other = redb::Database::create(folder.path().join("other")).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("meta")).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(other);
    let error = Redb::open(folder.path().join("other")).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error:?}");
    let error = Redb::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. } | StoreError::Io { .. }), "{error:?}");
    let error = Redb::open(folder.path().join("no/such/folder")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("no/such/folder"), "{error:?}");
    // Whoever prints the error alone is told why.
    let why = fs::metadata("no/such/folder").unwrap_err().to_string();
    assert!(error.to_string().ends_with(&why), "{error}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let store = Redb::open(file.path()).unwrap();
    store.append(HOME, vec![append("1")]).await.unwrap();
    assert_eq!(texts(&log(&store).await.unwrap()), ["1"]);
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused_or_read_to_the_byte() {
    let disk = filled().await;
    let whole = disk.bytes();
    for tenth in 0..10 {
        let cut = whole[..whole.len() * tenth / 10].to_vec();
        if cut.is_empty() {
            continue;
        }
        let opened = Redb::builder().open_on(Disk::holding(cut));
        assert!(matches!(&opened, Err(StoreError::Corrupt { .. })), "{tenth}: {opened:?}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer");
    drop(Redb::open(&path).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut row = vec![0];
        row.extend_from_slice(&9_u32.to_le_bytes());
        let signed = [&b"metaformat"[..], &row].concat();
        row.extend_from_slice(&crc32c::crc32c(&signed).to_le_bytes());
        let mut meta = write.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("meta")).unwrap();
        meta.insert(&b"format"[..], &row[..]).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let error = Redb::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_is_open_once_and_free_when_the_last_handle_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let store = Redb::open(&path).unwrap();
    let in_use = |error: StoreError| assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    in_use(Redb::open(&path).unwrap_err());
    let mut claim = store.claim(HOME).await.unwrap();
    let reader = store.reader(HOME);
    let commit = claim.partition.commit(vec![append("1")]);
    drop(store);
    in_use(Redb::open(&path).unwrap_err());
    drop(claim);
    in_use(Redb::open(&path).unwrap_err());
    drop(reader);
    let again = Redb::open(&path).unwrap();
    assert_eq!(commit.await.unwrap().end, Seq(1), "what was handed over is committed");
    assert_eq!(texts(&log(&again).await.unwrap()), ["1"]);
}

#[test]
fn a_disk_that_cannot_be_written_is_named_when_it_is_opened() {
    for (kind, is_right) in [
        (io::ErrorKind::PermissionDenied, (|error| matches!(error, StoreError::ReadOnly { .. })) as fn(&_) -> bool),
        (io::ErrorKind::ReadOnlyFilesystem, |error| matches!(error, StoreError::ReadOnly { .. })),
        (io::ErrorKind::StorageFull, |error| matches!(error, StoreError::Full)),
        (io::ErrorKind::Other, |error| matches!(error, StoreError::Io { .. })),
    ] {
        let disk = Disk::default();
        disk.fail_at(1, Failure::Error(kind), true);
        let error = Redb::builder().open_on(disk).unwrap_err();
        assert!(is_right(&error), "{kind:?}: {error:?}");
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

#[tokio::test]
async fn whatever_operation_of_the_disk_fails_nothing_acknowledged_is_lost() {
    let operations = work(&Disk::default()).await;
    let failures = [
        Failure::Error(io::ErrorKind::Other),
        Failure::Error(io::ErrorKind::StorageFull),
        Failure::Short(io::ErrorKind::StorageFull),
    ];
    for at in 1..=operations {
        for failure in failures {
            for for_good in [false, true] {
                let disk = Disk::default();
                disk.fail_at(at, failure, for_good);
                work(&disk).await;
                assert!(disk.has_failed(), "operation {at} was never reached");
            }
        }
    }
}

/// Appends and puts, claims again where it must, and looks whether all is there that was acknowledged and nothing that was
/// refused. Says how many operations it has taken.
async fn work(disk: &Disk) -> u64 {
    let mut store = open(disk);
    let mut held: Option<Box<dyn Partition>> = None;
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for number in 0..12_u32 {
        if held.is_none() {
            held = store.claim(HOME).await.ok().map(|claim| claim.partition);
        }
        let Some(partition) = &mut held else {
            disk.heal();
            store = open(disk);
            continue;
        };
        let text = number.to_string();
        match partition.commit(vec![append(text.clone()), put(text.clone(), vec![7; 3_000])]).await {
            Ok(_) => acknowledged.push(text),
            Err(error @ (CommitError::Full | CommitError::Unknown { .. })) => {
                if matches!(error, CommitError::Full) {
                    refused.push(text);
                }
                let again = partition.commit(vec![append("again")]).await;
                assert!(again.is_err_and(|error| error.is_loss()), "a claim that lost a batch takes no more");
                held = None;
            }
            Err(error) => unreachable!("{error:?}"),
        }
    }
    let operations = disk.operations();
    disk.heal();
    drop((held, store));
    let store = open(disk);
    let log = texts(&log(&store).await.unwrap());
    assert!(acknowledged.iter().all(|text| log.contains(text)), "{acknowledged:?}, {log:?}");
    assert!(!refused.iter().any(|text| log.contains(text)), "{refused:?}, {log:?}");
    assert!(!log.contains(&"again".to_owned()), "{log:?}");
    for text in &log {
        let row = store.reader(HOME).get(ROWS, &[text.clone().into()]).await.unwrap();
        assert!(row[0].is_some(), "half of a batch");
    }
    assert!(store.verify(|_| {}).unwrap().is_sound());
    operations
}

fn open(disk: &Disk) -> Redb {
    Redb::builder().open_on(disk.clone()).unwrap_or_else(|_| {
        disk.heal();
        Redb::builder().open_on(disk.clone()).unwrap()
    })
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_more_once_there_is_room() {
    let disk = Disk::default();
    let store = Redb::builder().open_on(disk.clone()).unwrap();
    let mut claim = store.claim(HOME).await.unwrap();
    claim.partition.commit(vec![append("before")]).await.unwrap();
    // Behind one that has no room, what would have room: nobody may find that without the other.
    disk.fill_up();
    let mut random = fastrand::Rng::with_seed(5);
    let noise: Bytes = (0..2_000_000).map(|_| random.u8(..)).collect();
    let large = || vec![append("never"), append(noise.clone())];
    for _ in 0..3 {
        claim = store.claim(HOME).await.unwrap();
        let (full, behind) = (claim.partition.commit(large()), claim.partition.commit(vec![append("behind")]));
        let (full, behind) = (full.await, behind.await);
        assert!(matches!(full, Err(CommitError::Full)), "{full:?}");
        assert!(matches!(behind, Err(CommitError::Full | CommitError::Fenced)), "{behind:?}");
        let full = store.append(HOME, large()).await;
        assert!(matches!(full, Err(CommitError::Full)), "{full:?}");
    }
    claim = store.claim(HOME).await.unwrap();
    claim.partition.commit(vec![append("small enough")]).await.unwrap();
    disk.heal();
    claim.partition.commit(vec![append("after")]).await.unwrap();
    assert_eq!(texts(&log(&store).await.unwrap()), ["before", "small enough", "after"]);
}

#[tokio::test]
async fn after_a_failed_flush_all_is_unknown_until_somebody_claims() {
    let disk = Disk::default();
    let store = Redb::builder().open_on(disk.clone()).unwrap();
    let mut claim = store.claim(HOME).await.unwrap();
    let mut elsewhere = store.claim(PartitionId(1)).await.unwrap();
    let mut waiting = pin!(store.appended(HOME, Seq(100)));
    assert!(waiting.as_mut().now_or_never().is_none());
    claim.partition.commit(vec![append("1")]).await.unwrap();
    // A commit writes a few pages and flushes once: with each operation failing, the flush fails at the latest.
    disk.fail_at(disk.operations() + 1, Failure::Error(io::ErrorKind::Other), false);
    let unknown = claim.partition.commit(vec![append("2")]).await;
    assert!(matches!(unknown, Err(CommitError::Unknown { .. })), "{unknown:?}");
    assert!(matches!(waiting.await, Err(StoreError::Closed)), "who waits is told");
    assert!(matches!(store.append(HOME, vec![append("3")]).await, Err(CommitError::Unknown { .. })));
    assert!(matches!(log(&store).await, Err(StoreError::Closed)));
    let mut again = store.claim(HOME).await.unwrap();
    assert!(again.fence > claim.fence);
    for old in [&mut claim, &mut elsewhere] {
        let fenced = old.partition.commit(vec![append("4")]).await;
        assert!(matches!(fenced, Err(CommitError::Fenced)), "{fenced:?}");
    }
    again.partition.commit(vec![append("5")]).await.unwrap();
    let log = texts(&log(&store).await.unwrap());
    assert!(log == ["1", "5"] || log == ["1", "2", "5"], "{log:?}");
}

/// A backend whose flush waits until it is let go.
#[derive(Debug)]
struct Slow {
    disk: Disk,
    is_held: Arc<AtomicBool>,
}

impl redb::StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        while self.is_held.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_flight_holds_the_clock() {
    let is_held = Arc::new(AtomicBool::new(false));
    let slow = Slow { disk: Disk::default(), is_held: Arc::clone(&is_held) };
    let store = Redb::builder().open_on(slow).unwrap();
    let _hold = testing::hold_clock();
    let (has_rung, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    let rung = Arc::clone(&has_rung);
    tasks.spawn(async move {
        tokio::time::sleep(Duration::from_hours(1)).await;
        rung.store(true, Ordering::Release);
    });
    is_held.store(true, Ordering::Release);
    let begin = tokio::time::Instant::now();
    let mut commit = store.append(HOME, vec![append("1")]);
    // The disk is let go once the commit was asked for a thousand times, or time has leapt.
    let disk = {
        let (has_rung, polls) = (Arc::clone(&has_rung), Arc::clone(&polls));
        std::thread::spawn(move || {
            while polls.load(Ordering::Acquire) < 1_000 && !has_rung.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            is_held.store(false, Ordering::Release);
        })
    };
    let committed = poll_fn(|context| {
        polls.fetch_add(1, Ordering::Release);
        commit.poll_unpin(context)
    });
    assert_eq!(committed.await.unwrap().end, Seq(1));
    assert!(!has_rung.load(Ordering::Acquire), "the alarm rings before the commit has landed");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    disk.join().unwrap();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(begin.elapsed(), Duration::from_hours(1), "and goes on afterwards");
}

#[tokio::test]
async fn a_chunk_that_is_missing_is_noticed_wherever_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let store = Redb::open(&path).unwrap();
    for number in 0..6_u32 {
        let noise: Vec<u8> = fastrand::Rng::with_seed(u64::from(number)).choose_multiple(0..=255, 250);
        store.append(HOME, vec![append(noise.repeat(100))]).await.unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    for missing in 0..6 {
        fs::write(&path, &whole).unwrap();
        let database = redb::Database::open(&path).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut log = write.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("log")).unwrap();
            let keys: Vec<Vec<u8>> = log.iter().unwrap().map(|entry| entry.unwrap().0.value().to_vec()).collect();
            assert_eq!(keys.len(), 6);
            log.remove(&keys[missing][..]).unwrap();
        }
        write.commit().unwrap();
        drop(database);
        let store = Redb::open(&path).unwrap();
        let error = log(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{missing}: {error:?}");
        let verification = store.verify(|_| {}).unwrap();
        assert!(!verification.is_sound() && verification.chunks == 5, "{verification:?}");
    }
}

#[tokio::test]
async fn a_backup_is_what_the_store_was_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let disk = filled().await;
    let before = contents(disk.clone()).await;
    let store = Redb::builder().open_on(disk).unwrap();
    let copy = folder.path().join("copy");
    let mut told = Vec::new();
    let writer = store.clone();
    let mut meanwhile = Vec::new();
    let progress = |progress: millstream::store::Progress| {
        told.push(progress);
        meanwhile.push(writer.append(HOME, vec![append("meanwhile")]));
    };
    store.backup(&copy, progress).unwrap();
    futures::future::try_join_all(meanwhile).await.unwrap();
    assert!(told.len() > 1 && told.is_sorted_by_key(|progress| progress.done));
    assert!(told.last().is_some_and(|progress| progress.done == progress.total));
    let error = store.backup(&copy, |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "a file that is there is not written over: {error:?}");
    let copy = Redb::open(&copy).unwrap();
    assert!(log(&copy).await.unwrap() == before.log);
    assert_eq!(copy.reader(HOME).scan(ROWS, KeyRange::all(), 10_000).await.unwrap(), before.rows);
    let verification = copy.verify(|_| {}).unwrap();
    assert!(verification.is_sound() && verification.records == 2_400, "{verification:?}");
    copy.append(HOME, vec![append("goes on")]).await.unwrap();
}

#[tokio::test]
async fn scrubbing_names_what_is_damaged_and_reads_the_rest() {
    let whole = filled().await.bytes();
    let text = b"key-0777";
    let at = whole.windows(text.len()).rposition(|window| window == text).unwrap();
    let mut bytes = whole;
    bytes[at + 8 + 4] ^= 1;
    let store = Redb::builder().check(0).open_on(Disk::holding(bytes)).unwrap();
    let verification = store.verify(|_| {}).unwrap();
    assert!(verification.rows > 1_500 && verification.records == 2_400, "{verification:?}");
    let folder = tempfile::tempdir().unwrap();
    if !verification.is_sound() {
        let error = store.backup(folder.path().join("copy"), |_| {}).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "a damaged row is not copied: {error:?}");
        assert!(!folder.path().join("copy").exists());
    }
}

#[tokio::test]
async fn a_damaged_row_is_told_in_its_place_and_hides_no_other() {
    let key = |number: u32| format!("key-{number:04}");
    let disk = Disk::default();
    let store = Redb::builder().open_on(disk.clone()).unwrap();
    let mut claim = store.claim(HOME).await.unwrap();
    let rows = (0..2_000).map(|number| put(key(number), format!("value-{number:04}")));
    claim.partition.commit(rows.collect()).await.unwrap();
    drop((claim, store));
    // The value, or the key, which then is smaller or larger than its neighbours.
    let harms = [
        ("value-0777", 777, 9),
        ("value-0000", 0, 9),
        ("value-1999", 1_999, 9),
        ("key-0700", 700, 4),
        ("key-0755", 755, 5),
    ];
    for (text, number, at) in harms {
        for bit in [1, 8] {
            let mut bytes = disk.bytes();
            let places = bytes.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes());
            let places: Vec<_> = places.map(|(place, _)| place + at).collect();
            for place in &places {
                bytes[*place] ^= bit;
            }
            let store = Redb::builder().check(0).open_on(Disk::holding(bytes)).unwrap();
            let reader = store.reader(HOME);
            for (range, prefix) in [(KeyRange::all(), "key"), (KeyRange::prefix("key-07"), "key-07")] {
                let rows = reader.scan_each(ROWS, range.clone(), usize::MAX).await.unwrap();
                let first = reader.scan_each(ROWS, range.clone(), 5).await.unwrap();
                let both = first.iter().zip(&rows);
                assert!(
                    first.len() == 5 && both.into_iter().all(|((one, _), (other, _))| one == other),
                    "{text} {bit}"
                );
                let whole: Vec<_> =
                    rows.iter().filter(|(_, value)| value.is_ok()).map(|(key, _)| key.clone()).collect();
                let all = (0..2_000).filter(|other| *other != number).map(key).filter(|key| key.starts_with(prefix));
                assert_eq!(whole, all.map(Bytes::from).collect::<Vec<_>>(), "{text} {bit}");
                let is_told = rows.iter().any(|(_, value)| matches!(value, Err(StoreError::Corrupt { .. })));
                assert!(is_told || !key(number).starts_with(prefix), "{text} {bit}");
            }
            assert!(reader.scan(ROWS, KeyRange::all(), 10_000).await.is_err());
        }
    }
}

#[tokio::test]
async fn compacting_gives_back_what_was_trimmed_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Redb::open(folder.path().join("file")).unwrap();
    let mut claim = store.claim(HOME).await.unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..200 {
        let noise: Vec<u8> = (0..50_000).map(|_| random.u8(..)).collect();
        claim.partition.commit(vec![append(noise)]).await.unwrap();
    }
    claim.partition.commit(vec![Op::Trim { class: NOTES, below: Seq(199) }, put("k", "v")]).await.unwrap();
    let compaction = store.compact().await.unwrap();
    assert!(compaction.after < compaction.before / 4, "{compaction:?}");
    let stats = store.stats().unwrap();
    assert_eq!(stats.file_bytes, compaction.after);
    let log = &stats.partitions[0].logs[0];
    assert_eq!((log.class, log.span, log.chunks), (NOTES, Some((Seq(199), Seq(199))), 1));
    assert_eq!((stats.partitions[0].end, log.trimmed), (Seq(200), Seq(199)));
    assert_eq!((&*stats.tables[0].name, stats.tables[0].rows), ("rows", 1));
    claim.partition.commit(vec![append("goes on")]).await.unwrap();
    assert!(store.verify(|_| {}).unwrap().is_sound());
}

#[tokio::test]
async fn tables_are_inspected_by_name_page_by_page() {
    let store = Redb::builder().open_on(Disk::default()).unwrap();
    for partition in [HOME, PartitionId(3)] {
        let mut claim = store.claim(partition).await.unwrap();
        claim.partition.commit((0..10).map(|number| put(format!("{number}"), "v")).collect()).await.unwrap();
    }
    let inspector = store.inspector();
    assert_eq!(inspector.tables().unwrap(), ["rows"]);
    assert_eq!(inspector.rows("nothing", None, 10).unwrap(), None);
    let (mut after, mut all) = (None::<(PartitionId, Bytes)>, Vec::new());
    loop {
        let from = after.as_ref().map(|(partition, key)| (*partition, &key[..]));
        let rows = inspector.rows("rows", from, 3).unwrap().unwrap();
        let Some(last) = rows.last() else { break };
        after = Some((last.partition, last.key.clone()));
        all.extend(rows);
    }
    assert_eq!(all.len(), 20);
    assert!(all.is_sorted_by_key(|row| (row.partition, row.key.clone())));
}

#[tokio::test]
async fn sealed_chunks_fill_their_pages_and_the_open_one_stays_small() {
    let store = Redb::builder().open_on(Disk::default()).unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    let mut write = async |records: usize| {
        let text = |number| format!("{{\"id\":\"{number:016x}\",\"region\":\"eu-west\"}}");
        let ops = (0..records).map(|_| append(text(random.u64(..)))).collect();
        store.append(HOME, ops).await.unwrap();
        let stats = store.stats().unwrap();
        (stats.log_bytes, stats.partitions[0].logs[0].chunks)
    };
    for _ in 0..3 {
        write(20_000).await;
    }
    let (bytes, chunks) = write(20_000).await;
    // Redb keeps a value in a power of two of pages, so one that is a little longer than 32 KiB takes twice as much.
    assert!((26_000..32 << 10).contains(&(bytes / chunks)), "{bytes} bytes in {chunks} chunks");
    let mut largest = 0;
    for _ in 0..600 {
        let before = write(0).await;
        let after = write(1).await;
        largest = largest.max(after.0.saturating_sub(before.0));
    }
    assert!(largest < 1_000, "a record of 40 bytes adds {largest}");
    let (more, sealed) = write(0).await;
    assert!(more - bytes < 600 * 60 && sealed > chunks, "{sealed} chunks after {chunks}");
    assert_eq!(log(&store).await.unwrap().len(), 4 * 20_000 + 600);
}
