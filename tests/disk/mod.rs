//! A disk in memory that outlives the store on it, and fails when it is told to.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With this error.
    Error(io::ErrorKind),
    /// With this error, after half of it was written.
    Short(io::ErrorKind),
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Writes, flushes and changes of length so far.
    operations: u64,
    fails_at: Option<(u64, Failure)>,
    /// Whether all that comes after fails as well.
    for_good: bool,
    has_failed: bool,
    /// How long it may become; none for any length.
    room: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Fails at an operation, counted from the first; once or for good.
    pub(crate) fn fail_at(&self, operation: u64, failure: Failure, for_good: bool) {
        let mut state = self.lock();
        (state.fails_at, state.for_good) = (Some((operation, failure)), for_good);
    }

    /// Has no room for more than it holds.
    pub(crate) fn fill_up(&self) {
        let mut state = self.lock();
        state.room = Some(state.bytes.len() as u64);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        (state.fails_at, state.room) = (None, None);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn operate(&mut self) -> Result<(), Failure> {
        self.operations += 1;
        let Some((at, failure)) = self.fails_at else { return Ok(()) };
        let is_now = self.operations == at || (self.for_good && self.operations > at);
        self.has_failed |= is_now;
        if is_now { Err(failure) } else { Ok(()) }
    }
}

fn error(failure: Failure) -> io::Error {
    let (Failure::Error(kind) | Failure::Short(kind)) = failure;
    kind.into()
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let end = begin.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(state.bytes.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.operate().map_err(error)?;
        if state.room.is_some_and(|room| len > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.lock().operate().map_err(error)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let failed = state.operate();
        let written = match failed {
            Ok(()) => data.len(),
            Err(Failure::Short(_)) => data.len() / 2,
            Err(Failure::Error(_)) => 0,
        };
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        if state.bytes.len() < begin + written {
            state.bytes.resize(begin + written, 0);
        }
        state.bytes[begin..begin + written].copy_from_slice(&data[..written]);
        failed.map_err(error)
    }
}
