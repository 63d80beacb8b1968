//! Errors of the disk: a workload is driven again and again, and each time another request to the disk fails, in each way
//! that it can, once or until the disk is mended. The store survives it or says so; in either case all that was
//! acknowledged is there, at once and after a crash.

use serde_json::{Value, json};

use crate::{
    crash::{Landing, Replay},
    disk::{Fault, FaultKind, Request, SimDisk},
    drive::Faults,
    image::Image,
    images::mix,
    level::{Level, live},
    pool::each,
    wait::Hang,
};

/// How many rounds the workload has.
const ROUNDS: usize = 10;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What decides the workload.
    pub seed: u64,
    /// How many threads work.
    pub threads: usize,
    /// Of how many points one is tried; 1 for all.
    pub stride: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were failed, each in one way.
    pub points: u64,
    /// Those of which nobody noticed anything.
    pub survived: u64,
    /// Those that the store reported.
    pub reported: u64,
    /// What crashes left, looked at afterwards.
    pub images: u64,
    /// What is wrong, and where.
    pub violations: Vec<(Point, String)>,
}

/// One request that fails.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// What fails.
    pub request: Request,
    /// When and how.
    pub fault: Fault,
}

impl Tally {
    /// Adds the figures of another.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.survived += other.survived;
        self.reported += other.reported;
        self.images += other.images;
        self.violations.extend(other.violations);
    }

    /// The figures.
    pub fn json(&self) -> Value {
        json!({
            "points": self.points,
            "survived": self.survived,
            "reported": self.reported,
            "images": self.images,
            "violations": self.violations.len(),
        })
    }
}

/// All that can fail while a workload goes on.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn points(seed: u64, level: &dyn Level) -> Result<Vec<Point>, Hang> {
    let disk = SimDisk::recording(Image::default());
    drop(live(level, &disk, mix(&[seed]), ROUNDS, Faults::default())?);
    let requests = (0..).zip(disk.requests());
    Ok(requests.flat_map(|(at, request)| ways(at, request)).collect())
}

fn ways(at: u64, request: Request) -> impl Iterator<Item = Point> {
    let kinds = FaultKind::ALL.into_iter().filter(move |kind| kind.befalls(request));
    kinds.flat_map(move |kind| [false, true].map(|lasts| Point { request, fault: Fault { at, kind, lasts } }))
}

/// Fails each request in each way; `seen` is told of each.
///
/// # Errors
/// [`Hang`] if a store does not answer.
pub fn run(
    settings: Settings,
    level: &dyn Level,
    points: &[Point],
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Tally, Hang> {
    let work = |number| {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_mul(settings.stride));
        let Some(point) = index.and_then(|index| points.get(index)) else { return Ok(None) };
        let tally = strike(settings.seed, level, *point)?;
        seen(1);
        Ok(Some(tally))
    };
    each(settings.threads, work, Tally::add)
}

/// Drives the workload with one fault, and then stops the machine.
fn strike(seed: u64, level: &dyn Level, point: Point) -> Result<Tally, Hang> {
    let disk = SimDisk::recording(Image::default());
    let faults = Faults { first: Some(point.fault), seed: None };
    let past = live(level, &disk, mix(&[seed]), ROUNDS, faults)?;
    let mut wrong = past.wrong().to_vec();
    if disk.injected() == 0 {
        wrong.push("the fault did not strike".to_owned());
    }
    let recording = disk.take_recording();
    let mut replay = Replay::of(&recording);
    replay.go_to(recording.steps.len());
    let mut rng = fastrand::Rng::with_seed(mix(&[seed, point.fault.at]));
    for landing in [Landing::All, Landing::Nothing, Landing::Sectors(50)] {
        let disk = SimDisk::new(replay.image(landing, &mut rng));
        wrong.extend(past.examine(&disk, recording.steps.len(), rng.u64(..), false)?);
    }
    let survived = u64::from(past.reported() == 0);
    let violations = wrong.into_iter().map(|what| (point, what)).collect();
    Ok(Tally { points: 1, survived, reported: 1 - survived, images: 3, violations })
}
