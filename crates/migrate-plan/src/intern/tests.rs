//! Interning agrees with the ledger, the other reader of the same rules.

use std::collections::BTreeMap;

use migrate_core::impossible;
use migrate_core::model::SCHEMA;
use migrate_core::selector::{Operator, Requirement};
use migrate_core::{
    AssumedBudgetPolicy, BudgetKey, BudgetLedger, ClusterId, ClusterModel, DisruptionBudget,
    IntOrPercent, LabelSelector, Moment, Node, Pod, PodId, Policy, Workload, WorkloadId,
};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct PodSpec {
    namespace: usize,
    app: usize,
    tier: bool,
    node: usize,
    ready: bool,
}

fn model(pods: &[PodSpec], budgets: &[(usize, usize, u32, i32)], replicas: &[u32]) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    assert_eq!(model.schema, SCHEMA);
    let version: migrate_core::KubeVersion = "1.36.0".parse().unwrap();
    model.nodes = (0..3)
        .map(|n| Node::new(format!("n{n}"), version.clone()))
        .collect();
    for namespace in 0..2 {
        for (app, &replicas) in replicas.iter().enumerate() {
            let id = WorkloadId::new("Deployment", format!("ns{namespace}"), format!("app{app}"));
            model.workloads.push(Workload::new(id, replicas));
        }
    }
    for (number, &(namespace, form, allows, needs)) in budgets.iter().enumerate() {
        let selector = match form {
            0..=2 => LabelSelector::new().with_label("app", format!("app{form}")),
            3 => LabelSelector::new(),
            4 => LabelSelector::new().with_requirement(Requirement::new(
                "tier",
                Operator::Exists,
                Vec::<String>::new(),
            )),
            _ => LabelSelector::new()
                .with_label("app", "app0")
                .with_label("tier", "x"),
        };
        let mut budget =
            DisruptionBudget::new(format!("ns{namespace}"), format!("b{number}"), selector);
        budget.max_unavailable = Some(IntOrPercent::Int(allows.min(1)));
        budget.status.observed = true;
        budget.status.disruptions_allowed = allows.try_into().unwrap();
        budget.status.desired_healthy = needs;
        budget.status.expected_pods = 2;
        model.budgets.push(budget);
    }
    for (number, spec) in pods.iter().enumerate() {
        let namespace = format!("ns{}", spec.namespace);
        let name = format!("p{number}");
        let mut pod = Pod::new(
            PodId::new(&namespace, &name, &name),
            format!("n{}", spec.node),
        );
        pod.labels.insert("app".into(), format!("app{}", spec.app));
        if spec.tier {
            pod.labels.insert("tier".into(), "x".into());
        }
        pod.ready = spec.ready;
        let owner = WorkloadId::new("Deployment", &namespace, format!("app{}", spec.app));
        pod.workload = Some(owner.into());
        pod.controller = Some(
            migrate_core::ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: "rs".into(),
                uid: "rs".into(),
            }
            .into(),
        );
        model.pods.push(pod);
    }
    model.sort();
    model
}

fn any_pod() -> impl Strategy<Value = PodSpec> {
    (
        0..2usize,
        0..3usize,
        any::<bool>(),
        0..3usize,
        prop::bool::weighted(0.8),
    )
        .prop_map(|(namespace, app, tier, node, ready)| PodSpec {
            namespace,
            app,
            tier,
            node,
            ready,
        })
}

fn any_assumed() -> impl Strategy<Value = AssumedBudgetPolicy> {
    let enabled = prop::bool::weighted(0.8);
    let max_unavailable = prop_oneof![
        (1..3u32).prop_map(IntOrPercent::Int),
        Just("50%".parse().unwrap())
    ];
    let excluded = prop::collection::btree_set((0..2usize).prop_map(|n| format!("ns{n}")), 0..2);
    (enabled, max_unavailable, excluded).prop_map(|(enabled, max_unavailable, excluded)| {
        let mut policy = AssumedBudgetPolicy::default();
        policy.enabled = enabled;
        policy.max_unavailable = max_unavailable;
        policy.exclude_namespaces = excluded;
        policy
    })
}

/// Nobody tells a run when the pods of a controller that is not read are back.
#[test]
fn a_degraded_workload_that_is_counted_is_left_to_the_drain() {
    for (kind, allowed) in [("Deployment", 0), ("CloneSet", 1)] {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let id = WorkloadId::new(kind, "ns", "web");
        model.nodes.push(Node::new("n", "1.36.0".parse().unwrap()));
        model.workloads.push(Workload::new(id.clone(), 3));
        for name in ["a", "b", "c"] {
            let mut pod = Pod::new(PodId::new("ns", name, name), "n");
            pod.workload = Some(id.clone().into());
            pod.ready = name != "a";
            model.pods.push(pod);
        }
        model.sort();
        let policy = Policy::default();
        let interned = Interned::new(&model, &policy);
        let all: Vec<u32> = interned.budgets.iter().map(|one| one.allowed).collect();
        assert_eq!(all, [allowed], "{kind}");
    }
}

/// Wherever two of them have changed places, also where one is the last of those that are
/// looked at together.
#[test]
fn pods_out_of_order_are_seen() {
    let pod = PodSpec {
        namespace: 0,
        app: 0,
        tier: false,
        node: 0,
        ready: true,
    };
    let mut model = model(&vec![pod; 3 * BLOCK - 7], &[], &[1]);
    let policy = Policy::default();
    let sees = |model: &ClusterModel| {
        let interned = Interned::visiting_in_order(model, &policy, |_| {});
        interned.map(|interned| interned.loads[0].pods)
    };
    assert_eq!(sees(&model), Some(model.pods.len() as u32));
    for at in 1..model.pods.len() {
        model.pods.swap(at - 1, at);
        assert_eq!(sees(&model), None, "{at}");
        model.pods.swap(at - 1, at);
    }
}

proptest! {
    #[test]
    fn budgets_of_pods_are_those_of_the_ledger(
        pods in prop::collection::vec(any_pod(), 0..40),
        budgets in prop::collection::vec((0..2usize, 0..6usize, 0..3u32, 0..3i32), 0..4),
        replicas in prop::collection::vec(1u32..4, 3),
        assumed in any_assumed(),
    ) {
        let model = model(&pods, &budgets, &replicas);
        let mut policy = Policy::default();
        policy.assumed_budgets = assumed;
        let interned = Interned::new(&model, &policy);
        let ledger = BudgetLedger::from_model(&model, policy.assumed_budgets.clone());
        // Count for count, node by node.
        let mut expected: BTreeMap<(usize, BudgetKey), u32> = BTreeMap::new();
        for pod in model.pods.iter().filter(|pod| pod.is_healthy()) {
            let node = model.nodes.iter().position(|n| Some(&n.name) == pod.node.as_ref());
            for key in ledger.budgets_of(&pod.id.uid) {
                *expected.entry((node.unwrap(), key.clone())).or_default() += 1;
            }
        }
        let mut found = BTreeMap::new();
        for node in 0..model.nodes.len() {
            for touch in interned.touches(node as u32) {
                let key = interned.budgets[touch.budget as usize].source.key();
                found.insert((node, key), touch.pods);
            }
        }
        prop_assert_eq!(found, expected);
        // No blocker is missed by looking at troubled namespaces only.
        let all = impossible::check_budgets(&model, &policy, |_| true, |_| true);
        let some = impossible::check_budgets(&model, &policy, |_| true, |namespace| {
            interned.troubled.contains(namespace)
        });
        let blockers = all.iter().filter(|finding| finding.blocks());
        prop_assert!(blockers.clone().all(|finding| some.contains(finding)), "{all:#?} {some:#?}");
        for budget in &interned.budgets {
            if let (BudgetSource::Assumed(_), Some(view)) =
                (budget.source, ledger.account(&budget.source.key()))
            {
                prop_assert_eq!((budget.allowed, budget.desired), (view.allowed, view.desired));
            }
        }
    }
}
