use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_middleware::schedule::{Closed, Schedule, ScheduleLayer, Trigger, Weekday, drive};
use millstream_middleware::{Classify, ErrorKind, RetryHint};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::*;

const HOUR: Duration = Duration::from_hours(1);

/// A Friday, two hours before it opens.
const EARLY: &str = "2026-11-20T06:00:00Z";

fn office() -> Schedule {
    Schedule::hours([Weekday::Friday], "09:00", "17:00", "Europe/Berlin").unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_comes_early_is_refused_with_the_time_of_opening() {
    let layer = ScheduleLayer::refuse(office()).starting_at(EARLY).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let error = service.clone().oneshot(req(1, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer::<Closed>().unwrap().opens_in(), Some(HOUR * 2));
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Overloaded, RetryHint::After(HOUR * 2)));
    tokio::time::advance(HOUR * 2).await;
    assert!(service.oneshot(req(1, Act::Answer)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_comes_early_is_held_until_it_opens_unless_that_is_too_long() {
    let layer = ScheduleLayer::hold(office()).patience(HOUR * 3).starting_at(EARLY).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let start = now();
    assert!(service.clone().oneshot(req(1, Act::Answer)).await.is_ok());
    assert_eq!(now() - start, HOUR * 2);
    tokio::time::advance(HOUR * 8).await;
    let error = service.oneshot(req(1, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer::<Closed>().unwrap().opens_in(), Some(HOUR * 160), "next Friday is too far");
}

#[tokio::test(start_paused = true)]
async fn an_interval_does_not_drift_and_counts_what_it_skips() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let start = now();
    let skipped = Arc::new(Mutex::new(Vec::new()));
    let sink = skipped.clone();
    let trigger = Trigger::every(S * 10).unwrap();
    let run = drive(trigger, probe, move |tick| {
        let calls = u32::try_from(sink.lock().unwrap().len()).unwrap();
        sink.lock().unwrap().push(tick.skipped);
        req(calls, if calls == 1 { Act::Take(S * 25) } else { Act::Take(S) })
    });
    assert!(tokio::time::timeout(S * 65, run).await.is_err());
    assert_eq!(seen.times(start), [10.0, 20.0, 50.0, 60.0]);
    assert_eq!(*skipped.lock().unwrap(), [0, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_cron_trigger_ticks_in_its_zone() {
    let mut trigger = Trigger::cron_starting_at("0 9,10 * * *", "Europe/Berlin", EARLY).unwrap();
    let start = now();
    assert_eq!(trigger.tick().await.unwrap().skipped, 0);
    assert_eq!(now() - start, HOUR * 2);
    assert_eq!(trigger.tick().await.unwrap().skipped, 0);
    assert_eq!(now() - start, HOUR * 3);
    tokio::time::advance(HOUR * 24).await;
    assert_eq!(trigger.tick().await.unwrap().skipped, 1);
    assert_eq!(now() - start, HOUR * 27);
    assert!(Trigger::cron_starting_at("0 0 30 2 *", "UTC", EARLY).unwrap().tick().await.is_none());
    assert!(Trigger::every(Duration::ZERO).is_err());
    assert_eq!(Trigger::cron("x", "y").unwrap_err().refused().len(), 2);
}
