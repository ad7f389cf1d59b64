//! What planning found: above all, what can never be done.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{ClusterModel, Finding, ObjectName, Plan, Policy, Severity};

use super::Job;
use crate::intern::{Budget, BudgetSource, Interned};
use crate::machine::{Machine, Obstacle};

/// A version that the skew policy forbids on the way.
pub(super) const SKEW: &str = "KM-SKEW-001";
/// A PodDisruptionBudget that never lets a pod go.
const BUDGET_NEVER: &str = "KM-PDB-001";
/// A pod that two PodDisruptionBudgets guard.
const TWO_BUDGETS: &str = "KM-PDB-002";
/// A PodDisruptionBudget that lets no pod go now.
const BUDGET_NOT_NOW: &str = "KM-PDB-003";
/// An assumed budget that never lets a pod go.
const ASSUMED_NEVER: &str = "KM-BUDGET-001";
/// Workloads whose budgets are assumed.
const ASSUMED: &str = "KM-BUDGET-002";
/// An assumed budget that lets no pod go now.
const ASSUMED_NOT_NOW: &str = "KM-BUDGET-003";
/// A node that is not Ready.
const NODE_NOT_READY: &str = "KM-NODE-001";
/// A node that is cordoned.
const NODE_CORDONED: &str = "KM-NODE-002";
/// A pool all of whose slots are taken by nodes that are away.
const POOL_FULL: &str = "KM-NODE-003";

/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

/// What the budgets of the nodes to be drained say.
pub(super) fn of_budgets(
    model: &ClusterModel,
    interned: &Interned<'_>,
    jobs: &[Job<'_>],
    found: &mut Vec<Finding>,
) {
    let mut assumed: BTreeSet<u32> = BTreeSet::new();
    let mut nodes_of: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        for touch in interned.touches(job.id) {
            let budget = &interned.budgets[touch.budget as usize];
            if matches!(budget.source, BudgetSource::Assumed(_)) {
                assumed.insert(touch.budget);
            }
            if budget.allowed == 0 {
                nodes_of
                    .entry(touch.budget)
                    .or_default()
                    .push(&job.node.name);
            }
        }
    }
    for (id, nodes) in nodes_of {
        found.push(blocking_budget(&interned.budgets[id as usize], nodes));
    }
    if !assumed.is_empty() {
        let name = |id: &u32| {
            let key = interned.budgets[*id as usize].source.key();
            format!("{}/{}", key.namespace, key.name)
        };
        found.push(Finding::new(
            ASSUMED,
            Severity::Info,
            ObjectName::cluster("Policy", "assumed-budgets"),
            format!(
                "workloads without a PodDisruptionBudget that are treated as if they had one: {} ({})",
                assumed.len(),
                listed(assumed.iter().map(name)),
            ),
            "give them budgets of their own, or change assumed-budgets in the policy",
        ));
    }
    doubly_guarded(model, interned, jobs, found);
}

fn blocking_budget(budget: &Budget<'_>, nodes: Vec<&str>) -> Finding {
    let never = budget.steady == 0;
    let (count, names) = (nodes.len(), listed(nodes.into_iter().map(str::to_owned)));
    let key = budget.source.key();
    let severity = if never {
        Severity::Blocker
    } else {
        Severity::Warning
    };
    let numbers = format!(
        "needs {} healthy pods of {} and has {}",
        budget.desired, budget.expected, budget.healthy
    );
    match budget.source {
        BudgetSource::Real(object) => {
            let is_failing = object.status.sync_failed.is_some();
            let numbers = match &object.status.sync_failed {
                Some(message) => format!("cannot be worked out by the cluster ({message})"),
                None if !object.status.observed => {
                    format!("its status is not up to date, by its spec it {numbers}")
                }
                None => numbers,
            };
            let object =
                ObjectName::namespaced("PodDisruptionBudget", &object.namespace, &object.name);
            if never {
                let cure = if is_failing {
                    "correct the budget until its status is worked out again"
                } else {
                    "add a replica, lower minAvailable or raise maxUnavailable"
                };
                Finding::new(
                    BUDGET_NEVER,
                    severity,
                    object,
                    format!("{numbers}: no drain of {count} nodes can ever end: {names}"),
                    cure,
                )
            } else {
                Finding::new(
                    BUDGET_NOT_NOW,
                    severity,
                    object,
                    format!("{numbers}: drains of {count} nodes wait until it recovers: {names}"),
                    "bring the missing pods back; the prediction assumes that they come",
                )
            }
        }
        BudgetSource::Assumed(workload) => {
            let id = &workload.id;
            let object = ObjectName::namespaced(&id.kind, &id.namespace, &id.name);
            if never {
                Finding::new(
                    ASSUMED_NEVER,
                    severity,
                    object,
                    format!("{key} {numbers}: no drain of {count} nodes can ever end: {names}"),
                    "raise assumed-budgets.max-unavailable above 0, or exclude the namespace",
                )
            } else {
                Finding::new(
                    ASSUMED_NOT_NOW,
                    severity,
                    object,
                    format!("{key} {numbers}: drains of {count} nodes wait for it: {names}"),
                    "bring the missing pods back; the prediction assumes that they come",
                )
            }
        }
    }
}

/// One finding per pair of budgets.
fn doubly_guarded(
    model: &ClusterModel,
    interned: &Interned<'_>,
    jobs: &[Job<'_>],
    found: &mut Vec<Finding>,
) {
    if interned.doubly_guarded.is_empty() {
        return;
    }
    let to_drain: BTreeSet<u32> = jobs.iter().map(|job| job.id).collect();
    let mut pods_of: BTreeMap<[u32; 2], Vec<String>> = BTreeMap::new();
    for pod in interned
        .doubly_guarded
        .iter()
        .filter(|pod| to_drain.contains(&pod.node))
    {
        let name = model.pods[pod.pod].id.to_string();
        pods_of.entry(pod.budgets).or_default().push(name);
    }
    for ([first, second], pods) in pods_of {
        let key = |id: u32| interned.budgets[id as usize].source.key();
        let (first, count) = (key(first), pods.len());
        found.push(Finding::new(
            TWO_BUDGETS,
            Severity::Blocker,
            ObjectName::namespaced("PodDisruptionBudget", &first.namespace, &first.name),
            format!(
                "guards {count} pods together with {}, and the API never evicts such a pod: {}",
                key(second),
                listed(pods.into_iter())
            ),
            "change the selectors so that each pod has one budget",
        ));
    }
}

/// What keeps nodes from beginning after everything else has ended.
pub(super) fn of_nodes(plan: &Plan, machine: &Machine, jobs: &[Job<'_>], found: &mut Vec<Finding>) {
    let retries = machine.retries();
    let mut left: BTreeMap<u32, usize> = BTreeMap::new();
    let mut full: BTreeSet<u32> = BTreeSet::new();
    for (slot, job) in (0..).zip(jobs) {
        let (name, pool) = (&job.node.name, job.pool);
        if job.node.unschedulable {
            found.push(Finding::new(
                NODE_CORDONED,
                Severity::Warning,
                ObjectName::cluster("Node", name),
                format!("is cordoned and takes a slot of pool {pool} until it is not"),
                "uncordon it if nobody needs the cordon; a cordon of others is never lifted",
            ));
        }
        if !job.node.ready {
            found.push(Finding::new(
                NODE_NOT_READY,
                Severity::Blocker,
                ObjectName::cluster("Node", name),
                format!("is not Ready: it takes a slot of pool {pool} and cannot be drained"),
                "bring it back, or remove it from the cluster",
            ));
        }
        let target = machine.members() + slot;
        if !machine.state(target).is_over() {
            *left.entry(machine.pool_of(slot)).or_default() += 1;
        }
        if let Some((_, Obstacle::NodeAway { pool })) = machine.obstacle(target, &retries) {
            full.insert(pool);
        }
    }
    for pool in full {
        let planned = &plan.pools[pool as usize];
        let away = machine.away(pool).count();
        found.push(Finding::new(
            POOL_FULL,
            Severity::Blocker,
            ObjectName::cluster("Pool", &planned.name),
            format!(
                "{away} of its nodes are cordoned or not Ready and at most {} may be away: {} nodes \
                 can never begin",
                planned.width,
                left.get(&pool).copied().unwrap_or_default()
            ),
            "bring those nodes back, or raise max-unavailable of the pool",
        ));
    }
}

/// Marks what policy waives and puts the worst first.
pub(super) fn finish(mut found: Vec<Finding>, policy: &Policy) -> Vec<Finding> {
    for finding in &mut found {
        finding.waived = policy.waive.contains(&finding.code);
    }
    found.sort_by(|a, b| {
        let key = |f: &Finding| (f.code.clone(), f.object.clone());
        b.severity
            .cmp(&a.severity)
            .then_with(|| key(a).cmp(&key(b)))
    });
    found
}

/// The first few names, and how many more there are.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let mut text = names.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
