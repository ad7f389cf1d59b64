//! Small clusters whose best placement is plain to see.

use migrate_core::model::{AntiAffinityTerm, Resources, SpreadConstraint};
use migrate_core::{
    ClusterId, ClusterModel, ControllerRef, LabelSelector, Moment, Node, Pod, PodId, Policy,
    WorkloadId,
};

use super::*;
use crate::intern::Interned;

const ZONE: &str = "topology.kubernetes.io/zone";

/// `nodes` nodes of ten CPUs, in zones a and b by turns.
pub(super) fn cluster(nodes: usize) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let version: migrate_core::KubeVersion = "v1.36.0".parse().unwrap();
    for number in 0..nodes {
        let mut node = Node::new(format!("n{number}"), version.clone());
        node.allocatable = Resources::new(10_000, 1 << 34, 110);
        let zone = if number % 2 == 0 { "a" } else { "b" };
        node.labels.insert(ZONE.into(), zone.into());
        let name = node.name.clone();
        node.labels.insert("kubernetes.io/hostname".into(), name);
        model.nodes.push(node);
    }
    model
}

/// A pod of `app` on `node` that asks for `cpu` thousandths.
pub(super) fn pod(model: &mut ClusterModel, app: &str, node: usize, cpu: u64) -> usize {
    let at = model.pods.len();
    let name = format!("{app}-{at:04}");
    let mut pod = Pod::new(PodId::new("shop", &name, &name), format!("n{node}"));
    pod.labels.insert("app".into(), app.into());
    pod.workload = Some(WorkloadId::new("Deployment", "shop", app).into());
    pod.controller = Some(
        ControllerRef {
            group: "apps".into(),
            kind: "ReplicaSet".into(),
            name: app.into(),
            uid: app.into(),
        }
        .into(),
    );
    pod.requests = Resources::new(cpu, 1 << 20, 1);
    model.pods.push(pod);
    at
}

pub(super) fn landscape(model: &ClusterModel) -> Landscape<'_> {
    let mut table = PodTable::new(model);
    Interned::visiting(model, &Policy::default(), |visited| table.add(visited));
    table.complete(|_| 0).unwrap()
}

/// One node after the other, in pairs of `width`, each away for ten.
pub(super) fn one_by_one(nodes: u32, width: u32) -> Vec<Stop> {
    let stop = |node| Stop {
        is_replaced: false,
        node,
        close: u64::from(node / width) * 10,
        open: u64::from(node / width) * 10 + 10,
    };
    (0..nodes).map(stop).collect()
}

fn moves(model: &ClusterModel, stops: &[Stop]) -> Moves {
    landscape(model).run(stops, |_| true, true)
}

fn to(moves: &Moves) -> Vec<(u32, u32)> {
    moves.hops.iter().map(|hop| (hop.from, hop.to)).collect()
}

/// Each node has the same pods: those of the first ones move twice.
#[test]
fn moves_bound_is_one_and_the_first_wave() {
    for width in [1, 2, 5] {
        let mut model = cluster(10);
        for node in 0..10 {
            for _ in 0..3 {
                pod(&mut model, "web", node, 100);
            }
        }
        let moves = moves(&model, &one_by_one(10, width));
        assert_eq!(moves.pods, 30);
        // 1 + b / N of 30.
        assert_eq!(moves.least, 30 + 3 * u64::from(width));
        assert_eq!(moves.evictions, moves.least);
        assert!(moves.homeless.is_empty());
    }
}

#[test]
fn upgraded_nodes_come_first_as_long_as_they_have_room() {
    let mut model = cluster(4);
    for node in 0..4 {
        pod(&mut model, "web", node, 6_000);
    }
    model.nodes[3].allocatable.cpu_milli = 20_000;
    let moves = moves(&model, &one_by_one(4, 1));
    // The large node takes the first, then each goes to the one before it, which
    // has come back empty.
    assert_eq!(to(&moves), [(0, 3), (1, 0), (2, 1), (3, 2), (3, 3)]);
    // And its second waits for its own node.
    assert_eq!(moves.homeless.len(), 1);
    assert_eq!(moves.pods, 4);
}

#[test]
fn a_pod_that_no_node_has_room_for_waits_until_one_has() {
    let mut model = cluster(2);
    pod(&mut model, "web", 0, 6_000);
    pod(&mut model, "api", 1, 6_000);
    let moves = moves(&model, &one_by_one(2, 1));
    // n1 is full until its own drain, for which n0 is back.
    assert_eq!(moves.homeless.len(), 2);
    let [first, second] = [moves.homeless[0], moves.homeless[1]];
    assert_eq!((first.from, first.since, first.until), (0, 0, 10));
    assert_eq!((second.from, second.since, second.until), (1, 10, 20));
}

#[test]
fn anti_affinity_and_spread_keep_pods_apart() {
    let selector = LabelSelector::new().with_label("app", "db");
    let mut model = cluster(4);
    for node in 0..3 {
        let at = pod(&mut model, "db", node, 100);
        model.pods[at]
            .placement
            .anti_affinity
            .push(AntiAffinityTerm {
                selector: selector.clone(),
                topology_key: "kubernetes.io/hostname".into(),
            });
    }
    let found = moves(&model, &one_by_one(4, 1));
    // Only n3 is free of them, then always the one that came back last.
    assert_eq!(to(&found), [(0, 3), (1, 0), (2, 1), (3, 2)]);
    for pod in &mut model.pods {
        pod.placement.anti_affinity[0].topology_key = ZONE.into();
    }
    // Two zones, three pods: the one that goes first has nowhere to go, for good.
    let found = moves(&model, &one_by_one(4, 1));
    let until: Vec<u64> = found.homeless.iter().map(|one| one.until).collect();
    assert_eq!(until, [u64::MAX]);
    assert_eq!(to(&found), [(1, 3), (2, 0), (3, 1)]);
}

#[test]
fn a_hard_spread_is_kept() {
    let mut model = cluster(4);
    for node in [0, 1, 2, 3] {
        let at = pod(&mut model, "web", node, 100);
        model.pods[at].placement.spread.push(SpreadConstraint {
            selector: LabelSelector::new().with_label("app", "web"),
            topology_key: ZONE.into(),
            max_skew: 1,
        });
    }
    let found = moves(&model, &one_by_one(4, 1));
    // Two in each zone, or three and two while one is on its way.
    for (from, to) in to(&found) {
        assert_eq!(from % 2, to % 2, "{from} {to}");
    }
}

/// Of each pod why no other node ever takes it.
pub(super) fn stuck(model: &ClusterModel) -> Vec<Option<Stuck>> {
    let land = landscape(model);
    let pods = (0..).zip(&land.table.pods);
    let all = pods.map(|(pod, movable)| Homeless {
        pod,
        from: movable.node,
        since: 0,
        until: 10,
    });
    land.stuck(&all.collect::<Vec<_>>())
}

#[test]
fn a_pod_larger_than_any_other_node_is_stuck() {
    let mut model = cluster(3);
    model.nodes[0].allocatable.cpu_milli = 30_000;
    pod(&mut model, "big", 0, 12_000);
    pod(&mut model, "web", 0, 1_000);
    let large = Stuck::Large {
        resource: 0,
        asked: 12_000,
        most: 10_000,
    };
    assert_eq!(stuck(&model), [Some(large), None]);
    // Who has the memory has too little of the other.
    model.pods[0].requests = Resources::new(8_000, 1 << 34, 1);
    model.nodes[1].allocatable.cpu_milli = 7_000;
    model.nodes[2].allocatable.memory_bytes = 1 << 33;
    assert_eq!(stuck(&model)[0], Some(Stuck::Uneven));
    // Nobody knows what a node has that does not say it.
    model.nodes[1].allocatable = Resources::default();
    assert_eq!(stuck(&model), [None, None]);
}

#[test]
fn pods_of_full_nodes_that_they_are_tied_to_are_stuck() {
    let mut model = cluster(4);
    for node in [0, 2, 0, 2, 1] {
        let at = pod(&mut model, "web", node, 3_000);
        let zone = if node == 1 { "b" } else { "a" };
        let selector = &mut model.pods[at].placement.node_selector;
        selector.insert(ZONE.into(), zone.into());
    }
    // Of zone a either node has ten CPUs, and twelve are asked for.
    let sum = Some(Stuck::Sum {
        resource: 0,
        missing: 2_000,
    });
    assert_eq!(stuck(&model), [sum, sum, sum, sum, None]);
    // A drain waits for no pod that is not healthy, or that is nobody's, and a pod of a higher
    // priority takes the place of one.
    let others: [fn(&mut Pod); 3] = [
        |pod| pod.ready = false,
        |pod| pod.workload = None,
        |pod| pod.priority = -1,
    ];
    for other in others {
        let mut model = model.clone();
        other(&mut model.pods[1]);
        assert_eq!(stuck(&model), [None; 5]);
    }
    model.nodes[2].allocatable.cpu_milli = 12_000;
    // Now there is room while n0 is away.
    assert_eq!(stuck(&model), [None, sum, None, sum, None]);
}

#[test]
fn pods_of_more_than_half_a_node_are_stuck_if_each_node_has_one() {
    let mut model = cluster(3);
    for node in 0..3 {
        pod(&mut model, "web", node, 5_001);
    }
    let count = Some(Stuck::Count {
        resource: 0,
        pods: 3,
        places: 2,
    });
    assert_eq!(stuck(&model), [count; 3]);
    for pod in &mut model.pods {
        pod.requests.cpu_milli = 5_000;
    }
    assert_eq!(stuck(&model), [None; 3]);
}

/// Whose node has less than its pods ask for, some of them may have gone before.
#[test]
fn nothing_is_proven_from_more_pods_than_a_node_takes() {
    let mut model = cluster(3);
    for node in [0, 1, 1, 1] {
        pod(&mut model, "web", node, 5_001);
    }
    assert_eq!(stuck(&model)[0], None);
}
