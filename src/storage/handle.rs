//! The handle: get, put, delete, put on a condition, scan.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Desk, Scope, Shelf, StorageError, Writes, writes::Stale};
use crate::store::Row;

/// What becomes of writes that are handed over: committed, or in conflict with others, or why not.
pub(crate) type Written = Pin<Box<dyn Future<Output = Result<Result<(), Stale>, StorageError>> + Send>>;

/// Whoever commits what is written outside of handlers.
pub(crate) trait Writer: Send + Sync {
    /// Commits, after all that was handed over before.
    fn write(self: Arc<Self>, writes: Writes) -> Written;
}

/// Values by key, of one namespace and one tenant: bytes, or JSON of whatever serde can write.
///
/// **Inside a handler** ([`Context::storage`](crate::Context::storage)) what is written is kept back and committed with what the
/// handler returns, in one commit with its place in the log: exactly once, however often the handler is run, and not at all where
/// it fails. Reads see the handler's own writes, and those of earlier outcomes that are on their way to the store. A key that
/// the handler has read (also by [`put_if`](Self::put_if)) and writes must not have been written by another in between: else
/// nothing of the attempt is taken, and it begins again at once and sees the new value. So a counter is right under any concurrency.
/// Beginning again is no retry: it asks no policy and has the same attempt and effect keys;
/// [`DeliveryBook::conflicts`](crate::DeliveryBook::conflicts) counts it. Each time one of those that meet gets on; an attempt to which
/// that happens a thousand times, for it writes itself outside what it watches inside or more than a thousand meet at one key, fails with
/// a transient error of code `conflict`. Where handlers that take long often meet at a key, much is done in vain: let them run one at a
/// time ([`ordered_by_key`](crate::Handler::ordered_by_key) or [`concurrency`](crate::Handler::concurrency)`(1)`). A key that is only
/// written takes the last value.
///
/// **Outside** ([`Runtime::storage`](crate::Runtime::storage)) each write is a commit of its own, and its future resolves once it is
/// in the store. Reads see what is committed. Only the one who drives a runtime writes to its store, so a write is handed to
/// him; where nobody drives, it claims the store and commits by itself, and runs no handler.
///
/// In a runtime without a store it is the same, in memory.
///
/// # Ordering
/// Keys are in the order of their bytes.
///
/// # Cancel safety
/// Dropping the future of a write outside of a handler does not take the write back, unless the store cannot be opened.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Context, Draft, Expect, Handler, HandlerError, Runtime, store::Memory};
///
/// async fn count(context: Context) -> Result<(), HandlerError> {
///     let counts = context.storage("counts");
///     let before: u64 = counts.get_json("orders").await?.unwrap_or(0);
///     counts.put_json("orders", &(before + 1)).await?;
///     Ok(())
/// }
///
/// let runtime = Runtime::builder().store(Memory::new()).build()?;
/// runtime.on("order.placed", count.named("count"))?;
/// for _ in 0..3 {
///     runtime.emit(Draft::json("order.placed", ().into()))?;
/// }
/// runtime.process().await?;
/// let counts = runtime.storage("counts");
/// assert_eq!(counts.get_json::<u64>("orders").await?, Some(3));
/// assert!(!counts.put_if("orders", Expect::Absent, "0").await?, "there is one already");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Storage {
    shelf: Arc<Shelf>,
    scope: Scope,
    mode: Mode,
}

#[derive(Clone)]
enum Mode {
    Outside(Arc<dyn Writer>),
    Inside(Arc<Desk>),
    /// The handler had ended before it asked.
    Ended,
}

/// What must be there for a [`put_if`](Storage::put_if).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// Nothing.
    Absent,
    /// Just this.
    Equals(Bytes),
}

impl Expect {
    /// These bytes must be there.
    pub fn equals(value: impl Into<Bytes>) -> Self {
        Self::Equals(value.into())
    }

    fn is_met(&self, value: Option<&Bytes>) -> bool {
        match self {
            Self::Absent => value.is_none(),
            Self::Equals(expected) => value == Some(expected),
        }
    }
}

impl Storage {
    /// Written by whoever commits.
    pub(crate) fn outside(shelf: &Arc<Shelf>, scope: Scope, writer: Arc<dyn Writer>) -> Self {
        Self { shelf: Arc::clone(shelf), scope, mode: Mode::Outside(writer) }
    }

    /// Written with a handler's outcome; none where the handler has ended.
    pub(crate) fn inside(shelf: &Arc<Shelf>, scope: Scope, desk: Option<Arc<Desk>>) -> Self {
        Self { shelf: Arc::clone(shelf), scope, mode: desk.map_or(Mode::Ended, Mode::Inside) }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.scope.name()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StorageError`]: the store cannot be read.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, StorageError> {
        let row = self.scope.row(key.as_ref())?;
        if let Mode::Inside(desk) = &self.mode {
            if let Some(writes) = &mut *desk.lock() {
                if let Some(written) = writes.written(&row) {
                    return Ok(written);
                }
                writes.reads(&row);
            }
            return Ok(self.shelf.latest(&row).await?);
        }
        Ok(self.shelf.committed(&row).await?)
    }

    /// The value of a key, read as JSON.
    ///
    /// # Errors
    /// [`StorageError`]: as [`get`](Self::get), or the value is no JSON of this type.
    pub async fn get_json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, StorageError> {
        let value = self.get(&key).await?;
        let read = |value: Bytes| serde_json::from_slice(&value).map_err(|source| json_error(key.as_ref(), source));
        value.map(read).transpose()
    }

    /// Writes a value, whatever is there.
    ///
    /// # Errors
    /// [`StorageError`]: key or value are too large, the handler has ended, the runtime is stopped, or the store failed.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<(), StorageError> {
        let value = value.into();
        self.shelf.check(&value)?;
        self.write(key.as_ref(), Some(value)).await
    }

    /// Writes a value as JSON, whatever is there.
    ///
    /// # Errors
    /// As [`put`](Self::put), or the value has no JSON form.
    pub async fn put_json<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), StorageError> {
        let json = serde_json::to_vec(value).map_err(|source| json_error(key.as_ref(), source))?;
        self.put(key, json).await
    }

    /// Removes a key, whether it is there or not.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<(), StorageError> {
        self.write(key.as_ref(), None).await
    }

    /// Writes a value if what is there is as expected, and says whether it was. Nobody writes in between.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: impl Into<Bytes>,
    ) -> Result<bool, StorageError> {
        let (row, value) = (self.scope.row(key.as_ref())?, value.into());
        self.shelf.check(&value)?;
        if let Mode::Outside(writer) = &self.mode {
            return self.put_outside(writer, row, &expect, value).await;
        }
        let is_met = expect.is_met(self.get(key.as_ref()).await?.as_ref());
        if is_met {
            self.write(key.as_ref(), Some(value)).await?;
        }
        Ok(is_met)
    }

    async fn put_outside(
        &self,
        writer: &Arc<dyn Writer>,
        row: Bytes,
        expect: &Expect,
        value: Bytes,
    ) -> Result<bool, StorageError> {
        loop {
            let mut writes = Writes::new(&self.shelf);
            writes.reads(&row);
            let on_way = self.shelf.on_way(&row);
            let is_on_way = on_way.is_some();
            let there = match on_way {
                Some(there) => there,
                None => self.shelf.committed(&row).await?,
            };
            let is_met = expect.is_met(there.as_ref());
            if is_met {
                writes.set(row.clone(), Some(value.clone()));
            }
            if !is_met && !is_on_way {
                return Ok(false);
            }
            // What was refused for something on its way is answered once that is in the store.
            // Stale, somebody else has got on, so this ends.
            if let Ok(()) = Arc::clone(writer).write(writes).await? {
                return Ok(is_met);
            }
        }
    }

    async fn write(&self, key: &[u8], value: Option<Bytes>) -> Result<(), StorageError> {
        let row = self.scope.row(key)?;
        match &self.mode {
            Mode::Outside(writer) => {
                let mut writes = Writes::new(&self.shelf);
                writes.set(row, value);
                // Nothing was read, so nothing is stale.
                Arc::clone(writer).write(writes).await.map(|_| ())
            }
            Mode::Inside(desk) => match &mut *desk.lock() {
                Some(writes) => {
                    writes.set(row, value);
                    Ok(())
                }
                None => Err(StorageError::Ended),
            },
            Mode::Ended => Err(StorageError::Ended),
        }
    }

    /// Up to `limit` keys that begin with `prefix`, with their values, in order. `after` is the last key of the page before.
    /// Inside a handler, rows that it only scans are not watched for changes.
    ///
    /// # Errors
    /// [`StorageError`]: the store cannot be read.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let storage = millstream::Runtime::builder().build()?.storage("cities");
    /// for city in ["fr/lyon", "fr/paris", "it/roma", "fr/nice"] {
    ///     storage.put(city, "").await?;
    /// }
    /// let first = storage.scan("fr/", None, 2).await?;
    /// assert_eq!(first.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"fr/lyon", &b"fr/nice"[..]]);
    /// let next = storage.scan("fr/", first.last().map(|(key, _)| &key[..]), 2).await?;
    /// assert_eq!(next[0].0, "fr/paris");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn scan(
        &self,
        prefix: impl AsRef<[u8]>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StorageError> {
        let mut range = self.scope.range(prefix.as_ref());
        if let Some(after) = after {
            let row = self.scope.row(after)?;
            if row >= range.start {
                range = range.after(&row);
            }
        }
        let mut overlay = std::collections::BTreeMap::new();
        if let Mode::Inside(desk) = &self.mode {
            overlay = self.shelf.on_way_in(&range);
            let own = desk.lock().as_ref().map(|writes| writes.written_in(&range));
            overlay.extend(own.into_iter().flatten());
        }
        let rows = self.shelf.scan(range, limit, overlay).await?;
        Ok(rows.into_iter().map(|(row, value)| (self.scope.key(&row), value)).collect())
    }
}

fn json_error(key: &[u8], source: serde_json::Error) -> StorageError {
    StorageError::Json { key: String::from_utf8_lossy(key).into_owned(), source }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
