//! Content hashes: the identity of plans, policies and models.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 of the JSON form of `value`, the first twelve hex digits.
///
/// Equal values give equal hashes on every machine because every map in the
/// types of this crate is ordered. A value that JSON cannot hold (a map with
/// keys that are no strings) hashes as its error text, which no type of this
/// crate does.
pub fn content_hash(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_else(|error| error.to_string().into_bytes());
    Sha256::digest(json)
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
