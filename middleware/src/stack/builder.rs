use std::fmt;
use std::time::Duration;

use tower_layer::{Identity, Layer, Stack as Pair};

use crate::breaker::{Breaker, BreakerLayer, Trip};
use crate::catch_panic::CatchPanicLayer;
use crate::concurrency::{ConcurrencyLayer, Limit};
use crate::describe::{hear, is_heard, tell};
use crate::load_shed::LoadShedLayer;
use crate::retry::{RetryIf, RetryLayer};
use crate::timeout::{DeadlineLayer, TimeoutLayer};
use crate::{Describe, LiftLayer, Part, SettingError, SettingsError};

/// Named layers, outermost first.
#[derive(Clone)]
pub struct Stack<L> {
    name: &'static str,
    layers: L,
    parts: Vec<Part>,
}

impl Stack<Identity> {
    /// Begins a stack called `name`.
    pub const fn builder(name: &'static str) -> StackBuilder<Identity> {
        let stack = Self { name, layers: Identity::new(), parts: Vec::new() };
        StackBuilder { stack, refused: Vec::new() }
    }
}

impl<L> Stack<L> {
    /// The stack's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The layers with their settings, as they were when the stack was built.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl<S, L: Layer<S>> Layer<S> for Stack<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        if !is_heard() {
            return self.layers.layer(inner);
        }
        let (service, heard) = hear(|| self.layers.layer(inner));
        // A layer that was added under a name may hold what it does not show.
        let repeats = heard.iter().any(Part::repeats);
        tell(|| if repeats { self.describe().repeating() } else { self.describe() });
        service
    }
}

impl<L> Describe for Stack<L> {
    fn describe(&self) -> Part {
        Part::new(self.name).around(self.parts.iter().cloned())
    }
}

impl<L> fmt::Display for Stack<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for (i, part) in self.parts.iter().enumerate() {
            let before = if i == 0 { " " } else { " > " };
            write!(f, "{before}{part}")?;
        }
        Ok(())
    }
}

impl<L> fmt::Debug for Stack<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("name", &self.name).field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// A stack in the making. Each method adds a layer *inside* those before it.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct StackBuilder<L> {
    stack: Stack<L>,
    refused: Vec<SettingError>,
}

impl<L> StackBuilder<L> {
    /// Adds any layer that can describe itself.
    pub fn layer<N: Describe>(mut self, layer: N) -> StackBuilder<Pair<N, L>> {
        let Stack { name, layers, ref mut parts } = self.stack;
        parts.push(layer.describe());
        let stack = Stack { name, layers: Pair::new(layer, layers), parts: std::mem::take(parts) };
        StackBuilder { stack, refused: self.refused }
    }

    /// Adds a layer that cannot describe itself, under a name.
    pub fn named<N>(self, name: &'static str, layer: N) -> StackBuilder<Pair<N, L>> {
        let Stack { name: whole, layers, mut parts } = self.stack;
        parts.push(Part::new(name));
        let stack = Stack { name: whole, layers: Pair::new(layer, layers), parts };
        StackBuilder { stack, refused: self.refused }
    }

    /// Limits the time of all that is inside, waits included.
    pub fn deadline(self, limit: Duration) -> StackBuilder<Pair<DeadlineLayer, L>> {
        let made = DeadlineLayer::new(limit);
        self.checked("deadline", made.map(drop)).layer(DeadlineLayer::unchecked(limit))
    }

    /// Limits the time of each call that is inside.
    pub fn timeout(self, limit: Duration) -> StackBuilder<Pair<TimeoutLayer, L>> {
        let made = TimeoutLayer::new(limit);
        self.checked("timeout", made.map(drop)).layer(TimeoutLayer::unchecked(limit))
    }

    /// Tries again.
    pub fn retry<E>(self, policy: impl Into<RetryIf<E>>) -> StackBuilder<Pair<RetryLayer<E>, L>> {
        let policy = policy.into();
        self.checked("retry", policy.policy().check()).layer(RetryLayer::unchecked(policy))
    }

    /// Limits the calls at once.
    pub fn concurrency(self, limit: Limit) -> StackBuilder<Pair<ConcurrencyLayer, L>> {
        self.checked("concurrency", limit.check()).layer(ConcurrencyLayer::unchecked(limit))
    }

    /// Puts a circuit breaker in between.
    pub fn breaker(self, trip: Trip) -> StackBuilder<Pair<BreakerLayer, L>> {
        self.checked("breaker", trip.check()).layer(BreakerLayer::shared(Breaker::unchecked(trip)))
    }

    /// Refuses calls while the inside is not ready.
    pub fn load_shed(self) -> StackBuilder<Pair<LoadShedLayer, L>> {
        self.layer(LoadShedLayer)
    }

    /// Turns panics into errors.
    pub fn catch_panic(self) -> StackBuilder<Pair<CatchPanicLayer, L>> {
        self.layer(CatchPanicLayer)
    }

    /// Lets the error of any service carry those of the layers; innermost, where the service's own error cannot.
    pub fn lift(self) -> StackBuilder<Pair<LiftLayer, L>> {
        self.layer(LiftLayer)
    }

    /// The stack.
    ///
    /// # Errors
    /// Every impossible setting of every layer, each with the layer's name.
    pub fn build(self) -> Result<Stack<L>, SettingsError> {
        SettingsError::collect(self.refused).map(|()| self.stack)
    }

    pub(super) fn refuse(mut self, refused: SettingError) -> Self {
        self.refused.push(refused);
        self
    }

    fn checked(mut self, part: &'static str, checked: Result<(), SettingsError>) -> Self {
        let refused = checked.err().into_iter().flatten();
        self.refused.extend(refused.map(|refused| refused.of(part)));
        self
    }
}
