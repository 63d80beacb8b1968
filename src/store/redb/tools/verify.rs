//! Scrubs a store: reads all of it and says what is damaged.

use std::collections::HashMap;

use redb::ReadTransaction;

use super::{Count, Progress, names};
use crate::store::{
    Class, PartitionId, Seq, StoreError,
    redb::{
        Redb,
        chunk::Damage,
        fault::{Fault, contain},
        lane,
        shape::LogShape,
        tables::{self, LOG, META, PARTITION, ROWS},
        verify,
    },
};

/// What scrubbing has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Chunks of logs that were read.
    pub chunks: u64,
    /// Records in them.
    pub records: u64,
    /// Rows that were read.
    pub rows: u64,
    /// What is damaged or missing, each named as a reader would be told.
    pub damaged: Vec<String>,
}

impl Verification {
    /// Whether all is as it was written.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

impl Redb {
    /// Reads every chunk, record and row as it is now, and says which are not what was written. `progress` is told how far
    /// it has come. Others may read and write meanwhile. Blocks the thread.
    ///
    /// # Errors
    /// Where the store is [closed](StoreError::Closed). What cannot be read is in the report.
    pub fn verify(&self, mut progress: impl FnMut(Progress)) -> Result<Verification, StoreError> {
        let snapshot = self.owner.shared.snapshot().map_err(|fault| fault.reading("the store"))?;
        let mut scrub = Scrub::default();
        if let Err(fault) = contain(|| scrub.all(&snapshot, &mut progress)) {
            scrub.found.damaged.push(fault.to_string());
        }
        Ok(scrub.found)
    }
}

#[derive(Default)]
struct Scrub {
    found: Verification,
    /// The logs that should be there.
    logs: HashMap<(PartitionId, Class), LogShape>,
    /// The last chunk of each that was read, and how many.
    read: HashMap<(PartitionId, Class), (Seq, Seq, u64)>,
}

impl Scrub {
    fn all(&mut self, snapshot: &ReadTransaction, progress: &mut dyn FnMut(Progress)) -> Result<(), Fault> {
        let names = names(snapshot)?;
        let mut count = Count::new(snapshot, &names, progress)?;
        for name in &names {
            // A table whose structure is damaged ends; the others are read all the same.
            if let Err(fault) = contain(|| self.table(snapshot, name, &mut count)) {
                self.found.damaged.push(format!("table `{name}`: {fault}"));
            }
        }
        self.compare();
        Ok(())
    }

    fn table(&mut self, snapshot: &ReadTransaction, name: &str, count: &mut Count<'_>) -> Result<(), Fault> {
        let table = snapshot.open_table(tables::definition(name))?;
        let mut before = None::<Vec<u8>>;
        for entry in table.range::<&[u8]>(..)? {
            let (key, value) = entry?;
            let (key, value) = (key.value(), value.value());
            if before.as_deref().is_some_and(|before| before >= key) {
                self.found.damaged.push(format!("{} (it is out of order)", tables::describe(name, key)));
            }
            before = Some(key.to_vec());
            let verified = if name == LOG { self.chunk(key, value) } else { self.row(snapshot, name, key, value) };
            if let Err(fault) = verified {
                self.found.damaged.push(fault.to_string());
            }
            count.add();
        }
        Ok(())
    }

    fn row(&mut self, snapshot: &ReadTransaction, name: &str, key: &[u8], row: &[u8]) -> Result<(), Fault> {
        self.found.rows += 1;
        tables::verify(name, key, row)?;
        if name == PARTITION {
            let partition = key.try_into().map(|key| PartitionId(u32::from_be_bytes(key)));
            let partition = partition.map_err(|_| Fault::damaged("a partition", Damage("its key is none")))?;
            let shape = tables::shape(&snapshot.open_table(tables::definition(PARTITION))?, partition)?;
            self.logs.extend((0..).map(Class).zip(shape.logs).map(|(class, log)| ((partition, class), log)));
        } else if name == META && key.starts_with(ROWS.as_bytes()) {
            let table = tables::readable(key);
            snapshot.open_table(tables::definition(&table))?;
        }
        Ok(())
    }

    fn chunk(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.found.chunks += 1;
        let (at, chunk) = verify::chunk(key, value)?;
        self.found.records += u64::from(chunk.count);
        let place = self.read.entry(at).or_insert((chunk.first, chunk.first, 0));
        let before = (place.2 > 0).then_some(place.1);
        *place = (place.0, chunk.first, place.2 + 1);
        if before.is_some() && chunk.before != before {
            let missing = Damage("the chunk before it is missing");
            return Err(Fault::damaged(lane::describe(at.0, at.1, chunk.first), missing));
        }
        Ok(())
    }

    /// Whether each log begins and ends where it should.
    fn compare(&mut self) {
        let mut wrong = Vec::new();
        for (at, log) in &self.logs {
            let read = self.read.remove(at);
            let (span, chunks) = read.map_or((None, 0), |(first, last, chunks)| (Some((first, last)), chunks));
            if span != log.span || chunks != log.chunks {
                wrong.push(format!(
                    "the log of class {}, partition {}: it has {chunks} chunks of {}",
                    at.1.0, at.0.0, log.chunks
                ));
            }
        }
        wrong.extend(self.read.keys().map(|(partition, class)| {
            format!("the log of class {}, partition {}: nothing is known of it", class.0, partition.0)
        }));
        self.found.damaged.append(&mut wrong);
    }
}
