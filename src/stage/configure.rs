//! A handler with options.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use millstream_middleware::{SettingError, retry::RetryIf};
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Delivery, Handler, HandlerError, Layered, Requirements, call::Call, lift, outside::Outside};
use crate::{Priority, event::Envelope, queue::CLASSES};

/// What happens when one subscription holds its share of a class: half of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Share {
    /// Emits that would reach it are refused with its name. Events that were accepted before still reach it; beyond its
    /// share they hold no room, so that others have it. The default.
    #[default]
    Refuse,
    /// Its oldest delivery that waits, for whatever it is but another attempt, is dropped and counted; the new one, where
    /// none waits.
    DropOldest,
    /// Further deliveries go to the dead letters, to be replayed.
    DeadLetter,
}

/// Where a durable subscription begins when the store sees its name for the first time. Once it has begun it goes on where it was,
/// whatever is said then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Start {
    /// With what is emitted after [`on`](crate::Runtime::on), and what is on its way to the store by then. The default.
    #[default]
    Latest,
    /// With the oldest event that the log has.
    Earliest,
    /// With the first event of this time or later; see [`Envelope::time`]. An event of an earlier time never comes, also where it is
    /// emitted later.
    At(Timestamp),
}

impl Start {
    pub(crate) fn since(self) -> Option<Timestamp> {
        if let Self::At(since) = self { Some(since) } else { None }
    }
}

/// What came before is none of a reader's business: as it was said when it began, and as the row says by which the store knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Timestamp>", into = "Option<Timestamp>")]
pub(crate) enum Since {
    /// The row is of an earlier build, which asked the options at each start.
    #[default]
    Unsaid,
    Said(Option<Timestamp>),
}

impl Since {
    pub(crate) fn is_unsaid(&self) -> bool {
        *self == Self::Unsaid
    }

    /// What was said; else what the options say.
    pub(crate) fn or(self, start: Start) -> Option<Timestamp> {
        match self {
            Self::Unsaid => start.since(),
            Self::Said(since) => since,
        }
    }
}

impl From<Option<Timestamp>> for Since {
    fn from(since: Option<Timestamp>) -> Self {
        Self::Said(since)
    }
}

impl From<Since> for Option<Timestamp> {
    fn from(since: Since) -> Self {
        since.or(Start::default())
    }
}

/// Whether and how deliveries wait for others of their key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    None,
    ByKey,
    Strict,
}

/// What a handler wears, as far as retries are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Worn {
    /// No layer yet.
    #[default]
    Nothing,
    /// A retry layer is the outermost, and its policy is lifted.
    Retry,
    /// Layers of which the outermost is no retry layer.
    Layers,
}

pub(crate) type Filter = Arc<dyn Fn(&Envelope) -> bool + Send + Sync>;

/// All that can be said about a subscription.
#[derive(Clone)]
pub struct Options {
    pub(crate) name: Option<String>,
    pub(crate) filter: Option<Filter>,
    pub(crate) priority: i32,
    pub(crate) concurrency: usize,
    pub(crate) reserved: [usize; CLASSES],
    pub(crate) order: Order,
    pub(crate) halt: bool,
    /// The subscription's own policy.
    pub(crate) retry: Option<RetryIf<HandlerError>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_outputs: Option<usize>,
    pub(crate) per_root: Option<u32>,
    pub(crate) share: Share,
    pub(crate) worn: Worn,
    /// Why a retry layer cannot be lifted.
    pub(crate) buried_retry: Option<&'static str>,
    /// Where a durable subscription begins that the store does not know.
    pub(crate) start: Start,
    /// What a durable subscription was called before.
    pub(crate) was: Option<String>,
    /// A stream's end: dispatched like a handler, not owned by the program's logic.
    pub(crate) is_tap: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            filter: None,
            priority: 0,
            concurrency: 100,
            reserved: [0; CLASSES],
            order: Order::None,
            halt: false,
            retry: None,
            worn: Worn::Nothing,
            buried_retry: None,
            timeout: None,
            max_outputs: None,
            per_root: None,
            share: Share::Refuse,
            start: Start::Latest,
            was: None,
            is_tap: false,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("priority", &self.priority)
            .field("concurrency", &self.concurrency)
            .field("order", &self.order)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Everything that is impossible in them.
    pub(crate) fn refused(&self) -> Vec<SettingError> {
        let reserved: usize = self.reserved.iter().fold(0, |sum, slots| sum.saturating_add(*slots));
        let halts_nothing = self.halt && self.order == Order::None;
        let table = [
            (
                self.name.as_deref().is_some_and(|name| name.trim().is_empty()),
                "named",
                "a name has at least one character",
            ),
            (self.name.as_deref().is_some_and(|name| name.contains('\0')), "named", "a name has no zero"),
            (self.concurrency == 0, "concurrency", "0 would never handle anything; allowed is 1 or more"),
            (reserved > self.concurrency, "reserve", "more slots are reserved than `concurrency` allows in all"),
            (
                reserved > 0 && reserved == self.concurrency && self.reserved.contains(&0),
                "reserve",
                "all of `concurrency` is reserved and leaves no slot for a class without a reserve",
            ),
            (self.timeout == Some(Duration::ZERO), "timeout", "zero leaves no time for an attempt"),
            (self.per_root == Some(0), "max_events_per_root", "0 would refuse every event; allowed is 1 or more"),
            (halts_nothing, "halt_key_on_dead", "has no effect without `ordered_by_key` or `strict_key_order`"),
        ];
        let own = table.into_iter().filter(|(refused, ..)| *refused).map(|(_, name, why)| SettingError::new(name, why));
        let retry = self.retry.as_ref().and_then(|retry| retry.policy().check().err()).into_iter().flatten();
        own.chain(retry).chain(self.buried_retry.map(lift::refused)).collect()
    }
}

/// A handler with options; made by the methods of [`Handler`].
pub struct Configured<H, Args> {
    handler: H,
    options: Options,
    args: PhantomData<fn(Args)>,
}

impl<H: Handler<Args>, Args> Configured<H, Args> {
    pub(super) fn new(handler: H, set: impl FnOnce(&mut Options)) -> Self {
        let mut options = handler.options();
        set(&mut options);
        Self { handler, options, args: PhantomData }
    }
}

#[diagnostic::do_not_recommend]
impl<H: Handler<Args>, Args: 'static> Handler<Args> for Configured<H, Args> {
    type Future = H::Future;

    fn call(&self, delivery: Delivery) -> Self::Future {
        self.handler.call(delivery)
    }

    fn call_lent(&mut self, delivery: &Delivery) -> Self::Future {
        self.handler.call_lent(delivery)
    }

    fn requirements(&self) -> Requirements {
        self.handler.requirements()
    }

    fn most_outputs(&self) -> Option<usize> {
        self.handler.most_outputs()
    }

    fn options(&self) -> Options {
        self.options.clone()
    }

    fn dress(self, outside: &Outside) -> Box<dyn Call> {
        self.handler.dress(outside)
    }
}

impl<H, Args> fmt::Debug for Configured<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The options of a [`Handler`], with the same meaning and the same defaults.
impl<H, L, Args> Layered<H, L, Args> {
    /// See [`Handler::named`].
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.set(|options| options.name = Some(name))
    }

    /// See [`Handler::filter`].
    #[must_use]
    pub fn filter(self, accepts: impl Fn(&Envelope) -> bool + Send + Sync + 'static) -> Self {
        self.set(|options| options.filter = Some(Arc::new(accepts)))
    }

    /// See [`Handler::priority`].
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        self.set(|options| options.priority = priority)
    }

    /// See [`Handler::concurrency`].
    #[must_use]
    pub fn concurrency(self, most: usize) -> Self {
        self.set(|options| options.concurrency = most)
    }

    /// See [`Handler::reserve`].
    #[must_use]
    pub fn reserve(self, class: Priority, slots: usize) -> Self {
        self.set(|options| options.reserved[class.class()] = slots)
    }

    /// See [`Handler::ordered_by_key`].
    #[must_use]
    pub fn ordered_by_key(self) -> Self {
        self.set(|options| options.order = Order::ByKey)
    }

    /// See [`Handler::strict_key_order`].
    #[must_use]
    pub fn strict_key_order(self) -> Self {
        self.set(|options| options.order = Order::Strict)
    }

    /// See [`Handler::halt_key_on_dead`].
    #[must_use]
    pub fn halt_key_on_dead(self) -> Self {
        self.set(|options| options.halt = true)
    }

    /// See [`Handler::retry`].
    #[must_use]
    pub fn retry(self, policy: impl Into<RetryIf<HandlerError>>) -> Self {
        let policy = policy.into();
        self.set(|options| options.retry = Some(policy))
    }

    /// See [`Handler::timeout`].
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        self.set(|options| options.timeout = Some(limit))
    }

    /// See [`Handler::max_outputs`].
    #[must_use]
    pub fn max_outputs(self, most: usize) -> Self {
        self.set(|options| options.max_outputs = Some(most))
    }

    /// See [`Handler::max_events_per_root`].
    #[must_use]
    pub fn max_events_per_root(self, most: u32) -> Self {
        self.set(|options| options.per_root = Some(most))
    }

    /// See [`Handler::when_saturated`].
    #[must_use]
    pub fn when_saturated(self, share: Share) -> Self {
        self.set(|options| options.share = share)
    }
}
