//! A chain bound to no source.

use futures_core::Stream;

use super::{Flow, Head, Open};
use crate::{Identity, Operator, Steps, Timestamp};

/// A chain of operators bound to no source: build it once, test it by [`run`](Chain::run), put it on a stream by
/// [`on`](Chain::on), into another chain by [`apply`](Flow::apply).
///
/// As a return type it reads `Chain<Reading, impl Operator<Reading, Out = Alarm>>`; in a struct, [`BoxChain`] has a
/// name.
///
/// [`BoxChain`]: crate::BoxChain
pub type Chain<In, O = Identity> = Flow<Open<In>, O>;

/// Begins a chain bound to no source.
///
/// ```
/// use std::time::Duration;
/// use millstream_operators::{Timestamp, chain};
///
/// let ms = Timestamp::from_millis;
/// let chain = chain().filter(|x: &u32| *x > 1).debounce(Duration::from_millis(20));
/// assert_eq!(chain.run([(1, ms(5)), (2, ms(10)), (3, ms(15))], ms(90)), [(3, ms(35))]);
/// ```
pub fn chain<In>() -> Chain<In> {
    Flow { head: Open::new(), operator: Identity, run: () }
}

impl<In, O: Operator<In>> Flow<Open<In>, O> {
    /// Runs the chain over items with their times, from [`Timestamp::EPOCH`], and returns what came out and when.
    ///
    /// `end` closes the input at that time, and what then still has a deadline is drained; `None` leaves it open, so
    /// that only what is due up to the last item comes out. Times must not fall.
    ///
    /// ```
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// assert_eq!(chain().count().run([('a', ms(1)), ('b', ms(2))], ms(9)), [(2, ms(9))]);
    /// assert_eq!(chain().count().run([('a', ms(1)), ('b', ms(2))], None), []);
    /// ```
    pub fn run(
        &self,
        items: impl IntoIterator<Item = (In, Timestamp)>,
        end: impl Into<Option<Timestamp>>,
    ) -> Vec<(O::Out, Timestamp)> {
        let mut seen = Vec::new();
        let mut out = |item, at| seen.push((item, at));
        let mut steps = Steps::start(&self.operator, Timestamp::EPOCH, &mut out);
        for (item, at) in items {
            if steps.closed() {
                break;
            }
            steps.item(item, at, &mut out);
        }
        if let Some(end) = end.into() {
            steps.end(end, &mut out);
        }
        steps.drain(&mut out);
        seen
    }

    /// Runs the chain over items that all come at once, ends it, and returns what came out.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().map(|x: u32| x + 1).run_now([1, 2]), [2, 3]);
    /// ```
    pub fn run_now(&self, items: impl IntoIterator<Item = In>) -> Vec<O::Out> {
        let timed = items.into_iter().map(|item| (item, Timestamp::EPOCH));
        self.run(timed, Timestamp::EPOCH).into_iter().map(|(item, _)| item).collect()
    }

    /// Puts the chain on a stream.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// # futures::executor::block_on(async {
    /// let doubled = chain().map(|x: u32| x * 2).on(futures::stream::iter([1, 2]));
    /// assert_eq!(doubled.collect::<Vec<_>>().await, [2, 4]);
    /// # });
    /// ```
    pub fn on<S: Stream<Item = In>>(self, stream: S) -> Flow<S, O> {
        Flow { head: stream, operator: self.operator, run: <S as Head>::fresh() }
    }
}

impl<In, O: Operator<In> + Clone> Clone for Flow<Open<In>, O> {
    fn clone(&self) -> Self {
        Flow { head: Open::new(), operator: self.operator.clone(), run: () }
    }
}

/// A chain is an operator: the one that it consists of.
impl<In, O: Operator<In>> Operator<In> for Flow<Open<In>, O> {
    type Out = O::Out;
    type State = O::State;
    const TIMED: bool = O::TIMED;
    const PLAIN: bool = O::PLAIN;

    #[inline]
    fn init(&self) -> O::State {
        self.operator.init()
    }

    #[inline]
    fn on_start(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_start(state, at, out);
    }

    #[inline(always)]
    fn on_item(&self, state: &mut O::State, item: In, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_item(state, item, at, out);
    }

    #[inline]
    fn on_time(&self, state: &mut O::State, now: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_time(state, now, out);
    }

    #[inline]
    fn on_end(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_end(state, at, out);
    }

    #[inline(always)]
    fn deadline(&self, state: &O::State) -> Option<Timestamp> {
        self.operator.deadline(state)
    }

    #[inline(always)]
    fn closed(&self, state: &O::State) -> bool {
        self.operator.closed(state)
    }

    #[inline(always)]
    fn vacant(&self, state: &O::State) -> bool {
        self.operator.vacant(state)
    }

    #[inline(always)]
    fn full(&self, state: &O::State) -> bool {
        self.operator.full(state)
    }

    #[inline]
    fn on_chunk(
        &self,
        state: &mut O::State,
        items: &mut Vec<In>,
        at: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        self.operator.on_chunk(state, items, at, out);
    }

    #[inline]
    fn select(&self, items: Vec<In>) -> Vec<O::Out> {
        self.operator.select(items)
    }
}
