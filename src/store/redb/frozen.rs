//! A file that is only looked at.
//!
//! redb writes to every file that it opens: a mark that it is open, and a repair where the last one who had it did not close
//! it. Here all of that lies in memory, so the file stays as it is, byte for byte.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io,
    ops::Bound,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::fault;
use crate::store::StoreError;

/// What is kept of what was written, a piece each.
const PIECE: usize = 4_096;

/// A file below, and above it what was written since it was opened.
#[derive(Debug)]
pub(super) struct Frozen {
    file: FileBackend,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    length: u64,
    /// Up to here the file shows through.
    shown: u64,
    /// By their number.
    pieces: BTreeMap<u64, Box<[u8]>>,
}

impl Frozen {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::io(format!("opening {} to read it", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let foreign = |what: &str| StoreError::NotOurs { path: path.into(), what: what.into() };
        if !found.is_file() {
            return Err(foreign("it is no file"));
        }
        let length = found.len();
        if length == 0 {
            return Err(foreign("it is empty"));
        }
        let file = FileBackend::new(file).map_err(|error| fault::opening(path, error.into()))?;
        Ok(Self { file, above: Mutex::new(Above { length, shown: length, pieces: BTreeMap::new() }) })
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_below(&self, shown: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(shown.saturating_sub(offset)).map_or(out.len(), |there| there.min(out.len()));
        let (below, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if below.is_empty() { Ok(()) } else { self.file.read(offset, below) }
    }
}

/// The pieces that a range of the file touches: the number of each, and where in it and in the range the common part begins,
/// and how long it is.
#[expect(clippy::cast_possible_truncation, reason = "what is cast is shorter than a piece or the range")]
fn touched(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let (piece, end) = (PIECE as u64, offset + length as u64);
    (offset / piece..end.div_ceil(piece)).map(move |number| {
        let begin = (number * piece).max(offset);
        let common = ((number + 1) * piece).min(end) - begin;
        (number, (begin - number * piece) as usize, (begin - offset) as usize, common as usize)
    })
}

impl StorageBackend for Frozen {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        if offset + out.len() as u64 > above.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(above.shown, offset, out)?;
        if !above.pieces.is_empty() {
            for (number, from, to, length) in touched(offset, out.len()) {
                if let Some(piece) = above.pieces.get(&number) {
                    out[to..to + length].copy_from_slice(&piece[from..from + length]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut above = self.above();
        if length < above.length {
            above.shown = above.shown.min(length);
            above.pieces.retain(|number, _| number * (PIECE as u64) < length);
            let cut = usize::try_from(length % PIECE as u64).unwrap_or_default();
            if let Some(last) = above.pieces.get_mut(&(length / PIECE as u64)) {
                last[cut..].fill(0);
            }
        }
        above.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        let shown = above.shown;
        for (number, to, from, length) in touched(offset, data.len()) {
            let piece = match above.pieces.entry(number) {
                Entry::Occupied(piece) => piece.into_mut(),
                Entry::Vacant(place) => {
                    let mut piece = vec![0; PIECE].into_boxed_slice();
                    if length < PIECE {
                        self.read_below(shown, number * PIECE as u64, &mut piece)?;
                    }
                    place.insert(piece)
                }
            };
            piece[to..to + length].copy_from_slice(&data[from..from + length]);
        }
        above.length = above.length.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    /// Several may look at a file at once, and nobody who writes.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0_u64..20_000, proptest::collection::vec(any::<u8>(), 1..9_000));
        let step =
            prop_oneof![write.prop_map(|(at, bytes)| Step::Write(at, bytes)), (0_u64..30_000).prop_map(Step::Length)];
        proptest::collection::vec(step, 0..12)
    }

    fn do_step(step: &Step, frozen: &Frozen, model: &mut Vec<u8>) {
        match step {
            Step::Length(length) => {
                frozen.set_len(*length).unwrap();
                model.resize(usize::try_from(*length).unwrap(), 0);
            }
            Step::Write(at, bytes) => {
                frozen.write(*at, bytes).unwrap();
                let at = usize::try_from(*at).unwrap();
                model.resize(model.len().max(at + bytes.len()), 0);
                model[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reads_what_was_written_and_the_file_stays_as_it_is(below in proptest::collection::vec(any::<u8>(), 1..12_000), steps in steps()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, &below).unwrap();
            let (frozen, mut model) = (Frozen::open(&path).unwrap(), below.clone());
            for step in &steps {
                do_step(step, &frozen, &mut model);
                let mut read = vec![0; model.len()];
                frozen.read(0, &mut read).unwrap();
                prop_assert!(read == model, "{step:?}");
                prop_assert_eq!(frozen.len().unwrap(), model.len() as u64);
            }
            prop_assert!(frozen.read(model.len() as u64, &mut [0]).is_err());
            prop_assert!(std::fs::read(&path).unwrap() == below);
        }
    }
}
