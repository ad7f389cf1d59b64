//! Compares a file with the live members.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use tokio::time::Instant;

use crate::blocking::off_the_runtime;
use crate::bolt::{Database, Told};
use crate::cancelled::unless_cancelled;
use crate::inspect::inspect_told;
use crate::snapshot::{BEHIND, Received};
use crate::{Error, Inspection, Member, MemberRecord, ReadError, SnapshotBackup};

/// Snapshots that are taken before [`SnapshotBackup::save_proven`] gives up. An
/// API server compacts every five minutes, so that a second one is rare.
const SNAPSHOTS: usize = 3;

/// What a snapshot and its comparison may take if another one is to be worth it: after twice
/// the time between two compactions what it has is compacted in any case.
const WORTH_IT: Duration = Duration::from_secs(600);

/// Voting members that have to agree, where the cluster has as many.
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
    /// Endpoints of the voting members that have the same hash at the file's revision,
    /// each member once: by the id that it answers with, not by what it is called.
    pub members: Vec<String>,
    /// These members as the file has them, in the same order.
    pub compared: Vec<MemberRecord>,
    /// Endpoints that were not compared, and why: what became of members that did
    /// not answer, and whose answer does not count.
    pub silent: Vec<(String, String)>,
}

impl Proof {
    /// Voting members of the cluster, as the file has them.
    pub fn voters(&self) -> usize {
        voters(&self.inspection).count()
    }

    /// Whether as many members agree as have to: two of them, or the only one that
    /// the cluster has.
    pub fn is_enough(&self) -> bool {
        self.compared.len() >= ENOUGH.min(self.voters()).max(1)
    }

    pub(crate) fn too_few(&self, path: &Path) -> Error {
        Error::TooFewMembers {
            path: path.to_owned(),
            answered: self.compared.len(),
            voters: self.voters(),
            silent: self.silent.iter().map(|(_, why)| why.clone()).collect(),
        }
    }
}

fn voters(inspection: &Inspection) -> impl Iterator<Item = &MemberRecord> {
    let members = inspection.members.iter();
    members.filter(|member| !member.is_learner)
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
/// Two of the voting members that the file tells of have to answer, or the only one
/// that there is, each within `stall`; every answer must be equal. A member that
/// answers at two endpoints is one, and one that the file does not know is none. Do it
/// right after the save: members forget revisions when they are compacted.
///
/// # Errors
/// [`Error::Damaged`] for a file that is not sound, [`Error::NotEqual`],
/// [`Error::Compacted`], and [`Error::TooFewMembers`].
pub async fn prove(path: &Path, members: &[Member], stall: Duration) -> Result<Proof, Error> {
    proven(path, members, stall, None).await
}

/// As [`prove`]; `progress` hears bytes read and bytes in all, as with
/// [`inspect_with`](crate::inspect_with), before the members are asked.
///
/// # Errors
/// As [`prove`].
pub async fn prove_with(
    path: &Path,
    members: &[Member],
    stall: Duration,
    progress: impl Fn(u64, u64) + Send + Sync + 'static,
) -> Result<Proof, Error> {
    proven(path, members, stall, Some(Told::new(progress))).await
}

async fn proven(
    path: &Path,
    members: &[Member],
    stall: Duration,
    told: Option<Told>,
) -> Result<Proof, Error> {
    let proof = compared(path, members, stall, &Cancellation::new(), told).await?;
    match proof.is_enough() {
        true => Ok(proof),
        false => Err(proof.too_few(path)),
    }
}

/// As [`prove`], with however many members there are; reads no further than to the next page
/// once `cancel` says so.
async fn compared(
    path: &Path,
    members: &[Member],
    stall: Duration,
    cancel: &Cancellation,
    told: Option<Told>,
) -> Result<Proof, Error> {
    let inspection = read(path, cancel, |database| inspect_told(database, told)).await?;
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
    let mut known = BTreeMap::new();
    let mut equal: Vec<(Whose, &String, MemberRecord)> = Vec::new();
    for (endpoint, answer) in asked {
        let compacted = answer.compact_revision;
        let hash = match known.get(&compacted) {
            Some(hash) => *hash,
            None => {
                let hash = move |database: Database| database.hash_kv(revision, compacted);
                read(path, cancel, hash).await?
            }
        };
        known.insert(compacted, hash);
        if hash != answer.hash {
            return Err(Error::NotEqual {
                path: path.to_owned(),
                endpoint: endpoint.clone(),
                revision,
            });
        }
        let whose = answer.whose;
        if equal.iter().any(|(one, ..)| *one == whose) {
            continue;
        }
        let id = format!("{:x}", whose.member);
        let cluster = equal.first().map(|(one, ..)| one.cluster);
        match voters(&inspection).find(|voter| voter.id == id) {
            Some(voter) if cluster.is_none_or(|cluster| cluster == whose.cluster) => {
                equal.push((whose, endpoint, voter.clone()));
            }
            _ => {
                let why = format!("{endpoint}: is no voting member that the snapshot tells of");
                silent.push((endpoint.clone(), why));
            }
        }
    }
    let (members, compared) = equal
        .into_iter()
        .map(|(_, endpoint, record)| (endpoint.clone(), record))
        .unzip();
    Ok(Proof {
        inspection,
        members,
        compared,
        silent,
    })
}

impl SnapshotBackup {
    /// Saves a snapshot as `name` and proves it equal to `members`, as [`prove`]
    /// does. Where members were compacted meanwhile another one is taken, three in
    /// all at most, and none after one that took ten minutes: API servers compact every five,
    /// and [`Error::Compacted`] says how long the last one took.
    ///
    /// Nothing is missing in it that any of `members` had when it began: they are asked
    /// for their revisions first, and the member that it is taken of is waited for,
    /// until the stall limit. A member that does not answer then cannot be known to
    /// have more.
    ///
    /// # Errors
    /// Those of [`SnapshotBackup::save`] and of [`prove`], [`Error::Behind`], and
    /// [`Error::MemberUnfit`] for one that is forced, which proves nothing; every
    /// one leaves no file of the name. A cancellation is heeded as in `save`, and until the
    /// end of the proof.
    pub async fn save_proven(
        &self,
        name: &str,
        members: &[Member],
        cancel: &Cancellation,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Proven, Error> {
        if self.is_forced() {
            return Err(Error::MemberUnfit {
                endpoint: self.endpoint().to_owned(),
                reason: "is to be saved by force, and what is forced proves nothing: save it \
                         without a proof"
                    .to_owned(),
            });
        }
        let told = |phase: Phase, done: u64, of: u64| {
            if phase == Phase::Saves {
                progress(done, of);
            }
        };
        let saved = self.save_compared(name, members, cancel, told).await?;
        if !saved.proof.is_enough() {
            return Err(saved.proof.too_few(saved.snapshot.path()));
        }
        Ok(Proven {
            artifact: saved.snapshot.commit().await?,
            proof: saved.proof,
            snapshots: saved.snapshots,
        })
    }

    /// As [`save_proven`](Self::save_proven), with however many members agree; one
    /// does at least, unless it is forced: then there may be nobody. It has no name yet.
    pub(crate) async fn save_compared(
        &self,
        name: &str,
        members: &[Member],
        cancel: &Cancellation,
        mut told: impl FnMut(Phase, u64, u64) + Send,
    ) -> Result<Compared, Error> {
        let mut snapshots = 0;
        loop {
            snapshots += 1;
            let begun = Instant::now();
            let saves = |done, of| told(Phase::Saves, done, of);
            let received = self.receive(members, name, cancel, saves);
            let snapshot = received.await?;
            let received = begun.elapsed();
            let unnamed = snapshot.unnamed();
            told(Phase::Proves, 0, unnamed.bytes);
            let compared = compared(&unnamed.path, members, self.stall(), cancel, None);
            match unless_cancelled(cancel, compared).await {
                Ok(proof) if proof.compared.is_empty() && !self.is_forced() => {
                    return Err(proof.too_few(snapshot.path()));
                }
                Ok(proof) if proof.inspection.revision < snapshot.newest.revision => {
                    let newest = snapshot.newest.clone();
                    return Err(newest.than(self.endpoint(), proof.inspection.revision));
                }
                Ok(proof) => {
                    told(Phase::Proves, unnamed.bytes, unnamed.bytes);
                    return Ok(Compared {
                        snapshot,
                        proof,
                        snapshots,
                        is_forced: self.is_forced(),
                    });
                }
                Err(Error::Compacted {
                    endpoint, revision, ..
                }) => {
                    let took = begun.elapsed();
                    if !is_worth_another(snapshots, took) {
                        return Err(Error::Compacted {
                            endpoint,
                            revision,
                            took: Some(took),
                            received: Some(received),
                        });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether after so many snapshots, of which the last took so long, another one may be quick
/// enough.
fn is_worth_another(snapshots: usize, took: Duration) -> bool {
    snapshots < SNAPSHOTS && took < WORTH_IT
}

/// What is done to a snapshot, one after the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Saves,
    Proves,
}

/// A snapshot that was compared with members, and gets its name only when it is kept.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) snapshot: Received,
    pub(crate) proof: Proof,
    snapshots: usize,
    /// It proves nothing, whoever agrees.
    pub(crate) is_forced: bool,
}

struct Answer {
    whose: Whose,
    hash: u32,
    compact_revision: i64,
}

/// By which a member is known, at whatever endpoint.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Whose {
    cluster: u64,
    member: u64,
}

async fn ask(member: &Member, revision: i64, stall: Duration) -> Result<Answer, Error> {
    let endpoint = &member.endpoint;
    let asking = async {
        let mut client = member.connect(stall).await?;
        loop {
            match client.hash_kv(revision).await {
                Ok(reply) => {
                    let header = reply.header();
                    return Ok(Answer {
                        whose: Whose {
                            cluster: header.map_or(0, |header| header.cluster_id()),
                            member: header.map_or(0, |header| header.member_id()),
                        },
                        hash: reply.hash(),
                        compact_revision: reply.compact_version(),
                    });
                }
                Err(error) if says(&error, COMPACTED) => {
                    return Err(Error::Compacted {
                        endpoint: endpoint.clone(),
                        revision,
                        took: None,
                        received: None,
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

/// Reads the file where it does not hold up the runtime; no further than to its next page
/// once `cancel` says so.
async fn read<T: Send + 'static>(
    path: &Path,
    cancel: &Cancellation,
    work: impl FnOnce(Database) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Error> {
    let (open, cancel) = (path.to_owned(), cancel.clone());
    off_the_runtime(move || Ok(work(Database::open(&open)?.until(&cancel))?)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot that takes longer than what it has lives is as late the next time.
    #[test]
    fn no_other_snapshot_is_taken_where_it_would_be_as_late() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert!(is_worth_another(1, minutes(0)) && is_worth_another(2, minutes(7)));
        assert!(!is_worth_another(3, minutes(0)));
        assert!(!is_worth_another(1, minutes(11)));
    }
}
