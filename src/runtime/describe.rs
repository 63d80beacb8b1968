//! The graph, as it is now.

use std::{collections::BTreeSet, fmt::Write as _, sync::PoisonError};

use millstream_middleware::{Part, retry::Retry};
use serde::Serialize;

use super::{Phase, Runtime, Stats, stream::Counts};
use crate::{dispatch::SubscriptionBook, event::Pattern};

/// What a runtime consists of, with live counters. Serialise it for JSON; [`to_mermaid`](Self::to_mermaid) and
/// [`to_dot`](Self::to_dot) draw it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Draft, Handler, Json, Runtime};
///
/// let runtime = Runtime::builder().build()?;
/// runtime.on("order.placed", (|_: Json| async { Draft::json("stock.reserved", ().into()) }).named("reserve"))?;
/// runtime.on("stock.*", (|_: Json| async {}).named("pack"))?;
/// runtime.emit(Draft::json("order.placed", 7.into()))?;
/// runtime.process().await?;
/// let drawn = runtime.describe().to_mermaid();
/// assert!(drawn.starts_with("flowchart LR"));
/// assert!(drawn.contains("|1|"), "{drawn}");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Description {
    /// Where the runtime is in its life.
    pub phase: Phase,
    /// All counters.
    pub stats: Stats,
    /// The subscriptions, in the order in which they were made.
    pub subscriptions: Vec<SubscriptionDescription>,
    /// The streams that somebody holds.
    pub streams: Vec<StreamDescription>,
    /// Which events go where, as far as is known from patterns and from what handlers have returned.
    pub edges: Vec<EdgeDescription>,
}

/// One subscription.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionDescription {
    /// Its name.
    pub name: String,
    /// What it selects.
    pub pattern: String,
    /// The tenant whose events it takes alone.
    pub tenant: Option<String>,
    /// How many deliveries may be in flight.
    pub concurrency: usize,
    /// `none`, `by_key` or `strict`.
    pub order: &'static str,
    /// How failures are retried: its own policy, or the runtime's.
    pub retry: Retry,
    /// The layers that it wears, outermost first: the runtime's, then its own. A layer of another crate shows by the name
    /// of its type, and not at all inside of a stack together with some of [`crate::middleware`].
    pub layers: Vec<Part>,
    /// Its counters.
    pub book: SubscriptionBook,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StreamDescription {
    /// Its name.
    pub name: String,
    /// Items that it got.
    pub items: u64,
    /// Items that its reader missed.
    pub dropped: u64,
    /// Events that could not be read as an item; each is a dead letter.
    pub unreadable: u64,
}

/// Events of a name on their way to or from a subscription.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EdgeDescription {
    /// The event's name, or the pattern where no name is known that it selects.
    pub event: String,
    /// The subscription.
    pub subscription: String,
    /// Whether the subscription returns the event; else it takes it.
    pub is_returned: bool,
    /// How many were returned, or how many deliveries the subscription got in all.
    pub count: u64,
}

impl Runtime {
    /// The graph, as it is now.
    pub fn describe(&self) -> Description {
        let subscriptions: Vec<_> = self
            .shared
            .registry
            .entries()
            .iter()
            .map(|entry| SubscriptionDescription {
                name: entry.name().to_string(),
                pattern: entry.pattern.to_string(),
                tenant: entry.tenant.as_ref().map(ToString::to_string),
                concurrency: entry.options.concurrency,
                order: match entry.options.order {
                    crate::stage::Order::None => "none",
                    crate::stage::Order::ByKey => "by_key",
                    crate::stage::Order::Strict => "strict",
                },
                retry: entry.retry.policy().clone(),
                layers: entry.layers.clone(),
                book: entry.meter.book(),
            })
            .collect();
        let streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = streams.values().map(|tap| {
            let Counts { items, dropped, unreadable } = tap.counts();
            StreamDescription { name: tap.name.clone(), items, dropped, unreadable }
        });
        let edges = self.edges(&subscriptions);
        Description { phase: self.phase(), stats: self.stats(), streams: streams.collect(), edges, subscriptions }
    }

    fn edges(&self, subscriptions: &[SubscriptionDescription]) -> Vec<EdgeDescription> {
        let types = self.shared.intake.types.all();
        let mut names: BTreeSet<_> = types.iter().map(|event_type| event_type.name.to_owned()).collect();
        names.extend(subscriptions.iter().flat_map(|subscription| subscription.book.returned.keys().cloned()));
        names.extend(subscriptions.iter().map(|s| s.pattern.clone()).filter(|pattern| !pattern.contains(['*', '>'])));
        let mut edges = Vec::new();
        for SubscriptionDescription { name, pattern, book, .. } in subscriptions {
            let edge = |event: &str, is_returned, count| EdgeDescription {
                event: event.to_owned(),
                subscription: name.clone(),
                is_returned,
                count,
            };
            let selects = |event: &&String| pattern.parse::<Pattern>().is_ok_and(|pattern| pattern.matches(event));
            let before = edges.len();
            edges.extend(names.iter().filter(selects).map(|event| edge(event, false, book.created)));
            if edges.len() == before {
                edges.push(edge(pattern, false, book.created));
            }
            edges.extend(book.returned.iter().map(|(event, &count)| edge(event, true, count)));
        }
        edges
    }
}

impl Description {
    /// A Mermaid flowchart: events are rounded, subscriptions are boxes with their layers, outermost first, numbers are
    /// counts.
    pub fn to_mermaid(&self) -> String {
        let mut drawn = String::from("flowchart LR\n");
        let (events, subscriptions) = self.nodes();
        for (place, event) in events.iter().enumerate() {
            _ = writeln!(drawn, "    e{place}([\"{}\"])", escaped(event));
        }
        for (place, name) in subscriptions.iter().enumerate() {
            let layers = self.worn_by(name).map(|layers| format!("<br/>{}", escaped(&layers))).unwrap_or_default();
            _ = writeln!(drawn, "    s{place}[\"{}{layers}\"]", escaped(name));
        }
        for edge in &self.edges {
            let (event, subscription) = Self::places(edge, &events, &subscriptions);
            let (from, to) = if edge.is_returned { (subscription, event) } else { (event, subscription) };
            _ = writeln!(drawn, "    {from} -->|{}| {to}", edge.count);
        }
        drawn
    }

    /// A Graphviz digraph: events are ellipses, subscriptions are boxes with their layers, outermost first, numbers are
    /// counts.
    pub fn to_dot(&self) -> String {
        let mut drawn = String::from("digraph millstream {\n    rankdir=LR;\n");
        let (events, subscriptions) = self.nodes();
        for (place, event) in events.iter().enumerate() {
            _ = writeln!(drawn, "    e{place} [label={event:?} shape=ellipse];");
        }
        for (place, name) in subscriptions.iter().enumerate() {
            let label = self.worn_by(name).map_or_else(|| (*name).to_owned(), |layers| format!("{name}\n{layers}"));
            _ = writeln!(drawn, "    s{place} [label={label:?} shape=box];");
        }
        for edge in &self.edges {
            let (event, subscription) = Self::places(edge, &events, &subscriptions);
            let (from, to) = if edge.is_returned { (subscription, event) } else { (event, subscription) };
            _ = writeln!(drawn, "    {from} -> {to} [label=\"{}\"];", edge.count);
        }
        drawn.push_str("}\n");
        drawn
    }

    /// The names of a subscription's layers, outermost first, if it wears any.
    fn worn_by(&self, name: &str) -> Option<String> {
        let layers = &self.subscriptions.iter().find(|subscription| subscription.name == name)?.layers;
        let names: Vec<_> = layers.iter().map(Part::name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn nodes(&self) -> (Vec<&str>, Vec<&str>) {
        let events: BTreeSet<_> = self.edges.iter().map(|edge| edge.event.as_str()).collect();
        let subscriptions: BTreeSet<_> = self.edges.iter().map(|edge| edge.subscription.as_str()).collect();
        (events.into_iter().collect(), subscriptions.into_iter().collect())
    }

    fn places(edge: &EdgeDescription, events: &[&str], subscriptions: &[&str]) -> (String, String) {
        let event = events.binary_search(&edge.event.as_str()).unwrap_or_default();
        let subscription = subscriptions.binary_search(&edge.subscription.as_str()).unwrap_or_default();
        (format!("e{event}"), format!("s{subscription}"))
    }
}

/// Mermaid's own way to write quotes and brackets inside a label.
fn escaped(label: &str) -> String {
    label.chars().fold(String::new(), |mut escaped, character| {
        match character {
            '"' | '#' | '<' | '>' | '&' => drop(write!(escaped, "#{};", character as u32)),
            other => escaped.push(other),
        }
        escaped
    })
}
