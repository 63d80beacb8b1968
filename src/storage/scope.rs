//! Whose storage it is: the rows of a tenant's namespace lie side by side.

use bytes::Bytes;

use super::StorageError;
use crate::{
    event::{Tenant, scoped},
    store::KeyRange,
};

/// A tenant's namespace, or one of nobody in particular.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    prefix: Bytes,
    name: Box<str>,
}

impl Scope {
    /// The longest key, in bytes.
    pub(crate) const MAX_KEY: usize = 1_024;

    pub(crate) fn new(tenant: Option<&Tenant>, namespace: &str) -> Self {
        Self { prefix: scoped(tenant, &[namespace]).into(), name: namespace.into() }
    }

    /// The namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key of a row.
    pub(crate) fn row(&self, key: &[u8]) -> Result<Bytes, StorageError> {
        if key.len() > Self::MAX_KEY {
            return Err(StorageError::KeyTooLong { bytes: key.len(), limit: Self::MAX_KEY });
        }
        Ok([&self.prefix, key].concat().into())
    }

    /// The rows whose keys begin with `prefix`.
    pub(crate) fn range(&self, prefix: &[u8]) -> KeyRange {
        KeyRange::prefix([&self.prefix, prefix].concat())
    }

    /// The key that a row's key is.
    pub(crate) fn key(&self, row: &Bytes) -> Bytes {
        row.slice(self.prefix.len().min(row.len())..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pairs_of_tenant_and_namespace_share_a_row() {
        let tenant = |name: &str| Some(Tenant::from(name));
        let pairs = [(None, "ab"), (None, "a"), (tenant(""), "ab"), (tenant("a"), "b"), (tenant("ab"), "")];
        for (place, (of, namespace)) in pairs.iter().enumerate() {
            let range = Scope::new(of.as_ref(), namespace).range(b"");
            for (other, (of, namespace)) in pairs.iter().enumerate() {
                let row = Scope::new(of.as_ref(), namespace).row(b"b").unwrap();
                assert_eq!(range.contains(&row), place == other, "{place} {other}");
            }
        }
    }

    #[test]
    fn a_row_gives_its_key_back() {
        let scope = Scope::new(None, "n");
        assert_eq!(scope.key(&scope.row(b"\x00k").unwrap()), &b"\x00k"[..]);
        assert!(scope.row(&[0; Scope::MAX_KEY + 1]).is_err());
    }
}
