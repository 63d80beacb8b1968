//! Delayed events: when one is due, its row goes and it is appended to the log, in one commit.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::Pending;
use crate::{
    dispatch::Dispatcher,
    event::Envelope,
    journal::{DueKey, next_due, row_key},
    store::{Op, StoreError, tables},
};

/// Rows that are due and are being read.
pub(super) struct Due {
    keys: Vec<Bytes>,
    rows: Pending<Result<Vec<Option<Bytes>>, StoreError>>,
}

/// Rows that move at a time.
const MOST: usize = 256;

impl Dispatcher {
    /// Moves what is due into the log, and reads on what is due next.
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
            let (keys, is_all) = read?;
            durable.horizon.extend(keys, is_all);
            moved = true;
        }
        Ok(moved)
    }

    fn move_due(&mut self, cx: &mut Context<'_>) -> Result<bool, StoreError> {
        let Some(durable) = &mut self.durable else { return Ok(false) };
        let mut moved = false;
        if durable.due.is_none() && !durable.is_crowded() {
            let keys: Vec<DueKey> = durable.horizon.take_due(self.now, MOST);
            if let Some(tenure) = durable.tenure().cloned().filter(|_| !keys.is_empty()) {
                let keys: Vec<_> = keys.into_iter().map(row_key).collect();
                let asked = keys.clone();
                let rows = Box::pin(async move { tenure.reader().get(tables::DELAYED, &asked).await });
                durable.due = Some(Due { keys, rows });
                moved = true;
            }
        }
        if let Some(due) = &mut durable.due
            && let Poll::Ready(rows) = due.rows.as_mut().poll(cx)
        {
            let keys = std::mem::take(&mut due.keys);
            durable.due = None;
            for (key, row) in keys.into_iter().zip(rows?) {
                if let Some(bytes) = row {
                    self.append_due(key, bytes)?;
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    fn append_due(&mut self, key: Bytes, bytes: Bytes) -> Result<(), StoreError> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        let event = Envelope::from_record(&bytes)
            .map_err(|error| StoreError::Corrupt { what: format!("a row of `delayed` ({error})") })?;
        let is_own = event.emitted >= durable.began && !durable.lost_delayed.remove(&event.id.as_u128());
        durable.batch.push(Op::Delete { table: tables::DELAYED, key });
        durable.batch.append(Arc::new(event), bytes);
        let mut state = self.parts.intake.lock();
        state.log.afloat += 1;
        // One of an earlier process is new to this one's books. Its time may be this one's, where the last reading of the
        // clock was not written.
        if is_own && state.tally.delayed > 0 {
            state.tally.delayed -= 1;
        } else {
            state.tally.emitted += 1;
        }
        Ok(())
    }
}
