//! Shows that planted bugs are caught: by crash images, by errors of the disk, or by flipped bits.

use serde_json::{Value, json};

use crate::{
    bugs::{Bug, Planted},
    disk::FaultKind,
    drive::Opens,
    flips,
    images::{self},
    io,
    level::{Level, StoreLevel},
    real::Real,
    unseen::flip_unseen,
    wait::Hang,
};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many images, flips or points each bug is looked for in.
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
    pub bug: Bug,
    /// What was looked at.
    pub tries: u64,
    /// How often it was seen through, by [its signs](Bug::signs).
    pub noticed: usize,
    /// What was said of it first; none if it was not caught.
    pub what: Option<String>,
}

/// The figures.
pub fn json(looked: &[Caught]) -> Value {
    let bugs = looked.iter().map(|caught| {
        let Caught { bug, tries, noticed, what } = caught;
        json!({"bug": format!("{bug:?}"), "tries": tries, "noticed": noticed, "what": what})
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
pub fn look_for(bug: Bug, settings: Settings) -> Result<Caught, Hang> {
    let Settings { tries, seed, threads } = settings;
    let (tries, mut seen) = match bug {
        Bug::SkippedCrc => {
            let settings = flips::Settings { count: tries, seed, threads };
            // A file that cannot be changed stays as it was, and so is harmless.
            let flip = |image: &mut _, at, bit| drop(flip_unseen(image, at, bit));
            let opens = |_| Box::new(Real::default()) as Box<dyn Opens>;
            let tally = flips::run(settings, &opens, &flip, &|_| {})?;
            (tally.flips, tally.violations.into_iter().map(|violation| violation.3).collect::<Vec<_>>())
        }
        Bug::DeafToSync => {
            let points = io::points(seed, &StoreLevel(Real::default()))?;
            let is_sync = |point: &io::Point| point.fault.kind == FaultKind::Unseen;
            let points: Vec<_> = points.into_iter().filter(is_sync).collect();
            let tally = io::run(io::Settings { seed, threads, stride: 1 }, &StoreLevel(Planted(bug)), &points, &|_| {})?;
            (tally.points, tally.violations.into_iter().map(|(_, what)| what).collect())
        }
        _ => {
            let levels = |_| Box::new(StoreLevel(Planted(bug))) as Box<dyn Level>;
            let tally = images::run(images::Settings { images: tries, seed, threads }, &levels, &|_| {})?;
            (tally.images, tally.violations.into_iter().map(|violation| violation.what).collect())
        }
    };
    seen.retain(|what| bug.signs().iter().any(|sign| what.contains(sign)));
    Ok(Caught { bug, tries, noticed: seen.len(), what: seen.into_iter().next() })
}
