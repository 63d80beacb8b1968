//! Settings of a runtime, of its quotas and limits.

use std::time::Duration;

use millstream::{
    Builder, Draft, Handler, Json, Limits, Overflow, Priority, Retention, Retry, Runtime, Start, UnroutedPolicy,
    store::Memory,
    testing::{self, TestKit},
};
use proptest::prelude::*;

use crate::cases;

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), Just(2), Just(10), Just(1_000), Just(usize::MAX), any::<usize>()]
}

fn time() -> impl Strategy<Value = Duration> {
    let any = any::<u64>().prop_map(Duration::from_nanos);
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::from_secs(1)),
        Just(Duration::MAX),
        any
    ]
}

fn retention() -> impl Strategy<Value = Retention> {
    let limits =
        (prop::option::of(time()), prop::option::of(any::<u64>()), prop::option::of(any::<u64>()), any::<bool>());
    let within = limits.prop_map(|(age, events, bytes, strict)| {
        let mut limits = Limits::new();
        limits = age.map_or(limits, |age| limits.age(age));
        limits = events.map_or(limits, |events| limits.events(events));
        limits = bytes.map_or(limits, |bytes| limits.bytes(bytes));
        Retention::Within(if strict { limits.strict() } else { limits })
    });
    let one = prop_oneof![Just(0), Just(1), any::<u64>()];
    prop_oneof![
        Just(Retention::Handled),
        Just(Retention::All),
        time().prop_map(Retention::Age),
        one.clone().prop_map(Retention::Events),
        one.prop_map(Retention::Bytes),
        within,
    ]
}

/// One setting more.
type Set = Box<dyn FnOnce(Builder) -> Builder>;

fn setting() -> impl Strategy<Value = (u8, usize, Duration, u32)> {
    (0_u8..15, size(), time(), prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()])
}

fn apply(builder: Builder, (which, size, time, number): (u8, usize, Duration, u32)) -> Builder {
    let set: Set = match which {
        0 => Box::new(move |b| b.queue_size(size)),
        1 => Box::new(move |b| b.batch_size(size)),
        2 => Box::new(move |b| b.operation_timeout(time)),
        3 => Box::new(move |b| b.max_event_depth(number)),
        4 => Box::new(move |b| b.max_events_per_root(number)),
        5 => Box::new(move |b| b.max_event_size(size)),
        6 => Box::new(move |b| b.measure_typed_events(number.is_multiple_of(2))),
        7 => Box::new(move |b| b.delayed_size(size)),
        8 => Box::new(move |b| b.dead_letter_size(size)),
        9 => Box::new(move |b| b.reserve(Priority::ALL[number as usize % 4], size)),
        10 => Box::new(move |b| b.idempotency_window(time)),
        11 => Box::new(move |b| b.max_value_size(size)),
        12 => Box::new(move |b| {
            b.overflow([Overflow::Refuse, Overflow::DropOldest, Overflow::DropNewest][number as usize % 3])
        }),
        13 => Box::new(move |b| b.recent_bytes(size)),
        _ => Box::new(move |b| {
            b.unrouted([UnroutedPolicy::Ignore, UnroutedPolicy::Warn, UnroutedPolicy::DeadLetter][number as usize % 3])
        }),
    };
    set(builder)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn any_settings_are_refused_or_work(settings in prop::collection::vec(setting(), 0..5), kept in prop::option::of(retention()), attempts in 0_u32..4, concurrency in size(), timeout in time()) {
        let build = || {
            let builder = settings.iter().fold(Runtime::builder().seed(7), |builder, set| apply(builder, *set));
            match kept {
                Some(kept) => builder.store(Memory::new()).retention(kept),
                None => builder,
            }
        };
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let refused = tokio.block_on(async { build().build().err() });
        if let Some(refused) = refused {
            prop_assert!(!refused.refused().is_empty());
            prop_assert!(refused.refused().iter().all(|setting| refused.to_string().contains(setting.setting())));
            return Ok(());
        }
        testing::run(build(), async |kit: TestKit| {
            let handler = (|_: Json| async {}).named("one").starting_at(Start::Earliest).concurrency(concurrency).timeout(timeout);
            let policy = Retry::fixed(Duration::from_secs(1)).attempts(attempts);
            let subscribed = kit.on("n", handler.retry(policy));
            let mut accepted = 0;
            for number in 0..5 {
                accepted += u64::from(kit.emit(Draft::json("n", number.into()).idempotency_key("k")).is_ok());
                accepted += u64::from(kit.emit(Draft::json("n", number.into()).delay(timeout)).is_ok());
                accepted += u64::from(kit.emit(Draft::json("n", number.into())).is_ok());
            }
            let done = tokio::time::timeout(Duration::from_hours(1), kit.runtime().process()).await;
            assert!(done.is_ok(), "it comes to rest: {:?} {subscribed:?}", kit.stats());
            kit.assert_balanced();
            assert_eq!(kit.stats().events.emitted, accepted);
            Ok(())
        });
    }
}
