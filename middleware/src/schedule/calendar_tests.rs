use super::*;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn wait(schedule: &Schedule, local: &str) -> Duration {
    let zoned: Zoned = local.parse().unwrap();
    schedule.opens_in(zoned.timestamp()).unwrap()
}

#[test]
fn hours_open_and_close_in_their_zone() {
    let workdays = [Weekday::Monday, Weekday::Friday];
    let office = Schedule::hours(workdays, "09:00", "17:00", "Europe/Berlin").unwrap();
    assert_eq!(wait(&office, "2026-11-20T09:00[Europe/Berlin]"), Duration::ZERO, "a Friday");
    assert_eq!(wait(&office, "2026-11-20T08:59[Europe/Berlin]"), MINUTE);
    assert_eq!(wait(&office, "2026-11-20T17:00[Europe/Berlin]"), HOUR * 64, "closed: Monday at nine");
    assert_eq!(office.opens_in(at("2026-11-20T08:00:00Z")), Some(Duration::ZERO), "nine in Berlin");
}

#[test]
fn hours_may_reach_into_the_next_day() {
    let night = Schedule::hours([Weekday::Saturday], "22:00", "04:00", "UTC").unwrap();
    assert_eq!(wait(&night, "2026-11-21T23:00[UTC]"), Duration::ZERO);
    assert_eq!(wait(&night, "2026-11-22T03:59[UTC]"), Duration::ZERO, "Sunday, but still Saturday's night");
    assert_eq!(wait(&night, "2026-11-22T04:00[UTC]"), HOUR * 162);
    assert_eq!(wait(&night, "2026-11-21T03:00[UTC]"), HOUR * 19, "Friday has no night");
}

#[test]
fn a_cron_pattern_opens_whole_minutes() {
    let cron = Schedule::cron("30-31 9 * * MON-FRI", "America/New_York").unwrap();
    assert_eq!(wait(&cron, "2026-11-20T09:31:59[America/New_York]"), Duration::ZERO);
    assert_eq!(wait(&cron, "2026-11-20T09:29:30[America/New_York]"), MINUTE / 2);
    assert_eq!(wait(&cron, "2026-11-20T09:32[America/New_York]"), HOUR * 71 + MINUTE * 58);
}

#[test]
fn an_opening_in_the_gap_of_the_clock_is_at_its_end() {
    let every_day = [Weekday::Sunday];
    let gap = Schedule::hours(every_day, "02:30", "05:00", "Europe/Berlin").unwrap();
    // On 29 March 2026 clocks go from 2:00 to 3:00.
    assert_eq!(wait(&gap, "2026-03-29T01:59[Europe/Berlin]"), MINUTE * 31);
    assert_eq!(wait(&gap, "2026-03-29T03:30[Europe/Berlin]"), Duration::ZERO);
}

#[test]
fn two_schedules_are_open_when_either_is_and_nonsense_is_refused_at_once() {
    let noon = Schedule::cron("0 12 * * *", "UTC").unwrap();
    let midnight = Schedule::cron("0 0 * * *", "UTC").unwrap();
    assert_eq!(wait(&noon.or(midnight), "2026-11-20T13:00[UTC]"), HOUR * 11);
    assert_eq!(Schedule::hours([], "25:00", "x", "Mars/Base").unwrap_err().refused().len(), 4);
    assert_eq!(Schedule::cron("* * *", "Mars/Base").unwrap_err().refused().len(), 2);
    let never = Schedule::cron("0 0 30 2 *", "UTC").unwrap();
    assert_eq!(never.opens_in(at("2026-11-20T00:00:00Z")), None);
}
