//! Whose state it is: a tenant and a key, as one text.

use compact_str::CompactString;

use crate::event::{Key, Tenant};

/// The key of a state: always (tenant, key). Without a tenant it is `:key`, with one `6:tenantkey`, the number being the
/// tenant's bytes; so two of them are never one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StateKey(CompactString);

impl StateKey {
    pub(crate) fn new(tenant: Option<&Tenant>, key: &str) -> Self {
        let tenant = tenant.map(Tenant::as_str);
        let mut text = CompactString::with_capacity(tenant.map_or(0, |tenant| tenant.len() + 4) + key.len() + 1);
        if let Some(tenant) = tenant {
            text.push_str(&tenant.len().to_string());
            text.push(':');
            text.push_str(tenant);
        } else {
            text.push(':');
        }
        text.push_str(key);
        Self(text)
    }

    /// The key that a row names.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        CompactString::from_utf8(bytes).ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn parts(&self) -> (Option<&str>, &str) {
        let Some((length, rest)) = self.0.split_once(':') else { return (None, &self.0) };
        match length.parse().ok().and_then(|length: usize| rest.split_at_checked(length)) {
            Some((tenant, key)) => (Some(tenant), key),
            None => (None, rest),
        }
    }

    /// Whose it is.
    pub(crate) fn tenant(&self) -> Option<Tenant> {
        self.parts().0.map(Tenant::from)
    }

    /// The key within the tenant.
    pub(crate) fn key(&self) -> Key {
        self.parts().1.into()
    }

    /// A hash that is the same on every machine and in every version: FNV-1a.
    pub(super) fn stable_hash(&self) -> u64 {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        self.as_bytes().iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_key_says_whose_it_is_and_two_are_never_one() {
        let table = [(None, "a"), (None, "1:ab"), (Some("a"), "b"), (Some("ab"), ""), (Some(""), "ab"), (None, "")];
        let keys: Vec<_> =
            table.iter().map(|(tenant, key)| StateKey::new(tenant.map(Tenant::from).as_ref(), key)).collect();
        for (state, (tenant, key)) in keys.iter().zip(table) {
            assert_eq!((state.tenant(), state.key()), (tenant.map(Tenant::from), Key::from(key)));
        }
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), table.len());
    }

    #[test]
    fn the_hash_that_lanes_go_by_is_the_published_one() {
        assert_eq!(StateKey(CompactString::default()).stable_hash(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(StateKey("a".into()).stable_hash(), 0xaf63_dc4c_8601_ec8c);
    }
}
