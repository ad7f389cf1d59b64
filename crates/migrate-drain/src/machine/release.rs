//! Giving a node back: its original cordon, then the pods only it can host.

use std::collections::BTreeSet;

use migrate_core::steps::{DrainEvent, DrainFailure, DrainFailureKind};
use migrate_core::{EventKind, WorkloadId};

use super::Drain;
use super::io::{Failure, Output};
use super::state::{Release, Timer, backoff};

impl Drain {
    pub(super) fn release(&mut self, node: String) {
        if self.releases.contains_key(&node) {
            return;
        }
        self.leave_move(&node, "it is given back");
        if self.nodes.contains_key(&node) {
            let mut failure = Failure::passing("it was given back during its drain");
            failure.kind = DrainFailureKind::Overtaken;
            self.end_failed(&node, failure);
        }
        let deadline = self.now + self.options.release_deadline;
        self.timer(deadline, Timer::Release(node.clone()));
        let mut awaited: BTreeSet<WorkloadId> = self
            .away
            .get(&node)
            .into_iter()
            .flat_map(|tied| tied.keys().cloned())
            .collect();
        for (_, workload) in self.tied_before.get(&node).into_iter().flatten() {
            let before = self.ready_before.get(workload).copied().unwrap_or(0);
            self.baseline.entry(workload.clone()).or_insert(before);
            awaited.insert(workload.clone());
        }
        let release = Release {
            deadline,
            failures: 0,
            retry: None,
            restored: None,
            awaited,
        };
        self.releases.insert(node.clone(), release);
        if self.options.dry_run {
            self.restored(&node, false);
        } else {
            self.outputs.push_back(Output::RestoreCordon { node });
        }
    }

    pub(super) fn restored(&mut self, node: &str, still_cordoned: bool) {
        let Some(release) = self.releases.get_mut(node) else {
            return;
        };
        if release.restored.replace(still_cordoned).is_some() {
            return;
        }
        self.dirty.insert(node.to_owned());
        if !self.options.dry_run {
            self.event(EventKind::Uncordoned {
                node: node.to_owned(),
                still_cordoned,
            });
        }
    }

    pub(super) fn restore_failed(&mut self, node: &str, failure: &Failure) {
        let now = self.now;
        let Some(release) = self.releases.get_mut(node) else {
            return;
        };
        if failure.is_absence() {
            return self.release_gone(node);
        }
        if !failure.retryable {
            let reason = format!("its cordon is still ours: {}", failure.reason);
            return self.fail_release(node, failure.kind, reason);
        }
        release.failures += 1;
        let at = now + backoff(release.failures);
        release.retry = Some(at);
        self.timer(at, Timer::Release(node.to_owned()));
    }

    /// The node went away: what only it could host does not come back.
    pub(super) fn release_gone(&mut self, node: &str) {
        match self.missing(node) {
            None => self.end_release(node, None),
            Some((workload, _)) => {
                let reason = format!("the node is gone, and only it could host pods of {workload}");
                self.fail_release(node, DrainFailureKind::NoSuchNode, reason);
            }
        }
    }

    /// Looks at a node that is being given back.
    pub(super) fn review_release(&mut self, node: &str) {
        let Some(release) = self.releases.get_mut(node) else {
            return;
        };
        let late = release.deadline <= self.now;
        let Some(still_cordoned) = release.restored else {
            if late {
                let reason = "its cordon could not be given back in time";
                self.fail_release(node, DrainFailureKind::Unavailable, reason);
            } else if release.retry.take_if(|at| *at <= self.now).is_some() {
                self.outputs.push_back(Output::RestoreCordon {
                    node: node.to_owned(),
                });
            }
            return;
        };
        if self.options.dry_run {
            return self.end_release(node, None);
        }
        let blind = self.blind.is_some();
        match self.missing(node) {
            None => self.end_release(node, None),
            Some((workload, counts)) if still_cordoned => {
                let reason = format!(
                    "someone else keeps it cordoned, and only it can host pods of {workload} \
                     ({counts}): lift that cordon"
                );
                self.fail_release(node, DrainFailureKind::CordonKept, reason);
            }
            Some((workload, counts)) if late || blind => {
                let reason = format!("{workload}, which only it can host, is not back: {counts}");
                self.fail_release(node, DrainFailureKind::NotBack, reason);
            }
            Some(_) => {}
        }
    }

    /// The first awaited workload that is not back, with its counts.
    fn missing(&self, node: &str) -> Option<(WorkloadId, String)> {
        let awaited = &self.releases.get(node)?.awaited;
        awaited.iter().find_map(|id| {
            let (ready, needed) = self.lacking(id, Some(node))?;
            Some((id.clone(), format!("{ready} of {needed} pods ready")))
        })
    }

    pub(super) fn fail_release(
        &mut self,
        node: &str,
        kind: DrainFailureKind,
        reason: impl Into<String>,
    ) {
        self.end_release(node, Some(DrainFailure::new(kind, reason)));
    }

    fn end_release(&mut self, node: &str, error: Option<DrainFailure>) {
        let Some(release) = self.releases.remove(node) else {
            return;
        };
        self.away.remove(node);
        if error.is_none() && !self.options.dry_run {
            for workload in &release.awaited {
                self.event(EventKind::WorkloadRecovered {
                    workload: workload.clone(),
                });
            }
        }
        for id in &release.awaited {
            let elsewhere = self
                .nodes
                .values()
                .any(|drain| drain.touched.contains_key(id))
                || self.away.values().any(|tied| tied.contains_key(id));
            if !elsewhere {
                self.baseline.remove(id);
            }
        }
        // More is needed of these workloads now that nothing excuses them.
        self.dirty.extend(self.nodes.keys().cloned());
        self.outputs.push_back(Output::Done(DrainEvent::Released {
            node: node.to_owned(),
            error,
        }));
    }
}
