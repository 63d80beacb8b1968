use crate::{Classify, ErrorKind};

/// The service was not ready. The call was not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("not ready: the call was shed")]
pub struct Shed;

impl Classify for Shed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }
}
