//! Damages a snapshot at random places, from a seed, and in every field of its
//! structure, and looks at who notices.

mod fields;
mod restored;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};

use super::{Database, Inspection};
use fields::{PAGE, fields};
pub(crate) use restored::Restored;
use restored::Restores;

/// Keys and values in order.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The same of several buckets, with their names.
type Named = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;

/// A file that is accepted.
struct Seen {
    database: Database,
    /// All that an inspection tells, but the trailer.
    told: String,
    /// Where it is, as `prove` asks members for its hash.
    revision: i64,
    /// Entries of bucket `key`.
    keys: Entries,
    /// Entries of all other buckets.
    others: Named,
}

/// What is known of a sound file; `None` for one that is refused. A snapshot
/// without its trailer is none.
fn look(bytes: Vec<u8>) -> Option<Seen> {
    let database = Database::from_bytes(bytes).ok()?;
    let mut told = database.inspect().ok()?;
    told.trailer.take()?;
    Seen::of(database, &told)
}

impl Seen {
    fn of(database: Database, told: &Inspection) -> Option<Self> {
        let (mut keys, mut others) = (Vec::new(), Vec::new());
        let each = database.check(&mut |bucket, entry| {
            let (key, value) = (entry.key.to_vec(), entry.value.to_vec());
            match bucket.name() {
                b"key" => keys.push((key, value)),
                name => others.push((name.to_vec(), key, value)),
            }
            Ok(())
        });
        each.ok()?;
        Some(Self {
            told: format!("{told:?}"),
            revision: told.revision,
            database,
            keys,
            others,
        })
    }
}

/// The revision of an entry of bucket `key`.
fn revision_of(key: &[u8]) -> i64 {
    key.first_chunk()
        .map_or(0, |main| i64::from_be_bytes(*main))
}

/// The key that a record is of: its first field.
fn name_of(value: &[u8]) -> &[u8] {
    let Some(([0x0A], rest)) = value.split_first_chunk() else {
        return &[];
    };
    let digits = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let digit = |len: usize, byte: &u8| len << 7 | usize::from(byte & 0x7F);
    let len = rest[..digits].iter().rev().fold(0, digit);
    &rest[digits..][..len]
}

/// What the hash at `revision` is of, where a member is compacted at `compacted`; of no
/// compaction all up to `revision`.
fn hashed(keys: &Entries, revision: i64, compacted: i64) -> Vec<&(Vec<u8>, Vec<u8>)> {
    let upto = keys.iter().filter(|(at, _)| revision_of(at) <= revision);
    let all: Vec<_> = upto.collect();
    if compacted < 1 {
        return all;
    }
    let is_tombstone = |at: &[u8]| at.len() == 18;
    let mut last = BTreeMap::new();
    for (at, value) in &all {
        match is_tombstone(at) {
            true => last.remove(name_of(value)),
            false => last.insert(name_of(value), at.clone()),
        };
    }
    let is_hashed = |(at, value): &&(Vec<u8>, Vec<u8>)| {
        let is_kept = last.is_empty() || last.get(name_of(value)) == Some(at);
        let main = revision_of(at);
        let is_there = main > compacted || is_kept;
        is_there && !(main == compacted && is_tombstone(at))
    };
    all.into_iter().filter(is_hashed).collect()
}

/// Who has noticed how many damages of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Refused by the SHA-256 at the end of the file, or because it is too short:
    /// all of them.
    pub(crate) by_trailer: u64,
    /// With a trailer that is stamped anew: refused by the check of the file.
    pub(crate) by_inspection: u64,
    /// Told otherwise, another count or revision, and the hash that is compared with live
    /// members differs as well where the keys do; or a damaged meta page.
    pub(crate) told: u64,
    /// Only that hash differs.
    pub(crate) by_hash: u64,
    /// An earlier state, its last revisions gone: members agree with it, and have more than
    /// its revision, which is why `save_proven` refuses it.
    pub(crate) earlier: u64,
    /// Entries of other buckets than `key` differ: not covered.
    pub(crate) not_covered: u64,
    /// All entries are as they were: free pages and room between entries.
    pub(crate) harmless: u64,
}

impl Found {
    fn and(self, found: &Self) -> Self {
        Self {
            by_trailer: self.by_trailer + found.by_trailer,
            by_inspection: self.by_inspection + found.by_inspection,
            told: self.told + found.told,
            by_hash: self.by_hash + found.by_hash,
            earlier: self.earlier + found.earlier,
            not_covered: self.not_covered + found.not_covered,
            harmless: self.harmless + found.harmless,
        }
    }
}

/// Who has noticed what, by kind of damage.
#[derive(Default)]
pub(crate) struct Tally {
    found: BTreeMap<&'static str, Found>,
    /// What a restore has made of some of the files.
    pub(crate) restored: Restored,
}

impl Tally {
    fn add(&mut self, kind: &'static str, found: &Found) {
        let sum = self.found.entry(kind).or_default();
        *sum = sum.and(found);
    }

    /// Of all kinds together.
    pub(crate) fn all(&self) -> Found {
        let add = |sum: Found, found: &Found| sum.and(found);
        self.found.values().fold(Found::default(), add)
    }
}

/// Rows of a table; the columns are those of [`Found`], in order.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all();
        let rows = self.found.iter().map(|(kind, found)| (*kind, found));
        for (kind, found) in rows.chain([("all", &all)]) {
            let Found {
                by_trailer,
                by_inspection,
                told,
                by_hash,
                earlier,
                not_covered,
                harmless,
            } = found;
            writeln!(
                f,
                "| {kind} | {by_trailer} | {by_inspection} | {told} | {by_hash} | {earlier} | {not_covered} | {harmless} |"
            )?;
        }
        Ok(())
    }
}

/// A sound file that is damaged.
pub(crate) struct Damages {
    whole: Vec<u8>,
    sound: Seen,
    /// What members may be compacted at by the time they are asked.
    compacted: i64,
    tally: Tally,
    restores: Restores,
}

impl Damages {
    /// Of a sound snapshot that is not compacted; of `each` that are damaged one is restored.
    pub(crate) fn of(whole: Vec<u8>, each: u64) -> Self {
        let sound = look(whole.clone()).expect("the file is sound");
        Self {
            restores: Restores::of(&whole, each),
            whole,
            compacted: sound.revision / 2,
            sound,
            tally: Tally::default(),
        }
    }

    /// Damages it `times` times at random places.
    ///
    /// # Panics
    /// Where a damaged file is accepted whose keys are not those of the sound one and whose
    /// hash is, one with its old trailer is accepted, looking at it panics, or a restore of it
    /// is taken for one of a sound file.
    pub(crate) fn at_random(mut self, times: u64, seed: u64) -> Tally {
        let mut random = Random(seed);
        for round in 0..times {
            let mut damaged = self.whole.clone();
            let (kind, what) = random.damage(&mut damaged);
            self.try_one(kind, &format!("round {round}: {what}"), damaged);
        }
        self.done()
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
        self.done()
    }

    fn done(self) -> Tally {
        let restored = self.restores.told;
        Tally {
            restored,
            ..self.tally
        }
    }

    fn try_one(&mut self, kind: &'static str, what: &str, mut damaged: Vec<u8>) {
        if damaged == self.whole {
            return;
        }
        let look = |bytes| {
            let seen = catch_unwind(AssertUnwindSafe(|| look(bytes)));
            seen.unwrap_or_else(|_| panic!("{what} panics"))
        };
        assert!(look(damaged.clone()).is_none(), "{what}");
        let mut found = Found {
            by_trailer: 1,
            ..Found::default()
        };
        let old = damaged.clone();
        damaged.truncate(damaged.len() / 512 * 512);
        let hash = Sha256::digest(&damaged);
        damaged.extend_from_slice(hash.as_slice());
        let seen = look(damaged.clone());
        self.restores.see(what, &old, &damaged, seen.as_ref());
        match seen {
            None => found.by_inspection = 1,
            Some(seen) => *self.noticed(&seen, what, &mut found) = 1,
        }
        self.tally.add(kind, &found);
    }

    /// Who notices a file that is accepted, its trailer stamped anew.
    fn noticed<'a>(&self, seen: &Seen, what: &str, found: &'a mut Found) -> &'a mut u64 {
        let sound = &self.sound;
        let is_told = seen.told != sound.told;
        if seen.keys == sound.keys {
            return match (is_told, seen.others == sound.others) {
                (true, _) => &mut found.told,
                (false, true) => &mut found.harmless,
                (false, false) => &mut found.not_covered,
            };
        }
        // As members are asked: at the revision of the file that there is.
        let at = seen.revision;
        let mut is_earlier = true;
        for compacted in [-1, self.compacted] {
            if at < compacted
                || hashed(&seen.keys, at, compacted) == hashed(&sound.keys, at, compacted)
            {
                continue;
            }
            is_earlier = false;
            let hash = |of: &Seen| of.database.hash_kv(at, compacted).unwrap();
            assert_ne!(hash(seen), hash(sound), "{what}, compacted at {compacted}");
        }
        if is_earlier {
            assert!(at < sound.revision, "{what}");
            return &mut found.earlier;
        }
        match is_told {
            true => &mut found.told,
            false => &mut found.by_hash,
        }
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
