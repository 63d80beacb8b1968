//! Holds what the stage `windows` has made of readings to what it must make of them: each is in one window or came late.
//!
//! Where the watermark follows from the readings alone, a model of the stage says which windows have closed, with which
//! readings, and which came late. Where time goes on with the clock, nothing is open any more once all is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millstream::Timestamp;

use super::{
    check::Check,
    events::{LATENESS, Reading, WIDTH, Window, rooms},
};

/// A meter of a tenant.
type Meter = (u8, u32);

/// What a stage makes of readings.
struct Model {
    watermark: Timestamp,
    /// Readings by the begin of their windows.
    windows: BTreeMap<Meter, BTreeMap<u64, Vec<Reading>>>,
    late: BTreeSet<u64>,
}

/// When the window of a time began.
fn start_of(at_ms: u64) -> u64 {
    let width = millis(WIDTH);
    at_ms - at_ms % width
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Model {
    fn of(readings: impl Iterator<Item = Reading>) -> Self {
        let mut model = Self { watermark: Timestamp::EPOCH, windows: BTreeMap::new(), late: BTreeSet::new() };
        readings.for_each(|reading| model.take(reading));
        model
    }

    fn take(&mut self, reading: Reading) {
        let at = Timestamp::from_millis(reading.at_ms);
        if at < self.watermark {
            self.late.insert(reading.number);
            return;
        }
        self.watermark = self.watermark.max(at - LATENESS);
        let windows = self.windows.entry((reading.tenant, reading.meter)).or_default();
        windows.entry(start_of(reading.at_ms)).or_default().push(reading);
    }

    /// The windows that have closed, in their order.
    fn closed(self) -> BTreeMap<Meter, Vec<Window>> {
        let mut closed = BTreeMap::<_, Vec<_>>::new();
        for (meter, windows) in self.windows {
            let is_closed = |start_ms: &u64| Timestamp::from_millis(*start_ms) + WIDTH <= self.watermark;
            for (start_ms, mut readings) in windows.into_iter().filter(|(start_ms, _)| is_closed(start_ms)) {
                readings.sort_by_key(|reading| reading.at_ms);
                let readings = readings.into_iter().map(|reading| reading.number).collect();
                closed.entry(meter).or_default().push(Window { tenant: meter.0, meter: meter.1, start_ms, readings });
            }
        }
        closed
    }
}

impl Check<'_> {
    /// Each reading that is there is in one window, or late, with the reason; and the stage's count of those is exact.
    pub(super) fn windows(&mut self) -> Result<(), String> {
        let late = self.late()?;
        let chronicle = self.chronicle;
        // The last ones are of nobody, and came after the crash.
        let tenant_of = |number| {
            let asked = chronicle.readings.get(usize::try_from(number).ok()?);
            Some(asked.map_or(0, |asked| asked.what.tenant))
        };
        let rows: BTreeMap<u64, u64> = self.rows_of(rooms::READ, tenant_of)?;
        for (number, times) in rows.iter().filter(|(number, times)| **times != 1 || late.contains(number)) {
            self.say(format!("reading {number} was in {times} windows, which is not what came in; late: {late:?}"));
        }
        let windowed: BTreeSet<u64> = rows.into_keys().collect();
        if self.keeps_all() {
            self.windows_of_log(&windowed, &late);
        }
        for (asked, number) in chronicle.readings.iter().zip(0..) {
            let is_there = windowed.contains(&number) || late.contains(&number);
            // Else its window may be open.
            if is_there || chronicle.plan.is_idle_timed {
                self.hold(asked, is_there, &format!("reading {number}"));
            }
        }
        Ok(())
    }

    /// The numbers of what came late.
    fn late(&mut self) -> Result<BTreeSet<u64>, String> {
        let found = self.found;
        let mut late = BTreeSet::new();
        for letter in &found.late {
            let reading: Reading = letter.event.decode().map_err(|error| error.to_string())?;
            if !late.insert(reading.number) || letter.subscription.as_deref() != Some("windows") {
                self.say(format!("reading {} was late twice, or at {:?}", reading.number, letter.subscription));
            }
        }
        if late.len() as u64 != found.counted_late {
            self.say(format!("{} readings are late, and {} were counted", late.len(), found.counted_late));
        }
        Ok(late)
    }

    /// The log has all readings: so it says what the windows are.
    fn windows_of_log(&mut self, windowed: &BTreeSet<u64>, late: &BTreeSet<u64>) {
        let found = self.found;
        let mut said = BTreeMap::<Meter, Vec<Window>>::new();
        for (_, window) in found.events::<Window>() {
            said.entry((window.tenant, window.meter)).or_default().push(window);
        }
        let handled: BTreeSet<u64> = said.values().flatten().flat_map(|window| window.readings.clone()).collect();
        if handled != *windowed {
            self.say(format!("windows have the readings {handled:?}, and {windowed:?} were handled"));
        }
        let mut there = BTreeSet::new();
        for (_, reading) in found.events::<Reading>() {
            if !there.insert(reading.number) {
                self.say(format!("reading {} is there twice", reading.number));
            }
        }
        for (asked, number) in self.chronicle.readings.iter().zip(0..) {
            self.hold(asked, there.contains(&number), &format!("reading {number}"));
        }
        if self.chronicle.plan.is_idle_timed {
            let done: BTreeSet<u64> = windowed.union(late).copied().collect();
            if done != there || !said.values().all(|windows| are_well(windows)) {
                self.say(format!("of {there:?} late are {late:?}; the rest is not what came in: {said:?}"));
            }
            return;
        }
        let model = Model::of(found.events::<Reading>().map(|(_, reading)| reading));
        if *late != model.late {
            self.say(format!("late are {late:?}, which is not what came in: {:?}", model.late));
        }
        let expected = model.closed();
        if said != expected {
            self.say(format!("windows are {said:?}, not what came in: {expected:?}"));
        }
    }
}

/// Whether windows of a meter come one after the other.
fn are_well(windows: &[Window]) -> bool {
    windows.is_sorted_by(|one, next| one.start_ms < next.start_ms) && windows.iter().all(|one| !one.readings.is_empty())
}
