//! What was trimmed before a subscription had read it.

use crate::{
    dispatch::Dispatcher,
    stage::Start,
    store::{Page, Seq},
};

/// What was found in a class.
pub(super) enum Found {
    Page(Page),
    /// Before the first one nothing is kept.
    Trimmed {
        from: Seq,
        first: Seq,
    },
}

impl Found {
    /// What is missing of a class.
    pub(super) fn gap(&self, class: usize) -> Option<(usize, Seq, Seq)> {
        if let Self::Trimmed { from, first } = self { Some((class, *from, *first)) } else { None }
    }

    pub(super) fn into_page(self) -> Page {
        match self {
            Self::Page(page) => page,
            Self::Trimmed { first, .. } => Page { next: first, ..Page::default() },
        }
    }
}

impl Dispatcher {
    /// What was trimmed before it was read is lost, and counted.
    pub(super) fn count_trimmed(&mut self, place: usize, class: usize, from: Seq, first: Seq) {
        let subscriber = &mut self.subscribers[place];
        let Some(reader) = &mut subscriber.reader else { return };
        // Who begins with the earliest begins with the first that is kept.
        let begins = from == Seq(0) && subscriber.entry.options.start != Start::Latest;
        let lost = reader.lose_before(class, from, first);
        if !begins && lost > 0 {
            let name = &**subscriber.entry.name();
            tracing::error!(subscription = name, places = lost, "events were trimmed before they were read");
            metrics::counter!("millstream_dropped_total", "stage" => name.to_owned(), "reason" => "trimmed")
                .increment(lost);
            subscriber.entry.meter.trimmed.add(lost);
        }
    }
}

impl super::Reader {
    /// Closes what is open before a place and cannot be read any more. How many places were never read.
    fn lose_before(&mut self, class: usize, from: Seq, first: Seq) -> u64 {
        let cursor = &mut self.cursors[class];
        let again = if self.resume[class].is_some() { cursor.lose(from, first) } else { 0 };
        again + first.0.saturating_sub(from.max(cursor.high).0)
    }
}
