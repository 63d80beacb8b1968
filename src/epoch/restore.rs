//! Going on from what the store says: at the start, after a crash, after a commit whose outcome is not known.
//!
//! The newest state of a key is in the newest delta that names it, and where none does, in its row. So only the header, the
//! deltas and the parked keys are read; rows and timers come when they are needed.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use millstream_operators::durable::Durable;

use super::{
    StageError, StageItem, StateKey, delta,
    driven::{Driven, Phase},
    header::{Header, Reached, StageCounts},
    input::Input,
    rows::{DELTAS, HEADERS, PARKED, TABLES},
    states::LoadError,
    status::Parked,
};
use crate::{
    event::IntoDraft,
    stage::Since,
    store::{FoundRow, KeyRange, Op, Reader, Row, RowKey, Seq, StoreError, Table, Tenure},
};

/// How many rows are read at a time.
const SCAN: usize = 256;

/// All rows of a range.
async fn all_rows(reader: &dyn Reader, table: Table, mut range: KeyRange) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    loop {
        let found = reader.scan(table, range.clone(), SCAN).await?;
        let is_last = found.len() < SCAN;
        if let Some((key, _)) = found.last() {
            range = range.after(key);
        }
        rows.extend(found);
        if is_last {
            return Ok(rows);
        }
    }
}

impl<In, O> Driven<In, O>
where
    In: StageItem,
    O: Durable<In, Out: IntoDraft, State: Send> + Send,
{
    pub(super) async fn run_restore(&mut self, tenure: Arc<Tenure>, from: Seq) -> Result<(), StageError> {
        self.blank();
        self.poisoned.clear();
        let header = match tenure.reader().get(HEADERS, &[self.states.rows.header()]).await {
            Ok(rows) => rows.into_iter().next().flatten(),
            Err(error) => return self.unrestored(error.into()),
        };
        match header {
            None if self.begin(&tenure, from).await? => {}
            None => return Ok(()),
            Some(header) => match self.resume(&header, tenure.reader()).await {
                Ok(None) => {}
                Ok(Some(header)) => {
                    if !self.write_first(&tenure, vec![header]).await? {
                        return Ok(());
                    }
                }
                Err(error) => return self.unrestored(error),
            },
        }
        self.tenure = Some(tenure);
        self.phase = Phase::Running;
        Ok(())
    }

    fn unrestored(&mut self, error: LoadError) -> Result<(), StageError> {
        match error {
            LoadError::Unfit(reason) => {
                self.park(reason);
                Ok(())
            }
            LoadError::Store(error) => {
                self.blank();
                Err(StageError::Read(error))
            }
        }
    }

    /// The first commit of a stage that the store does not know: where it begins is fixed from then on. False where the stage
    /// is parked.
    async fn begin(&mut self, tenure: &Arc<Tenure>, from: Seq) -> Result<bool, StageError> {
        self.set(&Header {
            version: self.states.version,
            epoch: 0,
            cursor: from.0,
            reached: Reached::default(),
            counts: StageCounts::default(),
            // Whoever has a place has begun there, whatever is said now.
            since: Since::Said(self.start.since().filter(|_| from == Seq(0))),
            is_going: false,
        });
        let mut batch = Vec::from(self.states.rows.first_turns());
        batch.push(self.header(from.0));
        self.write_first(tenure, batch).await
    }

    /// What must be in the store before the stage goes on. False where it is parked, for trying again would change nothing.
    async fn write_first(&mut self, tenure: &Arc<Tenure>, batch: Vec<Op>) -> Result<bool, StageError> {
        match tenure.commit_untold(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_loss() => {
                self.blank();
                Err(StageError::Commit(error))
            }
            Err(error) => {
                self.park(format!("it cannot begin: {error}"));
                Ok(false)
            }
        }
    }

    fn set(&mut self, header: &Header) {
        self.epoch = header.epoch;
        self.states.landed = header.epoch;
        self.cursor = Seq(header.cursor);
        self.time.reached = header.reached;
        self.counts = header.counts;
        self.cut = (header.reached, header.counts);
        self.input = Input::new(self.pattern.clone(), self.cursor, header.since.or(self.start));
    }

    /// Gives the header anew where it is of an earlier build and does not say what the options say now.
    async fn resume(&mut self, header: &Bytes, reader: &dyn Reader) -> Result<Option<Op>, LoadError> {
        let unfit = |what: &str| LoadError::Unfit(format!("{what} is damaged"));
        let header = Header::decode(header).map_err(|_| unfit("the stage's header"))?;
        self.set(&header);
        if header.is_going {
            return Err(LoadError::Unfit(left_of(&self.name)));
        }
        if header.version != self.states.version && self.states.migrate.is_none() {
            return Err(LoadError::Unfit(format!(
                "its state is of version {}, the stage is {}: give it a migration from there, or a new name to begin afresh",
                header.version, self.states.version
            )));
        }
        for (row, value) in all_rows(reader, PARKED, self.states.rows.all()).await? {
            let key = self.states.rows.key_of(&row).ok_or_else(|| unfit("a parked key"))?;
            let parked = Parked::decode(&value).ok_or_else(|| unfit("a parked key"))?;
            self.states.parked.insert(key, parked);
        }
        let mut newest: BTreeMap<StateKey, (u64, Option<Bytes>)> = BTreeMap::new();
        for (row, chunk) in all_rows(reader, DELTAS, self.states.rows.all()).await? {
            let epoch = self.states.rows.epoch_of(&row).ok_or_else(|| unfit("a delta"))?;
            self.states.deltas.found(epoch);
            for (key, value) in delta::read(chunk).map_err(|_| unfit("a delta"))? {
                newest.insert(key, (epoch, value));
            }
        }
        for (key, (epoch, value)) in newest {
            self.states.restore(&key, value.map(|value| Bytes::copy_from_slice(&value)), epoch)?;
        }
        let key = self.states.rows.header();
        let said = Header { since: Since::Said(self.input.since()), ..header };
        let is_unsaid = header.since.is_unsaid();
        Ok(is_unsaid.then(|| Op::Put { table: HEADERS, key, value: said.encode() }))
    }
}

/// What is said of a stage of which some rows may be gone and others not.
fn left_of(name: &str) -> String {
    format!("what is left of stage `{name}`, whose process ended while it was forgotten,")
}

/// How far a stage is; or why that cannot be read, and whether the damage may be in its name.
pub(crate) type StageCursor = Result<Seq, (StoreError, bool)>;

/// How far each stage is that the store knows, whether it runs or not.
///
/// # Errors
/// Where the store cannot be read. A damaged header is said of its stage alone, and so is one whose other rows may be gone.
pub(crate) async fn cursors(reader: &dyn Reader) -> Result<Vec<(String, StageCursor)>, StoreError> {
    let headers = reader.scan_each(HEADERS, KeyRange::all(), usize::MAX).await?;
    let cursor = |(row, header): FoundRow| {
        let name = String::from_utf8_lossy(row.strip_suffix(&[0]).unwrap_or(&row)).into_owned();
        let damaged = |_| StoreError::Corrupt { what: format!("the header of stage `{name}`") };
        let header = header.map_err(|why| (why, true));
        let cursor = header.and_then(|header| Header::decode(&header).map_err(|error| (damaged(error), false)));
        let left = |header: Header| {
            if header.is_going {
                Err((StoreError::Corrupt { what: left_of(&name) }, false))
            } else {
                Ok(Seq(header.cursor))
            }
        };
        let cursor = cursor.and_then(left);
        (name, cursor)
    };
    Ok(headers.into_iter().map(cursor).collect())
}

/// Some of the rows that a name has.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    pub(crate) rows: Vec<RowKey>,
    /// What is written with their removal: after a crash nobody takes what is left for a stage.
    pub(crate) mark: Option<Op>,
    /// Whether one of them may be damaged: who removes it by its key may not find it, and it is told again.
    pub(crate) may_stay: bool,
}

/// The rows that a stage has in the store, a batch of them at a time: remove each, and ask again until there is none. The stage
/// must not be running. A damaged row may stay where it is: those that were `removed` are not told again.
///
/// # Errors
/// Where the store cannot be read.
pub(crate) async fn rows_to_forget(
    reader: &dyn Reader,
    stage: &str,
    removed: &HashSet<RowKey>,
) -> Result<Remaining, StoreError> {
    /// How many rows are removed in one batch.
    const BATCH: usize = 4_096;
    let rows = super::rows::Rows::of(stage);
    // The header last: until then the stage is known, and the work goes on after a crash.
    for table in TABLES.into_iter().rev() {
        let (found, may_stay): (Vec<Bytes>, bool) = match reader.scan(table, rows.all(), BATCH).await {
            Ok(found) => (found.into_iter().map(|(key, _)| key).collect(), false),
            Err(StoreError::Corrupt { .. }) => {
                let found = reader.scan_each(table, rows.all(), usize::MAX).await?.into_iter();
                (found.map(|(key, _)| key).filter(|key| rows.all().contains(key)).collect(), true)
            }
            Err(error) => return Err(error),
        };
        let found = found.into_iter().map(|key| RowKey { table, key });
        let rows: Vec<_> = found.filter(|row| !removed.contains(row)).take(BATCH).collect();
        if !rows.is_empty() {
            let mark = if table == HEADERS { None } else { going(reader, stage).await? };
            return Ok(Remaining { rows, mark, may_stay });
        }
    }
    Ok(Remaining::default())
}

/// Says in a stage's header that its rows are being removed, unless it says so or cannot be read.
async fn going(reader: &dyn Reader, stage: &str) -> Result<Option<Op>, StoreError> {
    let key = super::rows::Rows::of(stage).header();
    let row = match reader.get(HEADERS, std::slice::from_ref(&key)).await {
        Ok(rows) => rows.into_iter().next().flatten(),
        Err(StoreError::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    let header = row.and_then(|row| Header::decode(&row).ok()).filter(|header| !header.is_going);
    let value = header.map(|header| Header { is_going: true, ..header }.encode());
    Ok(value.map(|value| Op::Put { table: HEADERS, key, value }))
}
