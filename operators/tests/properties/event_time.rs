//! What must hold for event time: the same output in every order of arrival within the lateness, for every operator;
//! and without that bound nothing is lost, and what is not late is in order.

use std::{fmt::Debug, time::Duration};

use millstream_operators::{
    Chain, Operator, Steps, Timestamp, chain,
    durable::Durable,
    time::{EventTime, Late, Reorder},
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    catalogue::{Visit, every_chain},
    ms,
};

/// An item and its own time.
type Event = (u32, Timestamp);

fn time(event: &Event) -> Timestamp {
    event.1
}

/// Gives out each item with the time at which it came.
struct Stamped;

impl<T> Operator<T> for Stamped {
    type Out = (T, Timestamp);
    type State = ();
    const TIMED: bool = true;

    fn init(&self) {}

    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut((T, Timestamp), Timestamp)) {
        out((item, at), at);
    }
}

/// Events in an order of arrival in which none is behind the newest by more than `lateness`.
fn shuffled(events: &[(u32, u64, u64)], lateness: u64) -> Vec<Event> {
    let mut order: Vec<_> = events.iter().collect();
    order.sort_by_key(|(_, at, jitter)| at + jitter % (lateness + 1));
    order.into_iter().map(|(number, at, _)| (*number, ms(*at))).collect()
}

/// Each chain in event time over an arrival, against the chain alone over the same in order.
struct InOrder<'a> {
    arrival: &'a [Event],
    lateness: Duration,
}

impl Visit<u32> for InOrder<'_> {
    fn visit<O>(&mut self, name: &str, inner: Chain<u32, O>)
    where
        O: Durable<u32>,
        O::Out: Debug + PartialEq + Clone,
        O::State: Serialize + DeserializeOwned,
    {
        let inner = chain().apply(inner).apply(Stamped);
        let mut sorted = self.arrival.to_vec();
        sorted.sort_by_key(time);
        let bounds = sorted.first().map_or(Timestamp::EPOCH, time)..sorted.last().map_or(Timestamp::EPOCH, time);
        let mut expected = Vec::new();
        let mut out = |item, _| expected.push(item);
        let mut steps = Steps::start(&inner, bounds.start, &mut out);
        for (number, at) in sorted {
            steps.item(number, at, &mut out);
        }
        steps.end(bounds.end, &mut out);
        steps.drain(&mut out);

        let timed = chain().map(|(number, _): Event| number).apply(&inner);
        let timed = chain().apply(EventTime::new(Reorder::new(time, self.lateness), timed));
        let seen = timed.run_now(self.arrival.iter().copied());
        let seen = seen.into_iter().map(|item| item.map_err(|late| late.item));
        assert_eq!(seen.collect::<Result<Vec<_>, _>>(), Ok(expected), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_within_the_lateness_does_not_change_the_output(
        events in prop::collection::vec((0_u32..12, 0_u64..60, 0_u64..20), 0..40),
        lateness in 0_u64..20,
    ) {
        let arrival = shuffled(&events, lateness);
        every_chain(&mut InOrder { arrival: &arrival, lateness: Duration::from_millis(lateness) });
    }

    #[test]
    fn nothing_is_lost_and_what_is_not_late_is_in_order(
        events in prop::collection::vec((any::<u32>(), 0_u64..60), 0..40),
        lateness in 0_u64..20,
        max in 1_usize..9,
    ) {
        let arrival: Vec<Event> = events.into_iter().map(|(number, at)| (number, ms(at))).collect();
        let order = Reorder::new(time, Duration::from_millis(lateness)).max(max).expect("not zero");
        let chain = chain().apply(order);
        let (mut ordered, mut late, mut newest) = (Vec::new(), Vec::new(), Timestamp::EPOCH);
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
        for event in &arrival {
            let watermark = steps.state().1.watermark();
            let mut lates = Vec::new();
            steps.item(*event, Timestamp::EPOCH, &mut |item, _| match item {
                Ok(item) => ordered.push(item),
                Err(item) => lates.push(item),
            });
            let is_late = time(event) < watermark;
            prop_assert_eq!(lates, Vec::from_iter(is_late.then_some(Late { item: *event, at: time(event), watermark })));
            late.extend(is_late.then_some(*event));
            newest = newest.max(time(event));
            let now = &steps.state().1;
            prop_assert!(now.watermark() <= newest && now.watermark() >= newest - Duration::from_millis(lateness));
            prop_assert!(now.len() <= max && now.late() == late.len() as u64);
        }
        steps.end(Timestamp::EPOCH, &mut |item, _| ordered.extend(item.ok()));
        prop_assert!(ordered.is_sorted_by_key(time));
        let mut all: Vec<_> = ordered.into_iter().chain(late).collect();
        all.sort_unstable();
        let mut given = arrival;
        given.sort_unstable();
        prop_assert_eq!(all, given);
    }
}
