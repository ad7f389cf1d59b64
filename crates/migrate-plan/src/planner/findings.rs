//! What planning found: above all, what can never be done.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use migrate_core::impossible::{self, codes};
use migrate_core::preconditions::{self, CordonOwner};
use migrate_core::{
    ClusterModel, Finding, KubeVersion, Moment, Node, ObjectName, Plan, Point, Policy, Severity,
    listed,
};

use super::Job;
use crate::intern::{BudgetSource, Interned};

/// Workloads whose budgets are assumed.
const ASSUMED: &str = "KM-BUDGET-002";
/// A window that is never long enough.
const WINDOW: &str = "KM-WINDOW-001";
/// Pools that policy gives a target and that have no node any more.
const GONE: &str = "KM-POLICY-002";
/// Who holds the virtual address of the control plane.
const ADDRESS: &str = "KM-LB-005";
/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

/// What versions and nodes say, by the checks of [`preconditions`]. Whose a
/// cordon is, the model does not say; the preflight does.
pub(super) fn of_preconditions(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    is_way_back: bool,
) -> Vec<Finding> {
    let next = (!is_way_back).then(|| target.minor_version());
    let mut found = preconditions::check_skew(model, next);
    found.extend(preconditions::check_nodes(model, policy, target, |_| {
        CordonOwner::Unknown
    }));
    found
}

/// What the budgets of the nodes to be drained say, by the checks of [`impossible`].
///
/// They cost more for each pod than the rest of a plan, so only namespaces are
/// looked at in which something may keep a drain from ending: there is no
/// blocker in the others.
pub(super) fn of_budgets(
    model: &ClusterModel,
    policy: &Policy,
    interned: &Interned<'_>,
    drains: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let troubled = &interned.troubled;
    if troubled.is_empty() {
        return Vec::new();
    }
    impossible::check_budgets(model, policy, drains, |namespace| {
        troubled.contains(namespace)
    })
}

/// Pods that nobody has agreed to move, of the nodes to be drained. Which pods only their node
/// can host takes a look at all placements, and is left to the preflight.
pub(super) fn of_consent(
    model: &ClusterModel,
    policy: &Policy,
    interned: &Interned<'_>,
    drains: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    if interned.asking.is_empty() {
        return Vec::new();
    }
    let asking = interned.asking.iter();
    let asking = asking.map(|id| model.nodes[*id as usize].name.as_str());
    let asking: BTreeSet<&str> = asking.collect();
    impossible::check_consent(model, policy, |node| {
        asking.contains(node.name.as_str()) && drains(node)
    })
}

/// Lets the prediction believe that a budget recovers unless a blocker says
/// that it cannot: what has no time in a schedule has a blocker.
pub(super) fn believe(found: &[Finding], interned: &mut Interned<'_>) {
    let blockers = || {
        found
            .iter()
            .filter(|finding| finding.severity == Severity::Blocker)
    };
    // That two guard one pod says nothing of either, and which of the two is named only
    // their names decide.
    let objects = blockers().filter(|finding| finding.code != codes::TWO_BUDGETS);
    let objects: BTreeSet<&ObjectName> = objects.map(|finding| &finding.object).collect();
    let nothing_assumed = blockers().any(|finding| finding.code == codes::ASSUMED_NEVER);
    for budget in interned
        .budgets
        .iter_mut()
        .filter(|budget| budget.steady == 0)
    {
        let (object, covered) = match budget.source {
            BudgetSource::Real(b) => (
                ObjectName::namespaced("PodDisruptionBudget", &b.namespace, &b.name),
                false,
            ),
            BudgetSource::Assumed(workload) => {
                let id = &workload.id;
                (
                    ObjectName::namespaced(&id.kind, &id.namespace, &id.name),
                    nothing_assumed,
                )
            }
        };
        if !covered && !objects.contains(&object) {
            budget.steady = 1;
        }
    }
}

/// What no window is long enough for; `is_p95` says what lengths are.
pub(super) fn of_windows(
    plan: &Plan,
    policy: &Policy,
    start: Moment,
    is_p95: bool,
) -> Option<Finding> {
    let calendar = policy.rollout.calendar();
    if calendar.is_always_open() {
        return None;
    }
    let longest = calendar.longest_after(start);
    let longest = longest.map_or(Duration::ZERO, |opening| opening.length());
    let before = plan.tasks.iter();
    let before = before.filter(|task| task.at == Point::BeforeControlPlane);
    let before = before.map(|task| task.length);
    let members = plan.control_plane.iter().map(|member| member.length);
    let members = members
        .chain(before)
        .fold(Duration::ZERO, Duration::saturating_add);
    let members =
        (!plan.control_plane.is_empty()).then(|| ("the control plane".to_owned(), members));
    let tasks = plan.tasks.iter();
    let tasks = tasks.map(|task| (task.target.to_string(), task.length));
    let slots = plan.slots.iter();
    let slots = slots.map(|slot| (format!("node {}", slot.node), slot.length));
    let too_long = members.into_iter().chain(slots).chain(tasks);
    let too_long: Vec<_> = too_long.filter(|(_, length)| *length > longest).collect();
    let needed = too_long.iter().map(|(_, length)| *length).max()?;
    let minutes = |length: Duration| length.as_secs().div_ceil(60);
    let (at, cure) = match is_p95 {
        true => (
            " at P95",
            "a longer window, fewer blackouts, or durations that were measured in an earlier run, \
             of which P95 is nearer",
        ),
        false => ("", "a longer window, or fewer blackouts"),
    };
    Some(Finding::new(
        WINDOW,
        Severity::Blocker,
        ObjectName::cluster("Policy", "rollout.windows"),
        format!(
            "the longest time that windows and blackouts leave within a year is {} min, and {} \
             of the plan's targets need up to {} min{at} ({})",
            longest.as_secs() / 60,
            too_long.len(),
            minutes(needed),
            listed(too_long.into_iter().map(|(name, _)| name), NAMES_SHOWN),
        ),
        cure,
    ))
}

/// What a budget guards, by name; written out only where it is shown.
struct Guarded<'a>(&'a BudgetSource<'a>);

impl fmt::Display for Guarded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.key();
        write!(f, "{}/{}", key.namespace, key.name)
    }
}

/// Workloads that are guarded although they have no budget.
pub(super) fn of_assumed(interned: &Interned<'_>, jobs: &[Job<'_>]) -> Option<Finding> {
    let mut drains = vec![false; interned.loads.len()];
    for job in jobs {
        drains[job.id as usize] = true;
    }
    let is_assumed = |source: &&BudgetSource<'_>| matches!(source, BudgetSource::Assumed(_));
    let touched = interned.shares().filter_map(|(budget, shares)| {
        let mut shares = shares.iter();
        let mut is_touched = || shares.any(|share| drains[share.node as usize]);
        Some(&budget.source)
            .filter(is_assumed)
            .filter(|_| is_touched())
    });
    let assumed: Vec<Guarded<'_>> = touched.map(Guarded).collect();
    (!assumed.is_empty()).then(|| {
        Finding::new(
            ASSUMED,
            Severity::Info,
            ObjectName::cluster("Policy", "assumed-budgets"),
            format!(
                "workloads without a PodDisruptionBudget that are treated as if they had one: {} ({})",
                assumed.len(),
                listed(&assumed, NAMES_SHOWN),
            ),
            "give them budgets of their own, or change assumed-budgets in the policy",
        )
    })
}

/// Pools with a target of their own that have no node any more.
pub(super) fn of_gone(pools: &[&str]) -> Option<Finding> {
    (!pools.is_empty()).then(|| {
        Finding::new(
            GONE,
            Severity::Warning,
            ObjectName::cluster("Policy", "pools.target-of"),
            format!(
                "pools with a target of their own had nodes when this upgrade was planned first, and have none \
                 now: {}",
                listed(pools, NAMES_SHOWN)
            ),
            "nothing, if they were scaled to none; if their nodes are there under another pool, \
             put the label back: as things are they go with that pool",
        )
    })
}

/// That the order of the members is another one for the sake of `holder`, who
/// has the virtual address of the control plane.
pub(super) fn of_address(plan: &Plan, holder: Option<&str>) -> Option<Finding> {
    let last = plan.control_plane.last()?;
    let is_put_last = holder == Some(last.name.as_str()) && plan.control_plane.len() > 1;
    is_put_last.then(|| {
        Finding::new(
            ADDRESS,
            Severity::Info,
            ObjectName::cluster("Node", &last.name),
            "kube-vip holds the virtual address of the control plane here: this member is the \
             last, so that the address moves once",
            "nothing; a connection through the address breaks when it moves",
        )
    })
}

/// Marks what policy waives and puts the worst first.
pub(super) fn finish(mut found: Vec<Finding>, policy: &Policy) -> Vec<Finding> {
    policy.mark_waived(&mut found);
    found.sort_by(|a, b| {
        let key = |f: &Finding| (f.code.clone(), f.object.clone());
        b.severity
            .cmp(&a.severity)
            .then_with(|| key(a).cmp(&key(b)))
    });
    found
}
