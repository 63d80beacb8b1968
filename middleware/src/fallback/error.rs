use crate::{BoxError, Failure, LayerError};

/// An error that can say which layer's error it carries.
pub trait Carrier {
    /// The error of a layer, if it is of type `L`.
    fn carried<L: LayerError>(&self) -> Option<&L>;
}

impl<E> Carrier for Failure<E> {
    fn carried<L: LayerError>(&self) -> Option<&L> {
        self.layer()
    }
}

impl Carrier for BoxError {
    fn carried<L: LayerError>(&self) -> Option<&L> {
        self.downcast_ref()
    }
}
