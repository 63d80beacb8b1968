//! What must hold for every operator, whatever comes: the same output under any chunking and any placement of
//! watermarks, from a state that was saved and loaded, and for each key as for that key alone; and nothing leaks.

mod catalogue;
mod event_time;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use catalogue::{Item, Visit, every_chain};
use millstream_operators::{
    Chain, Operator as _, Steps, Timestamp,
    durable::{DuplicateName, Durable, Labels, Parts},
};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An item, and how long after the one before it comes.
type Input = Vec<(u32, u64)>;

fn input() -> impl Strategy<Value = Input> {
    prop::collection::vec((0_u32..12, prop_oneof![3 => Just(0_u64), 5 => 1_u64..4, 2 => 4_u64..15]), 0..40)
}

fn timed<T>(input: &Input, item: impl Fn(u32) -> T) -> Vec<(T, Timestamp)> {
    let at = input.iter().scan(0, |now, (_, gap)| {
        *now += gap;
        Some(ms(*now))
    });
    input.iter().zip(at).map(|((number, _), at)| (item(*number), at)).collect()
}

fn end(items: &[(u32, Timestamp)]) -> Timestamp {
    items.last().map_or(ms(5), |(_, at)| *at + std::time::Duration::from_millis(2))
}

/// Watermarks between the items, as fine as `cuts` says: none goes beyond the item that follows.
struct Watermarks<'a> {
    items: &'a [(u32, Timestamp)],
    cuts: &'a [u8],
}

impl Visit<u32> for Watermarks<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let (end, mut seen) = (end(self.items), Vec::new());
        let expected = chain.run(self.items.iter().copied(), end);
        let mut out = |item, at| seen.push((item, at));
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut out);
        let mut cuts = self.cuts.iter().cycle();
        let mut now = 0;
        let mut pass = |steps: &mut Steps<u32, _>, to: Timestamp, out: &mut _| {
            let cut = u64::from(*cuts.next().unwrap_or(&0));
            while cut > 0 && now + cut <= to.as_millis() {
                now += cut;
                steps.advance(ms(now), out);
            }
        };
        for (item, at) in self.items {
            pass(&mut steps, *at, &mut out);
            steps.item(*item, *at, &mut out);
        }
        pass(&mut steps, end, &mut out);
        steps.end(end, &mut out);
        steps.drain(&mut out);
        assert_eq!(seen, expected, "{name}");
    }
}

/// Items of one time as chunks, cut where `cuts` says.
struct Chunks<'a> {
    items: &'a [(u32, Timestamp)],
    cuts: &'a [u8],
}

impl Visit<u32> for Chunks<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let (end, mut seen) = (end(self.items), Vec::new());
        let expected = chain.run(self.items.iter().copied(), end);
        let mut out = |item, at| seen.push((item, at));
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut out);
        let mut cuts = self.cuts.iter().cycle();
        for same in self.items.chunk_by(|(_, a), (_, b)| a == b) {
            let mut rest = same;
            while let Some((_, at)) = rest.first() {
                let size = usize::from(*cuts.next().unwrap_or(&0)) % rest.len() + 1;
                let (chunk, others) = rest.split_at(size);
                let mut items = chunk.iter().map(|(item, _)| *item).collect();
                steps.chunk(&mut items, *at, &mut out);
                assert!(items.is_empty());
                rest = others;
            }
        }
        steps.end(end, &mut out);
        steps.drain(&mut out);
        assert_eq!(seen, expected, "{name}");
    }
}

/// Saves a part that it has not seen, loads one that it has.
#[derive(Default)]
struct Store(Labels, BTreeMap<String, String>);

impl Parts for Store {
    type Error = DuplicateName;

    fn part<T>(&mut self, kind: &'static str, name: Option<&'static str>, state: &mut T) -> Result<(), DuplicateName>
    where
        T: Serialize + DeserializeOwned,
    {
        let label = self.0.label(kind, name)?;
        match self.1.get(&label) {
            Some(text) => *state = serde_json::from_str(text).expect("what was saved"),
            None => drop(self.1.insert(label, serde_json::to_string(state).expect("plain data"))),
        }
        Ok(())
    }
}

/// A state through its parts, into a fresh one.
fn by_parts<O: Durable<u32>>(chain: &Chain<u32, O>, mut state: O::State) -> O::State {
    let mut store = Store::default();
    chain.parts(&mut state, None, &mut store).expect("numbers differ");
    let mut fresh = chain.init();
    store.0 = Labels::default();
    chain.parts(&mut fresh, None, &mut store).expect("numbers differ");
    fresh
}

/// The state through JSON after `cut` items, and part by part after the end.
struct Saved<'a> {
    items: &'a [(u32, Timestamp)],
    cut: usize,
}

fn copied<S: Serialize + DeserializeOwned>(name: &str, state: &S) -> S {
    let text = serde_json::to_string(state).expect(name);
    serde_json::from_str(&text).expect(name)
}

impl Visit<u32> for Saved<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let (end, mut seen) = (end(self.items), Vec::new());
        let expected = chain.run(self.items.iter().copied(), end);
        let mut out = |item, at| seen.push((item, at));
        let (before, after) = self.items.split_at(self.cut.min(self.items.len()));
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut out);
        for (item, at) in before {
            steps.item(*item, *at, &mut out);
        }
        let mut steps = Steps::resume(&chain, copied(name, steps.state()), false);
        for (item, at) in after {
            steps.item(*item, *at, &mut out);
        }
        steps.end(end, &mut out);
        let mut steps = Steps::resume(&chain, by_parts(&chain, steps.into_state()), true);
        steps.drain(&mut out);
        assert_eq!(seen, expected, "{name}");
    }
}

/// A chain for each key against the chain of that key alone.
struct Alone<'a>(&'a [(u32, Timestamp)]);

impl Visit<u32> for Alone<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        use millstream_operators::keyed::PerKey;
        let (end, key) = (end(self.0), |x: &u32| x % 3);
        let together = millstream_operators::chain().apply(PerKey::new(key, chain)).run(self.0.iter().copied(), end);
        let chain = Again(name.to_owned(), self.0, end, together);
        chain.compare();
    }
}

/// What came out for all keys; each key alone is run again by [`Only`].
struct Again<'a, T>(String, &'a [(u32, Timestamp)], Timestamp, Vec<(T, Timestamp)>);

impl<T: Debug + PartialEq + Clone> Again<'_, T> {
    fn compare(&self) {
        let mut alone = Vec::new();
        for key in 0..3 {
            let items: Vec<_> = self.1.iter().copied().filter(|(x, _)| x % 3 == key).collect();
            if !items.is_empty() {
                let mut only = Only { name: &self.0, items: &items, end: self.2, seen: Vec::new() };
                every_chain(&mut only);
                alone.append(&mut only.seen);
            }
        }
        let mut together: Vec<_> = self.3.iter().map(|(item, at)| format!("{at:?} {item:?}")).collect();
        together.sort();
        alone.sort();
        assert_eq!(together, alone, "{}", self.0);
    }
}

/// Runs the chain of one name, from the time of its first item.
struct Only<'a> {
    name: &'a str,
    items: &'a [(u32, Timestamp)],
    end: Timestamp,
    seen: Vec<String>,
}

impl Visit<u32> for Only<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        if name == self.name {
            let mut out = |item: O::Out, at: Timestamp| self.seen.push(format!("{at:?} {item:?}"));
            let mut steps = Steps::start(&chain, self.items[0].1, &mut out);
            for (item, at) in self.items {
                steps.item(*item, *at, &mut out);
            }
            steps.end(self.end, &mut out);
            steps.drain(&mut out);
        }
    }
}

/// The same chain on a stream whose items come at their times, on tokio's clock.
struct Streamed<'a>(&'a [(u32, Timestamp)]);

impl Visit<u32> for Streamed<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let end = end(self.0);
        let expected = chain.run(self.0.iter().copied(), end);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let seen = runtime.expect("a runtime").block_on(async {
            let zero = now();
            let due = move |at: Timestamp| zero + at.since(Timestamp::EPOCH);
            let items = futures::stream::iter(self.0.iter().copied().map(Some).chain([None]));
            let source = futures::StreamExt::then(items, move |item| async move {
                tokio::time::sleep_until(due(item.map_or(end, |(_, at)| at))).await;
                item
            });
            let source = tokio_stream::StreamExt::map_while(source, |item| item.map(|(item, _)| item));
            let (mut flow, mut seen) = (std::pin::pin!(chain.on(source)), Vec::new());
            while let Some(item) = futures::StreamExt::next(&mut flow).await {
                seen.push((item, Timestamp::EPOCH + zero.elapsed()));
            }
            seen
        });
        assert_eq!(seen, expected, "{name}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test owns the clock")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// An item that can be counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Tracked(u32, Arc<()>);

impl Item for Tracked {
    fn number(&self) -> u32 {
        self.0
    }
}

impl Serialize for Tracked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tracked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(u32::deserialize(deserializer)?, Arc::default()))
    }
}

/// Drops the run after `cut` items.
struct Dropped<'a> {
    input: &'a Input,
    cut: usize,
}

impl Visit<Tracked> for Dropped<'_> {
    fn visit<O>(&mut self, name: &str, chain: Chain<Tracked, O>)
    where
        O: Durable<Tracked>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let token = Arc::new(());
        let items = timed(self.input, |number| Tracked(number, Arc::clone(&token)));
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
        for (item, at) in items.into_iter().take(self.cut) {
            steps.item(item, at, &mut |_, _| {});
        }
        drop(steps);
        drop(chain);
        assert_eq!(Arc::strong_count(&token), 1, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn watermarks_do_not_change_the_output(input in input(), cuts in prop::collection::vec(0_u8..9, 1..9)) {
        let items = timed(&input, |x| x);
        every_chain(&mut Watermarks { items: &items, cuts: &cuts });
    }

    #[test]
    fn chunks_do_not_change_the_output(input in input(), cuts in prop::collection::vec(0_u8..9, 1..9)) {
        let items = timed(&input, |x| x);
        every_chain(&mut Chunks { items: &items, cuts: &cuts });
    }

    #[test]
    fn a_state_that_was_saved_goes_on_as_it_was(input in input(), cut in 0_usize..40) {
        let items = timed(&input, |x| x);
        every_chain(&mut Saved { items: &items, cut });
    }

    #[test]
    fn a_run_that_is_dropped_leaks_nothing(input in input(), cut in 0_usize..40) {
        every_chain(&mut Dropped { input: &input, cut });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_gives_what_its_chain_gives(input in input()) {
        let items = timed(&input, |x| x);
        every_chain(&mut Streamed(&items));
    }

    #[test]
    fn a_key_has_a_chain_of_its_own(input in input()) {
        let items = timed(&input, |x| x);
        every_chain(&mut Alone(&items));
    }
}
