//! What a batch may ask for, whatever the store: looked at before it is handed over.

use super::{CLASSES, Class, CommitError, MAX_BATCH_BYTES, Op, Record};

/// What a record or a row costs beside its bytes.
pub(crate) const OVERHEAD: usize = 64;
/// The longest name of a record, in bytes.
const MAX_NAME: usize = u16::MAX as usize;

/// Who hands a batch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// Someone who has not claimed the partition.
    Anyone,
    /// The one who has.
    Holder,
}

/// The size of a batch, or why it is refused.
pub(super) fn batch(ops: &[Op], author: Author) -> Result<usize, CommitError> {
    let mut bytes = 0;
    for op in ops {
        if author == Author::Anyone && !matches!(op, Op::Append { .. } | Op::PutNew { .. }) {
            return Err(invalid("only `Append` and `PutNew` without a claim"));
        }
        bytes += size(op)?;
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(CommitError::TooLarge { bytes, max: MAX_BATCH_BYTES });
    }
    Ok(bytes)
}

fn size(op: &Op) -> Result<usize, CommitError> {
    match op {
        Op::Append { class, records } => {
            known(*class)?;
            records_size(records)
        }
        Op::Send { class, records, .. } => {
            known(*class)?;
            if records.iter().any(|record| !record.keys.is_empty()) {
                return Err(invalid("records that are sent carry no keys"));
            }
            records_size(records)
        }
        Op::Put { key, value, .. } | Op::PutNew { key, value, .. } => Ok(key.len() + value.len() + OVERHEAD),
        Op::Delete { key, .. } => Ok(key.len() + OVERHEAD),
        Op::Trim { class, .. } => known(*class).map(|()| OVERHEAD),
    }
}

fn known(class: Class) -> Result<(), CommitError> {
    if class.0 < CLASSES { Ok(()) } else { Err(invalid(format!("class {} of {CLASSES}", class.0))) }
}

fn records_size(records: &[Record]) -> Result<usize, CommitError> {
    let mut bytes = 0;
    for record in records {
        if record.name.len() > MAX_NAME {
            return Err(invalid(format!("a record's name has {} bytes, at most {MAX_NAME}", record.name.len())));
        }
        bytes += record.bytes.len() + record.name.len() + OVERHEAD;
        bytes += record.keys.iter().map(|row| row.key.len() + OVERHEAD).sum::<usize>();
    }
    Ok(bytes)
}

fn invalid(reason: impl Into<String>) -> CommitError {
    CommitError::Invalid { reason: reason.into() }
}
