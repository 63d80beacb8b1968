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

/// What [`Expire`] remembers: the chain's state while it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireState<S> {
    live: Option<(S, Timestamp)>,
    ended: bool,
}

impl<I, O: Operator<I>> Operator<I> for Expire<O> {
    type Out = O::Out;
    type State = ExpireState<O::State>;
    const TIMED: bool = true;

    fn init(&self) -> Self::State {
        ExpireState { live: None, ended: false }
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
        let Some((live, expires)) = &mut state.live else { return };
        if self.operator.deadline(live).is_some_and(|due| due <= now) {
            self.operator.on_time(live, now, out);
            return;
        }
        // Only an end that is due, and leaves no deadline behind, is the end.
        if *expires <= now && !self.operator.closed(live) {
            self.operator.on_end(live, now, out);
        }
        match self.operator.deadline(live) {
            Some(due) => *expires = due,
            None => state.live = None,
        }
    }

    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        state.ended = true;
        if let Some((live, _)) = &mut state.live {
            if !self.operator.closed(live) {
                self.operator.on_end(live, at, out);
            }
            if self.operator.deadline(live).is_none() {
                state.live = None;
            }
        }
    }

    fn deadline(&self, state: &Self::State) -> Option<Timestamp> {
        let (live, expires) = state.live.as_ref()?;
        Some(self.operator.deadline(live).map_or(*expires, |due| due.min(*expires)))
    }

    fn closed(&self, state: &Self::State) -> bool {
        state.ended
    }

    fn vacant(&self, state: &Self::State) -> bool {
        state.live.is_none() && !state.ended
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
