//! Inputs: what the machine sees changes its view and its ledger.

use std::collections::BTreeSet;

use migrate_core::steps::DrainFailureKind;
use migrate_core::{DisruptionBudget, EventKind, Node, Pod, Workload, WorkloadId};

use super::io::{Attachment, Input, Listed, Seen};
use super::state::{PodState, Stage};
use super::view::PodNews;
use super::{Drain, finding};

impl Drain {
    pub(super) fn take(&mut self, input: Input) {
        match input {
            Input::Answer { request, answer } => self.answered(request, answer),
            Input::Cancel => self.cancel(),
            Input::ClaimGone { namespace, name } => self.view.lose_claim(namespace, name),
            Input::ClaimSeen {
                namespace,
                name,
                volume,
            } => {
                self.view.see_claim(namespace, name, volume);
            }
            Input::Cordoned {
                node,
                was_unschedulable,
            } => self.cordoned(&node, was_unschedulable),
            Input::CordonFailed { node, failure } => self.cordon_failed(&node, &failure),
            Input::Listed(listed) => self.listed(listed),
            Input::Looked { node, pods } => self.looked(&node, pods),
            Input::NoRoom { node, away } => self.no_room(&node, away),
            Input::Move { node, pods } => self.begin_move(node, pods),
            Input::NodeGone(node) => self.node_gone(&node),
            Input::NodeSeen(seen) if self.view.is_past_node(&seen) => {}
            Input::NodeSeen(seen) => self.node_seen(&seen),
            Input::NodesAdded(nodes) => nodes.into_iter().for_each(|node| self.add(node)),
            Input::PdbGone { namespace, name } => self.budget_gone(&namespace, &name),
            Input::PdbSeen(seen) if self.view.is_past_budget(&seen) => {}
            Input::PdbSeen(seen) => self.budget_seen(&seen),
            Input::PodGone(id) => {
                if let Some(pod) = self.view.lose_pod(&id.uid) {
                    self.pod_left(&pod);
                }
            }
            Input::PodSeen(seen) if self.view.is_past_pod(&seen) => {}
            Input::PodSeen(seen) => self.pod_seen(seen),
            Input::Release(node) => self.release(node),
            Input::Restored {
                node,
                still_cordoned,
            } => self.restored(&node, still_cordoned),
            Input::RestoreFailed { node, failure } => self.restore_failed(&node, &failure),
            Input::Synced => {
                self.synced = true;
                self.blind = None;
                self.dirty.extend(self.nodes.keys().cloned());
            }
            Input::Tick => {}
            Input::Unobservable(failure) => {
                self.dirty.extend(self.nodes.keys().cloned());
                self.dirty.extend(self.releases.keys().cloned());
                self.blind = Some(failure);
            }
            Input::VolumeDetached { name } => self.detached(&name),
            Input::VolumeSeen(attachment) => self.attached(attachment),
            Input::WorkloadGone(id) => self.workload_gone(&id),
            Input::WorkloadSeen(seen) if self.view.is_past_workload(&seen) => {}
            Input::WorkloadSeen(seen) => self.workload_seen(&seen),
        }
    }

    fn listed(&mut self, listed: Listed) {
        match listed {
            Listed::Attachments(all) => {
                let listed: BTreeSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
                for name in self.view.attachment_names() {
                    if !listed.contains(name.as_str()) {
                        self.detached(&name);
                    }
                }
                all.into_iter().for_each(|one| self.attached(one));
            }
            Listed::Budgets(all) => {
                let listed: BTreeSet<(&str, &str)> = all
                    .iter()
                    .map(|seen| (seen.value.namespace.as_str(), seen.value.name.as_str()))
                    .collect();
                for (namespace, name) in self.view.budget_names() {
                    if !listed.contains(&(namespace.as_str(), name.as_str())) {
                        self.budget_gone(&namespace, &name);
                    }
                }
                self.view.budgets_listed();
                all.iter().for_each(|seen| self.budget_seen(seen));
            }
            Listed::Nodes(all) => {
                let listed: BTreeSet<&str> =
                    all.iter().map(|seen| seen.value.name.as_str()).collect();
                for name in self.view.node_names() {
                    if !listed.contains(name.as_str()) {
                        self.node_gone(&name);
                    }
                }
                self.view.nodes_listed();
                all.iter().for_each(|seen| self.node_seen(seen));
            }
            Listed::Pods(all) => {
                self.count_listed(&all);
                let listed: BTreeSet<&str> =
                    all.iter().map(|seen| seen.value.id.uid.as_str()).collect();
                for id in self.view.pod_ids() {
                    if !listed.contains(id.uid.as_str())
                        && let Some(pod) = self.view.miss_pod(&id.uid)
                    {
                        self.pod_left(&pod);
                    }
                }
                self.view.pods_listed();
                all.into_iter().for_each(|seen| self.pod_seen(seen));
            }
            Listed::Workloads { kind, all } => {
                let listed: BTreeSet<&WorkloadId> = all.iter().map(|seen| &seen.value.id).collect();
                for id in self.view.workloads_of_kind(&kind) {
                    if !listed.contains(&id) {
                        self.workload_gone(&id);
                    }
                }
                self.view.workloads_listed(&kind);
                all.iter().for_each(|seen| self.workload_seen(seen));
            }
        }
    }

    // Pods.

    pub(super) fn pod_seen(&mut self, seen: Seen<Pod>) {
        let pod = seen.value.clone();
        let PodNews::Changed { replaced, before } = self.view.see_pod(seen) else {
            return;
        };
        if let Some(replaced) = replaced {
            self.pod_left(&replaced);
        }
        self.count_pod(before.as_deref(), Some(&pod));
        self.ledger.observe_pod(&pod);
        if pod.deletion.is_some() {
            // The pod's own state says it now. A hold on top would be
            // counted twice once the budget's status has caught up.
            self.ledger.release(&pod.id.uid);
            self.holds.remove(&pod.id.uid);
        }
        self.changed_accounts.insert(pod.id.namespace.clone());
        let workload_before = before.and_then(|before| before.workload);
        for workload in [&pod.workload, &workload_before].into_iter().flatten() {
            self.workload_moved(workload);
        }
        if let Some(node) = pod
            .node
            .as_ref()
            .filter(|node| self.nodes.contains_key(*node))
        {
            self.review_pod(node, &pod.id.uid);
            self.dirty.insert(node.clone());
        }
    }

    /// The pod is not in the cluster any more.
    pub(super) fn pod_left(&mut self, pod: &Pod) {
        let uid = &pod.id.uid;
        self.count_pod(Some(pod), None);
        self.changed_accounts.insert(pod.id.namespace.clone());
        if let Some(workload) = pod.workload.as_deref() {
            self.workload_moved(workload);
        }
        let asked = self
            .requests
            .values()
            .any(|request| request.pod.uid == *uid);
        if asked && !self.holds.contains_key(uid) {
            // The request may still arrive, and spend a budget in vain.
            self.linger(uid.clone(), Some(pod.id.clone()));
        }
        if self
            .holds
            .get(uid)
            .is_none_or(|hold| hold.phantom.is_none())
        {
            self.holds.remove(uid);
            self.ledger.forget_pod(uid);
        }
        let Some(node) = &pod.node else { return };
        let volumes = self.view.volumes_of(pod);
        let is_replaced = self.is_replaced(pod);
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        self.dirty.insert(node.clone());
        let Some(left) = drain.pods.remove(uid) else {
            return;
        };
        let staying = left.state == PodState::Staying;
        if !staying {
            drain.left_volumes.extend(volumes);
        }
        if is_replaced {
            drain.left.push(pod.clone());
        }
        if left.unsettled && !asked && !left.counted {
            self.count(node, &left.id);
        }
        if !staying {
            self.event(EventKind::PodGone {
                node: node.clone(),
                pod: left.id,
            });
        }
    }

    // Budgets and workloads.

    fn budget_seen(&mut self, seen: &Seen<DisruptionBudget>) {
        if !self.view.see_budget(seen) {
            return;
        }
        let budget = &seen.value;
        self.ledger.observe_budget(budget);
        self.show_phantoms(budget);
        self.changed_accounts.insert(budget.namespace.clone());
        self.changed_budgets.insert(budget.namespace.clone());
    }

    fn budget_gone(&mut self, namespace: &str, name: &str) {
        if self.view.lose_budget(namespace, name) {
            self.ledger.forget_budget(namespace, name);
            self.changed_accounts.insert(namespace.to_owned());
            self.changed_budgets.insert(namespace.to_owned());
        }
    }

    fn workload_seen(&mut self, seen: &Seen<Workload>) {
        if self.view.see_workload(seen) {
            self.ledger.observe_workload(&seen.value);
            self.changed_accounts
                .insert(seen.value.id.namespace.clone());
            self.workload_moved(&seen.value.id);
        }
    }

    fn workload_gone(&mut self, id: &WorkloadId) {
        if self.view.lose_workload(id) {
            self.ledger.forget_workload(id);
            self.changed_accounts.insert(id.namespace.clone());
            self.workload_moved(id);
        }
    }

    /// Looks again at whoever waits for this workload.
    fn workload_moved(&mut self, id: &WorkloadId) {
        let drains = self
            .nodes
            .iter()
            .filter(|(_, d)| d.touched.contains_key(id));
        self.dirty.extend(drains.map(|(name, _)| name.clone()));
        let releases = self.releases.iter().filter(|(_, r)| r.awaited.contains(id));
        self.dirty.extend(releases.map(|(name, _)| name.clone()));
    }

    // Nodes.

    fn node_seen(&mut self, seen: &Seen<Node>) {
        if !self.view.see_node(seen) {
            return;
        }
        self.place_changed();
        let node = &seen.value;
        let Some(drain) = self.nodes.get_mut(&node.name) else {
            return;
        };
        self.dirty.insert(node.name.clone());
        if drain.only.is_some() {
            return;
        }
        if drain.uid.as_ref().is_some_and(|uid| *uid != node.uid) {
            // Another machine has the name.
            return self.lost(&node.name);
        }
        if node.unschedulable {
            drain.cordon.seen = true;
        } else if drain.cordon.seen && drain.is_cordoned() && !self.options.dry_run {
            self.cordon_lifted(&node.name);
        }
    }

    fn node_gone(&mut self, name: &str) {
        if !self.view.lose_node(name) {
            return;
        }
        self.dirty.insert(name.to_owned());
        self.place_changed();
        self.away.remove(name);
        self.lost(name);
        if self.releases.contains_key(name) {
            self.release_gone(name);
        }
    }

    fn cordon_lifted(&mut self, node: &str) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.cordon.lifted += 1;
        drain.cordon.seen = false;
        let lifted = drain.cordon.lifted;
        drain.stage = Stage::Cordoning;
        let found = finding::cordon_lifted(node, lifted);
        self.event(EventKind::Found { finding: found });
        if lifted > LIFTED {
            let reason = format!(
                "someone else lifted the cordon {lifted} times; find out who (an autoscaler, a \
                 remediation controller, a person) before draining {node} again"
            );
            self.fail(node, DrainFailureKind::CordonLifted, reason);
        } else {
            self.ask_cordon(node);
        }
    }

    // Volumes.

    fn attached(&mut self, attachment: Attachment) {
        self.dirty.insert(attachment.node.clone());
        self.view.see_attachment(attachment);
    }

    fn detached(&mut self, name: &str) {
        self.dirty.extend(self.view.lose_attachment(name));
    }
}

/// How often a cordon that someone else lifted is set again.
const LIFTED: u32 = 3;
