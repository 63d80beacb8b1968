//! Who runs on a store in this process: two runtimes on clones of one would fence each other for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::PartitionId;

/// The right of one runtime of this process to run on a partition, until it is dropped.
#[derive(Debug)]
pub struct Occupancy {
    _holder: Option<Arc<str>>,
}

/// Which partitions of a store have a runtime in this process: for stores, whose handles share one of these.
///
/// ```
/// use millstream::store::{Occupants, PartitionId};
///
/// let (occupants, home) = (Occupants::default(), PartitionId::default());
/// let first = occupants.occupy(home, "the first").unwrap();
/// assert_eq!(&*occupants.occupy(home, "the second").unwrap_err(), "the first");
/// drop(first);
/// assert!(occupants.occupy(home, "the second").is_ok());
/// ```
#[derive(Debug, Default)]
pub struct Occupants(Mutex<HashMap<PartitionId, Weak<str>>>);

impl Occupancy {
    /// That of a store which does not know who else runs on it.
    pub fn unknown() -> Self {
        Self { _holder: None }
    }
}

impl Occupants {
    /// Takes a partition for one runtime.
    ///
    /// # Errors
    /// Who has it already.
    pub fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = held.get(&partition).and_then(Weak::upgrade) {
            return Err(other);
        }
        let holder: Arc<str> = holder.into();
        held.insert(partition, Arc::downgrade(&holder));
        Ok(Occupancy { _holder: Some(holder) })
    }
}
