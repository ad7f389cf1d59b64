//! The error of this crate.

mod of;
mod step;
#[cfg(all(test, feature = "client"))]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::ReadError;
use of::{listed, sooner};

/// Why a backup was not made, not accepted, or not restored.
///
/// Each text names the file, folder or member, and what to do; none holds a key,
/// a value or a secret. After every one folders are as they were before, unless
/// the function that failed says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The member is being saved already.
    #[cfg(feature = "client")]
    #[error("{endpoint}: {holder} is saving it right now; wait for its end")]
    AlreadySaving {
        /// Member.
        endpoint: String,
        /// Who does, as far as this machine says.
        holder: String,
    },
    /// The member has not got what another one has.
    #[error(
        "{endpoint}: has got to revision {revision}, and {ahead} had {newest} before; take the \
         snapshot of that one, or see why it does not catch up"
    )]
    Behind {
        /// Member that the snapshot is of.
        endpoint: String,
        /// Its revision, or the snapshot's.
        revision: i64,
        /// Revision of the other one, before the snapshot began.
        newest: i64,
        /// The other member.
        ahead: String,
    },
    /// Another one is writing into the folder.
    #[error("{}: another restore is writing it; wait for its end", path.display())]
    Busy {
        /// Folder.
        path: PathBuf,
    },
    /// Asked to stop.
    #[error("the etcd backup was cancelled; nothing of it is left behind, run it again")]
    Cancelled,
    /// The file is not the one that was meant.
    #[error(
        "{}: is not {expected}; it was damaged, changed or exchanged after it was saved, use \
         another one", path.display()
    )]
    Changed {
        /// Backup.
        path: PathBuf,
        /// What it should be.
        expected: String,
    },
    /// The bytes received do not hash to the trailer the member sent.
    #[error(
        "{endpoint}: the snapshot's bytes do not match its checksum; take another one, and from \
         another member if that is so again"
    )]
    ChecksumMismatch {
        /// Member.
        endpoint: String,
    },
    /// The member was compacted beyond the revision of the file.
    #[error(
        "{endpoint}: is compacted beyond revision {revision}, so that it can no longer say what \
         it had there; {}",
        sooner(*took, *received)
    )]
    Compacted {
        /// Member.
        endpoint: String,
        /// Revision of the file.
        revision: i64,
        /// How long its snapshot and the comparison took, where both were one.
        took: Option<Duration>,
        /// How long of that until the snapshot was there.
        received: Option<Duration>,
    },
    /// The file is not sound.
    #[error(transparent)]
    Damaged(#[from] ReadError),
    /// A defragmentation keeps the member's writes waiting, and a snapshot would keep that.
    #[error(
        "{endpoint}: is being defragmented, and no snapshot is taken meanwhile: all writes of it \
         would wait; wait for its end, or ask another member"
    )]
    Defragmenting {
        /// Member.
        endpoint: String,
    },
    /// What was restored on trial is not what the snapshot holds.
    #[error(
        "{}: its {what} is {snapshot}, but {restored} after it was restored; do not rely on this \
         backup, take another one, and from another member", path.display()
    )]
    Differs {
        /// Snapshot.
        path: PathBuf,
        /// What was compared.
        what: String,
        /// Of the snapshot, or of the live members.
        snapshot: u64,
        /// Of the restored data.
        restored: u64,
    },
    /// The disk is full.
    #[error("{}: no space left; free some or choose another folder", path.display())]
    DiskFull {
        /// File.
        path: PathBuf,
    },
    /// The disk does not take what comes from the member.
    #[error(
        "{}: the disk took nothing for {stall:?}; see to it, or choose a folder on another one",
        path.display()
    )]
    DiskStalled {
        /// File.
        path: PathBuf,
        /// How long.
        stall: Duration,
    },
    /// A file of that name exists already, or is being written.
    #[error(
        "{}: exists already, and nothing is overwritten; choose another name, or remove it if it \
         is a `.part` that nobody writes any more", path.display()
    )]
    Exists {
        /// File.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error(
        "{}: {source}; see that it is there and may be read, and that its folder can be written, \
         or choose another one", path.display()
    )]
    File {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The member broke off in the middle.
    #[error(
        "{endpoint}: broke the snapshot off after {bytes} bytes: {source}; see whether the member \
         was restarted and what it logs, then take another one"
    )]
    Interrupted {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The endpoint is none, or does not go with the TLS material.
    #[error("{endpoint}: {reason}; give one member as https://HOST:2379, or http:// without TLS")]
    InvalidEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is none.
    #[error("{what}: is no {kind} key; {cure}")]
    InvalidKey {
        /// What was given; never a secret one.
        what: String,
        /// What it should be.
        kind: &'static str,
        /// What to give.
        cure: &'static str,
    },
    /// The new membership of a restore is none.
    #[error("{what}: {reason}; give NAME=http://HOST:PEERPORT for each voting member")]
    InvalidMembership {
        /// Member or address.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is to be written as a snapshot is no state of a store.
    #[error(
        "{revision}: this revision {reason}; give each key once, at a revision of its own from 1 on"
    )]
    InvalidRecord {
        /// Revision of the record.
        revision: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A text is no version of etcd.
    #[error("{text:?} is no version of etcd; give one as 3.6.16")]
    InvalidVersion {
        /// What was given.
        text: String,
    },
    /// A member of a restore is a learner in the snapshot.
    #[error(
        "{member}: is a learner in the snapshot, and nobody could promote one before there is a \
         quorum; leave it out of the membership, and add it when the cluster runs"
    )]
    Learner {
        /// Member.
        member: String,
    },
    /// An encrypted file cannot be opened.
    #[error(
        "{}: cannot be opened: {reason}; give a key or the passphrase that it was made for, or use \
         another copy", path.display()
    )]
    Locked {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is no manifest or set, or of a newer program.
    #[error("{}: {reason}; name one that this version has written", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The member cannot serve a backup worth having.
    #[error("{endpoint}: {reason}")]
    MemberUnfit {
        /// Member.
        endpoint: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Members of one cluster were restored from different data.
    #[error(
        "{member}: is of another snapshot, revision or cluster than {other}; restore every member \
         from the same file with the same options"
    )]
    MixedMembers {
        /// Member.
        member: String,
        /// The first member.
        other: String,
    },
    /// The files of a node could not be taken.
    #[error("{node}: its files cannot be taken: {source}; then take the set again")]
    Node {
        /// Node.
        node: String,
        /// Cause.
        source: Box<migrate_core::StepError>,
    },
    /// None of the members of etcd can be backed up.
    #[error(
        "{nodes}: no etcd member can be backed up; see that the members run, and that they are \
         reached from here or from their nodes{}",
        listed(reasons)
    )]
    NoMember {
        /// Control-plane nodes by which they were looked for, or the endpoints that were named.
        nodes: String,
        /// Why not, of each.
        reasons: Vec<String>,
    },
    /// Two files are not an earlier and a later state of one cluster.
    #[error("{}: {reason}; name a backup first, then a later state of its cluster", path.display())]
    NotComparable {
        /// The second file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The snapshot has no checksum at its end.
    #[error(
        "{}: has no SHA-256 at its end, so it is no snapshot, or cut off; restore a whole one, or \
         say that a copy of a data folder's db is meant (from_copy, --from-copy)", path.display()
    )]
    NoTrailer {
        /// Snapshot.
        path: PathBuf,
    },
    /// The folder holds something already.
    #[error(
        "{}: is not empty, and nothing is overwritten; stop what uses it, move the folder away, \
         and name an empty one", path.display()
    )]
    NotEmpty {
        /// Folder, or what is in it.
        path: PathBuf,
    },
    /// No backup in a store can be used.
    #[error(
        "{place}: has no backup that can be used; take one, or name another place{}",
        listed(reasons)
    )]
    NoBackup {
        /// Store.
        place: String,
        /// Why those that are there cannot.
        reasons: Vec<String>,
    },
    /// A disk has less room than a backup will need.
    #[cfg(feature = "client")]
    #[error(
        "{}: has room for {available} bytes, and this backup needs {needed}; free some, or choose a \
         folder on another disk", folder.display()
    )]
    NoRoom {
        /// Folder.
        folder: PathBuf,
        /// Bytes that are needed, with a margin, for all that is there at once.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// There is no store at that place.
    #[cfg(feature = "store")]
    #[error("{place}: {reason}; name the folder that backups were put into, or s3://BUCKET/PREFIX")]
    NoStore {
        /// What was given.
        place: String,
        /// What is there instead.
        reason: &'static str,
    },
    /// A member with TLS, or a bucket, is meant, and the feature for it is off.
    #[error("{what}: this build cannot reach it: enable the feature `{feature}`")]
    NotBuilt {
        /// Member or bucket, as it was given.
        what: String,
        /// `tls` or `s3`.
        feature: &'static str,
    },
    /// A member has other keys than the file.
    #[error(
        "{}: its keys are not those that {endpoint} has at revision {revision}; compare the \
         members with `etcdctl endpoint hashkv`, and take a backup of one that another one \
         agrees with", path.display()
    )]
    NotEqual {
        /// File.
        path: PathBuf,
        /// Member.
        endpoint: String,
        /// Revision of the file.
        revision: i64,
    },
    /// A snapshot is of another cluster than the one that was meant.
    #[error(
        "{}: is of cluster {found}, and this is {cluster}; name an etcd member of this cluster",
        path.display()
    )]
    OtherCluster {
        /// Backup, which is not kept.
        path: PathBuf,
        /// The cluster that the snapshot is of.
        found: String,
        /// The cluster that was to be backed up.
        cluster: String,
    },
    /// A set has other keys than those of the live cluster.
    #[error(
        "{node}: {reason}; give the files of every control-plane node of this cluster, with the \
         keys that it uses, and take the set again"
    )]
    OtherKeys {
        /// Node, or `set`.
        node: String,
        /// What is missing.
        reason: String,
    },
    /// A store lets nobody who asks with these credentials remove anything.
    #[cfg(feature = "store")]
    #[error(
        "{location}: nothing is removed: {tried} backups that should go are denied, the last one \
         with: {source}; give credentials that may remove objects (s3:DeleteObject), or see which \
         rule of the store forbids it"
    )]
    PruneDenied {
        /// Store.
        location: String,
        /// Backups whose removal was denied; no other one was done.
        tried: usize,
        /// The last answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The member does not let us.
    #[error(
        "{endpoint}: not allowed: {reason}; give a user that has the root role, or none where \
         authentication is off"
    )]
    PermissionDenied {
        /// Member.
        endpoint: String,
        /// Its words.
        reason: String,
    },
    /// There is no room for the revisions that a restore skips.
    #[error("{}: revision {revision} cannot be raised by so much; ask for less", path.display())]
    RevisionTooHigh {
        /// Snapshot.
        path: PathBuf,
        /// Its last revision.
        revision: i64,
    },
    /// The member stopped sending.
    #[error(
        "{endpoint}: nothing came for {stall:?} after {bytes} bytes; see to the member's disk and \
         the network to it, or ask another member"
    )]
    Stalled {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// How long.
        stall: Duration,
    },
    /// A store failed.
    #[cfg(feature = "store")]
    #[error(
        "{location}: {source}; the local copy, if there is one, is all there is: see to the store \
         and its credentials, then do it again"
    )]
    Store {
        /// Object or store.
        location: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The stream ended early, went on too long or had no trailer.
    #[error("{endpoint}: no whole snapshot came: {reason}; see what it logs, and take another one")]
    Truncated {
        /// Member.
        endpoint: String,
        /// What is missing.
        reason: String,
    },
    /// Not enough members said what they have.
    #[error(
        "{}: was compared with {answered} of the {voters} voting members that it tells of, and two \
         have to agree, or the only one there is; see that two of them are in reach, and give the \
         endpoint of each{}",
        path.display(), listed(silent)
    )]
    TooFewMembers {
        /// File.
        path: PathBuf,
        /// Voting members that answered, each counted once.
        answered: usize,
        /// Voting members of the cluster, as the file has them.
        voters: usize,
        /// What became of the others that were given.
        silent: Vec<String>,
    },
    /// A set, or what is in it, is larger than any is made.
    #[error(
        "{}: holds {bytes} bytes, and no set has more than {most} of that; use another copy, or \
         keep a snapshot that is so large by itself", path.display()
    )]
    TooLarge {
        /// Set, or the snapshot that was to be in it.
        path: PathBuf,
        /// Bytes.
        bytes: u64,
        /// Most bytes.
        most: u64,
    },
    /// A backup is larger than an object of a store can be.
    #[cfg(feature = "store")]
    #[error(
        "{location}: an object here has {most} bytes at most, and this backup {bytes}; keep it in a \
         folder on another machine's disk"
    )]
    TooLargeForStore {
        /// Object.
        location: String,
        /// Bytes of the backup.
        bytes: u64,
        /// Most bytes.
        most: u64,
    },
    /// The server that shall run on the data is too old for it.
    #[error(
        "{}: was written by etcd {stored}, and etcd {target} refuses such data; run {stored} or \
         newer on it, or restore an older backup", path.display()
    )]
    TooNew {
        /// Snapshot.
        path: PathBuf,
        /// Version of the data.
        stored: String,
        /// Version of the server.
        target: String,
    },
    /// The snapshot takes longer than a member may be held up.
    #[error(
        "{endpoint}: {bytes} bytes in {took:?} are fewer than {least_rate} a second, and while a \
         snapshot is under way the member's database cannot use room again; see to the network \
         and to the disk of the folder, or allow a lower rate"
    )]
    TooSlow {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// How long that took.
        took: Duration,
        /// Bytes a second that are asked for.
        least_rate: u64,
    },
    /// The server of a trial does not do.
    #[error(
        "{}: {reason}; restore the snapshot into an empty folder and start this server on it by hand \
         to see what it logs", path.display()
    )]
    TrialServer {
        /// Program.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// The member is out of reach.
    #[error(
        "{endpoint}: {source}; see that the member runs there, and that its CA and the client \
         certificate are the right ones"
    )]
    Unreachable {
        /// Member.
        endpoint: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// None of the trusted keys has signed the manifest as it is.
    #[error(
        "{}: its signature is by none of the trusted keys, or it was changed since; do not restore \
         this backup unless you know why", path.display()
    )]
    Untrusted {
        /// Manifest.
        path: PathBuf,
    },
}
