//! tower layers for event code.

mod classify;
pub mod retry;
mod settings;

pub use classify::{Classify, ErrorKind, KindSet, RetryHint};
pub use settings::{SettingError, SettingsError};
