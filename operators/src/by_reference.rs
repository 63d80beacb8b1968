//! An operator behind a reference is the same operator: one logic, any number of states.

use std::sync::Arc;

use crate::{Operator, Timestamp};

macro_rules! by_reference {
    ($Reference:ty) => {
        impl<In, O: Operator<In>> Operator<In> for $Reference {
            type Out = O::Out;
            type State = O::State;
            const TIMED: bool = O::TIMED;
            const PLAIN: bool = O::PLAIN;

            #[inline]
            fn init(&self) -> O::State {
                (**self).init()
            }

            #[inline]
            fn on_start(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
                (**self).on_start(state, at, out);
            }

            #[inline(always)]
            fn on_item(&self, state: &mut O::State, item: In, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
                (**self).on_item(state, item, at, out);
            }

            #[inline]
            fn on_time(&self, state: &mut O::State, now: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
                (**self).on_time(state, now, out);
            }

            #[inline]
            fn on_end(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
                (**self).on_end(state, at, out);
            }

            #[inline(always)]
            fn deadline(&self, state: &O::State) -> Option<Timestamp> {
                (**self).deadline(state)
            }

            #[inline(always)]
            fn closed(&self, state: &O::State) -> bool {
                (**self).closed(state)
            }

            #[inline(always)]
            fn vacant(&self, state: &O::State) -> bool {
                (**self).vacant(state)
            }

            #[inline(always)]
            fn full(&self, state: &O::State) -> bool {
                (**self).full(state)
            }

            #[inline]
            fn on_chunk(
                &self,
                state: &mut O::State,
                items: &mut Vec<In>,
                at: Timestamp,
                out: &mut impl FnMut(O::Out, Timestamp),
            ) {
                (**self).on_chunk(state, items, at, out);
            }

            #[inline]
            fn select(&self, items: Vec<In>) -> Vec<O::Out> {
                (**self).select(items)
            }
        }
    };
}

by_reference!(&O);
by_reference!(Arc<O>);

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crate::{Steps, Timestamp, chain};

    #[test]
    fn two_lanes_share_one_logic() {
        let logic = Arc::new(chain().debounce(Duration::from_millis(1)));
        let (mut seen, at) = (Vec::new(), Timestamp::EPOCH);
        let lanes = [1, 2].map(|item| {
            let mut lane = Steps::start(Arc::clone(&logic), at, &mut |_, _| {});
            lane.item(item, at, &mut |_, _| {});
            lane
        });
        for mut lane in lanes {
            lane.end(at, &mut |item, _| seen.push(item));
        }
        assert_eq!(seen, [1, 2]);
    }
}
