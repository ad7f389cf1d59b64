//! Buckets of whatever keys and values in a sound file: revisions, records, leases,
//! members, users and roles.

#![no_main]

use kube_migrate_fuzz::words::Words;
use kube_migrate_fuzz::{Entries, file, stamp};
use libfuzzer_sys::fuzz_target;
use migrate_etcd::Database;

const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

fuzz_target!(|input: &[u8]| {
    let mut words = Words(input);
    let kind = words.byte();
    let mut buckets = BUCKETS.map(|name| (name, Entries::new()));
    while !words.is_empty() {
        let to = words.byte();
        // The last bit: a revision that is one, before what else there is.
        let mut key = match to & 1 {
            0 => Vec::new(),
            _ => {
                let main = (words.number() as i64).to_be_bytes();
                [&main[..], b"_", &[0; 7], &[words.byte()]].concat()
            }
        };
        key.extend(words.some());
        let value = words.some();
        buckets[usize::from(to >> 1) % BUCKETS.len()]
            .1
            .push((key, value));
    }
    for (_, entries) in &mut buckets {
        // What is not in order is refused before it is read.
        entries.sort();
        entries.dedup_by(|one, other| one.0 == other.0);
        entries.retain(|(key, _)| !key.is_empty());
    }
    let Ok(database) = Database::from_bytes(stamp(file(kind, &buckets), kind)) else {
        panic!("a sound file is no database");
    };
    let told = database.inspect();
    if let Ok(told) = told {
        let _ = database.hash_kv(told.revision, told.compact_revision());
        let _ = serde_json::to_string(&told);
    }
});
