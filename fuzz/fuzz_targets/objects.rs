//! Values of whatever bytes, as objects of the kinds that are read.

#![no_main]

use kube_migrate_fuzz::words::Words;
use kube_migrate_fuzz::{Entries, file, stamp};
use libfuzzer_sys::fuzz_target;
use migrate_etcd::{Content, Database};

const KINDS: [(&str, &str); 6] = [
    ("v1", "Pod"),
    ("v1", "Node"),
    ("apps/v1", "ControllerRevision"),
    ("policy/v1", "PodDisruptionBudget"),
    ("coordination.k8s.io/v1", "Lease"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7F {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [&field, bytes].concat()
}

fuzz_target!(|input: &[u8]| {
    let mut words = Words(input);
    let kind = usize::from(words.byte());
    let value = match KINDS.get(kind % (KINDS.len() + 1)) {
        Some((version, kind)) => {
            let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
            [b"k8s\0", &field(1, &meta)[..], &field(2, words.0)].concat()
        }
        None => words.0.to_vec(),
    };
    let record = [
        field(1, b"/registry/some/a/b"),
        vec![0x10, 2, 0x18, 2, 0x20, 1],
        field(5, &value),
    ];
    let revision = [&2i64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let keys: Entries = vec![(revision, record.concat())];
    let buckets = [("key", keys), ("meta", Vec::new())];
    let Ok(database) = Database::from_bytes(stamp(file(2, &buckets), 2)) else {
        panic!("a sound file is no database");
    };
    let told = database.objects(|object| {
        if let Content::Object { object, .. } = object.content {
            let text = serde_json::to_string(&object).unwrap_or_default();
            assert!(!text.is_empty());
        }
    });
    assert!(told.is_ok(), "a sound file is refused");
});
