//! Why an executor cannot go on.

use std::io;
use std::time::Duration;

use migrate_core::{ClusterId, KubeVersion, StepError};

use crate::report::api_older;

/// An error of opening or stepping an executor.
///
/// An error is never the end of a run: the journal is as it was, and the run
/// can be opened again once the cause is cured. What ends a run is a
/// [`Stop`](crate::Stop), which is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster did not answer, or refused.
    #[error("{0}")]
    Cluster(#[from] StepError),

    /// The API server did not answer, and an unfinished run is to go on.
    #[error(
        "{source}; asked for {} s, to go on with run {run} of journal {place}, which is as it was: {}",
        waited.as_secs(),
        away_cure(member.as_deref())
    )]
    ApiAway {
        /// The journal.
        place: String,
        /// The run in it.
        run: String,
        /// How long the last call was asked again, see
        /// [`Setup::patience`](crate::Setup::patience).
        waited: Duration,
        /// The only control-plane member, or its node, if its upgrade was begun and it
        /// is not verified: that may have left no API server.
        member: Option<String>,
        /// What the last attempt said.
        #[source]
        source: Box<StepError>,
    },

    /// The plan and the model do not fit together.
    #[error("the plan cannot be run: {0}")]
    Plan(#[from] migrate_plan::Error),

    /// A change was asked about that is nothing for a run that goes on.
    #[error(transparent)]
    WhatIf(migrate_plan::Error),

    /// The journal belongs to another cluster.
    #[error(
        "journal {place} is of run {run} on cluster {journal}, but this is cluster {cluster}; \
         use the kubeconfig of that cluster, or another journal"
    )]
    OtherCluster {
        /// The journal.
        place: String,
        /// The run it is of.
        run: String,
        /// The cluster it is for.
        journal: ClusterId,
        /// The cluster we are talking to.
        cluster: ClusterId,
    },

    /// The plan was made for another cluster.
    #[error("plan {plan} is for cluster {planned}, but this is cluster {cluster}; plan again")]
    PlanForOtherCluster {
        /// The plan.
        plan: String,
        /// The cluster it is for.
        planned: ClusterId,
        /// The cluster we are talking to.
        cluster: ClusterId,
    },

    /// The cluster is in the middle of a run whose journal is not the one given.
    #[error(
        "the cluster is in the middle of run {run}, whose journal is {journal}, not {place}; \
         give that journal, or adopt the run if it is lost"
    )]
    OtherRun {
        /// The run the cluster names.
        run: String,
        /// The journal the cluster names.
        journal: String,
        /// The journal given.
        place: String,
    },

    /// Another runner holds the run.
    #[error(
        "the Lease kube-system/kube-migrate is held by {holder}, which has not let go of it; stop \
         that runner, then adopt its run"
    )]
    Held {
        /// Its journal, `host:path`.
        holder: String,
    },

    /// The API is older than the run, as after a restore of a backup.
    #[error("journal {place}, run {run}: {}", api_older(*taken, *found))]
    ApiOlder {
        /// The journal.
        place: String,
        /// The run in it.
        run: String,
        /// The epoch that the run has taken.
        taken: u64,
        /// The epoch that the cluster is at.
        found: u64,
    },

    /// A run with another target has not ended.
    #[error(
        "journal {place} is of run {run} to {journal}, which has not ended, and the plan given \
         goes to {given}; finish that run first, or adopt it to go on with the new plan"
    )]
    OtherTarget {
        /// The journal.
        place: String,
        /// The run in it.
        run: String,
        /// Its target.
        journal: Box<KubeVersion>,
        /// The target of the plan given.
        given: Box<KubeVersion>,
    },

    /// The policy is not the one an unfinished run began with.
    #[error(
        "journal {place} is of run {run}, which began with policy {journal}, and the policy \
         given is {given}; go on with the old one, or adopt the run to go on with the new one"
    )]
    OtherPolicy {
        /// The journal.
        place: String,
        /// The run in it.
        run: String,
        /// Hash of its policy.
        journal: String,
        /// Hash of the policy given.
        given: String,
    },

    /// The plan upgrades addons, and nothing was given that does.
    #[error(
        "the plan upgrades addon {addon}, and nothing that upgrades addons was given; compose the \
         steps with one (Migration::with_addons), or take it out of the policy"
    )]
    NoAddonDriver {
        /// The first of them.
        addon: String,
    },

    /// The plan has a pool with surge, and nothing here makes machines.
    #[error(
        "the plan lets pool {pool} have {surge} machines more than nodes (pools.max-surge), and no \
         driver of this release makes any: its nodes are changed in place; set \
         pools.max-surge-of.{pool} = 0 and plan again, or, for the room, add nodes to the pool by \
         hand and as many to its max-unavailable"
    )]
    NoSurge {
        /// The first of them.
        pool: String,
        /// How many it may have.
        surge: u32,
    },

    /// There is no unfinished run to be ended.
    #[error("journal {place} holds no unfinished run; there is nothing to abort")]
    NothingToAbort {
        /// The journal.
        place: String,
    },

    /// There is neither a plan nor an unfinished run.
    #[error("journal {place} holds no unfinished run, and no plan was given; make a plan first")]
    NothingPlanned {
        /// The journal.
        place: String,
    },

    /// The journal says something that this program would not have done.
    #[error(
        "journal {place}, entry {seq}: {found}, where this program expects {expected}; \
         go on with the release that wrote it"
    )]
    Replay {
        /// The journal.
        place: String,
        /// Number of the entry.
        seq: u64,
        /// What this program expects there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// Another process on this machine holds the journal.
    #[error("journal {place} is held by another runner on this machine; wait for it to end")]
    JournalLocked {
        /// The journal.
        place: String,
    },

    /// A line before the last is damaged.
    #[error(
        "journal {place} is damaged in line {line} (byte {offset}); restore the file from a copy, \
         or adopt the run with a new journal"
    )]
    JournalDamaged {
        /// The journal.
        place: String,
        /// The line, from 1.
        line: u64,
        /// Where it begins, from 0.
        offset: u64,
    },

    /// A line is whole but not understood.
    #[error(
        "journal {place}, line {line} is not understood ({source}); go on with the release that \
         wrote it"
    )]
    JournalUnreadable {
        /// The journal.
        place: String,
        /// The line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },

    /// The journal was written by a newer release.
    #[error(
        "journal {place} has schema {found}, this program knows schemas up to {known}; go on with \
         the release that wrote it"
    )]
    JournalNewer {
        /// The journal.
        place: String,
        /// Its schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },

    /// The file is no journal. It was left as it is.
    #[error("{place} is not a journal; name another file")]
    JournalForeign {
        /// The file.
        place: String,
    },

    /// An entry came out of order: somebody else appends to the journal.
    #[error("journal {place} is at entry {expected} and was given entry {found}; open it again")]
    JournalOrder {
        /// The journal.
        place: String,
        /// The next entry's number.
        expected: u64,
        /// The number given.
        found: u64,
    },

    /// The journal could not be read or written. Nothing was begun.
    #[error("cannot {doing} journal {place}: {source}; {}", io_cure(.source))]
    JournalIo {
        /// The journal.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A runner that is new begins nothing without an API server: it has no epoch of its own.
fn away_cure(member: Option<&str>) -> String {
    match member {
        None => "open it again once the API server answers".to_owned(),
        Some(member) => format!(
            "{member}, the only control-plane member, was being upgraded, and what was left half \
             done may be why. See there which static pod does not run, bring it back by hand \
             (docs/kubeadm.md, \"A manifest that was lost\"), then open it again"
        ),
    }
}

fn io_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make its folder, or name another file",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let this user write there, or name another file"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, then go on",
        _ => "cure that, then open it again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_cannot_be_kept_is_named_with_the_cure() {
        for (kind, cure) in [
            (io::ErrorKind::NotFound, "make its folder"),
            (io::ErrorKind::PermissionDenied, "let this user write there"),
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::Other, "cure that"),
        ] {
            let error = Error::JournalIo {
                place: "/var/run.journal".to_owned(),
                doing: "append to",
                source: kind.into(),
            };
            let text = error.to_string();
            let begin = "cannot append to journal /var/run.journal: ";
            assert!(text.starts_with(begin) && text.contains(cure), "{text}");
        }
    }
}
