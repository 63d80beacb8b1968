//! A handler with options.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use millstream_middleware::{
    SettingError,
    retry::{Retry, RetryIf},
};
use serde::{Deserialize, Serialize};

use super::{Delivery, Handler, HandlerError, Requirements};
use crate::{event::Envelope, queue::CLASSES};

/// What happens when one subscription holds its share of a class: half of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Share {
    /// Emits that would reach it are refused with its name. Events that were accepted before still reach it; beyond its
    /// share they hold no room, so that others have it. The default.
    #[default]
    Refuse,
    /// Its oldest delivery that waits is dropped and counted.
    DropOldest,
    /// Further deliveries go to the dead letters, to be replayed.
    DeadLetter,
}

/// Whether and how deliveries wait for others of their key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    None,
    ByKey,
    Strict,
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
    pub(crate) retry: RetryIf<HandlerError>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_outputs: Option<usize>,
    pub(crate) per_root: Option<u32>,
    pub(crate) share: Share,
    /// The policy comes from a retry layer, which must stay the outermost one.
    pub(crate) is_lifted: bool,
    /// Why a retry layer cannot be lifted.
    pub(crate) buried_retry: Option<&'static str>,
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
            retry: Retry::none().into(),
            is_lifted: false,
            buried_retry: None,
            timeout: None,
            max_outputs: None,
            per_root: None,
            share: Share::Refuse,
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
        let retry = self.retry.policy().check().err().map(|error| error.refused().to_vec()).unwrap_or_default();
        let buried = self.buried_retry.map(|why| {
            let mend = "put it outermost, or say `.retry(policy)` on the handler";
            SettingError::new(
                "layer",
                format!("a retry layer would multiply the subscription's attempts: {why}; {mend}"),
            )
        });
        own.chain(retry).chain(buried).collect()
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

impl<H: Handler<Args>, Args: 'static> Handler<Args> for Configured<H, Args> {
    type Future = H::Future;

    fn call(&self, delivery: Delivery) -> Self::Future {
        self.handler.call(delivery)
    }

    fn call_lent(&mut self, delivery: &mut Delivery) -> Self::Future {
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
}

impl<H, Args> fmt::Debug for Configured<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured").field("options", &self.options).finish_non_exhaustive()
    }
}
