//! What a fifth attack on a durable runtime has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::{self, Wake, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use millstream::{
    Context, Draft, Expect, Handler, HandlerError, Json, Runtime, Timestamp,
    store::{
        Claim, Class, CommitError, Committed, Memory, Op, PartitionId, Record, Redb, Seq, Store, StoreError,
        StoreFuture, tables,
    },
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use redb::{StorageBackend, backends::InMemoryBackend};
use serde_json::json;
use tokio::sync::watch;

/// A disk that flushes nothing while it is closed.
#[derive(Debug, Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.opened.notify_all();
    }
}

#[derive(Debug)]
struct GatedDisk {
    disk: InMemoryBackend,
    gate: Arc<Gate>,
}

impl StorageBackend for GatedDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let closed = self.gate.is_closed.lock().unwrap();
        drop(self.gate.opened.wait_while(closed, |is_closed| *is_closed).unwrap());
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}

/// Fails where it takes longer than that, for nothing can be done about a thread that hangs.
fn within(limit: Duration, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::sync_channel(1);
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    assert!(!matches!(ended.recv_timeout(limit), Err(mpsc::RecvTimeoutError::Timeout)), "it hangs");
    thread.join().unwrap();
}

/// Hands over more than a file lets wait, as the way from the queue to the store does where a batch has landed.
struct HandsOver {
    store: Redb,
    landing: mpsc::SyncSender<StoreFuture<'static, Result<Committed, CommitError>>>,
}

impl Wake for HandsOver {
    fn wake(self: Arc<Self>) {
        let bytes = Bytes::from(vec![0; 16 << 20]);
        for _ in 0..20 {
            let record = Record { name: "a".into(), time: Timestamp::EPOCH, bytes: bytes.clone(), keys: Vec::new() };
            let batch = vec![Op::Append { class: Class(0), records: vec![record] }];
            self.landing.send(self.store.append(PartitionId(0), batch)).unwrap();
        }
    }
}

/// Where many large events come during one commit, the thread that writes is the one that hands them over, and nobody else would make
/// room for them.
#[test]
fn a_file_takes_what_its_own_thread_hands_over_however_much_waits() {
    within(Duration::from_mins(1), || {
        let gate = Arc::new(Gate::default());
        let disk = GatedDisk { disk: InMemoryBackend::new(), gate: Arc::clone(&gate) };
        let store = Redb::builder().open_on(disk).unwrap();
        let (landing, handed_over) = mpsc::sync_channel(20);
        let waker = Waker::from(Arc::new(HandsOver { store: store.clone(), landing }));
        gate.set(true);
        let row = Op::PutNew { table: tables::ONCE, key: "k".into(), value: Bytes::new(), life: None };
        let mut first = store.append(PartitionId(0), vec![row]);
        assert!(first.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
        drop(waker);
        gate.set(false);
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for landing in handed_over {
            tokio.block_on(landing).unwrap();
        }
    });
}

/// Rows that go are in a commit as well, and have keys.
#[test]
fn handlers_that_remove_many_rows_with_long_keys_end() {
    let drop_all = |context: Context| async move {
        let storage = context.storage("n");
        for row in 0..28_000 {
            let key = format!("{row:01000}");
            storage.delete(&key).await?;
        }
        Ok::<_, HandlerError>(())
    };
    let builder = Runtime::builder().store(Memory::new());
    testing::run(builder, async |kit: TestKit| {
        kit.on("number", drop_all.named("one").concurrency(4))?;
        kit.settle().await;
        kit.emit_all((0..4).map(|id| Draft::json("number", json!(id))))?;
        let driven = tokio::time::timeout(Duration::from_mins(10), kit.runtime().process()).await;
        assert!(driven.is_ok_and(|driven| driven.is_ok()), "{:?}", kit.stats().deliveries);
        assert_eq!(kit.stats().deliveries.handled, 4);
        Ok(())
    });
}

/// One commit is lost to sight, and lands when the partition is claimed again, which waits for the gate.
struct LandsLate {
    is_to_come: AtomicBool,
    late: Arc<Mutex<Option<Vec<Op>>>>,
    gate: watch::Sender<bool>,
}

impl StoreHooks for LandsLate {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let is_row = |op: &Op| matches!(op, Op::Put { table: tables::STORAGE, .. });
        if !batch.iter().any(is_row) || !self.is_to_come.swap(false, Ordering::Relaxed) {
            return held.commit(batch);
        }
        held.lose();
        *self.late.lock().unwrap() = Some(batch);
        Box::pin(async { Err(CommitError::unknown(io::Error::other("nobody knows"))) })
    }

    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let (store, late, mut gate) = (Arc::clone(store), Arc::clone(&self.late), self.gate.subscribe());
        Box::pin(async move {
            drop(gate.wait_for(|open| *open).await);
            let late = late.lock().unwrap().take();
            if let Some(batch) = late {
                store.claim(partition).await?.partition.commit(batch).await.unwrap();
            }
            store.claim(partition).await
        })
    }
}

#[test]
fn a_put_on_a_condition_knows_of_a_write_that_landed_though_nobody_knew() {
    let gate = watch::Sender::new(true);
    let hooks = LandsLate { is_to_come: AtomicBool::new(false), late: Arc::default(), gate };
    let store = HookedStore::new(Memory::new(), hooks);
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let storage = kit.storage("n");
        storage.put("k", "0").await?;
        store.hooks().is_to_come.store(true, Ordering::Relaxed);
        store.hooks().gate.send_replace(false);
        assert!(storage.put("k", "1").await.is_err());
        let open = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.hooks().gate.send_replace(true);
        };
        let (is_put, ()) = tokio::join!(storage.put_if("k", Expect::equals("0"), "2"), open);
        assert_eq!((is_put?, storage.get("k").await?), (false, Some("1".into())), "it was 1 when it was put");
        Ok(())
    });
}

/// Cannot be claimed while it is closed.
#[derive(Default)]
struct Closed(AtomicBool);

impl StoreHooks for Closed {
    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        if self.0.load(Ordering::Relaxed) { Box::pin(async { Err(StoreError::Full) }) } else { store.claim(partition) }
    }
}

#[test]
fn writes_that_failed_while_the_store_could_not_be_claimed_are_not_kept() {
    let store = HookedStore::new(Memory::new(), Closed::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let storage = kit.storage("n");
        store.hooks().0.store(true, Ordering::Relaxed);
        for row in 0..100 {
            assert!(storage.put(format!("{row}"), "x").await.is_err());
        }
        store.hooks().0.store(false, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(10)).await;
        storage.put("last", "x").await?;
        assert_eq!(storage.scan("", None, 200).await?.len(), 1);
        Ok(())
    });
}
#[test]
fn delayed_events_of_one_id_and_one_due_time_that_handlers_return_all_come() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let runtime = kit.runtime().clone();
        let twice = move || {
            let draft = runtime.create(Draft::json("later", json!(1))).delay(Duration::from_mins(1));
            async move { vec![draft.clone(), draft] }
        };
        kit.on("number", twice.named("twice"))?;
        let noted = Arc::clone(&seen);
        let note = move |Json(event): Json| {
            noted.lock().unwrap().push(event);
            async {}
        };
        kit.on("later", note.named("note"))?;
        kit.emit(Draft::json("number", json!(1)))?.await?;
        kit.settle().await;
        kit.advance(Duration::from_mins(2)).await;
        assert_eq!(kit.stats().events.delayed, 0, "{:?}", kit.stats().events);
        Ok(())
    });
    assert_eq!(seen.lock().unwrap().len(), 2);
}

/// Panics where it is woken.
struct Panics;

impl Wake for Panics {
    #[expect(clippy::panic, reason = "that is what it is for")]
    fn wake(self: Arc<Self>) {
        panic!("whoever waits has gone");
    }
}

/// It is woken on the thread that writes, or by whoever has the way to the store just then.
#[test]
fn a_waker_that_panics_keeps_nobody_else_from_the_store() {
    within(Duration::from_mins(1), || {
        let gate = Arc::new(Gate::default());
        let disk = GatedDisk { disk: InMemoryBackend::new(), gate: Arc::clone(&gate) };
        let store = Redb::builder().open_on(disk).unwrap();
        let waker = Waker::from(Arc::new(Panics));
        let mut context = task::Context::from_waker(&waker);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let runtime = Runtime::builder().store(store.clone()).build().unwrap();
            // Reading waits for the disk as well.
            let mut more = store.appended(PartitionId(0), Seq(0));
            gate.set(true);
            let new = Op::PutNew { table: tables::ONCE, key: "k".into(), value: Bytes::new(), life: None };
            let mut row = store.append(PartitionId(1), vec![new]);
            let mut receipt = runtime.emit(Draft::json("number", json!(1))).unwrap().into_future();
            assert!(row.as_mut().poll(&mut context).is_pending());
            assert!(more.as_mut().poll(&mut context).is_pending());
            assert!(Pin::new(&mut receipt).poll(&mut context).is_pending());
            gate.set(false);
            for _ in 0..2 {
                runtime.emit(Draft::json("number", json!(2))).unwrap().await.unwrap();
            }
            assert!(receipt.await.is_ok() && more.await.is_ok() && row.await.is_ok());
        });
    });
}

/// Counts commits.
#[derive(Default)]
struct Commits(AtomicU64);

impl StoreHooks for Commits {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        held.commit(batch)
    }
}

#[test]
fn many_delayed_events_of_one_id_and_one_due_time_cost_few_commits() {
    const EACH: usize = 300;
    let store = HookedStore::new(Memory::new(), Commits::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let runtime = kit.runtime().clone();
        let draft = runtime.create(Draft::json("later", json!(1))).at(kit.now() + Duration::from_mins(1));
        let many = move || {
            let drafts = vec![draft.clone(); EACH];
            async move { drafts }
        };
        kit.on("number", many.named("many"))?;
        kit.on("later", (async || {}).named("later"))?;
        for number in 0..3 {
            kit.emit(Draft::json("number", json!(number)))?;
            kit.settle().await;
        }
        let commits = store.hooks().0.load(Ordering::Relaxed);
        assert!(commits < 100, "{commits} commits");
        kit.advance(Duration::from_mins(2)).await;
        assert_eq!(kit.stats().events.delayed, 0, "{:?}", kit.stats().events);
        assert_eq!(kit.stats().deliveries.handled, 3 + 3 * EACH as u64);
        Ok(())
    });
}
