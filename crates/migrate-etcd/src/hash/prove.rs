//! Compares a file with the live members.

use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;

use crate::bolt::Database;
use crate::{Error, Inspection, Member, ReadError, SnapshotBackup};

/// Snapshots that are taken before [`SnapshotBackup::save_proven`] gives up. An
/// API server compacts every five minutes, so that a second one is rare.
const SNAPSHOTS: usize = 3;

/// How often a member that is behind is asked again.
const BEHIND: Duration = Duration::from_millis(100);

/// Members that have to agree, where there are as many.
const ENOUGH: usize = 2;

/// etcd's words for a revision that is compacted, or that is yet to come: its
/// `rpctypes`, which has the same code for both.
const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";

/// That a file equals live members.
///
/// It covers keys, values and their revisions. Leases, users and members of etcd
/// are in no hash of etcd: they rest on the SHA-256 of the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proof {
    /// What is in the file.
    pub inspection: Inspection,
    /// Endpoints of the members that have the same hash at the file's revision.
    /// One only where only one was given.
    pub members: Vec<String>,
    /// Endpoints of members that did not answer, and what became of them.
    pub silent: Vec<(String, String)>,
}

/// A snapshot that equals live members.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proven {
    /// The file.
    pub artifact: BackupArtifact,
    /// What it was compared with.
    pub proof: Proof,
    /// Snapshots it took.
    pub snapshots: usize,
}

/// Checks a file as [`crate::inspect`] does, and compares it with `members`: the
/// hash of its keys with the hash that each of them has at the file's revision.
///
/// At least two of them have to answer, or the one that is given, each within
/// `stall`; every answer must be equal. Do it right after the save: members
/// forget revisions when they are compacted.
///
/// # Errors
/// [`Error::Damaged`] for a file that is not sound, [`Error::NotEqual`],
/// [`Error::Compacted`], and [`Error::TooFewMembers`].
pub async fn prove(path: &Path, members: &[Member], stall: Duration) -> Result<Proof, Error> {
    let inspection = read(path, |database| database.inspect()).await?;
    let revision = inspection.revision;
    let mut asked = Vec::new();
    let mut silent = Vec::new();
    for member in members {
        match ask(member, revision, stall).await {
            Ok(answer) => asked.push((&member.endpoint, answer)),
            Err(error @ Error::Compacted { .. }) => return Err(error),
            Err(error) => silent.push((member.endpoint.clone(), error.to_string())),
        }
    }
    if asked.len() < ENOUGH.min(members.len()).max(1) {
        return Err(Error::TooFewMembers {
            path: path.to_owned(),
            answered: asked.len(),
            silent: silent.into_iter().map(|(_, why)| why).collect(),
        });
    }
    let mut known = std::collections::BTreeMap::new();
    let mut equal = Vec::new();
    for (endpoint, answer) in asked {
        let compacted = answer.compact_revision;
        let hash = match known.get(&compacted) {
            Some(hash) => *hash,
            None => read(path, move |database| database.hash_kv(revision, compacted)).await?,
        };
        known.insert(compacted, hash);
        if hash != answer.hash {
            return Err(Error::NotEqual {
                path: path.to_owned(),
                endpoint: endpoint.clone(),
                revision,
            });
        }
        equal.push(endpoint.clone());
    }
    Ok(Proof {
        inspection,
        members: equal,
        silent,
    })
}

impl SnapshotBackup {
    /// Saves a snapshot as `name` and proves it equal to `members`, as [`prove`]
    /// does. Where members were compacted meanwhile another one is taken, three in
    /// all at most.
    ///
    /// # Errors
    /// Those of [`SnapshotBackup::save`] and of [`prove`]; every one leaves no file
    /// of the name. A cancellation is heeded as in `save`, and before the proof.
    pub async fn save_proven(
        &self,
        name: &str,
        members: &[Member],
        cancel: &Cancellation,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Proven, Error> {
        let mut snapshots = 0;
        loop {
            snapshots += 1;
            let artifact = self.save(name, cancel, &mut progress).await?;
            let mut unproven = Unproven(Some(artifact.path.clone()));
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match prove(&artifact.path, members, self.stall()).await {
                Ok(proof) => {
                    unproven.0 = None;
                    return Ok(Proven {
                        artifact,
                        proof,
                        snapshots,
                    });
                }
                Err(Error::Compacted { .. }) if snapshots < SNAPSHOTS => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A file that goes with this, also where the future of a proof is dropped.
struct Unproven(Option<PathBuf>);

impl Drop for Unproven {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What fails leaves a file that is complete, but not proven.
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Answer {
    hash: u32,
    compact_revision: i64,
}

async fn ask(member: &Member, revision: i64, stall: Duration) -> Result<Answer, Error> {
    let endpoint = &member.endpoint;
    let asking = async {
        let mut client = member.connect(stall).await?;
        loop {
            match client.hash_kv(revision).await {
                Ok(reply) => {
                    return Ok(Answer {
                        hash: reply.hash(),
                        compact_revision: reply.compact_version(),
                    });
                }
                Err(error) if says(&error, COMPACTED) => {
                    return Err(Error::Compacted {
                        endpoint: endpoint.clone(),
                        revision,
                    });
                }
                // It is behind the member that the file is of.
                Err(error) if says(&error, FUTURE) => tokio::time::sleep(BEHIND).await,
                Err(error) => return Err(Error::etcd(endpoint, 0, error)),
            }
        }
    };
    match tokio::time::timeout(stall, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Stalled {
            endpoint: endpoint.clone(),
            bytes: 0,
            stall,
        }),
    }
}

fn says(error: &etcd_client::Error, words: &str) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains(words))
}

/// Reads the file where it does not hold up the runtime.
async fn read<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Database) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Error> {
    let open = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || work(&Database::open(&open)?));
    match reading.await {
        Ok(result) => Ok(result?),
        // The runtime is shutting down.
        Err(_) => Err(Error::Cancelled),
    }
}
