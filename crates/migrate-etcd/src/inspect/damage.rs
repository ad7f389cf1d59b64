//! Damage at random places of a file that has all of a real one.

#[path = "../../tests/damage/mod.rs"]
mod try_out;

use tokio::time::Instant;
use try_out::Damages;

use super::Inspection;
use super::kv::samples::{put, tombstone};
use super::tests::etcd;
use crate::bolt::build::{Entries, Free, snapshot};
use crate::{Database, Error, EtcdVersion, Membership, Restore};

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

/// Of so many files one is restored: that takes longer than to look at it.
const RESTORED: u64 = 20;

fn damages(free: Free) -> Damages {
    Damages::of(snapshot(4096, free, &etcd(keys())), RESTORED)
}

fn at_random(times: u64) {
    for (seed, free) in [(1, Free::Unlisted), (2, Free::Listed)] {
        let begun = Instant::now();
        let tally = damages(free).at_random(times, seed);
        let restored = tally.restored;
        println!("{free:?}, {:?}, {restored:?}\n{tally}", begun.elapsed());
        assert!(
            restored.refused > 0 && restored.restored > 0,
            "{restored:?}"
        );
        let all = tally.all();
        // Each kind occurs, so that each is tried; other buckets are a few bytes.
        assert!(all.by_trailer > times * 9 / 10);
        assert!(all.by_inspection > times / 4 && all.by_hash > 0 && all.harmless > 0);
    }
}

fn in_every_field(step: usize) {
    for free in [Free::Unlisted, Free::Listed, Free::CountFirst] {
        let begun = Instant::now();
        let tally = damages(free).in_every_field(step);
        let restored = tally.restored;
        println!("{free:?}, {:?}, {restored:?}\n{tally}", begun.elapsed());
        assert!(restored.refused > 0, "{restored:?}");
        // A sequence of a bucket, the id of an inline page, and which of two meta
        // pages is the newer are the only ones that say nothing of the entries.
        let all = tally.all();
        assert!(all.by_inspection > all.by_trailer * 9 / 10, "{tally}");
        // A value that ends elsewhere may be one that could be: the hash tells.
        assert!(all.by_hash < all.by_trailer / 100, "{tally}");
        assert_eq!(all.not_covered, 0, "{tally}");
    }
}

#[test]
fn no_damage_is_taken_for_a_sound_file() {
    at_random(1500);
    in_every_field(11);
}

#[test]
#[ignore = "100,000 damages take minutes"]
fn none_of_100_000_damages_is_taken_for_a_sound_file() {
    at_random(50_000);
    in_every_field(1);
}
