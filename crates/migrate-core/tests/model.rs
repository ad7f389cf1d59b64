//! The JSON form of the cluster model: what other tools read, and what a later
//! release has to be able to read.

#![allow(clippy::unwrap_used, reason = "tests")]

use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, SpreadConstraint,
    TaintEffect, Toleration,
};
use migrate_core::selector::{Operator, Requirement};
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget, DocumentError,
    IntOrPercent, LabelSelector, Moment, Node, Pod, PodId, Resources, Role, Shared, Taint,
    Workload, WorkloadId,
};

/// One of everything, with every field set.
fn model() -> ClusterModel {
    let version = || "v1.36.3".parse().unwrap();
    let taken_at = Moment::from_millis(1_795_000_123_456);
    let mut model = ClusterModel::new(ClusterId::new("6f5a-cluster"), taken_at);
    model
        .control_plane
        .push(ControlPlaneMember::new("cp-1", version()));

    let mut node = Node::new("cp-1", version());
    node.role = Role::ControlPlane;
    node.labels.insert("zone".into(), "a".into());
    node.taints.push(Taint {
        key: "node-role.kubernetes.io/control-plane".into(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    });
    node.allocatable = Resources::new(4_000, 16 << 30, 110);
    node.allocatable
        .extended
        .insert("example.com/gpu".into(), 2);
    model.nodes.push(node);
    model.nodes.push(Node::new("worker-1", version()));

    let web = WorkloadId::new("Deployment", "shop", "web");
    let selector = LabelSelector::new()
        .with_label("app", "web")
        .with_requirement(Requirement::new("tier", Operator::NotIn, ["test"]));
    let mut pod = Pod::new(PodId::new("shop", "web-1", "u-1"), "worker-1");
    pod.labels.insert("app".into(), "web".into());
    pod.controller = Some(
        ControllerRef {
            group: "apps".into(),
            kind: "ReplicaSet".into(),
            name: "web-5d".into(),
            uid: "u-rs".into(),
        }
        .into(),
    );
    pod.workload = Some(web.clone().into());
    pod.deletion = Some(taken_at);
    pod.empty_dir = true;
    pod.claims.push("data".into());
    pod.priority = 10;
    pod.requests = Resources::new(250, 64 << 20, 1);
    let term = NodeSelectorTerm(vec![NodeRequirement {
        key: "zone".into(),
        operator: NodeSelectorOperator::In,
        values: vec!["a".into()],
    }]);
    pod.placement
        .node_selector
        .insert("disk".into(), "fast".into());
    pod.placement.node_affinity.push(term.clone());
    pod.placement.volume_affinity.push(vec![term]);
    pod.placement.anti_affinity.push(AntiAffinityTerm {
        selector: selector.clone(),
        topology_key: "kubernetes.io/hostname".into(),
    });
    pod.placement.spread.push(SpreadConstraint {
        selector: selector.clone(),
        topology_key: "zone".into(),
        max_skew: 1,
    });
    pod.placement.tolerations.push(Toleration::everything());
    let mut toleration = Toleration::default();
    toleration.key = Some("example.com/gpu".into());
    toleration.value = "shared".into();
    toleration.effect = Some(TaintEffect::NoExecute);
    pod.placement.tolerations.push(toleration);
    model.pods.push(pod);
    let mut web = Workload::new(web, 3);
    web.available = Some(3);
    web.min_ready_seconds = 10;
    model.workloads.push(web);

    let mut budget = DisruptionBudget::new("shop", "web", selector);
    budget.min_available = Some("50%".parse().unwrap());
    budget.max_unavailable = Some(IntOrPercent::Int(1));
    budget.status.observed = true;
    budget.status.disruptions_allowed = 1;
    budget.status.current_healthy = 3;
    budget.status.desired_healthy = 2;
    budget.status.expected_pods = 3;
    budget.status.disrupted_pods.insert("web-0".into());
    budget.status.sync_failed = Some("found no controllers".into());
    model.budgets.push(budget);
    model
}

/// A change here is a change of the schema: a field more is fine, another name or
/// meaning takes the next number.
#[test]
fn the_json_form_is_what_it_was() {
    let json = serde_json::to_string_pretty(&model()).unwrap() + "\n";
    let golden = include_str!("golden/model.json");
    assert_eq!(json, golden, "\n{json}");
    assert_eq!(ClusterModel::from_json(golden).unwrap(), model());
}

/// Whether two pods hold the same labels, placement, controller and workload.
fn shared(a: &Pod, b: &Pod) -> [bool; 4] {
    fn both<T>(a: &Option<Shared<T>>, b: &Option<Shared<T>>) -> bool {
        matches!((a, b), (Some(a), Some(b)) if a.is_same(b))
    }
    [
        a.labels.is_same(&b.labels),
        a.placement.is_same(&b.placement),
        both(&a.controller, &b.controller),
        both(&a.workload, &b.workload),
    ]
}

#[test]
fn pods_of_one_template_hold_what_they_have_alike_once() {
    let mut first = model();
    let mut pods = [
        PodId::new("shop", "web-3", "u-3"),
        PodId::new("shop", "web-2", "u-2"),
    ]
    .map(|id| {
        let mut pod = model().pods.remove(0);
        pod.id = id;
        pod
    });
    pods[0].labels.insert("app".into(), "another".into());
    first.pods.extend(pods);
    first.sort();
    let read = ClusterModel::from_json(&serde_json::to_string(&first).unwrap()).unwrap();
    for model in [&first, &read] {
        let [one, two, three] = &model.pods[..] else {
            panic!("{:?}", model.pods);
        };
        assert_eq!(shared(one, two), [true; 4]);
        assert_eq!(shared(two, three), [false, true, true, true]);
        assert_eq!(three.labels["app"], "another");
    }
    assert_eq!(first, read);
}

#[test]
fn what_is_left_out_has_a_default_and_what_is_unknown_is_skipped() {
    let json = r#"{ "schema": 1, "cluster": "c", "takenAt": "2026-11-18T11:08:43Z",
        "controlPlane": [], "a field of the future": 1 }"#;
    let model = ClusterModel::from_json(json).unwrap();
    assert_eq!((model.nodes, model.pods), (Vec::new(), Vec::new()));
}

#[test]
fn a_newer_schema_is_refused_whatever_else_is_in_it() {
    let error = ClusterModel::from_json(r#"{ "schema": 2, "clusters": [] }"#).unwrap_err();
    assert!(matches!(
        error,
        DocumentError::Newer {
            found: 2,
            known: 1,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "the cluster model has schema 2 and this release knows up to 1: use the release that \
         wrote it, or make it anew"
    );
    let error = ClusterModel::from_json("{}").unwrap_err();
    assert!(matches!(error, DocumentError::Invalid { .. }), "{error}");
}
