//! The feed: what an earthquake is, and in which order the news of them came.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use millstream::{Event, Timestamp};
use serde::{Deserialize, Serialize};

/// An earthquake, as a feed of the USGS has it. Fields that are not read are ignored.
#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "quake.reported")]
#[serde(expecting = "an object with `mag`, `place`, `time` and `updated`")]
pub(crate) struct Quake {
    mag: Option<f64>,
    place: Option<String>,
    /// Milliseconds since the Unix epoch: when the ground shook.
    time: u64,
    /// Milliseconds since the Unix epoch: when this record came.
    updated: u64,
}

impl Quake {
    /// The time of the event.
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.time)
    }

    pub(crate) fn updated(&self) -> u64 {
        self.updated
    }

    pub(crate) fn magnitude(&self) -> f64 {
        self.mag.unwrap_or(f64::NEG_INFINITY)
    }

    pub(crate) fn place(&self) -> &str {
        self.place.as_deref().unwrap_or("somewhere")
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `features`")]
struct Feed {
    features: Vec<Feature>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `properties`")]
struct Feature {
    properties: Quake,
}

/// What a file must be.
const FORM: &str = "a feed of the USGS: `{\"features\": [{\"properties\": {\"mag\": 2.5, \"place\": \"Nevada\", \"time\": 0, \
                    \"updated\": 0}}]}`, with times in milliseconds since 1970";
const SAMPLE: &str = include_str!("../data/earthquakes.json");

/// The quakes of a file, or of the sample, in the order in which their records came.
pub(crate) fn read(path: Option<&Path>) -> Result<Vec<Quake>> {
    let feed: Feed = match path {
        None => serde_json::from_str(SAMPLE)?,
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not {FORM}", path.display()))?
        }
    };
    let mut quakes: Vec<_> = feed.features.into_iter().map(|feature| feature.properties).collect();
    quakes.sort_by_key(Quake::updated);
    Ok(quakes)
}

/// The same in the order of event time, which nobody had at the time.
pub(crate) fn in_order(quakes: &[Quake]) -> Vec<Quake> {
    let mut sorted = quakes.to_vec();
    sorted.sort_by_key(Quake::time);
    sorted
}

/// The same in another order, in which none is behind the newest before it by more than `lateness` milliseconds. Equal
/// seeds give equal orders.
pub(crate) fn shuffled(quakes: &[Quake], lateness: u64, seed: u64) -> Vec<Quake> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut delayed: Vec<_> =
        quakes.iter().map(|quake| (quake.time.saturating_add(random.u64(0..=lateness)), quake)).collect();
    delayed.sort_by_key(|(arrival, _)| *arrival);
    delayed.into_iter().map(|(_, quake)| quake.clone()).collect()
}

/// By how many milliseconds each quake is behind the newest that came before it; those that are not are left out.
pub(crate) fn delays(quakes: &[Quake]) -> Vec<u64> {
    let newest = quakes.iter().scan(0, |newest, quake| {
        let before = *newest;
        *newest = before.max(quake.time);
        Some(before)
    });
    quakes
        .iter()
        .zip(newest)
        .filter_map(|(quake, newest)| newest.checked_sub(quake.time))
        .filter(|by| *by > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What is said of a file with this text.
    fn refusal(text: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        format!("{:#}", read(Some(file.path())).unwrap_err())
    }

    #[test]
    fn a_file_that_is_no_feed_is_refused_with_what_it_must_be() {
        for (text, wanted) in [
            ("", "EOF"),
            ("[]", "expected an object with `features`"),
            ("{}", "missing field `features`"),
            (r#"{"features": [[]]}"#, "expected an object with `properties`"),
            (r#"{"features": [{"properties": []}]}"#, "expected an object with `mag`"),
            (r#"{"features": [{"properties": {"time": -1, "updated": 0}}]}"#, "integer `-1`"),
        ] {
            let said = refusal(text);
            assert!(said.contains("is not a feed of the USGS") && said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let said = format!("{:#}", read(Some(Path::new("no/such/file.json"))).unwrap_err());
        assert!(said.starts_with("cannot read no/such/file.json: "), "{said}");
    }
}
