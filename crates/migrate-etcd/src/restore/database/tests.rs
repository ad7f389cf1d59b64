//! What a restore takes over, what it refuses, and what it does not look at.

use sha2::{Digest, Sha256};

use super::*;
use crate::bolt::build::{Entries, Free, snapshot, stamped};
use crate::inspect::kv::samples::{put, tombstone};
use crate::protobuf::Message;
use crate::{Membership, Restore, Restored};

#[test]
fn what_is_damaged_is_told_with_its_page_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sound = || put(9, 0, "a", "1", 9, 1);
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    let key = |main| Revision::key(main, 0);
    let meta = |entry| ("meta", vec![entry]);
    let keys = |entries: Entries| ("key", entries);
    let cases = [
        (
            keys(vec![pair(&key(2), &[0x0A, 0x7F]), sound()]),
            key(2),
            "a value is no protobuf",
        ),
        (
            keys(vec![pair(&key(2), &put(3, 0, "a", "1", 3, 1).1), sound()]),
            key(2),
            "a value names another revision than its own",
        ),
        (
            keys(vec![pair(b"\0", b""), sound()]),
            b"\0".to_vec(),
            "a key is no revision",
        ),
        (
            keys(vec![pair(b"last", b"")]),
            b"last".to_vec(),
            "a key is no revision",
        ),
        (
            meta(pair(b"storageVersion", b"x")),
            b"storageVersion".to_vec(),
            "a version is none",
        ),
        (
            meta(pair(b"finishedCompactRev", b"x")),
            b"finishedCompactRev".to_vec(),
            "the last compaction is none",
        ),
        (
            ("authUsers", vec![pair(b"alice", &[0xFF])]),
            b"alice".to_vec(),
            "a user is no protobuf",
        ),
    ];
    for ((bucket, entries), wanted, expected) in cases {
        let mut buckets = vec![(bucket, entries)];
        match bucket {
            "meta" => buckets.push(("key", vec![sound()])),
            "key" => buckets.push(("meta", Vec::new())),
            _ => buckets.extend([("key", vec![sound()]), ("meta", Vec::new())]),
        }
        let whole = snapshot(4096, Free::Unlisted, &buckets);
        std::fs::write(at("a.db"), &whole).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let target = EtcdVersion::new(3, 6);
        let restore = Restore::new(at("a.db"), at("data"), members, "a", target);
        let error = restore.run().unwrap_err();
        let Error::Damaged(ReadError::Damaged {
            page,
            offset,
            fault: Fault::Entry { bucket: of, what },
            ..
        }) = &error
        else {
            panic!("{error}");
        };
        assert_eq!((of.as_str(), *what), (bucket, expected));
        let there = usize::try_from(*offset).unwrap();
        assert!(whole[there..].starts_with(&wanted), "{error}");
        assert_eq!(*page, offset / 4096);
        assert!(!at("data").exists());
    }
}

/// Users are taken over as they are, and nothing else tells of damage to them.
#[test]
fn a_copy_that_no_hash_speaks_for_has_to_be_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let user = |value: &[u8]| ("authUsers", vec![(b"a".to_vec(), value.to_vec())]);
    let keys = ("key", vec![put(9, 0, "a", "1", 9, 1)]);
    let restored = |value: &[u8], data: &str| {
        let buckets = [user(value), keys.clone(), ("meta", Vec::new())];
        let mut copy = snapshot(4096, Free::Unlisted, &buckets);
        copy.truncate(copy.len() - 32);
        std::fs::write(at("a.db"), &copy).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let target = EtcdVersion::new(3, 6);
        let restore = Restore::new(at("a.db"), at(data), members, "a", target);
        restore.from_copy().run()
    };
    let error = restored(&[0xff], "damaged").unwrap_err();
    assert!(
        error.to_string().contains("a user is no protobuf"),
        "{error}"
    );
    assert!(!at("damaged").exists());
    restored(&[0x0a, 1, b'a'], "sound").unwrap();
}

/// Buckets of a store, and one that a restore takes over or writes anew.
fn with(bucket: &'static str, entries: Entries) -> Vec<(&'static str, Entries)> {
    let mut buckets = vec![
        ("key", vec![put(9, 0, "a", "1", 9, 1)]),
        ("meta", Vec::new()),
    ];
    match buckets.iter_mut().find(|(name, _)| *name == bucket) {
        Some((_, there)) => there.extend(entries),
        None => buckets.push((bucket, entries)),
    }
    buckets
}

/// A restore of these buckets, which `change` is asked about.
fn restored(
    buckets: &[(&str, Entries)],
    change: impl FnOnce(Restore) -> Restore,
) -> Result<(Restored, Inspection), Error> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.db"), snapshot(4096, Free::Unlisted, buckets)).unwrap();
    let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
    let restore = Restore::new(at("a.db"), at("data"), members, "a", EtcdVersion::new(3, 6));
    let restored = change(restore).run()?;
    let found = crate::inspect(&at("data").join("member/snap/db")).unwrap();
    Ok((restored, found))
}

/// An inspection of the file refuses each of these.
#[test]
fn what_is_written_anew_is_not_looked_at() {
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    let cases = [
        ("members", pair(b"a", b"{")),
        ("members", pair(b"b", br#"{"id":1}"#)),
        ("members_removed", pair(b"x", b"removed")),
        ("meta", pair(b"confState", b"{")),
        ("meta", pair(b"consistent_index", b"1")),
        ("meta", pair(b"term", b"")),
    ];
    for (bucket, entry) in cases {
        let buckets = with(bucket, vec![entry]);
        let file = Database::from_bytes(snapshot(4096, Free::Unlisted, &buckets)).unwrap();
        file.inspect().unwrap_err();
        let (restored, found) = restored(&buckets, |restore| restore).unwrap();
        assert_eq!((restored.snapshot_revision, restored.left_out), (9, 0));
        assert_eq!((found.members.len(), found.removed_members), (1, 0));
    }
}

/// As a newer etcd writes them, and every etcd passes over what it does not know.
#[test]
fn fields_that_are_not_known_are_taken_over() {
    let more = |(key, mut value): (Vec<u8>, Vec<u8>)| {
        value.extend(Message::default().number(17, 1).finish());
        (key, value)
    };
    let named = Message::default().bytes(1, b"a").finish();
    let lease = Message::default().number(1, 7).number(2, 60).finish();
    let cases = [
        ("key", more(put(10, 0, "b", "1", 10, 1))),
        ("key", more(tombstone(10, 0, "a"))),
        ("authUsers", more((b"a".to_vec(), named.clone()))),
        ("authRoles", more((b"a".to_vec(), named))),
        ("lease", more((7u64.to_be_bytes().to_vec(), lease))),
        (
            "alarm",
            (
                Message::default().number(2, 1).number(17, 1).finish(),
                Vec::new(),
            ),
        ),
    ];
    for (bucket, entry) in cases {
        let buckets = with(bucket, vec![entry]);
        let file = Database::from_bytes(snapshot(4096, Free::Unlisted, &buckets)).unwrap();
        let told = file.inspect().unwrap();
        assert_eq!(told.unknown_fields, 1, "{bucket}");
        let (_, found) = restored(&buckets, |restore| restore).unwrap();
        assert_eq!(found.unknown_fields, 1, "{bucket}");
        let of = |told: Inspection| (told.keys.alive, told.auth, told.leases, told.alarms);
        assert_eq!(of(found), of(told), "{bucket}");
    }
}

#[test]
fn what_is_left_of_a_damaged_file_is_taken_where_that_is_asked_for() {
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    let cases = [
        ("key", pair(&Revision::key(10, 0), &[0x0A, 0x7F])),
        ("key", pair(b"last", b"")),
        ("authUsers", pair(b"alice", &[0xFF])),
        ("lease", pair(b"", b"")),
        ("cluster", pair(b"clusterVersion", b"x")),
        ("meta", pair(b"finishedCompactRev", b"x")),
        ("alarm", pair(b"", b"")),
    ];
    for (bucket, entry) in cases {
        let mut buckets = with(bucket, vec![entry]);
        restored(&buckets, |restore| restore).unwrap_err();
        let (restored, found) = restored(&buckets, Restore::salvaging).unwrap();
        assert_eq!(
            (restored.left_out, restored.snapshot_revision),
            (1, 9),
            "{bucket}"
        );
        assert_eq!(found.keys.alive, 1, "{bucket}");
        // A page that is damaged is no entry.
        buckets.push(("scrap", vec![pair(b"b", b""), pair(b"a", b"")]));
        let error = self::restored(&buckets, Restore::salvaging).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
    }
}

/// Of a disk that has changed a byte there is still all the rest.
#[test]
fn a_file_whose_hash_is_wrong_is_salvaged_if_it_is_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut bytes = snapshot(4096, Free::Unlisted, &with("scrap", Vec::new()));
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(at("a.db"), &bytes).unwrap();
    let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
    let target = EtcdVersion::new(3, 6);
    let restore = |data: &str| Restore::new(at("a.db"), at(data), members.clone(), "a", target);
    for restore in [restore("refused"), restore("refused").from_copy()] {
        let error = restore.run().unwrap_err();
        assert!(
            matches!(error, Error::Damaged(ReadError::Checksum { .. })),
            "{error}"
        );
    }
    let other = restore("other")
        .salvaging()
        .with_sha256("0".repeat(64))
        .run();
    assert!(matches!(other, Err(Error::Changed { .. })), "{other:?}");
    let hash = migrate_core::hex(Sha256::digest(&bytes));
    let restored = restore("data")
        .salvaging()
        .with_sha256(&hash)
        .run()
        .unwrap();
    assert_eq!(
        (restored.sha256, restored.wrong_hash, restored.left_out),
        (hash, true, 0)
    );
    assert!(!at("refused").exists() && !at("other").exists());
    let sound = snapshot(4096, Free::Unlisted, &with("scrap", Vec::new()));
    std::fs::write(at("a.db"), sound).unwrap();
    assert!(!restore("sound").salvaging().run().unwrap().wrong_hash);
}

/// By name alone: a member that the snapshot knows otherwise is nobody's concern.
#[test]
fn a_member_that_is_a_learner_in_the_snapshot_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let record = |id: u64, name: &str, learner: &str| {
        let json = format!(r#"{{"id":{id},"peerURLs":["http://o:1"],"name":"{name}"{learner}}}"#);
        (format!("{id:x}").into_bytes(), json.into_bytes())
    };
    let members = vec![
        record(10, "a", ""),
        record(11, "b", r#","isLearner":true"#),
        record(12, "", r#","isLearner":true"#),
    ];
    let keys = ("key", vec![put(9, 0, "a", "1", 9, 1)]);
    let buckets = [keys, ("members", members), ("meta", Vec::new())];
    std::fs::write(at("a.db"), snapshot(4096, Free::Unlisted, &buckets)).unwrap();
    let restored = |initial: &str, data: &str| {
        let members = Membership::parse(initial, "t").unwrap();
        let target = EtcdVersion::new(3, 6);
        Restore::new(at("a.db"), at(data), members, "a", target).run()
    };
    let two = "a=http://127.0.0.1:2380,b=http://127.0.0.1:2480";
    let error = restored(two, "refused").unwrap_err();
    assert!(
        matches!(&error, Error::Learner { member } if member == "b"),
        "{error}"
    );
    assert!(!at("refused").exists());
    restored(&two.replace("b=", "c="), "other").unwrap();
    restored("a=http://127.0.0.1:2380", "one").unwrap();
}

/// As two buckets of one page would be after a power failure: an inspection finds it, and
/// the SHA-256 that a member sends is right.
#[test]
fn a_page_that_two_buckets_share_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let many = || {
        let pair = |at: u8| (vec![at; 8], vec![at; 64]);
        (0..20).map(pair).collect::<Entries>()
    };
    let removed = (16..56).map(|id| (format!("{id:x}").into(), b"removed".to_vec()));
    let buckets = [
        ("key", vec![put(9, 0, "a", "1", 9, 1)]),
        ("members_removed", removed.collect()),
        ("meta", Vec::new()),
        ("twin-a", many()),
        ("twin-b", many()),
    ];
    let restored = |whole: &[u8]| {
        std::fs::write(at("a.db"), whole).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let target = EtcdVersion::new(3, 6);
        Restore::new(at("a.db"), at("data"), members, "a", target).run()
    };
    let fault = |whole: &[u8]| match restored(whole).unwrap_err() {
        Error::Damaged(ReadError::Damaged { fault, .. }) => fault,
        other => panic!("{other}"),
    };
    // The page of a bucket is told right behind its name.
    let root = |whole: &[u8], name: &str| {
        let mut names = whole.windows(name.len());
        let at = names.position(|it| it == name.as_bytes()).unwrap() + name.len();
        at..at + 8
    };
    let whole = snapshot(4096, Free::Unlisted, &buckets);
    // One that is taken over, and one that is not.
    for (of, twin) in [("twin-a", "twin-b"), ("members_removed", "twin-a")] {
        let mut shared = whole.clone();
        shared.copy_within(root(&whole, of), root(&whole, twin).start);
        assert_eq!(fault(&stamped(shared)), Fault::ReachedTwice, "{of}");
        assert!(!at("data").exists());
    }
    // A page that is said to be free as well.
    let mut free = snapshot(4096, Free::Listed, &buckets);
    let mut pages = (0..free.len() / 4096).map(|page| page * 4096);
    let list = pages.find(|page| free[page + 8] == 0x10).unwrap() + 16;
    let used = root(&free, "twin-a");
    free.copy_within(used, list + 8);
    let told = fault(&stamped(free));
    assert!(
        matches!(told, Fault::ReachedTwice | Fault::FreeTwice),
        "{told}"
    );
    restored(&whole).unwrap();
}
