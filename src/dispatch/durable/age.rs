//! How long what is handled stays in the log.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use super::Pending;
use crate::{
    dispatch::Dispatcher,
    queue::CLASSES,
    store::{Class, Op, Seq, StoreError, Wanted},
};

/// How long events stay in the log that every subscription has handled. An event that one has not handled stays in any
/// case, and events of aggregates have a place of their own, where they stay for good. What goes, goes in whole chunks, so
/// some stay longer than they must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Retention {
    /// Not at all. The default.
    #[default]
    Handled,
    /// So long after their time.
    Age(Duration),
    /// The last so many, over all classes. Places in the log are counted, of which some may be empty.
    Events(u64),
    /// For good.
    All,
}

/// Where the oldest event lies that is kept for its age.
#[derive(Default)]
pub(super) struct Aged {
    first: Option<[Seq; CLASSES]>,
    looked: Option<Timestamp>,
    looking: Option<Pending<Result<[Seq; CLASSES], StoreError>>>,
}

/// How often the age is looked at, as a part of itself.
const OFTEN: u32 = 20;
/// Places that must be free before anything is trimmed: a trim costs a look at the chunks.
const STEP: u64 = 1_024;

impl Aged {
    pub(super) fn is_quiet(&self) -> bool {
        self.looking.is_none()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Dispatcher {
    /// Finds the oldest events that their age keeps, now and then.
    pub(super) fn look_for_age(&mut self, cx: &mut Context<'_>) -> bool {
        let (Retention::Age(age), Some(durable)) = (self.parts.retention, &mut self.durable) else { return false };
        let is_due = durable.aged.looked.is_none_or(|looked| self.now.since(looked) > age / OFTEN);
        if durable.aged.looking.is_none()
            && is_due
            && let Some(tenure) = durable.tenure().cloned()
        {
            let wanted = Wanted { since: Some(self.now - age), ..Wanted::default() };
            let (from, end) = (durable.trimmed, durable.tail.next());
            durable.aged.looked = Some(self.now);
            durable.aged.looking = Some(Box::pin(async move {
                let mut first = [end; CLASSES];
                for (class, first) in first.iter_mut().enumerate() {
                    #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
                    let page = tenure.reader().read(Class(class as u8), from[class], 1, &wanted).await;
                    *first = match page {
                        Ok(page) => page.records.first().map_or(page.next, |record| record.seq),
                        Err(StoreError::Trimmed { first }) => first,
                        Err(error) => return Err(error),
                    };
                }
                Ok(first)
            }));
        }
        let Some(looking) = &mut durable.aged.looking else { return false };
        let Poll::Ready(first) = looking.as_mut().poll(cx) else { return false };
        durable.aged.looking = None;
        match first {
            Ok(first) => durable.aged.first = Some(first),
            Err(error) => tracing::warn!(error = %error, "the age of the log cannot be seen, so nothing is trimmed"),
        }
        true
    }

    /// What all have handled, and nothing keeps, goes.
    pub(super) fn trim(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        for stage in &durable.stages {
            if let Some(cursor) = stage.cursor() {
                durable.stage_cursors.insert(stage.border().stage.to_string(), cursor);
            }
        }
        let stages = durable.stage_cursors.values().copied().min();
        for class in 0..CLASSES {
            let floor = durable.known.values().map(|known| known.cursors[class].floor()).chain(stages).min();
            // Where nobody reads, nobody has handled anything.
            let Some(floor) = floor else { return };
            let kept = match self.parts.retention {
                Retention::Handled => floor,
                Retention::Age(_) => durable.aged.first.map_or(Seq(0), |first| first[class]),
                Retention::Events(events) => Seq(durable.tail.next().0.saturating_sub(events)),
                Retention::All => Seq(0),
            };
            let below = floor.min(kept);
            if below.0.saturating_sub(durable.trimmed[class].0) < STEP {
                continue;
            }
            durable.trimmed[class] = below;
            #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
            durable.batch.push(Op::Trim { class: Class(class as u8), below });
        }
    }
}
