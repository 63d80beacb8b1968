//! What a stage asks of whoever runs it: to write its outputs, and to keep what it gave up.

use millstream_operators::Timestamp;

use super::StateKey;
use crate::{
    event::{Draft, EventId, Lineage},
    store::{Class, Op, PageRecord, Record},
};

/// The event that an output comes from: the one that was taken, or for a timer the last that its key took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) event: EventId,
    pub(crate) lineage: Lineage,
    /// The time at which the chain took it.
    pub(crate) at: Timestamp,
}

/// Why there is an output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause<'a> {
    /// None where a chain that was edited fires the timer of a state that was saved without: then the output is a new root.
    pub(crate) origin: Option<&'a Origin>,
    /// The largest depth among the events of the origin's root that this key's state has taken since it took one of another. An
    /// output's is one more.
    pub(crate) depth: u32,
    /// The deadline that has fired, where it was not the origin itself that led to the output.
    pub(crate) timer: Option<Timestamp>,
    /// The output's own time, as the chain says.
    pub(crate) at: Timestamp,
    /// The key whose chain gave it out. An output keeps its tenant.
    pub(crate) key: &'a StateKey,
}

/// Why a stage gave an event up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It is not what the stage takes.
    Undecodable(String),
    /// It made the chain panic. The chain's state is that of before it.
    Panicked(String),
    /// What the chain gave out for it cannot be emitted.
    Refused(String),
    /// The watermark had passed it.
    Late { at: Timestamp, watermark: Timestamp },
    /// Its key is parked.
    Parked,
}

/// The operations of an epoch that are not the stage's own, in their order.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(super) ops: Vec<Op>,
    bytes: usize,
    /// What else the border has done for them.
    pub(crate) done: Done,
}

/// What a border does beside what it writes: taken back where the epoch is, for then it is asked again.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The roots against which outputs were counted.
    pub(crate) roots: Vec<EventId>,
    /// The numbers that letters were given.
    pub(crate) letters: Vec<u64>,
    /// The rows of delayed events that were written: when each is due, and what tells it from others of that time.
    pub(crate) delayed: Vec<(Timestamp, EventId)>,
}

impl Sink {
    /// Appends a record. Records that follow one another in one class become one operation.
    pub(crate) fn append(&mut self, class: Class, record: Record) {
        self.bytes += record.bytes.len();
        match self.ops.last_mut() {
            Some(Op::Append { class: last, records }) if *last == class => records.push(record),
            _ => self.ops.push(Op::Append { class, records: vec![record] }),
        }
    }

    /// Adds any other operation. It must not be one that may be a conflict: the stage would park.
    pub(crate) fn push(&mut self, op: Op) {
        if let Op::Put { value, .. } = &op {
            self.bytes += value.len();
        }
        self.ops.push(op);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Where it stands, to come back to.
    pub(super) fn take(&mut self) -> Vec<Op> {
        self.bytes = 0;
        std::mem::take(&mut self.ops)
    }
}

/// Writes what leaves a stage. Called in the order of the outputs, whatever the lanes; what it adds is committed with the
/// epoch or not at all, and may be asked for again.
pub(crate) trait Border: Send + Sync + 'static {
    /// Writes an output.
    ///
    /// # Errors
    /// Why it cannot be emitted, now or ever: then the event that led to it is given up and leaves no trace but its dead
    /// letter, and a timer that led to it parks its key.
    fn emit(&self, draft: Draft, cause: &Cause<'_>, sink: &mut Sink) -> Result<(), String>;

    /// Removes a dead letter whose event is taken once more.
    fn replayed(&self, number: u64, sink: &mut Sink);

    /// Keeps an event that was given up. `now` is the stage's clock.
    fn dead(&self, record: &PageRecord, death: &Death, now: Timestamp, sink: &mut Sink);

    /// An epoch is not committed: what was done for it is done again, or not at all. Where nobody knows that, it is said of no
    /// delayed event.
    fn take_back(&self, _: Done) {}
}
