//! What budgets, real and assumed, give at every instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use migrate_core::{
    BudgetKey, BudgetLedger, ClusterModel, Disposition, DisruptionBudget, ObjectName, Policy,
    Severity, disposition,
};

use super::timeline::Timeline;
use super::{At, Report, codes};

/// What a budget lets go.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// At once, while all its pods are healthy.
    allowed: u32,
    /// It lets nothing go now, and its spec never will.
    never: bool,
}

/// The pods on each node by budget, as the ledger of the drain matches them; the
/// sums of what drains take that go on at the same time. A drain takes all pods
/// of a budget that its node has, or as many as that allows, and one at least.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    let ledger = BudgetLedger::from_model(model, policy.assumed_budgets.clone());
    let mut pods: BTreeMap<&str, BTreeMap<&BudgetKey, u32>> = BTreeMap::new();
    for pod in &model.pods {
        let goes = !matches!(
            disposition(pod, &policy.consent, None),
            Disposition::Leave(_) | Disposition::Wait(_)
        );
        if let Some(node) = pod.node.as_deref().filter(|_| goes && pod.is_healthy()) {
            for key in ledger.budgets_of(&pod.id.uid) {
                *pods.entry(node).or_default().entry(key).or_default() += 1;
            }
        }
    }
    let rooms = rooms(model, policy, &ledger);
    let mut held: BTreeMap<&BudgetKey, u32> = BTreeMap::new();
    let mut ends = BinaryHeap::new();
    let mut spans: Vec<_> = timeline.slots.iter().collect();
    spans.sort_by_key(|span| (span.drain, &span.slot.node));
    for span in spans {
        while let Some(&Reverse((end, key, share))) = ends.peek()
            && end <= span.drain.start
        {
            ends.pop();
            let of_key: &mut u32 = held.entry(key).or_default();
            *of_key = of_key.saturating_sub(share);
        }
        let node = span.slot.node.as_str();
        for (&key, &count) in pods.get(node).into_iter().flatten() {
            let Some(room) = rooms.get(key) else {
                continue;
            };
            let at = At(span.drain.start);
            let object = ObjectName::cluster("Node", node);
            if room.never {
                let evidence = format!("its drain begins at {at}, and {key} never lets a pod go");
                report.broken(codes::BUDGET, object, evidence);
                continue;
            }
            if room.allowed == 0 {
                let evidence = format!("its drain begins at {at}, and {key} has to recover for it");
                report.add(codes::BUDGET, Severity::Warning, object.clone(), evidence);
            }
            let allowed = room.allowed.max(1);
            let share = count.min(allowed);
            let of_key = held.entry(key).or_default();
            *of_key += share;
            ends.push(Reverse((span.drain.end, key, share)));
            if *of_key > allowed {
                let evidence = format!(
                    "its drain begins at {at} and takes {share} of {key}, of which {of_key} are \
                     away then and {allowed} may be"
                );
                report.broken(codes::BUDGET, object, evidence);
            }
        }
    }
}

fn rooms(
    model: &ClusterModel,
    policy: &Policy,
    ledger: &BudgetLedger,
) -> BTreeMap<BudgetKey, Room> {
    let mut rooms = BTreeMap::new();
    for budget in &model.budgets {
        let key = BudgetKey::real(&budget.namespace, &budget.name);
        let healthy = ledger.account(&key).map_or(0, |account| account.healthy);
        rooms.insert(key, real(budget, healthy));
    }
    for workload in &model.workloads {
        if let Some(needs) = policy.assumed_budgets.needs(workload) {
            let key = BudgetKey::assumed(&workload.id);
            let healthy = ledger.account(&key).map_or(0, |account| account.healthy);
            let now = healthy.saturating_sub(needs);
            let allowed = workload.replicas.saturating_sub(needs).max(now);
            let never = allowed == 0;
            rooms.insert(key, Room { allowed, never });
        }
    }
    rooms
}

fn real(budget: &DisruptionBudget, healthy: u32) -> Room {
    let count = |n: i32| u32::try_from(n).unwrap_or(0);
    let status = &budget.status;
    let (expected, now, desired) = match status.observed {
        true => (
            count(status.expected_pods),
            count(status.disruptions_allowed),
            count(status.desired_healthy),
        ),
        false => (healthy, 0, budget.desired_healthy(healthy)),
    };
    let allowed = match status.sync_failed {
        None => expected.saturating_sub(desired).max(now),
        Some(_) => 0,
    };
    let never = expected > 0 && budget.desired_healthy(expected) >= expected;
    Room {
        allowed,
        never: never && allowed == 0,
    }
}
