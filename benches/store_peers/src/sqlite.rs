//! SQLite with group commit: one thread, one transaction for all who wait.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::harness::{Contender, slow_down};

const SETUP: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;
    CREATE TABLE log(seq INTEGER PRIMARY KEY, name TEXT NOT NULL, time INTEGER NOT NULL, event BLOB NOT NULL);";

#[derive(Default)]
struct Queue {
    events: Vec<(Bytes, oneshot::Sender<()>)>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Clone)]
pub struct Sqlite(Arc<Shared>);

impl Sqlite {
    pub fn open(path: &Path) -> (Self, JoinHandle<()>) {
        let connection = Connection::open(path).expect("a file");
        connection.execute_batch(SETUP).expect("a table");
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        (Self(shared), std::thread::spawn(move || write(&writer, connection)))
    }

    pub fn close(&self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.0.work.notify_all();
    }
}

fn write(shared: &Shared, mut connection: Connection) {
    let mut group = Vec::new();
    loop {
        {
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            while queue.events.is_empty() {
                if queue.is_closed {
                    return;
                }
                queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut group, &mut queue.events);
        }
        let transaction = connection.transaction().expect("no other writer");
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO log(name, time, event) VALUES('order.placed', 0, ?1)")
                .expect("a table");
            for (event, _) in &group {
                insert.execute([&event[..]]).expect("room");
            }
        }
        slow_down();
        transaction.commit().expect("a disk");
        for (_, done) in group.drain(..) {
            // Whoever does not wait any more is not told.
            let _ = done.send(());
        }
    }
}

impl Contender for Sqlite {
    async fn append(&self, event: Bytes) {
        let (done, written) = oneshot::channel();
        {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.events.push((event, done));
            if queue.events.len() == 1 {
                self.0.work.notify_one();
            }
        }
        written.await.expect("the writer lives");
    }
}
