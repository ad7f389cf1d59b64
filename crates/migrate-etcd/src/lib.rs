//! Kubernetes etcd backups: a snapshot streamed to a file whose checksum holds,
//! checked page by page, and proven equal to the live members.
//!
//! `SnapshotBackup` asks one etcd member for a snapshot and guarantees:
//!
//! * the file appears under its final name only when it is complete, its
//!   SHA-256 trailer matches its bytes, and file and folder are on disk;
//! * it is readable by its owner only (0600): it holds every Secret;
//! * on an error, a cancellation or a full disk nothing is left behind, and what
//!   a process that was killed has left goes with the next backup into its folder;
//! * one member is saved by one program of a machine at a time;
//! * where the disk has less room than the snapshot, and what is made of it, will need, the
//!   member is not asked for one;
//! * a member that stops sending, or sends without getting on, or slowly, is given up
//!   after `SnapshotBackup::with_stall` and `with_least_rate`, and so is a disk that does
//!   not take it: a stalled reader stops the member's writes.
//!
//! Other providers of backups write their files with [`PartFile`], which keeps
//! all of these but the last.
//!
//! The level reached is [`BackupProof::Unproven`]: complete, but neither
//! compared with the live members nor restored, so its report carries the
//! blocker `KM-BACKUP-001`, which a person has to waive.
//!
//! [`inspect`] checks a file page by page and tells what is in it, without any etcd.
//! `SnapshotBackup::save_proven` and `prove` compare its keys with those of the live
//! members. [`Database`] is the reader below both.
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example() -> Result<(), migrate_etcd::Error> {
//! use migrate_core::Cancellation;
//! use migrate_etcd::{Member, SnapshotBackup};
//!
//! let backup = SnapshotBackup::new(Member::new("http://127.0.0.1:2379"), "/var/backups");
//! let artifact = backup.save("etcd-2026-11-22.db", &Cancellation::new(), |_, _| {}).await?;
//! println!("{} bytes, sha256 {}", artifact.bytes, artifact.sha256);
//! # Ok(())
//! # }
//! ```
//!
//! [`Restore`] makes a data folder of a snapshot without etcd: every key with its
//! revisions, a new membership, and a revision raised far enough that no client
//! of the old cluster is left waiting. `TestRestore` does so on trial and starts an
//! etcd on it that nobody else can reach.
//!
//! [`NewSnapshot`] is written instead of taken: the state of a store that is none of etcd's, as a file that a
//! restore makes an etcd of.
//!
//! [`compare`] lists what a restore would lose: what came after a backup, and which pods,
//! volumes and load balancers that concerns.
//!
//! [`Manifest`] says what is known of a backup, and is signed: backup and manifest
//! cannot be changed by anyone without the key.
//!
//! What then becomes of it: `Seal` encrypts it, `BackupSet` adds the files of the
//! control-plane nodes, `Store` keeps it and finds it again, [`Retention`] says which
//! are kept, and [`Gate`] whether one is good enough to begin. `ProvenBackup` and
//! `StoredBackup` are all of that as step 2 of a run.
//!
//! # Build
//! etcd-client compiles protocol files: a build needs `protoc`, in the `PATH` or
//! named by `PROTOC`. This workspace names one in its `.cargo/config.toml`, which
//! a build that has this crate as a dependency does not read.
//!
//! # Features
//! * `client`, on by default: what asks members. Without it snapshots are read, and
//!   neither gRPC nor `protoc` is needed.
//! * `objects`: the objects of a snapshot as JSON, protobuf among them.
//! * `seal`: encryption (age) and sets. `zstd`: compresses them first; its build needs a
//!   C compiler.
//! * `store`: where backups are kept, a folder or any `object_store`; `s3`: a bucket. The program
//!   installs the provider of rustls that TLS shall use, before the bucket is built.
//! * `tls`: connects over TLS (ring provider). Off by default so that a build
//!   without it pulls no TLS; a member that is given TLS material
//!   without the feature is refused, never contacted in the clear.

mod blocking;
mod bolt;
#[cfg(any(feature = "client", feature = "store"))]
mod cancelled;
mod compare;
#[cfg(feature = "client")]
mod defragmentation;
mod error;
#[cfg(feature = "client")]
mod find;
mod folders;
mod gate;
mod hash;
#[cfg(feature = "client")]
mod http1;
mod inspect;
mod leftover;
#[cfg(feature = "client")]
mod limits;
mod manifest;
#[cfg(feature = "client")]
mod member;
mod meter;
mod new_snapshot;
#[cfg(feature = "objects")]
mod objects;
mod part_file;
mod protobuf;
#[cfg(any(feature = "client", feature = "store"))]
mod provider;
mod read;
mod restore;
mod retention;
#[cfg(feature = "client")]
mod room;
#[cfg(feature = "client")]
mod save_lock;
#[cfg(feature = "seal")]
mod seal;
#[cfg(feature = "seal")]
mod set;
#[cfg(feature = "client")]
mod snapshot;
#[cfg(feature = "client")]
mod standing;
mod state;
#[cfg(feature = "store")]
mod store;
// Shared with the integration tests, which see nothing of this crate's own tests.
#[cfg(test)]
#[path = "../tests/folder/mod.rs"]
mod folder;
mod table;
mod trailer;
#[cfg(feature = "client")]
mod trial;
mod wal;

pub use bolt::{Bucket, Database, Entry, Fault, ReadError, Structure};
pub use compare::{Change, Comparison, Effect, ObjectChange, ResourceChange, compare};
pub use error::Error;
#[cfg(all(feature = "client", feature = "seal"))]
pub use find::KubeadmMembers;
#[cfg(feature = "client")]
pub use find::{FindMembers, FoundMembers, NamedMembers, Way};
pub use gate::Gate;
#[cfg(feature = "client")]
pub use hash::{Proof, Proven, prove, prove_with};
pub use inspect::{
    Auth, Compaction, Encrypted, FolderUse, Inspection, Keys, Kubernetes, MemberRecord,
    ResourceUse, inspect, inspect_with, object_key,
};
pub use manifest::{ComparedMember, KeyInDoubt, Manifest, PrivateKey, PublicKey, SigningKey};
#[cfg(feature = "client")]
pub use member::{Member, Tls};
pub use meter::Meter;
pub use new_snapshot::NewSnapshot;
#[cfg(feature = "objects")]
pub use objects::{Content, StoredObject, objects};
pub use part_file::PartFile;
#[cfg(feature = "client")]
pub use provider::ProvenBackup;
#[cfg(feature = "store")]
pub use provider::StoredBackup;
#[cfg(any(feature = "client", feature = "store"))]
pub use provider::{
    BACKUP_COMPARED, BACKUP_FORCED, BACKUP_FULL, BACKUP_KEY_IN_DOUBT, BACKUP_LACKS_FILE,
    BACKUP_NEEDS_KEY, BACKUP_NOT_COMPARED, BACKUP_PLAIN, BACKUP_UNSIGNED,
};
pub use restore::{EtcdVersion, Membership, Restore, Restored};
pub use retention::Retention;
#[cfg(feature = "seal")]
pub use seal::{KeyRing, Lock, Seal};
#[cfg(feature = "seal")]
pub use set::{
    BackupSet, FileRecord, FolderNode, LiveKeys, NodeFiles, NodeKeys, NodeRecord, ScriptNode,
    SetRecord,
};
#[cfg(feature = "client")]
pub use snapshot::SnapshotBackup;
#[cfg(feature = "store")]
pub use store::{Catalogue, Pruned, Refused, Store};
#[cfg(feature = "client")]
pub use trial::{ApiServer, RestoreLevel, TestRestore, TestRestored};

#[doc(no_inline)]
pub use migrate_core::steps::BackupProof;
