//! The store in one file, on a backend that can be slowed down and counts what is written.
#![allow(dead_code, reason = "each program uses a part of it")]

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use millstream::{
    Timestamp,
    store::{Class, Op, PartitionId, Record, Redb, Store as _},
};
use redb::{StorageBackend, backends::FileBackend};

use crate::harness::{Contender, slow_down};

/// How many bytes were given to the disk.
pub static WRITTEN: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub struct Counted(FileBackend);

impl Counted {
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("a file");
        Self(FileBackend::new(file).expect("a file"))
    }
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        slow_down();
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        WRITTEN.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.0.write(offset, data)
    }
}

/// The store, fed with one event a batch.
#[derive(Clone)]
pub struct Ours {
    pub store: Redb,
    name: Arc<str>,
}

impl Ours {
    pub fn open(path: &Path) -> Self {
        Self::over(Redb::builder().open_on(Counted::open(path)).expect("a store"))
    }

    pub fn over(store: Redb) -> Self {
        Self { store, name: "order.placed".into() }
    }

    pub fn batch(&self, event: Bytes) -> Vec<Op> {
        vec![Op::Append { class: Class(1), records: vec![self.record(event)] }]
    }

    pub fn record(&self, event: Bytes) -> Record {
        Record { name: Arc::clone(&self.name), time: Timestamp::EPOCH, bytes: event, keys: Vec::new() }
    }
}

impl Contender for Ours {
    async fn append(&self, event: Bytes) {
        self.store.append(PartitionId(0), self.batch(event)).await.expect("it is committed");
    }
}
