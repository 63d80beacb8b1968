//! Durable subscriptions as the store has them: their rows, and how far each has read. Damage in the rows of one stops that one alone.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{Cursor, FailedKey, Subscribed, restore::corrupt};
use crate::{
    queue::CLASSES,
    store::{KeyRange, Seq, StoreError, Tenure, tables},
};

/// A subscription that the store knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) row: Subscribed,
    pub(crate) cursors: [Cursor; CLASSES],
}

/// A subscription with a row that cannot be read: nobody knows how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Harmed {
    /// The key of its row.
    pub(crate) key: Bytes,
    /// The numbers under which it has rows, as far as that is known.
    pub(crate) ids: Vec<u32>,
    /// Whether the damage may be in its name.
    pub(crate) may_be_another: bool,
    pub(crate) why: StoreError,
}

/// A stage whose header or beginning cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct HarmedStage {
    /// Whether the damage may be in its name.
    pub(crate) may_be_another: bool,
    pub(crate) why: StoreError,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) known: HashMap<String, Known>,
    pub(crate) harmed: HashMap<String, Harmed>,
    /// Where those begin that are not known; those of stages under their own keys.
    pub(crate) starts: HashMap<String, Seq>,
    /// Stages with a header or a beginning that cannot be read.
    pub(crate) harmed_stages: HashMap<String, HarmedStage>,
    /// The highest number under which anything lies.
    pub(crate) last_id: u32,
}

/// The highest number that a subscription may have. Nobody comes as far: in the upper half a number is damage.
const MOST_ID: u32 = u32::MAX / 2;

/// What the store has of cursors.
#[derive(Default)]
struct Cursors {
    by_key: HashMap<(u32, u8), Result<Cursor, StoreError>>,
    /// A damaged row of which nobody knows whose it is.
    stray: Option<StoreError>,
}

impl Cursors {
    async fn read(tenure: &Tenure) -> Result<Self, StoreError> {
        let mut cursors = Self::default();
        for (key, value) in tenure.reader().scan_each(tables::CURSOR, KeyRange::all(), usize::MAX).await? {
            let whose =
                key.split_first_chunk().and_then(|(id, class)| Some((u32::from_be_bytes(*id), *class.first()?)));
            let whose = whose.filter(|_| key.len() == 5);
            if let Err(why) = &value {
                cursors.stray.get_or_insert_with(|| why.clone());
            }
            match whose {
                None => drop(cursors.stray.get_or_insert_with(|| corrupt(tables::CURSOR, "its key is none"))),
                Some(whose) => {
                    let cursor = value
                        .and_then(|value| Cursor::from_bytes(&value).map_err(|error| corrupt(tables::CURSOR, error)));
                    cursors.by_key.insert(whose, cursor);
                }
            }
        }
        Ok(cursors)
    }

    /// Those of one subscription. Where one is missing and a damaged row may be it, nobody knows.
    fn of(&self, id: u32) -> Result<[Cursor; CLASSES], StoreError> {
        let mut cursors: [Cursor; CLASSES] = std::array::from_fn(|_| Cursor::default());
        for (class, cursor) in (0..).zip(&mut cursors) {
            match (self.by_key.get(&(id, class)), &self.stray) {
                (Some(Ok(read)), _) => cursor.clone_from(read),
                (Some(Err(why)), _) | (None, Some(why)) => return Err(why.clone()),
                (None, None) => {}
            }
        }
        Ok(cursors)
    }
}

impl Names {
    pub(super) async fn read(tenure: &Tenure) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let cursors = Cursors::read(tenure).await?;
        let mut unread = Vec::new();
        for (key, value) in tenure.reader().scan_each(tables::SUBSCRIPTION, KeyRange::all(), usize::MAX).await? {
            let may_be_another = value.is_err();
            let row = value
                .and_then(|value| serde_json::from_slice(&value).map_err(|error| corrupt(tables::SUBSCRIPTION, error)));
            match row {
                Ok(row) => names.add(key, row, &cursors),
                Err(why) => unread.push(Harmed { key, ids: Vec::new(), may_be_another, why }),
            }
        }
        let mut ids: BTreeSet<u32> = cursors.by_key.keys().map(|(id, _)| *id).collect();
        ids.extend(failed_ids(tenure).await?);
        ids.extend(names.ids());
        names.last_id = ids.range(..=MOST_ID).next_back().copied().unwrap_or_default();
        let owned = names.ids();
        ids.retain(|id| !owned.contains(id));
        if let [only] = &mut unread[..] {
            // Of several nobody knows which has which.
            only.ids.extend(ids);
        }
        names.harmed.extend(unread.into_iter().map(|harmed| (text(&harmed.key), harmed)));
        names.read_starts(tenure).await?;
        Ok(names)
    }

    fn add(&mut self, key: Bytes, row: Subscribed, cursors: &Cursors) {
        match cursors.of(row.id) {
            Ok(cursors) => drop(self.known.insert(text(&key), Known { row, cursors })),
            Err(why) => {
                let harmed = Harmed { ids: vec![row.id], may_be_another: false, why, key };
                self.harmed.insert(text(&harmed.key), harmed);
            }
        }
    }

    fn ids(&self) -> Vec<u32> {
        let known = self.known.values().map(|known| known.row.id);
        known.chain(self.harmed.values().flat_map(|harmed| harmed.ids.iter().copied())).collect()
    }

    /// Where those begin that were never opened. What is damaged of one that was is not missed.
    async fn read_starts(&mut self, tenure: &Tenure) -> Result<(), StoreError> {
        for (key, value) in tenure.reader().scan_each(tables::START, KeyRange::all(), usize::MAX).await? {
            let (name, may_be_another) = (text(&key), value.is_err());
            let start = value.and_then(|value| {
                let place = value[..].try_into().map_err(|_| corrupt(tables::START, "it is no place"))?;
                Ok(Seq(u64::from_be_bytes(place)).next())
            });
            match start {
                Ok(start) => drop(self.starts.insert(name, start)),
                Err(_) if self.known.contains_key(&name) || self.harmed.contains_key(&name) => {}
                // A stage's.
                Err(why) if key.first() == Some(&0) => {
                    self.harmed_stages.insert(text(&key.slice(1..)), HarmedStage { may_be_another, why });
                }
                Err(why) => {
                    self.harmed.insert(name, Harmed { key, ids: Vec::new(), may_be_another, why });
                }
            }
        }
        Ok(())
    }
}

fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// The numbers of the subscriptions that have deliveries which have left the log.
async fn failed_ids(tenure: &Tenure) -> Result<Vec<u32>, StoreError> {
    let (mut ids, mut range) = (Vec::new(), KeyRange::all());
    loop {
        let row = match tenure.reader().scan(tables::FAILED, range.clone(), 1).await {
            Ok(row) => row.into_iter().next(),
            Err(StoreError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        };
        let Some((key, _)) = row else { return Ok(ids) };
        let Some((id, _)) = key.split_first_chunk() else { break };
        let id = u32::from_be_bytes(*id);
        ids.push(id);
        let Some(next) = id.checked_add(1) else { return Ok(ids) };
        range.start = Bytes::copy_from_slice(&next.to_be_bytes());
    }
    let rows = tenure.reader().scan_each(tables::FAILED, KeyRange::all(), usize::MAX).await?;
    // What is damaged may say any number.
    Ok(rows
        .iter()
        .filter(|(_, value)| value.is_ok())
        .filter_map(|(key, _)| FailedKey::from_bytes(key))
        .map(|key| key.subscription)
        .collect())
}
