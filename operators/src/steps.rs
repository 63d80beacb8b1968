//! The synchronous driver: one call a step, time as given.

use std::{fmt, marker::PhantomData};

use crate::{Operator, Timestamp, pace::Pace};

/// How often a deadline may fire at one and the same time before a driver takes it for stuck.
const STUCK: u32 = 100_000;

/// Fires every deadline up to and with `to`, each at its own time.
///
/// # Panics
/// Where a deadline does not rise after it has fired.
#[inline(always)]
pub(crate) fn advance<I, O: Operator<I>>(
    operator: &O,
    state: &mut O::State,
    to: Timestamp,
    out: &mut impl FnMut(O::Out, Timestamp),
) {
    let (mut last, mut repeats) = (None, 0);
    while let Some(due) = operator.deadline(state)
        && due <= to
    {
        repeats = if last == Some(due) { repeats + 1 } else { 0 };
        assert!(repeats < STUCK, "an operator's deadline at {due:?} does not rise after firing");
        last = Some(due);
        operator.on_time(state, due, out);
    }
}

/// Fires what is due, then hands over the item.
#[inline(always)]
pub(crate) fn feed<I, O: Operator<I>>(
    operator: &O,
    state: &mut O::State,
    item: I,
    at: Timestamp,
    out: &mut impl FnMut(O::Out, Timestamp),
) {
    if O::TIMED {
        advance(operator, state, at, out);
    }
    if !operator.closed(state) {
        operator.on_item(state, item, at, out);
    }
}

/// Fires what is due, then ends the input.
#[inline]
pub(crate) fn finish<I, O: Operator<I>>(
    operator: &O,
    state: &mut O::State,
    at: Timestamp,
    out: &mut impl FnMut(O::Out, Timestamp),
) {
    if O::TIMED {
        advance(operator, state, at, out);
    }
    if !operator.closed(state) {
        operator.on_end(state, at, out);
    }
}

/// A chain under way, or a reference to one (`&chain`, `Arc<Chain>`), driven by hand: hand over items, let time pass, end the input, save the state and load it again.
///
/// ```
/// use std::time::Duration;
/// use millstream_operators::{Steps, Timestamp, chain};
///
/// let ms = Timestamp::from_millis;
/// let chain = chain::<&str>().debounce(Duration::from_millis(20));
/// let mut steps = Steps::start(&chain, ms(0), &mut |_, _| {});
///
/// let mut seen = Vec::new();
/// steps.item("a", ms(10), &mut |item, at| seen.push((item, at)));
/// assert_eq!(steps.deadline(), Some(ms(30)));
/// steps.advance(ms(100), &mut |item, at| seen.push((item, at)));
/// assert_eq!(seen, [("a", ms(30))]);
/// ```
pub struct Steps<In, O: Operator<In>> {
    operator: O,
    state: O::State,
    ended: bool,
    pace: Pace,
    input: PhantomData<fn(In)>,
}

impl<In, O: Operator<In>> Steps<In, O> {
    /// A fresh state, started.
    pub fn start(operator: O, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) -> Self {
        let mut state = operator.init();
        operator.on_start(&mut state, at, out);
        Self { operator, state, ended: false, pace: Pace::default(), input: PhantomData }
    }

    /// Goes on from a saved state; `ended` says whether the input had ended.
    pub fn resume(operator: O, state: O::State, ended: bool) -> Self {
        Self { operator, state, ended, pace: Pace::default(), input: PhantomData }
    }

    /// An item arrives: deadlines up to and with `at` fire first. Once [`closed`](Steps::closed), it is dropped.
    #[inline]
    pub fn item(&mut self, item: In, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        if !self.ended {
            feed(&self.operator, &mut self.state, item, at, out);
        }
    }

    /// Many items with one time: deadlines up to and with `at` fire first. `items` is left empty.
    ///
    /// Where the chain is [`PLAIN`](Operator::PLAIN), the items are small, and which of them pass cannot be foreseen, it
    /// goes operator by operator without a branch on the answer; else item by item. The output is the same.
    #[inline]
    pub fn chunk(&mut self, items: &mut Vec<In>, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.advance(at, out);
        if self.closed() {
            items.clear();
        } else if O::PLAIN && Pace::worth_it(items) {
            self.pace.chunk(&self.operator, &mut self.state, items, at, out);
        } else {
            self.operator.on_chunk(&mut self.state, items, at, out);
            items.clear();
        }
    }

    /// Time passes: a clock's or a watermark's.
    #[inline]
    pub fn advance(&mut self, to: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        advance(&self.operator, &mut self.state, to, out);
    }

    /// The input ends. What still has a deadline comes with [`advance`](Steps::advance) or [`drain`](Steps::drain).
    pub fn end(&mut self, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        if !self.ended {
            finish(&self.operator, &mut self.state, at, out);
            self.ended = true;
        }
    }

    /// Fires what is left after the end, each deadline at its own time.
    pub fn drain(&mut self, out: &mut impl FnMut(O::Out, Timestamp)) {
        if self.closed() {
            advance(&self.operator, &mut self.state, Timestamp::MAX, out);
        }
    }

    /// When [`advance`](Steps::advance) is wanted next.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.operator.deadline(&self.state)
    }

    /// Whether no more input is taken.
    pub fn closed(&self) -> bool {
        self.ended || self.operator.closed(&self.state)
    }

    /// Whether nothing more can come out.
    pub fn completed(&self) -> bool {
        self.closed() && self.deadline().is_none()
    }

    /// All that the chain remembers.
    pub fn state(&self) -> &O::State {
        &self.state
    }

    /// Takes the state out, to save it.
    pub fn into_state(self) -> O::State {
        self.state
    }
}

impl<In, O: Operator<In>> fmt::Debug for Steps<In, O>
where
    O::State: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("state", &self.state).field("ended", &self.ended).finish_non_exhaustive()
    }
}
