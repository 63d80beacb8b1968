//! Lives of a runtime on a simulated disk: it is opened, worked with by many at once, and cut off, shut down or left when it
//! has come to rest; then it is opened again. Each step and each answer goes into a chronicle.
//!
//! All runs in one task in virtual time, and the store [commits](super::stepped) only when it is its turn; so the same seed
//! makes the same steps of the disk.

use std::{
    cell::{RefCell, RefMut},
    error::Error,
    fmt,
    future::pending,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use futures::future::join_all;
use millstream::{Runtime, Timestamp, store::Store};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use super::{
    bugs::EngineBug,
    chronicle::{Chronicle, Lost, START},
    found::{lost, replay},
    plan::{Part, Plan},
    stepped::Stepped,
    world::World,
};
use crate::{
    disk::SimDisk,
    drive::{Faults, Opens},
    images::mix,
    wait::Hang,
};

/// How long a run waits for rest at most, in virtual time.
const REST: Duration = Duration::from_mins(10);

/// What a run is made of.
pub struct Setting<'a> {
    /// How the store is opened.
    pub opens: &'a dyn Opens,
    /// The disk.
    pub disk: &'a SimDisk,
    /// A bug that is planted.
    pub bug: Option<EngineBug>,
    /// What goes wrong with the disk.
    pub faults: Faults,
}

impl fmt::Debug for Setting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("bug", &self.bug).field("faults", &self.faults).finish_non_exhaustive()
    }
}

/// Runs something in virtual time.
pub(super) fn in_virtual_time<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    Ok(tokio.map_err(|error| error.to_string())?.block_on(work))
}

/// The instant now, which the paused clock of the run owns.
#[expect(clippy::disallowed_methods, reason = "the clock of a run begins somewhere")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

/// Lives a plan.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn live(plan: Plan, setting: Setting<'_>) -> Result<Chronicle, Hang> {
    let chronicle = RefCell::new(Chronicle::new(plan));
    let world = World::of(plan, chronicle.borrow().effects.clone());
    let mut run = Run {
        plan,
        has_faults: setting.faults.first.is_some(),
        faults: RefCell::new(setting.faults),
        opens: setting.opens,
        disk: setting.disk,
        bug: setting.bug,
        chronicle,
        world,
        begun: None,
    };
    let lived = in_virtual_time(run.lives()).unwrap_or_else(|what| {
        run.say(what);
        Ok(())
    });
    let (wrong, effects) = run.world.take();
    let mut chronicle = run.chronicle.into_inner();
    chronicle.wrong.extend(wrong);
    chronicle.effects = effects;
    lived.map(|()| chronicle)
}

/// A run, while it goes on.
struct Run<'a> {
    plan: Plan,
    opens: &'a dyn Opens,
    disk: &'a SimDisk,
    bug: Option<EngineBug>,
    faults: RefCell<Faults>,
    has_faults: bool,
    chronicle: RefCell<Chronicle>,
    world: Arc<World>,
    begun: Option<Instant>,
}

/// One life of a runtime.
pub(super) struct Life<'a> {
    pub(super) plan: Plan,
    pub(super) runtime: Runtime,
    pub(super) disk: &'a SimDisk,
    chronicle: &'a RefCell<Chronicle>,
    world: &'a World,
    has_faults: bool,
}

impl Run<'_> {
    fn say(&self, what: impl Into<String>) {
        self.chronicle.borrow_mut().wrong.push(what.into());
    }

    fn now(&self) -> Timestamp {
        START + self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    async fn lives(&mut self) -> Result<(), Hang> {
        self.begun = Some(instant());
        self.faults.borrow_mut().next(self.disk);
        for number in 0..self.plan.lives {
            let Some(store) = self.open() else {
                self.say("the store does not open on a disk that was mended");
                return Ok(());
            };
            let stepped = Stepped::new(store, self.disk, self.bug);
            if let Err(error) = self.life(number, &stepped).await? {
                self.say(format!("the runtime cannot be opened: {error}"));
            }
            stepped.finish()?;
            if !stepped.is_last() {
                self.say("somebody keeps the store of a runtime that is gone");
            }
            drop(stepped);
            self.tell_time();
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    fn tell_time(&self) {
        let moment = (self.disk.position(), self.now());
        self.chronicle.borrow_mut().moments.push(moment);
    }

    /// Opens the store. On a broken disk it may fail; on one that was mended it must not.
    fn open(&self) -> Option<Arc<dyn Store>> {
        for is_mended in [false, true] {
            if is_mended {
                self.disk.mend();
            }
            // A store that is opened anew cannot know of a sync that failed before.
            self.disk.drop_cache();
            match self.opens.open(self.disk) {
                Ok(store) => return Some(store),
                Err(_) if self.has_faults => self.chronicle.borrow_mut().reported += 1,
                Err(error) => self.say(format!("the store does not open: {error}")),
            }
        }
        None
    }

    async fn life(&self, number: u64, stepped: &Stepped) -> Result<Result<(), Box<dyn Error>>, Hang> {
        let mut rng = Rng::with_seed(mix(&[self.plan.seed, number, 41]));
        let runtime = match self.world.open(stepped.store(), self.now(), self.plan.id_seed(number)) {
            Ok(runtime) => runtime,
            Err(error) => return Ok(Err(error)),
        };
        let life = Life {
            plan: self.plan,
            runtime,
            disk: self.disk,
            chronicle: &self.chronicle,
            world: &self.world,
            has_faults: self.has_faults,
        };
        let is_last = number + 1 == self.plan.lives;
        let cut = if rng.u8(..5) < 2 && !is_last { Some(Duration::from_millis(rng.u64(..30_000))) } else { None };
        tokio::select! {
            biased;
            hang = self.commit(&life, stepped, rng.fork()) => return Err(hang),
            () = life.drive(rng.fork()) => {}
            () = self.mend_disk() => {}
            () = life.work(rng.fork()) => {}
            () = cut_after(cut) => {}
        }
        Ok(Ok(()))
    }

    /// Lets the store commit what waits and tell of it, sooner or later, little or all of it.
    async fn commit(&self, life: &Life<'_>, stepped: &Stepped, mut rng: Rng) -> Hang {
        let before = self.chronicle.borrow().lost.last().map_or_else(Lost::new, |(_, lost)| lost.clone());
        loop {
            stepped.is_asked().await;
            dawdle(&mut rng).await;
            let count = if rng.bool() { usize::MAX } else { rng.usize(1..4) };
            if stepped.waiting() == 0 || stepped.untold() > 0 && rng.bool() {
                stepped.tell(count);
                continue;
            }
            if let Err(hang) = stepped.step(count) {
                return hang;
            }
            self.tell_time();
            life.note_losses(&before);
            // Else others see it before those who wrote it know.
            if !self.plan.tells_late || rng.bool() {
                stepped.tell(usize::MAX);
            }
        }
    }

    /// Mends a broken disk after a while; then the next fault may strike.
    async fn mend_disk(&self) {
        loop {
            sleep(Duration::from_secs(2)).await;
            if self.disk.is_broken() {
                self.disk.mend();
            }
            if self.has_faults && !self.disk.has_fault() {
                self.faults.borrow_mut().next(self.disk);
            }
        }
    }
}

/// Waits for nothing, for others who have something to do, or for a while.
async fn dawdle(rng: &mut Rng) {
    match rng.u8(..8) {
        0..2 => {}
        2..6 => {
            for _ in 0..rng.u8(1..5) {
                yield_now().await;
            }
        }
        _ => sleep(Duration::from_micros(rng.u64(..20_000))).await,
    }
}

async fn cut_after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

impl Life<'_> {
    /// The chronicle, which is never held while anything is awaited.
    pub(super) fn chronicle(&self) -> RefMut<'_, Chronicle> {
        self.chronicle.borrow_mut()
    }

    /// Notes what was lost, on top of what earlier lives have lost.
    fn note_losses(&self, before: &Lost) {
        if !self.plan.may_lose() {
            return;
        }
        let mut chronicle = self.chronicle();
        // A runtime that is gone says nothing any more.
        let mut known = chronicle.lost.last().map_or_else(Lost::new, |(_, lost)| lost.clone());
        for (name, count) in lost(&self.runtime) {
            let count = count + before.get(&name).copied().unwrap_or_default();
            known.insert(name, count);
        }
        chronicle.lost.push((self.disk.position(), known));
    }

    /// Something failed: that is wrong where nothing was broken.
    pub(super) fn report(&self, what: &str, error: &dyn fmt::Display) {
        let mut chronicle = self.chronicle();
        chronicle.reported += 1;
        if !self.has_faults {
            chronicle.wrong.push(format!("{what}: {error}"));
        }
    }

    /// Drives the runtime, all the time or now and then.
    async fn drive(&self, mut rng: Rng) {
        if rng.bool() {
            if let Err(error) = self.runtime.run().await {
                self.report("it cannot be driven", &error);
            }
            pending::<()>().await;
        }
        loop {
            if let Err(error) = self.runtime.process().await {
                self.report("it cannot be driven", &error);
                sleep(Duration::from_millis(100)).await;
            }
            sleep(Duration::from_millis(rng.u64(1..1_500))).await;
        }
    }

    /// Works with it, and leaves it in one way or another.
    async fn work(&self, mut rng: Rng) {
        let count = |parts: &[Part], count: u32| {
            if parts.iter().any(|part| self.plan.has(*part)) { count } else { 0 }
        };
        let emitters = join_all((0..3).map(|_| self.emit_orders(rng.fork())).collect::<Vec<_>>());
        let appenders = (0..count(&[Part::Carts, Part::Strict], 2)).map(|_| self.append_changes(rng.fork()));
        let appenders = join_all(appenders.collect::<Vec<_>>());
        let writers = join_all((0..count(&[Part::Notes], 1)).map(|_| self.write_notes(rng.fork())).collect::<Vec<_>>());
        let meters =
            join_all((0..count(&[Part::Windows], 1)).map(|_| self.read_meters(rng.fork())).collect::<Vec<_>>());
        tokio::join!(emitters, appenders, writers, meters, self.replay_letters(rng.fork()));
        match rng.u8(..3) {
            0 => drop(timeout(REST, self.runtime.shutdown(Duration::from_secs(30))).await),
            1 => {
                while let Ok(Ok(report)) = timeout(REST, self.runtime.process()).await
                    && let Some(next) = report.next_deadline
                {
                    tokio::time::sleep_until(self.runtime.clock().instant_of(next)).await;
                }
            }
            _ => sleep(Duration::from_millis(rng.u64(..100_000))).await,
        }
    }

    /// Replays dead letters while the bank is open for all.
    async fn replay_letters(&self, mut rng: Rng) {
        sleep(Duration::from_millis(rng.u64(..40_000))).await;
        self.world.mend(true);
        replay(&self.runtime);
        sleep(Duration::from_millis(rng.u64(..3_000))).await;
        self.world.mend(false);
    }
}
