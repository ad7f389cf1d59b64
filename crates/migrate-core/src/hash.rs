//! Content hashes: the identity of plans, policies and models.

use std::fmt::Write;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// `bytes` in hexadecimal digits, as hashes are written down.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A hash of the same form as [`content_hash`] of what is told piece by piece: for
/// what is too large to be written out as JSON first.
///
/// Equal pieces in equal order give equal hashes on every machine, and where one
/// piece ends and the next begins is part of them.
#[derive(Clone, Debug)]
pub struct ContentHasher {
    hasher: Sha256,
    /// As long as it ever gets.
    pending: Vec<u8>,
    /// How much of it there is to be hashed.
    filled: usize,
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self {
            hasher: Sha256::default(),
            pending: vec![0; Self::CHUNK],
            filled: 0,
        }
    }
}

impl ContentHasher {
    /// Bytes that are hashed at once.
    const CHUNK: usize = 1 << 13;

    /// Tells a text.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        if text.len() > Self::CHUNK {
            self.flush();
            self.hasher.update(text.as_bytes());
        } else {
            self.put(text.as_bytes());
        }
    }

    /// Tells a number.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// Takes no more bytes than are hashed at once.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.filled + bytes.len() > self.pending.len() {
            self.flush();
        }
        let end = self.filled + bytes.len();
        self.pending[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.hasher.update(&self.pending[..self.filled]);
        self.filled = 0;
    }

    /// Twelve hex digits.
    pub fn finish(mut self) -> String {
        self.flush();
        hex(&self.hasher.finalize()[..6])
    }
}

/// SHA-256 of the JSON form of `value`, the first twelve hex digits.
///
/// Equal values give equal hashes on every machine because every map in the
/// types of this crate is ordered. A value that JSON cannot hold (a map with
/// keys that are no strings) hashes as its error text, which no type of this
/// crate does.
pub fn content_hash(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_else(|error| error.to_string().into_bytes());
    hex(&Sha256::digest(json)[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pieces: &[&str], number: u64) -> String {
        let mut hasher = ContentHasher::default();
        for piece in pieces {
            hasher.text(piece);
        }
        hasher.number(number);
        hasher.finish()
    }

    #[test]
    fn where_pieces_end_is_part_of_the_hash() {
        let hash_of_two = hash(&["ab", "c"], 1);
        assert_eq!(hash_of_two, hash(&["ab", "c"], 1));
        assert_eq!(hash_of_two.len(), 12);
        for other in [
            hash(&["a", "bc"], 1),
            hash(&["abc"], 1),
            hash(&["ab", "c"], 2),
        ] {
            assert_ne!(hash_of_two, other);
        }
    }

    #[test]
    fn long_content_is_hashed_to_its_end() {
        let long = "x".repeat(3 * ContentHasher::CHUNK);
        assert_ne!(hash(&[&long, "a"], 1), hash(&[&long, "b"], 1));
        assert_ne!(hash(&["a", &long], 1), hash(&["b", &long], 1));
    }
}
