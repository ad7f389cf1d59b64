use crate::Database;
use crate::bolt::build::{Entries, Free, snapshot};
use crate::inspect::kv::samples::{put, tombstone};

fn hash(entries: &[(Vec<u8>, Vec<u8>)]) -> u32 {
    let start = crc32c::crc32c(b"key");
    entries.iter().fold(start, |hash, (key, value)| {
        crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value)
    })
}

fn of(entries: &Entries, revision: i64, compacted: i64) -> u32 {
    let bytes = snapshot(4096, Free::Unlisted, &[("key", entries.clone())]);
    let database = Database::from_bytes(bytes).unwrap();
    database.hash_kv(revision, compacted).unwrap()
}

fn history() -> Entries {
    vec![
        put(2, 0, "a", "1", 2, 1),
        put(3, 0, "b", "1", 3, 1),
        put(4, 0, "a", "2", 2, 2),
        tombstone(5, 0, "b"),
        put(6, 0, "c", "1", 6, 1),
        put(7, 0, "a", "3", 2, 3),
    ]
}

#[test]
fn all_up_to_the_revision_counts_without_a_compaction() {
    let all = history();
    assert_eq!(of(&all, 7, -1), hash(&all));
    assert_eq!(of(&all, 5, -1), hash(&all[..4]));
}

#[test]
fn what_a_compaction_takes_does_not_count_whether_it_is_gone_or_not() {
    let all = history();
    let kept = [all[2].clone(), all[4].clone()];
    assert_eq!(of(&all, 6, 4), hash(&[&all[2..3], &all[3..5]].concat()));
    // At the compacted revision itself a tombstone may be there or not.
    assert_eq!(of(&all, 6, 5), hash(&kept));
    let gone: Entries = [&all[2..3], &all[4..]].concat();
    assert_eq!(of(&gone, 6, 5), hash(&kept));
    // Of what is overwritten between both revisions only the last one counts.
    assert_eq!(of(&all, 7, 4), hash(&all[3..]));
}

#[test]
fn where_nothing_is_kept_etcd_leaves_nothing_out() {
    let all = vec![put(2, 0, "a", "1", 2, 1), tombstone(3, 0, "a")];
    assert_eq!(of(&all, 3, 3), hash(&all[..1]));
}
