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
