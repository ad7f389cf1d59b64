//! Damage at random places of a file that has all of a real one.

#[path = "../../tests/damage/mod.rs"]
mod try_out;

use try_out::{Seen, Tally, try_damages};

use super::kv::samples::{put, tombstone};
use super::tests::etcd;
use crate::bolt::build::{Entries, Free, snapshot};
use crate::{Database, Inspection};

fn look(bytes: Vec<u8>) -> Option<Seen> {
    let database = Database::from_bytes(bytes).ok()?;
    // A snapshot without its trailer is none.
    let told = database
        .inspect()
        .ok()
        .filter(|told| told.trailer.is_some())?;
    let mut seen = Seen {
        told: format!(
            "{:?}",
            Inspection {
                trailer: None,
                ..told
            }
        ),
        hash: database.hash_kv(499, -1).ok()?,
        keys: Vec::new(),
        others: Vec::new(),
    };
    database
        .check(&mut |bucket, entry| {
            let pair = (entry.key.to_vec(), entry.value.to_vec());
            match bucket.name() {
                b"key" => seen.keys.push(pair),
                _ => seen.others.push(pair),
            }
            Ok(())
        })
        .ok()?;
    Some(seen)
}

/// Several levels, values over several pages, deleted and changed keys.
fn keys() -> Entries {
    let entry = |main: i64| {
        let key = format!("/registry/pods/default/web-{}", main % 70);
        match main % 5 {
            0 => tombstone(main, 0, &key),
            1 if main % 40 == 1 => put(main, 0, &key, &"v".repeat(9000), main, 1),
            _ => put(main, 0, &key, &"v".repeat(100), main, 1),
        }
    };
    (2..500).map(entry).collect()
}

fn try_all(times: u64) {
    for (seed, free) in [(1, Free::Unlisted), (2, Free::Listed)] {
        let whole = snapshot(4096, free, &etcd(keys()));
        let tally = try_damages(&whole, times, seed, &look);
        let Tally {
            by_trailer,
            by_inspection,
            told,
            by_hash,
            not_covered,
            harmless,
        } = tally;
        println!("{tally:?}");
        let all = [by_inspection, told, by_hash, not_covered, harmless];
        assert_eq!(all.iter().sum::<u64>(), by_trailer);
        // Each kind occurs, so that each is tried; other buckets are a few bytes.
        assert!(by_trailer > times * 9 / 10);
        assert!(by_inspection > times / 4 && by_hash > 0 && harmless > 0);
    }
}

#[test]
fn no_damage_is_taken_for_a_sound_file() {
    try_all(1500);
}

#[test]
#[ignore = "100,000 damages take minutes"]
fn none_of_100_000_damages_is_taken_for_a_sound_file() {
    try_all(50_000);
}
