//! What was acknowledged, on the side of the one who kills.

use std::collections::BTreeMap;

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
    fn what_was_encoded_is_decoded() {
        let ack = Ack { emitter: 9, number: 12 };
        assert_eq!(Ack::decode(ack.encode()), ack);
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
