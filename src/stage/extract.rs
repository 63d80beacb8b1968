//! Extractors: how a handler's arguments are made of a delivery.

use std::{
    any::{Any, TypeId, type_name},
    sync::Arc,
};

use serde_json::Value;

use super::{Context, Delivery, HandlerError};
use crate::{
    event::{DecodeError, Envelope, Event},
    intake::EventType,
};

/// What an argument of a handler is made of. Implement it for your own types to share such code between handlers.
///
/// Provided: a typed event `T` (its own clone), `Arc<T>` (shared), [`Json`], `Arc<Envelope>`, [`Context`],
/// [`State<S>`], and `Delivery`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "no event and no extractor",
    note = "take an event (derive `millstream::Event`), `Arc<T>` of one, `Json`, `Context`, `State<S>` or `Arc<Envelope>`"
)]
pub trait Extract: Sized + Send {
    /// Makes it.
    ///
    /// # Errors
    /// Why not: the delivery then fails with this error and the handler is not called.
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError>;

    /// Says what it needs, so that a subscription that can never work is refused when it is made.
    fn require(requirements: &mut Requirements) {
        let _ = requirements;
    }
}

/// What a handler's arguments need.
#[derive(Debug, Default)]
pub struct Requirements {
    pub(crate) types: Vec<EventType>,
    pub(crate) states: Vec<(TypeId, &'static str)>,
    pub(crate) emits: bool,
}

impl Requirements {
    /// It takes events of this type.
    pub fn event<T: Event>(&mut self) {
        self.types.push(EventType::of::<T>());
    }

    /// It can emit events beside those that the handler returns.
    pub fn emits(&mut self) {
        self.emits = true;
    }

    /// It takes a state of this type.
    pub fn state<S: 'static>(&mut self) {
        self.states.push((TypeId::of::<S>(), type_name::<S>()));
    }
}

/// What was given to the runtime with [`state`](crate::Builder::state), by type: a connection pool, a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<S>(
    /// A clone of it.
    pub S,
);

/// An event's data as JSON, whatever it entered as.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(
    /// The data.
    pub Value,
);

/// The states of a runtime, by type. They are a handful, which is found faster in a row than by hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl Extensions {
    /// Adds one; the one of the same type that was there, if any, is replaced.
    pub(crate) fn insert<S: Send + Sync + 'static>(&mut self, state: S) -> bool {
        let id = TypeId::of::<S>();
        let before = self.0.len();
        self.0.retain(|(other, _)| *other != id);
        let is_replaced = self.0.len() < before;
        self.0.push((id, Arc::new(state)));
        is_replaced
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.iter().any(|(other, _)| *other == id)
    }

    fn get<S: Clone + 'static>(&self) -> Option<S> {
        let id = TypeId::of::<S>();
        self.0.iter().find(|(other, _)| *other == id)?.1.downcast_ref().cloned()
    }
}

impl<T: Event> Extract for T {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        let event = &delivery.event;
        Ok(event.data.decode(&event.name, event.version)?)
    }

    fn require(requirements: &mut Requirements) {
        requirements.event::<T>();
    }
}

impl<T: Event> Extract for Arc<T> {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        let event = &delivery.event;
        Ok(event.data.shared(&event.name, event.version)?)
    }

    fn require(requirements: &mut Requirements) {
        requirements.event::<T>();
    }
}

impl Extract for Json {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        let event = &delivery.event;
        let json = event.data.to_json();
        Ok(Self(json.map_err(|source| DecodeError::Serialize { event: event.name.to_string(), source })?))
    }
}

impl Extract for Arc<Envelope> {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        Ok(Self::clone(&delivery.event))
    }
}

#[diagnostic::do_not_recommend]
impl Extract for Delivery {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        delivery.context();
        Ok(delivery.clone())
    }

    fn require(requirements: &mut Requirements) {
        requirements.emits();
    }
}

impl Extract for Context {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        Ok(delivery.context().clone())
    }

    fn require(requirements: &mut Requirements) {
        requirements.emits();
    }
}

impl<S: Clone + Send + Sync + 'static> Extract for State<S> {
    fn extract(delivery: &Delivery) -> Result<Self, HandlerError> {
        let state = delivery.site.extensions.get::<S>();
        let missing =
            || format!("the runtime has no state of type `{}`: `Builder::state` gives it one", type_name::<S>());
        state.map(Self).ok_or_else(|| HandlerError::permanent(missing()))
    }

    fn require(requirements: &mut Requirements) {
        requirements.state::<S>();
    }
}
