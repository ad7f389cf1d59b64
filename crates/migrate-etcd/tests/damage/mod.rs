//! Damages a snapshot at random places, from a seed, and looks at who notices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};

/// What is known of a sound file; `None` for one that is refused.
pub(crate) type Look = dyn Fn(Vec<u8>) -> Option<Seen>;

/// A file that is accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// All that an inspection tells, but the trailer.
    pub(crate) told: String,
    /// HashKV at the revision of the sound file.
    pub(crate) hash: u32,
    /// Entries of bucket `key`.
    pub(crate) keys: Vec<(Vec<u8>, Vec<u8>)>,
    /// Entries of all other buckets.
    pub(crate) others: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How many damages of which kind there were.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Refused by the SHA-256 at the end of the file, or because it is too short.
    pub(crate) by_trailer: u64,
    /// With a trailer that is stamped anew: refused by the check of the file.
    pub(crate) by_inspection: u64,
    /// Told otherwise: another count, revision, or a damaged meta page.
    pub(crate) told: u64,
    /// Only the hash that is compared with live members differs.
    pub(crate) by_hash: u64,
    /// Entries of other buckets than `key` differ: not covered.
    pub(crate) not_covered: u64,
    /// All entries are as they were: free pages and room between entries.
    pub(crate) harmless: u64,
}

/// Damages `whole` `times` times.
///
/// # Panics
/// Where a damaged file is accepted whose keys are not those of the sound one,
/// one with its old trailer is accepted, or `look` panics.
pub(crate) fn try_damages(whole: &[u8], times: u64, seed: u64, look: &Look) -> Tally {
    let sound = look(whole.to_vec()).expect("the file is sound");
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for round in 0..times {
        let mut damaged = whole.to_vec();
        let what = random.damage(&mut damaged);
        if damaged == whole {
            continue;
        }
        let look = |bytes| {
            let seen = catch_unwind(AssertUnwindSafe(|| look(bytes)));
            seen.unwrap_or_else(|_| panic!("round {round}: {what} panics"))
        };
        assert_eq!(look(damaged.clone()), None, "round {round}: {what}");
        tally.by_trailer += 1;
        damaged.truncate(damaged.len() / 512 * 512);
        let hash = Sha256::digest(&damaged);
        damaged.extend_from_slice(hash.as_slice());
        let Some(seen) = look(damaged) else {
            tally.by_inspection += 1;
            continue;
        };
        let count = if seen.told != sound.told {
            &mut tally.told
        } else if seen.hash != sound.hash {
            &mut tally.by_hash
        } else {
            assert_eq!(seen.keys, sound.keys, "round {round}: {what}");
            if seen.others == sound.others {
                &mut tally.harmless
            } else {
                &mut tally.not_covered
            }
        };
        *count += 1;
    }
    tally
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One place of a file: half of them where pages have their structure.
    fn place(&mut self, len: usize) -> usize {
        let at = self.below(len);
        if self.below(2) == 0 {
            return at;
        }
        (at / 4096 * 4096 + self.below(160)).min(len - 1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) -> String {
        let at = self.place(bytes.len());
        let run = (1 + self.below(600)).min(bytes.len() - at);
        match self.below(8) {
            0..=2 => {
                let bit = self.below(8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            3 => {
                let byte = self.next() as u8;
                bytes[at] = byte;
                format!("byte {at} set to {byte}")
            }
            4 => {
                bytes[at..at + run].fill(0);
                format!("{run} bytes at {at} zeroed")
            }
            5 => {
                bytes.truncate(at);
                format!("cut at {at}")
            }
            6 => {
                let from = self.below(bytes.len() - run + 1);
                bytes.copy_within(from..from + run, at);
                format!("{run} bytes at {at} written over with those at {from}")
            }
            _ => {
                // A page in the place of another one.
                let pages = bytes.len() / 4096;
                let (from, to) = (self.below(pages) * 4096, self.below(pages) * 4096);
                bytes.copy_within(from..from + 4096, to);
                format!("page at {to} written over with the one at {from}")
            }
        }
    }
}
