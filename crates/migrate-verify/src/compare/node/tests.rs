use std::sync::Arc;

use migrate_core::steps::{Baseline, StepInput, Verdict, VerifyScope};
use migrate_core::{ClusterId, ClusterModel, KubeVersion, Moment, Policy, Taint};

use super::*;
use crate::compare;

fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

fn taint(key: &str, effect: TaintEffect) -> Taint {
    Taint {
        key: key.to_owned(),
        value: String::new(),
        effect,
    }
}

/// A node with a GPU, a storage driver and a taint of its own.
fn equipped(kubernetes: &str) -> BaselineNode {
    let mut node = BaselineNode::new(true, version(kubernetes));
    node.extended.insert("nvidia.com/gpu".to_owned(), 2);
    node.csi_drivers.insert("disk.example.com".to_owned());
    node.taints = Some(vec![taint("dedicated", TaintEffect::NoSchedule)]);
    node
}

fn codes(change: fn(&mut Option<BaselineNode>, &mut BaselineNode)) -> Vec<String> {
    let mut old = Some(equipped("v1.36.3"));
    let mut new = equipped("v1.37.2");
    change(&mut old, &mut new);
    let (mut before, mut now) = (Baseline::default(), Baseline::default());
    before.nodes.extend(old.map(|old| ("w".to_owned(), old)));
    now.nodes.insert("w".to_owned(), new);
    let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let input = StepInput::new(
        Arc::new(model),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    let scope = VerifyScope::Node { node: "w".into() };
    match compare(&input, &scope, &before, &now) {
        Verdict::Pending { missing, .. } => missing.into_iter().map(|found| found.code).collect(),
        Verdict::Pass { .. } => Vec::new(),
        verdict => panic!("{verdict:?}"),
    }
}

fn add(node: &mut BaselineNode, key: &str, effect: TaintEffect) {
    node.taints.get_or_insert_default().push(taint(key, effect));
}

#[test]
fn each_loss_of_a_node_has_its_code() {
    use TaintEffect::{NoExecute, NoSchedule};
    assert!(codes(|_, _| {}).is_empty());
    assert_eq!(codes(|_, now| now.csi_drivers.clear()), ["KM-VERIFY-013"]);
    assert_eq!(codes(|_, now| now.extended.clear()), ["KM-VERIFY-014"]);
    assert_eq!(
        codes(|_, now| {
            now.extended.insert("nvidia.com/gpu".to_owned(), 1);
        }),
        ["KM-VERIFY-014"]
    );
    assert_eq!(
        codes(|_, now| add(now, "node.kubernetes.io/not-ready", NoExecute)),
        ["KM-VERIFY-015"]
    );
    assert_eq!(
        codes(|_, now| add(now, "example.com/starting", NoSchedule)),
        ["KM-VERIFY-015"],
        "any taint that was not there"
    );
    assert_eq!(
        codes(|_, now| add(now, "dedicated", NoExecute)),
        ["KM-VERIFY-015"],
        "the same key with a harder effect"
    );
}

#[test]
fn what_is_no_loss_passes() {
    use TaintEffect::{NoSchedule, PreferNoSchedule};
    let nothing: [fn(&mut Option<BaselineNode>, &mut BaselineNode); 6] = [
        |_, now| add(now, CORDON, NoSchedule),
        |_, now| add(now, "example.com/idle", PreferNoSchedule),
        |_, now| now.taints = None,
        |_, now| {
            now.extended.insert("nvidia.com/gpu".to_owned(), 4);
            now.csi_drivers.insert("new.example.com".to_owned());
        },
        |before, now| {
            *before = None;
            now.extended.clear();
        },
        |before, _| before.as_mut().unwrap().taints = None,
    ];
    for (index, change) in nothing.into_iter().enumerate() {
        assert!(codes(change).is_empty(), "{index}");
    }
}

#[test]
fn a_node_nobody_knew_is_asked_for_its_start_up_taints_only() {
    let starting = |before: &mut Option<BaselineNode>, now: &mut BaselineNode| {
        *before = None;
        add(
            now,
            "node.cilium.io/agent-not-ready",
            TaintEffect::NoSchedule,
        );
    };
    assert_eq!(codes(starting), ["KM-VERIFY-015"]);
}

/// What is said of node `name`, which the model may know in the pool `gpu`, and an
/// observation in `pool`.
fn of_pool(scope: &VerifyScope, name: &str, kubelet: &str, pool: Option<&str>) -> Vec<String> {
    let mut policy = Policy::default();
    let own = version("v1.36.5");
    policy.pools.target_of.insert("gpu".to_owned(), own);
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let mut known = migrate_core::Node::new("known", version("v1.36.3"));
    let label = policy.pools.label.clone();
    known.labels.insert(label, "gpu".to_owned());
    model.nodes.push(known);
    let input = StepInput::new(Arc::new(model), Arc::new(policy), version("v1.37.2"));
    let (before, mut now) = (Baseline::default(), Baseline::default());
    now.control_plane_ready = true;
    let mut node = BaselineNode::new(true, version(kubelet));
    node.pool = pool.map(str::to_owned);
    now.nodes.insert(name.to_owned(), node);
    match compare(&input, scope, &before, &now) {
        Verdict::Pending { missing, .. } => {
            missing.into_iter().map(|found| found.to_string()).collect()
        }
        Verdict::Pass { .. } => Vec::new(),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_node_is_judged_by_the_target_of_its_pool() {
    let of = |name: &str| VerifyScope::Node { node: name.into() };
    for scope in [of("known"), VerifyScope::cluster()] {
        assert_eq!(of_pool(&scope, "known", "v1.36.5", None), [""; 0]);
        // What the model says counts.
        assert_eq!(of_pool(&scope, "known", "v1.36.5", Some("web")), [""; 0]);
        let behind = of_pool(&scope, "known", "v1.36.4", None);
        assert!(behind[0].contains("not v1.36.5"), "{behind:?}");
    }
    for scope in [of("new"), VerifyScope::cluster()] {
        assert_eq!(of_pool(&scope, "new", "v1.36.5", Some("gpu")), [""; 0]);
        for pool in [None, Some("web")] {
            let behind = of_pool(&scope, "new", "v1.36.5", pool);
            assert!(behind[0].contains("not v1.37.2"), "{behind:?}");
        }
    }
}
