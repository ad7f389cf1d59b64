//! The database of a restored member: the snapshot's, with a new membership.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::EtcdVersion;
use crate::bolt::tree::Tree;
use crate::bolt::{Bucket, Database, Entry, Fault, Walk};
use crate::inspect::kv::{COMPACTIONS, Revision};
use crate::inspect::{KEY, buckets as records, record};
use crate::wal::{TERM, Voter};
use crate::{Error, Inspection, MemberRecord, ReadError};

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// The bucket of the members, which a restore writes anew.
const MEMBERS: &[u8] = b"members";

/// What a snapshot says of itself, before anything is written.
pub(super) struct Facts {
    /// Its last revision.
    pub(super) revision: i64,
    /// The newest version that its data name.
    pub(super) version: Option<(EtcdVersion, String)>,
    /// The members of its cluster.
    pub(super) members: Vec<MemberRecord>,
}

impl Facts {
    /// Reads what decides whether and how it can be restored.
    pub(super) fn of(source: &Database) -> Result<Self, ReadError> {
        let buckets = source.buckets()?;
        let Some(keys) = buckets.iter().find(|bucket| bucket.name() == KEY) else {
            return Err(source.no_etcd("it has no bucket `key`, so it is none of etcd's"));
        };
        let last = source.last(keys, |entry| {
            Revision::parse(entry.key).map_err(|what| wrong(KEY, what))
        })?;
        // A store begins at revision 1 without an entry.
        let mut revision = last.map_or(1, |last| last.main);
        let mut version = None;
        let mut members = Vec::new();
        let own = buckets
            .iter()
            .filter(|bucket| [&b"meta"[..], b"cluster", MEMBERS].contains(&bucket.name()));
        for bucket in own {
            source.each(bucket, &mut |entry| {
                let wrong = |what| wrong(bucket.name(), what);
                if bucket.name() == MEMBERS {
                    return records::member(&mut members, entry).map_err(wrong);
                }
                match entry.key {
                    b"storageVersion" | b"clusterVersion" => {
                        let text = String::from_utf8_lossy(entry.value);
                        let parsed: Option<EtcdVersion> = text.parse().ok();
                        let parsed = parsed.ok_or_else(|| wrong("a version is none"))?;
                        version = version.take().max(Some((parsed, text.into_owned())));
                    }
                    // What was deleted last may be gone: then this is where the store is.
                    key if COMPACTIONS.contains(&key) => {
                        let at = Revision::parse(entry.value);
                        let at = at.map_err(|_| wrong("the last compaction is none"))?;
                        revision = revision.max(at.main);
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(Self {
            revision,
            version,
            members,
        })
    }
}

/// Keys of a bucket, and their values.
pub(crate) type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is put in the place of a bucket's elements, or among them, by the bucket's name.
pub(super) type Changes = BTreeMap<&'static str, Change>;

#[derive(Default)]
pub(super) struct Change {
    /// Nothing of what was there is kept.
    emptied: bool,
    puts: Elements,
}

/// Writes the database to `out` and puts it on disk; its length in bytes.
pub(super) fn write(
    source: &Database,
    mut changes: Changes,
    out: (File, &Path),
) -> Result<u64, Error> {
    let failed = |error| Error::file(out.1, error);
    let out_file = BufWriter::with_capacity(CHUNK, out.0);
    let mut tree = Tree::new(out_file, source.page_size() as usize).map_err(failed)?;
    // Buckets that the snapshot has not got come in their places by name.
    let mut names: BTreeMap<&[u8], Option<&Bucket>> =
        changes.keys().map(|name| (name.as_bytes(), None)).collect();
    // All in one walk: a page that two buckets share would be there twice, and be of one.
    let (mut walk, buckets) = Walk::begin(source)?;
    let mut told = Inspection::default();
    records::take_names(&mut told, source)?;
    for bucket in &buckets {
        names.insert(bucket.name(), Some(bucket));
    }
    for (name, bucket) in names {
        let change = std::str::from_utf8(name)
            .ok()
            .and_then(|name| changes.remove(name));
        let Change { emptied, mut puts } = change.unwrap_or_default();
        let mut written = tree.bucket(name, bucket.map_or(0, Bucket::sequence));
        if let Some(bucket) = bucket {
            walk.each(bucket, &mut |entry| {
                let checked = check(&mut told, bucket, entry);
                checked.map_err(|fault| source.damaged_at(entry, fault))?;
                if emptied {
                    return Ok(());
                }
                let (key, value) = (entry.key, entry.value);
                while let Some(first) = puts
                    .first_entry()
                    .filter(|first| first.key().as_slice() <= key)
                {
                    let (put, value) = first.remove_entry();
                    written.push(&put, &value).map_err(failed)?;
                    if put == key {
                        return Ok(());
                    }
                }
                written.push(key, value).map_err(failed)
            })?;
        }
        for (key, value) in puts {
            written.push(&key, &value).map_err(failed)?;
        }
        written.finish().map_err(failed)?;
    }
    walk.end()?;
    let (out_file, bytes) = tree.finish().map_err(failed)?;
    let file = out_file
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}

/// Bucket `members` of a cluster of `voters`.
pub(crate) fn members(voters: &[Voter]) -> Elements {
    let member = |voter: &Voter| (format!("{:x}", voter.id).into_bytes(), voter.json.clone());
    voters.iter().map(member).collect()
}

/// What bucket `meta` says of the log that a cluster of `voters` begins with: all of
/// its entries are applied already.
pub(crate) fn log_state(voters: &[Voter]) -> Elements {
    let ids: Vec<_> = voters.iter().map(|voter| voter.id).collect();
    let conf_state = serde_json::json!({ "voters": ids, "auto_leave": false });
    let index = (voters.len() as u64).to_be_bytes();
    BTreeMap::from([
        (b"consistent_index".to_vec(), index.to_vec()),
        (b"term".to_vec(), TERM.to_be_bytes().to_vec()),
        (b"confState".to_vec(), conf_state.to_string().into_bytes()),
    ])
}

/// What makes the database that of a new cluster of `voters`.
pub(super) fn changes(voters: &[Voter], raised_to: Option<i64>) -> Changes {
    let mut meta = log_state(voters);
    let mut keys = BTreeMap::new();
    if let Some(revision) = raised_to {
        let revision = Revision::key(revision, 0);
        // An entry without content: no key has this revision, but the store
        // goes on from it.
        keys.insert(revision.clone(), Vec::new());
        // What is older counts as compacted, so that who watches from an old
        // revision is told so instead of waiting for ever.
        meta.insert(b"scheduledCompactRev".to_vec(), revision);
    }
    let emptied = |puts| Change {
        emptied: true,
        puts,
    };
    BTreeMap::from([
        ("key", Change::among(keys)),
        ("members", emptied(members(voters))),
        ("members_removed", emptied(BTreeMap::new())),
        ("meta", Change::among(meta)),
    ])
}

/// What makes a server ask nobody for a user: what etcd itself writes when authentication
/// is put off.
pub(super) fn without_users() -> Changes {
    let off = Elements::from([(b"authEnabled".to_vec(), vec![0])]);
    BTreeMap::from([("auth", Change::among(off))])
}

impl Change {
    fn among(puts: Elements) -> Self {
        Self {
            emptied: false,
            puts,
        }
    }
}

/// Checks an entry as an inspection does, which adds it to what is `told`: a server reads all
/// of them when it starts, and ends if it cannot.
fn check(told: &mut Inspection, bucket: &Bucket, entry: &Entry<'_>) -> Result<(), Fault> {
    records::refuse_numbered(bucket)?;
    match bucket.name() == KEY {
        true => record(entry).map(drop),
        false => records::take(told, bucket, entry),
    }
}

fn wrong(bucket: &[u8], what: &'static str) -> Fault {
    Fault::Entry {
        bucket: String::from_utf8_lossy(bucket).into_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bolt::build::{Entries, Free, snapshot, stamped};
    use crate::inspect::kv::samples::put;
    use crate::{Membership, Restore};

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

    /// Users are taken over as they are: nothing of a restore reads them.
    #[test]
    fn a_copy_that_no_hash_speaks_for_is_inspected_first() {
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

    /// By name alone: a member that the snapshot knows otherwise is nobody's concern.
    #[test]
    fn a_member_that_is_a_learner_in_the_snapshot_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let record = |id: u64, name: &str, learner: &str| {
            let json =
                format!(r#"{{"id":{id},"peerURLs":["http://o:1"],"name":"{name}"{learner}}}"#);
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
}
