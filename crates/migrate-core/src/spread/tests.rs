use super::*;
use crate::model::{Taint, TaintEffect};
use crate::{ClusterId, KubeVersion, Moment, Workload};

/// `web` with a pod on each of `hosts`, in a cluster of the nodes a, b and c.
fn model(hosts: &[&str]) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::from_millis(0));
    let node = |name| Node::new(name, KubeVersion::new(1, 37, 2));
    model.nodes = ["a", "b", "c"].map(node).into();
    for node in &mut model.nodes {
        node.ready = true;
    }
    let id = WorkloadId::new("Deployment", "shop", "web");
    let replicas = u32::try_from(hosts.len()).unwrap();
    model.workloads = vec![Workload::new(id.clone(), replicas)];
    let pods = hosts.iter().enumerate().map(|(n, host)| {
        let name = format!("web-{n}");
        let mut pod = Pod::new(PodId::new("shop", &name, &name), *host);
        pod.workload = Some(id.clone().into());
        pod.controller = Some(
            crate::ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: "web".into(),
                uid: "o".into(),
            }
            .into(),
        );
        pod
    });
    model.pods = pods.collect();
    model
}

fn judged(before: &ClusterModel, now: &ClusterModel) -> Vec<Crowded> {
    crowded(before, now, &Consent::default())
}

#[test]
fn replicas_that_a_run_left_on_one_node_are_found_and_one_may_go_back() {
    let found = judged(&model(&["a", "b"]), &model(&["a", "a"]));
    let [one] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((one.node.as_str(), one.healthy), ("a", 2));
    assert_eq!((one.nodes_before, one.others), (2, 2));
    let moved = one.to_move().unwrap();
    assert_eq!(
        (moved.pod.name.as_str(), moved.node.as_str()),
        ("web-0", "a")
    );
    let finding = one.finding(Some("why not")).to_string();
    for word in ["KM-SPREAD-001", "shop/web", "node a", "respread", "why not"] {
        assert!(finding.contains(word), "{finding}");
    }
}

#[test]
fn what_stands_on_two_nodes_or_is_alone_is_not_crowded() {
    assert!(judged(&model(&["a", "b"]), &model(&["a", "b"])).is_empty());
    assert!(judged(&model(&["a"]), &model(&["a"])).is_empty());
    // One that is about to run elsewhere.
    let mut now = model(&["a", "a", "b"]);
    now.pods[2].ready = false;
    assert!(judged(&model(&["a", "b"]), &now).is_empty());
    // One that is about to leave counts no more.
    now.pods[2].deletion = Some(Moment::from_millis(1));
    assert_eq!(judged(&model(&["a", "b"]), &now).len(), 1);
}

#[test]
fn where_no_other_node_can_host_a_pod_nothing_is_said() {
    let before = model(&["a", "b"]);
    let mut now = model(&["a", "a"]);
    now.nodes[1].unschedulable = true;
    now.nodes[2].taints = vec![Taint {
        key: "k".into(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    }];
    assert!(judged(&before, &now).is_empty());
    now.nodes[2].taints.clear();
    now.nodes[2].ready = false;
    assert!(judged(&before, &now).is_empty());
    now.nodes[2].ready = true;
    assert_eq!(judged(&before, &now)[0].others, 1);
}

#[test]
fn nothing_is_moved_that_stood_so_before_or_is_not_whole_or_needs_consent() {
    let spread = model(&["a", "b"]);
    let moves = |before: &ClusterModel, now: &ClusterModel| {
        let found = judged(before, now);
        assert_eq!(found.len(), 1);
        found[0].to_move()
    };
    assert_eq!(moves(&model(&["b", "b"]), &model(&["a", "a"])), None);
    let mut short = model(&["a", "a", "a"]);
    short.pods[0].ready = false;
    assert_eq!(moves(&spread, &short), None, "a pod is not ready");
    let mut short = model(&["a", "a"]);
    short.workloads[0].replicas = 3;
    assert_eq!(moves(&spread, &short), None, "a pod is missing");
    let strict = Consent {
        empty_dir: false,
        ..Consent::default()
    };
    let mut now = model(&["a", "a"]);
    for pod in &mut now.pods {
        pod.empty_dir = true;
    }
    assert_eq!(crowded(&spread, &now, &strict)[0].to_move(), None);
    assert!(moves(&spread, &now).is_some());
}

#[test]
fn the_pod_that_matters_least_goes() {
    let mut now = model(&["a", "a", "a"]);
    now.pods[0].priority = 10;
    let found = judged(&model(&["a", "b", "c"]), &now);
    assert_eq!(found[0].to_move().unwrap().pod.name, "web-1");
}
