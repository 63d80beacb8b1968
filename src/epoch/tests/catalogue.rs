//! What the operators give by themselves, they give in a stage: however it is cut into epochs, and through crashes.

use millstream_operators::{Chain, Flow, chain, durable::Durable, time::Edge};

use super::{
    crash::some_ways,
    kit::{Tick, millis, out},
};
use crate::{event::Draft, store::Memory};

fn check<O>(name: &str, make: impl Fn() -> Chain<Tick, O>)
where
    O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
{
    some_ways(name, true, 2, Memory::new, make);
}

fn even(tick: &Tick) -> bool {
    tick.number.is_multiple_of(2)
}

#[test]
fn operators_that_choose_are_the_same_in_a_stage() {
    check("filter", || chain().filter(even).map(out));
    check("skip", || chain().skip(3).map(out));
    check("take_while", || chain().take_while(|tick: &Tick| tick.number % 9 != 8).map(out));
    check("skip_while", || chain().skip_while(|tick: &Tick| tick.number % 9 != 8).map(out));
    check("take_last", || chain().take(9).take_last(2).map(out));
    check("skip_last", || chain().skip_last(2).map(out));
    check("distinct_until_changed", || chain().map(|tick: Tick| tick.number / 20).distinct_until_changed().map(out));
    check("first", || chain().first().map(|first| out(first.ok())));
    check("find", || chain().find(even).map(out));
    check("pairwise", || chain().pairwise().map(out));
    check("scan_first", || chain().map(|tick: Tick| tick.number).scan_first(u32::max).map(out));
    check("start_with", || chain().map(|tick: Tick| tick.number).start_with([8, 9]).map(out));
}

#[test]
fn operators_that_gather_are_the_same_in_a_stage() {
    check("batch", || chain().batch(3, millis(5)).map(out));
    check("batch_weight", || chain().batch_weight(90, millis(5), |tick: &Tick| tick.number as usize).map(out));
    check("buffer_count", || chain().buffer_count(3).map(out));
    check("buffer_count_every", || chain().buffer_count_every(3, 2).map(out));
    check("buffer_time", || chain().buffer_time(millis(6)).map(out));
    check("buffer_time_count", || chain().buffer_time_count(millis(6), 2).map(out));
    check("to_vec, expire", || chain().to_vec().expire(millis(9)).map(out));
    check("count of some", || chain().take(4).count().map(out));
}

#[test]
fn operators_that_wait_are_the_same_in_a_stage() {
    check("delay", || chain().delay(millis(7)).map(out));
    check("debounce_max", || chain().debounce_max(millis(3), millis(5)).map(out));
    check("throttle leading", || chain().throttle(millis(5), Edge::Leading).map(out));
    check("throttle trailing", || chain().throttle(millis(5), Edge::Trailing).map(out));
    check("audit", || chain().audit(millis(4)).map(out));
    check("rate_limit", || chain().rate_limit(millis(3)).map(out));
    check("timeout", || chain().timeout(millis(9)).map(|item| out(item.ok())));
    check("expire drains", || chain().delay(millis(6)).expire(millis(4)).map(out));
    check("audit, audit", || chain().audit(millis(3)).named("a").audit(millis(3)).named("b").skip(1).map(out));
    check("delay 0", || chain().delay(millis(0)).named("a").debounce(millis(3)).delay(millis(0)).named("b").map(out));
}

#[test]
fn operators_of_operators_are_the_same_in_a_stage() {
    check("tumbling", || chain().tumbling(millis(10), Flow::count).map(out));
    check("tumbling, wait", || chain().tumbling(millis(10), |each| each.debounce(millis(4)).to_vec()).map(out));
    check("tumbling, hold", || chain().tumbling(millis(7), |each| each.delay(millis(9)).pairwise()).map(out));
    check("window_count", || chain().window_count(3, 2).map(out));
    check("per_key, expire", || {
        chain()
            .per_key(|tick: &Tick| tick.number % 3, |each| each.scan(0, |sum, _| *sum += 1).expire(millis(9)))
            .map(out)
    });
    check("per_key, tumbling", || {
        chain().per_key(|tick: &Tick| tick.number % 3, |each| each.tumbling(millis(9), Flow::count)).map(out)
    });
}

#[test]
fn operators_that_remember_are_the_same_in_a_stage() {
    check("element_at", || chain().element_at(3).map(|item| out(item.ok())));
    check("last", || chain().take(5).last().map(|item| out(item.ok())));
    check("reduce", || chain().map(|tick: Tick| tick.number).take(5).reduce(|a, b| a * 3 + b).map(out));
    check("max", || chain().take(4).max().map(out));
    check("min_by_key", || chain().take(4).min_by_key(|tick: &Tick| tick.number % 5).map(out));
    check("any", || chain().any(|tick: &Tick| tick.number % 11 == 10).map(out));
    check("every", || chain().every(|tick: &Tick| tick.number % 11 != 10).map(out));
    check("is_empty", || chain().is_empty().map(out));
    check("nothing", || {
        chain().map(|tick: Tick| tick.number.is_multiple_of(3).then_some(tick.number)).distinct_until_changed().map(out)
    });
    check("nothing, throttled", || chain().map(|_: Tick| ()).throttle(millis(5), Edge::Trailing).map(out));
}
