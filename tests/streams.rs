//! Streams from the runtime and into it.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use millstream::{
    BoxFlow, Draft, Envelope, Event, EventStream, Flow, IntoDraft, Json, OnError, Refusal, Runtime, State, StreamMeter,
    StreamOptions, StreamOverflow, Timestamp, flow,
    operators::{buffer::Windowed, combine::merge},
    testing::{self, Probe, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "sensor.read")]
struct Reading {
    celsius: i32,
}

fn reading(celsius: i32) -> Reading {
    Reading { celsius }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Emits what is due in virtual time, stops the runtime after `end`, and says what the flow gave out, and when.
async fn timed<T>(
    kit: &TestKit,
    events: impl IntoIterator<Item = (Draft, u64)>,
    end: u64,
    flow: BoxFlow<'_, T>,
) -> Vec<(T, Duration)> {
    for (draft, at) in events {
        kit.emit(draft.delay(ms(at))).expect("there is room");
    }
    let drive = async {
        kit.advance(ms(end)).await;
        kit.shutdown(Duration::ZERO).await.expect("it runs");
    };
    let (seen, ()) = tokio::join!(flow.map(|item| (item, kit.elapsed())).collect(), drive);
    seen
}

#[test]
fn a_stream_gives_the_events_of_its_pattern_in_order_and_ends_with_the_runtime() {
    testing::run(Runtime::builder(), async |kit| {
        let typed = kit.stream::<Reading>("sensor.>");
        let dynamic = kit.stream::<Json>("*");
        let whole = kit.stream::<Arc<Envelope>>("other");
        kit.emit(reading(20))?;
        kit.emit(Draft::json("sensor.read", json!({"celsius": 21})))?;
        kit.emit(Draft::json("other", json!(1)))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        assert_eq!(typed.collect::<Vec<_>>().await, [reading(20), reading(21)]);
        assert_eq!(dynamic.count().next().await, Some(3));
        assert_eq!(whole.map(|event| event.name().to_string()).collect::<Vec<_>>().await, ["other"]);
        Ok(())
    });
}

#[test]
fn a_slow_reader_misses_what_the_policy_says_and_the_runtime_does_not_wait() {
    let table = [(StreamOverflow::DropOldest, [3, 4]), (StreamOverflow::DropNewest, [0, 1])];
    for (overflow, expected) in table {
        testing::run(Runtime::builder(), async |kit| {
            let two = NonZeroUsize::new(2).expect("two is not zero");
            let options = StreamOptions::default().capacity(two).overflow(overflow);
            let mut stream = kit.stream_with::<Reading>("sensor.read", options)?;
            for celsius in 0..5 {
                kit.emit(reading(celsius))?;
            }
            kit.settle().await;
            let head = stream.head();
            assert_eq!((head.len(), head.dropped(), kit.stats().held), (2, 3, 0));
            assert_eq!(
                [stream.next().await, stream.next().await].map(|item| item.map(|r| r.celsius)),
                expected.map(Some)
            );
            assert_eq!(kit.describe().streams[0].dropped, 3);
            Ok(())
        });
    }
}

#[test]
fn a_dropped_stream_takes_its_subscription_back() {
    testing::run(Runtime::builder(), async |kit| {
        let stream = kit.stream::<Reading>("sensor.read");
        assert_eq!((kit.describe().subscriptions.len(), kit.describe().streams.len()), (1, 1));
        drop(stream);
        assert_eq!((kit.describe().subscriptions.len(), kit.describe().streams.len()), (0, 0));
        kit.emit(reading(1))?;
        kit.settle().await;
        assert_eq!(kit.stats().events.unrouted, 1);
        Ok(())
    });
}

#[test]
fn what_a_stream_cannot_read_is_its_dead_letter() {
    testing::run(Runtime::builder(), async |kit| {
        let stream = kit.stream::<Reading>("sensor.*");
        kit.emit(Draft::json("sensor.read", json!({"celsius": "warm"})))?;
        kit.emit(reading(7))?;
        kit.settle().await;
        assert_eq!(stream.head().len(), 1);
        let meter = stream.head().meter();
        assert_eq!((meter.items(), meter.unreadable(), meter.dropped()), (1, 1, 0));
        assert_eq!(kit.describe().streams[0].unreadable, 1);
        let letter = kit.assert_one_dead_letter();
        assert_eq!(letter.subscription.as_deref(), Some("stream sensor.*#1"));
        assert_eq!(meter.name(), "stream sensor.*#1");
        assert!(letter.reason().contains("`celsius`"), "{}", letter.reason());
        Ok(())
    });
}

#[test]
fn a_generator_becomes_a_stream_whose_items_can_be_emitted() {
    testing::run(Runtime::builder().queue_size(2), async |kit| {
        let probe = Probe::<Reading>::new();
        kit.on("sensor.read", probe.handler())?;
        let source = kit.create_stream(async_stream::stream! {
            for celsius in 0..10 {
                yield reading(celsius);
            }
        });
        let warm = source.filter(|reading| std::future::ready(reading.celsius >= 5));
        let forwarded = async {
            let forwarded = kit.forward(warm).await;
            kit.shutdown(Duration::from_secs(1)).await.map(|_| forwarded)
        };
        let (ran, forwarded) = tokio::join!(kit.run(), forwarded);
        ran?;
        assert_eq!(forwarded??.emitted, 5, "more than the queue has room for");
        assert_eq!(probe.received(), (5..10).map(reading).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn a_source_stops_at_an_item_that_can_never_be_accepted() {
    testing::run(Runtime::builder(), async |kit| {
        let items =
            [Draft::json("fine", json!(1)), Draft::json("not fine", json!(2)), Draft::json("never.read", json!(3))];
        let error = kit.create_stream(futures::stream::iter(items)).emit().await.unwrap_err();
        assert_eq!(error.emitted, 1);
        assert!(matches!(error.reason(), Refusal::Name(_)));
        assert_eq!(error.source.event.name().as_str(), "not fine");
        Ok(())
    });
}

#[test]
fn a_stream_wakes_its_reader() {
    testing::run(Runtime::builder(), async |kit| {
        let mut stream = kit.stream::<Reading>("sensor.read");
        let emit = async {
            tokio::task::yield_now().await;
            kit.emit(reading(7)).expect("there is room");
            kit.settle().await;
        };
        let (item, ()) = tokio::join!(stream.next(), emit);
        assert_eq!(item, Some(reading(7)));
        Ok(())
    });
}

#[test]
fn the_chain_of_a_stream_is_exact_in_virtual_time() {
    testing::run(Runtime::builder(), async |kit| {
        let limits = kit.stream::<Json>("limit").filter_map(|Json(limit)| limit.as_i64());
        let alarms = kit
            .stream::<Reading>("sensor.>")
            .filter(|reading| reading.celsius > 0)
            .debounce(ms(20))
            .combine_latest(limits)
            .map(|(reading, limit)| (reading.celsius, limit))
            .boxed();
        let read = |celsius, at| (reading(celsius).into_draft(), at);
        let limit = |limit: i64, at| (Draft::json("limit", limit.into()), at);
        let events = [read(20, 10), read(21, 15), read(-1, 30), limit(5, 50), read(22, 90), limit(6, 105)];
        let seen = timed(&kit, events, 200, alarms).await;
        assert_eq!(seen, [((21, 5), ms(50)), ((21, 6), ms(105)), ((22, 6), ms(110))]);
        Ok(())
    });
}

#[test]
fn streams_of_several_patterns_are_combined_to_the_millisecond() {
    testing::run(Runtime::builder(), async |kit| {
        let number = |pattern| kit.stream::<Json>(pattern).filter_map(|Json(value)| value.as_u64());
        let rows = number("fast").combine_latest(number("slow")).boxed();
        let all = merge(vec![number("fast"), number("slow")]).batch(3, ms(30)).boxed();
        let event = |name: &str, value: u64, at| (Draft::json(name, value.into()), at);
        let events = [
            event("fast", 1, 10),
            event("slow", 2, 25),
            event("fast", 3, 40),
            event("fast", 4, 41),
            event("slow", 5, 99),
        ];
        let (rows, all) = (rows.map(Ok), all.map(Err));
        let seen = timed(&kit, events, 150, rows.merge(all).boxed()).await;
        let (rows, batches): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(item, _)| item.is_ok());
        let rows: Vec<_> = rows.into_iter().filter_map(|(row, at)| Some((row.ok()?, at))).collect();
        assert_eq!(rows, [((1, 2), ms(25)), ((3, 2), ms(40)), ((4, 2), ms(41)), ((4, 5), ms(99))]);
        // At 40 ms the batch is due before the item of that moment comes.
        let batches: Vec<_> = batches.into_iter().filter_map(|(batch, at)| Some((batch.err()?, at))).collect();
        assert_eq!(batches, [(vec![1, 2], ms(40)), (vec![3, 4], ms(70)), (vec![5], ms(129))]);
        Ok(())
    });
}

#[test]
fn a_stream_has_a_name_to_write_in_a_struct_and_a_meter_that_stays() {
    struct Dashboard {
        raw: Flow<EventStream<Reading>>,
        celsius: BoxFlow<'static, i32>,
        meter: StreamMeter,
    }
    testing::run(Runtime::builder(), async |kit| {
        let two = StreamOptions::default().capacity(NonZeroUsize::MIN.saturating_add(1));
        let readings = kit.stream_with::<Reading>("sensor.read", two)?;
        let meter = readings.head().meter();
        let celsius = readings.map(|reading| reading.celsius).debounce(ms(1)).boxed();
        let mut board = Dashboard { raw: kit.stream("sensor.>"), celsius, meter };
        for celsius in 0..5 {
            kit.emit(reading(celsius))?;
        }
        kit.settle().await;
        assert_eq!((board.meter.items(), board.meter.dropped()), (5, 3));
        assert_eq!(board.celsius.next().await, Some(4));
        assert_eq!(board.raw.next().await, Some(reading(0)));
        drop(board.celsius);
        assert_eq!((board.meter.name(), board.meter.dropped()), ("stream sensor.read#1", 3));
        Ok(())
    });
}

#[test]
fn a_chain_that_is_dropped_takes_all_its_subscriptions_back() {
    testing::run(Runtime::builder(), async |kit| {
        let other = kit.tenant("acme").stream::<Reading>("sensor.read").skip(1);
        let mut both = kit.stream::<Reading>("sensor.>").filter(|_| true).debounce(ms(5)).combine_latest(other);
        assert_eq!(kit.describe().subscriptions.len(), 2);
        kit.emit(reading(1))?;
        kit.settle().await;
        assert!(tokio::time::timeout(ms(50), both.next()).await.is_err());
        drop(both);
        assert_eq!((kit.describe().subscriptions.len(), kit.describe().streams.len()), (0, 0));
        // One that needs no more takes its subscription back with its last item.
        let first = kit.stream::<Reading>("sensor.read").take(1);
        kit.emit(reading(2))?;
        kit.settle().await;
        assert_eq!(first.collect::<Vec<_>>().await, [reading(2)]);
        assert_eq!(kit.describe().subscriptions.len(), 0);
        Ok(())
    });
}

#[test]
fn a_stream_whose_subscription_is_taken_back_gives_what_waits_and_ends() {
    testing::run(Runtime::builder(), async |kit| {
        let readings = kit.stream::<Reading>("sensor.read");
        let id = readings.head().id();
        let batches = readings.map(|read| read.celsius).batch(2, Duration::from_mins(1));
        for celsius in [1, 2, 3] {
            kit.emit(reading(celsius))?;
        }
        kit.settle().await;
        assert!(kit.off(id));
        kit.emit(reading(4))?;
        kit.settle().await;
        assert_eq!(batches.collect::<Vec<_>>().await, [vec![1, 2], vec![3]]);
        assert_eq!((kit.elapsed(), kit.stats().events.unrouted), (Duration::ZERO, 1));
        Ok(())
    });
}

#[test]
fn what_a_chain_gives_out_goes_back_into_the_runtime() {
    #[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[event(name = "alarm.raised")]
    struct Alarm {
        celsius: i32,
    }
    testing::run(Runtime::builder(), async |kit| {
        let alarms = Probe::<Alarm>::new();
        kit.on("alarm.*", alarms.handler())?;
        let readings = kit.stream::<Reading>("sensor.>");
        let hot = readings.filter(|read| read.celsius > 40).map(|read| Alarm { celsius: read.celsius });
        for celsius in [39, 41, 43] {
            kit.emit(reading(celsius))?;
        }
        let drive = async {
            kit.settle().await;
            kit.advance(ms(30)).await;
            kit.shutdown(ms(10)).await
        };
        // The runtime is stopped before the flow ends: what comes of the last item is refused, and said so.
        let (forwarded, stopped) = tokio::join!(kit.forward(hot.debounce(ms(20))), drive);
        assert_eq!((forwarded?.emitted, stopped?.abandoned.len()), (1, 0));
        assert_eq!(alarms.received(), [Alarm { celsius: 43 }]);
        Ok(())
    });
}

#[test]
fn windows_of_a_stream_go_by_the_time_of_its_items() {
    testing::run(Runtime::builder(), async |kit| {
        let minutes = kit.stream::<Json>("trade").filter_map(|Json(second)| second.as_u64()).event_time(
            |second| Timestamp::from_secs(*second),
            Duration::from_secs(30),
            |each| each.tumbling(Duration::from_mins(1), Flow::count),
        );
        kit.emit_all([10, 70, 50, 100, 20, 130].map(|second: u64| Draft::json("trade", second.into())))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        let seen: Vec<_> = minutes.collect().await;
        let at = Timestamp::from_secs;
        let window = |start, item| Ok(Windowed { start: at(start), end: at(start + 60), item });
        let late = seen[1].unwrap_err();
        assert_eq!((late.item, late.behind()), (20, Duration::from_secs(50)));
        assert_eq!(seen, [window(0, 2), Err(late), window(60, 2), window(120, 1)]);
        Ok(())
    });
}

#[test]
fn a_stream_of_a_stopped_runtime_has_ended_and_a_bad_one_is_refused() {
    testing::run(Runtime::builder(), async |kit| {
        let runtime = kit.runtime().clone();
        let bad = catch_unwind(AssertUnwindSafe(|| drop(runtime.stream::<Json>("a..b")))).expect_err("no pattern");
        assert!(bad.downcast_ref::<String>().is_some_and(|reason| reason.starts_with("stream `a..b`: ")), "{bad:?}");
        let options = StreamOptions::default();
        assert!(matches!(kit.stream_with::<Json>("a..b", options), Err(OnError::Pattern(_))));
        assert!(matches!(kit.stream_with::<State<u8>>("a", options), Err(OnError::MissingState { .. })));
        kit.shutdown(Duration::ZERO).await?;
        assert_eq!(kit.stream::<Json>("a").collect::<Vec<_>>().await, []);
        assert_eq!(kit.stream_with::<Json>("a", options).map(drop), Err(OnError::Stopped));
        Ok(())
    });
}

#[test]
fn ten_thousand_streams_of_one_pattern_are_named_and_dropped_in_no_time() {
    testing::run(Runtime::builder(), async |kit| {
        let mut streams: Vec<_> = (0..10_000).map(|_| kit.stream::<Json>("sensor.read")).collect();
        assert_eq!(streams[9_999].head().meter().name(), "stream sensor.read#10000");
        drop(streams.remove(1));
        let again = kit.stream::<Json>("sensor.read");
        assert_eq!(kit.describe().streams.len(), 10_000);
        kit.emit(reading(1))?;
        kit.settle().await;
        assert_eq!((again.head().len(), streams[9_998].head().len()), (1, 1));
        drop((streams, again));
        assert_eq!(kit.describe().subscriptions.len(), 0);
        Ok(())
    });
}

/// With both traits of stream methods in scope, a call means ours.
mod both_extensions {
    use futures::StreamExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[test]
    fn a_streams_methods_win_where_both_traits_of_stream_methods_are_imported() {
        testing::run(Runtime::builder(), async |kit| {
            let other = kit.stream::<Reading>("sensor.>").skip(1).take_while(|read| read.celsius < 9);
            // One method that only each of them has, and back.
            let other = flow(flow(other.enumerate()).map_while(|(_, read)| Some(read)));
            let mut all = kit
                .stream::<Reading>("sensor.>")
                .filter(|read| read.celsius > 1)
                .map(|read| read.celsius)
                .filter_map(|celsius| (celsius != 4).then_some(celsius))
                .skip_while(|celsius| *celsius < 2)
                .inspect(|_| {})
                .fuse()
                .merge(other.map(|read| read.celsius * 10))
                .chunks(2)
                .take(9);
            for celsius in [1, 2, 3, 4, 5] {
                kit.emit(reading(celsius))?;
            }
            kit.settle().await;
            kit.shutdown(Duration::ZERO).await?;
            assert_eq!(all.next().await, Some(vec![2, 3]));
            assert_eq!(all.collect::<Vec<_>>().await, [vec![5, 20], vec![30, 40], vec![50]]);
            Ok(())
        });
    }
}
