//! Flipped bits: a file that was closed well, and in it one bit that is not what was written. The store says so, or the bit
//! is one that nobody misses: then all is there, work goes on, and all is there after that as well.

use std::sync::Arc;

use fastrand::Rng;
use millstream::store::Store;
use serde_json::{Value, json};

use crate::{
    disk::SimDisk,
    drive::{Faults, Opens, OpensFor, drive},
    examine::{Trouble, contained, go_on},
    found::{Found, ReadError},
    history::HERE,
    image::Image,
    images::mix,
    pool::each,
    wait::{Hang, wait},
};

/// How many bits of each file are flipped.
const PER_FILE: u64 = 200;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many bits to flip.
    pub count: u64,
    /// What decides the files and the bits.
    pub seed: u64,
    /// How many threads work.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Bits that were flipped, one at a time.
    pub flips: u64,
    /// Flips that the store reported.
    pub detected: u64,
    /// Flips after which all was there.
    pub harmless: u64,
    /// What is wrong: the number of the file, the place, the bit, and what was seen.
    pub violations: Vec<(u64, u64, u8, String)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.flips += other.flips;
        self.detected += other.detected;
        self.harmless += other.harmless;
        self.violations.extend(other.violations);
    }

    /// The figures.
    pub fn json(&self) -> Value {
        json!({
            "flips": self.flips,
            "detected": self.detected,
            "harmless": self.harmless,
            "violations": self.violations.len(),
        })
    }
}

/// Turns a bit of a file round, and whatever else a planted bug asks for.
pub type Flip<'a> = dyn Fn(&mut Image, u64, u8) + Sync + 'a;

/// Flips bits; `seen` is told of each.
///
/// # Errors
/// [`Hang`] if a store does not answer.
pub fn run(
    settings: Settings,
    opens: &OpensFor<'_>,
    flip: &Flip<'_>,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Tally, Hang> {
    let work = |file: u64| {
        let count = settings.count.saturating_sub(file * PER_FILE).min(PER_FILE);
        if count == 0 {
            return Ok(None);
        }
        let mut rng = Rng::with_seed(mix(&[settings.seed, file, 3]));
        let opens = &*opens(file);
        let (image, reference) = file_of(opens, &mut rng)?;
        let used: Vec<u64> = image.used().collect();
        let mut tally = Tally::default();
        for _ in 0..count {
            let (at, bit) = (used[rng.usize(..used.len())], rng.u8(..8));
            let mut flipped = image.clone();
            flip(&mut flipped, at, bit);
            tally.flips += 1;
            match contained(|| look(opens, &SimDisk::new(flipped), &reference))
                .unwrap_or_else(|what| Ok(Seen::Wrong(what)))?
            {
                Seen::Detected => tally.detected += 1,
                Seen::Harmless => tally.harmless += 1,
                Seen::Wrong(what) => tally.violations.push((file, at, bit, what)),
            }
            seen(1);
        }
        Ok(Some(tally))
    };
    each(settings.threads, work, Tally::add)
}

/// A file that was closed well, and what is in it.
fn file_of(opens: &dyn Opens, rng: &mut Rng) -> Result<(Image, Found), Hang> {
    let disk = SimDisk::recording(Image::default());
    drive(opens, &disk, rng.u64(..), rng.usize(10..60), Faults::default())?;
    let image = disk.content();
    let store = opens.open(&SimDisk::new(image.clone())).map_err(|_| Hang)?;
    let found = Found::read(&*store).map_err(|_| Hang)?;
    Ok((image, found))
}

/// What a flip has led to.
enum Seen {
    Detected,
    Harmless,
    Wrong(String),
}

fn look(opens: &dyn Opens, disk: &SimDisk, reference: &Found) -> Result<Seen, Hang> {
    let Ok(store) = opens.open(disk) else { return Ok(Seen::Detected) };
    match try_all(&store, reference) {
        Ok(None) => Ok(Seen::Harmless),
        Ok(Some(wrong)) => Ok(Seen::Wrong(wrong)),
        Err(Trouble::Hang(hang) | Trouble::Read(ReadError::Hang(hang))) => Err(hang),
        Err(Trouble::Read(ReadError::Absurd(what))) => Ok(Seen::Wrong(what)),
        Err(_) => Ok(Seen::Detected),
    }
}

/// Reads all, writes a little, and reads all again.
fn try_all(store: &Arc<dyn Store>, reference: &Found) -> Result<Option<String>, Trouble> {
    if let Some(wrong) = Found::read(&**store)?.differs(reference) {
        return Ok(Some(wrong));
    }
    let claim = wait(store.claim(HERE))?.map_err(Trouble::Open)?;
    if let Some(wrong) = go_on(&**store, claim)? {
        return Ok(Some(wrong));
    }
    Ok(Found::read(&**store)?.differs(reference))
}
