//! The buckets beside `key`: etcd's own state.

use serde::Deserialize;

use super::KEY;
use super::kv::Revision;
use super::report::{Auth, Inspection, MemberRecord};
use crate::bolt::{Bucket, Database, Entry, Fault, ReadError};
use crate::protobuf::{Field, fields};

/// The most members that are told, so that no file fills the memory.
const MEMBERS: usize = 1000;

/// The bucket of what a member has applied, and compacted.
const META: &[u8] = b"meta";

/// The buckets of etcd 3.4 to 3.7 (`server/storage/schema/bucket.go`).
const KNOWN: [&[u8]; 10] = [
    b"alarm",
    b"auth",
    b"authRoles",
    b"authUsers",
    b"cluster",
    KEY,
    b"lease",
    b"members",
    b"members_removed",
    META,
];

/// Unknown ones that are told, and how much of their names.
const UNKNOWN: usize = 10;
const SHOWN: usize = 40;

/// A value of bucket `members`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

/// Looks at which buckets there are. Both that hold the store are there from the first
/// start of a member on.
pub(super) fn take_names(found: &mut Inspection, database: &Database) -> Result<(), ReadError> {
    let buckets = database.buckets()?;
    let has = |name: &[u8]| buckets.iter().any(|bucket| bucket.name() == name);
    if !has(KEY) {
        return Err(database.no_etcd("there is no bucket `key`, in which etcd keeps all keys"));
    }
    if !has(META) {
        return Err(database.no_etcd("there is no bucket `meta`, in which etcd keeps its state"));
    }
    let names = buckets.iter().map(Bucket::name);
    let unknown = names.filter(|name| !KNOWN.contains(name)).take(UNKNOWN);
    let shown = |name: &[u8]| name.escape_ascii().take(SHOWN).map(char::from).collect();
    found.unknown_buckets = unknown.map(shown).collect();
    Ok(())
}

/// Takes an entry of any bucket but `key`.
pub(super) fn take(
    found: &mut Inspection,
    bucket: &Bucket,
    entry: &Entry<'_>,
) -> Result<(), Fault> {
    let result = match bucket.name() {
        META => meta(found, entry),
        b"cluster" => cluster(found, entry),
        b"members" => member(found, entry),
        b"members_removed" => {
            found.removed_members += 1;
            Ok(())
        }
        b"lease" => lease(found, entry),
        b"alarm" => {
            found.alarms += 1;
            Ok(())
        }
        b"auth" => auth(&mut found.auth, entry),
        b"authUsers" => {
            found.auth.users += 1;
            Ok(())
        }
        b"authRoles" => {
            found.auth.roles += 1;
            Ok(())
        }
        _ => Ok(()),
    };
    result.map_err(|what| Fault::Entry {
        bucket: String::from_utf8_lossy(bucket.name()).into_owned(),
        what,
    })
}

fn meta(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    match entry.key {
        b"consistent_index" => found.consistent_index = Some(number(entry.value)?),
        b"term" => found.term = Some(number(entry.value)?),
        b"storageVersion" => found.storage_version = Some(text(entry.value)?),
        b"scheduledCompactRev" => {
            found.compaction.scheduled = Some(Revision::parse(entry.value)?.main);
        }
        b"finishedCompactRev" => {
            found.compaction.finished = Some(Revision::parse(entry.value)?.main);
        }
        b"confState" => {
            serde_json::from_slice::<serde::de::IgnoredAny>(entry.value)
                .map_err(|_| "confState is no JSON")?;
        }
        _ => {}
    }
    Ok(())
}

fn cluster(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    if entry.key == b"clusterVersion" {
        found.cluster_version = Some(text(entry.value)?);
    }
    Ok(())
}

fn member(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let record: Record =
        serde_json::from_slice(entry.value).map_err(|_| "a member's record is malformed")?;
    let id = format!("{:x}", record.id);
    if id.as_bytes() != entry.key {
        return Err("a member's record is that of another member");
    }
    if found.members.len() == MEMBERS {
        return Err("there are more members than a cluster can have");
    }
    found.members.push(MemberRecord {
        id,
        name: record.name,
        peer_urls: record.peer_urls,
        client_urls: record.client_urls,
        is_learner: record.is_learner,
    });
    Ok(())
}

/// `leasepb.Lease`, whose first field is the lease's id.
fn lease(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let key = number(entry.key)?;
    let mut id = 0;
    for field in fields(entry.value) {
        match field.ok_or("a lease is no protobuf")? {
            (1, Field::Number(number)) => id = number,
            (2 | 3, Field::Number(_)) => {}
            _ => return Err("a lease has a field that etcd does not know"),
        }
    }
    if id != key {
        return Err("a lease is that of another id");
    }
    found.leases += 1;
    Ok(())
}

fn auth(auth: &mut Auth, entry: &Entry<'_>) -> Result<(), &'static str> {
    match (entry.key, entry.value) {
        (b"authEnabled", [enabled @ (0 | 1)]) => auth.enabled = *enabled == 1,
        (b"authEnabled", _) => return Err("authEnabled is neither on nor off"),
        (b"authRevision", value) => auth.revision = number(value)?,
        _ => {}
    }
    Ok(())
}

fn number(bytes: &[u8]) -> Result<u64, &'static str> {
    let bytes = bytes.try_into().map_err(|_| "a number has not 8 bytes")?;
    Ok(u64::from_be_bytes(bytes))
}

/// A version.
fn text(bytes: &[u8]) -> Result<String, &'static str> {
    let is_version = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+".contains(byte);
    if bytes.is_empty() || bytes.len() > 64 || !bytes.iter().all(is_version) {
        return Err("a version is malformed");
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
