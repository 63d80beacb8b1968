//! Delayed events: when one is due, its row goes and it is appended to the log, in one commit.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::Pending;
use crate::{
    dispatch::Dispatcher,
    event::Envelope,
    journal::{NextDue, next_due, parse_key, row_key},
    store::{Op, StoreError, Tenure, tables},
};

/// Rows that are due.
pub(super) enum Due {
    /// They are being read.
    Reading(Vec<Bytes>, Pending<Result<Vec<DueRow>, StoreError>>),
    /// They are moved as there is room for them.
    Read(VecDeque<(Bytes, DueRow)>),
}

/// A row that is due: none where it is gone, or what is wrong with it.
type DueRow = Result<Option<Bytes>, StoreError>;

/// Reads rows, each alone where one of them is damaged.
async fn due_rows(tenure: Arc<Tenure>, keys: Vec<Bytes>) -> Result<Vec<DueRow>, StoreError> {
    match tenure.reader().get(tables::DELAYED, &keys).await {
        Ok(rows) => return Ok(rows.into_iter().map(Ok).collect()),
        Err(StoreError::Corrupt { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        rows.push(match tenure.reader().get(tables::DELAYED, &[key]).await {
            Ok(row) => Ok(row.into_iter().next().flatten()),
            Err(error @ StoreError::Corrupt { .. }) => Err(error),
            Err(error) => return Err(error),
        });
    }
    Ok(rows)
}

/// Rows that move at a time.
const MOST: usize = 256;

impl Dispatcher {
    /// Moves what is due into the log, and reads on what is due next. A row that is damaged stays where it is.
    pub(super) fn fire_delayed(&mut self, cx: &mut Context<'_>) -> bool {
        match self.look_ahead(cx).and_then(|looked| Ok(looked | self.move_due(cx)?)) {
            Ok(moved) => moved,
            Err(error) => {
                self.lose(error);
                true
            }
        }
    }

    fn look_ahead(&mut self, cx: &mut Context<'_>) -> Result<bool, StoreError> {
        let Some(durable) = &mut self.durable else { return Ok(false) };
        let mut moved = false;
        if durable.looking.is_none()
            && let (Some(from), Some(tenure)) = (durable.horizon.wants(), durable.tenure().cloned())
        {
            durable.horizon.looks();
            durable.looking = Some(Box::pin(async move { next_due(&tenure, from).await }));
            moved = true;
        }
        if let Some(looking) = &mut durable.looking
            && let Poll::Ready(read) = looking.as_mut().poll(cx)
        {
            durable.looking = None;
            match read {
                Ok(NextDue { keys, is_all, harm }) => {
                    durable.horizon.extend(keys, is_all);
                    if let Some(harm) = harm {
                        self.cannot_fire(&harm);
                    }
                }
                Err(error @ StoreError::Corrupt { .. }) => {
                    durable.horizon.give_up();
                    self.cannot_fire(&error);
                }
                Err(error) => return Err(error),
            }
            moved = true;
        }
        Ok(moved)
    }

    fn move_due(&mut self, cx: &mut Context<'_>) -> Result<bool, StoreError> {
        let Some(durable) = &mut self.durable else { return Ok(false) };
        let mut moved = false;
        if durable.may_fire() {
            let due = durable.horizon.take_due(self.now, MOST);
            moved |= !due.is_empty();
            // One whose row goes just now was told of twice. Read now, the row would be there still, and known when it is gone.
            let keys: Vec<_> = due.into_iter().map(row_key).filter(|key| !durable.firing.contains(key)).collect();
            if let Some(tenure) = durable.tenure().cloned().filter(|_| !keys.is_empty()) {
                let asked = keys.clone();
                durable.due = Some(Due::Reading(keys, Box::pin(due_rows(tenure, asked))));
                moved = true;
            }
        }
        if let Some(Due::Reading(keys, rows)) = &mut durable.due
            && let Poll::Ready(rows) = rows.as_mut().poll(cx)
        {
            durable.due = Some(Due::Read(std::mem::take(keys).into_iter().zip(rows?).collect()));
            moved = true;
        }
        Ok(moved | self.move_read())
    }

    /// Moves what was read, as far as there is room in the next commit.
    fn move_read(&mut self) -> bool {
        let mut moved = false;
        while let Some(Due::Read(rows)) = self.durable.as_mut().and_then(|durable| durable.due.as_mut()) {
            let bytes =
                rows.front().map_or(0, |(_, row)| row.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len));
            if !self.make_room(bytes) {
                break;
            }
            moved = true;
            let Some(durable) = &mut self.durable else { break };
            let Some(Due::Read(rows)) = &mut durable.due else { break };
            let Some((key, row)) = rows.pop_front() else {
                durable.due = None;
                break;
            };
            match row.and_then(|bytes| bytes.map(due_event).transpose()) {
                Ok(Some((event, bytes))) => self.append_due(key, event, bytes),
                Ok(None) => {}
                Err(error) => self.cannot_fire(&error),
            }
        }
        moved
    }

    /// Somebody has to look at it.
    fn cannot_fire(&self, error: &StoreError) {
        tracing::error!(%error, "a delayed event cannot be read");
        let what = "a delayed event cannot be read".to_owned();
        self.parts.intake.lock().log.damage.insert(what, error.to_string());
    }

    fn append_due(&mut self, key: Bytes, event: Envelope, bytes: Bytes) {
        let Some(durable) = &mut self.durable else { return };
        if !durable.firing.insert(key.clone()) {
            // Its row goes with a commit that is on its way.
            return;
        }
        let is_own =
            event.emitted >= durable.began && !parse_key(&key).is_some_and(|key| durable.lost_delayed.remove(&key));
        durable.batch.fired.push(key.clone());
        durable.batch.push(Op::Delete { table: tables::DELAYED, key });
        durable.batch.append(Arc::new(event), bytes);
        let mut state = self.parts.intake.lock();
        state.log.afloat += 1;
        // One of an earlier process is new to this one's books. Its time may be this one's, where the last reading of the
        // clock was not written.
        if is_own {
            state.tally.undelay(1);
        } else {
            state.tally.emitted += 1;
        }
    }
}

fn due_event(bytes: Bytes) -> Result<(Envelope, Bytes), StoreError> {
    let corrupt = |error| StoreError::Corrupt { what: format!("a row of `{}` ({error})", tables::DELAYED.0) };
    Ok((Envelope::from_record(&bytes).map_err(corrupt)?, bytes))
}
