//! What a request is counted under.

use std::hash::Hash;

/// What can be a key: any value that can be hashed, compared and cloned.
pub trait Key: Hash + Eq + Clone {}

impl<K: Hash + Eq + Clone> Key for K {}

/// Reads a key out of a request; any `Fn(&R) -> K` does.
pub trait KeyOf<R> {
    /// The key: a tenant, a customer, an endpoint.
    type Key;

    /// The key of `request`.
    fn key_of(&self, request: &R) -> Self::Key;
}

impl<R, K, F: Fn(&R) -> K> KeyOf<R> for F {
    type Key = K;

    fn key_of(&self, request: &R) -> K {
        self(request)
    }
}

/// One key for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everyone;

impl<R> KeyOf<R> for Everyone {
    type Key = ();

    fn key_of(&self, _: &R) {}
}
