//! All classes of a log as one, in the order of their places, page by page.

use std::{collections::VecDeque, sync::Arc};

use super::HistoryError;
use crate::store::{CLASSES, Class, PageRecord, Reader, Seq, StoreError, Wanted};

/// What is read of a class at a time, in bytes.
const PAGE: usize = 64 << 10;

/// Reads all classes up to a place.
#[derive(Debug)]
pub(crate) struct Merged {
    reader: Arc<dyn Reader>,
    wanted: Wanted,
    lanes: [Lane; CLASSES as usize],
    /// All before it was given out, or is not wanted.
    place: Seq,
}

/// One class.
#[derive(Debug)]
struct Lane {
    class: Class,
    /// Where it is read on.
    from: Seq,
    /// Whether what is trimmed may be passed over: nobody has been there.
    is_fresh: bool,
    is_end: bool,
    read: VecDeque<PageRecord>,
}

impl Merged {
    /// Begins with the first that is kept, or at a place.
    pub(crate) fn new(reader: Arc<dyn Reader>, from: Option<Seq>, wanted: Wanted) -> Self {
        let lane = |class: usize| Lane {
            #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
            class: Class(class as u8),
            from: from.unwrap_or_default(),
            is_fresh: from.is_none(),
            // Nothing is to be read before it is said how far.
            is_end: true,
            read: VecDeque::new(),
        };
        let place = from.unwrap_or_default();
        Self { reader, wanted, lanes: std::array::from_fn(lane), place }
    }

    /// Reads as far as the log reaches now.
    pub(crate) async fn extend(&mut self) -> Result<(), HistoryError> {
        let end = self.reader.extent().await?.end;
        self.extend_to(end);
        Ok(())
    }

    /// Reads up to a place.
    pub(crate) fn extend_to(&mut self, end: Seq) {
        self.wanted.below = Some(end.max(self.end()));
        self.lanes.iter_mut().for_each(|lane| lane.is_end = false);
    }

    /// Up to where it reads.
    pub(crate) fn end(&self) -> Seq {
        self.wanted.below.unwrap_or(self.place)
    }

    /// All before it was given out, or is not wanted.
    pub(crate) fn place(&self) -> Seq {
        self.place
    }

    /// The next record; none where the end is reached.
    ///
    /// # Cancel safety
    /// Dropped while it reads, nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<PageRecord>, HistoryError> {
        for lane in &mut self.lanes {
            lane.fill(&*self.reader, &self.wanted).await?;
        }
        let first = self.lanes.iter_mut().filter(|lane| !lane.read.is_empty());
        let first = first.min_by_key(|lane| lane.read.front().map(|record| record.seq));
        let record = first.and_then(|lane| lane.read.pop_front());
        self.place = record.as_ref().map_or_else(|| self.end().max(self.place), |record| record.seq.next());
        Ok(record)
    }
}

impl Lane {
    /// Reads until there is a record, or no more.
    async fn fill(&mut self, reader: &dyn Reader, wanted: &Wanted) -> Result<(), HistoryError> {
        while self.read.is_empty() && !self.is_end {
            match reader.read(self.class, self.from, PAGE, wanted).await {
                Ok(page) => {
                    self.from = page.next;
                    self.is_end = page.is_end;
                    self.is_fresh = false;
                    self.read.extend(page.records);
                }
                Err(StoreError::Trimmed { first }) => {
                    self.from = first.max(self.from);
                    if !std::mem::take(&mut self.is_fresh) {
                        return Err(HistoryError::Trimmed { first });
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // A store that is ready at once must not keep others from their turn.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }
}
