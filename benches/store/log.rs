//! The least that a durable log can do: one file, preallocated, a frame with a checksum a group, one flush, no index, no
//! tables, no way to trim. It is the limit that a store is measured by. Where it handles, it calls the handler with what it has
//! in memory after the flush, and writes how far it is with the next group.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::harness::{Contender, handle, slow_down};

const LENGTH: u64 = 1 << 30;

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

/// A hand-written log with group commit.
#[derive(Clone)]
pub struct HandWritten(Arc<Shared>);

impl HandWritten {
    pub fn open(path: &Path, handles: bool) -> (Self, JoinHandle<()>) {
        let file = File::create(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        (0..LENGTH >> 20).for_each(|block| file.write_all_at(&zeros, block << 20).expect("room"));
        file.sync_all().expect("a disk");
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        (Self(shared), std::thread::spawn(move || write(&writer, &file, handles)))
    }

    pub fn close(&self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.0.work.notify_all();
    }
}

fn write(shared: &Shared, file: &File, handles: bool) {
    let (mut group, mut frame, mut at) = (Vec::new(), Vec::new(), 0);
    // How many were handled, and how many of those the file knows of.
    let (mut handled, mut known) = (0_u64, 0_u64);
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
        frame.clear();
        frame.extend_from_slice(&[0; 8]);
        frame.extend_from_slice(&handled.to_le_bytes());
        known = handled;
        for (event, _) in &group {
            frame.extend_from_slice(&u32::try_from(event.len()).expect("short").to_le_bytes());
            frame.extend_from_slice(event);
        }
        let crc = crc32c::crc32c(&frame[8..]);
        let length = u32::try_from(frame.len()).expect("short");
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        // It begins again at the front where it is full: what is measured is the writing.
        if at + frame.len() as u64 > LENGTH {
            at = 0;
        }
        file.write_all_at(&frame, at).expect("a disk");
        at += frame.len() as u64;
        slow_down();
        file.sync_data().expect("a disk");
        for (event, done) in group.drain(..) {
            handled += u64::from(handles && handle(&event));
            // Whoever does not wait any more is not told.
            let _ = done.send(());
        }
    }
}

impl Contender for HandWritten {
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
