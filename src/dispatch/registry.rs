//! Which subscriptions there are. Shared: anybody subscribes, the dispatcher catches up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use millstream_middleware::{Part, retry::RetryIf};

use super::meters::Meter;
use crate::{
    event::{Envelope, EventName, Pattern, Tenant},
    intake::Interest,
    stage::{Call, HandlerError, Options, Site, Start, contained},
    store::Seq,
};

/// One subscription, as everybody sees it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) pattern: Pattern,
    /// Takes only this tenant's events.
    pub(crate) tenant: Option<Tenant>,
    pub(crate) options: Options,
    /// Its own policy, or the runtime's.
    pub(crate) retry: RetryIf<HandlerError>,
    /// What it wears, outermost first.
    pub(crate) layers: Vec<Part>,
    pub(crate) site: Arc<Site>,
    pub(crate) max_outputs: usize,
    pub(crate) meter: Meter,
    /// Where the log ended when it was made, in a durable runtime, once that is known.
    pub(crate) start: Arc<OnceLock<Seq>>,
}

impl Entry {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.site.name
    }

    /// Whether it wants events of this tenant.
    pub(super) fn serves(&self, event: &Envelope) -> bool {
        self.tenant.is_none() || self.tenant == event.tenant
    }
}

/// Names of which is remembered whether anybody wants them.
const MOST_NAMES: usize = 10_000;

/// A number from 2 on that is free and whose predecessor is not: found by halving, for there may be thousands.
fn free_number(is_taken: impl Fn(u64) -> bool) -> u64 {
    let (mut taken, mut free) = (1, 2);
    while is_taken(free) {
        (taken, free) = (free, free * 2);
    }
    while free - taken > 1 {
        let middle = taken.midpoint(free);
        if is_taken(middle) {
            taken = middle;
        } else {
            free = middle;
        }
    }
    free
}

/// The name of one that went before it was seen, and where it began, once that is known.
pub(super) type Unseen = (Arc<str>, Arc<OnceLock<Seq>>);

/// A new subscription and its handler, which goes to the dispatcher.
type Added = (Arc<Entry>, Box<dyn Call>);

/// Why there is no new subscription.
#[derive(Debug)]
pub(crate) enum AddError {
    /// The name that was given.
    Taken(String),
    /// It is a stage's.
    OfStage(String),
    /// The runtime is stopped.
    Closed,
}

/// The last id of any runtime, so that an id is of one runtime alone.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    list: Mutex<List>,
    version: AtomicU64,
    /// Which names somebody wants, as of a version.
    wanted: Mutex<(u64, HashMap<EventName, bool>)>,
}

#[derive(Debug, Default)]
struct List {
    stages: Vec<(Arc<str>, Pattern)>,
    /// In the order in which they were added: by rising id.
    entries: Vec<Arc<Entry>>,
    by_name: HashMap<Arc<str>, u64>,
    added: Vec<Added>,
    /// Who was taken back before the dispatcher saw him, and where he began.
    unseen: Vec<Unseen>,
    is_closed: bool,
}

impl List {
    /// Notes where one began that nobody will see. The first of a name is where it begins.
    fn note_unseen(&mut self, entry: &Entry) {
        let is_marked = entry.options.start == Start::Latest && !entry.options.is_tap;
        if is_marked && self.unseen.iter().all(|(name, _)| name != entry.name()) {
            self.unseen.push((Arc::clone(entry.name()), Arc::clone(&entry.start)));
        }
    }

    fn has_stage(&self, name: &str) -> bool {
        self.stages.iter().any(|(stage, _)| &**stage == name)
    }

    /// Whether a subscription or a stage has a name. What is forgotten, replayed and kept by name would be of both.
    fn is_taken(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.has_stage(name)
    }

    /// Where the entry of an id is.
    fn place(&self, id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what `make` makes of a fresh id and a name that nobody has. A given name must be free; a suggested one gets
    /// a number where it is taken.
    ///
    /// # Errors
    /// [`AddError`]: the name was given and is taken, or the registry is closed.
    pub(crate) fn add(
        &self,
        given: Option<&str>,
        suggested: &str,
        make: impl FnOnce(u64, Arc<str>) -> Added,
    ) -> Result<Arc<Entry>, AddError> {
        let mut list = self.lock();
        if list.is_closed {
            return Err(AddError::Closed);
        }
        let name: Arc<str> = match given {
            Some(name) if list.has_stage(name) => return Err(AddError::OfStage(name.to_owned())),
            Some(name) if list.by_name.contains_key(name) => return Err(AddError::Taken(name.to_owned())),
            Some(name) => name.into(),
            None => {
                let numbered = |number| format!("{suggested}#{number}");
                if list.is_taken(suggested) {
                    numbered(free_number(|n| list.is_taken(&numbered(n)))).into()
                } else {
                    suggested.into()
                }
            }
        };
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        let (entry, call) = make(id, Arc::clone(&name));
        list.by_name.insert(name, id);
        list.entries.push(Arc::clone(&entry));
        list.added.push((Arc::clone(&entry), call));
        // Under the lock, so that a dispatcher that sees the version sees the entry.
        self.version.fetch_add(1, Ordering::Release);
        Ok(entry)
    }

    /// Takes out those that `unwanted` says; the dispatcher finishes what it has of theirs.
    pub(crate) fn remove(&self, unwanted: impl Fn(&Entry) -> bool) -> usize {
        self.remove_from(self.lock(), unwanted)
    }

    /// Takes out all, and takes no more.
    pub(crate) fn close(&self) {
        let mut list = self.lock();
        list.is_closed = true;
        self.remove_from(list, |_| true);
    }

    fn remove_from(&self, mut list: MutexGuard<'_, List>, unwanted: impl Fn(&Entry) -> bool) -> usize {
        let List { entries, by_name, added, .. } = &mut *list;
        let removed: Vec<_> = entries.extract_if(.., |entry| unwanted(entry)).collect();
        let handlers: Vec<_> = added.extract_if(.., |(entry, _)| unwanted(entry)).collect();
        for entry in &removed {
            by_name.remove(entry.name());
        }
        for (entry, _) in &handlers {
            list.note_unseen(entry);
        }
        self.version.fetch_add(1, Ordering::Release);
        drop(list);
        let count = removed.len();
        for (entry, call) in handlers {
            Self::let_go(Arc::clone(&entry), Some((entry, call)));
        }
        for entry in removed {
            Self::let_go(entry, None);
        }
        count
    }

    /// Takes one out, as [`remove`](Self::remove) does; found by halving, for ids rise.
    pub(crate) fn remove_one(&self, id: u64) -> bool {
        let mut list = self.lock();
        let Some(place) = list.place(id) else { return false };
        let removed = list.entries.remove(place);
        let handler = list.added.binary_search_by_key(&id, |(entry, _)| entry.id).ok();
        let handler = handler.map(|place| list.added.remove(place));
        list.by_name.remove(removed.name());
        if handler.is_some() {
            list.note_unseen(&removed);
        }
        self.version.fetch_add(1, Ordering::Release);
        drop(list);
        Self::let_go(removed, handler);
        true
    }

    /// What a handler holds may want the lock when it goes, as a stream does, and may panic. So may a filter.
    fn let_go(entry: Arc<Entry>, handler: Option<Added>) {
        if let Err(panic) = contained(|| drop(handler)) {
            tracing::error!(subscription = &**entry.name(), error = %panic, "a handler panicked while it was dropped");
        }
        drop(contained(|| drop(entry)));
    }

    /// `stem` with the first number that is found to be free. Another may take it before it is added.
    pub(crate) fn free_name(&self, stem: &str) -> String {
        let list = self.lock();
        let numbered = |number| format!("{stem}#{number}");
        let is_taken = |number| list.is_taken(&numbered(number));
        numbered(if is_taken(1) { free_number(is_taken) } else { 1 })
    }

    /// A stage of this name takes events of a pattern, for good.
    ///
    /// # Errors
    /// [`AddError`]: a subscription or a stage has the name.
    pub(crate) fn add_stage(&self, name: &str, pattern: Pattern) -> Result<(), AddError> {
        let mut list = self.lock();
        if list.has_stage(name) {
            return Err(AddError::OfStage(name.to_owned()));
        }
        if list.by_name.contains_key(name) {
            return Err(AddError::Taken(name.to_owned()));
        }
        list.stages.push((name.into(), pattern));
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Whether there is a stage of this name.
    pub(crate) fn has_stage(&self, name: &str) -> bool {
        self.lock().has_stage(name)
    }

    /// Whether any subscription or stage selects events of this name.
    pub(crate) fn wants(&self, name: &EventName) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        if wanted.0 != version || wanted.1.len() >= MOST_NAMES {
            *wanted = (version, HashMap::new());
        }
        if let Some(&is_wanted) = wanted.1.get(name) {
            return is_wanted;
        }
        let list = self.lock();
        let is_wanted = list.entries.iter().any(|entry| entry.pattern.matches(name.as_str()))
            || list.stages.iter().any(|(_, pattern)| pattern.matches(name.as_str()));
        drop(list);
        wanted.1.insert(name.clone(), is_wanted);
        is_wanted
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().entries.clone()
    }

    pub(super) fn name_of(&self, id: u64) -> Option<Arc<str>> {
        let list = self.lock();
        list.entries.get(list.place(id)?).map(|entry| Arc::clone(entry.name()))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Entry>> {
        let list = self.lock();
        let place = list.place(*list.by_name.get(name)?)?;
        list.entries.get(place).cloned()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The subscriptions now, the handlers of those that are new, and who came and went since the last time.
    pub(super) fn catch_up(&self) -> (Vec<Arc<Entry>>, Vec<Added>, Vec<Unseen>) {
        let mut list = self.lock();
        let (added, unseen) = (std::mem::take(&mut list.added), std::mem::take(&mut list.unseen));
        (list.entries.clone(), added, unseen)
    }
}

/// Weak: subscriptions hold the intake, whose way to the store asks this.
impl Interest for Weak<Registry> {
    fn wants(&self, name: &EventName) -> bool {
        self.upgrade().is_some_and(|registry| registry.wants(name))
    }
}
