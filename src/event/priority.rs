//! The four classes of the queue.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How urgent an event is. Inside a class events are first in, first out; between classes deficit round-robin shares
/// the dispatcher 64 : 16 : 4 : 1, so the lowest class still moves under a flood of the highest.
///
/// ```
/// use millstream::Priority;
///
/// assert!(Priority::Critical > Priority::Low);
/// assert_eq!(Priority::default(), Priority::Normal);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Moves when nothing else has to, and at least once in 85 events.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Four times the share of normal.
    High,
    /// Sixteen times the share of normal.
    Critical,
}

impl Priority {
    /// All classes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The place in [`Priority::ALL`]: 0 is critical.
    pub(crate) const fn class(self) -> usize {
        match self {
            Self::Critical => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }

    /// The lower-case name: `critical`, `high`, `normal`, `low`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
