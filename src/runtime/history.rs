//! The past as everybody has it.

use std::sync::PoisonError;

use super::{Runtime, TenantHandle};
use crate::{
    dispatch::Home,
    event::{Pattern, PatternError, Tenant},
    history::{History, HistoryError, Library},
};

impl Runtime {
    /// Events of the log that a pattern selects, `>` for all: to read them, to follow them, or to make a state of them. Needs a
    /// store: without one, the first event is [`HistoryError::NeedsStore`](crate::HistoryError::NeedsStore). Nobody has to drive the
    /// runtime for that.
    ///
    /// # Errors
    /// [`PatternError`]: the pattern is none.
    pub fn history(&self, pattern: &str) -> Result<History, PatternError> {
        self.history_of(pattern, None)
    }

    fn history_of(&self, pattern: &str, tenant: Option<Tenant>) -> Result<History, PatternError> {
        let pattern: Pattern = pattern.parse()?;
        Ok(History::new(self.library(), pattern, tenant))
    }

    /// Where the past is kept.
    pub(super) fn library(&self) -> Result<Library, HistoryError> {
        if self.shared.intake.pump.is_none() {
            return Err(HistoryError::NeedsStore);
        }
        let home = self.shared.home.lock().unwrap_or_else(PoisonError::into_inner);
        let Home { store, partition } = home.clone().ok_or(HistoryError::Closed)?;
        Ok(Library { store, partition, closed: self.shared.closed.clone() })
    }
}

impl TenantHandle {
    /// This tenant's events of the log that a pattern selects; see [`Runtime::history`].
    ///
    /// # Errors
    /// As there.
    pub fn history(&self, pattern: &str) -> Result<History, PatternError> {
        self.runtime.history_of(pattern, Some(self.tenant.clone()))
    }
}
