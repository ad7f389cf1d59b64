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
    /// Reads what decides whether and how it can be restored. Where damaged entries are `left_out`
    /// none of them has a say in it.
    pub(super) fn of(source: &Database, left_out: bool) -> Result<Self, ReadError> {
        let buckets = source.buckets()?;
        let Some(keys) = buckets.iter().find(|bucket| bucket.name() == KEY) else {
            return Err(source.no_etcd("it has no bucket `key`, so it is none of etcd's"));
        };
        // A store begins at revision 1 without an entry.
        let mut revision = 1;
        if left_out {
            source.each(keys, &mut |entry| {
                let last = record(entry).map_or(0, |(revision, _)| revision.main);
                revision = revision.max(last);
                Ok(())
            })?;
        } else {
            let last = source.last(keys, |entry| {
                Revision::parse(entry.key).map_err(|what| wrong(KEY, what))
            })?;
            revision = last.map_or(1, |last| last.main);
        }
        let mut version = None;
        let mut members = Vec::new();
        let own = buckets
            .iter()
            .filter(|bucket| [&b"meta"[..], b"cluster", MEMBERS].contains(&bucket.name()));
        for bucket in own {
            source.each(bucket, &mut |entry| {
                let wrong = |what| wrong(bucket.name(), what);
                if bucket.name() == MEMBERS {
                    // None of them is taken over: of one that cannot be read nothing is known.
                    let _ = records::member(&mut members, entry);
                    return Ok(());
                }
                match entry.key {
                    b"storageVersion" | b"clusterVersion" => {
                        let text = String::from_utf8_lossy(entry.value);
                        match text.parse() {
                            Ok(parsed) => {
                                version = version.take().max(Some((parsed, text.into_owned())));
                            }
                            Err(_) if left_out => {}
                            Err(_) => return Err(wrong("a version is none")),
                        }
                    }
                    // What was deleted last may be gone: then this is where the store is.
                    key if COMPACTIONS.contains(&key) => match Revision::parse(entry.value) {
                        Ok(at) => revision = revision.max(at.main),
                        Err(_) if left_out => {}
                        Err(_) => return Err(wrong("the last compaction is none")),
                    },
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
///
/// What is damaged is refused, unless there is a count of what is `left_out`. Nobody looks at
/// what is in nothing that is written.
pub(super) fn write(
    source: &Database,
    mut changes: Changes,
    mut left_out: Option<&mut u64>,
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
        let kept = bucket.filter(|_| !emptied);
        let mut written = tree.bucket(name, kept.map_or(0, Bucket::sequence));
        if let Some(bucket) = bucket {
            walk.each(bucket, &mut |entry| {
                let (key, value) = (entry.key, entry.value);
                if emptied {
                    return Ok(());
                }
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
                match (check(&mut told, bucket, entry), left_out.as_deref_mut()) {
                    (Ok(()), _) => written.push(key, value).map_err(failed),
                    (Err(_), Some(left_out)) => {
                        *left_out += 1;
                        Ok(())
                    }
                    (Err(fault), None) => Err(source.damaged_at(entry, fault).into()),
                }
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

/// Checks an entry that is taken over as an inspection does, which adds it to what is `told`: a
/// server reads all of them when it starts, and ends if it cannot.
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
mod tests;
