//! What holds for every cluster and every schedule.

use migrate_core::ClusterModel;
use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm,
};
use migrate_core::{LabelSelector, Node};
use proptest::prelude::*;

use super::tests::{cluster, landscape, one_by_one, pod, stuck};
use super::{Moves, NONE};

/// A pod: its app, node, size, and how it is bound.
type PodSpec = (usize, usize, u64, u8);

fn model(nodes: usize, pods: &[PodSpec]) -> ClusterModel {
    let mut model = cluster(nodes);
    for &(app, node, cpu, bound) in pods {
        let node = node % nodes;
        let app = format!("app{app}");
        let at = pod(&mut model, &app, node, cpu * 500);
        let zone = model.nodes[node].labels[super::cells::ZONE].clone();
        let placement = &mut model.pods[at].placement;
        match bound {
            0 => {
                let selector = &mut placement.node_selector;
                selector.insert(super::cells::ZONE.into(), zone);
            }
            1 => placement.anti_affinity.push(AntiAffinityTerm {
                selector: LabelSelector::new().with_label("app", app),
                topology_key: "kubernetes.io/hostname".into(),
            }),
            2 => {
                let here = NodeRequirement {
                    key: "kubernetes.io/hostname".into(),
                    operator: NodeSelectorOperator::In,
                    values: vec![format!("n{node}")],
                };
                placement
                    .volume_affinity
                    .push(vec![NodeSelectorTerm(vec![here])]);
            }
            _ => {}
        }
    }
    model.sort();
    model
}

fn shape() -> impl Strategy<Value = (usize, Vec<PodSpec>, u32)> {
    let pod = (0..5usize, 0..12usize, 1..9u64, 0..9u8);
    (2..12usize, prop::collection::vec(pod, 0..60), 1..4u32)
}

fn run(model: &ClusterModel, width: u32) -> Moves {
    let nodes = u32::try_from(model.nodes.len()).unwrap();
    landscape(model).run(&one_by_one(nodes, width), |_| true, true)
}

/// The CPU that is asked for on each node, and which pods are there.
fn stand(model: &ClusterModel) -> (Vec<u64>, Vec<Option<usize>>) {
    let mut used = vec![0; model.nodes.len()];
    let at = model.pods.iter().map(|pod| {
        let name = pod.node.as_deref().unwrap();
        let at = model
            .nodes
            .iter()
            .position(|node| node.name == name)
            .unwrap();
        used[at] += pod.requests.cpu_milli;
        Some(at)
    });
    let at = at.collect();
    (used, at)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// No node is given more than it has, a pod goes where it is admitted, keeps
    /// away from whom it avoids, and only from where it is.
    #[test]
    fn placements_keep_to_room_and_rules((nodes, pods, width) in shape()) {
        let model = model(nodes, &pods);
        let found = run(&model, width);
        let (mut used, mut at) = stand(&model);
        let stops = one_by_one(u32::try_from(nodes).unwrap(), width);
        let mut closing = stops.iter().peekable();
        for hop in &found.hops {
            // All pods of nodes that are drained are on their way.
            while let Some(stop) = closing.next_if(|stop| stop.close <= hop.at) {
                let from = stop.node as usize;
                for (index, place) in at.iter_mut().enumerate() {
                    let is_tied = model.pods[index].placement.volume_affinity.len() == 1;
                    if *place == Some(from) && !is_tied {
                        used[from] -= model.pods[index].requests.cpu_milli;
                        *place = None;
                    }
                }
            }
            let (index, to) = (hop.pod as usize, hop.to as usize);
            let pod = &model.pods[index];
            prop_assert_eq!(at[index], None);
            prop_assert!(pod.placement.admits(&model.nodes[to]));
            let was_there = used[to];
            used[to] += pod.requests.cpu_milli;
            let all = model.nodes[to].allocatable.cpu_milli;
            prop_assert!(used[to] <= all, "{} on {} of {}", was_there, to, all);
            for (other, place) in at.iter().enumerate() {
                let other = &model.pods[other];
                let avoids = |a: &migrate_core::Pod, b: &migrate_core::Pod| {
                    let terms = a.placement.anti_affinity.iter();
                    terms.filter(|term| term.selector.matches(&b.labels)).count() > 0
                };
                prop_assert!(*place != Some(to) || !(avoids(pod, other) || avoids(other, pod)));
            }
            at[index] = Some(to);
        }
        prop_assert!(found.least <= found.evictions);
        let waits = found.homeless.iter().any(|one| one.until == u64::MAX);
        let last = u64::from((u32::try_from(nodes).unwrap() - 1) / width) * 10 + 10;
        prop_assert!(waits || found.homeless.iter().all(|one| one.until <= last));
    }

    /// A node that takes everybody and has room for all leaves nobody waiting.
    #[test]
    fn nobody_waits_beside_a_node_with_room_for_all((nodes, pods, width) in shape()) {
        let mut pods = pods;
        pods.retain(|(.., bound)| *bound > 2);
        let mut model = model(nodes, &pods);
        let least = run(&model, width).least;
        let mut spare = Node::new("z", model.nodes[0].kubelet_version.clone());
        spare.allocatable = migrate_core::model::Resources::new(1 << 40, 1 << 50, 10_000);
        model.nodes.push(spare);
        let stops = one_by_one(u32::try_from(nodes).unwrap(), width);
        let found = landscape(&model).run(&stops, |_| true, false);
        prop_assert_eq!(found.homeless.len(), 0);
        prop_assert!(found.least <= least);
        // And none of them has to move twice.
        prop_assert_eq!((found.evictions, found.least), (found.pods, found.pods));
    }

    /// Lists in another order are the same cluster.
    #[test]
    fn the_order_of_lists_does_not_matter((nodes, pods, width) in shape(), turn in 0..50usize) {
        let model = model(nodes, &pods);
        let mut turned = model.clone();
        turned.pods.rotate_left(turn.min(pods.len()));
        turned.nodes.rotate_left(turn % nodes);
        turned.sort();
        let (a, b) = (run(&model, width), run(&turned, width));
        prop_assert_eq!(a.hops, b.hops);
        prop_assert!(a.crowded.iter().all(|workload| *workload != NONE));
    }

    /// Of a pod that is said to fit on no other node, no way to place all pods on the others
    /// is found by trying them all.
    #[test]
    fn what_is_stuck_has_no_place(
        nodes in 2..4usize,
        pods in prop::collection::vec((0..3usize, 0..3usize, 1..15u64, 0..9u8), 1..7),
        small in 2..11u64,
    ) {
        let mut pods = pods;
        // Rules about other pods are not looked at.
        for pod in pods.iter_mut().filter(|pod| pod.3 == 1) {
            pod.3 = 0;
        }
        let mut model = model(nodes, &pods);
        model.nodes[0].allocatable.cpu_milli = small * 1_000;
        let (used, at) = stand(&model);
        let mut nodes = model.nodes.iter().zip(used);
        prop_assume!(nodes.all(|(node, used)| used <= node.allocatable.cpu_milli));
        let is_tied = |pod: usize| {
            let placement = &model.pods[pod].placement;
            model.nodes.iter().filter(|node| placement.admits(node)).count() == 1
        };
        for (pod, why) in stuck(&model).into_iter().enumerate() {
            let own = at[pod].unwrap();
            if why.is_none() || is_tied(pod) {
                continue;
            }
            let mut free: Vec<u64> = model.nodes.iter().map(|it| it.allocatable.cpu_milli).collect();
            for tied in (0..model.pods.len()).filter(|pod| is_tied(*pod)) {
                free[at[tied].unwrap()] -= model.pods[tied].requests.cpu_milli;
            }
            free[own] = 0;
            let loose: Vec<usize> = (0..model.pods.len()).filter(|pod| !is_tied(*pod)).collect();
            prop_assert!(!have_places(&model, &loose, &mut free), "{pod} {why:?}");
        }
    }
}

/// Whether there is a place for each of `pods`, with so much free on each node.
fn have_places(model: &ClusterModel, pods: &[usize], free: &mut [u64]) -> bool {
    let Some((first, rest)) = pods.split_first() else {
        return true;
    };
    let pod = &model.pods[*first];
    let asked = pod.requests.cpu_milli;
    (0..free.len()).any(|node| {
        if free[node] < asked || !pod.placement.admits(&model.nodes[node]) {
            return false;
        }
        free[node] -= asked;
        let have = have_places(model, rest, free);
        free[node] += asked;
        have
    })
}
