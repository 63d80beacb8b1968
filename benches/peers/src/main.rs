//! Operators beside futures, tokio-stream and rxrust, in one run: medians in nanoseconds an event, and the ratio to ours.
//! All of a group are checked to give the same. `cargo run --release --manifest-path benches/peers/Cargo.toml`

use std::{
    cell::Cell,
    future::ready,
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, executor::block_on, stream};
use millstream_operators::{chain, combine, flow};
use rxrust::prelude::{Local, Observable as _, ObservableFactory as _};

const ITEMS: u64 = 20_000_000;
const ROUNDS: usize = 5;

/// How many came out, and their sum.
type Sum = (u64, u64);
type Job = (&'static str, fn() -> Sum);

fn add(sum: Sum, x: u64) -> Sum {
    (sum.0 + 1, sum.1.wrapping_add(x))
}

fn compare(title: &str, jobs: &[Job]) {
    let mut seen = vec![Vec::new(); jobs.len()];
    for _ in 0..ROUNDS {
        let mut expected = None;
        for ((name, job), times) in jobs.iter().zip(&mut seen) {
            let start = Instant::now();
            let sum = black_box(job());
            times.push(start.elapsed().as_nanos() as f64 / ITEMS as f64);
            assert_eq!(*expected.get_or_insert(sum), sum, "{title}: {name}");
        }
    }
    println!("\n{title}");
    let medians = seen.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let medians: Vec<f64> = medians.collect();
    for ((name, _), nanos) in jobs.iter().zip(&medians) {
        println!("  {name:<34} {nanos:>8.3} ns an event  {:>6.2}", nanos / medians[0]);
    }
}

fn numbers() -> std::ops::Range<u64> {
    0..black_box(ITEMS)
}

fn half() -> std::ops::Range<u64> {
    0..black_box(ITEMS / 2)
}

fn first(x: u64) -> bool {
    x & 1 == 0
}

fn change(x: u64) -> u64 {
    x.wrapping_mul(3).wrapping_add(x >> 7)
}

fn second(x: u64) -> bool {
    x & 4 == 0
}

/// What an observer that is pushed to has seen.
fn pushed(subscribe: impl FnOnce(Rc<Cell<Sum>>)) -> Sum {
    let sum = Rc::new(Cell::new((0, 0)));
    subscribe(Rc::clone(&sum));
    sum.get()
}

fn pulled(stream: impl futures::Stream<Item = u64>) -> Sum {
    block_on(async {
        let mut sum = (0, 0);
        let mut stream = std::pin::pin!(stream);
        while let Some(x) = stream.next().await {
            sum = add(sum, x);
        }
        sum
    })
}

fn each(stream: impl futures::Stream<Item = u64>) -> Sum {
    let mut sum = (0, 0);
    block_on(stream.for_each(|x| {
        sum = add(sum, x);
        ready(())
    }));
    sum
}

fn ours<S, O>(flow: millstream_operators::Flow<S, O>) -> Sum
where
    S: futures::Stream,
    O: millstream_operators::Operator<S::Item, Out = u64>,
{
    let mut sum = (0, 0);
    block_on(flow.for_each(|x| sum = add(sum, x)));
    sum
}

fn filters() {
    compare(
        "filter, map, filter",
        &[
            ("millstream Flow", || {
                ours(flow(stream::iter(numbers())).filter(|x| first(*x)).map(change).filter(|x| second(*x)))
            }),
            ("millstream Flow, by next", || {
                pulled(flow(stream::iter(numbers())).filter(|x| first(*x)).map(change).filter(|x| second(*x)))
            }),
            ("millstream Chain over chunks", || {
                let chain = chain().filter(|x| first(*x)).map(change).filter(|x| second(*x));
                let at = millstream_operators::Timestamp::EPOCH;
                let (mut sum, mut chunk) = ((0, 0), Vec::with_capacity(1_024));
                let mut steps = millstream_operators::Steps::start(&chain, at, &mut |_, _| {});
                let mut numbers = numbers();
                loop {
                    chunk.extend(numbers.by_ref().take(1_024));
                    if chunk.is_empty() {
                        return sum;
                    }
                    steps.chunk(&mut chunk, at, &mut |x, _| sum = add(sum, x));
                }
            }),
            ("futures", || {
                let numbers = stream::iter(numbers()).filter(|x| ready(first(*x)));
                pulled(numbers.map(change).filter(|x| ready(second(*x))))
            }),
            ("futures, for_each", || {
                let numbers = stream::iter(numbers()).filter(|x| ready(first(*x)));
                each(numbers.map(change).filter(|x| ready(second(*x))))
            }),
            ("tokio-stream", || {
                use tokio_stream::StreamExt;
                let numbers = StreamExt::filter(tokio_stream::iter(numbers()), |x| first(*x));
                pulled(StreamExt::filter(StreamExt::map(numbers, change), |x| second(*x)))
            }),
            ("rxrust", || {
                pushed(|sum| {
                    let numbers = Local::from_iter(numbers()).filter(|x| first(*x)).map(change).filter(|x| second(*x));
                    numbers.subscribe(move |x| sum.set(add(sum.get(), x)));
                })
            }),
        ],
    );
}

fn merges() {
    compare(
        "merge of two that are always ready",
        &[
            ("millstream merge of a tuple", || ours(combine::merge((stream::iter(half()), stream::iter(half()))))),
            ("millstream merge, by next", || pulled(combine::merge((stream::iter(half()), stream::iter(half()))))),
            ("millstream merge of a Vec", || ours(combine::merge(vec![stream::iter(half()), stream::iter(half())]))),
            ("futures select", || pulled(stream::select(stream::iter(half()), stream::iter(half())))),
            ("futures select, for_each", || each(stream::select(stream::iter(half()), stream::iter(half())))),
            ("futures select_all", || pulled(stream::select_all([stream::iter(half()), stream::iter(half())]))),
            ("tokio-stream merge", || {
                pulled(tokio_stream::StreamExt::merge(stream::iter(half()), stream::iter(half())))
            }),
            ("rxrust", || {
                pushed(|sum| {
                    let both = Local::from_iter(half()).merge(Local::from_iter(half()));
                    both.subscribe(move |x| sum.set(add(sum.get(), x)));
                })
            }),
        ],
    );
}

fn in_runtime(job: impl Future<Output = Sum>) -> Sum {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(job)
}

fn total(batch: &[u64]) -> u64 {
    batch.iter().fold(0, |sum, x| sum.wrapping_add(*x))
}

fn batches() {
    const WAIT: Duration = Duration::from_secs(1);
    compare(
        "batches of 100",
        &[
            ("millstream batch(100, 1 s)", || {
                in_runtime(async {
                    let mut sum = (0, 0);
                    let batches = flow(stream::iter(numbers())).batch(100, WAIT);
                    batches.for_each(|batch| sum = add(sum, total(&batch))).await;
                    sum
                })
            }),
            ("millstream buffer_count(100)", || {
                ours(flow(stream::iter(numbers())).buffer_count(100).map(|batch| total(&batch)))
            }),
            ("futures chunks(100)", || pulled(stream::iter(numbers()).chunks(100).map(|batch| total(&batch)))),
            ("tokio-stream chunks_timeout(100, 1 s)", || {
                in_runtime(async {
                    let batches = tokio_stream::StreamExt::chunks_timeout(stream::iter(numbers()), 100, WAIT);
                    batches.fold((0, 0), |sum, batch| ready(add(sum, total(&batch)))).await
                })
            }),
            ("rxrust buffer_count(100)", || {
                pushed(|sum| {
                    let batches = Local::from_iter(numbers()).buffer_count(100);
                    batches.subscribe(move |batch| sum.set(add(sum.get(), total(&batch))));
                })
            }),
        ],
    );
}

fn latest() {
    compare(
        "combine_latest of two, the first ready before the second",
        &[
            ("millstream combine_latest", || {
                let both = combine::combine_latest((stream::iter([7]), stream::iter(numbers())));
                ours(both.map(|(a, b)| a ^ b))
            }),
            ("rxrust combine_latest", || {
                pushed(|sum| {
                    // It subscribes to the second first.
                    let both = Local::from_iter(numbers()).combine_latest(Local::from_iter([7]), |a, b| a ^ b);
                    both.subscribe(move |x| sum.set(add(sum.get(), x)));
                })
            }),
        ],
    );
}

fn main() {
    filters();
    merges();
    batches();
    latest();
}
