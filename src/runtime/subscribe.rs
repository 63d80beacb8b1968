//! on, off, clear.

use std::sync::{Arc, OnceLock};

use millstream_middleware::{Part, SettingError, SettingsError, hear, retry::Retry};

use super::Runtime;
use crate::{
    dispatch::{AddError, Command, Entry, Meter},
    event::{Pattern, PatternError, Tenant},
    intake::{Intake, Seat},
    stage::{Handler, Options, Order, Outside, Requirements, Site, Start, buried},
};

/// Names a subscription, to take it back. No two subscriptions of any runtimes have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionId(pub(super) u64);

/// Why a subscription was refused. Nothing is subscribed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnError {
    /// The pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The name is taken.
    #[error("there is a subscription named `{name}` already; names are unique, and `off` frees them")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The name is a stage's: what the store keeps goes by names.
    #[error("there is a stage named `{name}`; a subscription and a stage have no name in common")]
    NameOfStage {
        /// The name.
        name: String,
    },
    /// Options that are impossible, all at once.
    #[error("subscription `{subscription}`: {wrong}")]
    Settings {
        /// Its name, or its pattern.
        subscription: String,
        /// What is impossible.
        wrong: SettingsError,
    },
    /// The handler takes states that the runtime was not given.
    #[error("subscription `{subscription}` takes states that `Builder::state` was not given: {}", missing.join(", "))]
    MissingState {
        /// Its name, or its pattern.
        subscription: String,
        /// The types.
        missing: Vec<&'static str>,
    },
    /// In a durable runtime a subscription is known by its name, which must not depend on the order of `on`.
    #[error("a durable runtime knows subscriptions by their names: give this one of `{pattern}` a name with `named`")]
    Unnamed {
        /// The pattern.
        pattern: String,
    },
    /// The runtime was shut down.
    #[error("the runtime is stopped")]
    Stopped,
}

/// The most events that an attempt may return where its type does not say.
const MOST_OUTPUTS: usize = 1_000;

impl Runtime {
    /// Subscribes a handler to all events that a pattern selects and that are not dispatched yet, those that wait in the
    /// queue among them. Options are set on the [`Handler`].
    ///
    /// # Errors
    /// [`OnError`]: a bad pattern, a name that is taken, impossible options, a state that the runtime does not have.
    pub fn on<H, Args>(&self, pattern: &str, handler: H) -> Result<SubscriptionId, OnError>
    where
        H: Handler<Args>,
        Args: 'static,
    {
        self.subscribe(pattern, handler, None)
    }

    pub(super) fn subscribe<H, Args>(
        &self,
        pattern: &str,
        handler: H,
        tenant: Option<Tenant>,
    ) -> Result<SubscriptionId, OnError>
    where
        H: Handler<Args>,
        Args: 'static,
    {
        let parsed: Pattern = pattern.parse()?;
        if self.is_stopped() {
            return Err(OnError::Stopped);
        }
        let (options, requirements, returned) = (handler.options(), handler.requirements(), handler.most_outputs());
        let outside = if options.is_tap { &Outside::default() } else { &self.shared.outside };
        let (call, layers) = hear(|| handler.dress(outside));
        if self.shared.intake.pump.is_some() && options.name.is_none() && !options.is_tap {
            return Err(OnError::Unnamed { pattern: pattern.to_owned() });
        }
        let shown = options.name.clone().unwrap_or_else(|| pattern.to_owned());
        self.check(&options, &layers, &requirements, &shown)?;
        let returned = returned.filter(|_| !requirements.emits);
        let max_outputs = options.max_outputs.or(returned).unwrap_or(MOST_OUTPUTS);
        let retry = options.retry.clone().or_else(|| outside.retry().cloned()).unwrap_or_else(|| Retry::none().into());
        let name = options.name.clone();
        let added = self.shared.registry.add(name.as_deref(), pattern, |id, name| {
            let site = self.site(id, name, &options, max_outputs);
            let (meter, start) = (Meter::default(), Arc::default());
            let entry = Entry { id, pattern: parsed, tenant, options, retry, layers, site, max_outputs, meter, start };
            (Arc::new(entry), call)
        });
        let entry = added.map_err(|error| match error {
            AddError::Taken(name) => OnError::DuplicateName { name },
            AddError::OfStage(name) => OnError::NameOfStage { name },
            AddError::Closed => OnError::Stopped,
        })?;
        self.begin(&entry);
        requirements.types.into_iter().for_each(|event_type| self.shared.intake.types.add(event_type));
        Ok(SubscriptionId(entry.id))
    }

    fn check(
        &self,
        options: &Options,
        layers: &[Part],
        requirements: &Requirements,
        shown: &str,
    ) -> Result<(), OnError> {
        let subscription = || shown.to_owned();
        let mut refused: Vec<SettingError> = options.refused();
        if options.buried_retry.is_none() {
            refused.extend(buried(layers));
        }
        SettingsError::collect(refused).map_err(|wrong| OnError::Settings { subscription: subscription(), wrong })?;
        let missing = requirements.states.iter().filter(|(id, _)| !self.shared.extensions.has(*id));
        let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
        if missing.is_empty() { Ok(()) } else { Err(OnError::MissingState { subscription: subscription(), missing }) }
    }

    fn site(&self, id: u64, name: Arc<str>, options: &Options, max_outputs: usize) -> Arc<Site> {
        Arc::new(Site {
            seat: Arc::new(Seat {
                intake: self.shared.intake.address(),
                subscription: id,
                ordered: options.order != Order::None,
                per_root: options.per_root,
            }),
            name,
            origin: OnceLock::new(),
            max_outputs,
            intake: Arc::clone(&self.shared.intake),
            extensions: Arc::clone(&self.shared.extensions),
            shelf: Arc::clone(&self.shared.shelf),
            stop: self.shared.stop.clone(),
        })
    }

    /// Takes a subscription back: it gets no event that is not dispatched yet, and what was dispatched to it is finished, retries
    /// included; but what is parked behind a halted key goes to the dead letters. Its handler is dropped after that; at once
    /// where nothing runs. Returns whether it was there: an id of another runtime names nothing here.
    ///
    /// In a durable runtime what is parked stays in the store, and whoever subscribes by the same name begins when all of the
    /// former one's has ended, with what is parked and what was not dispatched.
    pub fn off(&self, id: SubscriptionId) -> bool {
        self.shared.unsubscribe(|registry| usize::from(registry.remove_one(id.0))) > 0
    }

    /// Where a durable subscription begins survives from now on.
    fn begin(&self, entry: &Entry) {
        if self.shared.intake.pump.is_none() || entry.options.is_tap {
            return;
        }
        let mut intake = self.shared.intake.lock();
        intake.log.start_at_end(&entry.start);
        if entry.options.start == Start::Latest {
            intake.log.to_mark.push_back(Arc::clone(entry.name()));
        }
        // Whoever drives may have to read what is there, though nothing new comes.
        Intake::wake(intake);
        self.shared.intake.pump();
    }

    /// Forgets a durable subscription that nobody claims, or a stage that does not run, and all that waits for it, once
    /// somebody drives. One that is subscribed or runs is not touched.
    ///
    /// One that cannot be opened because rows of it are damaged, as [`health`](Self::health) says, counts as nobody's, though
    /// somebody subscribes: the rows go, and it begins anew where its [`starting_at`](crate::Handler::starting_at) says. Nothing that it
    /// may not have handled is trimmed before that.
    ///
    /// # Data loss
    /// What it has not handled is not handled.
    pub fn forget(&self, name: impl Into<String>) {
        self.shared.command(Command::Forget(name.into()));
    }

    /// Takes all subscriptions back, as [`off`](Self::off) does, and returns how many there were. Streams stay.
    pub fn clear(&self) -> usize {
        self.shared.unsubscribe(|registry| registry.remove(|entry| !entry.options.is_tap))
    }
}
