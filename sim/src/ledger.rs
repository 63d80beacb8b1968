//! What was acknowledged, on the side of the one who kills.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream::store::{CLASSES, Class};

/// How long a record is at least; it is filled with something that compresses half.
const LENGTH: usize = 120;

/// One emit: the number of the process, of the emitter in it, and of the emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Which start of the process.
    pub cycle: u32,
    /// Who emitted.
    pub emitter: u32,
    /// How many that one had emitted before.
    pub number: u64,
}

impl Emit {
    /// The log that it goes to: each emitter has one.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a byte")]
    pub fn class(&self) -> Class {
        Class((self.emitter % u32::from(CLASSES)) as u8)
    }

    /// As a record.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(self.cycle.to_be_bytes());
        bytes.extend(self.emitter.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        let mut mixed = self.number ^ u64::from(self.emitter) << 40;
        while bytes.len() < LENGTH {
            mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            bytes.extend(mixed.to_be_bytes());
            bytes.extend(b"millstream");
        }
        bytes.into()
    }

    /// From a record; none if it is not exactly one that was encoded.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let cycle = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let emitter = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
        let number = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
        let emit = Self { cycle, emitter, number };
        (emit.encode() == bytes).then_some(emit)
    }
}

/// An acknowledgement, as the process tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who emitted.
    pub emitter: u32,
    /// The number of the emit.
    pub number: u64,
}

impl Ack {
    /// How long it is.
    pub const LENGTH: usize = 12;

    /// As it goes through the pipe.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.emitter.to_be_bytes());
        bytes[4..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// As it came through the pipe.
    pub fn decode(bytes: [u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, number @ ..] = bytes;
        Self { emitter: u32::from_be_bytes([a, b, c, d]), number: u64::from_be_bytes(number) }
    }
}

/// How many records were counted, and a sum of them that knows each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub records: u64,
    /// Their sum, in whatever order.
    pub sum: u64,
}

impl Count {
    /// Counts one more.
    pub fn add(&mut self, record: &[u8]) {
        let mixed = record
            .iter()
            .fold(0xCBF2_9CE4_8422_2325, |mixed: u64, byte| (mixed ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
        self.records += 1;
        self.sum = self.sum.wrapping_add(mixed);
    }

    /// As a row.
    pub fn encode(&self) -> Bytes {
        [self.records.to_be_bytes(), self.sum.to_be_bytes()].concat().into()
    }

    /// From a row; nothing counted, if it is none.
    pub fn decode(row: &[u8]) -> Self {
        let number = |part: Option<&[u8]>| part.and_then(|part| part.try_into().ok()).map(u64::from_be_bytes);
        match (number(row.get(..8)), number(row.get(8..16))) {
            (Some(records), Some(sum)) if row.len() == 16 => Self { records, sum },
            _ => Self::default(),
        }
    }
}

/// How many emits of each emitter of a process were acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acked: BTreeMap<u32, u64>,
    /// Acknowledgements in all.
    pub total: u64,
    /// Acknowledgements that came out of order.
    pub strange: u64,
}

impl Ledger {
    /// Writes an acknowledgement down.
    pub fn note(&mut self, ack: Ack) {
        let acked = self.acked.entry(ack.emitter).or_default();
        self.strange += u64::from(*acked != ack.number);
        *acked = ack.number + 1;
        self.total += 1;
    }

    /// Those of whom any emit was acknowledged.
    pub fn emitters(&self) -> impl Iterator<Item = &u32> {
        self.acked.keys()
    }

    /// How many emits of an emitter were acknowledged.
    pub fn acked(&self, emitter: u32) -> u64 {
        self.acked.get(&emitter).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_and_a_changed_bit_is_seen() {
        let emit = Emit { cycle: 3, emitter: 77, number: 1 << 33 };
        let bytes = emit.encode();
        assert_eq!(Emit::decode(&bytes), Some(emit));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Emit::decode(&changed), Some(emit));
        }
        let ack = Ack { emitter: 9, number: 12 };
        assert_eq!(Ack::decode(ack.encode()), ack);
        let mut count = Count::default();
        count.add(&bytes);
        assert_eq!(Count::decode(&count.encode()), count);
    }

    #[test]
    fn a_ledger_knows_how_far_each_emitter_came() {
        let mut ledger = Ledger::default();
        for number in 0..3 {
            ledger.note(Ack { emitter: 1, number });
        }
        assert_eq!((ledger.acked(1), ledger.acked(2), ledger.strange), (3, 0, 0));
        ledger.note(Ack { emitter: 1, number: 5 });
        assert_eq!(ledger.strange, 1);
    }
}
