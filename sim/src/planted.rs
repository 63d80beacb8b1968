//! Shows that planted bugs are caught: by crash images, by errors of the disk, or by flipped bits.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    bugs::{Bug, Planted},
    disk::FaultKind,
    drive::Opens,
    engine::bugs::EngineBug,
    flips,
    images::{self},
    io,
    level::{EngineLevel, LevelFor, StoreLevel},
    real::Real,
    unseen::flip_unseen,
    wait::Hang,
};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many images, flips or points each bug is looked for in at most.
    pub tries: u64,
    /// What decides all else.
    pub seed: u64,
    /// How many threads work.
    pub threads: usize,
}

/// What came of one bug.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The bug.
    pub bug: Planting,
    /// What was looked at.
    pub tries: u64,
    /// How often it was seen through, by its signs.
    pub noticed: usize,
    /// What was said of it first; none if it was not caught.
    pub what: Option<String>,
}

/// Where a bug is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planting {
    /// In the store.
    Store(Bug),
    /// Between the engine and its store.
    Engine(EngineBug),
}

impl Planting {
    /// All bugs.
    pub fn all() -> impl Iterator<Item = Self> {
        Bug::ALL.map(Self::Store).into_iter().chain(EngineBug::ALL.map(Self::Engine))
    }

    fn signs(self) -> &'static [&'static str] {
        match self {
            Self::Store(bug) => bug.signs(),
            Self::Engine(bug) => bug.signs(),
        }
    }

    /// Whether this is said of one who has seen through it.
    fn gives_away(self, what: &str) -> bool {
        self.signs().iter().any(|sign| what.contains(sign))
    }

    fn level(self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Engine(_) => "engine",
        }
    }
}

impl fmt::Display for Planting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(bug) => fmt::Debug::fmt(bug, f),
            Self::Engine(bug) => fmt::Debug::fmt(bug, f),
        }
    }
}

/// The figures.
pub fn json(looked: &[Caught]) -> Value {
    let bugs = looked.iter().map(|caught| {
        let Caught { bug, tries, noticed, what } = caught;
        json!({
            "bug": bug.to_string(),
            "level": bug.level(),
            "tries": tries,
            "noticed": noticed,
            "what": what,
        })
    });
    let missed = looked.iter().filter(|caught| caught.what.is_none()).count();
    json!({
        "planted": looked.len(),
        "caught": looked.len() - missed,
        "violations": missed,
        "bugs": bugs.collect::<Vec<_>>(),
    })
}

/// Looks for a bug.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn look_for(planting: Planting, settings: Settings) -> Result<Caught, Hang> {
    let (tries, mut seen) = match planting {
        Planting::Store(Bug::SkippedCrc) => flip(settings)?,
        Planting::Store(bug @ Bug::DeafToSync) => fail_syncs(bug, settings)?,
        Planting::Store(bug) => crash(planting, settings, &|_| Box::new(StoreLevel(Planted(bug))))?,
        Planting::Engine(bug) => {
            let opens = Real::default();
            crash(planting, settings, &|_| Box::new(EngineLevel { opens, bug: Some(bug) }))?
        }
    };
    seen.retain(|what| planting.gives_away(what));
    Ok(Caught { bug: planting, tries, noticed: seen.len(), what: seen.into_iter().next() })
}

/// How many images of one seed are looked at.
const FEW: u64 = 60;

/// How much was looked at, and all that was said of it.
type Seen = (u64, Vec<String>);

/// Looks at images of one seed after the other until the bug is caught.
fn crash(planting: Planting, settings: Settings, levels: &LevelFor<'_>) -> Result<Seen, Hang> {
    let Settings { tries, seed, threads } = settings;
    let (mut looked, mut seen) = (0, Vec::new());
    for seed in seed.. {
        let tally =
            images::run(images::Settings { images: (tries - looked).min(FEW), seed, threads }, levels, &|_| {})?;
        looked += tally.images;
        seen.extend(tally.violations.into_iter().map(|violation| violation.what));
        if looked >= tries || seen.iter().any(|what| planting.gives_away(what)) {
            break;
        }
    }
    Ok((looked, seen))
}

fn flip(Settings { tries, seed, threads }: Settings) -> Result<Seen, Hang> {
    let settings = flips::Settings { count: tries, seed, threads };
    // A file that cannot be changed stays as it was, and so is harmless.
    let flip = |image: &mut _, at, bit| drop(flip_unseen(image, at, bit));
    let opens = |_| Box::new(Real::default()) as Box<dyn Opens>;
    let tally = flips::run(settings, &opens, &flip, &|_| {})?;
    Ok((tally.flips, tally.violations.into_iter().map(|violation| violation.3).collect()))
}

fn fail_syncs(bug: Bug, Settings { seed, threads, .. }: Settings) -> Result<Seen, Hang> {
    let points = io::points(seed, &StoreLevel(Real::default()))?;
    let is_sync = |point: &io::Point| point.fault.kind == FaultKind::Unseen;
    let points: Vec<_> = points.into_iter().filter(is_sync).collect();
    let tally = io::run(io::Settings { seed, threads, stride: 1 }, &StoreLevel(Planted(bug)), &points, &|_| {})?;
    Ok((tally.points, tally.violations.into_iter().map(|(_, what)| what).collect()))
}
