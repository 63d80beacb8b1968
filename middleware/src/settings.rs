//! Impossible settings, all at once.

use std::borrow::Cow;
use std::fmt;

/// One setting that cannot be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    part: Option<&'static str>,
    setting: &'static str,
    reason: Cow<'static, str>,
}

impl SettingError {
    /// Says that `setting` cannot be as it is, for `reason`.
    #[must_use]
    pub fn new(setting: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { part: None, setting, reason: reason.into() }
    }

    /// Says whose setting it is: a layer of a stack.
    #[must_use]
    pub const fn of(mut self, part: &'static str) -> Self {
        self.part = Some(part);
        self
    }

    /// Whose setting it is, where it is one of several.
    #[must_use]
    pub const fn part(&self) -> Option<&'static str> {
        self.part
    }

    /// The setter's name.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }

    /// Why the value is refused.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(part) = self.part {
            write!(f, "{part}.")?;
        }
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for SettingError {}

/// Every impossible setting of one builder. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(Vec<SettingError>);

impl SettingsError {
    /// `Ok` if there is nothing to refuse, else all reasons together.
    ///
    /// # Errors
    /// When `refused` yields anything.
    pub fn collect(refused: impl IntoIterator<Item = SettingError>) -> Result<(), Self> {
        let refused: Vec<_> = refused.into_iter().collect();
        if refused.is_empty() { Ok(()) } else { Err(Self(refused)) }
    }

    /// All of `refused`, of which at least one is there.
    #[cfg(feature = "schedule")]
    pub(crate) fn of_all(refused: impl IntoIterator<Item = Option<SettingError>>) -> Self {
        Self(refused.into_iter().flatten().collect())
    }

    /// What was refused, in the order of the settings.
    #[must_use]
    pub fn refused(&self) -> &[SettingError] {
        &self.0
    }
}

impl IntoIterator for SettingsError {
    type Item = SettingError;
    type IntoIter = std::vec::IntoIter<SettingError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<SettingError> for SettingsError {
    fn from(refused: SettingError) -> Self {
        Self(vec![refused])
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("impossible settings: ")?;
        for (i, refused) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{refused}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// Gathers what is refused; `build()` of every layer uses it.
#[derive(Debug, Default)]
pub(crate) struct Check(Vec<SettingError>);

impl Check {
    pub(crate) fn refuse_if(&mut self, wrong: bool, setting: &'static str, reason: &'static str) {
        if wrong {
            self.0.push(SettingError::new(setting, reason));
        }
    }

    pub(crate) fn include(&mut self, checked: Result<(), SettingsError>) {
        self.0.extend(checked.err().into_iter().flatten());
    }

    pub(crate) fn done(self) -> Result<(), SettingsError> {
        SettingsError::collect(self.0)
    }
}
