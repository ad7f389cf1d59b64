//! Lines of a journal file: `<checksum> <json>\n`.
//!
//! The checksum is the first half of SHA-256 over the checksum of the line
//! before and the JSON, in hex. So a line vouches for all lines before it: one
//! that is lost, repeated, swapped or taken from another file breaks the chain.

use migrate_core::hex;
use sha2::{Digest, Sha256};

/// Hex digits of a checksum.
const CHECKSUM_LEN: usize = 32;

/// A position in the chain: the checksum of the line before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Chain(String);

impl Chain {
    /// The position after a line with this JSON.
    fn after(&self, json: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        hash.update(json);
        Self(hex(&hash.finalize()[..CHECKSUM_LEN / 2]))
    }

    /// The line that holds `json`, and the position after it.
    pub(super) fn encode(&self, json: &[u8]) -> (Vec<u8>, Self) {
        let next = self.after(json);
        let mut line = Vec::with_capacity(CHECKSUM_LEN + json.len() + 2);
        line.extend_from_slice(next.0.as_bytes());
        line.push(b' ');
        line.extend_from_slice(json);
        line.push(b'\n');
        (line, next)
    }

    /// The JSON of a line (without its newline) and the position after it, if
    /// the line continues the chain here.
    pub(super) fn decode<'a>(&self, line: &'a [u8]) -> Option<(&'a [u8], Self)> {
        let (checksum, rest) = line.split_at_checked(CHECKSUM_LEN)?;
        let json = rest.strip_prefix(b" ")?;
        let next = self.after(json);
        (next.0.as_bytes() == checksum).then_some((json, next))
    }

    /// Whether `text` begins with a whole line that continues the chain, and goes on
    /// after it: then its newline is damaged, and it is no torn last line. Reads
    /// `text` once.
    pub(super) fn begins_with_a_line(&self, text: &[u8]) -> bool {
        let Some((checksum, rest)) = text.split_at_checked(CHECKSUM_LEN) else {
            return false;
        };
        let Some(json) = rest.strip_prefix(b" ") else {
            return false;
        };
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        // An entry is a JSON object.
        let mut pieces = json.split_inclusive(|byte| *byte == b'}');
        let mut read = 0;
        pieces.any(|piece| {
            hash.update(piece);
            read += piece.len();
            let sum = hex(&hash.clone().finalize()[..CHECKSUM_LEN / 2]);
            sum.as_bytes() == checksum && read < json.len()
        })
    }
}
