//! Forgetting names: what nobody subscribes or runs goes for good, with all rows that it has.
//!
//! The rows go some with each commit, and last those that make the name known: after a crash it can be asked for again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    Durable, Pending,
    harm::{unread_rows, unread_stage},
    read::unread,
    stages::start_key,
};
use crate::{
    dispatch::Dispatcher,
    epoch::{self, Remaining},
    journal::{cursor_key, rows_of},
    queue::CLASSES,
    stage::Start,
    store::{Class, Op, RowKey, Seq, StoreError, Tenure, tables},
};

/// Names that are to be forgotten.
#[derive(Default)]
pub(super) struct Forgetting {
    asked: Vec<String>,
    /// Those whose handlers finish what they have, or are being opened.
    later: Vec<String>,
    /// The first of those that were asked for, once it is begun.
    begun: Option<String>,
    /// The next of its rows.
    rows: Option<Pending<Result<Remaining, StoreError>>>,
    /// Those whose last rows go with a batch.
    ended: Vec<Ended>,
    /// Those of them whose batch was lost: whoever has come since wants the name anew.
    again: Vec<Ended>,
    /// Rows that were removed where one of them may be damaged: such a one may not be found where it lies, and stays.
    removed: HashSet<RowKey>,
}

/// A name whose last rows go.
struct Ended {
    name: String,
    /// The number of the batch with which they go.
    batch: u64,
    /// The numbers under which it had rows.
    ids: Vec<u32>,
    /// Where it was marked to begin, as a subscription and as a stage.
    marks: [Option<Seq>; 2],
}

/// Who claims a name.
enum Claim {
    Nobody,
    /// Who was taken back and has not finished, or is about to be opened, which may not come about.
    Between,
    Somebody,
}

impl Forgetting {
    pub(super) fn is_quiet(&self) -> bool {
        self.asked.is_empty() && self.again.is_empty() && self.begun.is_none()
    }

    /// A batch has landed, and with it the end of some.
    pub(super) fn landed(&mut self, batch: u64) {
        self.ended.retain(|ended| ended.batch > batch);
    }

    /// The partition is lost: what was read is read again, and what may be there still goes once more.
    pub(super) fn lose(&mut self) {
        self.rows = None;
        for ended in self.ended.drain(..) {
            if ended.ids.is_empty() && ended.marks == [None; 2] {
                self.asked.push(ended.name);
            } else {
                self.again.push(ended);
            }
        }
        self.removed.clear();
    }
}

/// The next rows of a name, but for those that make it known; none where there are no more.
async fn next_rows(
    tenure: Arc<Tenure>,
    name: String,
    subscriptions: Vec<u32>,
    removed: HashSet<RowKey>,
) -> Result<Remaining, StoreError> {
    for table in [tables::FAILED, tables::ATTEMPT] {
        let mut rows = rows_of(&tenure, table, &subscriptions).await?;
        rows.retain(|row| !removed.contains(row));
        if !rows.is_empty() {
            return Ok(Remaining { rows, may_stay: true, ..Remaining::default() });
        }
    }
    epoch::rows_to_forget(tenure.reader(), &name, &removed).await
}

impl Dispatcher {
    /// A name is to be forgotten, with all that waits for it, unless somebody claims it.
    pub(in crate::dispatch) fn forget(&mut self, name: String) {
        if let Some(durable) = &mut self.durable {
            durable.forgetting.asked.push(name);
        }
    }

    /// Goes on with what is to be forgotten.
    pub(super) fn forget_names(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.choose_forgotten();
        let Some(durable) = &mut self.durable else { return moved };
        let Some(tenure) = durable.tenure().cloned() else { return moved };
        let Some(name) = durable.forgetting.begun.clone() else { return moved };
        if durable.forgetting.rows.is_none() {
            // What is on its way is not seen by who reads now.
            if !durable.batch.ops.is_empty() || !durable.is_written() {
                return moved;
            }
            let (ids, removed) = (durable.ids_of(&name), durable.forgetting.removed.clone());
            durable.forgetting.rows = Some(Box::pin(next_rows(tenure, name.clone(), ids, removed)));
            moved = true;
        }
        let Some(rows) = &mut durable.forgetting.rows else { return moved };
        let Poll::Ready(rows) = rows.as_mut().poll(cx) else { return moved };
        durable.forgetting.rows = None;
        match rows {
            Ok(Remaining { rows, .. }) if rows.is_empty() => self.end_forgetting(&name),
            Ok(Remaining { rows, mark, may_stay }) => {
                // Where all are whole there may be many, and none is told again.
                if may_stay {
                    durable.forgetting.removed.extend(rows.iter().cloned());
                }
                durable.batch.ops.extend(mark);
                durable.batch.ops.extend(rows.into_iter().map(|RowKey { table, key }| Op::Delete { table, key }));
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                durable.forgetting.begun = None;
                durable.forgetting.removed.clear();
                self.cannot_forget(&name, &error);
            }
            Err(error) => self.lose(error),
        }
        true
    }

    /// All that it had is gone, or goes with the next commit. Who wants the name has marked where it begins, which stays.
    fn end_forgetting(&mut self, name: &str) {
        if self.has_new_subscribers() {
            self.catch_up();
        }
        let marks = self.marks_of_next(name);
        let Some(durable) = &mut self.durable else { return };
        let (ids, old_marks) = (durable.ids_of(name), durable.marks_of(name));
        durable.forget_name(name);
        durable.batch.ops.extend(marks);
        durable.forgetting.begun = None;
        durable.forgetting.removed.clear();
        let batch = durable.batch_number;
        durable.forgetting.ended.push(Ended { name: name.to_owned(), batch, ids, marks: old_marks });
        self.begin_stages_again();
        self.open_again(name);
        self.tell_orphans();
    }

    /// Marks where whoever begins that wants a name which is being forgotten.
    fn marks_of_next(&self, name: &str) -> Vec<Op> {
        let mut same = self.subscribers.iter().filter(|(_, s)| s.is_subscribed && &**s.entry.name() == name);
        let next = same.find(|(_, s)| s.entry.options.start == Start::Latest && !s.entry.options.is_tap);
        let start = next.and_then(|(_, subscriber)| subscriber.entry.start.get().copied());
        let mut stages = self.durable.iter().flat_map(|durable| &durable.stages);
        let stage = stages.find(|stage| &*stage.border().stage == name);
        let stage = stage.and_then(|stage| stage.beginning(&HashMap::new()));
        let marks = start.and_then(|start| start_op(name.to_owned(), start));
        marks.into_iter().chain(stage.and_then(|start| start_op(start_key(name), start))).collect()
    }

    /// Somebody has to look at it; what is left of the name stays.
    fn cannot_forget(&self, name: &str, error: &StoreError) {
        tracing::error!(name, %error, "a name cannot be forgotten");
        let what = format!("`{name}` cannot be forgotten");
        self.parts.intake.lock().log.damage.insert(what, error.to_string());
    }

    /// Begins with the next name that nobody claims.
    fn choose_forgotten(&mut self) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        if durable.tenure().is_none() || durable.forgetting.begun.is_some() {
            return false;
        }
        while let Some(Ended { name, ids, marks, .. }) = durable.forgetting.again.pop() {
            // Where its rows are those of whoever came since, they went all the same.
            let is_marked = durable.marks_of(&name).iter().zip(marks).any(|(mark, was)| mark.is_some() && *mark == was);
            if is_marked || durable.ids_of(&name).iter().any(|id| ids.contains(id)) {
                durable.forgetting.begun = Some(name);
                return true;
            }
        }
        let mut asked = std::mem::take(&mut durable.forgetting.later);
        let waited = asked.len();
        asked.append(&mut durable.forgetting.asked);
        let moved = asked.len() > waited;
        for name in asked {
            let claim = self.claim_of(&name);
            let Some(Durable { forgetting, .. }) = self.durable.as_deref_mut() else { return moved };
            match claim {
                Claim::Somebody => {}
                Claim::Between => forgetting.later.push(name),
                Claim::Nobody if forgetting.begun.is_none() => forgetting.begun = Some(name),
                Claim::Nobody => forgetting.asked.push(name),
            }
        }
        moved
    }

    /// What was said of a name is true no more. Whoever could not be opened for it tries again.
    fn open_again(&mut self, name: &str) {
        let mut state = self.parts.intake.lock();
        state.log.damage.remove(&unread_rows(name));
        state.log.damage.remove(&unread_stage(name));
        state.log.damage.remove(&unread(name));
        for (_, subscriber) in self.subscribers.iter_mut().filter(|(_, s)| s.is_broken && s.reader.is_none()) {
            subscriber.is_broken = false;
            state.log.damage.remove(&unread(subscriber.entry.name()));
        }
    }

    fn claim_of(&self, name: &str) -> Claim {
        // One whose rows cannot be read is parked: it begins anew.
        let is_harmed = self.harm_of_stage(name).is_some();
        let runs = self.durable.iter().any(|d| d.stages.iter().any(|stage| &*stage.border().stage == name));
        let mut same = self.subscribers.iter().filter(|(_, subscriber)| &**subscriber.entry.name() == name);
        match same.next() {
            _ if runs && !is_harmed => Claim::Somebody,
            None => Claim::Nobody,
            // It was never opened, for its rows cannot be read: it begins anew.
            Some((_, subscriber)) if subscriber.is_broken && subscriber.reader.is_none() => Claim::Nobody,
            Some((_, s)) if s.is_subscribed && s.reader.is_none() && !s.entry.options.is_tap => Claim::Between,
            Some((_, subscriber)) if subscriber.is_subscribed => Claim::Somebody,
            Some(_) if same.any(|(_, subscriber)| subscriber.is_subscribed) => Claim::Somebody,
            Some(_) => Claim::Between,
        }
    }
}

/// Marks where a name begins, as a mark in the log before it does; none where there is nothing before it.
fn start_op(name: String, start: Seq) -> Option<Op> {
    let value = Bytes::copy_from_slice(&start.0.checked_sub(1)?.to_be_bytes());
    Some(Op::Put { table: tables::START, key: name.into(), value })
}

impl Durable {
    /// Whether its rows are going just now: who wants the name begins anew, after that.
    pub(super) fn is_being_forgotten(&self, name: &str) -> bool {
        self.forgetting.begun.as_deref() == Some(name) || self.forgetting.again.iter().any(|ended| ended.name == name)
    }

    /// The rows that make a name known go.
    fn forget_name(&mut self, name: &str) {
        let ids = self.ids_of(name);
        let harmed = self.harmed.remove(name).map(|harmed| harmed.key);
        let own = Bytes::copy_from_slice(name.as_bytes());
        if self.known.remove(name).is_some() || harmed.is_some() {
            let key = harmed.clone().unwrap_or_else(|| own.clone());
            self.batch.ops.push(Op::Delete { table: tables::SUBSCRIPTION, key });
        }
        for id in ids {
            self.care.forget(id);
            #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
            let classes = (0..CLASSES).map(|class| Class(class as u8));
            let cursors = classes.map(|class| Op::Delete { table: tables::CURSOR, key: cursor_key(id, class) });
            self.batch.ops.extend(cursors);
        }
        self.stage_cursors.remove(name);
        self.harmed_stages.remove(name);
        self.starts.remove(name);
        self.starts.remove(&start_key(name));
        let starts = [own, start_key(name).into_bytes().into()].into_iter().chain(harmed);
        self.batch.ops.extend(starts.map(|key| Op::Delete { table: tables::START, key }));
    }

    /// Where a name is marked to begin, as a subscription and as a stage.
    fn marks_of(&self, name: &str) -> [Option<Seq>; 2] {
        [self.starts.get(name).copied(), self.starts.get(&start_key(name)).copied()]
    }

    /// The numbers under which a name has rows.
    fn ids_of(&self, name: &str) -> Vec<u32> {
        let known = self.known.get(name).map(|known| known.row.id);
        let harmed = self.harmed.get(name).map(|harmed| harmed.ids.clone());
        known.into_iter().chain(harmed.into_iter().flatten()).collect()
    }
}
