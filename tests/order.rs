//! Queue, order, priority, concurrency: who goes when, and who waits for whom.

use std::time::Duration;

use millstream::{
    DeadLetterFilter, Draft, Handler, Json, Priority, Quota, Refusal, Replay, Retry, Runtime, Share,
    testing::{self, Probe, TestKit, What},
};
use serde_json::json;

fn keyed(key: &str, n: u32) -> Draft {
    Draft::json("a", json!(n)).key(key)
}

fn numbers(probe: &Probe<Json>) -> Vec<u64> {
    probe.received().into_iter().filter_map(|Json(n)| n.as_u64()).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn classes_share_the_dispatcher_and_each_is_first_in_first_out() {
    testing::run(Runtime::builder().queue_size(400), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler())?;
        for n in 0..100 {
            kit.emit(Draft::json("a", json!(1_000 + n)).priority(Priority::Low))?;
        }
        for n in 0..100 {
            kit.emit(Draft::json("a", json!(n)).priority(Priority::Critical))?;
        }
        kit.settle().await;
        let seen = numbers(&probe);
        assert_eq!(seen[..64], (0..64).collect::<Vec<_>>(), "a round of critical ones");
        assert_eq!(seen[64], 1_000, "and the lowest still moves");
        assert_eq!(
            seen.iter().filter(|n| **n >= 1_000).copied().collect::<Vec<_>>(),
            (1_000..1_100).collect::<Vec<_>>()
        );
        Ok(())
    });
}

#[test]
fn reserved_room_stays_for_its_class() {
    testing::run(Runtime::builder().queue_size(10).reserve(Priority::Critical, 2), async |kit| {
        for n in 0..8 {
            kit.emit(keyed("k", n))?;
        }
        assert!(matches!(kit.emit(keyed("k", 9)).unwrap_err().reason, Refusal::Full { .. }));
        kit.emit(keyed("k", 10).priority(Priority::Critical))?;
        Ok(())
    });
}

#[test]
fn reserved_slots_keep_slow_low_work_from_starving_the_rest() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(10 * SECOND);
        kit.on("a", probe.handler().concurrency(3).reserve(Priority::Critical, 1))?;
        for n in 0..5 {
            kit.emit(keyed("k", n).priority(Priority::Low))?;
        }
        kit.advance(SECOND).await;
        assert_eq!(numbers(&probe), [0, 1]);
        kit.emit(keyed("k", 99).priority(Priority::Critical))?;
        kit.advance(SECOND).await;
        assert_eq!(numbers(&probe), [0, 1, 99]);
        kit.settle().await;
        assert_eq!(probe.most_running(), 3);
        Ok(())
    });
}

#[test]
fn a_slow_handler_delays_only_itself() {
    testing::run(Runtime::builder(), async |kit| {
        let (slow, fast) = (Probe::<Json>::new().takes(SECOND / 2), Probe::<Json>::new());
        kit.on("slow", slow.handler().concurrency(1))?;
        kit.on("fast", fast.handler())?;
        for n in 0..30 {
            kit.emit(Draft::json("slow", json!(n)))?;
            kit.emit(Draft::json("fast", json!(n)))?;
        }
        kit.advance(Duration::from_millis(1)).await;
        assert_eq!((fast.attempts(), slow.attempts()), (30, 1));
        kit.settle().await;
        assert_eq!((kit.elapsed(), slow.most_running()), (15 * SECOND, 1));
        Ok(())
    });
}

#[test]
fn concurrency_runs_as_many_as_it_says() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler())?;
        for n in 0..200 {
            kit.emit(keyed("k", n))?;
        }
        kit.settle().await;
        assert_eq!((probe.most_running(), kit.elapsed()), (100, 2 * SECOND));
        Ok(())
    });
}

#[test]
fn one_event_of_a_key_at_a_time_in_order_and_keys_side_by_side() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler().ordered_by_key())?;
        for n in 0..3 {
            kit.emit(keyed("x", n))?;
            kit.emit(keyed("y", 10 + n))?;
        }
        kit.settle().await;
        assert_eq!((probe.most_running(), kit.elapsed()), (2, 3 * SECOND));
        assert_eq!(numbers(&probe), [0, 10, 1, 11, 2, 12]);
        Ok(())
    });
}

#[test]
fn a_backoff_blocks_its_key_and_nothing_else() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        kit.on("a", probe.handler().ordered_by_key().retry(Retry::fixed(5 * SECOND)))?;
        for (key, n) in [("x", 1), ("x", 2), ("y", 3), ("x", 4)] {
            kit.emit(keyed(key, n))?;
        }
        kit.advance(SECOND).await;
        assert_eq!(numbers(&probe), [1, 3]);
        let book = kit.stats().deliveries;
        assert_eq!((book.waiting, book.blocked), (1, 2));
        kit.settle().await;
        assert_eq!(numbers(&probe), [1, 3, 1, 2, 4]);
        Ok(())
    });
}

#[test]
fn after_the_head_of_a_key_dies_the_rest_goes_on_or_waits_as_chosen() {
    testing::run(Runtime::builder(), async |kit| {
        let (on, halts) = (Probe::<Json>::new().fails(1), Probe::<Json>::new().fails(1));
        kit.on("a", on.handler().ordered_by_key())?;
        kit.on("a", halts.handler().named("halts").ordered_by_key().halt_key_on_dead())?;
        for (key, n) in [("x", 1), ("x", 2), ("y", 3), ("x", 4)] {
            kit.emit(keyed(key, n))?;
        }
        kit.settle().await;
        assert_eq!((numbers(&on), numbers(&halts)), (vec![1, 2, 3, 4], vec![1, 3]));
        assert_eq!(kit.stats().deliveries.parked, 2);
        kit.replay(&Replay::of(DeadLetterFilter::all().subscription("halts")));
        kit.settle().await;
        assert_eq!(numbers(&halts), [1, 3, 1, 2, 4], "the head first, then the rest");
        assert_eq!((kit.stats().deliveries.parked, kit.stats().held), (0, 0));
        Ok(())
    });
}

#[test]
fn purging_the_head_of_a_halted_key_lets_the_rest_go_on() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        kit.on("a", probe.handler().ordered_by_key().halt_key_on_dead())?;
        kit.emit_all([keyed("x", 1), keyed("x", 2)])?;
        kit.settle().await;
        assert_eq!(kit.purge(&DeadLetterFilter::all()).len(), 1);
        kit.settle().await;
        assert_eq!(numbers(&probe), [1, 2]);
        Ok(())
    });
}

#[test]
fn strict_key_order_ignores_classes() {
    testing::run(Runtime::builder(), async |kit| {
        let (strict, by_key) = (Probe::<Json>::new(), Probe::<Json>::new());
        kit.on("a", strict.handler().strict_key_order())?;
        kit.on("a", by_key.handler().ordered_by_key())?;
        kit.emit(keyed("x", 1).priority(Priority::Low))?;
        kit.emit(keyed("x", 2))?;
        kit.emit(keyed("x", 3).priority(Priority::Critical))?;
        kit.settle().await;
        assert_eq!((numbers(&strict), numbers(&by_key)), (vec![1, 2, 3], vec![3, 2, 1]));
        Ok(())
    });
}

/// A queue of ten, a handler that hangs on `slow`, one that does not on `fast`.
async fn hung(kit: &TestKit, share: Share) -> Result<(Probe<Json>, Probe<Json>), Box<dyn std::error::Error>> {
    let (slow, fast) = (Probe::<Json>::new().hangs(), Probe::<Json>::new());
    let handler = slow.handler().named("hung").concurrency(1).when_saturated(share).timeout(1_000 * SECOND);
    kit.on("slow", handler)?;
    kit.on("fast", fast.handler())?;
    for n in 0..10 {
        kit.emit(Draft::json("slow", json!(n)))?;
    }
    kit.advance(SECOND).await;
    for n in 0..50 {
        kit.emit(Draft::json("fast", json!(n)))?;
        kit.advance(Duration::from_millis(1)).await;
    }
    assert_eq!(fast.attempts(), 50, "whoever hangs holds half of the queue at most");
    Ok((slow, fast))
}

#[test]
fn a_hung_subscription_refuses_more_by_name() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        hung(&kit, Share::Refuse).await?;
        let refused = kit.emit(Draft::json("slow", json!(99))).unwrap_err();
        assert!(matches!(&refused.reason, Refusal::Saturated { subscription, held: 5, .. } if subscription == "hung"));
        assert_eq!(kit.stats().deliveries.blocked, 9, "and what was accepted is not lost");
        assert!(kit.health().findings.iter().any(|finding| finding.contains("`hung` holds its whole share")));
        Ok(())
    });
}

#[test]
fn a_hung_subscription_may_drop_its_oldest_and_counts_it() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        hung(&kit, Share::DropOldest).await?;
        let book = kit.stats().deliveries;
        assert_eq!((book.in_flight, book.blocked, book.dropped), (1, 4, 5));
        Ok(())
    });
}

#[test]
fn a_hung_subscription_may_fill_the_dead_letters() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        let (slow, _) = hung(&kit, Share::DeadLetter).await?;
        let book = kit.stats().deliveries;
        assert_eq!((book.in_flight, book.blocked, book.dead), (1, 4, 5));
        slow.mend();
        kit.settle().await;
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!(slow.attempts(), 11, "the one that hung was timed out and replayed like the rest");
        Ok(())
    });
}

#[test]
fn tenants_take_turns_inside_a_class_and_one_that_floods_is_refused_alone() {
    testing::run(Runtime::builder().tenant_quota(Quota::new().queue(20)), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler())?;
        let (flood, small) = (kit.tenant("flood"), kit.tenant("small"));
        for n in 0..20 {
            flood.emit(keyed("k", n))?;
        }
        let refused = flood.emit(keyed("k", 20)).unwrap_err();
        assert!(matches!(refused.reason, Refusal::QuotaExceeded { limit: 20, .. }), "{refused}");
        for n in 100..103 {
            small.emit(keyed("k", n))?;
        }
        kit.settle().await;
        assert_eq!(numbers(&probe)[..6], [0, 100, 1, 101, 2, 102]);
        flood.emit(keyed("k", 21))?;
        Ok(())
    });
}

#[test]
fn the_same_key_of_two_tenants_is_two_keys() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler().ordered_by_key())?;
        for tenant in ["one", "two"] {
            kit.tenant(tenant).emit(keyed("k", 1))?;
        }
        kit.settle().await;
        assert_eq!((probe.most_running(), kit.elapsed()), (2, SECOND));
        Ok(())
    });
}

#[test]
fn tenant_quotas_cover_rate_concurrency_retries_delays_and_dead_letters() {
    let quota = Quota::new().rate(2, 2).concurrency(1).retries(1).delayed(1).dead_letters(1);
    testing::run(Runtime::builder().tenant_quota(quota), async |kit| {
        let (slow, failing) = (Probe::<Json>::new().takes(SECOND), Probe::<Json>::new().always_fails());
        kit.on("slow", slow.handler())?;
        kit.on("fails", failing.handler().retry(Retry::fixed(60 * SECOND).attempts(2)))?;
        let tenant = kit.tenant("t");
        tenant.emit(Draft::json("slow", json!(1)))?;
        tenant.emit(Draft::json("slow", json!(2)))?;
        let refused = tenant.emit(Draft::json("slow", json!(3))).unwrap_err();
        assert!(
            matches!(refused.reason, Refusal::RateExceeded { retry_after, .. } if retry_after == SECOND / 2),
            "{refused}"
        );
        kit.settle().await;
        assert_eq!((slow.most_running(), kit.elapsed()), (1, 2 * SECOND));
        tenant.emit(Draft::json("fails", json!(1)))?;
        tenant.emit(Draft::json("fails", json!(2)))?;
        kit.advance(SECOND).await;
        assert_eq!(
            (kit.stats().deliveries.waiting, kit.assert_one_dead_letter().death),
            (1, millstream::Death::RetryQuota)
        );
        tenant.emit(Draft::json("slow", json!(4)).delay(SECOND))?;
        let refused = tenant.emit(Draft::json("slow", json!(5)).delay(SECOND)).unwrap_err();
        assert!(matches!(refused.reason, Refusal::QuotaExceeded { what: "delayed events", .. }), "{refused}");
        kit.settle().await;
        assert_eq!((kit.stats().dead_letters, kit.stats().dead_letters_dropped), (1, 1));
        Ok(())
    });
}

#[test]
fn a_tenants_handle_sees_its_own_events_alone() {
    testing::run(Runtime::builder(), async |kit| {
        let (mine, yours) = (Probe::<Json>::new(), Probe::<Json>::new());
        kit.tenant("mine").on("a", mine.handler())?;
        kit.tenant("yours").on("a", yours.handler())?;
        kit.tenant("mine").emit(keyed("k", 1))?;
        assert!(kit.tenant("mine").emit(keyed("k", 1).tenant("yours")).is_err());
        kit.settle().await;
        assert_eq!((mine.attempts(), yours.attempts()), (1, 0));
        Ok(())
    });
}

#[test]
fn an_idle_tenant_inherits_nothing() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || async { Draft::json("b", json!(1)) })?;
        kit.on("b", || async {})?;
        kit.tenant("t").emit(keyed("k", 1))?;
        kit.settle().await;
        assert_eq!(kit.events()[1].tenant().map(ToString::to_string), Some("t".into()), "what it causes is its own");
        assert!(kit.timeline().of("b").any(|moment| moment.what == What::Handled));
        Ok(())
    });
}

#[test]
fn a_slow_subscription_never_holds_more_than_its_share_and_a_queue() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        let slow = Probe::<Json>::new().takes(SECOND);
        kit.on("slow", slow.handler().concurrency(1))?;
        for n in 0..200 {
            while kit.emit(Draft::json("slow", json!(n))).is_ok() {}
            kit.advance(SECOND / 4).await;
            let open = kit.stats().deliveries.open();
            assert!(open <= 15, "{open} deliveries wait");
        }
        Ok(())
    });
}

#[test]
fn what_handlers_return_to_a_hung_subscription_keeps_its_room() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        kit.on("a", || async { Draft::json("hung", json!(1)) })?;
        kit.on("hung", Probe::<Json>::new().hangs().handler().concurrency(1).timeout(1_000 * SECOND))?;
        for _ in 0..100 {
            drop(kit.emit(keyed("k", 1)));
            kit.advance(Duration::from_millis(1)).await;
        }
        assert_eq!((kit.stats().deliveries.open(), kit.stats().held), (10, 10));
        Ok(())
    });
}
