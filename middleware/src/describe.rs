//! What a layer says about itself, for people and for graphs, and who hears it.

use std::{cell::RefCell, fmt};

use serde::{Serialize, Serializer};

/// The name and the settings of one layer, or the name of a stack and its layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    name: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    settings: Vec<(&'static str, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Self>,
    #[serde(skip)]
    repeats: bool,
}

fn as_map<S: Serializer>(settings: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(settings.iter().map(|(setting, value)| (setting, value)))
}

impl Part {
    /// A layer called `name`, with no settings yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, settings: Vec::new(), layers: Vec::new(), repeats: false }
    }

    /// Adds a setting as its `Debug` form shows it.
    #[must_use]
    pub fn with(mut self, setting: &'static str, value: impl fmt::Debug) -> Self {
        self.settings.push((setting, format!("{value:?}")));
        self
    }

    /// Adds a setting that is a name or a word.
    #[must_use]
    pub fn says(mut self, setting: &'static str, value: impl fmt::Display) -> Self {
        self.settings.push((setting, value.to_string()));
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

    /// Adds the layers that a stack consists of, outermost first.
    #[must_use]
    pub fn around(mut self, layers: impl IntoIterator<Item = Self>) -> Self {
        self.layers.extend(layers);
        self
    }

    /// Says that this layer makes a failed call again, so that whoever owns retries around it knows.
    #[must_use]
    pub const fn repeating(mut self) -> Self {
        self.repeats = true;
        self
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

    /// The layers of a stack, outermost first; none where it is a single layer.
    #[must_use]
    pub fn layers(&self) -> &[Self] {
        &self.layers
    }

    /// Whether it, or a layer in it, makes a failed call again.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.repeats || self.layers.iter().any(Self::repeats)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (i, (setting, value)) in self.settings.iter().enumerate() {
            let before = if i == 0 { "(" } else { ", " };
            write!(f, "{before}{setting} {value}")?;
        }
        f.write_str(if self.settings.is_empty() { "" } else { ")" })?;
        for (i, layer) in self.layers.iter().enumerate() {
            let before = if i == 0 { "[" } else { " > " };
            write!(f, "{before}{layer}")?;
        }
        f.write_str(if self.layers.is_empty() { "" } else { "]" })
    }
}

/// A layer that can say what it is.
pub trait Describe {
    /// The layer's name and settings.
    fn describe(&self) -> Part;
}

thread_local! {
    /// What the layers said that were applied since somebody began to listen, innermost first.
    static HEARD: RefCell<Option<Vec<Part>>> = const { RefCell::new(None) };
}

/// Applies layers and hears what each of them is, outermost first, however deep it is in a stack, a `ServiceBuilder` or
/// a closure: every layer of this crate tells when it is applied.
///
/// ```
/// use std::time::Duration;
/// use millstream_middleware::{LiftLayer, hear, timeout::TimeoutLayer};
/// use tower::{Layer, ServiceBuilder, service_fn};
///
/// let layers = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(5))?).layer(LiftLayer);
/// let (_service, parts) = hear(|| layers.service(service_fn(|n: u32| async move { Ok::<_, String>(n) })));
/// assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["timeout(limit 5s)", "lift"]);
/// # Ok::<(), millstream_middleware::SettingsError>(())
/// ```
pub fn hear<T>(apply: impl FnOnce() -> T) -> (T, Vec<Part>) {
    let before = Before(HEARD.replace(Some(Vec::new())));
    let applied = apply();
    let mut heard = HEARD.take().unwrap_or_default();
    drop(before);
    heard.reverse();
    (applied, heard)
}

/// Tells whoever [`hear`]s that this layer is being applied; costs next to nothing where nobody does. Layers of other crates
/// may tell as well: first thing in [`Layer::layer`](tower_layer::Layer::layer).
pub fn tell(part: impl FnOnce() -> Part) {
    if is_heard() {
        let part = part();
        HEARD.with_borrow_mut(|heard| heard.get_or_insert_default().push(part));
    }
}

pub(crate) fn is_heard() -> bool {
    HEARD.with_borrow(Option::is_some)
}

/// Who listened before; he hears again even where a layer panics.
struct Before(Option<Vec<Part>>);

impl Drop for Before {
    fn drop(&mut self) {
        HEARD.set(self.0.take());
    }
}
