//! What the fuzz targets share: databases as etcd lays them out, and words that are
//! taken from the fuzzer's bytes.

#![forbid(unsafe_code)]

#[path = "../../crates/migrate-etcd/tests/bolt/mod.rs"]
mod bolt;
pub mod words;

use bolt::build::{Free, database};

/// Keys and values of a bucket.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A sound file of these buckets, without a trailer; `kind` chooses the size of its
/// pages and how free ones are listed.
pub fn file(kind: u8, buckets: &[(&str, Entries)]) -> Vec<u8> {
    let free = [Free::Unlisted, Free::Listed, Free::CountFirst][usize::from(kind / 4 % 3)];
    database(page_size(kind), free, buckets)
}

/// Stamps both meta pages anew, so that damage is not refused by their checksum, and
/// puts a trailer behind it.
pub fn stamp(mut bytes: Vec<u8>, kind: u8) -> Vec<u8> {
    let page_size = page_size(kind);
    for at in [16, page_size + 16] {
        if let Some(meta) = bytes.get_mut(at..at + 64) {
            let step =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            let hash = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325, step);
            meta[56..].copy_from_slice(&hash.to_le_bytes());
        }
    }
    bolt::build::sealed(bytes)
}

fn page_size(kind: u8) -> usize {
    [512, 1024, 4096, 16_384][usize::from(kind % 4)]
}
