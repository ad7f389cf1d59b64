//! Holds on budgets that outlive their request.

use std::time::Duration;

use migrate_core::{DisruptionBudget, PodId};

use super::Drain;
use super::state::{Hold, Timer};

/// How long the API keeps a budget spent for an eviction whose pod never
/// shows a deletion.
const HOLD: Duration = Duration::from_secs(120);

impl Drain {
    /// Keeps the hold on a pod for as long as the API counts a granted
    /// eviction that nobody saw the effect of.
    pub(super) fn linger(&mut self, uid: String, phantom: Option<PodId>) {
        let until = self.now + HOLD;
        self.timer(until, Timer::Hold(uid.clone()));
        self.holds.insert(uid, Hold { until, phantom });
    }

    /// The status of a budget names evictions that it counts already.
    pub(super) fn show_phantoms(&mut self, budget: &DisruptionBudget) {
        let shown: Vec<String> = self
            .holds
            .iter()
            .filter(|(_, hold)| {
                hold.phantom.as_ref().is_some_and(|id| {
                    id.namespace == budget.namespace
                        && budget.status.disrupted_pods.contains(&id.name)
                })
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in shown {
            self.holds.remove(&uid);
            self.ledger.forget_pod(&uid);
        }
    }

    pub(super) fn expire_hold(&mut self, uid: &str) {
        if self.holds.get(uid).is_none_or(|hold| hold.until > self.now) {
            return;
        }
        let Some(hold) = self.holds.remove(uid) else {
            return;
        };
        match hold.phantom {
            Some(id) => {
                self.ledger.forget_pod(uid);
                self.changed_accounts.insert(id.namespace);
            }
            // Gone meanwhile: giving it back would count a pod that is no more.
            None if self.view.pod(uid).is_none() => self.ledger.forget_pod(uid),
            None => {
                self.ledger.release(uid);
                let pod = self.view.pod(uid);
                self.changed_accounts
                    .extend(pod.map(|pod| pod.id.namespace.clone()));
            }
        }
    }
}
