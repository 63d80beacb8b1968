//! What is driven and looked at: the store by itself, or the whole engine over it.

use std::fmt;

use crate::{
    disk::SimDisk,
    drive::{Driven, Faults, Opens, drive},
    engine::{audit::audit, bugs::EngineBug, chronicle::Chronicle, life, plan::Plan},
    examine::{contained, examine},
    real::Real,
    wait::Hang,
};

/// Something that lives on a simulated disk.
pub trait Level: fmt::Debug + Send + Sync {
    /// Lives for so many rounds on a disk. The same seed makes the same steps of the disk.
    ///
    /// # Errors
    /// [`Hang`] if the store does not answer; then nothing of it can be dropped safely, and the process had better end.
    fn live(&self, disk: &SimDisk, seed: u64, rounds: usize, faults: Faults) -> Result<Box<dyn Past + '_>, Hang>;

    /// Of how many steps of the disk the machine stops at one.
    fn stride(&self) -> usize;
}

/// A life that is over, to which images are held.
pub trait Past {
    /// What was wrong already while it went on.
    fn wrong(&self) -> &[String];

    /// How often it said that something failed.
    fn reported(&self) -> u64;

    /// How much was handed over: batches, or events.
    fn handed(&self) -> u64;

    /// After how many steps of the disk somebody was told that what he asked for is safe: there the machine stops as well.
    fn told(&self) -> Vec<usize>;

    /// Opens what a crash has left of a disk that had recorded so many steps, and says what is wrong. The seed decides
    /// what else can happen; whether it is what a second crash has left is told.
    ///
    /// # Errors
    /// [`Hang`] if the store does not answer.
    fn examine(&self, disk: &SimDisk, position: usize, seed: u64, is_second: bool) -> Result<Vec<String>, Hang>;
}

/// How something lives in a run, by its number.
pub type LevelFor<'a> = dyn Fn(u64) -> Box<dyn Level> + Sync + 'a;

/// Lives; a panic is something that went wrong.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn live<'a>(
    level: &'a dyn Level,
    disk: &SimDisk,
    seed: u64,
    rounds: usize,
    faults: Faults,
) -> Result<Box<dyn Past + 'a>, Hang> {
    contained(|| level.live(disk, seed, rounds, faults)).unwrap_or_else(|panic| Ok(Box::new(Died([panic]))))
}

/// The store by itself.
pub struct StoreLevel<O>(pub O);

struct Stored<'a> {
    opens: &'a dyn Opens,
    driven: Driven,
}

impl<O: Opens> Level for StoreLevel<O> {
    fn live(&self, disk: &SimDisk, seed: u64, rounds: usize, faults: Faults) -> Result<Box<dyn Past + '_>, Hang> {
        let driven = drive(&self.0, disk, seed, rounds, faults)?;
        Ok(Box::new(Stored { opens: &self.0, driven }))
    }

    fn stride(&self) -> usize {
        1
    }
}

impl<O> fmt::Debug for StoreLevel<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreLevel").finish_non_exhaustive()
    }
}

impl Past for Stored<'_> {
    fn wrong(&self) -> &[String] {
        &self.driven.wrong
    }

    fn reported(&self) -> u64 {
        self.driven.reported
    }

    fn handed(&self) -> u64 {
        self.driven.history.entries.len() as u64
    }

    fn told(&self) -> Vec<usize> {
        Vec::new()
    }

    fn examine(&self, disk: &SimDisk, position: usize, _: u64, _: bool) -> Result<Vec<String>, Hang> {
        examine(self.opens, disk, &self.driven.history, position)
    }
}

/// The whole engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineLevel {
    /// How its store is opened.
    pub opens: Real,
    /// A bug that is planted.
    pub bug: Option<EngineBug>,
}

struct Lived<'a> {
    opens: &'a dyn Opens,
    chronicle: Chronicle,
}

impl Level for EngineLevel {
    fn live(&self, disk: &SimDisk, seed: u64, rounds: usize, faults: Faults) -> Result<Box<dyn Past + '_>, Hang> {
        if self.bug == Some(EngineBug::AckBeforeCommit) {
            disk.be_late();
        }
        let setting = life::Setting { opens: &self.opens, disk, bug: self.bug, faults };
        let chronicle = life::live(Plan::of(seed, rounds).to_see(self.bug), setting)?;
        Ok(Box::new(Lived { opens: &self.opens, chronicle }))
    }

    fn stride(&self) -> usize {
        160
    }
}

impl Past for Lived<'_> {
    fn wrong(&self) -> &[String] {
        &self.chronicle.wrong
    }

    fn reported(&self) -> u64 {
        self.chronicle.reported
    }

    fn handed(&self) -> u64 {
        let Chronicle { orders, appends, readings, notes, .. } = &self.chronicle;
        (orders.len() + appends.len() + readings.len() + notes.len()) as u64
    }

    fn told(&self) -> Vec<usize> {
        self.chronicle.told()
    }

    fn examine(&self, disk: &SimDisk, position: usize, seed: u64, is_second: bool) -> Result<Vec<String>, Hang> {
        audit(self.opens, disk, &self.chronicle, position, seed, is_second)
    }
}

/// A life that ended in a panic.
struct Died([String; 1]);

impl Past for Died {
    fn wrong(&self) -> &[String] {
        &self.0
    }

    fn reported(&self) -> u64 {
        0
    }

    fn handed(&self) -> u64 {
        0
    }

    fn told(&self) -> Vec<usize> {
        Vec::new()
    }

    fn examine(&self, _: &SimDisk, _: usize, _: u64, _: bool) -> Result<Vec<String>, Hang> {
        Ok(Vec::new())
    }
}
