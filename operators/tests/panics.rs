//! A closure that panics poisons nothing but its stream.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{Stream, stream::iter};
use millstream_operators::{chain, flow, share::share, task::Wait};

fn poll<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

fn fails_at(bad: u32) -> impl Fn(u32) -> u32 + Clone + Send + 'static {
    move |x| {
        assert_ne!(x, bad, "a closure fails");
        x
    }
}

#[test]
fn a_chain_runs_again_after_a_panic() {
    let chain = chain().map(fails_at(2)).scan(0, |sum, x| *sum += x);
    assert!(catch_unwind(AssertUnwindSafe(|| chain.run_now([1, 2, 3]))).is_err());
    assert_eq!(chain.run_now([1, 3]), [1, 4]);
}

#[test]
fn another_flow_on_the_same_closure_goes_on() {
    let closure = fails_at(2);
    let mut bad = flow(iter([2])).map(closure.clone());
    let mut good = flow(iter([1])).map(closure);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut bad))).is_err());
    assert_eq!(poll(&mut good), Poll::Ready(Some(1)));
}

#[test]
fn one_key_that_panics_leaves_the_others_usable() {
    use millstream_operators::{Steps, Timestamp};
    let chain = chain().per_key(|x: &u32| x % 2, |each| each.map(fails_at(2)).scan(0, |sum, x| *sum += x));
    let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
    let mut seen = Vec::new();
    steps.item(1, Timestamp::EPOCH, &mut |x, _| seen.push(x));
    assert!(catch_unwind(AssertUnwindSafe(|| steps.item(2, Timestamp::EPOCH, &mut |_, _| {}))).is_err());
    steps.item(3, Timestamp::EPOCH, &mut |x, _| seen.push(x));
    assert_eq!(seen, [1, 4]);
}

#[test]
fn a_shared_source_that_panics_does_not_lock_up_its_subscribers() {
    let shared = share(|| flow(iter([1, 2, 3])).map(fails_at(2)));
    let (mut first, mut second) = (shared.subscribe(), shared.subscribe());
    assert_eq!(poll(&mut first), Poll::Ready(Some(1)));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    assert_eq!(poll(&mut second), Poll::Ready(Some(1)));
}

#[test]
fn one_output_that_is_routed_by_a_panic_leaves_the_other_usable() {
    let (mut low, mut high) = flow(iter([1, 2, 9])).partition(|x| fails_at(2)(*x) < 5);
    assert_eq!(poll(&mut low), Poll::Ready(Some(1)));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut high))).is_err());
    assert_eq!(poll(&mut high), Poll::Ready(Some(9)));
}

#[tokio::test]
async fn a_task_that_panics_does_so_in_its_own_stream() {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(flow(iter([1, 2])).map(fails_at(2)).spawn(4, Wait).collect::<Vec<_>>());
    let panicked = tasks.join_next().await.expect("a task");
    assert!(panicked.expect_err("a panic").is_panic());
    assert_eq!(flow(iter([1, 3])).map(fails_at(2)).spawn(4, Wait).collect::<Vec<_>>().await, [1, 3]);
}
