//! Damages a snapshot at random places, from a seed, and in every field of its
//! structure, and looks at who notices.

mod fields;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};

use super::Database;
use fields::{PAGE, fields};

/// A file that is accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    /// All that an inspection tells, but the trailer.
    told: String,
    /// HashKV at the revision of the sound file.
    hash: u32,
    /// Entries of bucket `key`.
    keys: Vec<(Vec<u8>, Vec<u8>)>,
    /// Entries of all other buckets.
    others: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What is known of a sound file; `None` for one that is refused. A snapshot
/// without its trailer is none.
fn look(bytes: Vec<u8>, revision: i64) -> Option<Seen> {
    let database = Database::from_bytes(bytes).ok()?;
    let mut told = database.inspect().ok()?;
    told.trailer.take()?;
    let mut seen = Seen {
        told: format!("{told:?}"),
        hash: database.hash_kv(revision, -1).ok()?,
        keys: Vec::new(),
        others: Vec::new(),
    };
    let each = database.check(&mut |bucket, entry| {
        let pair = (entry.key.to_vec(), entry.value.to_vec());
        match bucket.name() {
            b"key" => seen.keys.push(pair),
            _ => seen.others.push(pair),
        }
        Ok(())
    });
    each.ok().map(|_| seen)
}

/// Who has noticed how many damages of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Refused by the SHA-256 at the end of the file, or because it is too short:
    /// all of them.
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

/// Who has noticed what, by kind of damage.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<&'static str, Found>);

impl Tally {
    /// Of all kinds together.
    pub(crate) fn all(&self) -> Found {
        let add = |sum: Found, found: &Found| Found {
            by_trailer: sum.by_trailer + found.by_trailer,
            by_inspection: sum.by_inspection + found.by_inspection,
            told: sum.told + found.told,
            by_hash: sum.by_hash + found.by_hash,
            not_covered: sum.not_covered + found.not_covered,
            harmless: sum.harmless + found.harmless,
        };
        self.0.values().fold(Found::default(), add)
    }
}

/// A table as in docs/etcd.md.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all();
        let rows = self.0.iter().map(|(kind, found)| (*kind, found));
        for (kind, found) in rows.chain([("all", &all)]) {
            let Found {
                by_trailer,
                by_inspection,
                told,
                by_hash,
                not_covered,
                harmless,
            } = found;
            writeln!(
                f,
                "| {kind} | {by_trailer} | {by_inspection} | {told} | {by_hash} | {not_covered} | {harmless} |"
            )?;
        }
        Ok(())
    }
}

/// A sound file that is damaged.
pub(crate) struct Damages {
    whole: Vec<u8>,
    revision: i64,
    sound: Seen,
    tally: Tally,
}

impl Damages {
    /// Of a sound snapshot whose last revision is `revision`.
    pub(crate) fn of(whole: Vec<u8>, revision: i64) -> Self {
        let sound = look(whole.clone(), revision).expect("the file is sound");
        Self {
            whole,
            revision,
            sound,
            tally: Tally::default(),
        }
    }

    /// Damages it `times` times at random places.
    ///
    /// # Panics
    /// Where a damaged file is accepted whose keys are not those of the sound one,
    /// one with its old trailer is accepted, or looking at it panics.
    pub(crate) fn at_random(mut self, times: u64, seed: u64) -> Tally {
        let mut random = Random(seed);
        for round in 0..times {
            let mut damaged = self.whole.clone();
            let (kind, what) = random.damage(&mut damaged);
            self.try_one(kind, &format!("round {round}: {what}"), damaged);
        }
        self.tally
    }

    /// Sets every field of its structure, each `step`th that is, to what it must not
    /// be: 0, 1, one more, one less, its bits turned.
    ///
    /// # Panics
    /// As [`at_random`](Self::at_random).
    pub(crate) fn in_every_field(mut self, step: usize) -> Tally {
        for field in fields(&self.whole).into_iter().step_by(step) {
            for damaged in field.damages(&self.whole) {
                self.try_one(field.kind, &format!("{field:?}"), damaged);
            }
        }
        self.tally
    }

    fn try_one(&mut self, kind: &'static str, what: &str, mut damaged: Vec<u8>) {
        if damaged == self.whole {
            return;
        }
        let look = |bytes| {
            let seen = catch_unwind(AssertUnwindSafe(|| look(bytes, self.revision)));
            seen.unwrap_or_else(|_| panic!("{what} panics"))
        };
        assert_eq!(look(damaged.clone()), None, "{what}");
        let found = self.tally.0.entry(kind).or_default();
        found.by_trailer += 1;
        damaged.truncate(damaged.len() / 512 * 512);
        let hash = Sha256::digest(&damaged);
        damaged.extend_from_slice(hash.as_slice());
        let Some(seen) = look(damaged) else {
            found.by_inspection += 1;
            return;
        };
        let sound = &self.sound;
        let count = if seen.told != sound.told {
            &mut found.told
        } else if seen.hash != sound.hash {
            &mut found.by_hash
        } else {
            assert_eq!(seen.keys, sound.keys, "{what}");
            if seen.others == sound.others {
                &mut found.harmless
            } else {
                &mut found.not_covered
            }
        };
        *count += 1;
    }
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
        (at / PAGE * PAGE + self.below(160)).min(len - 1)
    }

    /// The kind of the damage, and where it is.
    fn damage(&mut self, bytes: &mut Vec<u8>) -> (&'static str, String) {
        let at = self.place(bytes.len());
        let run = (1 + self.below(600)).min(bytes.len() - at);
        let pages = bytes.len() / PAGE;
        match self.below(9) {
            0..=2 => {
                let bit = self.below(8);
                bytes[at] ^= 1 << bit;
                ("bit flipped", format!("bit {bit} of byte {at}"))
            }
            3 => {
                bytes[at] = self.next() as u8;
                ("byte set", format!("byte {at} is {}", bytes[at]))
            }
            4 => {
                bytes[at..at + run].fill(0);
                ("bytes zeroed", format!("{run} bytes at {at}"))
            }
            5 => {
                bytes.truncate(at);
                ("cut", format!("at {at}"))
            }
            6 => {
                let from = self.below(bytes.len() - run + 1);
                bytes.copy_within(from..from + run, at);
                let what = format!("{run} bytes at {at} with those at {from}");
                ("bytes written over", what)
            }
            7 => {
                let (from, to) = (self.below(pages) * PAGE, self.below(pages) * PAGE);
                bytes.copy_within(from..from + PAGE, to);
                ("page written over", format!("at {to} with that at {from}"))
            }
            _ => {
                let at = self.below(pages) * PAGE;
                let page = bytes[at..at + PAGE].to_vec();
                drop(bytes.splice(at..at, page));
                ("page twice", format!("at {at}"))
            }
        }
    }
}
