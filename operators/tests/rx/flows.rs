//! Cases as streams, on tokio's paused clock.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{Stream, future::join_all, stream::BoxStream};
use millstream_operators::{
    Chain, Flow, IntoFlow as _, Operator,
    combine::{combine_latest, concat, merge, race, with_latest_from, zip},
    error::{FailScope, Guard, RepeatPolicy, RetryPolicy, fail_fast, repeat, retry},
    flow,
    share::{Replay, Share, share},
    task::Wait,
};
use serde_json::{Value, json};

use super::{
    case::{Case, Timeline, ms, timeline},
    functions::{key, pred},
    pure::{Visit, pure, timeout},
    timeline::{Cold, Outcome, cold, now, record},
};

type Scope = FailScope<String>;
type Input = Flow<Guard<Cold, String>>;
type Boxed = BoxStream<'static, Outcome>;

/// The two names that a case's flow may have.
type Variants = Vec<Boxed>;

fn boxed<T>(stream: impl Stream<Item = T> + Send + 'static) -> BoxStream<'static, T> {
    Box::pin(stream)
}

fn flat(outcome: Result<Outcome, String>) -> Outcome {
    outcome.and_then(|inner| inner)
}

/// A flow that the first error ends.
fn failing<S>(build: impl FnOnce(&Scope) -> S) -> Boxed
where
    S: Stream<Item = Outcome> + Send + 'static,
{
    boxed(fail_fast(build).map(flat))
}

fn input(case: &Case, scope: &Scope, index: usize) -> Input {
    scope.guard(cold(case.inputs.get(index).cloned().unwrap_or_default()))
}

fn all(case: &Case, scope: &Scope) -> Vec<Input> {
    (0..case.inputs.len()).map(|index| input(case, scope, index)).collect()
}

/// Runs a pure chain inside the visit: its type is known only there.
struct Streaming<'a>(&'a Case);

impl Visit for Streaming<'_> {
    type Output = Timeline;

    fn visit<O: Operator<Value, Out = Outcome>>(self, chain: Chain<Value, O>) -> Timeline {
        let case = self.0;
        paused(async move {
            let zero = now();
            record(fail_fast(|scope| chain.on(input(case, scope, 0))).map(flat), zero, case.horizon).await
        })
    }
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// What the case gives, once for each way to write it; `None` where the operator is unknown.
pub(crate) fn run(case: &Case) -> Option<Vec<Vec<Timeline>>> {
    let seen = pure(case, Streaming(case)).map(|seen| vec![vec![seen]]);
    if case.op != "group_by" {
        if let Some(seen) = seen {
            return Some(seen);
        }
        if let Some(outputs) = several(case) {
            return Some(vec![outputs]);
        }
    }
    let variants = ports(case).or_else(|| nested(case)).or_else(|| errors(case))?;
    let run = |stream| vec![paused(async { record(stream, now(), case.horizon).await })];
    Some(variants.into_iter().map(run).chain(seen.into_iter().flatten()).collect())
}

#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the shape that `map` wants")]
fn list(items: Vec<Value>) -> Outcome {
    Ok(json!(items))
}

/// Tuples of two and three beside the `Vec` of any number.
macro_rules! tuples {
    ($case:ident, $function:ident, $out:expr) => {{
        let mut variants = vec![failing(|scope| $function(all($case, scope)).map($out))];
        if $case.inputs.len() == 2 {
            variants
                .push(failing(|s| $function((input($case, s, 0), input($case, s, 1))).map(|x| tuple2!($function, x))));
        }
        if $case.inputs.len() == 3 {
            variants.push(failing(|s| {
                $function((input($case, s, 0), input($case, s, 1), input($case, s, 2))).map(|x| tuple3!($function, x))
            }));
        }
        variants
    }};
}

macro_rules! tuple2 {
    (merge, $x:expr) => {
        Ok($x)
    };
    (concat, $x:expr) => {
        Ok($x)
    };
    (race, $x:expr) => {
        Ok($x)
    };
    ($other:ident, $x:expr) => {{
        let (a, b) = $x;
        Ok(json!([a, b]))
    }};
}

macro_rules! tuple3 {
    (merge, $x:expr) => {
        Ok($x)
    };
    (concat, $x:expr) => {
        Ok($x)
    };
    (race, $x:expr) => {
        Ok($x)
    };
    ($other:ident, $x:expr) => {{
        let (a, b, c) = $x;
        Ok(json!([a, b, c]))
    }};
}

fn ports(case: &Case) -> Option<Variants> {
    Some(match case.op.as_str() {
        "merge" => tuples!(case, merge, Ok),
        "concat" => tuples!(case, concat, Ok),
        "race" => tuples!(case, race, Ok),
        "zip" => tuples!(case, zip, list),
        "combine_latest" => tuples!(case, combine_latest, list),
        "with_latest_from" => tuples!(case, with_latest_from, list),
        "take_until" => vec![failing(|s| input(case, s, 0).take_until(input(case, s, 1)).map(Ok))],
        "skip_until" => vec![failing(|s| input(case, s, 0).skip_until(input(case, s, 1)).map(Ok))],
        "sample_on" => vec![failing(|s| input(case, s, 0).sample_on(input(case, s, 1)).map(Ok))],
        "buffer_on" => vec![failing(|s| input(case, s, 0).buffer_on(input(case, s, 1)).map(list))],
        _ => return None,
    })
}

/// The inner stream of an outer value.
fn inner(case: &Case, scope: &Scope) -> impl Fn(Value) -> Input + Send + use<> {
    let (inner, scope) = (case.params["inner"].clone(), scope.clone());
    move |value| {
        let name = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        scope.guard(cold(timeline(&inner[name])))
    }
}

/// The outer stream; where its error must be seen while an inner one runs, it runs in a task of its own.
fn outer(case: &Case, scope: &Scope) -> BoxStream<'static, Value> {
    let outer = input(case, scope, 0);
    if case.has_error { boxed(outer.spawn(4_096, Wait)) } else { boxed(outer) }
}

fn nested(case: &Case) -> Option<Variants> {
    let limit = case.number("concurrency").map_or(usize::MAX, |_| case.size("concurrency"));
    Some(match case.op.as_str() {
        "switch_map" => vec![failing(|s| input(case, s, 0).switch_map(inner(case, s)).map(Ok))],
        "exhaust_map" => vec![failing(|s| input(case, s, 0).exhaust_map(inner(case, s)).map(Ok))],
        "concat_map" => vec![failing(|s| outer(case, s).flow().concat_map(inner(case, s)).map(Ok))],
        "flat_map" => vec![failing(|s| outer(case, s).flow().flat_map(limit, inner(case, s)).map(Ok))],
        "group_by" => vec![groups(case)],
        _ => return None,
    })
}

fn groups(case: &Case) -> Boxed {
    let (by, pairs) = (key(&case.params["key"]), case.params["emit"] == "pairs");
    let emit = move |key: Value, items: Boxed| -> Boxed {
        let items = flow(items).map(Result::unwrap_or_default);
        if pairs {
            boxed(items.map(move |item| Ok(json!([key, item]))))
        } else {
            boxed(items.to_vec().map(move |items| Ok(json!([key, items]))))
        }
    };
    failing(move |scope| {
        let source = input(case, scope, 0);
        let groups = match case.number("ttl") {
            Some(ttl) => source.group_by_for(by, ms(ttl)),
            None => source.group_by(by),
        };
        groups.flat_map(usize::MAX, move |group| {
            let key = group.key().clone();
            emit(key, boxed(flow(group).map(Ok)))
        })
    })
}

/// The runs of a source that starts again.
fn runs(case: &Case) -> impl FnMut() -> Cold + Send + use<> {
    let (case, mut k) = (case.clone(), 0);
    move || {
        k += 1;
        cold(case.run(k - 1))
    }
}

fn count(case: &Case) -> Option<u32> {
    case.number("count").and_then(|n| u32::try_from(n).ok())
}

fn errors(case: &Case) -> Option<Variants> {
    let delay = case.number("delay_ms").map_or(Duration::ZERO, ms);
    let stream = match case.op.as_str() {
        "retry" => {
            let policy = count(case).map_or(RetryPolicy::unlimited(), RetryPolicy::times).delay(delay);
            let reset = case.flag("reset_on_success");
            boxed(retry(if reset { policy.reset_on_item() } else { policy }, runs(case)))
        }
        "repeat" => {
            let policy = count(case).map_or(RepeatPolicy::forever(), RepeatPolicy::times).delay(delay);
            let mut runs = runs(case);
            failing(move |scope| {
                let scope = scope.clone();
                repeat(policy, move || scope.guard(runs())).map(Ok)
            })
        }
        "catch" => {
            let fallback = case.run(1);
            boxed(cold(case.run(0)).flow().catch(move |_| cold(fallback)))
        }
        "recover" => {
            let value = case.params["value"].clone();
            boxed(cold(case.run(0)).flow().recover(move |_| value.clone()).map(Ok))
        }
        "timeout" => {
            let with = case.size("with");
            failing(|scope| {
                let fallback = input(case, scope, with).map(Ok::<_, Infallible>);
                let timed = input(case, scope, 0).apply(timeout(case)).catch(move |_| fallback);
                timed.map(|item| item.map_err(|never| match never {}))
            })
        }
        _ => return None,
    };
    Some(vec![stream])
}

/// Cases with several outputs.
fn several(case: &Case) -> Option<Vec<Timeline>> {
    Some(match case.op.as_str() {
        "partition" => paused(async {
            let scope = Scope::new();
            let (pass, rest) = input(case, &scope, 0).partition(pred(case.params.get("pred")));
            outputs(case, &scope, [pass, rest]).await
        }),
        "split" => paused(split(case)),
        "share" => paused(subscribers(case, share(runs(case)))),
        "share_replay" => {
            let replay = Replay::last(case.size("n"));
            let replay = if case.flag("ref_count") { replay.ref_count() } else { replay };
            paused(subscribers(case, Share::replay_results(replay, runs(case))))
        }
        _ => return None,
    })
}

async fn outputs<S>(case: &Case, scope: &Scope, parts: impl IntoIterator<Item = S>) -> Vec<Timeline>
where
    S: Stream<Item = Value>,
{
    let zero = now();
    join_all(parts.into_iter().map(|part| record(scope.end(part), zero, case.horizon))).await
}

async fn split(case: &Case) -> Vec<Timeline> {
    let (scope, cases) = (Scope::new(), case.list("cases"));
    let preds: Arc<Vec<_>> = Arc::new(cases.iter().map(|spec| pred(Some(spec))).collect());
    let wanted = preds.len() + usize::from(case.flag("default"));
    let route = move |item: &Value| preds.iter().position(|pred| pred(item)).unwrap_or(preds.len());
    let parts: [_; 8] = input(case, &scope, 0).split(route);
    outputs(case, &scope, parts.into_iter().take(wanted)).await
}

async fn subscribers<F: FnMut() -> Cold>(case: &Case, shared: Share<Cold, F>) -> Vec<Timeline> {
    let (zero, subscribers) = (now(), case.list("subscribers"));
    let listen = subscribers.iter().map(|subscriber| {
        let shared = shared.clone();
        async move {
            let time = |name: &str| subscriber.get(name).and_then(Value::as_u64);
            tokio::time::sleep_until(zero + ms(time("at").unwrap_or(0))).await;
            let until = [time("until"), case.horizon].into_iter().flatten().min();
            record(shared.subscribe(), zero, until).await
        }
    });
    join_all(listen).await
}
