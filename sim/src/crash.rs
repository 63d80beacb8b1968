//! What a crash leaves of a recording: all that was synced, and any part of what was not.

use std::collections::HashSet;

use crate::{
    disk::{Recording, Step},
    image::{Image, SECTOR, pieces},
};

/// What becomes of the steps since the last sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// All landed, in their order.
    All,
    /// None landed.
    Nothing,
    /// All landed, but of the last write only some sectors from its begin.
    Torn,
    /// Each landed whole or not at all, by this chance in a hundred.
    Writes(u8),
    /// Each sector holds what it held after one of its writes, or before all of them; each write landed in it by this
    /// chance in a hundred.
    Sectors(u8),
}

impl Landing {
    /// What is tried at each crash. The kinds by chance stay alike for the share of writes that land.
    pub const ALL: [Self; 8] = [
        Self::All,
        Self::Nothing,
        Self::Torn,
        Self::Writes(50),
        Self::Sectors(50),
        Self::Sectors(90),
        Self::Sectors(10),
        Self::Sectors(97),
    ];
}

/// A recording, looked at from one moment after the other.
#[derive(Debug)]
pub struct Replay<'a> {
    steps: &'a [Step],
    /// What is safe at this moment.
    settled: Image,
    settled_at: usize,
    position: usize,
}

impl<'a> Replay<'a> {
    /// At the begin of some steps, on a disk that held `base`.
    pub fn new(base: &Image, steps: &'a [Step]) -> Self {
        Self { steps, settled: base.clone(), settled_at: 0, position: 0 }
    }

    /// At the begin of a recording.
    pub fn of(recording: &'a Recording) -> Self {
        Self::new(&recording.base, &recording.steps)
    }

    /// Goes to the moment after so many steps. It cannot go back.
    pub fn go_to(&mut self, position: usize) {
        for (index, step) in self.steps.iter().enumerate().take(position).skip(self.position) {
            let (landing, seed, unseen) = match step {
                Step::Sync => (Landing::All, 0, false),
                Step::FailedSync { seed, unseen } => (Landing::Sectors(50), *seed, *unseen),
                Step::Write { .. } | Step::SetLen(_) => continue,
            };
            let mut settled = self.land(index, landing, &mut fastrand::Rng::with_seed(seed));
            // The system counts pages as written that are not, but not the length of a file: writing there makes it longer.
            let mut lengths = self.steps[self.settled_at..index].iter().filter(|_| unseen);
            if let Some(Step::SetLen(len)) = lengths.rfind(|step| matches!(step, Step::SetLen(_))) {
                settled.set_len(*len);
            }
            self.settled = settled;
            self.settled_at = index + 1;
        }
        self.position = self.position.max(position);
    }

    /// Whether any step is not safe yet.
    pub fn is_pending(&self) -> bool {
        self.settled_at < self.position
    }

    /// What a crash at this moment leaves.
    pub fn image(&self, landing: Landing, rng: &mut fastrand::Rng) -> Image {
        self.land(self.position, landing, rng)
    }

    fn land(&self, end: usize, landing: Landing, rng: &mut fastrand::Rng) -> Image {
        let pending = &self.steps[self.settled_at..end];
        let mut after = After { image: self.settled.clone(), landing, rng, missed: HashSet::new() };
        for (index, step) in pending.iter().enumerate() {
            let is_last = index + 1 == pending.len();
            match step {
                Step::SetLen(len) if after.lands() => after.image.set_len(*len),
                Step::Write { offset, data } if is_last && landing == Landing::Torn => after.tear(*offset, data),
                Step::Write { offset, data } => after.write(*offset, data),
                Step::SetLen(_) | Step::Sync | Step::FailedSync { .. } => {}
            }
        }
        after.image
    }
}

/// What a crash leaves, while it is put together.
struct After<'a> {
    image: Image,
    landing: Landing,
    rng: &'a mut fastrand::Rng,
    /// A sector that missed a write misses those after it: it is whole as of one moment.
    missed: HashSet<u64>,
}

impl After<'_> {
    fn lands(&mut self) -> bool {
        match self.landing {
            Landing::All | Landing::Torn => true,
            Landing::Nothing => false,
            Landing::Writes(chance) | Landing::Sectors(chance) => self.rng.u8(..100) < chance,
        }
    }

    fn tear(&mut self, offset: u64, data: &[u8]) {
        let sectors = pieces(offset, data.len(), SECTOR).count();
        let landed = pieces(offset, data.len(), SECTOR).take(self.rng.usize(..sectors.max(1))).last();
        self.image.write_inside(offset, &data[..landed.map_or(0, |part| part.end)]);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if !matches!(self.landing, Landing::Sectors(_)) {
            if self.lands() {
                self.image.write_inside(offset, data);
            }
            return;
        }
        for part in pieces(offset, data.len(), SECTOR) {
            let at = offset + part.start as u64;
            let sector = at / SECTOR as u64;
            if self.missed.contains(&sector) || !self.lands() {
                self.missed.insert(sector);
            } else {
                self.image.write_inside(at, &data[part]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let write = |offset: u64, byte| Step::Write { offset, data: vec![byte; 1024].into() };
        let steps = vec![Step::SetLen(4096), write(0, 1), Step::Sync, write(0, 2), write(1024, 3), write(0, 4)];
        Recording { base: Image::default(), steps }
    }

    fn sectors(image: &Image) -> Vec<u8> {
        let mut out = vec![0; usize::try_from(image.len()).unwrap()];
        image.read(0, &mut out).unwrap();
        out.chunks(SECTOR)
            .inspect(|sector| assert!(sector.iter().all(|byte| *byte == sector[0])))
            .map(|s| s[0])
            .collect()
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_as_it_landed() {
        let recording = recording();
        let mut replay = Replay::of(&recording);
        replay.go_to(6);
        let mut rng = fastrand::Rng::with_seed(5);
        assert!(replay.is_pending());
        assert_eq!(sectors(&replay.image(Landing::Nothing, &mut rng))[..4], [1, 1, 0, 0]);
        assert_eq!(sectors(&replay.image(Landing::All, &mut rng))[..4], [4, 4, 3, 3]);
        let mut seen = HashSet::new();
        for _ in 0..200 {
            seen.insert(sectors(&replay.image(Landing::Sectors(50), &mut rng))[..4].to_vec());
        }
        // Three moments for each of the first two sectors, two for each of the others.
        assert_eq!(seen.len(), 36);
    }

    #[test]
    fn a_torn_write_ends_at_a_sector_and_those_before_it_are_whole() {
        let recording = recording();
        let mut replay = Replay::of(&recording);
        replay.go_to(6);
        let seen: HashSet<_> = (0..50)
            .map(|seed| sectors(&replay.image(Landing::Torn, &mut fastrand::Rng::with_seed(seed)))[..4].to_vec())
            .collect();
        assert_eq!(seen, HashSet::from([vec![2, 2, 3, 3], vec![4, 2, 3, 3]]));
    }

    #[test]
    fn what_a_failed_sync_lost_never_lands() {
        let mut recording = recording();
        recording.steps.extend([Step::FailedSync { seed: 3, unseen: true }, Step::Sync]);
        let mut replay = Replay::of(&recording);
        replay.go_to(7);
        let mut rng = fastrand::Rng::with_seed(0);
        let lost = sectors(&replay.image(Landing::All, &mut rng));
        assert_ne!(lost[..4], [4, 4, 3, 3]);
        replay.go_to(8);
        assert_eq!(sectors(&replay.image(Landing::All, &mut rng)), lost);
    }
}
