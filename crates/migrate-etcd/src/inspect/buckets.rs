//! The buckets beside `key`: etcd's own state.

use serde::Deserialize;

use super::KEY;
use super::kv::Revision;
use super::report::{Auth, Inspection, MemberRecord};
use crate::EtcdVersion;
use crate::bolt::{Bucket, Database, Entry, Fault, ReadError};
use crate::protobuf::{Field, fields};

/// The most members that are told, how many URLs of each kind one has, and the longest record
/// of one in bytes, so that no file fills the memory.
const MEMBERS: usize = 100;
const URLS: usize = 32;
const LONGEST_MEMBER: usize = 64 << 10;

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
pub(crate) fn take_names(found: &mut Inspection, database: &Database) -> Result<(), ReadError> {
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

/// Refuses a bucket with a sequence number: etcd gives none.
pub(crate) fn refuse_numbered(bucket: &Bucket) -> Result<(), Fault> {
    match bucket.sequence() {
        0 => Ok(()),
        _ => Err(Fault::Unexpected("a bucket with a sequence number")),
    }
}

/// Takes an entry of any bucket but `key`.
pub(crate) fn take(
    found: &mut Inspection,
    bucket: &Bucket,
    entry: &Entry<'_>,
) -> Result<(), Fault> {
    let result = match bucket.name() {
        META => meta(found, entry),
        b"cluster" => cluster(found, entry),
        b"members" => member(&mut found.members, entry),
        b"members_removed" => removed(found, entry),
        b"lease" => lease(found, entry),
        b"alarm" => alarm(found, entry),
        b"auth" => auth(&mut found.auth, entry),
        b"authUsers" => user(found, entry),
        b"authRoles" => role(found, entry),
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
        b"confState" => json(entry.value, "confState is no JSON")?,
        _ => {}
    }
    Ok(())
}

fn cluster(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    match entry.key {
        b"clusterVersion" => found.cluster_version = Some(text(entry.value)?),
        b"downgrade" => json(entry.value, "what is said of a downgrade is no JSON")?,
        _ => {}
    }
    Ok(())
}

fn json(bytes: &[u8], otherwise: &'static str) -> Result<(), &'static str> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
        .map(drop)
        .map_err(|_| otherwise)
}

/// Takes a record of bucket `members`.
pub(crate) fn member(
    members: &mut Vec<MemberRecord>,
    entry: &Entry<'_>,
) -> Result<(), &'static str> {
    if entry.value.len() > LONGEST_MEMBER {
        return Err("a member's record is longer than any");
    }
    let record: Record =
        serde_json::from_slice(entry.value).map_err(|_| "a member's record is malformed")?;
    let id = format!("{:x}", record.id);
    if id.as_bytes() != entry.key {
        return Err("a member's record is that of another member");
    }
    if members.len() == MEMBERS {
        return Err("there are more members than a cluster can have");
    }
    let Record {
        mut peer_urls,
        mut client_urls,
        ..
    } = record;
    for urls in [&mut peer_urls, &mut client_urls] {
        if urls.len() > URLS {
            return Err("a member has more URLs than any");
        }
        urls.shrink_to_fit();
    }
    members.push(MemberRecord {
        id,
        name: record.name,
        peer_urls,
        client_urls,
        is_learner: record.is_learner,
    });
    Ok(())
}

/// The id of a member, under which there is nothing but that word.
fn removed(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if !(1..=16).contains(&entry.key.len()) || !entry.key.iter().all(is_hex) {
        return Err("a member that was removed has no id");
    }
    if entry.value != b"removed" {
        return Err("of a member that was removed more is said");
    }
    found.removed_members += 1;
    Ok(())
}

/// `etcdserverpb.AlarmMember`, which is the key.
fn alarm(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let mut kind = 0;
    for field in fields(entry.key) {
        match field.ok_or("an alarm is no protobuf")? {
            (1, Field::Number(_)) => {}
            (2, Field::Number(number)) => kind = number,
            (1 | 2, _) => return Err("a field of an alarm is of another kind"),
            _ => found.unknown_fields += 1,
        }
    }
    // NOSPACE and CORRUPT; 0 is none.
    if !(1..=2).contains(&kind) || !entry.value.is_empty() {
        return Err("an alarm is none that etcd knows");
    }
    found.alarms += 1;
    Ok(())
}

/// `authpb.User`, under its name.
fn user(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let mut name: &[u8] = &[];
    for field in fields(entry.value) {
        match field.ok_or("a user is no protobuf")? {
            (1, Field::Bytes(bytes)) => name = bytes,
            // The hash of a password.
            (2, Field::Bytes(_)) => {}
            (3, Field::Bytes(role)) if std::str::from_utf8(role).is_ok() => {}
            (3, Field::Bytes(_)) => return Err("a role of a user is no text"),
            (4, Field::Bytes(options)) => {
                for field in fields(options) {
                    match field.ok_or("the options of a user are no protobuf")? {
                        (1, Field::Number(0 | 1)) => {}
                        (1, _) => return Err("an option of a user is neither on nor off"),
                        _ => found.unknown_fields += 1,
                    }
                }
            }
            (1..=4, _) => return Err("a field of a user is of another kind"),
            _ => found.unknown_fields += 1,
        }
    }
    if name != entry.key {
        return Err("a user is that of another name");
    }
    found.auth.users += 1;
    Ok(())
}

/// `authpb.Role`, under its name.
fn role(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let mut name: &[u8] = &[];
    for field in fields(entry.value) {
        match field.ok_or("a role is no protobuf")? {
            (1, Field::Bytes(bytes)) => name = bytes,
            (2, Field::Bytes(bytes)) => found.unknown_fields += permission(bytes)?,
            (1 | 2, _) => return Err("a field of a role is of another kind"),
            _ => found.unknown_fields += 1,
        }
    }
    if name != entry.key {
        return Err("a role is that of another name");
    }
    found.auth.roles += 1;
    Ok(())
}

/// `authpb.Permission`: what is allowed, from a key to the end of a range; its unknown fields.
fn permission(bytes: &[u8]) -> Result<u64, &'static str> {
    let mut unknown = 0;
    for field in fields(bytes) {
        match field.ok_or("a permission is no protobuf")? {
            // READ, WRITE, READWRITE.
            (1, Field::Number(0..=2)) | (2 | 3, Field::Bytes(_)) => {}
            (1..=3, _) => return Err("a permission is none that etcd knows"),
            _ => unknown += 1,
        }
    }
    Ok(unknown)
}

/// `leasepb.Lease`, whose first field is the lease's id.
fn lease(found: &mut Inspection, entry: &Entry<'_>) -> Result<(), &'static str> {
    let key = number(entry.key)?;
    let mut id = 0;
    for field in fields(entry.value) {
        match field.ok_or("a lease is no protobuf")? {
            (1, Field::Number(number)) => id = number,
            (2 | 3, Field::Number(_)) => {}
            (1..=3, _) => return Err("a field of a lease is of another kind"),
            _ => found.unknown_fields += 1,
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
    let text = String::from_utf8_lossy(bytes);
    let is_one = bytes.iter().all(is_version) && text.parse::<EtcdVersion>().is_ok();
    match is_one && bytes.len() <= 64 {
        true => Ok(text.into_owned()),
        false => Err("a version is malformed"),
    }
}
