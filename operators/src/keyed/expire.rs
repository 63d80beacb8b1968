//! `expire`: a chain that ends when it has been idle, and starts afresh.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Open, Operator, Timestamp,
    build_error::{Period, built},
};

/// The operator of [`expire`](crate::Chain::expire).
#[derive(Clone, Copy, Debug)]
pub struct Expire<O> {
    idle: Period,
    operator: O,
}

impl<O> Expire<O> {
    /// Ends `operator` after `idle` without an item.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `idle` is zero.
    pub fn new(idle: Duration, operator: O) -> Result<Self, BuildError> {
        Ok(Self { idle: Period::new("expire", "idle time", idle)?, operator })
    }
}

/// What [`Expire`] remembers: the chain's state while it lives, and those that ended with something still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireState<S> {
    live: Option<(S, Timestamp)>,
    draining: Vec<S>,
    ended: bool,
}

impl<O> Expire<O> {
    /// Ends the life that there is.
    fn end_life<I>(&self, state: &mut ExpireState<O::State>, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp))
    where
        O: Operator<I>,
    {
        let Some((mut live, _)) = state.live.take() else { return };
        if !self.operator.closed(&live) {
            self.operator.on_end(&mut live, at, out);
        }
        if self.operator.deadline(&live).is_some() {
            state.draining.push(live);
        }
    }
}

impl<I, O: Operator<I>> Operator<I> for Expire<O> {
    type Out = O::Out;
    type State = ExpireState<O::State>;
    const TIMED: bool = true;

    fn init(&self) -> Self::State {
        ExpireState { live: None, draining: Vec::new(), ended: false }
    }

    fn on_item(&self, state: &mut Self::State, item: I, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        let (live, expires) = state.live.get_or_insert_with(|| {
            let mut fresh = self.operator.init();
            self.operator.on_start(&mut fresh, at, out);
            (fresh, at)
        });
        *expires = self.idle.after(at);
        if !self.operator.closed(live) {
            self.operator.on_item(live, item, at, out);
        }
    }

    fn on_time(&self, state: &mut Self::State, now: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        let due = |live: &O::State| self.operator.deadline(live).is_some_and(|due| due <= now);
        for old in state.draining.iter_mut().filter(|old| due(old)) {
            self.operator.on_time(old, now, out);
        }
        state.draining.retain(|old| self.operator.deadline(old).is_some());
        if let Some((live, expires)) = &mut state.live {
            if due(live) {
                self.operator.on_time(live, now, out);
            } else if *expires <= now {
                self.end_life(state, now, out);
            }
        }
    }

    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        state.ended = true;
        self.end_life(state, at, out);
    }

    fn deadline(&self, state: &Self::State) -> Option<Timestamp> {
        let live = state.live.as_ref().map(|(live, expires)| {
            let due = self.operator.deadline(live);
            due.map_or(*expires, |due| due.min(*expires))
        });
        state.draining.iter().filter_map(|old| self.operator.deadline(old)).chain(live).min()
    }

    fn closed(&self, state: &Self::State) -> bool {
        state.ended
    }

    fn vacant(&self, state: &Self::State) -> bool {
        state.live.is_none() && state.draining.is_empty() && !state.ended
    }
}

impl<In, O: Operator<In>> Flow<Open<In>, O> {
    /// Ends the whole chain so far when no item came for `idle`, and starts it afresh with the next item. Inside
    /// [`per_key`](Flow::per_key) it is a key's time to live; with [`fold`](Flow::fold) it is a session window.
    ///
    /// ```text
    /// in   --1--2-----------3--|
    /// to_vec, expire(50 ms)
    /// out  ----------[1,2]-----[3]|
    /// ```
    ///
    /// Completes with its input, when the chain inside has completed. An `Err` is an item. An early drop loses what the
    /// chain holds back.
    ///
    /// # Panics
    /// Where `idle` is zero; [`Expire::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let sessions = chain().to_vec().expire(Duration::from_millis(50));
    /// let items = [(1, ms(10)), (2, ms(30)), (3, ms(200))];
    /// assert_eq!(sessions.run(items, ms(210)), [(vec![1, 2], ms(80)), (vec![3], ms(210))]);
    /// ```
    #[track_caller]
    pub fn expire(self, idle: Duration) -> Flow<Open<In>, Expire<O>> {
        Flow { head: self.head, operator: built(Expire::new(idle, self.operator)), run: () }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    #[test]
    fn an_item_that_comes_while_the_last_life_drains_is_not_lost() {
        let ms = Timestamp::from_millis;
        let chain = chain().delay(Duration::from_millis(6)).expire(Duration::from_millis(4));
        let seen = chain.run([(1, ms(10)), (2, ms(15)), (3, ms(16))], ms(30));
        assert_eq!(seen, [(1, ms(16)), (2, ms(21)), (3, ms(22))]);
    }
}
