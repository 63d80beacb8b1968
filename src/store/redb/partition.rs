//! A partition that was claimed.

use bytes::Bytes;

use super::{
    queue::{Job, Permit},
    read::View,
};
use crate::store::{
    Class, CommitError, Committed, Extent, FoundRow, KeyRange, Op, Page, Partition, Reader, Row, Seq, StoreError,
    StoreFuture, Table, Wanted, check::Author, ticket::ticket,
};

/// The right to write to a partition.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) view: View,
    pub(super) permit: Permit,
}

impl Partition for Held {
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.view.owner.hand_over(self.view.partition, Some(self.permit), batch, Author::Holder)
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        let (settle, pending) = ticket();
        self.view.owner.shared.queue.push(Job::Release { settle });
        Box::pin(async move { pending.await.unwrap_or(Err(StoreError::Closed)) })
    }
}

impl Reader for Held {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.view.get(table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.view.scan(table, range, limit)
    }

    fn scan_each(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        self.view.scan_each(table, range, limit)
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        self.view.last(table, range)
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        self.view.extent()
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.view.read(class, from, max_bytes, wanted)
    }
}
