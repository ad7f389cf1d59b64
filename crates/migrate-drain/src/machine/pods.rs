//! The pods of a node whose cordon has been confirmed.

use migrate_core::steps::DrainFailureKind;
use migrate_core::{
    Disposition, EventKind, Leave, NeedsConsent, Pod, PodId, Wait, WorkloadId, disposition,
};

use super::elsewhere::tolerates_cordon;
use super::state::{NodeDrain, PodDrain, PodState, Timer};
use super::{Drain, finding};

/// How often pods of one controller that are bound to a node after its cordon,
/// without tolerating it, are moved again.
const LANDINGS: u32 = 3;

impl Drain {
    /// Looks at a pod of a node whose cordon has been confirmed.
    pub(super) fn review_pod(&mut self, node: &str, uid: &str) {
        let Some(pod) = self.view.pod(uid).cloned() else {
            return;
        };
        let is_asked = |drain: &&NodeDrain| drain.is_open() && drain.includes(uid);
        let Some(drain) = self.nodes.get(node).filter(is_asked) else {
            return;
        };
        if !drain.pods.contains_key(uid) {
            let mut record = PodDrain::new(pod.id.clone());
            record.tied = self.tied(&pod);
            // An earlier drain asked it, and what came of that was not seen.
            record.unsettled = self.ledger.is_held(uid);
            if self.lands_again(node, &pod) {
                record.state = PodState::Staying;
            }
            if let Some(drain) = self.nodes.get_mut(node) {
                drain.pods.insert(uid.to_owned(), record);
            }
            self.queue_if_candidate(node, &pod);
        }
        let Some(record) = self.nodes.get(node).and_then(|d| d.pods.get(uid)) else {
            return;
        };
        let state = record.state.clone();
        match disposition(&pod, &self.options.consent, record.tied.as_deref()) {
            Disposition::Leave(why) => self.stays(node, &pod, why),
            Disposition::Wait(Wait::Terminating) if state != PodState::Leaving => {
                self.terminating(node, &pod);
            }
            Disposition::Wait(Wait::Job | Wait::Trial) if state == PodState::Candidate => {
                self.set_state(node, uid, PodState::Finishing);
            }
            Disposition::NeedsConsent(to) if state == PodState::Candidate => {
                self.late_consent(node, &pod, to);
            }
            Disposition::Evict if state == PodState::Finishing => {
                self.set_state(node, uid, PodState::Candidate);
                self.enqueue(node, &pod);
            }
            _ => {}
        }
    }

    fn queue_if_candidate(&mut self, node: &str, pod: &Pod) {
        let record = self.nodes.get(node).and_then(|d| d.pods.get(&pod.id.uid));
        if record.is_some_and(|record| record.state == PodState::Candidate) {
            self.enqueue(node, pod);
        }
    }

    fn set_state(&mut self, node: &str, uid: &str, state: PodState) {
        if let Some(record) = self.nodes.get_mut(node).and_then(|d| d.pods.get_mut(uid)) {
            record.state = state;
        }
    }

    fn stays(&mut self, node: &str, pod: &Pod, why: Leave) {
        if let (Leave::Finished, Some(drain)) = (why, self.nodes.get_mut(node)) {
            drain.left_volumes.extend(self.view.volumes_of(pod));
        }
        self.set_state(node, &pod.id.uid, PodState::Staying);
    }

    /// The pod goes, whoever asked it to.
    fn terminating(&mut self, node: &str, pod: &Pod) {
        let record = self.nodes.get(node).and_then(|d| d.pods.get(&pod.id.uid));
        let (unsettled, was_asked) =
            record.map_or((false, false), |r| (r.unsettled, r.since.is_some()));
        if unsettled {
            self.count(node, &pod.id);
        }
        // Also one that an earlier process or somebody else has asked to go does
        // not come back before its node does.
        if !was_asked && self.view.only_host(&pod.id.uid).is_some() {
            self.is_away(node, pod);
        }
        self.leaving(node, &pod.id);
        self.touch(node, pod);
    }

    pub(super) fn leaving(&mut self, node: &str, pod: &PodId) {
        let now = self.now;
        let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.uid))
        else {
            return;
        };
        record.state = PodState::Leaving;
        record.unsettled = false;
        if record.since.is_none() {
            record.since = Some(now);
            let deadline = now + self.options.pod_deadline;
            self.timer(deadline, Timer::Pod(node.to_owned(), pod.uid.clone()));
        }
    }

    /// Whether the pod is one more of those that were just moved away.
    fn lands_again(&mut self, node: &str, pod: &Pod) -> bool {
        let Some(controller) = pod.controller.as_ref().filter(|_| !pod.is_daemon()) else {
            return false;
        };
        let Some(drain) = self.nodes.get_mut(node) else {
            return false;
        };
        let Some(landing) = drain.landings.get_mut(&controller.uid) else {
            return false;
        };
        landing.back += 1;
        let back = landing.back;
        let stays = tolerates_cordon(pod) || back > LANDINGS;
        if stays {
            let finding = finding::relands(pod, node, back);
            self.event(EventKind::Found { finding });
        }
        stays
    }

    /// A pod that a person has to agree to turned up after the cordon.
    fn late_consent(&mut self, node: &str, pod: &Pod, to: NeedsConsent) {
        let asked = self
            .nodes
            .get(node)
            .is_some_and(|d| d.pods.values().any(|record| record.since.is_some()));
        if asked {
            let reason = format!("{} came to the node during its drain, and {to}", pod.id);
            self.fail(node, DrainFailureKind::LateConsent, reason);
        } else {
            self.needs_consent(node, vec![(pod.id.clone(), to)]);
        }
    }

    /// Remembers that a workload loses a pod here, and how well it was.
    pub(super) fn touch(&mut self, node: &str, pod: &Pod) {
        let Some(workload) = pod.workload.as_deref() else {
            return;
        };
        self.touch_workload(node, workload, &pod.id);
    }

    /// Remembers that `workload` loses `pod` here, and how well it was.
    pub(super) fn touch_workload(&mut self, node: &str, id: &WorkloadId, pod: &PodId) {
        let Some(workload) = self.view.workload(id).filter(|w| w.replaces_pods()) else {
            return;
        };
        let live = workload.ready.min(self.view.healthy(id));
        let before = self.ready_before.get(id).copied().unwrap_or(live);
        self.baseline.entry(id.clone()).or_insert(before);
        if let Some(drain) = self.nodes.get_mut(node) {
            drain
                .touched
                .entry(id.clone())
                .or_insert_with(|| pod.clone());
        }
    }
}
