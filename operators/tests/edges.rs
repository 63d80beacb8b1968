//! A flow at its edges: nothing, one, a burst, no end, an early drop, a poll after the end; and time that leaps.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use millstream_operators::{
    BoxFlow, Flow, IntoFlow as _, Timestamp, chain,
    combine::{combine_latest, concat, merge, race, with_latest_from, zip},
    error::{RepeatPolicy, RetryPolicy, fail_fast, repeat, retry},
    flow,
    share::{Replay, share, share_replay, split},
    task::{Conflate, DropNewest, DropOldest, Fail, OverflowError, Wait},
    time::Edge,
};

const MS: Duration = Duration::from_millis(1);

fn poll<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

/// What one and the same input becomes in every flow that holds items or streams.
fn every_flow<T: Clone + Send + Sync + Ord + std::hash::Hash + 'static>(
    source: impl Fn() -> BoxFlow<'static, T>,
) -> Vec<BoxFlow<'static, T>> {
    let one = |x: T| stream::iter([x]);
    let (left, right) = source().partition(|_| true);
    let [first, second] = source().split(|_| 1);
    let shared = shared(source());
    vec![
        source().delay(MS).boxed(),
        source().rate_limit(MS).boxed(),
        source().debounce(MS).boxed(),
        source().batch(3, MS).concat_map(stream::iter).boxed(),
        source().reorder(|_| Timestamp::EPOCH, MS).filter_map(Result::ok).boxed(),
        source().event_time(|_| Timestamp::EPOCH, MS, |each| each.delay(MS)).filter_map(Result::ok).boxed(),
        source().tumbling(MS, |window| window.skip(0)).map(|window| window.item).boxed(),
        source().switch_map(one).boxed(),
        source().exhaust_map(one).boxed(),
        source().concat_map(one).boxed(),
        source().flat_map(2, one).boxed(),
        source().map_async(2, |x| async { x }).boxed(),
        source().map_async_unordered(2, |x| async { x }).boxed(),
        source().group_by(T::clone).flat_map(usize::MAX, |group| group).boxed(),
        source().spawn(2, Wait).boxed(),
        source().watch(pending::<()>()).filter_map(Result::ok).boxed(),
        merge((source(), source())).boxed(),
        merge(vec![source(), source()]).boxed(),
        zip((source(), source())).map(|(x, _)| x).boxed(),
        combine_latest(vec![source(), source()]).concat_map(stream::iter).boxed(),
        with_latest_from((source(), source())).map(|(x, _)| x).boxed(),
        race(vec![source(), source()]).boxed(),
        concat((source(), source())).boxed(),
        fail_fast(|scope| scope.guard(source().map(Ok::<_, ()>))).filter_map(Result::ok).boxed(),
        left.merge(right).boxed(),
        first.merge(second).boxed(),
        shared,
    ]
}

fn shared<T: Clone + Send + 'static>(source: BoxFlow<'static, T>) -> BoxFlow<'static, T> {
    let mut source = Some(source);
    let shared = share(move || source.take().unwrap_or_else(|| flow(Box::pin(stream::empty()))));
    shared.subscribe().merge(shared.subscribe()).boxed()
}

#[tokio::test(start_paused = true)]
async fn nothing_in_nothing_out_and_again_at_a_poll_after_the_end() {
    for mut flow in every_flow(|| flow(stream::empty::<u32>()).boxed()) {
        assert_eq!(flow.next().await, None);
        assert_eq!(flow.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn one_in_some_out() {
    for flow in every_flow(|| flow(stream::iter([7])).boxed()) {
        let seen = flow.collect::<Vec<_>>().await;
        assert!(!seen.is_empty() && seen.iter().all(|x| *x == 7), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_ends() {
    for flow in every_flow(|| flow(stream::iter(0..3_000)).boxed()) {
        assert!(!flow.collect::<Vec<_>>().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_early_leaks_nothing() {
    for taken in 0..4 {
        let token = Arc::new(());
        let shared = Arc::clone(&token);
        let source = move || {
            let token = Arc::clone(&shared);
            let endless = stream::iter(1_u32..).map(move |_| Arc::clone(&token));
            flow(endless.take(1_000).chain(stream::pending())).boxed()
        };
        let flows = every_flow(source);
        for mut flow in flows {
            for _ in 0..taken {
                tokio::time::timeout(50 * MS, flow.next()).await.ok();
            }
        }
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&token), 1);
    }
}

#[test]
fn a_flow_without_time_needs_no_runtime() {
    let mut flow = flow(stream::iter([1, 2, 3])).filter(|x| x % 2 == 1).pairwise();
    assert_eq!(poll(&mut flow), Poll::Ready(Some((1, 3))));
    assert_eq!(poll(&mut flow), Poll::Ready(None));
    assert_eq!(poll(&mut flow), Poll::Ready(None));
}

#[tokio::test(start_paused = true)]
async fn up_to_eight_inputs_of_any_types() {
    let one = |x| stream::iter([x]);
    let all =
        combine_latest((one(1), stream::iter(["b"]), one(3), stream::iter(['d']), one(5), one(6), one(7), one(8)));
    assert_eq!(all.collect::<Vec<_>>().await, [(1, "b", 3, 'd', 5, 6, 7, 8)]);
    let rows = zip((one(1), one(2), one(3), one(4), one(5), one(6), one(7), stream::iter(["h"])));
    assert_eq!(rows.collect::<Vec<_>>().await, [(1, 2, 3, 4, 5, 6, 7, "h")]);
    let many = merge((0..100).map(|x| stream::iter([x; 50])).collect::<Vec<_>>());
    assert_eq!(many.count().next().await, Some(5_000));
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_without_those_that_nobody_takes() {
    let mut groups = flow(stream::iter(0..10_000)).group_by(|x| x % 5_000);
    let first = groups.next().await.expect("a group");
    drop(groups);
    assert_eq!(first.collect::<Vec<_>>().await, [0, 5_000]);
}

#[test]
fn take_none_never_polls_its_source() {
    let mut flow = flow(stream::poll_fn::<u32, _>(|_| unreachable!("it is not to be polled"))).take(0);
    assert_eq!(poll(&mut flow), Poll::Ready(None));
}

#[test]
fn an_endless_source_that_gives_nothing_lets_others_run() {
    let mut flow = flow(stream::repeat(1)).filter(|_| false);
    assert_eq!(poll(&mut flow), Poll::Pending);
}

#[tokio::test(start_paused = true)]
async fn an_operator_added_to_a_flow_under_way_sees_the_rest() {
    let mut ticks = flow(stream::iter(1..)).rate_limit(10 * MS).start_with([0]);
    assert_eq!(ticks.next().await, Some(0));
    assert_eq!(ticks.next().await, Some(1));
    let mut odd = ticks.filter(|x| x % 2 == 1).start_with([9]).debounce(5 * MS);
    assert_eq!(odd.next().await, Some(9));
    assert_eq!(odd.next().await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_flow_takes_no_more_than_it_can_hold() {
    let (taken, seen) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), std::sync::atomic::Ordering::Relaxed);
    let counter = Arc::clone(&taken);
    let source = stream::iter(0_u64..).inspect(move |_| {
        counter.fetch_add(1, seen);
    });
    let mut paced = flow(source).rate_limit(10 * MS);
    for n in 0..20 {
        assert_eq!(paced.next().await, Some(n));
    }
    assert!(taken.load(seen) < 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_comes_late_finds_each_deadline_at_its_own_time() {
    let mut flow = flow(stream::iter([1, 2]).chain(stream::pending())).delay(10 * MS).throttle(5 * MS, Edge::Trailing);
    assert!(poll(&mut flow).is_pending());
    tokio::time::advance(100 * MS).await;
    assert_eq!(poll(&mut flow), Poll::Ready(Some(2)));
}

/// Panics where it is polled after its end.
fn once_only(items: std::ops::Range<u32>) -> impl Stream<Item = u32> + Send + 'static {
    let mut items = Some(items);
    stream::poll_fn(move |_| {
        let next = items.as_mut().expect("it has ended").next();
        if next.is_none() {
            items = None;
        }
        Poll::Ready(next)
    })
}

#[tokio::test(start_paused = true)]
async fn no_source_is_polled_after_its_end() {
    let (raw, inner) = (|| once_only(0..40), |x| once_only(x..x + 3));
    let [left, right] = split(raw(), |x| usize::from(*x > 5));
    let flows = [
        merge((raw(), raw(), raw())).boxed(),
        merge(vec![raw(), raw()]).boxed(),
        concat((raw(), raw())).boxed(),
        concat(vec![raw(), raw()]).boxed(),
        race((raw(), raw())).boxed(),
        zip((raw(), raw())).map(|(x, _)| x).boxed(),
        combine_latest((raw(), raw())).map(|(x, _)| x).boxed(),
        flow(raw()).switch_map(inner).boxed(),
        flow(raw()).exhaust_map(inner).boxed(),
        flow(raw()).concat_map(inner).boxed(),
        flow(raw()).flat_map(3, inner).boxed(),
        flow(raw()).map_async(3, |x| async move { x }).boxed(),
        flow(raw()).group_by(|x| x % 3).flat_map(9, |group| group).boxed(),
        flow(raw()).skip_until(raw()).boxed(),
        flow(raw()).spawn(3, Wait).boxed(),
        flow(raw()).watch(pending::<()>()).filter_map(Result::ok).boxed(),
        flow(raw().map(Ok::<_, u32>)).catch(|x| once_only(x..9).map(Ok::<_, u32>)).filter_map(Result::ok).boxed(),
        share(raw).subscribe().boxed(),
        left.merge(right).boxed(),
    ];
    for mut flow in flows {
        while flow.next().await.is_some() {}
        assert_eq!(flow.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn each_overflow_policy_does_what_it_says() {
    let source = || flow(stream::iter(0..5));
    assert_eq!(source().spawn(2, Wait).collect::<Vec<_>>().await, [0, 1, 2, 3, 4]);
    assert_eq!(source().spawn(2, DropNewest).collect::<Vec<_>>().await, [0, 1]);
    assert_eq!(source().spawn(2, DropOldest).collect::<Vec<_>>().await, [3, 4]);
    assert_eq!(source().spawn(2, Conflate(|a, b| a + b)).collect::<Vec<_>>().await, [0, 10]);
    assert_eq!(source().spawn(2, Fail).collect::<Vec<_>>().await, [Ok(0), Ok(1), Err(OverflowError)]);
}

#[tokio::test(start_paused = true)]
async fn a_task_ends_with_its_stream() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let endless = stream::repeat(()).inspect(move |()| drop(Arc::clone(&held)));
    let mut flow = flow(endless).spawn(2, DropNewest);
    assert_eq!(flow.next().await, Some(()));
    drop(flow);
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&token), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_holds_back_and_loses_nothing() {
    let shared = share(|| stream::iter(0..5_000));
    let (mut fast, slow) = (shared.subscribe(), shared.subscribe());
    let mut seen = 0;
    while let Poll::Ready(Some(_)) = poll(&mut fast) {
        seen += 1;
    }
    assert_eq!(seen, 1_024);
    drop(slow);
    assert_eq!(fast.collect::<Vec<_>>().await.len(), 5_000 - 1_024);
}

#[tokio::test(start_paused = true)]
async fn who_polls_a_shared_source_may_go() {
    let shared = share_replay(Replay::last(1).ref_count(), || flow(stream::iter(1..)).rate_limit(10 * MS));
    let (mut first, mut second) = (shared.subscribe(), shared.subscribe());
    assert_eq!(first.next().await, Some(1));
    assert!(poll(&mut first).is_pending());
    assert_eq!(second.next().await, Some(1));
    let waits = poll_fn(|cx| Pin::new(&mut second).poll_next(cx));
    drop(first);
    assert_eq!(waits.await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn retries_and_runs_that_never_succeed_let_others_run() {
    let mut failing = retry(RetryPolicy::unlimited(), || stream::iter([Err::<u32, _>("oh")])).boxed();
    assert_eq!(poll(&mut failing), Poll::Pending);
    let mut empty = repeat(RepeatPolicy::forever(), stream::empty::<u32>).boxed();
    assert_eq!(poll(&mut empty), Poll::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_that_were_quiet_are_forgotten() {
    use millstream_operators::Steps;
    let chain = chain().per_key(|x: &u32| *x, |each| each.debounce(MS));
    let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
    let mut seen = 0_u32;
    for key in 0..100_000 {
        steps.item(key, Timestamp::from_millis(u64::from(key)), &mut |_, _| seen += 1);
        assert!(steps.state().1.len() < 4);
    }
    assert_eq!(seen, 99_999);
}

#[test]
fn flows_cross_threads_where_their_parts_do() {
    fn send_sync<T: Send + Sync>(_: &T) {}
    fn send<T: Send>(_: &T) {}
    send(&flow(stream::iter([1])).debounce(MS).map(|x| x + 1));
    send(&merge((stream::iter([1]), stream::iter([2]))));
    send(&merge(vec![stream::iter([1])]));
    send(&flow(stream::iter([1])).switch_map(|x| stream::iter([x])));
    send(&flow(stream::iter([1])).flat_map(2, |x| stream::iter([x])));
    send(&flow(stream::iter([1])).group_by(|x| *x));
    send(&share(|| stream::iter([1])));
    send_sync(&chain::<u32>().debounce(MS).map(|x| x + 1).boxed_chain());
    let _: fn(Flow<stream::Iter<std::vec::IntoIter<u8>>>) -> BoxFlow<'static, u8> = Flow::boxed;
    send(&stream::iter([1]).flow().spawn(1, Wait));
}
