//! What a seed decides of a run of the whole engine.

use fastrand::Rng;

use crate::images::mix;

/// A part of the workload that lives in some runs. Orders, their bills and what comes of them live in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bills append to ledgers.
    Ledgers,
    /// Carts are appended to.
    Carts,
    /// Rows are written from outside.
    Notes,
    /// The stage that sums orders up.
    Totals,
    /// The stage that waits until a user is quiet.
    Calm,
    /// The stage that puts readings of meters into windows of their own time.
    Windows,
    /// Orders are settled in the order of their users, and a user of whose orders one fails for good has to wait.
    Halts,
    /// Changes of carts are of all classes, and somebody handles them in their order all the same.
    Strict,
    /// Three tenants do the same with the same keys, one of them nobody.
    Tenants,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ledgers,
        Self::Carts,
        Self::Notes,
        Self::Totals,
        Self::Calm,
        Self::Windows,
        Self::Halts,
        Self::Strict,
        Self::Tenants,
    ];
}

/// The parts that live in a run.
#[derive(Clone, Copy, Debug)]
pub struct Parts([bool; Part::ALL.len()]);

impl Parts {
    /// Few, half, most or all of them.
    fn of(rng: &mut Rng) -> Self {
        let share = rng.u8(1..5);
        Self(Part::ALL.map(|_| rng.u8(..4) < share))
    }

    /// Whether this one lives.
    pub fn has(&self, part: Part) -> bool {
        self.0[part as usize]
    }

    /// These as well.
    fn and(mut self, parts: &[Part]) -> Self {
        parts.iter().for_each(|part| self.0[*part as usize] = true);
        self
    }
}

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What decides all else.
    pub seed: u64,
    /// What lives in it.
    pub parts: Parts,
    /// How many users order: few, or so many that states of stages are kept as deltas.
    pub users: u32,
    /// Whether what was handled stays in the log.
    pub keeps_all: bool,
    /// How many events an epoch of a stage has.
    pub epoch: usize,
    /// Whether what was written is seen by others before those who wrote it are told.
    pub tells_late: bool,
    /// Whether the time of windows goes on with the clock when no reading comes.
    pub is_idle_timed: bool,
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
        let (parts, lives) = (Parts::of(&mut rng), rng.u64(1..4));
        Self {
            seed,
            parts,
            users,
            keeps_all: rng.u8(..4) > 0,
            epoch: if users > 16 { 50 } else { rng.usize(1..9) },
            tells_late: rng.u8(..4) > 0,
            is_idle_timed: rng.bool(),
            lives,
            rounds: rounds.div_ceil(usize::try_from(lives * 3).unwrap_or(1)),
        }
    }

    /// With these parts, whatever the seed says.
    pub fn with(self, parts: &[Part]) -> Self {
        Self { parts: self.parts.and(parts), ..self }
    }

    /// How many tenants there are, nobody among them.
    pub fn tenants(&self) -> u8 {
        if self.parts.has(Part::Tenants) { 3 } else { 1 }
    }

    /// Of which tenant an order is, by its number.
    pub fn tenant_of(&self, order: u64) -> u8 {
        (order % u64::from(self.tenants())).to_le_bytes()[0]
    }

    /// What the ids of a life are made of.
    pub fn id_seed(&self, life: u64) -> u64 {
        mix(&[self.seed, life, 31])
    }
}
