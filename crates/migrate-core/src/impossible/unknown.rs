//! Pods of controllers whose objects are not read.

use std::collections::{BTreeMap, BTreeSet};

use super::movers::Movers;
use super::{codes, names, plural, sorted};
use crate::selector::SelectorIndex;
use crate::{
    ClusterModel, DisruptionBudget, Finding, Node, ObjectName, Pod, Policy, Severity, WorkloadId,
};

/// What is assumed of controllers that are not known, one finding for each that
/// has pods on the nodes that `drains` names and no PodDisruptionBudget: part of
/// [`check_nodes`](super::check_nodes), for who asks for nothing else.
///
/// The model must be [sorted](ClusterModel::sort). Cost: its workloads; if it has
/// such controllers, the pods of their namespaces once.
pub fn check_unknown(
    model: &ClusterModel,
    policy: &Policy,
    drains: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let counted = model.workloads.iter().filter(|one| one.id.is_counted());
    let namespaces: BTreeSet<&str> = counted.map(|one| one.id.namespace.as_str()).collect();
    if namespaces.is_empty() {
        return Vec::new();
    }
    let movers = Movers::of(model, policy, drains, |name| namespaces.contains(name));
    sorted(of_counted(model, policy, &movers))
}

/// The same for pods known to leave, and what becomes of pods that no workload
/// stands for.
pub(super) fn check(model: &ClusterModel, policy: &Policy, movers: &Movers<'_>) -> Vec<Finding> {
    let mut findings = of_counted(model, policy, movers);
    findings.extend(of_not_kept(movers));
    findings
}

fn of_counted(model: &ClusterModel, policy: &Policy, movers: &Movers<'_>) -> Vec<Finding> {
    let mut by_owner: BTreeMap<&WorkloadId, &Pod> = BTreeMap::new();
    for &pod in &movers.leaving {
        if let Some(id) = pod.workload.as_deref().filter(|id| id.is_counted()) {
            by_owner.entry(id).or_insert(pod);
        }
    }
    let mut guards = Guards {
        model,
        by_namespace: BTreeMap::new(),
    };
    let unguarded = by_owner
        .into_iter()
        .filter(|(_, pod)| !guards.has_one_for(pod));
    unguarded
        .filter_map(|(id, _)| {
            let workload = model.workload(id)?;
            let known = "its controller is not known here: what it wants is taken to be";
            let evidence = match (workload.replicas, policy.assumed_budgets.needs(workload)) {
                (0 | 1, _) => format!(
                    "{known} its one pod, which is evicted without asking; the drain waits for \
                     the next one as soon as there is one"
                ),
                (pods, Some(needed)) => format!(
                    "{known} its {pods} pods, of which {} may be away at once; the drain waits \
                     until as many are ready again",
                    pods.saturating_sub(needed)
                ),
                (pods, None) => format!(
                    "{known} its {pods} pods, which policy lets go all at once; the drain waits \
                     until as many are ready again"
                ),
            };
            Some(Finding::new(
                codes::COUNTED,
                Severity::Warning,
                ObjectName::namespaced(&id.kind, &id.namespace, &id.name),
                evidence,
                "a PodDisruptionBudget that says how many of its pods may be away",
            ))
        })
        .collect()
}

/// PodDisruptionBudgets by namespace, found by the labels that they demand.
struct Guards<'a> {
    model: &'a ClusterModel,
    by_namespace: BTreeMap<&'a str, SelectorIndex<&'a DisruptionBudget>>,
}

impl<'a> Guards<'a> {
    /// Whether one matches the pod.
    fn has_one_for(&mut self, pod: &'a Pod) -> bool {
        let namespace = pod.id.namespace.as_str();
        let budgets = &self.model.budgets;
        let index = self.by_namespace.entry(namespace).or_insert_with(|| {
            let first = budgets.partition_point(|one| one.namespace.as_str() < namespace);
            let own = budgets.iter().skip(first);
            let mut index = SelectorIndex::default();
            for budget in own.take_while(|one| one.namespace == namespace) {
                if let Some(selector) = &budget.selector {
                    index.insert(selector, budget);
                }
            }
            index
        });
        index.candidates(&pod.labels).any(|one| one.matches(pod))
    }
}

fn of_not_kept(movers: &Movers<'_>) -> Vec<Finding> {
    let mut by_owner: BTreeMap<ObjectName, Vec<&str>> = BTreeMap::new();
    for pod in movers.leaving.iter().filter(|pod| pod.workload.is_none()) {
        if let Some(owner) = &pod.controller {
            let owner = ObjectName::namespaced(&owner.kind, &pod.id.namespace, &owner.name);
            by_owner.entry(owner).or_default().push(&pod.id.name);
        }
    }
    by_owner
        .into_iter()
        .map(|(owner, pods)| {
            let count = plural(pods.len(), "pod", "pods");
            Finding::new(
                codes::NOT_KEPT,
                Severity::Warning,
                owner,
                format!(
                    "its controller is not known here and does not keep {count} of it ({}) \
                     running for ever: they are evicted, and nobody waits for others",
                    names(pods)
                ),
                "start when they have ended, or guard them with a PodDisruptionBudget",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impossible::check;
    use crate::{
        ClusterId, ControllerRef, DisruptionBudget, LabelSelector, Moment, PodId, Workload,
    };

    /// `count` pods of the CloneSet `shop/NAME`, each on a node of its own.
    fn cluster(name: &str, count: usize) -> ClusterModel {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let controller = ControllerRef {
            group: "apps.kruise.io".into(),
            kind: "CloneSet".into(),
            name: name.into(),
            uid: "u-owner".into(),
        };
        for index in 0..count {
            let node = format!("n{index}");
            model
                .nodes
                .push(Node::new(&node, "v1.36.0".parse().unwrap()));
            let mut pod = Pod::new(PodId::new("shop", format!("{name}-{index}"), &node), &node);
            pod.labels.insert("app".into(), name.into());
            pod.workload = Some(WorkloadId::counted("shop", &controller).into());
            pod.controller = Some(controller.clone().into());
            model.pods.push(pod);
        }
        recount(model)
    }

    fn recount(mut model: ClusterModel) -> ClusterModel {
        model.workloads = Workload::count(&model.pods);
        model.sort();
        model
    }

    /// `code object: evidence` of each finding about a controller.
    fn said(model: &ClusterModel, policy: &Policy) -> Vec<String> {
        let all = check(model, policy).into_iter();
        let ours =
            all.filter(|found| found.code == codes::COUNTED || found.code == codes::NOT_KEPT);
        let ours: Vec<Finding> = ours.collect();
        let in_plan = check_unknown(model, policy, |_| true);
        let counted = ours.iter().filter(|found| found.code == codes::COUNTED);
        assert!(in_plan.iter().eq(counted), "{in_plan:?}");
        assert!(ours.iter().all(|found| found.severity == Severity::Warning));
        let text = |found: &Finding| format!("{} {}: {}", found.code, found.object, found.evidence);
        ours.iter().map(text).collect()
    }

    #[test]
    fn what_is_assumed_of_a_controller_is_said_with_numbers() {
        let mut policy = Policy::default();
        let of_three = said(&cluster("web", 3), &policy);
        assert_eq!(of_three.len(), 1);
        assert!(
            of_three[0].starts_with("KM-POD-006 CloneSet shop/web: "),
            "{of_three:?}"
        );
        assert!(
            of_three[0].contains("3 pods, of which 1 may be away"),
            "{of_three:?}"
        );
        let of_one = said(&cluster("db", 1), &policy);
        assert!(of_one[0].contains("its one pod"), "{of_one:?}");
        policy.assumed_budgets.enabled = false;
        let off = said(&cluster("web", 3), &policy);
        assert!(off[0].contains("lets go all at once"), "{off:?}");
    }

    #[test]
    fn a_budget_of_its_owner_is_the_cure() {
        let mut model = cluster("web", 3);
        let selector = |app| LabelSelector::new().with_label("app", app);
        model
            .budgets
            .push(DisruptionBudget::new("shop", "a", selector("other")));
        model
            .budgets
            .push(DisruptionBudget::new("zoo", "b", selector("web")));
        assert_eq!(said(&model, &Policy::default()).len(), 1);
        model
            .budgets
            .push(DisruptionBudget::new("shop", "c", selector("web")));
        model.sort();
        assert_eq!(said(&model, &Policy::default()), Vec::<String>::new());
    }

    #[test]
    fn pods_that_no_workload_stands_for_are_named_once_for_their_owner() {
        let mut model = cluster("build", 2);
        for pod in &mut model.pods {
            pod.workload = None;
        }
        let said = said(&recount(model), &Policy::default());
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("KM-POD-007 CloneSet shop/build: "),
            "{said:?}"
        );
        assert!(
            said[0].contains("2 pods of it (build-0, build-1)"),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_wanted_is_neither_finished_nor_terminating() {
        let mut model = cluster("web", 4);
        model.pods[0].deletion = Some(Moment::from_millis(1));
        model.pods[1].phase = crate::PodPhase::Failed;
        model.pods[2].ready = false;
        let model = recount(model);
        let counts: Vec<_> = model
            .workloads
            .iter()
            .map(|w| (w.replicas, w.ready))
            .collect();
        assert_eq!(counts, [(2, 2)]);
        assert_eq!(model.workloads[0].uid, "u-owner");
    }
}
