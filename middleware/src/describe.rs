//! What a layer says about itself, for people and for graphs.

use std::fmt;

use serde::Serialize;

/// The name and the settings of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
}

impl Part {
    /// A layer called `name`, with no settings yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, settings: Vec::new() }
    }

    /// Adds a setting as its `Debug` form shows it.
    #[must_use]
    pub fn with(mut self, setting: &'static str, value: impl fmt::Debug) -> Self {
        self.settings.push((setting, format!("{value:?}")));
        self
    }

    /// Adds a setting if it is set.
    #[must_use]
    pub fn with_some(self, setting: &'static str, value: Option<impl fmt::Debug>) -> Self {
        match value {
            Some(value) => self.with(setting, value),
            None => self,
        }
    }

    /// The layer's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Settings and their values, in the order of the docs.
    #[must_use]
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (i, (setting, value)) in self.settings.iter().enumerate() {
            let before = if i == 0 { "(" } else { ", " };
            write!(f, "{before}{setting} {value}")?;
        }
        f.write_str(if self.settings.is_empty() { "" } else { ")" })
    }
}

/// A layer that can say what it is.
pub trait Describe {
    /// The layer's name and settings.
    fn describe(&self) -> Part;
}
