//! Crashes between any two commits, landed or not: the stage comes to what the model comes to, byte for byte.

use std::collections::BTreeMap;

use fastrand::Rng;
use millstream_operators::{Chain, Timestamp, chain, durable::Durable, time::Edge};
use serde_json::Value;

use super::{
    kit::{Rig, Tick, millis, ms, out},
    model::{Model, model},
    slow::{Fate, Slow},
};
use crate::{
    epoch::{Late, Stage, StateKey, Step, moment::Kind, value::Saved},
    event::{Draft, Priority},
    store::{Memory, Seq, Store},
};

const LATENESS: u64 = 6;

/// What goes in: a class, a tick and its time.
type Feed = Vec<(Priority, Tick, Timestamp)>;

fn feed(rng: &mut Rng, events: usize, keys: u32) -> Feed {
    let mut time = 20;
    (0_u32..)
        .take(events)
        .map(|number| {
            time += rng.u64(0..4);
            let at = ms(time - rng.u64(0..=LATENESS + 2));
            (Priority::ALL[rng.usize(0..3)], Tick { key: rng.u32(0..keys), number }, at)
        })
        .collect()
}

/// How one run goes wrong.
#[derive(Clone, Debug)]
struct Plan {
    epoch: usize,
    lanes: usize,
    memory: usize,
    /// What becomes of the batch of each number; landed where nothing is said.
    fates: BTreeMap<usize, Fate>,
    /// Out of a hundred steps, after how many the process dies; and how many batches of those in flight land then.
    deaths: u32,
    /// Before how many of a hundred steps another is begun and dropped.
    drops: u32,
    /// Whether all that goes in is there from the start.
    is_fed_first: bool,
}

impl Plan {
    fn quiet(epoch: usize, lanes: usize) -> Self {
        Self { epoch, lanes, memory: 64 << 10, fates: BTreeMap::new(), deaths: 0, drops: 0, is_fed_first: false }
    }
}

struct Run {
    outputs: Vec<Value>,
    states: BTreeMap<StateKey, bytes::Bytes>,
    seqs: Vec<Seq>,
    late: u64,
    handed_over: usize,
}

async fn run<O>(
    store: impl Store,
    make: impl Fn() -> Chain<Tick, O>,
    is_keyed: bool,
    feed: &Feed,
    plan: &Plan,
    rng: &mut Rng,
) -> Run
where
    O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
{
    let stage = || {
        let stage = if is_keyed { Stage::keyed(|tick: &Tick| tick.key, make()) } else { Stage::new(make()) };
        stage
            .event_time(millis(LATENESS))
            .late(Late::Drop)
            .epoch(plan.epoch)
            .lanes(plan.lanes)
            .state_memory(plan.memory)
    };
    let mut rig = Rig::on(Slow::new(store), stage()).await;
    let (mut seqs, mut left, mut batch, mut steps) = (Vec::new(), feed.iter(), 0, 0);
    for (class, tick, at) in left.by_ref().take(if plan.is_fed_first { feed.len() } else { 0 }) {
        seqs.extend(rig.append(*class, &[(tick.clone(), *at)]).await);
    }
    loop {
        if rng.u32(0..3) == 0
            && let Some((class, tick, at)) = left.next()
        {
            seqs.extend(rig.append(*class, &[(tick.clone(), *at)]).await);
        }
        if rng.u32(0..100) < plan.deaths {
            for _ in 0..rng.usize(0..=rig.store.pending()) {
                rig.store.decide(Fate::Landed).await;
            }
            rig.restart(stage()).await;
        }
        let lands = rng.u32(0..4) == 0;
        if rng.u32(0..100) < plan.drops {
            rig.begin_step(rng.usize(1..8)).await;
        }
        let stepped = rig.step().await;
        steps += 1;
        assert!(steps < 20_000, "no end: {stepped:?} {:?}", rig.stage.status());
        match stepped {
            Ok(Step::Again) if !lands => {}
            Ok(Step::Again | Step::Committing) if rig.store.pending() > 0 => {
                let fate = plan.fates.get(&batch).copied().unwrap_or(Fate::Landed);
                batch += 1;
                rig.store.decide(fate).await;
            }
            Ok(Step::Again | Step::Committing) => {}
            Ok(Step::Idle { .. }) => match left.next() {
                Some((class, tick, at)) => seqs.extend(rig.append(*class, &[(tick.clone(), *at)]).await),
                None => break,
            },
            Ok(Step::Parked) => panic!("parked: {:?}", rig.stage.status()),
            Err(_) => {
                // What is in flight behind the one that failed is decided, too.
                while rig.store.pending() > 0 {
                    rig.store.decide(Fate::Landed).await;
                }
                rig.restore().await;
            }
        }
    }
    rig.check_timers().await;
    let (outputs, states) = (rig.outputs().await, rig.states().await);
    let handed_over = rig.store.handed_over();
    Run { outputs, states, seqs, late: rig.stage.status().counts.late, handed_over }
}

/// Compares what came out and what is remembered with the model.
fn check(run: &Run, expected: &Model, lateness_waits: bool) {
    let mut outputs: BTreeMap<StateKey, Vec<(Value, u64)>> = BTreeMap::new();
    for output in &run.outputs {
        let key = StateKey::new(None, output[0].as_str().unwrap());
        outputs.entry(key).or_default().push((output[1].clone(), output[2].as_u64().unwrap()));
    }
    assert_eq!(outputs, expected.outputs);
    assert_eq!(run.late, expected.late as u64);
    let mut states = BTreeMap::new();
    for (key, value) in &run.states {
        let saved = Saved::read(value).unwrap();
        if lateness_waits && saved.preface.next.is_some_and(|next| next.kind == Kind::Item) && !saved.preface.is_started
        {
            continue;
        }
        let timer = saved.preface.next.filter(|next| next.kind == Kind::Timer).map(|next| next.at);
        if saved.waiting.is_empty() {
            assert_eq!(timer, expected.deadlines.get(key).copied(), "{key:?}");
        }
        let parts: BTreeMap<_, _> =
            saved.parts.iter().map(|part| (part.label.to_owned(), part.value.to_vec())).collect();
        if expected.states.contains_key(key) || saved.waiting.is_empty() {
            states.insert(key.clone(), parts);
        }
    }
    assert_eq!(states, expected.states);
}

/// One chain, through quiet and unquiet runs.
pub(super) fn every_way<O>(name: &str, is_keyed: bool, make: impl Fn() -> Chain<Tick, O>)
where
    O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
{
    some_ways(name, is_keyed, 12, Memory::new, make);
}

/// The same with fewer seeds, unless the environment asks for so many.
pub(super) fn some_ways<S: Store, O>(
    name: &str,
    is_keyed: bool,
    seeds: u64,
    store: impl Fn() -> S,
    make: impl Fn() -> Chain<Tick, O>,
) where
    O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
{
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seeds: u64 = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(seeds);
    for seed in 0..seeds {
        let mut rng = Rng::with_seed(seed);
        let (events, keys) = (rng.usize(30..160), [3, 12, 60][rng.usize(0..3)]);
        let feed = feed(&mut rng, events, keys);
        let key = |tick: &Tick| if is_keyed { tick.key.to_string() } else { String::new() };
        let mut first: Option<Vec<Value>> = None;
        let mut plans = vec![Plan::quiet(1_000, 1), Plan::quiet(1, 4), Plan::quiet(rng.usize(2..20), 16)];
        for _ in 0..4 {
            let mut plan = Plan::quiet(rng.usize(1..20), [1, 4, 16][rng.usize(0..3)]);
            (plan.deaths, plan.drops) = (rng.u32(0..12), rng.u32(0..40));
            let fates = [Fate::Full, Fate::Lost, Fate::LandedUnknown];
            plan.fates = (0..rng.usize(0..8)).map(|_| (rng.usize(0..40), fates[rng.usize(0..3)])).collect();
            plans.push(plan);
        }
        for plan in plans {
            println!("{name}, seed {seed}: {plan:?}");
            let run = tokio.block_on(run(store(), &make, is_keyed, &feed, &plan, &mut rng));
            // The same order of the same events, whatever the classes.
            let mut items: Vec<_> =
                run.seqs.iter().zip(&feed).map(|(seq, (_, tick, at))| (*seq, tick.clone(), *at)).collect();
            items.sort_by_key(|(seq, ..)| *seq);
            check(&run, &model(&make(), key, &items, millis(LATENESS)), true);
            let outputs = first.get_or_insert_with(|| run.outputs.clone());
            assert_eq!(outputs, &run.outputs, "the same output in the same order");
        }
    }
}

#[test]
fn a_sum_is_exact() {
    every_way("scan", true, || chain().scan(0_u64, |sum, tick: Tick| *sum += u64::from(tick.number)).map(out));
}

#[test]
fn a_debounce_is_exact() {
    every_way("debounce", true, || chain().debounce(millis(5)).map(out));
}

#[test]
fn a_chain_of_timers_is_exact() {
    every_way("delay, throttle", true, || {
        chain().delay(millis(3)).named("first").throttle(millis(7), Edge::Both).delay(millis(2)).map(out)
    });
}

#[test]
fn a_chain_that_closes_is_exact() {
    every_way("take, delay, batch", true, || chain().take(7).delay(millis(4)).batch(3, millis(6)).map(out));
}

#[test]
fn a_ticking_sample_is_exact() {
    every_way("sample", true, || chain().sample(millis(4)).pairwise().map(out));
}

#[test]
fn one_state_for_all_is_exact() {
    every_way("unkeyed", false, || chain().per_key(|tick: &Tick| tick.key, |each| each.debounce(millis(4))).map(out));
}

/// Keys come and go from memory all the time.
#[test]
fn states_that_do_not_fit_into_memory_are_exact() {
    some_ways("large", true, 3, Memory::new, || {
        let start = (0_u64, "x".repeat(2_000));
        let sum = chain().scan(start, |(sum, _), tick: Tick| *sum += u64::from(tick.number)).map(|(sum, _)| sum);
        sum.debounce(millis(9)).map(out)
    });
}

/// For every batch, every fate: the systematic part.
#[test]
fn a_failure_of_any_one_commit_leaves_no_trace() {
    let make = || chain().scan(0_u64, |sum, tick: Tick| *sum += u64::from(tick.number)).debounce(millis(5)).map(out);
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let feed = feed(&mut Rng::with_seed(99), 60, 30);
    let plan = || Plan { is_fed_first: true, ..Plan::quiet(5, 1) };
    let go = |plan: &Plan| tokio.block_on(run(Memory::new(), make, true, &feed, plan, &mut Rng::with_seed(5)));
    let quiet = go(&plan());
    assert!(quiet.handed_over > 10, "{}", quiet.handed_over);
    for number in 0..quiet.handed_over {
        for fate in [Fate::Full, Fate::Lost, Fate::LandedUnknown] {
            println!("batch {number}: {fate:?}");
            let failed = go(&Plan { fates: BTreeMap::from([(number, fate)]), ..plan() });
            assert!(failed.outputs == quiet.outputs && failed.states == quiet.states);
        }
    }
}

#[cfg(feature = "redb")]
#[test]
fn a_stage_on_a_file_is_exact() {
    use crate::store::Redb;

    let store = || Redb::builder().open_on(redb::backends::InMemoryBackend::new()).unwrap();
    some_ways("on a file", true, 2, store, || {
        chain().scan(0_u64, |sum, tick: Tick| *sum += u64::from(tick.number)).delay(millis(4)).map(out)
    });
}
