//! Every pure operator, with settings small enough to matter, and some chains of several.

use std::{fmt::Debug, hash::Hash, time::Duration};

use millstream_operators::{
    Chain, Flow, Timestamp,
    buffer::WindowCount,
    chain,
    combine::{
        BufferOn, CombineLatest, Merge, Port2, PortN, Race, SampleOn, SkipUntil, TakeUntil, WithLatestFrom, Zip,
    },
    durable::Durable,
    time::{Edge, Reorder, Timeout},
};
use serde::{Serialize, de::DeserializeOwned};

/// What the chains carry: a number, perhaps with something that can be counted.
pub(crate) trait Item: Clone + Debug + Ord + Hash + Serialize + DeserializeOwned + 'static {
    fn number(&self) -> u32;
}

impl Item for u32 {
    fn number(&self) -> u32 {
        *self
    }
}

/// Sees one chain after another.
pub(crate) trait Visit<T> {
    fn visit<O>(&mut self, name: &str, chain: Chain<T, O>)
    where
        O: Durable<T>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned;
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn even<T: Item>(item: &T) -> bool {
    item.number().is_multiple_of(2)
}

fn port2<T: Item>(item: T) -> Port2<T, T> {
    match item.number() % 7 {
        0 => Port2::A(None),
        1 => Port2::B(None),
        n if n % 2 == 0 => Port2::A(Some(item)),
        _ => Port2::B(Some(item)),
    }
}

fn port_n<T: Item>(item: T) -> PortN<T> {
    let number = item.number();
    PortN { port: (number % 3) as usize, item: (!number.is_multiple_of(11)).then_some(item) }
}

fn result<T: Item>(item: T) -> Result<T, T> {
    if item.number() == 5 { Err(item) } else { Ok(item) }
}

pub(crate) fn every_chain<T: Item>(v: &mut impl Visit<T>) {
    filters(v);
    transforms(v);
    reductions(v);
    timed(v);
    buffers(v);
    ports(v);
    keyed(v);
    windows(v);
    several(v);
}

fn filters<T: Item>(v: &mut impl Visit<T>) {
    v.visit("filter", chain().filter(even));
    v.visit("filter_map", chain().filter_map(|x: T| even(&x).then(|| x.number())));
    v.visit("take", chain().take(3));
    v.visit("skip", chain().skip(3));
    v.visit("take_last", chain().take_last(3));
    v.visit("skip_last", chain().skip_last(3));
    v.visit("take_while", chain().take_while(|x: &T| x.number() != 4));
    v.visit("take_while_inclusive", chain().take_while_inclusive(|x: &T| x.number() != 4));
    v.visit("skip_while", chain().skip_while(|x: &T| x.number() != 4));
    v.visit("ignore_elements", chain().ignore_elements());
    v.visit("distinct", chain().distinct());
    v.visit("distinct_by_key", chain().distinct_by_key(|x: &T| x.number() % 5));
    v.visit("distinct_until_changed", chain().distinct_until_changed());
    v.visit("distinct_until_key_changed", chain().distinct_until_key_changed(even));
    v.visit("element_at", chain().element_at(3).map(|x| x.map_err(|e| e.index)));
    v.visit("first", chain().filter(even).first());
    v.visit("last", chain().filter(even).last());
    v.visit("find", chain().find(even));
}

fn transforms<T: Item>(v: &mut impl Visit<T>) {
    v.visit("map", chain().map(|x: T| x.number() + 1));
    v.visit("inspect", chain().inspect(|_: &T| {}));
    v.visit("pairwise", chain().pairwise());
    v.visit("scan", chain().scan(0, |sum: &mut u32, x: T| *sum += x.number()));
    v.visit("scan_first", chain().scan_first(T::max));
    v.visit("recover", chain().map(result).recover(|e| e));
}

fn reductions<T: Item>(v: &mut impl Visit<T>) {
    v.visit("fold", chain().fold(0, |sum: &mut u32, x: T| *sum += x.number()));
    v.visit("reduce", chain().reduce(T::max));
    v.visit("count", chain().count());
    v.visit("min", chain().min());
    v.visit("max", chain().max());
    v.visit("min_by_key", chain().min_by_key(|x: &T| x.number() % 5));
    v.visit("max_by_key", chain().max_by_key(|x: &T| x.number() % 5));
    v.visit("every", chain().every(|x: &T| x.number() != 4));
    v.visit("any", chain().any(|x: &T| x.number() == 4));
    v.visit("is_empty", chain().is_empty());
    v.visit("to_vec", chain().to_vec());
    v.visit("default_if_empty", chain().filter(even).map(|x: T| x.number()).default_if_empty(7));
    v.visit("start_with", chain().map(|x: T| x.number()).start_with([8, 9]));
    v.visit("end_with", chain().map(|x: T| x.number()).end_with([8, 9]));
    v.visit("element_at_or", chain().map(|x: T| x.number()).element_at_or(3, 7));
    v.visit("first_or", chain().filter(even).map(|x: T| x.number()).first_or(7));
    v.visit("last_or", chain().filter(even).map(|x: T| x.number()).last_or(7));
}

fn timed<T: Item>(v: &mut impl Visit<T>) {
    v.visit("delay", chain().delay(ms(7)));
    v.visit("debounce", chain().debounce(ms(3)));
    v.visit("debounce_max", chain().debounce_max(ms(3), ms(5)));
    v.visit("throttle leading", chain().throttle(ms(5), Edge::Leading));
    v.visit("throttle trailing", chain().throttle(ms(5), Edge::Trailing));
    v.visit("throttle both", chain().throttle(ms(5), Edge::Both));
    v.visit("audit", chain().audit(ms(4)));
    v.visit("sample", chain().sample(ms(4)));
    v.visit("rate_limit", chain().rate_limit(ms(3)));
    v.visit("timeout", chain().timeout(ms(9)));
    v.visit("timeout first", chain().apply(Timeout::first_and_each(ms(20), ms(6)).expect("not zero")));
}

fn buffers<T: Item>(v: &mut impl Visit<T>) {
    v.visit("batch", chain().batch(3, ms(5)));
    v.visit("batch_weight", chain().batch_weight(9, ms(5), |x: &T| x.number() as usize));
    v.visit("buffer_count", chain().buffer_count(3));
    v.visit("buffer_count_every", chain().buffer_count_every(3, 2));
    v.visit("buffer_time", chain().buffer_time(ms(6)));
    v.visit("buffer_time_count", chain().buffer_time_count(ms(6), 2));
    v.visit("window_count", chain().apply(WindowCount::new(3, 2).expect("not zero")));
}

fn ports<T: Item>(v: &mut impl Visit<T>) {
    v.visit("merge", chain().map(port2).apply(Merge));
    v.visit("race", chain().map(port2).apply(Race));
    v.visit("zip", chain().map(port2).apply(Zip::new(2)));
    v.visit("combine_latest", chain().map(port2).apply(CombineLatest::new(2)));
    v.visit("with_latest_from", chain().map(port2).apply(WithLatestFrom::new(2)));
    v.visit("take_until", chain().map(port2).apply(TakeUntil));
    v.visit("skip_until", chain().map(port2).apply(SkipUntil));
    v.visit("sample_on", chain().map(port2).apply(SampleOn));
    v.visit("buffer_on", chain().map(port2).apply(BufferOn));
    v.visit("merge n", chain().map(port_n).apply(Merge));
    v.visit("race n", chain().map(port_n).apply(Race));
    v.visit("zip n", chain().map(port_n).apply(Zip::new(3)));
    v.visit("combine_latest n", chain().map(port_n).apply(CombineLatest::new(3)));
    v.visit("with_latest_from n", chain().map(port_n).apply(WithLatestFrom::new(3)));
}

fn keyed<T: Item>(v: &mut impl Visit<T>) {
    let key = |x: &T| x.number() % 3;
    v.visit("per_key debounce", chain().per_key(key, |each| each.debounce(ms(3))));
    v.visit("per_key delay", chain().per_key(key, |each| each.delay(ms(3)).throttle(ms(2), Edge::Both)));
    v.visit("per_key take", chain().per_key(key, |each| each.take(2)));
    v.visit("per_key sample", chain().per_key(key, |each| each.sample(ms(4))));
    v.visit("key_by", chain().key_by(key).batch(2, ms(4)).unkey().batch(2, ms(9)));
    v.visit("expire", chain().to_vec().expire(ms(4)));
    v.visit("expire drains", chain().delay(ms(6)).expire(ms(4)));
    v.visit("per_key expire", chain().per_key(key, |each| each.count().expire(ms(6))));
}

fn windows<T: Item>(v: &mut impl Visit<T>) {
    // Numbers as times: they come in any order, so some are late.
    let time = |x: &T| Timestamp::from_millis(u64::from(x.number()));
    v.visit("tumbling", chain().tumbling(ms(6), Flow::count));
    v.visit("tumbling delay", chain().tumbling(ms(6), |window| window.delay(ms(4)).pairwise()));
    v.visit("per_key tumbling", chain().per_key(even, |each| each.tumbling(ms(5), |window| window.take(2))));
    v.visit("reorder", chain().reorder(time, ms(4)));
    v.visit("reorder few", chain().apply(Reorder::new(time, ms(9)).max(2).expect("not zero")));
    v.visit("event_time", chain().event_time(time, ms(4), |each| each.tumbling(ms(3), Flow::to_vec)));
    v.visit("event_time closes", chain().event_time(time, ms(3), |each| each.delay(ms(5)).take(4)));
    v.visit(
        "per_key event_time",
        chain().per_key(even, |each| each.event_time(time, ms(4), |each| each.debounce(ms(2)))),
    );
}

fn several<T: Item>(v: &mut impl Visit<T>) {
    v.visit("delay, debounce", chain().delay(ms(3)).debounce(ms(2)));
    v.visit("debounce, delay, throttle", chain().debounce(ms(2)).delay(ms(2)).throttle(ms(5), Edge::Both));
    v.visit("rate_limit, sample", chain().rate_limit(ms(2)).sample(ms(3)).take(5));
    v.visit("sample, rate_limit", chain().sample(ms(3)).rate_limit(ms(3)).pairwise());
    v.visit("batch, delay, timeout", chain().batch(2, ms(4)).delay(ms(1)).timeout(ms(8)));
    v.visit("throttle, buffer_time", chain().throttle(ms(3), Edge::Trailing).buffer_time(ms(3)));
    v.visit("audit, audit", chain().audit(ms(3)).audit(ms(3)).skip(1).count());
    v.visit("take, delay, end", chain().take(4).delay(ms(4)).to_vec());
    v.visit("delay 0", chain().delay(ms(0)).debounce(ms(3)).delay(ms(0)));
}
