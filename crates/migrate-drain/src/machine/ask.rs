//! Asking pods to go.

use migrate_core::{Blocked, EventKind, Pod, PodId};

use super::io::{Output, RequestId};
use super::state::{PodState, Rank, Timer};
use super::{Drain, Request};

impl Drain {
    /// Puts a pod into the queue.
    pub(super) fn enqueue(&mut self, node: &str, pod: &Pod) {
        let Some(drain) = self.nodes.get(node) else {
            return;
        };
        self.queue.insert(Rank {
            seq: drain.seq,
            healthy: pod.is_healthy(),
            priority: pod.priority,
            pod: pod.id.clone(),
            node: node.to_owned(),
        });
    }

    /// Puts the pods that only this node can host into the queue once the
    /// others have left.
    pub(super) fn queue_tied(&mut self, node: &str) {
        let Some(drain) = self.nodes.get(node).filter(|drain| !drain.others_remain()) else {
            return;
        };
        let waiting = drain
            .pods
            .iter()
            .filter(|(_, record)| record.tied.is_some() && record.state == PodState::Candidate);
        let uids: Vec<String> = waiting.map(|(uid, _)| uid.clone()).collect();
        let pods: Vec<Pod> = uids
            .iter()
            .filter_map(|uid| self.view.pod(uid).cloned())
            .collect();
        for pod in &pods {
            self.enqueue(node, pod);
        }
    }

    /// Puts pods back into the queue whose budgets may have room now.
    pub(super) fn wake_blocked(&mut self) {
        let budgets = std::mem::take(&mut self.changed_budgets);
        self.closed
            .retain(|key, _| !budgets.contains(&key.namespace));
        for namespace in std::mem::take(&mut self.changed_accounts) {
            let budget_changed = budgets.contains(&namespace);
            let waiting = self.blocked.remove(&namespace).unwrap_or_default();
            for (node, uid) in waiting {
                let Some(record) = self.nodes.get_mut(&node).and_then(|d| d.pods.get_mut(&uid))
                else {
                    continue;
                };
                let wakes = match &record.state {
                    PodState::Blocked(_) => true,
                    PodState::Refused { blocked, .. } => {
                        if !budget_changed && blocked.is_some() {
                            let waiting = self.blocked.entry(namespace.clone()).or_default();
                            waiting.insert((node.clone(), uid.clone()));
                        }
                        budget_changed && blocked.is_some()
                    }
                    _ => false,
                };
                if wakes {
                    self.retry(&node, &uid);
                }
            }
        }
    }

    /// A timer of a pod: its deadline or its next try.
    pub(super) fn pod_timer(&mut self, node: &str, uid: &str) {
        let deadline = self.options.pod_deadline;
        let Some(record) = self.nodes.get(node).and_then(|d| d.pods.get(uid)) else {
            return;
        };
        let going = !matches!(record.state, PodState::Staying | PodState::Answered { .. });
        if going
            && record
                .since
                .is_some_and(|since| self.now.since(since) >= deadline)
        {
            self.give_up(node);
            return;
        }
        if matches!(record.state, PodState::Refused { until, .. } if until <= self.now) {
            self.retry(node, uid);
        }
    }

    fn retry(&mut self, node: &str, uid: &str) {
        let Some(pod) = self.view.pod(uid).cloned() else {
            return;
        };
        if let Some(record) = self.nodes.get_mut(node).and_then(|d| d.pods.get_mut(uid)) {
            record.state = PodState::Candidate;
            self.enqueue(node, &pod);
        }
    }

    /// Sends as many requests as there is room for.
    pub(super) fn pump(&mut self) {
        if self.throttled_until.is_some_and(|until| until > self.now) {
            return;
        }
        // Pods of a node whose cordon is being set again wait in the queue.
        let mut kept = Vec::new();
        while self.requests.len() < self.options.max_requests {
            let Some(rank) = self.queue.pop_first() else {
                break;
            };
            let Some(drain) = self.nodes.get(&rank.node) else {
                continue;
            };
            let others_first = drain.others_remain() && !self.options.dry_run;
            let candidate = drain.seq == rank.seq
                && drain.pods.get(&rank.pod.uid).is_some_and(|record| {
                    // Pods that only this node can host are down from their
                    // eviction on: they go when the others have left.
                    let waits = record.tied.is_some() && others_first;
                    record.state == PodState::Candidate && !waits
                });
            if !candidate {
                continue;
            }
            if !drain.is_cordoned() {
                kept.push(rank);
                continue;
            }
            self.try_pod(&rank.node, &rank.pod);
        }
        self.queue.extend(kept);
    }

    pub(super) fn try_pod(&mut self, node: &str, id: &PodId) {
        let Some(pod) = self.view.pod(&id.uid).cloned() else {
            return;
        };
        if pod.node.as_deref() != Some(node) {
            return;
        }
        match self.hold(&pod) {
            Ok(()) => self.request(node, &pod),
            Err(blocked) => self.block(node, &pod, blocked),
        }
    }

    /// Takes the pod out of its budgets, or says which one needs it.
    fn hold(&mut self, pod: &Pod) -> Result<(), Blocked> {
        let uid = &pod.id.uid;
        let known = pod.workload.as_ref().is_none_or(|id| {
            let watched = matches!(
                id.kind.as_str(),
                "Deployment" | "ReplicaSet" | "StatefulSet"
            );
            !watched || self.view.workload(id).is_some()
        });
        if !known {
            // Whether it has an assumed budget is not known yet.
            return match self.options.guarded {
                true => Err(Blocked::unseen()),
                false => Ok(()),
            };
        }
        if let Some(blocked) = self.closed(uid) {
            return Err(blocked);
        }
        match self.options.dry_run {
            // Nothing is spent, so every pod is asked for on its own.
            true => self.ledger.blocked(uid).map_or(Ok(()), Err),
            false => {
                self.place_for(pod)?;
                self.ledger.hold(uid)?;
                self.owe(pod);
                Ok(())
            }
        }
    }

    fn block(&mut self, node: &str, pod: &Pod, blocked: Blocked) {
        let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.id.uid))
        else {
            return;
        };
        let text = format!("{:?} {:?}", blocked.budget, blocked.reason);
        let told = record.told.replace(text.clone());
        if self.options.dry_run {
            record.state = PodState::Answered { yes: false };
        } else {
            record.state = PodState::Blocked(blocked.clone());
            let waiting = self.blocked.entry(pod.id.namespace.clone()).or_default();
            waiting.insert((node.to_owned(), pod.id.uid.clone()));
        }
        self.dirty.insert(node.to_owned());
        if told.as_ref() != Some(&text) {
            self.event(EventKind::PodBlocked {
                node: node.to_owned(),
                pod: pod.id.clone(),
                blocked,
            });
        }
    }

    fn request(&mut self, node: &str, pod: &Pod) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let now = self.now;
        let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.id.uid))
        else {
            return;
        };
        let first = record.since.is_none();
        record.since.get_or_insert(now);
        record.state = PodState::Asked(request);
        if first && !self.options.dry_run {
            self.first_asked(node, pod);
        }
        self.holds.remove(&pod.id.uid);
        self.requests.insert(
            request,
            Request {
                node: node.to_owned(),
                pod: pod.id.clone(),
            },
        );
        self.dirty.insert(node.to_owned());
        self.outputs.push_back(Output::Evict {
            request,
            node: node.to_owned(),
            pod: pod.id.clone(),
            grace: self.options.grace,
        });
    }

    fn first_asked(&mut self, node: &str, pod: &Pod) {
        let deadline = self.now + self.options.pod_deadline;
        self.timer(deadline, Timer::Pod(node.to_owned(), pod.id.uid.clone()));
        self.touch(node, pod);
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some(controller) = &pod.controller {
            drain
                .landings
                .entry(controller.uid.clone())
                .or_default()
                .asked += 1;
        }
        let tied = drain
            .pods
            .get(&pod.id.uid)
            .is_some_and(|record| record.tied.is_some());
        if tied {
            self.is_away(node, pod);
        }
    }

    /// Counts a pod that only this node can host as away until the node is back.
    pub(super) fn is_away(&mut self, node: &str, pod: &Pod) {
        if let Some(workload) = pod.workload.as_deref() {
            let away = self.away.entry(node.to_owned()).or_default();
            *away.entry(workload.clone()).or_default() += 1;
        }
    }

    /// The budget of the pod that the API said is exhausted.
    fn closed(&self, uid: &str) -> Option<Blocked> {
        let mut keys = self.ledger.budgets_of(uid).iter();
        let key = keys.find(|key| {
            self.closed
                .get(*key)
                .is_some_and(|closed| closed.until > self.now)
        })?;
        Some(self.ledger.exhausted(key.clone()))
    }
}
