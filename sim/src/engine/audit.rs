//! Looks at what a crash has left of a whole engine: it opens, all that is owed is done, and all is as its chronicle says.

use std::{error::Error, sync::Arc, time::Duration};

use fastrand::Rng;
use millstream::{Draft, Runtime, Timestamp, store::Store};
use tokio::{
    task::yield_now,
    time::{sleep_until, timeout},
};

use super::{
    check::check,
    chronicle::{Chronicle, START},
    events::Reading,
    found::{Found, replay},
    life::in_virtual_time,
    plan::Part,
    stepped::Stepped,
    world::World,
};
use crate::{disk::SimDisk, drive::Opens, examine::contained, images::mix, wait::Hang};

/// How long it may take until all is done, in virtual time.
const REST: Duration = Duration::from_hours(1);
/// How often it may come to rest before nothing more is due.
const TURNS: usize = 10_000;

/// Opens the engine on a disk, at which its chronicle had recorded so many steps, lets it do all that it owes, and says what is
/// wrong.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn audit(
    opens: &dyn Opens,
    disk: &SimDisk,
    chronicle: &Chronicle,
    position: usize,
    seed: u64,
    has_crashed_again: bool,
) -> Result<Vec<String>, Hang> {
    let audit = || match opens.open_again(disk) {
        Ok(store) => Audit { chronicle, position, seed, has_crashed_again }.run(store, disk),
        Err(error) => Ok(vec![format!("the store does not open: {error}")]),
    };
    contained(audit).unwrap_or_else(|panic| Ok(vec![panic]))
}

struct Audit<'a> {
    chronicle: &'a Chronicle,
    position: usize,
    seed: u64,
    has_crashed_again: bool,
}

impl Audit<'_> {
    fn run(self, store: Arc<dyn Store>, disk: &SimDisk) -> Result<Vec<String>, Hang> {
        let stepped = Stepped::new(store, disk, None);
        let world = World::of(self.chronicle.plan, self.chronicle.effects.clone());
        let now = self.now(&world);
        let work = async {
            tokio::select! {
                biased;
                hang = commit_all(&stepped, Rng::with_seed(mix(&[self.seed, 71]))) => Err(hang),
                wrong = self.look(&stepped, &world, now) => Ok(wrong),
            }
        };
        let wrong = in_virtual_time(work).unwrap_or_else(|error| Ok(Err(error.into())))?;
        let mut wrong = wrong.unwrap_or_else(|error| vec![format!("work does not go on: {error}")]);
        stepped.finish()?;
        wrong.extend(world.take().0);
        Ok(wrong)
    }

    /// The machine was down for a while, and now and then its clock is wrong.
    fn now(&self, world: &World) -> Timestamp {
        let mut rng = Rng::with_seed(mix(&[self.seed, 61]));
        let moment = self.chronicle.moment(self.position);
        if rng.u8(..8) == 0 {
            world.set_back();
            return START;
        }
        let down = [Duration::ZERO, Duration::from_secs(5), Duration::from_hours(1)][rng.usize(..3)];
        // Nobody knows how far the first recovery came.
        moment + down + if self.has_crashed_again { 100 * REST } else { Duration::ZERO }
    }

    async fn look(&self, stepped: &Stepped, world: &Arc<World>, now: Timestamp) -> Result<Vec<String>, Box<dyn Error>> {
        let plan = &self.chronicle.plan;
        let runtime = world.open(stepped.store(), now, mix(&[self.seed, 51, u64::from(self.has_crashed_again)]))?;
        if plan.has(Part::Windows) {
            self.read_again(&runtime).await?;
        }
        rest(&runtime).await?;
        let found = Found::read(&runtime, plan).await?;
        let look = |found: &Found| check(self.chronicle, self.position, found, self.has_crashed_again);
        let mut wrong = look(&found);
        if !found.letters.is_empty() {
            world.mend(true);
            replay(&runtime);
            rest(&runtime).await?;
            let found = Found::read(&runtime, plan).await?;
            wrong.extend(look(&found));
            wrong.extend(found.letters.iter().map(|letter| format!("a dead letter stays: {}", letter.reason())));
        }
        if !runtime.stats().balances() {
            wrong.push(format!("the books do not balance: {:?}", runtime.stats()));
        }
        Ok(wrong)
    }

    /// One more reading, which is late wherever there was one before: or nobody remembers what was closed.
    async fn read_again(&self, runtime: &Runtime) -> Result<(), Box<dyn Error>> {
        let time = START - Duration::from_hours(1);
        // That of the first recovery may be there.
        let number = self.chronicle.readings.len() as u64 + u64::from(self.has_crashed_again);
        let reading = Draft::new(Reading { number, tenant: 0, meter: 0, at_ms: time.as_millis() }).time(time);
        runtime.emit(reading)?.await?;
        Ok(())
    }
}

/// Commits all that is handed over, at once, and tells of it then or a little later.
async fn commit_all(stepped: &Stepped, mut rng: Rng) -> Hang {
    loop {
        stepped.is_asked().await;
        if let Err(hang) = stepped.step(usize::MAX) {
            return hang;
        }
        for _ in 0..rng.u8(..3) {
            yield_now().await;
        }
        stepped.tell(usize::MAX);
    }
}

/// Lets a runtime do all that is due, and all that will be.
async fn rest(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let clock = runtime.clock();
    for _ in 0..TURNS {
        let report = timeout(REST, runtime.process()).await.map_err(|_| "it does not come to rest")??;
        match report.next_deadline {
            Some(next) => sleep_until(clock.instant_of(next)).await,
            None => return Ok(()),
        }
    }
    Err("it does not come to an end".into())
}
