//! Care for deliveries that a process may have ended with.
//!
//! A handler that ends its process, by a stack overflow or for want of memory, leaves no failure behind: its event is
//! delivered again after the start, and ends the next process. So a process that comes after one that has not given its
//! claim back marks in the store what it begins, of what was in the log then. Of what was marked when a process ended, the
//! next one begins one at a time, so that it shows which of them it was; and what was marked too often is a dead letter.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    task::Context,
};

use super::Durable;
use crate::{
    dead_letter::{Death, Failure},
    dispatch::{
        Dispatcher,
        job::{Job, Past},
    },
    journal::{Cursor, Endings, FailedKey, Mark, given_back_op, mark_op, unmark_op},
    queue::CLASSES,
    stage::HandlerError,
    store::{Op, Seq, Tenure},
};

/// How many attempts of a subscription are marked at most where nothing but the end of the process before speaks for it.
const WINDOW: usize = 4_096;

/// What is begun with care, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Care {
    /// The fences of this process's last claims that followed one another: the first and the last of them.
    own: Option<(u64, u64)>,
    /// The fence of this process's first claim.
    first: Option<u64>,
    /// The fence of the claim that is held.
    fence: u64,
    /// What lies before it in the log was there when a process ended.
    until: Seq,
    /// How many attempts of each subscription were taken for such; retries count again.
    taken: HashMap<u32, usize>,
    /// The attempts that are marked in the store, or about to be.
    marks: HashMap<FailedKey, Begun>,
    /// Of those that earlier processes have marked, the deliveries that are in the log, by subscription.
    left: HashMap<u32, Vec<FailedKey>>,
    /// Deliveries that have their slots and wait, in their order: to be marked, or only to begin after those that are.
    held: VecDeque<(Job, Wants)>,
    /// Those whose marks are on their way, with the commit's number.
    marking: VecDeque<(u64, Job)>,
    /// Those that may begin now.
    marked: VecDeque<Job>,
    /// How many of each subscription are in one of these.
    waiting: HashMap<u32, usize>,
    /// How many of those that are held have a crash behind them.
    suspects: usize,
    /// How many attempts this process has begun with a mark that have not ended.
    under_way: usize,
    /// Whether the one that is under way is to be alone.
    is_alone: bool,
}

/// What a delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Mark,
    /// What came before it begins before it.
    Turn,
}

/// Writes with how many attempts of a delivery a process has ended, when none is under way.
fn settled_op(key: FailedKey, crashes: u32) -> Op {
    if crashes == 0 { unmark_op(key) } else { mark_op(key, Mark { times: crashes, fence: 0 }) }
}

/// What the store says of a delivery.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// With how many attempts a process has ended.
    crashes: u32,
    /// Whether this process has begun the last one.
    is_ours: bool,
}

impl Care {
    /// The partition is held. Marks of attempts that ended with no process count one less; the steps that write so.
    pub(super) fn claimed(&mut self, tenure: &Tenure, endings: Endings) -> Vec<Op> {
        let Endings { given_back, marks } = endings;
        let (fence, is_new) = (tenure.fence, self.first.is_none());
        let began = self.has_claimed(Some(fence)).unwrap_or(fence);
        let first = *self.first.get_or_insert(began);
        // Before the first claim of all there was nobody.
        let has_crashed = is_new && first > 1 && given_back.is_none_or(|before| before + 1 < first);
        if has_crashed {
            self.until = tenure.end;
            tracing::warn!("the process before was not shut down: what it may have had in hand is begun with care");
        }
        self.fence = fence;
        let mut settled = Vec::new();
        for (key, mark) in marks {
            // One that this process has made, and lost with the claim.
            let is_innocent = mark.fence >= first;
            let crashes = mark.times.saturating_sub(u32::from(is_innocent));
            if crashes > 0 {
                self.marks.insert(key, Begun { crashes, is_ours: false });
            }
            settled.extend(is_innocent.then(|| settled_op(key, crashes)));
        }
        settled
    }

    /// A claim was had, though it may have come to nothing. The first of those that it follows, as far as fences are known.
    pub(super) fn has_claimed(&mut self, fence: Option<u64>) -> Option<u64> {
        let fence = fence?;
        let began = self.own.filter(|(_, last)| last + 1 == fence).map_or(fence, |(began, _)| began);
        self.own = Some((began, fence));
        Some(began)
    }

    /// The partition is lost: all that was begun is dropped, and what is marked is read again.
    pub(super) fn lose(&mut self) {
        let Self { own, first, until, .. } = *self;
        let taken = std::mem::take(&mut self.taken);
        *self = Self { own, first, until, taken, ..Self::default() };
    }

    /// The claim is given back: the steps that write so, and that no process has ended with what is under way. Once.
    pub(super) fn give_back(&mut self) -> Vec<Op> {
        let fence = std::mem::take(&mut self.fence);
        if fence == 0 {
            return Vec::new();
        }
        let ours = self.marks.iter().filter(|(_, begun)| begun.is_ours);
        ours.map(|(key, begun)| settled_op(*key, begun.crashes)).chain([given_back_op(fence)]).collect()
    }

    /// Whether this process has not held the partition yet.
    pub(super) fn is_new(&self) -> bool {
        self.first.is_none()
    }

    /// The claim is given back before anything was begun. Where a process ended before it, whoever comes next is to know that: it
    /// is not said that it was given back.
    pub(super) fn pass_on(&mut self) {
        if self.until > Seq(0) {
            self.fence = 0;
        }
    }

    /// A subscription was opened, which has these deliveries as rows.
    pub(super) fn opened(&mut self, subscription: u32, rows: &HashSet<FailedKey>) {
        let is_left = |key: &&FailedKey| key.subscription == subscription && !rows.contains(*key);
        let left: Vec<_> = self.marks.keys().filter(is_left).copied().collect();
        if !left.is_empty() {
            self.left.insert(subscription, left);
        }
    }

    /// How far a subscription is: the steps that remove the marks of what it has passed and does not begin again, for it wants
    /// that no more, or it was trimmed.
    pub(super) fn passed(&mut self, subscription: u32, cursors: &[Cursor; CLASSES]) -> Vec<Op> {
        let Entry::Occupied(mut left) = self.left.entry(subscription) else { return Vec::new() };
        let is_over = |key: &mut FailedKey| {
            let cursor = cursors.get(usize::from(key.class.0));
            cursor.is_none_or(|cursor| key.seq < cursor.high && !cursor.is_open(key.seq))
        };
        let over: Vec<_> = left.get_mut().extract_if(.., is_over).collect();
        if left.get().is_empty() {
            left.remove();
        }
        // What was begun since, and has not ended, says so itself when it has.
        let is_left = |key: &FailedKey| self.marks.get(key).is_some_and(|begun| !begun.is_ours);
        let over: Vec<_> = over.into_iter().filter(is_left).collect();
        for key in &over {
            self.marks.remove(key);
        }
        over.into_iter().map(unmark_op).collect()
    }

    /// A subscription is forgotten, and its marks with it.
    pub(super) fn forget(&mut self, subscription: u32) {
        self.left.remove(&subscription);
        self.marks.retain(|key, begun| key.subscription != subscription || begun.is_ours);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.held.is_empty() && self.marking.is_empty() && self.marked.is_empty()
    }

    /// Whether an attempt of this delivery is to be begun with care.
    fn concerns(&self, key: FailedKey) -> bool {
        self.marks.contains_key(&key)
            || key.seq < self.until && self.taken.get(&key.subscription).is_none_or(|taken| *taken < WINDOW)
    }

    /// Whether it has to wait: for care, or for those that do and came before it. Where each is begun alone, that may
    /// take long, and others overtake.
    fn keeps(&self, key: FailedKey) -> bool {
        let is_behind = || self.waiting.contains_key(&key.subscription) && self.suspects == 0 && !self.is_alone;
        self.concerns(key) || is_behind()
    }

    /// With how many attempts of it a process has ended.
    fn crashes(&self, key: FailedKey) -> u32 {
        self.marks.get(&key).map_or(0, |begun| begun.crashes)
    }

    pub(super) fn has_marked(&self, key: FailedKey) -> bool {
        self.marks.contains_key(&key)
    }

    /// An attempt has ended. Whether it was marked.
    pub(super) fn ended(&mut self, key: FailedKey) -> bool {
        let Some(begun) = self.marks.remove(&key) else { return false };
        self.under_way -= usize::from(begun.is_ours);
        self.is_alone &= self.under_way > 0;
        true
    }

    /// A commit has landed: what it has marked may begin.
    pub(super) fn landed(&mut self, number: u64) {
        while let Some((_, job)) = self.marking.pop_front_if(|(of, _)| *of <= number) {
            self.marked.push_back(job);
        }
    }

    /// A delivery has its slot and waits.
    fn hold(&mut self, job: Job, key: FailedKey) {
        let wants = if self.concerns(key) { Wants::Mark } else { Wants::Turn };
        *self.waiting.entry(key.subscription).or_default() += 1;
        match (wants, self.crashes(key)) {
            (Wants::Turn, _) => {}
            (Wants::Mark, 0) => *self.taken.entry(key.subscription).or_default() += 1,
            (Wants::Mark, _) => self.suspects += 1,
        }
        self.held.push_back((job, wants));
    }

    /// The next delivery, with what it waits for and with how many attempts of it a process has ended. One with a crash
    /// behind it waits until it is alone.
    fn pop_held(&mut self) -> Option<(Job, FailedKey, Wants, u32)> {
        let (job, wants) = self.held.front()?;
        let (key, wants) = (job.logged?.key, *wants);
        let crashes = self.crashes(key);
        if wants == Wants::Mark && (self.is_alone || crashes > 0 && self.under_way > 0) {
            return None;
        }
        self.held.pop_front().map(|(job, _)| (job, key, wants, crashes))
    }

    /// The next delivery goes on with the commit of this number; the step that writes its mark, where it wants one, is added.
    fn go_on(&mut self, number: u64, ops: &mut Vec<Op>) -> bool {
        let Some((job, key, wants, crashes)) = self.pop_held() else { return false };
        if wants == Wants::Turn {
            match self.marking.back() {
                Some(&(last, _)) => self.marking.push_back((last, job)),
                None => self.marked.push_back(job),
            }
            return true;
        }
        self.is_alone = crashes > 0;
        self.suspects -= usize::from(self.is_alone);
        self.under_way += 1;
        self.marks.insert(key, Begun { crashes, is_ours: true });
        self.marking.push_back((number, job));
        ops.push(mark_op(key, Mark { times: crashes + 1, fence: self.fence }));
        true
    }

    /// The next delivery that may begin.
    fn next(&mut self) -> Option<Job> {
        let job = self.marked.pop_front()?;
        if let Entry::Occupied(mut waiting) = self.waiting.entry(job.logged?.key.subscription) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
        Some(job)
    }

    fn take_held(&mut self) -> impl Iterator<Item = Job> + use<> {
        self.waiting.clear();
        let marking = std::mem::take(&mut self.marking).into_iter().map(|(_, job)| job);
        let held = std::mem::take(&mut self.held).into_iter().map(|(job, _)| job);
        std::mem::take(&mut self.marked).into_iter().chain(marking).chain(held)
    }
}

impl Durable {
    /// An attempt has ended, one way or another: what is said of it in the store goes.
    pub(super) fn attempt_ended(&mut self, key: FailedKey) {
        if self.care.ended(key) {
            self.batch.push(unmark_op(key));
        }
    }
}

impl Dispatcher {
    /// Whether an attempt of this delivery may not begin at once.
    pub(super) fn needs_care(&self, key: FailedKey) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.care.keeps(key))
    }

    /// Begins an attempt of a delivery that has its slot; at once, unless that needs care.
    pub(in crate::dispatch) fn begin(&mut self, job: Job, cx: &mut Context<'_>) {
        let Some(key) = job.logged.map(|logged| logged.key).filter(|key| self.needs_care(*key)) else {
            return self.start(job, cx);
        };
        let Some(durable) = &mut self.durable else { return self.start(job, cx) };
        self.done.book.deliveries.in_flight += 1;
        let crashes = durable.care.crashes(key);
        if crashes >= self.parts.max_crashes {
            self.leave_flight(&job);
            return self.crashed(job, crashes);
        }
        durable.care.hold(job, key);
    }

    /// A process has ended with too many of its attempts.
    fn crashed(&mut self, mut job: Job, crashes: u32) {
        let error = HandlerError::permanent(format!("the process ended during {crashes} of its attempts"));
        let failure = Failure::of(&error, job.attempt, self.now);
        job.past.get_or_insert_with(|| Box::new(Past::since(self.now))).remember(failure.clone());
        self.die(job, Death::Crashed, failure);
    }

    /// Begins what is marked, and marks what waits for that.
    pub(super) fn take_care(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.is_stuffed()
            && let Some(job) = self.durable.as_mut().and_then(|durable| durable.care.next())
        {
            moved = true;
            self.done.book.deliveries.in_flight -= 1;
            self.start(job, cx);
        }
        while let Some(durable) = &mut self.durable
            && durable.care.go_on(durable.batch_number, &mut durable.batch.ops)
        {
            moved = true;
        }
        moved
    }

    /// What is said in the store of the attempt of a delivery that has ended without a trace in the log.
    pub(in crate::dispatch) fn let_mark_go(&mut self, job: &Job) {
        if let (Some(durable), Some(logged)) = (&mut self.durable, job.logged) {
            durable.attempt_ended(logged.key);
        }
    }

    /// Takes out those that wait to be begun with care.
    pub(in crate::dispatch) fn take_held(&mut self) -> Vec<Job> {
        let held: Vec<_> = self.durable.iter_mut().flat_map(|durable| durable.care.take_held()).collect();
        for job in &held {
            self.done.book.deliveries.in_flight -= 1;
            self.subscribers[job.subscriber].free_slot(job.class());
        }
        held
    }
}
