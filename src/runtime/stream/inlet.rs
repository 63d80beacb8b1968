//! The runtime's end of a stream: a subscription that fills its buffer.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use super::buffer::Buffer;
use crate::stage::{Delivery, Extract, Handler, Options, Outcome, Outputs, Requirements};

/// Fills the buffer; dropped with the subscription, it closes it.
pub(super) struct Inlet<T> {
    pub(super) buffer: Arc<Buffer<T>>,
}

impl<T: Extract> Inlet<T> {
    fn take(&self, delivery: &Delivery) -> Outcome {
        let item = T::extract(delivery).inspect_err(|_| self.buffer.skip())?;
        self.buffer.push(item);
        // The reader may have the context already; once it is closed, what he emits with it comes from outside.
        Ok(delivery.asked_context().map_or_else(Outputs::none, |context| context.close()))
    }
}

impl<T: Extract + 'static> Handler<(T,)> for Inlet<T> {
    type Future = Ready<Outcome>;

    fn call(&self, delivery: Delivery) -> Ready<Outcome> {
        ready(self.take(&delivery))
    }

    fn call_lent(&mut self, delivery: &Delivery) -> Ready<Outcome> {
        ready(self.take(delivery))
    }

    fn requirements(&self) -> Requirements {
        let mut requirements = Requirements::default();
        T::require(&mut requirements);
        requirements
    }

    fn most_outputs(&self) -> Option<usize> {
        Some(0)
    }

    fn options(&self) -> Options {
        Options { is_tap: true, name: Some(self.buffer.tap.name.clone()), ..Options::default() }
    }
}

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.buffer.close();
    }
}
