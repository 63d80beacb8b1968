//! How long what is handled stays in the log.

use std::{num::NonZeroU64, sync::Arc, task::Context, time::Duration};

use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Pending, stages::STAGE};
use crate::{
    dispatch::Dispatcher,
    history::{HistoryError, Merged},
    queue::CLASSES,
    store::{Class, Op, Reader, Seq, StoreError, Wanted},
};

/// How long events stay in the log that every subscription has handled. An event that one has not handled stays in any
/// case, unless [limits](Limits) are strict; where nobody subscribes, all stay. Events of aggregates have a place of their
/// own, where they stay for good. What goes, goes in whole chunks, so some stay longer than they must; limits are looked at now
/// and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retention {
    /// Not at all. The default.
    #[default]
    Handled,
    /// So long after their time. The log is trimmed from its beginning: an event whose time lies in the future keeps those behind it.
    Age(Duration),
    /// The last so many, over all classes. Places in the log are counted, of which some may be empty.
    Events(u64),
    /// As many as the log has room for in so many bytes, as the store keeps them, over all classes. Tables are not counted.
    Bytes(u64),
    /// Until the first of several limits is reached.
    Within(Limits),
    /// For good.
    All,
}

/// Several limits of a log: what is beyond one of them goes. Without any, nothing does.
///
/// ```
/// use std::time::Duration;
/// use millstream::{Limits, Retention, Runtime, store::Memory};
///
/// // A week, and never more than 1 GiB; a reader that is further behind loses events, which are counted.
/// let limits = Limits::new().age(Duration::from_hours(7 * 24)).bytes(1 << 30).strict();
/// let runtime = Runtime::builder().store(Memory::new()).retention(Retention::Within(limits)).build();
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async { });
/// assert!(runtime.is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Limits {
    age: Option<Duration>,
    events: Option<u64>,
    bytes: Option<u64>,
    is_strict: bool,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`Retention::Age`].
    pub fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// See [`Retention::Events`].
    pub fn events(mut self, events: u64) -> Self {
        self.events = Some(events);
        self
    }

    /// See [`Retention::Bytes`].
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// The limits hold for what a subscription has not handled, too, and where nobody subscribes. What the slowest reader holds is
    /// held no more: one that finds its place trimmed goes on with the first event that is kept.
    /// [`SubscriptionBook::trimmed`](crate::SubscriptionBook::trimmed) counts what it may have lost and
    /// [`Runtime::health`](crate::Runtime::health) says so. What an operator stage has not read is held all the same: its state would be
    /// wrong.
    ///
    /// # Data loss
    /// That is what it is for.
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }
}

impl Retention {
    /// As limits; none where what is handled goes at once.
    fn limits(self) -> Option<Limits> {
        let none = Limits::new();
        match self {
            Self::Handled => None,
            Self::Age(age) => Some(none.age(age)),
            Self::Events(events) => Some(none.events(events)),
            Self::Bytes(bytes) => Some(none.bytes(bytes)),
            Self::Within(limits) => Some(limits),
            Self::All => Some(none),
        }
    }

    /// What is impossible about it.
    pub(crate) fn refused(self) -> Option<&'static str> {
        let Limits { age, events, bytes, .. } = self.limits()?;
        let is_zero = age == Some(Duration::ZERO) || events == Some(0) || bytes == Some(0);
        is_zero.then_some("a limit of zero keeps nothing: say `Handled`")
    }
}

/// Where the oldest event lies that a limit keeps, as far as was looked.
#[derive(Default)]
pub(super) struct Kept {
    by_age: Option<[Seq; CLASSES]>,
    by_size: Option<Seq>,
    /// When the age was looked at; none where there is more to look at.
    aged: Option<Timestamp>,
    /// Where the log ended when its size was looked at.
    weighed: Option<Seq>,
    looking: Option<Pending<Result<Found, StoreError>>>,
}

/// What a look has found.
enum Found {
    /// And whether it may be further on, and what lies there may go.
    Age([Seq; CLASSES], bool),
    /// None where all have room.
    Size(Option<Seq>),
}

/// How often the age is looked at, as a part of itself.
const OFTEN: u32 = 20;
/// But no more often than that: whoever looks always anew never rests.
const SELDOM: Duration = Duration::from_millis(100);
/// Places after which the size is looked at again.
const WEIGH: u64 = 64;
/// Places that must be free before anything is trimmed: a trim costs a look at the chunks.
const STEP: u64 = 1_024;

impl Kept {
    pub(super) fn is_quiet(&self) -> bool {
        self.looking.is_none()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The first events of each class that came at or after a time, or how far a page has come: whoever drives waits for no more than
/// that. What lies at or behind `may_go` stays in any case, so it is not looked at.
async fn look_for_age(
    reader: Arc<dyn Reader>,
    since: Timestamp,
    mut first: [Seq; CLASSES],
    may_go: [Seq; CLASSES],
) -> Result<Found, StoreError> {
    let wanted = Wanted { since: Some(since), ..Wanted::default() };
    for (class, (id, may_go)) in (0..).map(Class).zip(may_go).enumerate() {
        let from = first[class];
        if from < may_go {
            let (place, is_short) = first_wanted(&*reader, id, from, &wanted).await?;
            first[class] = place;
            if is_short && from < place && place < may_go {
                return Ok(Found::Age(first, true));
            }
        }
    }
    Ok(Found::Age(first, false))
}

/// The first event of a class at or after `from` that is wanted, or where its log or a page ends; and whether it is a page's end. What
/// was trimmed by another process is passed over: a restart knows nothing of it.
async fn first_wanted(
    reader: &dyn Reader,
    class: Class,
    mut from: Seq,
    wanted: &Wanted,
) -> Result<(Seq, bool), StoreError> {
    loop {
        match reader.read(class, from, 1, wanted).await {
            Ok(page) => {
                let found = page.records.first().map(|record| record.seq);
                return Ok((found.unwrap_or(page.next), found.is_none() && !page.is_end));
            }
            Err(StoreError::Trimmed { first }) if first > from => from = first,
            Err(error) => return Err(error),
        }
    }
}

/// The first place from which on the log has room in so many bytes, but none behind what may go.
async fn look_for_size(reader: Arc<dyn Reader>, most: u64, may_go: Seq) -> Result<Found, StoreError> {
    let extent = reader.extent().await?;
    let Some(excess) = extent.bytes().checked_sub(most).and_then(NonZeroU64::new) else {
        return Ok(Found::Size(None));
    };
    // What is stored may be smaller than what is read: then it is looked at again.
    let mut oldest = Merged::new(reader, None, Wanted::default());
    oldest.extend_to(may_go.min(extent.end));
    let mut bytes = 0;
    while bytes < excess.get() {
        match oldest.next().await {
            Ok(Some(record)) => bytes += (record.name.len() + record.bytes.len()) as u64,
            Ok(None) => break,
            Err(HistoryError::Trimmed { .. }) => {}
            Err(HistoryError::Store(error)) => return Err(error),
            Err(_) => return Err(StoreError::Closed),
        }
    }
    Ok(Found::Size(Some(oldest.place())))
}

impl Dispatcher {
    /// Finds the oldest events that the limits keep, now and then.
    pub(super) fn look_at_limits(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(limits), now) = (self.parts.retention.limits(), self.now) else { return false };
        if self.durable.as_ref().is_some_and(|durable| durable.kept.looking.is_none()) {
            self.begin_look(limits, now);
        }
        let Some(durable) = &mut self.durable else { return false };
        let Some(looking) = &mut durable.kept.looking else { return false };
        let std::task::Poll::Ready(found) = looking.as_mut().poll(cx) else { return false };
        durable.kept.looking = None;
        match found {
            Ok(Found::Age(first, is_more)) => {
                durable.kept.by_age = Some(first);
                durable.kept.aged.take_if(|_| is_more);
            }
            Ok(Found::Size(first)) => durable.kept.by_size = first,
            Err(error) => tracing::warn!(error = %error, "the log cannot be measured, so nothing is trimmed"),
        }
        true
    }

    fn begin_look(&mut self, limits: Limits, now: Timestamp) {
        let floors = self.floors();
        let Some(durable) = &mut self.durable else { return };
        if durable.tenure().is_none() {
            return;
        }
        let (home, end) = (&durable.home, durable.tail.next());
        let reader = || Arc::<dyn Reader>::from(home.store.reader(home.partition));
        let is_aged = |age| durable.kept.aged.is_none_or(|looked| now.since(looked) > SELDOM.max(age / OFTEN));
        let is_longer = durable.kept.weighed.is_none_or(|weighed| end.0.saturating_sub(weighed.0) >= WEIGH);
        if let Some(age) = limits.age.filter(|&age| is_aged(age)) {
            let may_go = if limits.is_strict { [end; CLASSES] } else { floors.unwrap_or_default() };
            // What was found to be aged is not looked at again, however long somebody holds it.
            let looked = durable.kept.by_age.unwrap_or_default();
            let from = std::array::from_fn(|class| looked[class].max(durable.trimmed[class]));
            let look = look_for_age(reader(), now - age, from, may_go);
            durable.kept.looking = Some(Box::pin(look));
            durable.kept.aged = Some(now);
        } else if let Some(bytes) = limits.bytes.filter(|_| is_longer) {
            let floor = floors.and_then(|floors| floors.into_iter().min());
            let may_go = if limits.is_strict { end } else { floor.unwrap_or_default() };
            durable.kept.looking = Some(Box::pin(look_for_size(reader(), bytes, may_go)));
            durable.kept.weighed = Some(end);
        }
    }

    /// What all have handled, by class; none where nobody reads. Who has not begun to read has handled nothing.
    fn floors(&self) -> Option<[Seq; CLASSES]> {
        let durable = self.durable.as_ref()?;
        if !durable.harmed.is_empty() {
            // Nobody knows what they have handled.
            return Some([Seq(0); CLASSES]);
        }
        let is_new = |name: &str| !durable.known.contains_key(name);
        let closed = self.subscribers.iter().filter(|(_, s)| {
            s.reader.is_none() && s.is_subscribed && !s.entry.options.is_tap && is_new(s.entry.name())
        });
        let closed = closed.map(|(_, subscriber)| durable.beginning(&subscriber.entry).unwrap_or_default());
        let marked = durable.starts.iter().filter(|(name, _)| !name.starts_with(STAGE) && is_new(name));
        let others = durable.stage_floor().into_iter().chain(closed).chain(marked.map(|(_, start)| *start)).min();
        let floor = |class: usize| durable.known.values().map(|known| known.cursors[class].floor()).chain(others).min();
        let mut floors = [Seq(0); CLASSES];
        for (class, place) in floors.iter_mut().enumerate() {
            *place = floor(class)?.min(durable.taps.floor());
        }
        Some(floors)
    }

    /// What all have handled, and nothing keeps, goes; and what strict limits do not keep.
    pub(super) fn trim(&mut self) {
        if self.has_new_subscribers() || self.has_commands() {
            // Whoever joins just now begins somewhere that is not known here.
            return;
        }
        let retention = self.parts.retention;
        if let Some(durable) = &mut self.durable {
            durable.note_stages();
        }
        let floors = self.floors();
        let Some(durable) = &mut self.durable else { return };
        for class in 0..CLASSES {
            let handled = floors.map(|floors| floors[class]);
            let Some(limits) = retention.limits() else {
                // Where nobody reads, nobody has handled anything.
                let Some(handled) = handled else { return };
                durable.trim_class(class, handled, STEP);
                continue;
            };
            let held = match handled {
                _ if limits.is_strict => durable.stage_floor().unwrap_or(Seq(u64::MAX)),
                None => return,
                Some(handled) => handled,
            };
            let (below, is_heavy) = durable.beyond(limits, class);
            durable.trim_class(class, below.min(held), if is_heavy { 1 } else { STEP });
        }
    }
}

impl super::Durable {
    /// How far the stages have come.
    fn note_stages(&mut self) {
        for stage in &self.stages {
            if let Some(cursor) = stage.cursor() {
                self.stage_cursors.insert(stage.border().stage.to_string(), cursor);
            }
        }
    }

    fn stage_floor(&self) -> Option<Seq> {
        if !self.harmed_stages.is_empty() {
            // Nobody knows what they have handled.
            return Some(Seq(0));
        }
        let is_new = |name: &str| !self.stage_cursors.contains_key(name);
        let given = self.stages.iter().filter(|stage| is_new(&stage.border().stage));
        let given = given.map(|stage| stage.beginning(&self.starts).unwrap_or_default());
        let marked = self.starts.iter().filter(|(name, _)| name.strip_prefix(STAGE).is_some_and(is_new));
        self.stage_cursors.values().copied().chain(given).chain(marked.map(|(_, start)| *start)).min()
    }

    /// The first place of a class that no limit is against, and whether that is for the size.
    fn beyond(&self, limits: Limits, class: usize) -> (Seq, bool) {
        let by_age = limits.age.and(self.kept.by_age).map(|first| first[class]);
        let by_count = limits.events.map(|events| Seq(self.tail.next().0.saturating_sub(events)));
        let by_size = limits.bytes.and(self.kept.by_size);
        let first = by_age.into_iter().chain(by_count).chain(by_size).max().unwrap_or_default();
        (first, by_size == Some(first))
    }

    fn trim_class(&mut self, class: usize, below: Seq, step: u64) {
        if below.0.saturating_sub(self.trimmed[class].0) < step {
            return;
        }
        self.trimmed[class] = below;
        #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
        self.batch.push(Op::Trim { class: Class(class as u8), below });
    }
}
