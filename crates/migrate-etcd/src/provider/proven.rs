//! A backup that is made, proven and tried.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport};
use migrate_core::{BackUpData, ClusterId, Finding, StepContext, StepError, StepInput};

use super::findings::{
    compared_with, forced, full, needs_key, not_compared, plain, unsigned, without_keys,
};
#[cfg(feature = "seal")]
use super::findings::{in_doubt, lacking, unknown_signer, without_signer};
#[cfg(feature = "store")]
use super::plain::progress;
use super::plain::{between, tell};
use super::source::Source;
use crate::blocking::off_the_runtime;
use crate::limits::Limits;
use crate::room::FurtherCopy;
use crate::snapshot::Received;
use crate::{
    ApiServer, Error, FindMembers, Inspection, KeyInDoubt, Manifest, Member, RestoreLevel,
    SigningKey, SnapshotBackup, TestRestore,
};
#[cfg(feature = "seal")]
use crate::{BackupSet, LiveKeys, NodeFiles, Seal};

/// Bytes that a server on trial takes for its log at once, whatever is in it: two
/// segments (etcd's `wal.SegmentSizeBytes`).
const LOGS: u64 = 2 * (64 << 20);

/// Units of what is told of what becomes of it.
const TRIED: &str = "bytes restored on trial";
#[cfg(feature = "seal")]
const ENCRYPTED: &str = "bytes encrypted";
#[cfg(feature = "store")]
const STORED: &str = "bytes stored";

/// Step 2: a snapshot that is proven equal to live members, restored on trial, made
/// a set, encrypted, signed, and put into a store, as far as each is asked for.
///
/// The report says [`BackupProof::Proven`], or [`BackupProof::Restored`] if an etcd
/// was started on it, only if two of the cluster's voting members, or the only one that
/// it has, are equal to it ([`Proof::is_enough`](crate::Proof::is_enough)), and if the set has the keys of the
/// live cluster: one member of several may be the one that went wrong, and a snapshot
/// alone restores data that nobody can reach. Else it is [`BackupProof::Unproven`] with
/// the blocker `KM-BACKUP-001` for either. Which members those are is in report and
/// manifest. What was forced ([`SnapshotBackup::forced`]) is unproven always, with the
/// blocker `KM-BACKUP-010`. What is proven and not [signed](Self::signed) has the blocker
/// `KM-BACKUP-011`. That the database is full, or nearly so, is the finding `KM-BACKUP-012`.
///
/// It is not begun where a disk has not got room for all of it ([`Error::NoRoom`]): the
/// snapshot, and beside it, one after the other, the trial, what is encrypted, and the copy
/// in a store that is a folder.
///
/// What is of another cluster is an error ([`Error::OtherCluster`], [`Error::OtherKeys`]), and
/// never has the name of a backup: the snapshot says whose it is, unless its namespaces are
/// encrypted, and so do the keys of the nodes. A private key that is not on a node, as of an
/// external CA, or that nobody here can compare is the warning `KM-BACKUP-014`, and in the
/// manifest; a set in which no node has the key that signs tokens, or of which that cannot be
/// told, is unproven (`KM-BACKUP-001`).
///
/// How far it is is told by [`EventKind::Progress`](migrate_core::EventKind): bytes of the
/// snapshot as they come, then each phase when it begins and when it ends, by a unit of its own
/// (`bytes proven`, `bytes restored on trial`, `bytes encrypted`), and `bytes stored`. What is
/// restored, encrypted or stored is told about each 8 MiB too.
///
/// # Errors
/// What fails, fails the step; files that were finished before stay. A backup
/// that could not be put into the store is there locally, with its manifest.
pub struct ProvenBackup {
    source: Source,
    trial: Option<(PathBuf, Option<PathBuf>)>,
    api_server: Option<ApiServer>,
    signing: Option<Arc<SigningKey>>,
    #[cfg(feature = "seal")]
    seal: Option<Seal>,
    #[cfg(feature = "seal")]
    nodes: Vec<Arc<dyn NodeFiles>>,
    #[cfg(feature = "seal")]
    live: Option<LiveKeys>,
    #[cfg(feature = "store")]
    store: Option<crate::Store>,
}

impl ProvenBackup {
    /// Saves by `backup`, and compares with `members`: two at least, where the cluster
    /// has as many.
    pub fn new(backup: SnapshotBackup, members: Vec<Member>) -> Self {
        Self::of(Source::Named(Box::new(backup), members))
    }

    /// Asks `members` at the beginning of each backup who they are and which of them it
    /// is to be taken of, and saves it in `folder`.
    pub fn finding(members: Arc<dyn FindMembers>, folder: impl Into<PathBuf>) -> Self {
        Self::of(Source::Found(members, folder.into(), Limits::default()))
    }

    /// See [`SnapshotBackup::with_stall`].
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.source.limits().stall = stall;
        self
    }

    /// See [`SnapshotBackup::with_least_rate`].
    #[must_use]
    pub fn with_least_rate(mut self, bytes_per_second: u64) -> Self {
        self.source.limits().least_rate = bytes_per_second;
        self
    }

    /// See [`SnapshotBackup::with_patience`].
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.source.limits().patience = patience;
        self
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            trial: None,
            api_server: None,
            signing: None,
            #[cfg(feature = "seal")]
            seal: None,
            #[cfg(feature = "seal")]
            nodes: Vec::new(),
            #[cfg(feature = "seal")]
            live: None,
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// Restores it on trial in `scratch`, with this etcd if one is given; see
    /// [`TestRestore`].
    #[must_use]
    pub fn with_trial(mut self, scratch: impl Into<PathBuf>, etcd: Option<PathBuf>) -> Self {
        self.trial = Some((scratch.into(), etcd));
        self
    }

    /// Starts this API server on the etcd of the trial; see
    /// [`TestRestore::with_api_server`].
    #[must_use]
    pub fn with_trial_api_server(mut self, server: ApiServer) -> Self {
        self.api_server = Some(server);
        self
    }

    /// Writes a manifest beside it, signed with `key`.
    #[must_use]
    pub fn signed(mut self, key: Arc<SigningKey>) -> Self {
        self.signing = Some(key);
        self
    }

    /// Encrypts it. The plain snapshot never has a name by which a backup is looked for, and
    /// is removed when that is done.
    #[cfg(feature = "seal")]
    #[must_use]
    pub fn sealed(mut self, seal: Seal) -> Self {
        self.seal = Some(seal);
        self
    }

    /// Makes it an encrypted set with the files of these control-plane nodes, which
    /// have to have the keys that `live` uses.
    #[cfg(feature = "seal")]
    #[must_use]
    pub fn as_set(mut self, seal: Seal, nodes: Vec<Arc<dyn NodeFiles>>, live: LiveKeys) -> Self {
        self.seal = Some(seal);
        self.nodes = nodes;
        self.live = Some(live);
        self
    }

    /// Puts it into `store`, which needs a manifest.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn stored(mut self, store: crate::Store, key: Arc<SigningKey>) -> Self {
        self.store = Some(store);
        self.signed(key)
    }

    /// What is made of a snapshot in `folder` while it, or the file it becomes, is there.
    #[cfg_attr(
        not(feature = "seal"),
        expect(unused_variables, reason = "nothing is made beside it then")
    )]
    fn copies(&self, folder: &Path) -> Vec<FurtherCopy> {
        let copy = |folder: &Path| FurtherCopy {
            folder: folder.to_owned(),
            more: 0,
        };
        let trial = self.trial.iter().map(|(scratch, etcd)| FurtherCopy {
            more: if etcd.is_some() { LOGS } else { 0 },
            ..copy(scratch)
        });
        #[cfg(feature = "seal")]
        let sealed = self.seal.as_ref().map(|_| copy(folder));
        #[cfg(not(feature = "seal"))]
        let sealed = None;
        #[cfg(feature = "store")]
        let stored = self.store.as_ref().and_then(crate::Store::local).map(copy);
        #[cfg(not(feature = "store"))]
        let stored = None;
        trial.chain(sealed).chain(stored).collect()
    }

    /// Restores `snapshot` on trial; how far that went.
    async fn tried(
        &self,
        cx: &StepContext,
        snapshot: &BackupArtifact,
    ) -> Result<Option<RestoreLevel>, Error> {
        let Some((scratch, etcd)) = &self.trial else {
            return Ok(None);
        };
        tell(cx, TRIED, 0, snapshot.bytes);
        let mut trial = TestRestore::new(&snapshot.path, scratch).with_sha256(&snapshot.sha256);
        if let Some(etcd) = etcd {
            trial = trial.with_etcd(etcd);
        }
        if let Some(server) = &self.api_server {
            trial = trial.with_api_server(server.clone());
        }
        let trial = trial.telling(between(cx, TRIED, snapshot.bytes));
        let level = trial.run(&cx.cancel).await?.level;
        tell(cx, TRIED, snapshot.bytes, snapshot.bytes);
        Ok(Some(level))
    }

    /// Makes it what is kept: encrypted, or a set.
    #[cfg(feature = "seal")]
    async fn finished(
        &self,
        cx: &StepContext,
        snapshot: Received,
        name: &str,
    ) -> Result<Finished, Error> {
        let Some(seal) = &self.seal else {
            return Ok(Finished::of(snapshot.commit().await?));
        };
        let plain = snapshot.unnamed();
        let bytes = plain.bytes;
        tell(cx, ENCRYPTED, 0, bytes);
        let (folder, file) = crate::seal::parted(snapshot.path())?;
        let told = between(cx, ENCRYPTED, bytes);
        let mut finished = match &self.live {
            None => {
                let sealed = seal.snapshot(&plain, (&folder, &file), told, &cx.cancel);
                Finished::of(sealed.await?)
            }
            Some(live) => {
                let nodes = self.nodes.iter().cloned();
                let set = BackupSet::new(plain).with_live_keys(live.clone());
                let set = set.telling(told);
                let set = nodes.fold(set, BackupSet::with_node);
                let (artifact, record) = set.write(&folder, name, seal, &cx.cancel).await?;
                let shown = artifact.path.display().to_string();
                let mut finished = Finished::of(artifact);
                finished.findings = lacking(&record, &shown);
                finished.keys_in_doubt = record.keys_in_doubt();
                let signer = record.signers_in_doubt(live);
                let is_known = signer.is_none();
                finished.keys_in_doubt.extend(signer);
                let doubts = finished.keys_in_doubt.iter();
                let doubts = doubts.map(|doubt| in_doubt(doubt, &shown));
                finished.findings.extend(doubts);
                // Another CA, or key of tokens, was an error.
                finished.keys_match = record.signs_tokens() && is_known;
                if !record.signs_tokens() {
                    finished.findings.push(without_signer(&shown));
                }
                if !is_known {
                    finished.findings.push(unknown_signer(&shown));
                }
                finished.nodes = Some(record.nodes.into_iter().map(|node| node.name).collect());
                finished
            }
        };
        finished.locked_for = seal.lock().names();
        snapshot.discard()?;
        tell(cx, ENCRYPTED, bytes, bytes);
        Ok(finished)
    }

    /// What is kept: the snapshot as it is.
    #[cfg(not(feature = "seal"))]
    async fn finished(
        &self,
        _: &StepContext,
        snapshot: Received,
        _: &str,
    ) -> Result<Finished, Error> {
        Ok(Finished::of(snapshot.commit().await?))
    }
}

/// A backup as it is kept.
struct Finished {
    artifact: BackupArtifact,
    locked_for: Vec<String>,
    nodes: Option<Vec<String>>,
    keys_match: bool,
    keys_in_doubt: Vec<KeyInDoubt>,
    findings: Vec<Finding>,
}

impl Finished {
    fn of(artifact: BackupArtifact) -> Self {
        Self {
            artifact,
            locked_for: Vec::new(),
            nodes: None,
            keys_match: false,
            keys_in_doubt: Vec::new(),
            findings: Vec::new(),
        }
    }
}

#[async_trait]
impl BackUpData for ProvenBackup {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let taken = cx.clock.now();
        let cluster = &input.model.cluster;
        let name = format!("etcd-{cluster}-{}-{}", cx.fence.run, taken.as_millis());
        // Without a name until it is kept, and not at all where it is encrypted.
        let file = format!("{name}.db");
        let copies = self.copies(self.source.folder());
        let saved = self.source.save_compared(&file, copies, cx).await?;
        let (snapshot, compared, is_forced) = (saved.snapshot, saved.proof, saved.is_forced);
        let member = snapshot.member.clone();
        let inspection = &compared.inspection;
        refuse_other_cluster(inspection, snapshot.path(), cluster)?;
        let trial = self.tried(cx, &snapshot.unnamed()).await?;
        let reached = match &trial {
            Some(level) if *level != RestoreLevel::ReRead => BackupProof::Restored,
            _ => BackupProof::Proven,
        };
        let Finished {
            artifact,
            locked_for,
            nodes,
            keys_match,
            keys_in_doubt,
            mut findings,
        } = self.finished(cx, snapshot, &name).await?;
        let shown = artifact.path.display().to_string();
        if locked_for.is_empty() {
            findings.push(plain(&shown));
        }
        let proof = match keys_match && compared.is_enough() && !is_forced {
            true => reached,
            false => BackupProof::Unproven,
        };
        if self.signing.is_none() {
            findings.push(unsigned(&shown, proof));
        }
        findings.extend(is_forced.then(|| forced(&shown)));
        let fullness = member.fullness();
        findings.extend(fullness.map(|fullness| full(&shown, fullness)));
        findings.push(compared_with(&compared, &shown));
        if nodes.is_none() {
            findings.push(without_keys(&shown));
        }
        let silent = compared.silent.iter();
        findings.extend(silent.map(|(member, why)| not_compared(&shown, member, why)));
        let keys = inspection.kubernetes.needed_keys();
        findings.extend(keys.iter().map(|key| needs_key(&shown, key)));
        if let Some(signing) = &self.signing {
            let manifest = hashed(&artifact, taken.into(), proof).await?;
            let mut manifest = manifest.describing(input, inspection).compared(&compared);
            if !member.version.is_empty() {
                manifest.etcd = Some(member.version);
            }
            manifest.trial = trial.map(|level| level.to_string());
            manifest.locked_for = locked_for;
            manifest.nodes = nodes;
            manifest.keys_match = keys_match;
            manifest.keys_in_doubt = keys_in_doubt;
            manifest.forced = is_forced;
            let folder = artifact
                .path
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default();
            manifest.write(&folder, signing).await?;
            #[cfg(feature = "store")]
            if let Some(store) = &self.store {
                let trusted = [signing.public()];
                let told = progress(cx, STORED);
                store
                    .put(&artifact.path, &trusted, &cx.cancel, told)
                    .await?;
            }
        }
        let mut report = BackupReport::new(proof, vec![artifact])
            .of(cluster.clone(), taken)
            .with_kubernetes(input.model.oldest_api_server().cloned());
        report.findings = findings;
        Ok(report)
    }
}

/// A URL, or a tunnel, may lead to the etcd of another cluster: nobody shall take
/// that for a backup of `cluster`.
fn refuse_other_cluster(
    inspection: &Inspection,
    path: &Path,
    cluster: &ClusterId,
) -> Result<(), Error> {
    let whose = inspection.kubernetes.cluster.as_ref();
    match whose.filter(|whose| *whose != cluster.as_str()) {
        None => Ok(()),
        Some(whose) => Err(Error::OtherCluster {
            path: path.to_owned(),
            found: whose.clone(),
            cluster: cluster.as_str().to_owned(),
        }),
    }
}

/// The manifest of `artifact`, whose file is read where that does not hold up the
/// runtime, and is still what was written.
async fn hashed(
    artifact: &BackupArtifact,
    taken: jiff::Timestamp,
    proof: BackupProof,
) -> Result<Manifest, Error> {
    let path = artifact.path.clone();
    let manifest = off_the_runtime(move || Manifest::of(&path, taken, proof)).await?;
    match (manifest.bytes, &manifest.sha256) == (artifact.bytes, &artifact.sha256) {
        true => Ok(manifest),
        false => Err(Error::changed(&artifact.path, "what was written there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_signed_that_is_no_longer_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(&path, "sound").unwrap();
        let taken = "2026-11-29T00:00:00Z".parse().unwrap();
        let written = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
        let artifact = BackupArtifact::new(&path, written.bytes, written.sha256.clone());
        let hashed = async || hashed(&artifact, taken, BackupProof::Proven).await;
        assert_eq!(hashed().await.unwrap().sha256, written.sha256);
        // As long as that, and another.
        std::fs::write(&path, "souNd").unwrap();
        let error = hashed().await.unwrap_err();
        assert!(matches!(&error, Error::Changed { .. }), "{error}");
    }

    #[test]
    fn what_is_made_of_a_snapshot_is_known_before_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let backups = folder.path().join("backups");
        let step = |backups: &Path| {
            let snapshots = SnapshotBackup::new(Member::new("http://127.0.0.1:1"), backups);
            ProvenBackup::new(snapshots, Vec::new())
        };
        let copies = |step: ProvenBackup| {
            let copies = step.copies(step.source.folder()).into_iter();
            copies.map(|it| (it.folder, it.more)).collect::<Vec<_>>()
        };
        assert_eq!(copies(step(&backups)), []);
        let scratch = folder.path().join("scratch");
        let read_again = step(&backups).with_trial(&scratch, None);
        assert_eq!(copies(read_again), [(scratch.clone(), 0)]);
        let etcd = Some(PathBuf::from("etcd"));
        let booted = step(&backups).with_trial(&scratch, etcd);
        assert_eq!(copies(booted), [(scratch, LOGS)]);
        #[cfg(feature = "store")]
        {
            let place = folder.path().join("store");
            let key = Arc::new(SigningKey::from_seed(&[1; 32]).unwrap());
            let stored = step(&backups).stored(crate::Store::folder(&place).unwrap(), key);
            assert_eq!(copies(stored), [(place, 0)]);
        }
        #[cfg(feature = "seal")]
        {
            let lock = crate::Lock::for_keys([crate::KeyRing::generate().1]).unwrap();
            let sealed = step(&backups).sealed(Seal::new(lock));
            assert_eq!(copies(sealed), [(backups, 0)]);
        }
    }
}
