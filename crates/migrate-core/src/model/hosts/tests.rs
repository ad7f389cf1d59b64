use proptest::prelude::*;

use super::super::{
    ClusterId, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, PodId, PodPhase, Taint,
    TaintEffect, Toleration,
};
use super::*;
use crate::selector::{Operator, Requirement};
use crate::{LabelSelector, Moment};

const HOST: &str = "kubernetes.io/hostname";

fn model(nodes: usize) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    model.nodes = (0..nodes)
        .map(|index| {
            let mut node = Node::new(format!("n{index}"), "v1.36.3".parse().unwrap());
            node.labels.insert(HOST.into(), node.name.clone());
            node.labels.insert("zone".into(), format!("z{}", index % 2));
            node
        })
        .collect();
    model
}

fn pod(name: &str, node: &str) -> Pod {
    Pod::new(PodId::new("ns", name, name), node)
}

/// The rule.
fn tied(model: &ClusterModel, pod: &Pod) -> Option<String> {
    only_host(pod, model.nodes.iter(), model.pods.iter())
}

fn term(key: &str, operator: NodeSelectorOperator, values: &[&str]) -> NodeSelectorTerm {
    NodeSelectorTerm(vec![NodeRequirement {
        key: key.into(),
        operator,
        values: values.iter().map(|&value| value.to_owned()).collect(),
    }])
}

fn apart(topology_key: &str, selector: LabelSelector) -> AntiAffinityTerm {
    AntiAffinityTerm {
        selector,
        topology_key: topology_key.into(),
    }
}

#[test]
fn a_local_volume_ties_a_pod_to_its_node() {
    let model = model(2);
    let mut pod = pod("db-0", "n0");
    assert_eq!(tied(&model, &pod), None);
    let here = term(HOST, NodeSelectorOperator::In, &["n0"]);
    pod.placement.volume_affinity = vec![vec![here]];
    assert!(tied(&model, &pod).unwrap().contains("volume"));
}

#[test]
fn anti_affinity_with_a_pod_on_every_other_node_ties_it_too() {
    let mut model = model(2);
    let mut one = pod("x-0", "n0");
    one.placement.anti_affinity = vec![apart(HOST, LabelSelector::default())];
    model.pods = vec![one.clone(), pod("x-1", "n1")];
    assert!(tied(&model, &one).unwrap().contains("anti-affinity"));
    model.pods.pop();
    assert_eq!(tied(&model, &one), None);
}

#[test]
fn taints_close_a_node_unless_tolerated() {
    let mut model = model(2);
    model.nodes[1].taints.push(Taint {
        key: "gpu".into(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    });
    let mut pod = pod("x", "n0");
    assert!(tied(&model, &pod).is_some());
    pod.placement.tolerations = vec![Toleration::everything()];
    assert_eq!(tied(&model, &pod), None);
}

/// Placements that tie in every way there is.
fn placement() -> impl Strategy<Value = Placement> {
    use NodeSelectorOperator::{In, NotIn};
    let terms = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![term("zone", In, &["z0"])]),
        1 => Just(vec![term("metadata.name", In, &["n0"])]),
        1 => Just(vec![term(HOST, In, &["n0", "n1", "n0"])]),
        1 => Just(vec![term(HOST, In, &["n2"]), term("zone", In, &["z0"])]),
        1 => Just(vec![term(HOST, In, &["n1"]), term("zone", NotIn, &["z0"])]),
        1 => Just(vec![NodeSelectorTerm(vec![])]),
    ];
    let selector = prop_oneof![
        Just(LabelSelector::new()),
        Just(LabelSelector::new().with_label("app", "a0")),
        Just(
            LabelSelector::new()
                .with_label("app", "a1")
                .with_label("tier", "t")
        ),
        Just(LabelSelector::new().with_requirement(Requirement::new(
            "app",
            Operator::In,
            ["a0", "a1", "a0"]
        ))),
    ];
    let key = prop_oneof![Just(HOST), Just("zone"), Just("nowhere")];
    let apart_from = prop::collection::vec((key, selector), 0..3);
    (terms.clone(), terms, 0u8..4, apart_from).prop_map(|(volume, affinity, zone, terms)| {
        let mut placement = Placement::default();
        if !volume.is_empty() {
            placement.volume_affinity = vec![volume];
        }
        placement.node_affinity = affinity;
        if zone < 2 {
            let zone = format!("z{zone}");
            placement.node_selector.insert("zone".into(), zone);
        }
        let terms = terms
            .into_iter()
            .map(|(key, selector)| apart(key, selector));
        placement.anti_affinity = terms.collect();
        placement
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn hosts_answer_as_the_rule_does(
        nodes in 1usize..6,
        closed in prop::collection::btree_set(0usize..6, 0..3),
        placements in prop::collection::vec(placement(), 1..4),
        pods in prop::collection::vec((0usize..7, 0u8..2, 0usize..4, 0u8..3, 0u8..8), 1..12),
    ) {
        let mut model = model(nodes);
        for node in closed.into_iter().filter(|node| *node < nodes) {
            model.nodes[node].taints.push(Taint {
                key: "closed".into(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            });
        }
        for (index, (host, namespace, placement, app, state)) in pods.into_iter().enumerate() {
            let name = format!("p{index}");
            let id = PodId::new(format!("ns{namespace}"), &name, &name);
            // Some run on nodes that the model does not have.
            let mut pod = Pod::new(id, format!("n{host}"));
            pod.labels.insert("app".into(), format!("a{app}"));
            pod.placement = placements[placement % placements.len()].clone().into();
            match state {
                0 => pod.phase = PodPhase::Succeeded,
                1 => pod.node = None,
                2 => {
                    pod.labels.insert("tier".into(), "t".into());
                }
                _ => {}
            }
            model.pods.push(pod);
        }
        model.sort();
        let mut hosts = Hosts::of(&model);
        for pod in &model.pods {
            prop_assert_eq!(hosts.only_host(pod), tied(&model, pod), "{}", pod.id);
        }
    }
}
