//! Damages a sound database anywhere, with checksums that are right: it is refused,
//! or every key and value is what it was, or its hash is another.

#![no_main]

use std::sync::OnceLock;

use kube_migrate_fuzz::words::Words;
use kube_migrate_fuzz::{Entries, file, stamp};
use libfuzzer_sys::fuzz_target;
use migrate_etcd::Database;

/// Sound files of each kind, and what is seen of them.
static SOUND: OnceLock<Vec<(Vec<u8>, Seen)>> = OnceLock::new();

#[derive(Debug, Eq, PartialEq)]
struct Seen {
    hash: u32,
    keys: Entries,
}

fn buckets() -> Vec<(&'static str, Entries)> {
    let revision = |main: i64| [&main.to_be_bytes()[..], b"_", &0i64.to_be_bytes()].concat();
    let put = |main: i64| {
        let key = format!("/registry/pods/default/web-{main:03}");
        let value = vec![b'v'; usize::try_from(main * 7).unwrap_or_default()];
        let mut record = vec![0x0A, key.len() as u8];
        record.extend(key.bytes());
        record.extend([0x10, main as u8, 0x18, main as u8, 0x20, 1, 0x2A]);
        // Two bytes, whatever its length.
        record.extend([value.len() as u8 | 0x80, (value.len() >> 7) as u8]);
        record.extend(value);
        (revision(main), record)
    };
    let empty = [
        "alarm",
        "auth",
        "authRoles",
        "authUsers",
        "lease",
        "members",
    ];
    let mut all: Vec<_> = empty.iter().map(|name| (*name, Entries::new())).collect();
    all.push(("key", (2..90).map(put).collect()));
    all.push((
        "meta",
        vec![(b"storageVersion".to_vec(), b"3.6.0".to_vec())],
    ));
    all
}

fn look(bytes: Vec<u8>) -> Option<Seen> {
    let database = Database::from_bytes(bytes).ok()?;
    database.inspect().ok()?;
    let mut keys = Entries::new();
    let each = database.check(&mut |bucket, entry| {
        if bucket.name() == b"key" {
            keys.push((entry.key.to_vec(), entry.value.to_vec()));
        }
        Ok(())
    });
    each.ok()?;
    let hash = database.hash_kv(89, -1).ok()?;
    Some(Seen { hash, keys })
}

fuzz_target!(|input: &[u8]| {
    let sound = SOUND.get_or_init(|| {
        let buckets = buckets();
        let each = (0..12).map(|kind| {
            let bytes = file(kind, &buckets);
            let seen = look(stamp(bytes.clone(), kind));
            (bytes, seen.expect("a sound file is accepted"))
        });
        each.collect()
    });
    let mut words = Words(input);
    let kind = words.byte() % 12;
    let (whole, sound) = &sound[usize::from(kind)];
    let mut damaged = whole.clone();
    while !words.is_empty() {
        let at = words.number() % damaged.len();
        let what = words.byte();
        let bytes = words.bytes(usize::from(what % 9));
        let end = damaged.len().min(at + bytes.len());
        if what >= 0xF0 {
            damaged.truncate(at.max(512) / 512 * 512);
        } else if what >= 0x80 {
            let from = words.number() % damaged.len();
            let run = 64.min(damaged.len() - from.max(at));
            damaged.copy_within(from..from + run, at);
        } else {
            damaged[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }
    if let Some(seen) = look(stamp(damaged, kind)) {
        assert!(
            seen.hash != sound.hash || seen.keys == sound.keys,
            "other entries have the same hash"
        );
    }
});
