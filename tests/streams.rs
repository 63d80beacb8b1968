//! Streams from the runtime and into it.

use std::{num::NonZeroUsize, sync::Arc};

use futures::StreamExt;
use millstream::{
    Draft, Envelope, Event, Json, Refusal, Runtime, StreamOptions, StreamOverflow,
    testing::{self, Probe},
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

#[test]
fn a_stream_gives_the_events_of_its_pattern_in_order_and_ends_with_the_runtime() {
    testing::run(Runtime::builder(), async |kit| {
        let typed = kit.stream::<Reading>("sensor.>")?;
        let dynamic = kit.stream::<Json>("*")?;
        let whole = kit.stream::<Arc<Envelope>>("other")?;
        kit.emit(reading(20))?;
        kit.emit(Draft::json("sensor.read", json!({"celsius": 21})))?;
        kit.emit(Draft::json("other", json!(1)))?;
        kit.settle().await;
        kit.shutdown(std::time::Duration::ZERO).await?;
        assert_eq!(typed.collect::<Vec<_>>().await, [reading(20), reading(21)]);
        assert_eq!(dynamic.count().await, 3);
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
            assert_eq!((stream.len(), stream.dropped(), kit.stats().held), (2, 3, 0));
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
        let stream = kit.stream::<Reading>("sensor.read")?;
        assert_eq!(kit.describe().subscriptions.len(), 1);
        drop(stream);
        assert_eq!(kit.describe().subscriptions.len(), 0);
        kit.emit(reading(1))?;
        kit.settle().await;
        assert_eq!(kit.stats().events.unrouted, 1);
        Ok(())
    });
}

#[test]
fn what_a_stream_cannot_read_is_its_dead_letter() {
    testing::run(Runtime::builder(), async |kit| {
        let stream = kit.stream::<Reading>("sensor.*")?;
        kit.emit(Draft::json("sensor.read", json!({"celsius": "warm"})))?;
        kit.settle().await;
        assert!(stream.is_empty());
        let letter = kit.assert_one_dead_letter();
        assert_eq!(letter.subscription.as_deref(), Some("stream sensor.*#1"));
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
            kit.shutdown(std::time::Duration::from_secs(1)).await.map(|_| forwarded)
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
        let mut stream = kit.stream::<Reading>("sensor.read")?;
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
