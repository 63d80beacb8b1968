//! Operators against the loop that one would write by hand, and against `futures`, in one run. Prints medians and ratios
//! to the first line of each group, whose results all are checked to be the same.
//! `cargo bench -p millstream-operators --bench speed`
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark reads the clock and reports")]

use std::{
    collections::HashMap,
    fs,
    future::ready,
    hint::black_box,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, executor::block_on, stream};
use millstream_operators::{
    Chain, Flow, Operator, Steps, Timestamp, chain,
    combine::{combine_latest, merge},
    flow,
};

const CHUNK: usize = 1_024;
const CHUNKS: usize = 97_657;
const POOL: usize = 64;
const ROUNDS: usize = 7;
const STREAM: u64 = 20_000_000;
const KEYS: u64 = 1_000_000;

/// How many came out, and their sum.
type Sum = (u64, u64);

fn add(sum: &mut Sum, x: u64) {
    *sum = (sum.0 + 1, sum.1.wrapping_add(x));
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn time(events: u64, job: impl FnOnce() -> Sum) -> (f64, Sum) {
    let start = Instant::now();
    let sum = black_box(job());
    (start.elapsed().as_nanos() as f64 / events as f64, sum)
}

type Job<'a> = (&'a str, Box<dyn FnMut() -> Sum + 'a>);

fn job<'a>(name: &'a str, job: impl FnMut() -> Sum + 'a) -> Job<'a> {
    (name, Box::new(job))
}

/// Runs all jobs in turn, several rounds.
fn compare(title: &str, events: u64, mut jobs: Vec<Job<'_>>) {
    let mut seen: Vec<Vec<f64>> = vec![Vec::new(); jobs.len()];
    let mut expected = None;
    for _ in 0..ROUNDS {
        for ((name, job), times) in jobs.iter_mut().zip(&mut seen) {
            let (nanos, sum) = time(events, job);
            assert_eq!(*expected.get_or_insert(sum), sum, "{title}: {name}");
            times.push(nanos);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<f64> = seen.iter_mut().map(median).collect();
    println!("\n{title}");
    for ((name, _), nanos) in jobs.iter().zip(&medians) {
        println!("  {name:<44} {nanos:>8.3} ns an event  {:>6.2}", nanos / medians[0]);
    }
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn pool(item: impl Fn(u64) -> u64) -> Vec<Vec<u64>> {
    let mut items = (0_u64..).map(item);
    (0..POOL).map(|_| items.by_ref().take(CHUNK).collect()).collect()
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

fn by_hand(pool: &[Vec<u64>]) -> Sum {
    let (mut sum, mut chunk) = ((0, 0), Vec::with_capacity(CHUNK));
    for n in 0..CHUNKS {
        chunk.extend_from_slice(&pool[n % POOL]);
        for x in black_box(&mut chunk).drain(..) {
            if first(x) {
                let x = change(x);
                if second(x) {
                    add(&mut sum, x);
                }
            }
        }
    }
    sum
}

fn by_chain<O: Operator<u64, Out = u64>>(chain: &Chain<u64, O>, pool: &[Vec<u64>]) -> Sum {
    let (mut sum, mut chunk) = ((0, 0), Vec::with_capacity(CHUNK));
    let mut steps = Steps::start(chain, Timestamp::EPOCH, &mut |_, _| {});
    for n in 0..CHUNKS {
        chunk.extend_from_slice(&pool[n % POOL]);
        steps.chunk(black_box(&mut chunk), Timestamp::EPOCH, &mut |x, _| add(&mut sum, x));
    }
    sum
}

fn chunks(title: &str, item: impl Fn(u64) -> u64) {
    let pool = pool(item);
    let chain = chain().filter(|x| first(*x)).map(change).filter(|x| second(*x));
    let jobs = vec![job("by hand", || by_hand(&pool)), job("Chain", || by_chain(&chain, &pool))];
    compare(title, (CHUNK * CHUNKS) as u64, jobs);
}

fn drain<S: futures::Stream, O: Operator<S::Item, Out = u64>>(flow: Flow<S, O>) -> Sum {
    let mut sum = (0, 0);
    block_on(flow.for_each(|x| add(&mut sum, x)));
    sum
}

fn drain_futures(stream: impl futures::Stream<Item = u64>) -> Sum {
    let mut sum = (0, 0);
    block_on(stream.for_each(|x| {
        add(&mut sum, x);
        ready(())
    }));
    sum
}

fn streams() {
    let ours = || flow(stream::iter(0..black_box(STREAM))).filter(|x| first(*x)).map(change).filter(|x| second(*x));
    let theirs = || {
        let filtered = stream::iter(0..black_box(STREAM)).filter(|x| ready(first(*x)));
        filtered.map(change).filter(|x| ready(second(*x)))
    };
    let jobs = vec![
        job("futures StreamExt, for_each", || drain_futures(theirs())),
        job("Flow, for_each", || drain(ours())),
        job("futures StreamExt, next in a loop", || {
            let (mut sum, mut stream) = ((0, 0), theirs());
            block_on(async {
                while let Some(x) = stream.next().await {
                    add(&mut sum, x);
                }
            });
            sum
        }),
        job("Flow, next in a loop", || {
            let (mut sum, mut flow) = ((0, 0), ours());
            block_on(async {
                while let Some(x) = flow.next().await {
                    add(&mut sum, x);
                }
            });
            sum
        }),
    ];
    compare("filter, map, filter over stream::iter", STREAM, jobs);
}

fn merges() {
    let half = || stream::iter(0..black_box(STREAM / 2));
    let jobs = vec![
        job("futures select", || drain_futures(stream::select(half(), half()))),
        job("merge of a tuple", || drain(merge((half(), half())))),
        job("merge of a Vec", || drain(merge(vec![half(), half()]))),
        job("futures select_all", || drain_futures(stream::select_all([half(), half()]))),
    ];
    compare("merge of two streams that are always ready", STREAM, jobs);
}

fn in_runtime(job: impl Future<Output = Sum>) -> Sum {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map(|runtime| runtime.block_on(job)).unwrap_or_default()
}

#[expect(clippy::needless_pass_by_value, reason = "a batch is consumed")]
fn total(batch: Vec<u64>) -> u64 {
    batch.iter().fold(0, |sum, x| sum.wrapping_add(*x))
}

fn batches() {
    let items = || stream::iter(0..black_box(STREAM));
    let second = Duration::from_secs(1);
    let jobs = vec![
        job("by hand", || {
            let (mut sum, mut batch) = ((0, 0), Vec::with_capacity(100));
            for x in 0..black_box(STREAM) {
                batch.push(x);
                if batch.len() == 100 {
                    add(&mut sum, total(std::mem::replace(&mut batch, Vec::with_capacity(100))));
                }
            }
            sum
        }),
        job("batch(100, 1 s)", || {
            in_runtime(async {
                let mut sum = (0, 0);
                flow(items()).batch(100, second).for_each(|batch| add(&mut sum, total(batch))).await;
                sum
            })
        }),
        job("futures chunks(100), no time", || drain_futures(items().chunks(100).map(total))),
        job("tokio-stream chunks_timeout(100, 1 s)", || {
            in_runtime(async {
                let mut sum = (0, 0);
                let batches = tokio_stream::StreamExt::chunks_timeout(items(), 100, second);
                let each = |batch| {
                    add(&mut sum, total(batch));
                    ready(())
                };
                batches.for_each(each).await;
                sum
            })
        }),
    ];
    compare("batches of 100", STREAM, jobs);
}

/// A key, and when: each key twice in a row of a second, then quiet.
fn readings() -> impl Iterator<Item = (u64, Timestamp)> {
    (0..black_box(4 * KEYS)).map(|n| (mix(n) % KEYS, Timestamp::from_nanos(n * 1_000)))
}

const QUIET: Duration = Duration::from_secs(1);

fn debounce_by_hand() -> Sum {
    let (mut sum, mut keys, mut fifo) = ((0, 0), HashMap::new(), std::collections::VecDeque::new());
    let mut fire = |keys: &mut HashMap<u64, Timestamp>, fifo: &mut std::collections::VecDeque<(u64, Timestamp)>, to| {
        while let Some((key, due)) = fifo.pop_front_if(|(_, due)| *due <= to) {
            if keys.get(&key) == Some(&due) {
                keys.remove(&key);
                add(&mut sum, key);
            }
        }
    };
    for (key, at) in readings() {
        fire(&mut keys, &mut fifo, at);
        keys.insert(key, at + QUIET);
        fifo.push_back((key, at + QUIET));
    }
    fire(&mut keys, &mut fifo, Timestamp::MAX);
    sum
}

fn debounce() -> Sum {
    let mut sum = (0, 0);
    let chain = chain().per_key(|x: &u64| *x, |each| each.debounce(QUIET));
    let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
    for (key, at) in readings() {
        steps.item(key, at, &mut |x, _| add(&mut sum, x));
    }
    steps.advance(Timestamp::MAX, &mut |x, _| add(&mut sum, x));
    sum
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4_096
}

fn keys() {
    let before = resident();
    let chain = chain().per_key(|x: &u64| *x, |each| each.debounce(QUIET));
    let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
    for key in 0..KEYS {
        steps.item(key, Timestamp::EPOCH, &mut |_, _| {});
    }
    let (each, waiting) = ((resident() - before) / KEYS, steps.deadline().is_some());
    drop(steps);
    let jobs =
        vec![job("by hand: a HashMap and a queue, one period", debounce_by_hand), job("per_key(debounce)", debounce)];
    compare("debounce over a million keys", 4 * KEYS, jobs);
    println!("  memory: {each} bytes a key that waits (deadlines in the index: {waiting})");
}

fn latest() {
    let half = || stream::iter(0..black_box(STREAM / 2));
    let jobs = vec![
        job("by hand: two iterators in turns of 32", || {
            let (mut sum, mut a, mut b) = ((0, 0), None, None);
            let (mut left, mut right) = (half(), half());
            block_on(async {
                let mut ended = (false, false);
                while !(ended.0 && ended.1) {
                    for _ in 0..32 {
                        match left.next().await {
                            Some(x) => a = Some(x),
                            None => ended.0 = true,
                        }
                        if let (false, Some(a), Some(b)) = (ended.0, a, b) {
                            add(&mut sum, a ^ b);
                        }
                    }
                    for _ in 0..32 {
                        match right.next().await {
                            Some(x) => b = Some(x),
                            None => ended.1 = true,
                        }
                        if let (false, Some(a), Some(b)) = (ended.1, a, b) {
                            add(&mut sum, a ^ b);
                        }
                    }
                }
            });
            sum
        }),
        job("combine_latest of a tuple", || drain(combine_latest((half(), half())).map(|(a, b)| a ^ b))),
    ];
    compare("combine_latest of two streams that are always ready", STREAM, jobs);
}

fn main() {
    chunks("filter, map, filter over 100 million u64 in chunks of 1,024, predictable", |x| x);
    chunks("the same, unpredictable", mix);
    streams();
    merges();
    batches();
    keys();
    latest();
}
