//! Settings that make no sense are refused when a chain is built, with what is allowed.

use std::{panic::catch_unwind, time::Duration};

use futures::stream::iter;
use millstream_operators::{
    BuildError, Identity, Timestamp,
    buffer::{Batch, BatchWeight, BufferCount, BufferTime, Tumbling, WindowCount},
    chain, flow,
    nested::{FlatMap, GroupBy, MapAsync},
    task::{Spawned, Wait},
    time::{Audit, Debounce, DebounceMax, Edge, RateLimit, Reorder, Sample, Throttle, Timeout},
};

const ZERO: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

fn refusals() -> Vec<Result<(), BuildError>> {
    vec![
        Debounce::new(ZERO).map(drop),
        DebounceMax::new(ZERO, SECOND).map(drop),
        DebounceMax::new(SECOND, Duration::from_millis(1)).map(drop),
        Throttle::new(ZERO, Edge::Both).map(drop),
        Audit::new(ZERO).map(drop),
        Sample::new(ZERO).map(drop),
        RateLimit::new(ZERO).map(drop),
        Reorder::new(|_: &u32| Timestamp::EPOCH, SECOND).max(0).map(drop),
        Timeout::each(ZERO).map(drop),
        Timeout::first(ZERO).map(drop),
        Timeout::first_and_each(SECOND, ZERO).map(drop),
        Batch::new(0, SECOND).map(drop),
        Batch::new(1, ZERO).map(drop),
        BatchWeight::new(0, SECOND, |_: &u32| 1).map(drop),
        BufferCount::new(0, 1).map(drop),
        BufferCount::new(1, 0).map(drop),
        BufferTime::new(ZERO).map(drop),
        BufferTime::new(SECOND).and_then(|buffer| buffer.max(0)).map(drop),
        Tumbling::new(ZERO, Identity).map(drop),
        WindowCount::new(0, 1).map(drop),
        WindowCount::new(1, 0).map(drop),
        FlatMap::new(iter([1]), 0, |x| iter([x])).map(drop),
        MapAsync::new(iter([1]), 0, |x| async move { x }).map(drop),
        GroupBy::new(iter([1]), |x| *x, Some(ZERO)).map(drop),
        Spawned::new(iter([1]), 0, Wait).map(drop),
    ]
}

#[test]
fn a_zero_is_refused_with_what_is_allowed() {
    for refused in refusals() {
        let message = refused.expect_err("a setting that makes no sense").to_string();
        assert!(message.contains("; allowed: "), "{message}");
    }
}

#[test]
fn the_fluent_methods_refuse_too_where_they_are_called() {
    let fluent: [fn(); 8] = [
        || drop(chain::<u32>().debounce(ZERO)),
        || drop(chain::<u32>().throttle(ZERO, Edge::Both)),
        || drop(chain::<u32>().sample(ZERO)),
        || drop(chain::<u32>().batch(0, SECOND)),
        || drop(chain::<u32>().buffer_count(0)),
        || drop(chain::<u32>().window_count(1, 0)),
        || drop(chain::<u32>().count().expire(ZERO)),
        || drop(flow(iter([1])).flat_map(0, |x| iter([x]))),
    ];
    for build in fluent {
        let panic = catch_unwind(build).expect_err("a setting that makes no sense");
        let message = panic.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        assert!(message.contains("; allowed: "), "{message}");
    }
}

#[test]
fn a_zero_that_makes_sense_is_allowed() {
    assert_eq!(chain().take(0).run_now([1]), []);
    assert_eq!(chain().skip(0).run_now([1]), [1]);
    assert_eq!(chain().delay(ZERO).run_now([1]), [1]);
}

#[test]
fn the_longest_period_does_not_overflow() {
    let chain = chain().debounce(Duration::MAX).delay(Duration::MAX);
    assert_eq!(chain.run_now([1]), [1]);
}
