//! The SHA-256 trailer at the end of a snapshot stream.

use migrate_core::hex;
use sha2::{Digest, Sha256};

/// Length of the trailer in bytes.
pub(crate) const TRAILER: usize = 32;

/// Hashes a stream whose last [`TRAILER`] bytes are the hash of the others.
///
/// The trailer may come in one piece, in several, or in one with data: the
/// last bytes seen are always held back.
#[derive(Default)]
pub(crate) struct TrailerCheck {
    data: Sha256,
    held: Vec<u8>,
    bytes: u64,
}

/// What a checked stream was.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Checked {
    /// The trailer holds; SHA-256 of the whole stream, trailer included.
    Intact(String),
    /// The trailer does not hold; SHA-256 of the whole stream all the same.
    Mismatch(String),
    /// There is no room for data and trailer.
    TooShort,
}

impl TrailerCheck {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        // Of a large piece only the end is copied.
        let (settled, last) = bytes.split_at(bytes.len().saturating_sub(TRAILER));
        if !settled.is_empty() {
            self.data.update(&self.held);
            self.data.update(settled);
            self.held.clear();
        }
        self.held.extend_from_slice(last);
        let settled = self.held.len().saturating_sub(TRAILER);
        self.data.update(&self.held[..settled]);
        self.held.drain(..settled);
    }

    /// Bytes taken so far.
    #[cfg(feature = "client")]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The verdict.
    pub(crate) fn finish(self) -> Checked {
        // A database is at least two meta pages of the smallest page size.
        if self.bytes < 1024 + TRAILER as u64 {
            return Checked::TooShort;
        }
        let whole = self.data.clone().chain_update(&self.held);
        let is_intact = self.data.finalize().as_slice() == self.held.as_slice();
        let whole = hex(whole.finalize());
        match is_intact {
            true => Checked::Intact(whole),
            false => Checked::Mismatch(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(hash.as_slice());
        bytes
    }

    fn check(bytes: &[u8], chunk: usize) -> Checked {
        let mut check = TrailerCheck::default();
        bytes.chunks(chunk).for_each(|piece| check.update(piece));
        check.finish()
    }

    #[test]
    fn the_trailer_holds_however_the_stream_is_cut() {
        let bytes = snapshot();
        let whole = check(&bytes, bytes.len());
        assert!(matches!(whole, Checked::Intact(_)));
        for chunk in [1, 7, 31, 32, 33, 4096] {
            assert_eq!(check(&bytes, chunk), whole);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_lost_trailer_is_seen() {
        let good = snapshot();
        for at in [0, 5000, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(matches!(check(&bad, 1000), Checked::Mismatch(_)));
        }
        let cut = check(&good[..good.len() - TRAILER], 512);
        assert!(matches!(cut, Checked::Mismatch(_)));
        assert_eq!(check(&good[..600], 512), Checked::TooShort);
    }
}
