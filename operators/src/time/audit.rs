//! `audit`: the latest item, a while after the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
};

/// The operator of [`audit`](Flow::audit).
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    period: Period,
}

impl Audit {
    /// Waits for `period` from the first item.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `period` is zero.
    pub fn new(period: Duration) -> Result<Self, BuildError> {
        Ok(Self { period: Period::new("audit", "period", period)? })
    }
}

/// What [`Audit`] remembers: the latest item and when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditState<T> {
    latest: Option<(T, Timestamp)>,
    ended: bool,
}

impl<T> Operator<T> for Audit {
    type Out = T;
    type State = AuditState<T>;
    const TIMED: bool = true;

    fn init(&self) -> AuditState<T> {
        AuditState { latest: None, ended: false }
    }

    #[inline]
    fn on_item(&self, state: &mut AuditState<T>, item: T, at: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        let due = state.latest.as_ref().map_or_else(|| self.period.after(at), |(_, due)| *due);
        state.latest = Some((item, due));
    }

    fn on_time(&self, state: &mut AuditState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some((item, _)) = state.latest.take() {
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut AuditState<T>, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.ended = true;
    }

    #[inline]
    fn deadline(&self, state: &AuditState<T>) -> Option<Timestamp> {
        state.latest.as_ref().map(|(_, due)| *due)
    }

    fn closed(&self, state: &AuditState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &AuditState<T>) -> bool {
        state.latest.is_none() && !state.ended
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// An item opens a `period`; at its end the latest item comes out. Quiet until the next item.
    ///
    /// ```text
    /// in   -1-2-3------4------|
    /// audit(30 ms)
    /// out  -------3-------4---|
    /// ```
    ///
    /// Completes with its input; where an item waits, that one comes out first, at its time. An `Err` is an item. An
    /// early drop loses the item that waits. All but the latest of a period are lost: that is its purpose.
    ///
    /// # Panics
    /// Where `period` is zero; [`Audit::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let audit = chain().audit(Duration::from_millis(30));
    /// assert_eq!(audit.run([(1, ms(10)), (2, ms(20)), (3, ms(50))], ms(60)), [(2, ms(40)), (3, ms(80))]);
    /// ```
    #[track_caller]
    pub fn audit(self, period: Duration) -> Flow<S, Then<O, Audit>> {
        self.apply(built(Audit::new(period)))
    }
}
