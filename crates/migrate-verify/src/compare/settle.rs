//! Whether the cluster has settled after a part of its control plane came back.
//!
//! Times compared here are of the cluster's clocks: the API's, those of the
//! holders of Leases and of the control-plane nodes. Two of them may differ by
//! what their time service allows; a kubelet whose Lease looked expired in the
//! baseline is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::steps::{Baseline, BaselineLease, BaselineRollout};
use migrate_core::{ObjectName, WorkloadId};

use super::{Comparison, RETRY_AFTER};
use crate::signals::SYSTEM;

/// How long the control plane has to be up before anything follows.
///
/// Agents that lost the API wait before they ask again, twice as long each
/// time up to 30 s and up to as much again at random. Their heartbeat may be
/// back while the watch that tells them of pods is not; nothing in the API
/// shows when it is. After this time the longest wait is over.
pub const SETTLE: Duration = Duration::from_secs(60);

const QUIET: &str = "KM-VERIFY-012";

impl Comparison<'_> {
    /// The cluster has settled after the part of the control plane on `node`
    /// changed.
    pub(super) fn settled(&mut self, node: &str) {
        let in_flight = self.in_flight(node);
        self.quiet();
        self.leaders();
        self.agents();
        self.rollouts(&in_flight);
        for (name, before) in &self.before.nodes {
            let now = self.now.nodes.get(name);
            if let Some(now) = now.filter(|_| name != node && !in_flight.contains(name)) {
                self.daemons(name, before, now, is_system);
            }
        }
    }

    /// Nodes but `node` that were cordoned since the baseline: whoever works
    /// on them verifies them.
    fn in_flight(&self, node: &str) -> BTreeSet<String> {
        let was = |name: &String| {
            let before = self.before.nodes.get(name);
            before.is_some_and(|before| before.unschedulable)
        };
        let nodes = self.now.nodes.iter();
        nodes
            .filter(|(name, now)| *name != node && now.unschedulable && !was(name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn quiet(&mut self) {
        let (Some(now), Some(since)) = (self.now.server_time, self.now.control_plane_since) else {
            return;
        };
        if now.since(since) < SETTLE {
            let evidence = format!(
                "its last part came back at {since}; agents may hold back until {}",
                since + SETTLE
            );
            self.miss(
                QUIET,
                ObjectName::cluster("ControlPlane", "all members"),
                evidence,
                "wait; if the time never comes, compare the clocks of the control-plane nodes",
            );
        }
    }

    /// When to look again: where only the quiet is missing, at its end.
    pub(super) fn retry_after(&self) -> Duration {
        let only_quiet = self.missing.iter().all(|it| it.code == QUIET);
        match (self.now.server_time, self.now.control_plane_since) {
            (Some(now), Some(since)) if only_quiet => {
                // Its clock has whole seconds, and may be behind.
                let left = (since + SETTLE).since(now).min(SETTLE);
                left.max(RETRY_AFTER)
            }
            _ => RETRY_AFTER,
        }
    }

    /// How far rollouts are that are waited for.
    pub(super) fn progress(&self) -> u64 {
        match self.is_rolling {
            true => self.updated,
            false => 0,
        }
    }

    fn leaders(&mut self) {
        for (name, before) in &self.before.leaders {
            let now = self.now.leaders.get(name);
            if let Some(evidence) = self.not_renewed(before, now) {
                self.miss(
                    "KM-VERIFY-009",
                    ObjectName::namespaced("Lease", SYSTEM, name),
                    evidence,
                    "look at the static pods and logs of that component",
                );
            }
        }
    }

    fn agents(&mut self) {
        for (name, before) in &self.before.nodes {
            let now = self.now.nodes.get(name).filter(|now| now.ready);
            let (Some(before), Some(now)) = (&before.lease, now) else {
                continue;
            };
            if let Some(evidence) = self.not_renewed(before, now.lease.as_ref()) {
                self.miss(
                    "KM-VERIFY-011",
                    ObjectName::namespaced("Lease", "kube-node-lease", name),
                    evidence,
                    "look at the kubelet's log on the node and at its way to the API",
                );
            }
        }
    }

    /// What speaks against a Lease that was live in the baseline. A renewal
    /// from before the control plane came back proves nothing: a leader that
    /// was ended leaves a Lease that is good for seconds more.
    fn not_renewed(&self, before: &BaselineLease, now: Option<&BaselineLease>) -> Option<String> {
        if !before.is_live(self.before.server_time?) {
            return None;
        }
        let Some(lease) = now else {
            return Some("it was there before and cannot be seen".to_owned());
        };
        let since = self.now.control_plane_since.max(Some(before.renewed));
        if Some(lease.renewed) <= since {
            return Some(format!(
                "{} last renewed it at {}, before the control plane was back",
                lease.holder, lease.renewed
            ));
        }
        let time = self.now.server_time?;
        (!lease.is_live(time)).then(|| {
            format!(
                "{} last renewed it at {}, which is good for {} s",
                lease.holder, lease.renewed, lease.duration_seconds
            )
        })
    }

    /// Nodes that were not Ready before and are not now: no pod of theirs can
    /// be replaced.
    fn down(&self) -> u32 {
        let nodes = self.before.nodes.iter().filter(|(_, before)| !before.ready);
        let is_down = |name: &String| self.now.nodes.get(name).is_some_and(|now| !now.ready);
        let down = nodes.filter(|(name, _)| is_down(name)).count();
        u32::try_from(down).unwrap_or(u32::MAX)
    }

    /// Each rollout is as far as it was before.
    fn rollouts(&mut self, in_flight: &BTreeSet<String>) {
        let now: BTreeMap<&WorkloadId, &BaselineRollout> =
            self.now.rollouts.iter().map(|r| (&r.id, r)).collect();
        let down = self.down();
        for before in &self.before.rollouts {
            // Deleted meanwhile: not ours to blame.
            let Some(now) = now.get(&before.id) else {
                continue;
            };
            if now.observed {
                self.updated += u64::from(now.updated);
            }
            let out = Out {
                away: away(self.before, &before.id, in_flight),
                down,
            };
            if let Some(evidence) = not_rolled_out(before, now, &out) {
                self.is_rolling = true;
                let WorkloadId {
                    kind,
                    namespace,
                    name,
                    ..
                } = &before.id;
                self.miss(
                    "KM-VERIFY-010",
                    ObjectName::namespaced(kind, namespace, name),
                    evidence,
                    "look at its pods that are not available and at their events",
                );
            } else if now.updated < now.desired && is_held_up(before, now) {
                let evidence = format!(
                    "pods that were not available before hold up its rollout: of {} pods {} are of \
                     the newest template",
                    now.desired, now.updated
                );
                let cure = "bring back the nodes of these pods, or delete the nodes";
                self.note("KM-VERIFY-018", &before.id, evidence, cure);
            }
        }
    }
}

/// Whether a DaemonSet is one of the cluster's own agents.
fn is_system(daemon: &str) -> bool {
    daemon
        .split_once('/')
        .is_some_and(|(namespace, _)| namespace == SYSTEM)
}

/// How many pods of a DaemonSet nodes in flight may keep from being available.
fn away(before: &Baseline, id: &WorkloadId, in_flight: &BTreeSet<String>) -> u32 {
    if id.kind != "DaemonSet" {
        return 0;
    }
    let daemon = format!("{}/{}", id.namespace, id.name);
    let nodes = in_flight.iter().filter_map(|name| before.nodes.get(name));
    let count = nodes.filter(|node| node.daemons.contains(&daemon)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Pods that a rollout cannot have.
struct Out {
    /// Not available, on nodes in flight.
    away: u32,
    /// On nodes that are down since before.
    down: u32,
}

/// What is missing, beyond what was missing before and the pods that are `out`.
fn not_rolled_out(before: &BaselineRollout, now: &BaselineRollout, out: &Out) -> Option<String> {
    if before.observed && !now.observed {
        return Some("its controller has not seen its newest spec yet".to_owned());
    }
    let lacked = |count: u32| before.desired.saturating_sub(count);
    let lacks = |count: u32| now.desired.saturating_sub(count);
    let is_behind = lacks(now.updated) > lacked(before.updated).saturating_add(out.down)
        && !is_held_up(before, now)
        || lacks(now.available) > lacked(before.available).saturating_add(out.away);
    is_behind.then(|| {
        format!(
            "of {} pods {} are of the newest template and {} are available",
            now.desired, now.updated, now.available
        )
    })
}

/// Whether what was not available before, and is not now, keeps a rollout from
/// going on: its controller counts such pods among those it may take at once.
fn is_held_up(before: &BaselineRollout, now: &BaselineRollout) -> bool {
    let has_too_few =
        |it: &BaselineRollout, limit| it.desired.saturating_sub(it.available) >= limit;
    let limit = now.at_once;
    limit.is_some_and(|limit| has_too_few(before, limit) && has_too_few(now, limit))
}

#[cfg(test)]
mod tests;
