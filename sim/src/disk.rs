//! A disk in memory that redb writes to: it keeps a record of all that is done to it, fails where it is told to, and can
//! hold its writer back so that what is handed over meanwhile is always committed together.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    crash::{Landing, Replay},
    image::Image,
};

/// Something that was done to the disk and changes what a crash leaves.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// The file was cut or made longer.
    SetLen(u64),
    /// All before it is safe.
    Sync,
    /// A sync failed. Of the steps since the last sync some landed and the others never will.
    FailedSync {
        /// Decides which.
        seed: u64,
        /// Whether what is lost can be read until the machine stops.
        unseen: bool,
    },
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The length.
    Len,
    /// To read.
    Read,
    /// To write.
    Write,
    /// To cut or make longer.
    SetLen,
    /// To make safe.
    Sync,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The request fails. A sync that fails may have made some writes safe; the others are lost.
    Eio,
    /// There is no room: the file cannot grow, and holes cannot be filled. What has its place already can be written.
    Enospc,
    /// A part of a write lands, then it fails; a part of a read comes, then it fails.
    Short,
    /// As [`Eio`](Self::Eio), but what a failed sync lost can still be read until the machine stops.
    Unseen,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Eio, Self::Enospc, Self::Short, Self::Unseen];

    /// Whether this can happen to that.
    pub fn befalls(self, request: Request) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => matches!(request, Request::Write | Request::SetLen | Request::Sync),
            Self::Short => matches!(request, Request::Write | Request::Read),
            Self::Unseen => request == Request::Sync,
        }
    }
}

/// When what goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the request, from 0.
    pub at: u64,
    /// What happens to it.
    pub kind: FaultKind,
    /// Whether all requests after it fail as well, until the disk is mended.
    pub lasts: bool,
}

/// A disk in memory. Its copies are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    gate: Condvar,
}

#[derive(Debug, Default)]
struct State {
    live: Image,
    /// What the disk began with, and all steps since.
    base: Image,
    record: Option<Vec<Step>>,
    requests: Vec<Request>,
    fault: Option<Fault>,
    broken: Option<FaultKind>,
    injected: u64,
    honesty: Honesty,
    /// A sync was put off.
    owes_sync: bool,
    /// A failed sync has lost what can still be read.
    has_unseen: bool,
    gate: Gate,
}

/// Whether a sync that says that all is safe tells the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Honesty {
    #[default]
    Honest,
    /// Nothing is.
    Lies,
    /// It is only before the next thing is done.
    Late,
}

/// Whether the next step is held back, and whether one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Shut,
    Holding,
}

/// What a disk has been through.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What it began with.
    pub base: Image,
    /// What was done to it.
    pub steps: Vec<Step>,
}

impl SimDisk {
    /// A disk that keeps no record, for looking at an image.
    pub fn new(image: Image) -> Self {
        Self::with(State { live: image, ..State::default() })
    }

    /// A disk that records what is done to it.
    pub fn recording(image: Image) -> Self {
        Self::with(State { base: image.clone(), live: image, record: Some(Vec::new()), ..State::default() })
    }

    fn with(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), gate: Condvar::new() }) }
    }

    /// From now on a sync says that all is safe, and nothing is.
    #[must_use]
    pub fn lying(self) -> Self {
        self.state().honesty = Honesty::Lies;
        self
    }

    /// From now on a sync says that all is safe, and it is only before the next thing is done.
    pub fn be_late(&self) {
        self.state().honesty = Honesty::Late;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many steps were recorded.
    pub fn position(&self) -> usize {
        self.state().record.as_ref().map_or(0, Vec::len)
    }

    /// What was asked so far, in its order; a recording disk alone remembers it.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests there were.
    pub fn asked(&self) -> u64 {
        self.state().requests.len() as u64
    }

    /// How many requests were failed on purpose.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// What can be read now.
    pub fn content(&self) -> Image {
        self.state().live.clone()
    }

    /// What was done so far.
    pub fn take_recording(&self) -> Recording {
        let state = self.state();
        Recording { base: state.base.clone(), steps: state.record.clone().unwrap_or_default() }
    }

    /// Something will go wrong.
    pub fn break_at(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Whether it fails each request now.
    pub fn is_broken(&self) -> bool {
        self.state().broken.is_some()
    }

    /// Whether something will go wrong.
    pub fn has_fault(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.fault, state.broken) = (None, None);
    }

    /// What a failed sync has lost cannot be read any more: the system's cache is dropped, as it is where a machine starts.
    pub fn drop_cache(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.has_unseen) {
            state.live = state.real(Landing::All);
        }
    }

    /// Holds back the next step, until [`release`](Self::release).
    pub fn hold(&self) {
        self.state().gate = Gate::Shut;
    }

    /// Waits until a step is held back. False if none comes for so long.
    pub fn wait_held(&self, patience: Duration) -> bool {
        let shut = |state: &mut State| state.gate == Gate::Shut;
        let waited = self.shared.gate.wait_timeout_while(self.state(), patience, shut);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.gate == Gate::Holding
    }

    /// Lets what is held back go on.
    pub fn release(&self) {
        self.state().gate = Gate::Open;
        self.shared.gate.notify_all();
    }

    /// Waits at the gate.
    fn pass(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.gate != Gate::Open {
            state.gate = Gate::Holding;
            self.shared.gate.notify_all();
            state = self.shared.gate.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.catch_up();
        state
    }
}

impl State {
    /// What goes wrong with this request, if anything.
    fn fault(&mut self, request: Request, has_room: bool) -> Option<FaultKind> {
        let number = self.requests.len() as u64;
        if self.record.is_some() {
            self.requests.push(request);
        }
        let mut kind = self.broken.filter(|kind| match kind {
            FaultKind::Enospc => !has_room,
            FaultKind::Short => kind.befalls(request),
            FaultKind::Eio | FaultKind::Unseen => true,
        });
        if let Some(fault) = self.fault
            && fault.at <= number
            && fault.kind.befalls(request)
        {
            self.fault = None;
            self.broken = fault.lasts.then_some(fault.kind);
            kind = Some(fault.kind);
        }
        self.injected += u64::from(kind.is_some());
        kind
    }

    fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(record) = &mut self.record {
            record.push(step());
        }
    }

    /// Does the sync that was put off.
    fn catch_up(&mut self) {
        if std::mem::take(&mut self.owes_sync) {
            self.note(|| Step::Sync);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        if end > self.live.len() {
            self.note(|| Step::SetLen(end));
        }
        self.live.write(offset, data);
        self.note(|| Step::Write { offset, data: data.into() });
    }

    /// A sync failed: what it lost is gone, at once or only once the cache is dropped.
    fn lose(&mut self, unseen: bool) {
        let seed = self.requests.len() as u64;
        self.note(|| Step::FailedSync { seed, unseen });
        self.has_unseen |= unseen;
        if !unseen && self.record.is_some() {
            self.live = self.real(Landing::Nothing);
        }
    }

    /// What the disk holds, once what is on its way has landed as said.
    fn real(&self, landing: Landing) -> Image {
        let steps = self.record.as_deref().unwrap_or_default();
        let mut replay = Replay::new(&self.base, steps);
        replay.go_to(steps.len());
        replay.image(landing, &mut fastrand::Rng::with_seed(0))
    }
}

fn error(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::Eio | FaultKind::Unseen => io::Error::other("input/output error (injected)"),
        FaultKind::Enospc => io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)"),
        FaultKind::Short => io::Error::new(io::ErrorKind::WriteZero, "failed to write whole buffer (injected)"),
    }
}

impl redb::StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        match state.fault(Request::Len, true) {
            Some(kind) => Err(error(kind)),
            None => Ok(state.live.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        match state.fault(Request::Read, true) {
            Some(FaultKind::Short) => {
                let half = out.len() / 2;
                state.live.read(offset, &mut out[..half])?;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Some(kind) => Err(error(kind)),
            None => state.live.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.pass();
        let has_room = len <= state.live.len();
        if let Some(kind) = state.fault(Request::SetLen, has_room) {
            return Err(error(kind));
        }
        state.live.set_len(len);
        state.note(|| Step::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.pass();
        if let Some(kind) = state.fault(Request::Sync, true) {
            state.lose(kind == FaultKind::Unseen);
            return Err(error(kind));
        }
        state.owes_sync = state.honesty == Honesty::Late;
        if state.honesty == Honesty::Honest {
            state.note(|| Step::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.pass();
        let has_room = state.live.is_allocated(offset, data.len());
        let Some(kind) = state.fault(Request::Write, has_room) else {
            state.write(offset, data);
            return Ok(());
        };
        if kind == FaultKind::Short {
            state.write(offset, &data[..data.len() / 2]);
        }
        Err(error(kind))
    }
}
