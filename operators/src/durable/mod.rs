//! State by name. A chain's state is a tuple that shifts with every edit; its parts have names that stay, so that a saved
//! state finds its operators again, and what does not fit is found out instead of loaded wrongly.
//!
//! Each operator that remembers something is one part; one that does not leaves no trace, so it may come and go. A part is
//! called by the name that [`named`](crate::Flow::named) gives it, else by its kind and a number: `debounce#0`. Two of one
//! kind in a chain that is saved are better named: their numbers shift when another comes before them.
//!
//! ```standalone_crate
//! use std::{collections::BTreeMap, time::Duration};
//! use millstream_operators::{Operator as _, chain, durable::{DuplicateName, Durable as _, Labels, Parts}};
//! use serde::{Serialize, de::DeserializeOwned};
//!
//! #[derive(Default)]
//! struct Save(Labels, BTreeMap<String, String>);
//!
//! impl Parts for Save {
//!     type Error = DuplicateName;
//!     fn part<T>(&mut self, kind: &'static str, name: Option<&'static str>, state: &mut T) -> Result<(), DuplicateName>
//!     where
//!         T: Serialize + DeserializeOwned,
//!     {
//!         let label = self.0.label(kind, name)?;
//!         self.1.insert(label, serde_json::to_string(state).unwrap());
//!         Ok(())
//!     }
//! }
//!
//! let chain = chain().filter(|x: &u32| *x > 1).take(3).named("few").debounce(Duration::from_millis(20));
//! let mut state = chain.init();
//! let mut save = Save::default();
//! chain.parts(&mut state, None, &mut save)?;
//! assert_eq!(save.1.keys().collect::<Vec<_>>(), ["debounce#0", "few"]);
//! # Ok::<(), DuplicateName>(())
//! ```

mod held;
mod kinds;
mod named;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};

pub use held::Held;
pub use named::Named;

use crate::{Chain, Operator, Then};

/// Sees each part of a chain's state: to save it, or to put a saved one in its place.
pub trait Parts {
    /// What may go wrong.
    type Error;
    /// One part: the kind of its operator, its name where it was given one, and its state.
    ///
    /// # Errors
    /// What the visitor says; the visit ends there.
    fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &'static str,
        name: Option<&'static str>,
        state: &mut T,
    ) -> Result<(), Self::Error>;
}

/// An operator whose state can be taken apart by name.
pub trait Durable<In>: Operator<In> {
    /// Shows each part of `state` to `parts`, in the order of the chain; `name` is that of the operator, if it has one.
    ///
    /// # Errors
    /// The first that `parts` returns.
    fn parts<P: Parts>(
        &self,
        state: &mut Self::State,
        name: Option<&'static str>,
        parts: &mut P,
    ) -> Result<(), P::Error>;
}

/// An operator whose state is one part. Implement it for your own operators to make them [`Durable`].
pub trait Part {
    /// What the operator is called, as a method.
    const KIND: &'static str;
}

impl<In, O> Durable<In> for O
where
    O: Part + Operator<In>,
    O::State: Serialize + DeserializeOwned,
{
    fn parts<P: Parts>(&self, state: &mut O::State, name: Option<&'static str>, parts: &mut P) -> Result<(), P::Error> {
        if size_of::<O::State>() == 0 { Ok(()) } else { parts.part(O::KIND, name, state) }
    }
}

impl<In, A: Durable<In>, B: Durable<A::Out>> Durable<In> for Then<A, B> {
    fn parts<P: Parts>(
        &self,
        (a, b): &mut Self::State,
        _: Option<&'static str>,
        parts: &mut P,
    ) -> Result<(), P::Error> {
        self.0.parts(a, None, parts)?;
        self.1.parts(b, None, parts)
    }
}

impl<In, O: Durable<In>> Durable<In> for Chain<In, O> {
    fn parts<P: Parts>(&self, state: &mut O::State, name: Option<&'static str>, parts: &mut P) -> Result<(), P::Error> {
        self.operator.parts(state, name, parts)
    }
}

/// Two parts of one chain have one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("two parts are named {0}")]
pub struct DuplicateName(pub String);

/// The label of each part: its name, or its kind and a number.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    kinds: BTreeMap<&'static str, u32>,
    taken: BTreeSet<String>,
}

impl Labels {
    /// The label of the next part.
    ///
    /// # Errors
    /// [`DuplicateName`] where another part has it.
    pub fn label(&mut self, kind: &'static str, name: Option<&'static str>) -> Result<String, DuplicateName> {
        let label = name.map_or_else(
            || {
                let number = self.kinds.entry(kind).or_default();
                let label = format!("{kind}#{number}");
                *number += 1;
                label
            },
            str::to_owned,
        );
        if self.taken.insert(label.clone()) { Ok(label) } else { Err(DuplicateName(label)) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Steps, Timestamp, chain};

    /// Saves where it has nothing for a part, loads where it has.
    #[derive(Default)]
    struct Store {
        labels: Labels,
        saved: BTreeMap<String, String>,
    }

    impl Parts for Store {
        type Error = DuplicateName;

        fn part<T>(
            &mut self,
            kind: &'static str,
            name: Option<&'static str>,
            state: &mut T,
        ) -> Result<(), DuplicateName>
        where
            T: Serialize + DeserializeOwned,
        {
            let label = self.labels.label(kind, name)?;
            match self.saved.get(&label) {
                Some(text) => *state = serde_json::from_str(text).expect("what was saved"),
                None => drop(self.saved.insert(label, serde_json::to_string(state).expect("plain data"))),
            }
            Ok(())
        }
    }

    #[test]
    fn a_chain_that_was_edited_finds_its_state_again() {
        let before = chain().skip(1).named("start").scan(0, |sum, x: u32| *sum += x);
        let after = chain().inspect(|_| {}).skip(1).named("start").filter(|_| true).scan(0, |sum, x: u32| *sum += x);
        let mut steps = Steps::start(&before, Timestamp::EPOCH, &mut |_, _| {});
        steps.item(1, Timestamp::EPOCH, &mut |_, _| {});
        steps.item(2, Timestamp::EPOCH, &mut |_, _| {});
        let (mut state, mut store) = (steps.into_state(), Store::default());
        before.parts(&mut state, None, &mut store).expect("names differ");
        assert_eq!(store.saved.keys().collect::<Vec<_>>(), ["scan#0", "start"]);

        let mut state = after.init();
        store.labels = Labels::default();
        after.parts(&mut state, None, &mut store).expect("names differ");
        let mut seen = Vec::new();
        let mut steps = Steps::resume(&after, state, false);
        steps.item(3, Timestamp::EPOCH, &mut |x, _| seen.push(x));
        assert_eq!(seen, [5]);
    }

    #[test]
    fn one_name_for_two_is_refused() {
        let chain = chain::<u32>().take(1).named("x").debounce(Duration::from_secs(1)).named("x");
        let refused = chain.parts(&mut chain.init(), None, &mut Store::default());
        assert_eq!(refused, Err(DuplicateName("x".to_owned())));
    }
}
