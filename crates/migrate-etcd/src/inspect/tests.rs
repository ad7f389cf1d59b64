use super::kv::Revision;
use super::kv::samples::{bytes, put, put_bytes, tombstone};
use super::*;
use crate::bolt::build::{Entries, Free, snapshot, stamped};
use crate::protobuf::Message;

fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

fn keys() -> Entries {
    vec![
        put(2, 0, "/registry/pods/a/p1", "one", 2, 1),
        put(3, 0, "/registry/pods/a/p1", "longer", 2, 2),
        put(4, 0, "/registry/pods/a/p2", "two", 4, 1),
        put_bytes(
            5,
            0,
            "/registry/secrets/a/s1",
            b"k8s:enc:aescbc:v1:key1:\xff\x00",
            5,
            1,
        ),
        put_bytes(
            5,
            1,
            "/registry/secrets/a/s2",
            b"k8s:enc:kms:v2:vault:\xff",
            5,
            1,
        ),
        tombstone(6, 0, "/registry/pods/a/p2"),
        put(7, 0, "/registry/pods/a/p2", "again", 7, 1),
        tombstone(8, 0, "/registry/pods/a/p2"),
        put(9, 0, "compact_rev_key", "4", 9, 1),
    ]
}

/// `AlarmMember` of member 255: NOSPACE.
fn alarm() -> Vec<u8> {
    Message::default().number(1, 255).number(2, 1).finish()
}

/// `authpb.User` with a hash, a role and options.
fn user(name: &[u8]) -> Vec<u8> {
    let message = Message::default().bytes(1, name).bytes(2, b"$2a$10$hash");
    message.bytes(3, b"root").bytes(4, &[]).finish()
}

/// `authpb.Role` that may read and write all.
fn role(name: &[u8]) -> Vec<u8> {
    let all = Message::default()
        .number(1, 2)
        .bytes(2, &[0])
        .bytes(3, &[0]);
    Message::default()
        .bytes(1, name)
        .bytes(2, &all.finish())
        .finish()
}

/// All buckets of a store with `keys`.
pub(super) fn etcd(keys: Entries) -> Vec<(&'static str, Entries)> {
    let member =
        br#"{"id":255,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]}"#;
    let lease = [&[0x08, 0x07][..], &[0x10, 0x3C]].concat();
    vec![
        ("alarm", vec![pair(&alarm(), b"")]),
        (
            "auth",
            vec![
                pair(b"authEnabled", &[1]),
                pair(b"authRevision", &9u64.to_be_bytes()),
            ],
        ),
        ("authRoles", vec![pair(b"root", &role(b"root"))]),
        (
            "authUsers",
            vec![pair(b"root", &user(b"root")), pair(b"u", &user(b"u"))],
        ),
        ("cluster", vec![pair(b"clusterVersion", b"3.6.0")]),
        ("key", keys),
        ("lease", vec![pair(&7u64.to_be_bytes(), &lease)]),
        ("members", vec![pair(b"ff", member)]),
        ("members_removed", vec![pair(b"fe", b"removed")]),
        (
            "meta",
            vec![
                pair(b"confState", br#"{"voters":[255],"auto_leave":false}"#),
                pair(b"consistent_index", &42u64.to_be_bytes()),
                pair(b"finishedCompactRev", &Revision::key(1, 0)),
                pair(b"scheduledCompactRev", &Revision::key(1, 0)),
                pair(b"storageVersion", b"3.6.0"),
                pair(b"term", &3u64.to_be_bytes()),
            ],
        ),
    ]
}

fn inspected(buckets: &[(&str, Entries)]) -> Result<Inspection, ReadError> {
    Database::from_bytes(snapshot(4096, Free::Unlisted, buckets))?.inspect()
}

#[test]
fn all_of_it_is_told() {
    let found = inspected(&etcd(keys())).unwrap();
    assert_eq!(found.revision, 9);
    assert_eq!(found.compact_revision(), 1);
    let keys = found.keys;
    assert_eq!((keys.alive, keys.revisions, keys.tombstones), (4, 9, 2));
    assert_eq!(found.consistent_index, Some(42));
    assert_eq!(found.term, Some(3));
    assert_eq!(found.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!(found.cluster_version.as_deref(), Some("3.6.0"));
    assert_eq!(
        (found.leases, found.alarms, found.removed_members),
        (1, 1, 1)
    );
    assert_eq!(found.members[0].id, "ff");
    assert_eq!(found.members[0].peer_urls, ["http://a:2380"]);
    let auth = found.auth;
    assert!(auth.enabled);
    assert_eq!((auth.revision, auth.users, auth.roles), (9, 2, 1));
    let of = |used: &ResourceUse| (used.resource.clone(), used.objects, used.bytes);
    let resources: Vec<_> = found.kubernetes.resources.iter().map(of).collect();
    assert_eq!(resources[0], ("pods".to_owned(), 1, 19 + 6));
    assert_eq!((resources[1].0.as_str(), resources[1].1), ("secrets", 2));
    assert_eq!(resources.len(), 2);
    let of = |used: &Encrypted| format!("{} {} {}", used.provider, used.key, used.objects);
    let encrypted: Vec<_> = found.kubernetes.encrypted.iter().map(of).collect();
    assert_eq!(encrypted, ["aescbc key1 1", "kms vault 1"]);
    assert_eq!(found.folders[0].folder, "/registry/secrets/");
    assert!(found.trailer.is_some());
}

#[test]
fn no_name_or_value_is_told() {
    let keys = vec![
        put(
            2,
            0,
            "/registry/secrets/marker-ns/marker-name",
            "marker-value",
            2,
            1,
        ),
        put(3, 0, "marker-key", "marker-value", 3, 1),
    ];
    let found = inspected(&etcd(keys)).unwrap();
    let text = format!("{found:?} {}", serde_json::to_string(&found).unwrap());
    assert!(
        text.contains("secrets") && !text.contains("marker"),
        "{text}"
    );
    let wrong = vec![put(2, 0, "marker", "marker", 3, 1)];
    let error = inspected(&etcd(wrong)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("marker"));
}

#[test]
fn the_revision_is_that_of_the_compaction_where_nothing_is_left() {
    let mut buckets = etcd(Entries::new());
    let meta = &mut buckets.last_mut().unwrap().1;
    meta[2].1 = Revision::key(20, 0);
    meta[3].1 = Revision::key(30, 0);
    let found = inspected(&buckets).unwrap();
    assert_eq!((found.revision, found.compact_revision()), (30, 30));
    let empty = [("key", Entries::new()), ("meta", Entries::new())];
    assert_eq!(inspected(&empty).unwrap().revision, 1);
}

/// Without them an etcd would begin with an empty store, or with another one's state.
#[test]
fn a_file_without_the_buckets_of_a_store_is_none_and_unknown_buckets_are_told() {
    for (bucket, missing) in [("key", "bucket `key`"), ("meta", "bucket `meta`")] {
        for name in [None, Some("kez"), Some("Meta")] {
            let mut buckets = etcd(keys());
            let at = buckets.iter().position(|(it, _)| *it == bucket).unwrap();
            let (_, entries) = buckets.remove(at);
            buckets.extend(name.map(|name| (name, entries)));
            let error = inspected(&buckets).unwrap_err();
            assert!(
                matches!(&error, ReadError::Entries { what, .. } if what.contains(missing)),
                "{error}"
            );
        }
    }
    let mut buckets = etcd(keys());
    assert!(inspected(&buckets).unwrap().unknown_buckets.is_empty());
    let long = "n".repeat(50);
    let names: Vec<_> = (0..20).map(|i| format!("{long}{i}")).collect();
    buckets.push(("leasf", Entries::new()));
    buckets.push(("le\nase", Entries::new()));
    buckets.extend(names.iter().map(|name| (name.as_str(), Entries::new())));
    let told = inspected(&buckets).unwrap().unknown_buckets;
    assert_eq!(told.len(), 10);
    assert_eq!(told[..3], ["le\\nase", "leasf", &long[..40]]);
}

#[test]
fn a_raised_revision_is_no_key() {
    let mut entries = keys();
    entries.push((Revision::key(1_000_000_009, 0), Vec::new()));
    let found = inspected(&etcd(entries)).unwrap();
    assert_eq!((found.revision, found.keys.alive), (1_000_000_009, 4));
}

#[test]
fn wrong_entries_are_refused_with_their_place() {
    let long = |key: &[u8]| (Revision::key(10, 0), bytes(1, key));
    let mut negative = Revision::key(10, 0);
    negative[9] = 0xFF;
    for (bad, expected) in [
        ((b"short".to_vec(), Vec::new()), "a key is no revision"),
        ((negative, Vec::new()), "a key is no revision"),
        (long(b"no revisions"), "names another revision"),
        (put(10, 0, "", "x", 10, 1), "has no key"),
        (put(10, 0, "k", "x", 11, 1), "contradict"),
        (put(10, 0, "k", "x", 10, 0), "contradict"),
        ((Revision::key(10, 0), vec![0x0A, 0x7F]), "is no protobuf"),
        ((Revision::key(10, 0), vec![0x08, 1]), "of another kind"),
        (
            (tombstone(10, 0, "k").0, put(10, 0, "k", "x", 10, 1).1),
            "more than a key",
        ),
    ] {
        let mut entries = keys();
        entries.push(bad);
        entries.sort();
        let error = inspected(&etcd(entries)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected) || text.contains("negative"),
            "{text}"
        );
        let ReadError::Damaged { page, offset, .. } = error else {
            panic!("{text}");
        };
        assert!(offset / 4096 == page && page >= 2, "{text}");
    }
}

#[test]
fn records_of_etcd_itself_are_checked() {
    let cases: [(&str, &[u8], &[u8]); 10] = [
        ("cluster", b"downgrade", b"{"),
        ("members", b"fe", br#"{"id":255}"#),
        ("members", b"ff", b"{"),
        ("lease", &[0; 8], &[0x08, 0x07]),
        ("lease", b"short", &[0x08, 0x07]),
        ("meta", b"consistent_index", b"short"),
        ("meta", b"storageVersion", b"3.6\n"),
        ("meta", b"scheduledCompactRev", b"x"),
        ("meta", b"confState", b"{"),
        ("auth", b"authEnabled", &[2]),
    ];
    for (bucket, key, value) in cases {
        let mut buckets = etcd(keys());
        for (name, entries) in &mut buckets {
            if *name == bucket {
                *entries = vec![pair(key, value)];
            }
        }
        let result = inspected(&buckets);
        assert!(
            matches!(result, Err(ReadError::Damaged { .. })),
            "{bucket} {value:?}"
        );
    }
}

/// Each byte of them counts, and none of them is in an error.
#[test]
fn users_roles_and_alarms_are_decoded_and_what_is_none_is_told_with_its_place() {
    let with = |field: u32, value: &[u8]| Message::default().bytes(field, value).finish();
    let user_with = |more: Vec<u8>| [with(1, b"u"), more].concat();
    let role_with = |more: Vec<u8>| [with(1, b"r"), more].concat();
    let permission = |kind: u64| Message::default().number(1, kind).finish();
    let alarm_of = |kind: u64| Message::default().number(1, 255).number(2, kind).finish();
    let cases: [(&str, &[u8], Vec<u8>, &str); 20] = [
        ("authUsers", b"u", vec![0x0A, 0x7F], "a user is no protobuf"),
        ("authUsers", b"u", user(b"v"), "of another name"),
        ("authUsers", b"u", Vec::new(), "of another name"),
        ("authUsers", b"u", user_with(vec![8, 1]), "of another kind"),
        (
            "authUsers",
            b"u",
            user_with(vec![0x10, 1]),
            "of another kind",
        ),
        ("authUsers", b"u", user_with(with(3, b"\xFF")), "no text"),
        ("authUsers", b"u", user_with(with(4, &[8, 2])), "an option"),
        (
            "authUsers",
            b"u",
            user_with(with(4, &[8])),
            "options of a user",
        ),
        ("authRoles", b"r", vec![0x0A, 0x7F], "a role is no protobuf"),
        ("authRoles", b"r", role(b"s"), "of another name"),
        ("authRoles", b"r", role_with(vec![8, 1]), "of another kind"),
        (
            "authRoles",
            b"r",
            role_with(with(2, &[8])),
            "a permission is no",
        ),
        (
            "authRoles",
            b"r",
            role_with(with(2, &permission(3))),
            "none that",
        ),
        (
            "authRoles",
            b"r",
            role_with(with(2, &[0x10, 1])),
            "none that",
        ),
        ("alarm", &alarm_of(0), Vec::new(), "none that"),
        ("alarm", &alarm_of(3), Vec::new(), "none that"),
        ("alarm", &alarm(), b"x".to_vec(), "none that"),
        ("alarm", b"x", Vec::new(), "an alarm is no protobuf"),
        ("members_removed", b"xyz", b"removed".to_vec(), "has no id"),
        ("members_removed", b"fe", b"remove".to_vec(), "more is said"),
    ];
    for (bucket, key, value, expected) in cases {
        let mut buckets = etcd(keys());
        for (name, entries) in &mut buckets {
            if *name == bucket {
                *entries = vec![pair(key, &value)];
            }
        }
        let error = inspected(&buckets).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(bucket), "{text}");
        let ReadError::Damaged { page, offset, .. } = error else {
            panic!("{text}");
        };
        assert!(offset / 4096 == page && page >= 2, "{text}");
    }
    // Names and hashes are in no report either.
    let found = inspected(&etcd(keys())).unwrap();
    assert!(!format!("{found:?}").contains("$2a$"));
}

/// Whatever they are given, inspections keep little.
#[test]
fn what_is_longer_than_it_can_be_is_refused() {
    let member = |record: &str| {
        let mut buckets = etcd(keys());
        for (name, entries) in &mut buckets {
            if *name == "members" {
                *entries = vec![pair(b"ff", record.as_bytes())];
            }
        }
        inspected(&buckets).map_err(|error| error.to_string())
    };
    let long = format!(r#"{{"id":255,"name":"{}"}}"#, "n".repeat(64 << 10));
    let error = member(&long).unwrap_err();
    assert!(error.contains("longer than any"), "{error}");
    let urls = |count| vec![r#""""#; count].join(",");
    for of in ["peerURLs", "clientURLs"] {
        let with = |count| member(&format!(r#"{{"id":255,"{of}":[{}]}}"#, urls(count)));
        assert!(with(32).is_ok());
        let error = with(33).unwrap_err();
        assert!(error.contains("more URLs than any"), "{error}");
    }
    let mut buckets = etcd(keys());
    let key = vec![b'k'; 32_769];
    buckets.push(("new", vec![pair(&key[1..], b"")]));
    inspected(&buckets).unwrap();
    buckets.push(("newer", vec![pair(&key, b"")]));
    let error = inspected(&buckets).unwrap_err().to_string();
    assert!(error.contains("longer key"), "{error}");
}

#[test]
fn a_wrong_trailer_is_refused_and_one_that_is_stamped_anew_is_not_enough() {
    let whole = snapshot(4096, Free::Unlisted, &etcd(keys()));
    let at = whole
        .windows(6)
        .position(|bytes| bytes == b"longer")
        .unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    let inspect = |bytes| Database::from_bytes(bytes).and_then(|database| database.inspect());
    assert!(matches!(
        inspect(damaged.clone()),
        Err(ReadError::Checksum { .. })
    ));
    // A flipped byte of a value is sound as far as a file alone can tell: that is
    // what the comparison with live members is for.
    let damaged = Database::from_bytes(stamped(damaged)).unwrap();
    damaged.inspect().unwrap();
    let whole = Database::from_bytes(whole).unwrap();
    assert_ne!(
        damaged.hash_kv(9, -1).unwrap(),
        whole.hash_kv(9, -1).unwrap()
    );
}
