//! The end of a node's drain: what is missing, one more look, giving up.

use std::time::Duration;

use migrate_core::steps::{DrainFailureKind, DrainOutcome};
use migrate_core::{Blocked, BudgetKey, EventKind, Moment, Pod, PodId, WorkloadId};

use super::io::{Failure, Output, Seen};
use super::state::{PodState, Stage, Timer, backoff};
use super::{Drain, finding};

impl Drain {
    /// Ready pods that the workload has and needs, while it has too few.
    /// `without` leaves those of one node out of what is away.
    pub(super) fn lacking(&self, id: &WorkloadId, without: Option<&str>) -> Option<(u32, u32)> {
        let workload = self.view.workload(id)?;
        let baseline = self.baseline.get(id).copied().unwrap_or(0);
        let away: u32 = self
            .away
            .iter()
            .filter(|(node, _)| Some(node.as_str()) != without)
            .filter_map(|(_, tied)| tied.get(id))
            .sum();
        let needed = baseline.min(workload.replicas).saturating_sub(away);
        let ready = workload.ready.min(self.view.healthy(id));
        (ready < needed).then_some((ready, needed))
    }

    /// Workloads of the node that are less ready than before.
    fn unreplaced(&self, node: &str) -> Vec<(PodId, WorkloadId, u32, u32)> {
        let touched = self.nodes.get(node).map(|drain| &drain.touched);
        let touched = touched.into_iter().flatten();
        touched
            .filter_map(|(id, pod)| {
                let (ready, needed) = self.lacking(id, None)?;
                Some((pod.clone(), id.clone(), ready, needed))
            })
            .collect()
    }

    /// Attachments of volumes whose pods have left the node.
    fn still_attached(&self, node: &str) -> Vec<String> {
        let Some(drain) = self.nodes.get(node) else {
            return Vec::new();
        };
        let staying: Vec<String> = self
            .view
            .pods_on(node)
            .filter(|pod| !pod.is_finished())
            .flat_map(|pod| self.view.volumes_of(pod))
            .collect();
        let attached = self.view.attached_to(node).filter(|one| {
            one.volume.as_ref().is_some_and(|volume| {
                drain.left_volumes.contains(volume) && !staying.contains(volume)
            })
        });
        attached.map(|one| one.name.clone()).collect()
    }

    /// What the drain still waits for, in one line.
    fn left_to_do(&self, node: &str) -> Option<String> {
        let drain = self.nodes.get(node)?;
        let dry_run = self.options.dry_run;
        let left = drain.pods.values().filter(|record| match record.state {
            PodState::Candidate | PodState::Asked(_) => true,
            PodState::Staying | PodState::Answered { .. } => false,
            _ => !dry_run,
        });
        let left = left.count();
        if left > 0 {
            return Some(format!("{left} pods"));
        }
        if dry_run {
            return None;
        }
        let unreplaced = self.unreplaced(node);
        if let Some((_, workload, ready, needed)) = unreplaced.first() {
            let more = match unreplaced.len() - 1 {
                0 => String::new(),
                others => format!(", and {others} more workloads"),
            };
            return Some(format!("{workload}: {ready} of {needed} pods ready{more}"));
        }
        let attached = self.still_attached(node);
        if let Some(name) = attached.first() {
            return Some(format!(
                "{} volumes to be detached, e.g. {name}",
                attached.len()
            ));
        }
        let settled = drain
            .cordon
            .at
            .map_or(Moment::EPOCH, |at| at + self.options.settle);
        (settled > self.now).then(|| "pods that were being bound".to_owned())
    }

    /// Ends the drain if everything is done, after one more look.
    pub(super) fn conclude(&mut self, node: &str) {
        let unfinished = self.left_to_do(node);
        let done = unfinished.is_none();
        self.say_waiting(node, unfinished);
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        match (done, drain.stage) {
            (true, Stage::Draining) if self.options.dry_run => self.conclude_dry(node),
            // The node is not to be empty, so there is nothing to look for.
            (true, Stage::Draining) if drain.only.is_some() => {
                let evictions = drain.evictions;
                self.finish(node, DrainOutcome::Empty { evictions });
            }
            (true, Stage::Draining) if drain.retry.is_none_or(|at| at <= self.now) => {
                drain.stage = Stage::Looking;
                drain.retry = None;
                self.outputs.push_back(Output::Look {
                    node: node.to_owned(),
                });
            }
            (false, Stage::Looking) => drain.stage = Stage::Draining,
            _ => {}
        }
    }

    fn conclude_dry(&mut self, node: &str) {
        let Some(drain) = self.nodes.get(node) else {
            return;
        };
        let refused: Vec<String> = drain
            .pods
            .values()
            .filter(|record| record.state == PodState::Answered { yes: false })
            .map(|record| record.id.to_string())
            .collect();
        let evictions = drain.evictions;
        let outcome = if refused.is_empty() {
            DrainOutcome::Empty { evictions }
        } else {
            let all = refused.len() as u64 + u64::from(evictions);
            let reason = format!(
                "dry run: {} of {all} pods cannot go now: {}",
                refused.len(),
                refused.join(", ")
            );
            DrainOutcome::Failed {
                kind: DrainFailureKind::WouldRefuse,
                reason,
                retryable: true,
            }
        };
        self.finish(node, outcome);
    }

    pub(super) fn looked(&mut self, node: &str, pods: Result<Vec<Seen<Pod>>, Failure>) {
        let pods = match pods {
            Ok(pods) => pods,
            Err(failure) => return self.look_failed(node, &failure),
        };
        pods.into_iter().for_each(|seen| self.pod_seen(seen));
        let looking = self
            .nodes
            .get(node)
            .is_some_and(|d| d.stage == Stage::Looking);
        if looking && self.left_to_do(node).is_none() {
            let evictions = self.nodes.get(node).map_or(0, |d| d.evictions);
            self.finish(node, DrainOutcome::Empty { evictions });
        } else if let Some(drain) = self.nodes.get_mut(node).filter(|_| looking) {
            drain.stage = Stage::Draining;
        }
        self.dirty.insert(node.to_owned());
    }

    fn look_failed(&mut self, node: &str, failure: &Failure) {
        let now = self.now;
        let Some(drain) = self
            .nodes
            .get_mut(node)
            .filter(|d| d.stage == Stage::Looking)
        else {
            return;
        };
        if !failure.retryable {
            let reason = format!("list of its pods: {}", failure.reason);
            return self.fail(node, failure.kind, reason);
        }
        drain.look_failures += 1;
        drain.stage = Stage::Draining;
        let at = now + backoff(drain.look_failures);
        drain.retry = Some(at);
        self.timer(at, Timer::Node(node.to_owned()));
    }

    /// A deadline has passed: says who blocks, with counts and cure.
    pub(super) fn give_up(&mut self, node: &str) {
        let Some(drain) = self.nodes.get(node) else {
            return;
        };
        if !drain.is_open() {
            let silent = match drain.stage {
                Stage::New => "the first lists of the cluster's objects",
                _ => "the answer to its cordon",
            };
            let on = drain.waiting.on.as_deref().unwrap_or(silent);
            let reason = format!("it could not begin in time: waited for {on}");
            // One that waited for another node has had all of its time for that:
            // once more would take as long.
            let mut failure = Failure::passing(reason);
            failure.kind = DrainFailureKind::NotBegun;
            failure.retryable = drain.waiting.pods.is_empty();
            return self.end_failed(node, failure);
        }
        let remaining = drain.remaining();
        let mut blocked = drain.blocked();
        let mut findings: Vec<_> = blocked
            .iter()
            .map(|(pod, why)| finding::blocked(pod, why))
            .collect();
        for record in drain.pods.values() {
            match record.state {
                PodState::Finishing => findings.push(finding::job(&record.id)),
                PodState::Leaving => {
                    findings.extend(self.view.pod(&record.id.uid).map(finding::stuck));
                }
                _ => {}
            }
        }
        for (pod, workload, ready, needed) in self.unreplaced(node) {
            findings.push(finding::not_replaced(&workload, needed, ready));
            let mut missing = self.ledger.exhausted(BudgetKey::assumed(&workload));
            (missing.desired, missing.healthy) = (needed, ready);
            blocked.push((pod, missing));
        }
        let attached = self.still_attached(node);
        findings.extend(attached.iter().map(|name| finding::attached(name, node)));
        for finding in findings {
            self.event(EventKind::Found { finding });
        }
        self.finish(node, DrainOutcome::Deadline { blocked, remaining });
    }

    /// Ends the drain of a node that cannot be done.
    pub(super) fn fail(&mut self, node: &str, kind: DrainFailureKind, reason: impl Into<String>) {
        self.end_failed(node, Failure::permanent(kind, reason));
    }

    /// The same, for a reason that may pass.
    pub(super) fn end_failed(&mut self, node: &str, failure: Failure) {
        let Failure {
            reason,
            kind,
            retryable,
        } = failure;
        self.finish(
            node,
            DrainOutcome::Failed {
                kind,
                reason,
                retryable,
            },
        );
    }

    /// The machine that was to be drained is not there any more. That empties
    /// nothing: who has its name by now was neither cordoned nor looked at.
    pub(super) fn lost(&mut self, node: &str) {
        let Some(drain) = self.nodes.get(node) else {
            return;
        };
        let evictions = drain.evictions;
        let asked = drain.stage != Stage::New && !self.options.dry_run;
        self.away.remove(node);
        if asked {
            // A cordon goes by name, and may have reached the next machine.
            self.outputs.push_back(Output::RestoreCordon {
                node: node.to_owned(),
            });
        }
        self.finish(node, DrainOutcome::NodeGone { evictions });
    }

    // Telling.

    pub(super) fn say_waiting(&mut self, node: &str, on: Option<String>) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        if drain.waiting.on == on {
            return;
        }
        drain.waiting.on.clone_from(&on);
        if let Some(on) = on {
            self.event(EventKind::Waiting {
                target: node.to_owned(),
                on,
            });
        }
    }

    pub(super) fn report_waiting(&mut self, node: &str) {
        let now = self.now;
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        let pods: Vec<(PodId, Blocked)> = drain.blocked();
        if pods == drain.waiting.pods {
            return;
        }
        let next = drain.waiting.at.map(|at| at + Duration::from_secs(1));
        if let Some(next) = next.filter(|next| *next > now) {
            self.timer(next, Timer::Node(node.to_owned()));
            return;
        }
        drain.waiting.at = Some(now);
        drain.waiting.pods.clone_from(&pods);
        self.outputs.push_back(Output::Waiting {
            node: node.to_owned(),
            pods,
        });
    }
}
