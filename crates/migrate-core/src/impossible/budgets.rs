//! Budgets that let no pod go, for ever or as things are.

use std::collections::BTreeMap;

use super::movers::Movers;
use super::{codes, cure, names, plural};
use crate::{
    BlockedReason, BudgetKey, BudgetKind, BudgetLedger, ClusterModel, DisruptionBudget, Finding,
    Hosts, ObjectName, Pod, PodPhase, Policy, Severity, UnhealthyPodPolicy, WorkloadId,
};

/// Findings about every budget, real or assumed, of a namespace that `concerns`
/// names, if it guards a pod to be evicted.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    movers: &Movers<'_>,
    concerns: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let ledger = BudgetLedger::of_namespaces(model, policy.assumed_budgets.clone(), &concerns);
    let book = Book::of(model, &ledger, concerns);
    let mut guarded: BTreeMap<&BudgetKey, Vec<&Pod>> = BTreeMap::new();
    let mut doubled: BTreeMap<(&BudgetKey, &BudgetKey), Vec<&str>> = BTreeMap::new();
    for &pod in &movers.leaving {
        // The API asks no budget about a pod that has not started.
        if pod.phase == PodPhase::Pending && !pod.ready {
            continue;
        }
        let keys = ledger.budgets_of(&pod.id.uid);
        if let [first, second, ..] = keys {
            doubled
                .entry((first, second))
                .or_default()
                .push(&pod.id.name);
        }
        for key in ledger.budgets_asked(&pod.id.uid) {
            guarded.entry(key).or_default().push(pod);
        }
    }

    let mut findings: Vec<Finding> = doubled
        .into_iter()
        .map(|((first, second), pods)| two_budgets(first, second, &pods))
        .collect();
    let objects: BTreeMap<(&str, &str), &DisruptionBudget> = model
        .budgets
        .iter()
        .map(|budget| ((budget.namespace.as_str(), budget.name.as_str()), budget))
        .collect();
    let mut powerless = Vec::new();
    let mut hosts = Hosts::of(model);
    for (key, pods) in guarded {
        let case = Case {
            key,
            pods: &pods,
            ledger: &ledger,
            book: &book,
        };
        match (
            key.kind,
            objects.get(&(key.namespace.as_str(), key.name.as_str())),
        ) {
            (BudgetKind::Real, Some(budget)) => {
                findings.extend(case.real(budget).or_else(|| case.tied(&mut hosts)));
            }
            (BudgetKind::Real, None) => {}
            (BudgetKind::Assumed, _)
                if policy.assumed_budgets.max_unavailable.resolve_up(100) == 0 =>
            {
                powerless.extend(case.blocked().map(|_| key.name.as_str()));
            }
            (BudgetKind::Assumed, _) => {
                findings.extend(case.assumed().or_else(|| case.tied(&mut hosts)));
            }
        }
    }
    if !powerless.is_empty() {
        findings.push(assumed_nothing(&powerless));
    }
    findings
}

/// One budget and the pods it guards that would have to leave.
struct Case<'a, 'c> {
    key: &'c BudgetKey,
    pods: &'c [&'a Pod],
    ledger: &'c BudgetLedger,
    book: &'c Book<'a>,
}

impl<'a> Case<'a, '_> {
    fn real(&self, budget: &DisruptionBudget) -> Option<Finding> {
        let ignores_sick = budget.unhealthy_pods == UnhealthyPodPolicy::AlwaysAllow;
        if ignores_sick && !self.pods.iter().any(|pod| pod.is_healthy()) {
            return None;
        }
        let status = &budget.status;
        if let Some(message) = &status.sync_failed {
            return Some(self.finding(
                codes::BUDGET_NEVER,
                Severity::Blocker,
                format!(
                    "the disruption controller cannot work it out, so no pod may go: {message}"
                ),
                "give its pods a controller that has replicas, or write minAvailable as a number",
            ));
        }
        if let Some((mut evidence, cure)) = never(budget, self.book.supply(self.key)) {
            let allows_now = status.observed && status.disruptions_allowed > 0;
            let severity = if allows_now {
                Severity::Warning
            } else {
                Severity::Blocker
            };
            if allows_now {
                // More pods than wanted, as in the middle of a rollout.
                evidence = format!(
                    "{evidence}; just now it allows {}",
                    status.disruptions_allowed
                );
            }
            return Some(self.finding(codes::BUDGET_NEVER, severity, evidence, cure));
        }
        if !status.observed {
            return Some(self.finding(
                codes::BUDGET_NOT_OBSERVED,
                Severity::Warning,
                "its status is behind its spec, and until it is up to date no pod may go",
                "see that kube-controller-manager runs",
            ));
        }
        let cure = if ignores_sick {
            ""
        } else {
            ", or let pods that are not Ready go with unhealthyPodEvictionPolicy: AlwaysAllow"
        };
        self.exhausted(codes::BUDGET_NOT_NOW, cure)
    }

    fn assumed(&self) -> Option<Finding> {
        let cure = format!(
            ", or take {:?} into assumed-budgets.exclude-namespaces",
            self.key.namespace
        );
        self.exhausted(codes::ASSUMED_NOT_NOW, &cure)
    }

    /// More of its pods on one node than may be down at once, and no other node
    /// can host them: each is down until the node is back, and so the next one
    /// is never let go.
    fn tied(&self, hosts: &mut Hosts<'a>) -> Option<Finding> {
        let view = self.ledger.account(self.key)?;
        let spare = view.healthy.saturating_sub(view.desired) as usize;
        let mut by_node: BTreeMap<&str, Vec<&'a Pod>> = BTreeMap::new();
        for &pod in self.pods.iter().filter(|pod| pod.is_healthy()) {
            let node = pod.node.as_deref().unwrap_or_default();
            by_node.entry(node).or_default().push(pod);
        }
        let crowds = by_node.into_iter().filter(|(_, pods)| pods.len() > spare);
        for (node, pods) in crowds {
            let tied = pods.into_iter();
            let tied: Vec<&str> = tied
                .filter(|pod| hosts.only_host(pod).is_some())
                .map(|pod| pod.id.name.as_str())
                .collect();
            if tied.len() <= spare {
                continue;
            }
            let (code, or) = match self.key.kind {
                BudgetKind::Real => (codes::BUDGET_TIED, String::new()),
                BudgetKind::Assumed => (
                    codes::ASSUMED_TIED,
                    format!(
                        " with a PodDisruptionBudget of its own, or take {:?} into \
                         assumed-budgets.exclude-namespaces",
                        self.key.namespace
                    ),
                ),
            };
            let count = tied.len();
            return Some(self.finding(
                code,
                Severity::Blocker,
                format!(
                    "only node {node} can host {} ({}), so that they stay down until it is \
                     back, and no more than {spare} may be down at once",
                    plural(count, "pod of it", "pods of it"),
                    names(tied.iter().copied())
                ),
                format!("let another node host them, or allow {count} to be down at once{or}"),
            ));
        }
        None
    }

    /// A pod that this budget does not let go as things are.
    fn blocked(&self) -> Option<&Pod> {
        let blocks = |pod: &&Pod| {
            let blocked = self.ledger.blocked(&pod.id.uid);
            blocked.is_some_and(|b| {
                let doubled = matches!(b.reason, BlockedReason::TwoBudgets(_));
                b.budget.as_ref() == Some(self.key) && !doubled
            })
        };
        self.pods.iter().copied().find(blocks)
    }

    fn exhausted(&self, code: &str, or: &str) -> Option<Finding> {
        let first = self.blocked()?;
        let view = self.ledger.account(self.key)?;
        let (desired, healthy) = (view.desired, view.healthy);
        let members = self.book.members(self.key);
        let leaving = members.iter().filter(|pod| pod.deletion.is_some()).count();
        let sick: Vec<&str> = members
            .iter()
            .filter(|pod| pod.deletion.is_none() && !pod.ready)
            .map(|pod| pod.id.name.as_str())
            .collect();

        let enough = desired.saturating_add(1);
        let mut evidence = format!(
            "to let a pod such as {} go it must have {}, and it has {healthy}",
            first.id.name,
            plural(enough as usize, "healthy pod", "healthy pods")
        );
        if !sick.is_empty() {
            evidence = format!("{evidence}; not Ready: {}", names(sick.iter().copied()));
        }
        if healthy as usize + leaving > desired as usize {
            return Some(self.finding(
                code,
                Severity::Warning,
                format!("{evidence}; its pods are being replaced at this moment"),
                "wait until that is over, and see whether it comes back",
            ));
        }
        let missing = enough.saturating_sub(healthy);
        let or = if sick.is_empty() && code == codes::BUDGET_NOT_NOW {
            ""
        } else {
            or
        };
        let cure = format!("bring {missing} more of its pods to Ready{or}");
        Some(self.finding(code, Severity::Blocker, evidence, cure))
    }

    fn finding(
        &self,
        code: &str,
        severity: Severity,
        evidence: impl Into<String>,
        cure: impl Into<String>,
    ) -> Finding {
        Finding::new(code, severity, object(self.key), evidence, cure)
    }
}

/// Evidence and cure of a budget that cannot let a pod go even when all its
/// pods are healthy.
fn never(budget: &DisruptionBudget, supply: Supply) -> Option<(String, String)> {
    let Supply { wanted, reachable } = supply;
    let needed = budget.desired_healthy(wanted);
    if wanted == 0 || reachable > needed {
        // Without wanted pods the present ones are about to go anyway.
        return None;
    }
    let pods = plural(wanted as usize, "pod", "pods");
    Some(match (budget.max_unavailable, budget.min_available) {
        (None, None) => (
            "neither minAvailable nor maxUnavailable is set, so no pod may ever go".to_owned(),
            cure::allow_one(wanted),
        ),
        _ if wanted > needed => (
            format!(
                "it needs {needed} healthy pods, because its workloads run {wanted}, but its \
                 selector matches only {reachable} of them"
            ),
            format!(
                "let its selector match all {wanted}, or set minAvailable to {}",
                reachable.saturating_sub(1)
            ),
        ),
        (Some(max), _) => (
            format!("maxUnavailable is {max}: none of its {pods} may ever go"),
            cure::allow_one(wanted),
        ),
        (None, Some(min)) => (
            format!(
                "minAvailable is {min}, that is {needed}, and there are {pods}: none may ever go"
            ),
            cure::lower(min, wanted),
        ),
    })
}

fn two_budgets(first: &BudgetKey, second: &BudgetKey, pods: &[&str]) -> Finding {
    Finding::new(
        codes::TWO_BUDGETS,
        Severity::Blocker,
        object(first),
        format!(
            "{second} guards {} too ({}): the API evicts no pod that has two budgets",
            plural(pods.len(), "pod of it", "pods of it"),
            names(pods.iter().copied())
        ),
        "leave one of the two, or make their selectors disjoint",
    )
}

fn assumed_nothing(workloads: &[&str]) -> Finding {
    Finding::new(
        codes::ASSUMED_NEVER,
        Severity::Blocker,
        ObjectName::cluster("Policy", "assumed-budgets.max-unavailable"),
        format!(
            "it is 0: {} without a budget could never let a pod go ({})",
            plural(workloads.len(), "workload", "workloads"),
            names(workloads.iter().copied())
        ),
        "set it to 1 or more, or assume no budgets: assumed-budgets.enabled = false",
    )
}

fn object(key: &BudgetKey) -> ObjectName {
    match (key.kind, key.name.split_once('/')) {
        (BudgetKind::Assumed, Some((kind, name))) => {
            ObjectName::namespaced(kind, &key.namespace, name)
        }
        _ => ObjectName::namespaced("PodDisruptionBudget", &key.namespace, &key.name),
    }
}

/// Who counts for which budget, and how many pods there should be.
struct Book<'a> {
    members: BTreeMap<&'a BudgetKey, Vec<&'a Pod>>,
    /// Wanted pods of each workload.
    replicas: BTreeMap<&'a WorkloadId, u32>,
    /// Pods of each workload that stay.
    staying: BTreeMap<&'a WorkloadId, u32>,
}

/// How many pods a budget can count on.
#[derive(Clone, Copy, Debug)]
struct Supply {
    /// Pods that the workloads behind it want.
    wanted: u32,
    /// Those of them that its selector can match.
    reachable: u32,
}

impl<'a> Book<'a> {
    fn of(
        model: &'a ClusterModel,
        ledger: &'a BudgetLedger,
        concerns: impl Fn(&str) -> bool,
    ) -> Self {
        let mut book = Self {
            members: BTreeMap::new(),
            replicas: model
                .workloads
                .iter()
                .map(|w| (&w.id, w.replicas))
                .collect(),
            staying: BTreeMap::new(),
        };
        let concerned = model.pods.iter();
        for pod in concerned.filter(|pod| !pod.is_finished() && concerns(&pod.id.namespace)) {
            for key in ledger.budgets_asked(&pod.id.uid) {
                book.members.entry(key).or_default().push(pod);
            }
            if let Some(workload) = pod.workload.as_ref().filter(|_| pod.deletion.is_none()) {
                *book.staying.entry(workload).or_default() += 1;
            }
        }
        book
    }

    fn members(&self, key: &BudgetKey) -> &[&'a Pod] {
        self.members.get(key).map_or(&[], Vec::as_slice)
    }

    fn supply(&self, key: &BudgetKey) -> Supply {
        let mut supply = Supply {
            wanted: 0,
            reachable: 0,
        };
        let mut matched: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
        for pod in self.members(key) {
            let workload = pod
                .workload
                .as_ref()
                .filter(|id| self.replicas.contains_key(id));
            let stays = pod.deletion.is_none();
            match workload {
                Some(workload) => *matched.entry(workload).or_default() += u32::from(stays),
                // Nobody knows how many are wanted: as many as there are.
                None => {
                    supply.wanted += u32::from(stays);
                    supply.reachable += u32::from(stays);
                }
            }
        }
        for (workload, matched) in matched {
            let replicas = self.replicas.get(workload).copied().unwrap_or(0);
            let staying = self.staying.get(workload).copied().unwrap_or(0);
            supply.wanted = supply.wanted.saturating_add(replicas);
            let unmatched = staying.saturating_sub(matched);
            let reachable = replicas.saturating_sub(unmatched);
            supply.reachable = supply.reachable.saturating_add(reachable);
        }
        supply
    }
}
