//! Crash images: a store, or a whole engine, is driven through a workload on a simulated disk, and at steps of the disk the
//! machine stops. What is left is opened, held to the history, and worked on; a fifth of the images crash once more while
//! they are opened. In every second run the disk fails now and then as well.

use std::{
    collections::BTreeSet,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    crash::{Landing, Replay},
    disk::{Fault, FaultKind, SimDisk},
    drive::Faults,
    image::Image,
    level::{Level, LevelFor, Past, live},
    pool::each,
    wait::Hang,
};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many images to look at.
    pub images: u64,
    /// What decides all else.
    pub seed: u64,
    /// How many threads work.
    pub threads: usize,
}

/// Names an image of a seed, so that it can be looked at again: the run, the step, the kind of landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The run.
    pub run: u64,
    /// After how many steps of the disk the machine stopped.
    pub step: usize,
    /// Which of [`Landing::ALL`].
    pub landing: usize,
}

/// What is wrong, and with which image.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The image; none if it went wrong before anything crashed.
    pub place: Option<Place>,
    /// The run.
    pub run: u64,
    /// What is wrong.
    pub what: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Images looked at, those among them that had crashed again included.
    pub images: u64,
    /// Those that had crashed again while they were opened.
    pub again: u64,
    /// Runs.
    pub runs: u64,
    /// Batches that were handed over, or events that were emitted.
    pub handed: u64,
    /// Requests to the disk that were failed on purpose.
    pub injected: u64,
    /// Failures that the store told of.
    pub reported: u64,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

impl Tally {
    /// Adds the figures of another.
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.again += other.again;
        self.runs += other.runs;
        self.handed += other.handed;
        self.injected += other.injected;
        self.reported += other.reported;
        self.violations.extend(other.violations);
    }

    /// The figures.
    pub fn json(&self) -> Value {
        json!({
            "images": self.images,
            "violations": self.violations.len(),
            "errors_injected": self.injected,
            "errors_reported": self.reported,
            "crashed_again": self.again,
            "runs": self.runs,
            "handed": self.handed,
        })
    }
}

/// Looks at images until there were enough; `seen` is told of each.
///
/// # Errors
/// [`Hang`] if a store does not answer.
pub fn run(settings: Settings, levels: &LevelFor<'_>, seen: &(dyn Fn(u64) + Sync)) -> Result<Tally, Hang> {
    let left = AtomicU64::new(settings.images);
    let take = || {
        let taken = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        seen(u64::from(taken));
        taken
    };
    let work = |number| {
        if left.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let level = levels(number);
        let mut run = Run::new(settings.seed, number, &*level)?;
        run.all(&take)?;
        Ok(Some(run.tally))
    };
    each(settings.threads, work, Tally::add)
}

/// Looks at one image again.
///
/// # Errors
/// [`Hang`] if a store does not answer.
pub fn repeat(seed: u64, place: Place, levels: &LevelFor<'_>) -> Result<Tally, Hang> {
    let level = levels(place.run);
    let mut run = Run::new(seed, place.run, &*level)?;
    let recording = run.disk.take_recording();
    let mut replay = Replay::of(&recording);
    replay.go_to(place.step);
    run.one(&replay, place, &|| true)?;
    Ok(run.tally)
}

/// A workload, and the images of it.
struct Run<'a> {
    seed: u64,
    number: u64,
    stride: usize,
    disk: SimDisk,
    past: Box<dyn Past + 'a>,
    tally: Tally,
}

impl<'a> Run<'a> {
    fn new(seed: u64, number: u64, level: &'a dyn Level) -> Result<Self, Hang> {
        let disk = SimDisk::recording(Image::default());
        let mut rng = Rng::with_seed(mix(&[seed, number]));
        let (workload, rounds) = (rng.u64(..), rng.usize(8..40));
        let faults = if number % 2 == 1 { faults(&mut rng) } else { Faults::default() };
        let past = live(level, &disk, workload, rounds, faults)?;
        let (injected, reported, handed) = (disk.injected(), past.reported(), past.handed());
        let violation = |what: &String| Violation { place: None, run: number, what: what.clone() };
        let violations = past.wrong().iter().map(violation).collect();
        let tally = Tally { runs: 1, handed, injected, reported, violations, ..Tally::default() };
        Ok(Self { seed, number, stride: level.stride(), disk, past, tally })
    }

    fn all(&mut self, take: &dyn Fn() -> bool) -> Result<(), Hang> {
        let recording = self.disk.take_recording();
        let mut replay = Replay::of(&recording);
        let steps = recording.steps.len();
        let begin = Rng::with_seed(mix(&[self.seed, self.number, 9])).usize(..self.stride);
        let told = self.past.told();
        let few = Rng::with_seed(mix(&[self.seed, self.number, 10])).choose_multiple(told, steps / self.stride / 2);
        // The end as well: all that was acknowledged in the run is held to.
        let steps: BTreeSet<_> = (begin..steps).step_by(self.stride).chain(few).chain([steps]).collect();
        for step in steps {
            replay.go_to(step);
            let mut rng = Rng::with_seed(mix(&[self.seed, self.number, step as u64]));
            let chosen = if replay.is_pending() { 3 } else { 1 };
            for landing in std::iter::once(0).chain(rng.choose_multiple(1..Landing::ALL.len(), chosen - 1)) {
                if !take() {
                    return Ok(());
                }
                self.one(&replay, Place { run: self.number, step, landing }, take)?;
            }
        }
        Ok(())
    }

    /// Looks at one image, and perhaps at what a second crash leaves of it.
    fn one(&mut self, replay: &Replay<'_>, place: Place, take: &dyn Fn() -> bool) -> Result<(), Hang> {
        let mut rng = Rng::with_seed(mix(&[self.seed, self.number, place.step as u64, place.landing as u64, 7]));
        let landing = Landing::ALL[place.landing % Landing::ALL.len()];
        let image = replay.image(landing, &mut rng);
        let crashes_again = rng.u8(..5) == 0;
        let disk = if crashes_again { SimDisk::recording(image) } else { SimDisk::new(image) };
        self.look(&disk, place, false)?;
        if !crashes_again || !take() {
            return Ok(());
        }
        let recording = disk.take_recording();
        let mut again = Replay::of(&recording);
        again.go_to(rng.usize(..=recording.steps.len()));
        let landing = Landing::ALL[rng.usize(..Landing::ALL.len())];
        self.tally.again += 1;
        self.look(&SimDisk::new(again.image(landing, &mut rng)), place, true)
    }

    fn look(&mut self, disk: &SimDisk, place: Place, is_second: bool) -> Result<(), Hang> {
        self.tally.images += 1;
        let seed = mix(&[self.seed, self.number, place.step as u64, place.landing as u64, 8]);
        let wrong = self.past.examine(disk, place.step, seed, is_second)?;
        let violations = wrong.into_iter().map(|what| Violation { place: Some(place), run: self.number, what });
        self.tally.violations.extend(violations);
        Ok(())
    }
}

/// The first fault strikes somewhere in the run, the others after it.
fn faults(rng: &mut Rng) -> Faults {
    let kind = FaultKind::ALL[rng.usize(..FaultKind::ALL.len())];
    Faults { first: Some(Fault { at: rng.u64(..600), kind, lasts: rng.bool() }), seed: Some(rng.u64(..)) }
}

/// One number of several, each of which matters.
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9E37_79B9_7F4A_7C15, |mixed, part| Rng::with_seed(mixed ^ part).u64(..))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.run, self.step, self.landing)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "an image is named by three numbers: run.step.landing";
        let numbers: Vec<u64> = text.split('.').map_while(|part| part.parse().ok()).collect();
        let [run, step, landing] = numbers[..] else { return Err(SHAPE) };
        let small = |number| usize::try_from(number).map_err(|_| SHAPE);
        Ok(Self { run, step: small(step)?, landing: small(landing)? })
    }
}
