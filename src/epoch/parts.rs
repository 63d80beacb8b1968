//! A state's parts by name: saved, loaded, and changed by a migration.

use std::{collections::BTreeMap, fmt};

use bytes::BufMut;
use millstream_operators::durable::{Durable, Labels, Parts};
use serde::{Serialize, de::DeserializeOwned};

use super::value::SavedPart;

/// The labels of a chain's parts, in the order of the chain, or everything that is wrong with them.
pub(super) fn labels<In, O: Durable<In>>(chain: &O) -> Result<Vec<String>, Vec<String>> {
    let mut check = Check::default();
    let Ok(()) = chain.parts(&mut chain.init(), None, &mut check);
    let unnamed = check.unnamed.iter().filter(|(_, count)| **count > 1);
    check.wrong.extend(unnamed.map(|(kind, count)| {
        format!("{count} operators `{kind}` have no name, and their states would be mixed up by an edit: name them with `.named(..)`")
    }));
    if check.wrong.is_empty() { Ok(check.found) } else { Err(check.wrong) }
}

#[derive(Default)]
struct Check {
    labels: Labels,
    found: Vec<String>,
    unnamed: BTreeMap<&'static str, u32>,
    wrong: Vec<String>,
}

impl Parts for Check {
    type Error = std::convert::Infallible;

    fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &'static str,
        name: Option<&'static str>,
        _: &mut T,
    ) -> Result<(), Self::Error> {
        if name.is_none() {
            *self.unnamed.entry(kind).or_default() += 1;
        }
        match self.labels.label(kind, name) {
            Ok(label) if label.len() > usize::from(u8::MAX) => {
                self.wrong.push(format!("the name `{label}` is longer than 255 bytes"));
            }
            Ok(label) => self.found.push(label),
            Err(error) => self.wrong.push(error.to_string()),
        }
        Ok(())
    }
}

/// Writes each part: its label, its length, its value as `MessagePack` with field names.
pub(super) struct Save<'a> {
    pub(super) labels: std::slice::Iter<'a, String>,
    pub(super) out: &'a mut Vec<u8>,
}

impl Parts for Save<'_> {
    type Error = rmp_serde::encode::Error;

    #[expect(clippy::expect_used, reason = "the labels are those of this chain, and a chain has the same parts always")]
    fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        _: &'static str,
        _: Option<&'static str>,
        state: &mut T,
    ) -> Result<(), Self::Error> {
        let label = self.labels.next().expect("a label a part");
        self.out.put_u8(u8::try_from(label.len()).expect("checked when the stage was built"));
        self.out.put_slice(label.as_bytes());
        let start = self.out.len();
        self.out.put_u32(0);
        rmp_serde::encode::write_named(self.out, state)?;
        let length = u32::try_from(self.out.len() - start - 4)
            .map_err(|_| rmp_serde::encode::Error::Syntax("a state of four gigabytes".to_owned()))?;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// The operators whose parts were written otherwise in the format of before: those that remember an item, and those with the
/// states of others in their own.
const REFORMED: [&str; 17] = [
    "combine_latest",
    "distinct_until_changed",
    "distinct_until_key_changed",
    "event_time",
    "expire",
    "last",
    "last_or",
    "max",
    "min",
    "pairwise",
    "per_key",
    "reduce",
    "sample_on",
    "scan_first",
    "throttle",
    "tumbling",
    "with_latest_from",
];

/// Puts saved parts in the place of fresh ones, and finds out what does not fit.
pub(super) struct Load<'a> {
    labels: std::slice::Iter<'a, String>,
    saved: Vec<SavedPart<'a>>,
    misfit: Misfit,
}

impl<'a> Load<'a> {
    pub(super) fn new(labels: &'a [String], saved: Vec<SavedPart<'a>>) -> Self {
        Self { labels: labels.iter(), saved, misfit: Misfit::default() }
    }

    pub(super) fn finish(mut self) -> Result<(), Misfit> {
        self.misfit.unclaimed.extend(self.saved.iter().map(|part| part.label.to_owned()));
        if self.misfit == Misfit::default() { Ok(()) } else { Err(self.misfit) }
    }
}

impl Parts for Load<'_> {
    type Error = std::convert::Infallible;

    fn part<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &'static str,
        _: Option<&'static str>,
        state: &mut T,
    ) -> Result<(), Self::Error> {
        let Some(label) = self.labels.next() else { return Ok(()) };
        let Some(place) = self.saved.iter().position(|part| part.label == label) else {
            self.misfit.missing.push(label.clone());
            return Ok(());
        };
        let part = self.saved.swap_remove(place);
        if part.is_dated && REFORMED.contains(&kind) {
            // It may look like one of today's and be another.
            self.misfit.dated.push(label.clone());
            return Ok(());
        }
        match rmp_serde::from_slice(part.value) {
            Ok(saved) => *state = saved,
            Err(error) => self.misfit.bad.push((label.clone(), error.to_string())),
        }
        Ok(())
    }
}

/// Saved parts that are not those of the chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Misfit {
    missing: Vec<String>,
    unclaimed: Vec<String>,
    bad: Vec<(String, String)>,
    /// Of the format of before, and not as it would be written now.
    dated: Vec<String>,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|label| format!("`{label}` was not saved"));
        let unclaimed = self.unclaimed.iter().map(|label| format!("`{label}` was saved and the chain has none"));
        let bad = self.bad.iter().map(|(label, why)| format!("`{label}` is of another shape: {why}"));
        let dated = self.dated.iter().map(|label| {
            format!(
                "an earlier build saved `{label}`, in another form: give the stage a new version and a migration that puts \
                 this part anew, or another name to begin afresh"
            )
        });
        f.write_str(&missing.chain(unclaimed).chain(bad).chain(dated).collect::<Vec<_>>().join("; "))
    }
}

/// The parts of a saved state, by name, for a [migration](crate::Stage::migrate) to bring into the form that the chain has
/// now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedParts(BTreeMap<String, Kept>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    value: Vec<u8>,
    is_dated: bool,
}

/// Why a saved state cannot be migrated: the stage parks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MigrateError {
    reason: String,
}

impl MigrateError {
    /// Says in one sentence why not.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl SavedParts {
    pub(super) fn of(parts: &[SavedPart<'_>]) -> Self {
        let kept = |part: &SavedPart<'_>| Kept { value: part.value.to_vec(), is_dated: part.is_dated };
        Self(parts.iter().map(|part| (part.label.to_owned(), kept(part))).collect())
    }

    pub(super) fn as_slices(&self) -> Vec<SavedPart<'_>> {
        let parts = self.0.iter();
        parts.map(|(label, Kept { value, is_dated })| SavedPart { label, value, is_dated: *is_dated }).collect()
    }

    /// The names of the parts: those given by `named`, else the operator's kind and a number, such as `scan#0`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A part as a `T`; none where there is no such part.
    ///
    /// # Errors
    /// Where it is of another shape.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, MigrateError> {
        let part = self.0.get(name).map(|part| rmp_serde::from_slice(&part.value)).transpose();
        part.map_err(|error| MigrateError::new(format!("`{name}` is of another shape: {error}")))
    }

    /// Whether a part is as a build saved it whose state values had format 1. What an operator remembers of its items is an `Option` in
    /// there, and [`Held`](millstream_operators::durable::Held) now. Where the operator has such a state, or those of other
    /// operators in its own, the part is refused unless the migration [puts](Self::put) it anew, so that none is read wrongly.
    /// False once it is put, and where there is no such part.
    ///
    /// ```
    /// use millstream::{MigrateError, SavedParts, operators::durable::Held};
    ///
    /// /// Of a stage with `pairwise` of numbers, from version 1 to 2.
    /// fn migrate(_: u32, parts: &mut SavedParts) -> Result<(), MigrateError> {
    ///     if parts.is_dated("pairwise#0") {
    ///         let last: Option<u32> = parts.get("pairwise#0")?.flatten();
    ///         parts.put("pairwise#0", &Held::from(last))?;
    ///     }
    ///     Ok(())
    /// }
    /// # assert_eq!(migrate(1, &mut SavedParts::default()), Ok(()));
    /// ```
    pub fn is_dated(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|part| part.is_dated)
    }

    /// Puts a part in its place, or adds it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put<T: Serialize>(&mut self, name: &str, part: &T) -> Result<(), MigrateError> {
        let part = rmp_serde::to_vec_named(part)
            .map_err(|error| MigrateError::new(format!("`{name}` cannot be written: {error}")))?;
        self.0.insert(name.to_owned(), Kept { value: part, is_dated: false });
        Ok(())
    }

    /// Takes a part away: its operator is not there any more. Says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Gives a part another name. Says whether there was one.
    pub fn rename(&mut self, name: &str, to: &str) -> bool {
        self.0.remove(name).is_some_and(|part| {
            self.0.insert(to.to_owned(), part);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_operators::{Chain, Operator as _, chain};

    use super::*;

    #[test]
    fn two_of_one_kind_must_be_named_and_no_two_alike() {
        let twice = chain::<u32>().take(1).take(2);
        assert!(labels::<u32, _>(&twice).unwrap_err()[0].contains("`take`"));
        let named = chain::<u32>().take(1).named("a").take(2).debounce(Duration::from_secs(1));
        assert_eq!(labels::<u32, _>(&named).unwrap(), ["a", "take#0", "debounce#0"]);
        let alike = chain::<u32>().take(1).named("a").take(2).named("a");
        assert_eq!(labels::<u32, _>(&alike).unwrap_err(), ["two parts are named a"]);
    }

    fn save<O: Durable<u32>>(chain: &Chain<u32, O>, state: &mut O::State) -> SavedParts {
        let (labels, mut out) = (labels::<u32, _>(chain).unwrap(), Vec::new());
        chain.parts(state, None, &mut Save { labels: labels.iter(), out: &mut out }).unwrap();
        let mut parts = SavedParts::default();
        let mut rest = &out[..];
        while let Some((length, after)) = rest.split_first() {
            let (label, after) = after.split_at((*length).into());
            let (length, after) = after.split_first_chunk::<4>().unwrap();
            let (part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            let kept = Kept { value: part.to_vec(), is_dated: false };
            parts.0.insert(String::from_utf8(label.to_vec()).unwrap(), kept);
            rest = after;
        }
        parts
    }

    fn load<O: Durable<u32>>(chain: &Chain<u32, O>, saved: &SavedParts) -> Result<O::State, String> {
        let (labels, mut state) = (labels::<u32, _>(chain).unwrap(), chain.operator().init());
        let mut load = Load::new(&labels, saved.as_slices());
        let Ok(()) = chain.parts(&mut state, None, &mut load);
        load.finish().map(|()| state).map_err(|misfit| misfit.to_string())
    }

    #[test]
    fn what_does_not_fit_is_told_and_a_migration_makes_it_fit() {
        let before = chain().take(2).scan(5_u32, |sum, x: u32| *sum += x);
        let mut saved = save(&before, &mut before.operator().init());
        assert_eq!(saved.names().collect::<Vec<_>>(), ["scan#0", "take#0"]);
        load(&before, &saved).unwrap();

        let after = chain().skip(1).scan(String::new(), |text, x: u32| *text = format!("{text}{x}"));
        let refused = load(&after, &saved).map(drop).unwrap_err();
        assert!(refused.contains("`skip#0` was not saved") && refused.contains("`take#0` was saved"), "{refused}");
        assert!(refused.contains("`scan#0` is of another shape"), "{refused}");

        let sum: u32 = saved.get("scan#0").unwrap().unwrap();
        saved.put("scan#0", &sum.to_string()).unwrap();
        assert!(saved.rename("take#0", "skip#0") && !saved.remove("take#0"));
        assert_eq!(load(&after, &saved).map(|(_, text)| text), Ok("5".to_owned()));
        assert!(saved.get::<u32>("scan#0").is_err());
    }
}
