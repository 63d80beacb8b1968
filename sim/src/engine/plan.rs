//! What a seed decides of a run of the whole engine.

use std::time::Duration;

use fastrand::Rng;
use millstream::{Limits, Retention};

use super::bugs::EngineBug;
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
struct Parts([bool; Part::ALL.len()]);

impl Parts {
    /// Few, half, most or all of them.
    fn of(rng: &mut Rng) -> Self {
        let share = rng.u8(1..5);
        Self(Part::ALL.map(|_| rng.u8(..4) < share))
    }

    /// These as well.
    fn and(mut self, parts: &[Part]) -> Self {
        for part in parts {
            self.0[*part as usize] = true;
        }
        self
    }
}

/// What stays in the log of what was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// All.
    All,
    /// Nothing, once there is enough to trim.
    Nothing,
    /// As many as there is room for in so many bytes.
    Bytes(u64),
    /// As many as several limits allow, of which this is the one of bytes.
    Within(u64),
    /// As many as there is room for in so many bytes, whoever has not handled them.
    Strictly(u64),
}

impl Keeps {
    fn of(rng: &mut Rng) -> Self {
        let bytes = rng.u64(4_000..60_000);
        match rng.u8(..8) {
            0..5 => Self::All,
            5 => Self::Nothing,
            6 if rng.bool() => Self::Bytes(bytes),
            6 => Self::Within(bytes),
            _ => Self::Strictly(bytes),
        }
    }

    /// As the runtime has it.
    pub fn retention(self) -> Retention {
        match self {
            Self::Strictly(bytes) => Retention::Within(Limits::new().bytes(bytes).strict()),
            Self::All => Retention::All,
            Self::Nothing => Retention::Handled,
            Self::Bytes(bytes) => Retention::Bytes(bytes),
            Self::Within(bytes) => {
                Retention::Within(Limits::new().bytes(bytes).age(Duration::from_hours(1)).events(3_000))
            }
        }
    }
}

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What decides all else.
    pub seed: u64,
    /// What lives in it.
    parts: Parts,
    /// How many users order: few, or so many that states of stages are kept as deltas.
    pub users: u32,
    /// What stays in the log.
    pub keeps: Keeps,
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
            keeps: Keeps::of(&mut rng),
            epoch: if users > 16 { 50 } else { rng.usize(1..9) },
            tells_late: rng.u8(..4) > 0,
            is_idle_timed: rng.bool(),
            lives,
            rounds: rounds.div_ceil(usize::try_from(lives * 3).unwrap_or(1)),
        }
    }

    /// With what is needed to see a bug, whatever the seed says.
    #[must_use]
    pub fn to_see(self, bug: Option<EngineBug>) -> Self {
        let Some(bug) = bug else { return self };
        Self { parts: self.parts.and(bug.needs()), keeps: bug.keeps().unwrap_or(Keeps::All), ..self }
    }

    /// Whether this part lives. Where events may be lost, those do not whose handlers would see that one is missing.
    pub fn has(&self, part: Part) -> bool {
        let misses_none = !matches!(part, Part::Ledgers | Part::Carts | Part::Notes | Part::Tenants);
        self.parts.0[part as usize] && !(self.may_lose() && misses_none)
    }

    /// Whether a subscription may lose what it has not handled, and is told so.
    pub fn may_lose(&self) -> bool {
        matches!(self.keeps, Keeps::Strictly(_))
    }

    /// Whether the log says all that there was.
    pub fn keeps_all(&self) -> bool {
        self.keeps == Keeps::All
    }

    /// How many tenants there are, nobody among them.
    pub fn tenants(&self) -> u8 {
        if self.has(Part::Tenants) { 3 } else { 1 }
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
