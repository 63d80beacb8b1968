//! What a seed decides of a run of the whole engine.

use fastrand::Rng;

use crate::images::mix;

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What decides all else.
    pub seed: u64,
    /// How many users order: few, or so many that states of stages are kept as deltas.
    pub users: u32,
    /// Whether what was handled stays in the log.
    pub keeps_all: bool,
    /// How many events an epoch of a stage has.
    pub epoch: usize,
    /// Whether what was written is seen by others before those who wrote it are told.
    pub tells_late: bool,
    /// How often the runtime is opened.
    pub lives: u64,
    /// How much each who emits does in a life.
    pub rounds: usize,
}

impl Plan {
    /// What a seed decides, for a run of so many rounds.
    pub fn of(seed: u64, rounds: usize) -> Self {
        let mut rng = Rng::with_seed(mix(&[seed, 21]));
        let users = if rng.u8(..4) == 0 { 40 } else { rng.u32(2..7) };
        let lives = rng.u64(1..4);
        Self {
            seed,
            users,
            keeps_all: rng.u8(..4) > 0,
            epoch: if users > 16 { 50 } else { rng.usize(1..9) },
            tells_late: rng.u8(..4) > 0,
            lives,
            rounds: rounds.div_ceil(usize::try_from(lives * 3).unwrap_or(1)),
        }
    }

    /// What the ids of a life are made of.
    pub fn id_seed(&self, life: u64) -> u64 {
        mix(&[self.seed, life, 31])
    }
}
