//! SQLite with group commit: one thread, one transaction for all who wait. Where it handles, it reads what was committed from
//! its table, calls the handler, and writes how far it is with the next transaction.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::harness::{Contender, handle, slow_down};

const SETUP: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;
    CREATE TABLE log(seq INTEGER PRIMARY KEY, name TEXT NOT NULL, time INTEGER NOT NULL, event BLOB NOT NULL);
    CREATE TABLE done(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL); INSERT INTO done VALUES(0, 0);";

#[derive(Default)]
struct Queue {
    events: Vec<(Bytes, oneshot::Sender<()>)>,
    /// Who waits until all is handled.
    resting: Vec<oneshot::Sender<()>>,
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
    pub fn open(path: &Path, handles: bool) -> (Self, JoinHandle<()>) {
        let connection = Connection::open(path).expect("a file");
        connection.execute_batch(SETUP).expect("a table");
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        (Self(shared), std::thread::spawn(move || write(&writer, connection, handles)))
    }

    pub fn close(&self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.0.work.notify_all();
    }
}

fn write(shared: &Shared, mut connection: Connection, handles: bool) {
    let mut group = Vec::new();
    // The last that was handled, and what the file knows of that.
    let (mut handled, mut known) = (0_i64, 0_i64);
    loop {
        {
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            while queue.events.is_empty() && known == handled {
                // Whoever does not wait any more is not told.
                for resting in queue.resting.drain(..) {
                    let _ = resting.send(());
                }
                if queue.is_closed {
                    return;
                }
                queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut group, &mut queue.events);
        }
        commit(&mut connection, &group, (known != handled).then_some(handled));
        known = handled;
        for (_, done) in group.drain(..) {
            // Whoever does not wait any more is not told.
            let _ = done.send(());
        }
        if handles {
            handled = handle_new(&connection, handled);
        }
    }
}

fn commit(connection: &mut Connection, group: &[(Bytes, oneshot::Sender<()>)], handled: Option<i64>) {
    let transaction = connection.transaction().expect("no other writer");
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO log(name, time, event) VALUES('order.placed', 0, ?1)")
            .expect("a table");
        for (event, _) in group {
            insert.execute([&event[..]]).expect("room");
        }
    }
    if let Some(handled) = handled {
        let mut update = transaction.prepare_cached("UPDATE done SET seq = ?1 WHERE id = 0").expect("a table");
        update.execute([handled]).expect("room");
    }
    slow_down();
    transaction.commit().expect("a disk");
}

/// Calls the handler with all that is behind this one. The last of them.
fn handle_new(connection: &Connection, mut handled: i64) -> i64 {
    let mut select = connection.prepare_cached("SELECT seq, event FROM log WHERE seq > ?1").expect("a table");
    let mut rows = select.query([handled]).expect("a table");
    while let Some(row) = rows.next().expect("a row") {
        handled = row.get(0).expect("a number");
        assert!(handle(row.get_ref(1).expect("an event").as_blob().expect("bytes")), "it is an event");
    }
    handled
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

    async fn rest(&self) {
        let (rests, resting) = oneshot::channel();
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).resting.push(rests);
        self.0.work.notify_one();
        resting.await.expect("the writer lives");
    }
}
