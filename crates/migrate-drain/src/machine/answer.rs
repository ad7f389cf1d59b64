//! What the API's answers to evictions mean.

use std::time::Duration;

use migrate_core::steps::DrainFailureKind;
use migrate_core::{Blocked, BudgetKey, BudgetKind, EventKind, Finding, PodId};
use migrate_kube::resources::Pod;
use migrate_kube::{ApiCall, EvictionAnswer};

use super::io::RequestId;
use super::state::{PodState, Timer, backoff};
use super::{Drain, Request, finding};

/// How often refused credentials or rights are tried once more, over half a
/// minute, before a drain fails.
const RIGHTS_REFUSED: u32 = 5;

impl Drain {
    pub(super) fn answered(&mut self, request: RequestId, answer: EvictionAnswer) {
        let Some(Request { node, pod }) = self.requests.remove(&request) else {
            return;
        };
        self.dirty.insert(node.clone());
        if !matches!(answer, EvictionAnswer::Throttled { .. }) {
            self.throttles = 0;
        }
        if proves_rights(&answer) {
            self.refusals_of_rights = 0;
        }
        if self.options.dry_run {
            self.answered_dry(&node, &pod, &answer);
            return;
        }
        if self.view.pod(&pod.uid).is_none() {
            self.answered_late(&node, &pod, &answer);
            return;
        }
        let leaving = self
            .nodes
            .get(&node)
            .and_then(|d| d.pods.get(&pod.uid))
            .is_some_and(|record| record.state == PodState::Leaving);
        if leaving {
            // Seen going before the answer came.
            if answer.may_have_evicted() {
                self.count(&node, &pod);
            }
            return;
        }
        let line = answer.to_string();
        match answer {
            EvictionAnswer::Accepted => self.accepted(&node, &pod),
            EvictionAnswer::Gone => self.is_gone(&pod),
            EvictionAnswer::OtherPod => {
                self.linger(pod.uid.clone(), Some(pod.clone()));
                self.is_gone(&pod);
            }
            EvictionAnswer::BudgetExhausted { budget, .. } => {
                self.refused_by_budget(&node, &pod, &line, budget.as_deref(), None);
            }
            EvictionAnswer::BudgetNotObserved {
                budget,
                retry_after,
            } => {
                let delay = Some(retry_after);
                self.refused_by_budget(&node, &pod, &line, budget.as_deref(), delay);
            }
            EvictionAnswer::TwoBudgets => {
                let blocked = self.ledger.blocked(&pod.uid).filter(|b| b.budget.is_some());
                self.refuse(
                    &node,
                    &pod,
                    &line,
                    Refusal {
                        blocked,
                        ..Refusal::by_budget()
                    },
                );
            }
            EvictionAnswer::NamespaceTerminating => {
                // The namespace's own deletion removes it; asking is no use.
                self.refuse(&node, &pod, &line, Refusal::at_the_door());
                self.leaving(&node, &pod);
            }
            EvictionAnswer::Throttled { retry_after } => {
                self.throttles += 1;
                let delay = retry_after.max(backoff(self.throttles));
                self.pause(&node, &pod, &line, delay);
            }
            EvictionAnswer::WebhookDenied { .. } | EvictionAnswer::WebhookUnavailable { .. } => {
                self.refuse(&node, &pod, &line, Refusal::at_the_door());
                self.tell_once(&node, &pod, finding::webhook(&pod, &line));
            }
            EvictionAnswer::Contended { .. } => {
                self.refuse(&node, &pod, &line, Refusal::at_the_door());
            }
            EvictionAnswer::Unavailable { .. } | EvictionAnswer::Unknown { .. } => {
                self.refuse(&node, &pod, &line, Refusal::unsettled());
            }
            EvictionAnswer::Forbidden { .. } => {
                let call = ApiCall::new::<Pod>("create").subresource("eviction");
                let line = format!("{line}; add the rule {}", call.rule());
                self.not_allowed(&node, &pod, &line);
            }
            EvictionAnswer::Unauthorized { .. } => self.not_allowed(&node, &pod, &line),
            EvictionAnswer::Invalid { .. }
            | EvictionAnswer::NotSent { .. }
            | EvictionAnswer::DryRunUnsupported { .. } => {
                self.refused_for_good(&node, &pod, &line, DrainFailureKind::Refused);
            }
            // An answer that this version does not know settles nothing.
            _ => self.refuse(&node, &pod, &line, Refusal::unsettled()),
        }
    }

    fn accepted(&mut self, node: &str, pod: &PodId) {
        for key in self.ledger.budgets_of(&pod.uid) {
            self.closed.remove(key);
        }
        self.count(node, pod);
        self.leaving(node, pod);
        if let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.uid))
        {
            record.unsettled = false;
            record.refusals = 0;
        }
    }

    /// Nobody is asked for a while.
    fn pause(&mut self, node: &str, pod: &PodId, line: &str, delay: Duration) {
        let until = self.now + delay;
        self.throttled_until = Some(self.throttled_until.map_or(until, |t| t.max(until)));
        self.timer(until, Timer::Throttle);
        let refusal = Refusal {
            delay: Some(delay),
            ..Refusal::at_the_door()
        };
        self.refuse(node, pod, line, refusal);
    }

    /// An API server that has just started, or cannot reach whom it asks about
    /// tokens and rights, refuses what it allowed before, for seconds. Asking
    /// goes on a few times, not for ever.
    fn not_allowed(&mut self, node: &str, pod: &PodId, line: &str) {
        // Requests that were under way together are one refusal.
        let paused = self.throttled_until.is_some_and(|until| until > self.now);
        if self.refusals_of_rights == 0 || !paused {
            self.refusals_of_rights += 1;
        }
        if self.refusals_of_rights > RIGHTS_REFUSED {
            return self.refused_for_good(node, pod, line, DrainFailureKind::Forbidden);
        }
        self.pause(node, pod, line, backoff(self.refusals_of_rights));
    }

    /// Asking again is of no use, for this pod or any other.
    fn refused_for_good(&mut self, node: &str, pod: &PodId, line: &str, kind: DrainFailureKind) {
        self.refuse(node, pod, line, Refusal::at_the_door());
        let reason = format!("eviction of {pod}: {line}");
        self.fail(node, kind, reason);
    }

    /// The answer came after the pod was seen to be gone.
    fn answered_late(&mut self, node: &str, pod: &PodId, answer: &EvictionAnswer) {
        match answer {
            EvictionAnswer::Accepted => self.count(node, pod),
            // Both may have spent a budget on the name alone.
            EvictionAnswer::OtherPod
            | EvictionAnswer::Unavailable { .. }
            | EvictionAnswer::Unknown { .. } => return,
            _ => {}
        }
        if self.holds.remove(&pod.uid).is_some() {
            self.ledger.forget_pod(&pod.uid);
            self.changed_accounts.insert(pod.namespace.clone());
        }
    }

    fn answered_dry(&mut self, node: &str, pod: &PodId, answer: &EvictionAnswer) {
        let yes = matches!(
            answer,
            EvictionAnswer::Accepted | EvictionAnswer::Gone | EvictionAnswer::OtherPod
        );
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some(record) = drain.pods.get_mut(&pod.uid) {
            record.state = PodState::Answered { yes };
        }
        if yes {
            drain.evictions += 1;
        } else {
            self.event(EventKind::PodRefused {
                node: node.to_owned(),
                pod: pod.clone(),
                answer: answer.to_string(),
            });
        }
    }

    fn is_gone(&mut self, pod: &PodId) {
        if let Some(gone) = self.view.lose_pod(&pod.uid) {
            self.pod_left(&gone);
        }
    }

    /// The pod stays for now, as far as is known.
    fn refuse(&mut self, node: &str, pod: &PodId, line: &str, refusal: Refusal) {
        let now = self.now;
        let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.uid))
        else {
            return;
        };
        record.refusals += 1;
        record.unsettled = match refusal.effect {
            Effect::None => false,
            Effect::NotThisTime => record.unsettled,
            Effect::Unknown => true,
        };
        if !record.unsettled {
            self.ledger.release(&pod.uid);
            self.changed_accounts.insert(pod.namespace.clone());
        }
        let until = now + refusal.delay.unwrap_or_else(|| backoff(record.refusals));
        let wakes = refusal.blocked.is_some();
        record.state = PodState::Refused {
            until,
            blocked: refusal.blocked,
        };
        let told = record.told.replace(line.to_owned());
        self.timer(until, Timer::Pod(node.to_owned(), pod.uid.clone()));
        if wakes {
            let waiting = self.blocked.entry(pod.namespace.clone()).or_default();
            waiting.insert((node.to_owned(), pod.uid.clone()));
        }
        if told.as_deref() != Some(line) {
            self.event(EventKind::PodRefused {
                node: node.to_owned(),
                pod: pod.clone(),
                answer: line.to_owned(),
            });
        }
    }

    /// Counts an eviction that took effect, once.
    pub(super) fn count(&mut self, node: &str, pod: &PodId) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        let record = drain.pods.get_mut(&pod.uid);
        if record.is_some_and(|record| std::mem::replace(&mut record.counted, true)) {
            return;
        }
        drain.evictions += 1;
        self.event(EventKind::PodEvicted {
            node: node.to_owned(),
            pod: pod.clone(),
        });
    }

    fn tell_once(&mut self, node: &str, pod: &PodId, found: Finding) {
        let first = self
            .nodes
            .get(node)
            .and_then(|d| d.pods.get(&pod.uid))
            .is_some_and(|record| record.refusals == 1);
        if first {
            self.event(EventKind::Found { finding: found });
        }
    }

    /// A budget says no although our own ledger did not: the budget, not only
    /// this pod, waits until its object changes or the delay is over.
    fn refused_by_budget(
        &mut self,
        node: &str,
        pod: &PodId,
        line: &str,
        named: Option<&str>,
        delay: Option<Duration>,
    ) {
        self.ledger.release(&pod.uid);
        let mut real = self.ledger.budgets_of(&pod.uid).iter().filter(|key| {
            key.kind == BudgetKind::Real && named.is_none_or(|name| key.name == name)
        });
        let key = match (real.next(), named) {
            (Some(key), _) => key.clone(),
            (None, Some(name)) => {
                // Not seen yet: its first sighting is the change to wait for.
                let blocked = self.ledger.exhausted(BudgetKey::real(&pod.namespace, name));
                let refusal = Refusal {
                    blocked: Some(blocked),
                    delay,
                    ..Refusal::by_budget()
                };
                return self.refuse(node, pod, line, refusal);
            }
            (None, None) => {
                return self.refuse(
                    node,
                    pod,
                    line,
                    Refusal {
                        delay,
                        ..Refusal::by_budget()
                    },
                );
            }
        };
        let closed = self.closed.entry(key.clone()).or_default();
        closed.refusals += 1;
        closed.until = self.now + delay.unwrap_or_default().max(backoff(closed.refusals));
        let until = closed.until;
        self.timer(until, Timer::Budget(key));
        self.changed_accounts.insert(pod.namespace.clone());
        if let Some(record) = self
            .nodes
            .get_mut(node)
            .and_then(|d| d.pods.get_mut(&pod.uid))
        {
            record.unsettled = false;
            record.state = PodState::Candidate;
        }
        // Finds the budget closed, and waits for it as every other pod of it.
        self.try_pod(node, pod);
    }
}

/// Whether the server knew who asked, and let them.
fn proves_rights(answer: &EvictionAnswer) -> bool {
    !matches!(
        answer,
        EvictionAnswer::NotSent { .. }
            | EvictionAnswer::Forbidden { .. }
            | EvictionAnswer::Unauthorized { .. }
            | EvictionAnswer::Unavailable { .. }
            | EvictionAnswer::Unknown { .. }
    )
}

/// What follows from a refusal.
struct Refusal {
    blocked: Option<Blocked>,
    delay: Option<Duration>,
    effect: Effect,
}

/// What a refusal says about the pod being on its way out.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Effect {
    /// It is not: the API looked at the pod, and no attempt has had effect.
    None,
    /// This attempt had no effect; an earlier one may have had.
    NotThisTime,
    /// It may be.
    Unknown,
}

impl Refusal {
    /// By a budget: a pod that is being deleted is let go without asking any.
    fn by_budget() -> Self {
        Self {
            blocked: None,
            delay: None,
            effect: Effect::None,
        }
    }

    /// By something that is asked before the pod is looked at.
    fn at_the_door() -> Self {
        Self {
            effect: Effect::NotThisTime,
            ..Self::by_budget()
        }
    }

    /// It may be on its way out: its budgets stay spent until the watch, or
    /// the next answer, settles it.
    fn unsettled() -> Self {
        Self {
            effect: Effect::Unknown,
            ..Self::by_budget()
        }
    }
}
