//! The store itself, opened on a simulated disk, with settings that make rare things frequent.

use std::sync::Arc;

use fastrand::Rng;
use millstream::store::{Redb, Store, StoreError};

use crate::{disk::SimDisk, drive::Opens, images::mix};

/// Opens the store in one file.
#[derive(Clone, Copy, Debug)]
pub struct Real {
    cache: usize,
    quick_repair: u64,
    check: u64,
}

impl Real {
    /// With settings that a run of a seed decides: a cache that is too small, quick repair from the first byte on, a check
    /// of the whole file or none.
    pub fn of(seed: u64, run: u64) -> Self {
        let mut rng = Rng::with_seed(mix(&[seed, run, 11]));
        let cache = if rng.bool() { 4 << 20 } else { 64 << 10 };
        let often = |rng: &mut Rng| if rng.u8(..3) == 0 { 0 } else { u64::MAX };
        Self { cache, quick_repair: often(&mut rng), check: often(&mut rng) }
    }
}

impl Default for Real {
    fn default() -> Self {
        Self { cache: 4 << 20, quick_repair: u64::MAX, check: u64::MAX }
    }
}

impl Opens for Real {
    fn open(&self, disk: &SimDisk) -> Result<Arc<dyn Store>, StoreError> {
        let builder = Redb::builder().cache(self.cache).quick_repair(self.quick_repair).check(self.check);
        Ok(Arc::new(builder.open_on(disk.clone())?))
    }
}
