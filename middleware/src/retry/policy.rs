//! The retry policy: plain data and one pure decision. It knows no clock, no task and no service, so that a
//! dispatcher, a scheduler and a tower layer can share it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::jitter::Jitter;
use crate::settings::Check;
use crate::{Classify, Describe, ErrorKind, KindSet, Part, RetryHint, SettingsError};

/// How often and when to try again.
///
/// | setting | [`exponential`] | [`fixed`] | [`linear`] | [`custom`] | [`none`] |
/// | --- | --- | --- | --- | --- | --- |
/// | [`attempts`], the first call included | 3 | 3 | 3 | 3 | 1 |
/// | [`initial`], the delay after the first failure | 1 s | as given | as given | the function's | 0 |
/// | growth | × [`factor`], 2 | none | + `initial` | the function's | none |
/// | [`max_delay`] | 100 s | none | none | none | none |
/// | [`jitter`] | full | none | none | none | none |
/// | [`total`] | none | none | none | none | none |
/// | [`kinds`] | [`KindSet::TRANSIENT`] | the same | the same | the same | the same |
/// | [`codes`] | any | any | any | any | any |
///
/// Without jitter the delay after the first failure is exactly `initial`; jitter only spreads it as [`Jitter`] says.
///
/// ```
/// use std::time::Duration;
/// use millstream_middleware::{RetryHint, retry::{Jitter, Retry}};
///
/// let retry = Retry::exponential().jitter(Jitter::None);
/// let mut random = fastrand::Rng::with_seed(7);
/// let mut after = |failed| retry.next_delay(failed, Duration::ZERO, Duration::ZERO, RetryHint::Default, &mut random);
///
/// assert_eq!(after(1), Some(Duration::from_secs(1)));
/// assert_eq!(after(2), Some(Duration::from_secs(2)));
/// assert_eq!(after(3), None, "three attempts have failed: there is no fourth");
/// ```
///
/// [`exponential`]: Retry::exponential
/// [`fixed`]: Retry::fixed
/// [`linear`]: Retry::linear
/// [`custom`]: Retry::custom
/// [`none`]: Retry::none
/// [`attempts`]: Retry::attempts
/// [`initial`]: Retry::initial
/// [`factor`]: Retry::factor
/// [`max_delay`]: Retry::max_delay
/// [`jitter`]: Retry::jitter
/// [`total`]: Retry::total
/// [`kinds`]: Retry::kinds
/// [`codes`]: Retry::codes
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Retry {
    backoff: Backoff,
    attempts: u32,
    initial: Duration,
    factor: Option<f64>,
    max_delay: Option<Duration>,
    jitter: Jitter,
    total: Option<Duration>,
    kinds: KindSet,
    codes: Option<Arc<[Box<str>]>>,
}

const FACTOR: f64 = 2.0;

impl Default for Retry {
    /// [`Retry::exponential`].
    fn default() -> Self {
        Self::exponential()
    }
}

impl Retry {
    /// One attempt, no retry.
    pub const fn none() -> Self {
        Self::with(Backoff::Fixed, Duration::ZERO).attempts(1)
    }

    /// The same `delay` after every failure.
    pub const fn fixed(delay: Duration) -> Self {
        Self::with(Backoff::Fixed, delay)
    }

    /// `step` after the first failure, twice `step` after the second, and so on.
    pub const fn linear(step: Duration) -> Self {
        Self::with(Backoff::Linear, step)
    }

    /// 1 s after the first failure, doubling up to 100 s, with full jitter.
    pub const fn exponential() -> Self {
        Self::with(Backoff::Exponential, Duration::from_secs(1))
            .max_delay(Duration::from_secs(100))
            .jitter(Jitter::Full)
    }

    /// What `delay` says, given the number of attempts that have failed (1 or more). Not kept by serde.
    pub const fn custom(delay: fn(u32) -> Duration) -> Self {
        Self::with(Backoff::Custom(delay), Duration::ZERO)
    }

    const fn with(backoff: Backoff, initial: Duration) -> Self {
        Self {
            backoff,
            attempts: 3,
            initial,
            factor: None,
            max_delay: None,
            jitter: Jitter::None,
            total: None,
            kinds: KindSet::TRANSIENT,
            codes: None,
        }
    }

    /// How many attempts in all, the first call included. Default 3.
    pub const fn attempts(mut self, n: u32) -> Self {
        self.attempts = n;
        self
    }

    /// The delay after the first failure.
    pub const fn initial(mut self, delay: Duration) -> Self {
        self.initial = delay;
        self
    }

    /// What an exponential delay is multiplied by for each further failure. Default 2.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = Some(factor);
        self
    }

    /// No delay of the policy is longer than this. A `Retry-After` of an error may be; [`Retry::total`] bounds both.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = Some(delay);
        self
    }

    /// How delays are spread.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// No attempt begins later than this after the first one began. A delay that would lead past it is not waited for.
    pub const fn total(mut self, limit: Duration) -> Self {
        self.total = Some(limit);
        self
    }

    /// Only failures of these kinds are tried again. Default [`KindSet::TRANSIENT`].
    pub fn kinds(mut self, kinds: impl Into<KindSet>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// Only failures with one of these codes are tried again (and of one of the kinds). Default: any code, or none.
    pub fn codes<I>(mut self, codes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Box<str>>,
    {
        self.codes = Some(codes.into_iter().map(Into::into).collect());
        self
    }

    /// Only errors for which `predicate` is true are tried again. The error need not implement [`Classify`];
    /// kinds, codes and hints are then not asked.
    pub fn when<E>(self, predicate: impl Fn(&E) -> bool + Send + Sync + 'static) -> RetryIf<E> {
        self.hinted(move |error| if predicate(error) { RetryHint::Default } else { RetryHint::Never })
    }

    /// Asks `hint` what each error says about trying again, in place of [`Classify`].
    pub fn hinted<E>(self, hint: impl Fn(&E) -> RetryHint + Send + Sync + 'static) -> RetryIf<E> {
        RetryIf { policy: self, hint: Arc::new(hint) }
    }

    /// The most attempts, the first call included.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// What this policy reads out of an error: [`RetryHint::Never`] where its kind or code is not to be tried again,
    /// else the error's own hint.
    #[must_use]
    pub fn hint<E: Classify + ?Sized>(&self, error: &E) -> RetryHint {
        if self.admits(error.kind(), error.code().as_deref()) { error.hint() } else { RetryHint::Never }
    }

    /// True if a failure of this kind and code may be tried again at all.
    #[must_use]
    pub fn admits(&self, kind: ErrorKind, code: Option<&str>) -> bool {
        let listed = |codes: &Arc<[Box<str>]>| code.is_some_and(|code| codes.iter().any(|c| **c == *code));
        self.kinds.contains(kind) && self.codes.as_ref().is_none_or(listed)
    }

    /// How long to wait before the next attempt; `None` is to give up. Pure: the same arguments and the same state of
    /// `random` give the same answer.
    ///
    /// `failed` counts the attempts that have failed so far (1 or more), `elapsed` is the time since the first attempt
    /// began, `previous` the delay before the attempt that failed last (zero before the first).
    #[must_use]
    pub fn next_delay(
        &self,
        failed: u32,
        elapsed: Duration,
        previous: Duration,
        hint: RetryHint,
        random: &mut fastrand::Rng,
    ) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let delay = match hint {
            RetryHint::Never => return None,
            RetryHint::After(delay) => delay,
            RetryHint::Default => self.own_delay(failed, previous, random),
        };
        let in_time = self.total.is_none_or(|total| elapsed.saturating_add(delay) <= total);
        in_time.then_some(delay)
    }

    fn own_delay(&self, failed: u32, previous: Duration, random: &mut fastrand::Rng) -> Duration {
        let cap = self.max_delay.unwrap_or(Duration::MAX);
        let grown = |failed| self.backoff.delay(failed, self.initial, self.factor.unwrap_or(FACTOR)).min(cap);
        self.jitter.spread(grown(failed), grown(1), previous, random).min(cap)
    }

    /// Says what is impossible in these settings, all at once.
    ///
    /// # Errors
    /// No attempt at all; a factor that is not a number of at least 1, or that nothing uses; a first delay above
    /// the largest; a delay that should grow from zero; decorrelated jitter without a largest delay; a total time of
    /// zero; no kind or code to retry.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.attempts == 0, "attempts", "counts the first call, so it is at least 1");
        self.check_delays(&mut check);
        check.refuse_if(self.total == Some(Duration::ZERO), "total", "zero leaves no time for a second attempt");
        check.refuse_if(self.kinds.is_empty(), "kinds", "none is retried: say `Retry::none()`");
        check.refuse_if(
            self.codes.as_ref().is_some_and(|c| c.is_empty()),
            "codes",
            "none is retried: say `Retry::none()`",
        );
        check.done()
    }

    fn check_delays(&self, check: &mut Check) {
        let exponential = matches!(self.backoff, Backoff::Exponential);
        let custom = matches!(self.backoff, Backoff::Custom(_));
        let decorrelated = self.jitter == Jitter::Decorrelated;
        let grows = exponential || matches!(self.backoff, Backoff::Linear) || decorrelated;
        check.refuse_if(custom && !self.initial.is_zero(), "initial", "has no effect on a custom backoff");
        check.refuse_if(grows && !custom && self.initial.is_zero(), "initial", "zero never grows");
        check.refuse_if(self.factor.is_some_and(|f| !f.is_finite() || f < 1.0), "factor", "is a number of at least 1");
        check.refuse_if(
            self.factor.is_some() && (!exponential || decorrelated),
            "factor",
            "has an effect on an exponential backoff alone",
        );
        check.refuse_if(
            self.max_delay.is_some_and(|max| max < self.initial),
            "max_delay",
            "is shorter than the first delay",
        );
        check.refuse_if(decorrelated && self.max_delay.is_none(), "max_delay", "decorrelated jitter grows without it");
    }
}

impl Describe for Retry {
    fn describe(&self) -> Part {
        let part = Part::new("retry").with("attempts", self.attempts).says("backoff", self.backoff.name());
        let part = match self.backoff {
            Backoff::Custom(_) => part,
            Backoff::Exponential => part.with("initial", self.initial).with("factor", self.factor.unwrap_or(FACTOR)),
            Backoff::Fixed | Backoff::Linear => part.with("initial", self.initial),
        };
        part.with_some("max_delay", self.max_delay).with("jitter", self.jitter).with_some("total", self.total)
    }
}

/// A [`Retry`] together with what it asks of errors of type `E`.
///
/// It comes from a plain policy where `E` classifies itself, or from [`Retry::when`] or [`Retry::hinted`].
#[must_use]
pub struct RetryIf<E: ?Sized> {
    policy: Retry,
    hint: Arc<dyn Fn(&E) -> RetryHint + Send + Sync>,
}

impl<E: ?Sized> RetryIf<E> {
    /// The plain policy: counts and delays.
    pub const fn policy(&self) -> &Retry {
        &self.policy
    }

    /// What `error` says about trying again, to hand to [`Retry::next_delay`].
    #[must_use]
    pub fn hint(&self, error: &E) -> RetryHint {
        (self.hint)(error)
    }
}

impl<E: Classify + ?Sized + 'static> From<Retry> for RetryIf<E> {
    fn from(policy: Retry) -> Self {
        let asked = policy.clone();
        Self { policy, hint: Arc::new(move |error: &E| asked.hint(error)) }
    }
}

impl<E: ?Sized> Clone for RetryIf<E> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone(), hint: Arc::clone(&self.hint) }
    }
}

impl<E: ?Sized> fmt::Debug for RetryIf<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryIf").field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
