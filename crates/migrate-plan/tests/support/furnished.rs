//! Clusters with something of everything that planning reads, and the same in
//! another order or under other names.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, Placement,
    SpreadConstraint, Taint, TaintEffect, Toleration,
};
use migrate_core::selector::{Operator, Requirement};
use migrate_core::{
    ClusterModel, DisruptionBudget, IntOrPercent, LabelSelector, Node, Pod, PodPhase, Policy,
    Resources, ZONE_LABEL,
};

use super::scenario::{Scenario, cluster};
use super::{Cluster, Random};

const HOST: &str = "kubernetes.io/hostname";
const DISK: &str = "example.com/disk";
const CARD: &str = "example.com/card";

/// Whether the cluster of `scenario` has hardly any room, if it has enough at all: its
/// plans may have pods wait, and the linter tells so.
pub(crate) fn is_tight(scenario: &Scenario) -> bool {
    scenario.seed.is_multiple_of(4)
}

/// The cluster of `scenario`, with room, rules of pods, a second namespace, pods
/// that stay, and budgets beside others.
pub(crate) fn furnished(scenario: &Scenario) -> (ClusterModel, Policy) {
    let mut random = Random(scenario.seed);
    let (mut model, policy) = cluster(scenario, &mut random);
    for node in &mut model.nodes {
        furnish_node(node, is_tight(scenario), &mut random);
    }
    add_tools(&mut model, &mut random);
    add_daemons(&mut model);
    let hosts: Vec<String> = model.nodes.iter().map(|node| node.name.clone()).collect();
    let mut templates: BTreeMap<String, Template> = BTreeMap::new();
    for pod in &mut model.pods {
        let app = pod.labels.get("app").cloned().unwrap_or_default();
        let template = templates.entry(app.clone());
        let template = template.or_insert_with(|| Template::of(&app, &hosts, &mut random));
        template.furnish(pod, &mut random);
    }
    add_budgets(&mut model, &mut random);
    model.sort();
    (model, policy)
}

fn furnish_node(node: &mut Node, is_tight: bool, random: &mut Random) {
    let (cores, pods) = (4 << random.below(3), 12 + random.below(20));
    node.allocatable = Resources::new(cores * 1000, cores << 32, pods);
    if !is_tight {
        node.allocatable = Resources::new(cores * 100_000, cores << 40, 500);
        node.allocatable.extended.insert(CARD.into(), 500);
    } else if random.percent(20) {
        node.allocatable.extended.insert(CARD.into(), 2);
    }
    let disk = ["ssd", "hdd"][random.below(2) as usize];
    node.labels.insert(DISK.into(), disk.into());
    node.labels.insert(HOST.into(), node.name.clone());
    let zone = || ["a", "b", "c"][random.below(3) as usize].to_owned();
    node.labels.entry(ZONE_LABEL.into()).or_insert_with(zone);
    if random.percent(15) {
        node.taints = ["batch", "spot"]
            .map(|key| Taint {
                key: key.to_owned(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            })
            .into();
    }
}

fn add_tools(model: &mut ClusterModel, random: &mut Random) {
    for number in 0..random.below(4) {
        let places: Vec<&str> = (0..2 + random.below(3))
            .map(|_| {
                let at = random.below(model.nodes.len() as u64) as usize;
                model.nodes[at].name.as_str()
            })
            .collect();
        let tool = Cluster::new().deployment(&format!("t{number}"), &places);
        let mut tool = tool.build();
        for workload in &mut tool.workloads {
            workload.id.namespace = "tools".into();
        }
        for pod in &mut tool.pods {
            pod.id.namespace = "tools".into();
            pod.workload = Some(tool.workloads[0].id.clone().into());
        }
        model.workloads.extend(tool.workloads);
        model.pods.extend(tool.pods);
    }
}

/// One pod on each node that stays there.
fn add_daemons(model: &mut ClusterModel) {
    let nodes: Vec<&str> = model.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut daemons = Cluster::new().deployment("daemon", &nodes).build();
    for workload in &mut daemons.workloads {
        workload.id.kind = "DaemonSet".into();
    }
    for pod in &mut daemons.pods {
        pod.workload = Some(daemons.workloads[0].id.clone().into());
        if let Some(controller) = pod.controller.as_mut() {
            let mut set = (**controller).clone();
            set.kind = "DaemonSet".into();
            *controller = set.into();
        }
    }
    model.workloads.extend(daemons.workloads);
    model.pods.extend(daemons.pods);
}

/// Further budgets, some of which guard pods that have one.
fn add_budgets(model: &mut ClusterModel, random: &mut Random) {
    for number in 0..random.below(3) {
        let apps = (0..3).map(|_| format!("w{}", random.below(7)));
        let selector = LabelSelector::new()
            .with_requirement(Requirement::new("app", Operator::In, apps))
            .with_requirement(Requirement::new("app", Operator::Exists, [""; 0]));
        let mut budget = DisruptionBudget::new("shop", format!("x{number}"), selector);
        budget.max_unavailable = Some(IntOrPercent::Int(1 + random.below(2) as u32));
        budget.status.observed = random.percent(80);
        budget.status.disruptions_allowed = random.below(3) as i32;
        model.budgets.push(budget);
    }
}

/// What pods of one app have alike.
struct Template {
    placement: Placement,
    requests: Resources,
    claims: Vec<String>,
    grace: u64,
}

impl Template {
    fn of(app: &str, hosts: &[String], random: &mut Random) -> Self {
        let mut placement = Placement::default();
        let own = || LabelSelector::new().with_label("app", app);
        let with = |key: &str, values: &[&str]| NodeRequirement {
            key: key.to_owned(),
            operator: NodeSelectorOperator::In,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let mut requests = Resources::new(100 * random.below(12), random.below(3) << 30, 1);
        let mut claims = Vec::new();
        match random.below(10) {
            0 => {
                let selector = &mut placement.node_selector;
                selector.insert(DISK.into(), "ssd".into());
            }
            1 => {
                placement.anti_affinity = vec![AntiAffinityTerm {
                    selector: own(),
                    topology_key: HOST.into(),
                }]
            }
            2 => {
                placement.spread = [HOST, ZONE_LABEL]
                    .map(|key| SpreadConstraint {
                        selector: own(),
                        topology_key: key.into(),
                        max_skew: 2,
                    })
                    .into();
            }
            3 => {
                placement.node_affinity = vec![
                    NodeSelectorTerm(vec![with(DISK, &["ssd"]), with(ZONE_LABEL, &["a", "b"])]),
                    NodeSelectorTerm(vec![with(DISK, &["hdd", "none"])]),
                ];
            }
            4 => {
                placement.tolerations = ["spot", "batch"]
                    .map(|key| {
                        let mut toleration = Toleration::everything();
                        toleration.key = Some(key.to_owned());
                        toleration
                    })
                    .into();
            }
            5 => {
                let host = &hosts[random.below(hosts.len() as u64) as usize];
                let there = NodeSelectorTerm(vec![with(HOST, &[host])]);
                placement.volume_affinity = vec![vec![there]];
                claims = vec![format!("{app}-data"), format!("{app}-log")];
            }
            6 => {
                requests.extended.insert(CARD.into(), 1);
            }
            _ => {}
        }
        Self {
            placement,
            requests,
            claims,
            grace: [0, 30, 120][random.below(3) as usize],
        }
    }

    fn furnish(&self, pod: &mut Pod, random: &mut Random) {
        pod.placement = self.placement.clone().into();
        pod.requests = self.requests.clone();
        pod.claims.clone_from(&self.claims);
        pod.grace_seconds = self.grace;
        pod.empty_dir = random.percent(10);
        // What budgets of the other namespace say of their pods stays true.
        let quirk = if pod.id.namespace == "tools" {
            random.below(12)
        } else {
            12
        };
        match quirk {
            0 => pod.ready = false,
            1 => pod.phase = PodPhase::Succeeded,
            2 => pod.node = None,
            3 => (pod.controller, pod.workload) = (None, None),
            _ => {}
        }
    }
}

/// `model` with all its lists, and those within its objects, in another order.
pub(crate) fn shuffled(model: &ClusterModel, seed: u64) -> ClusterModel {
    let mut random = Random(seed);
    let mut model = model.clone();
    random.shuffle(&mut model.control_plane);
    random.shuffle(&mut model.nodes);
    random.shuffle(&mut model.pods);
    random.shuffle(&mut model.workloads);
    random.shuffle(&mut model.budgets);
    for node in &mut model.nodes {
        random.shuffle(&mut node.taints);
    }
    for pod in &mut model.pods {
        random.shuffle(&mut pod.claims);
        let mut placement = (*pod.placement).clone();
        random.shuffle(&mut placement.node_affinity);
        for term in &mut placement.node_affinity {
            random.shuffle(&mut term.0);
            for requirement in &mut term.0 {
                random.shuffle(&mut requirement.values);
            }
        }
        random.shuffle(&mut placement.spread);
        random.shuffle(&mut placement.tolerations);
        pod.placement = placement.into();
    }
    for budget in &mut model.budgets {
        if let Some(selector) = &mut budget.selector {
            random.shuffle(&mut selector.match_expressions);
        }
    }
    model
}

/// Other names for nodes, members, pods, workloads and budgets.
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// Names in the same order.
    pub(crate) fn in_order(model: &ClusterModel, seed: u64) -> Self {
        let names = Self::of(model);
        Self::given(names.clone().into_iter().collect(), &names, seed)
    }

    /// Names in any order.
    pub(crate) fn in_any_order(model: &ClusterModel, seed: u64) -> Self {
        let names = Self::of(model);
        let mut turned: Vec<&str> = names.iter().copied().collect();
        Random(seed).shuffle(&mut turned);
        Self::given(turned, &names, seed)
    }

    fn of(model: &ClusterModel) -> BTreeSet<&str> {
        let members = model.control_plane.iter().map(|one| one.name.as_str());
        let nodes = model.nodes.iter().map(|one| one.name.as_str());
        let pods = model.pods.iter().map(|one| one.id.name.as_str());
        let workloads = model.workloads.iter().map(|one| one.id.name.as_str());
        let budgets = model.budgets.iter().map(|one| one.name.as_str());
        let names = members.chain(nodes).chain(pods);
        names.chain(workloads).chain(budgets).collect()
    }

    /// The first of `turned` gets the first new name.
    fn given(turned: Vec<&str>, names: &BTreeSet<&str>, seed: u64) -> Self {
        assert_eq!(turned.len(), names.len());
        let mut random = Random(seed);
        let given = turned.into_iter().enumerate().map(|(at, name)| {
            let end = ["", "-a", "xyz"][random.below(3) as usize];
            (name.to_owned(), format!("n{at:05}{end}"))
        });
        Self(given.collect())
    }

    /// The new name of `name`.
    pub(crate) fn of_name(&self, name: &str) -> &str {
        &self.0[name]
    }

    /// `text` with each of the names in it replaced.
    pub(crate) fn in_text(&self, text: &str) -> String {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut renamed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_of_name) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c| !is_of_name(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            renamed.push_str(before);
            renamed.push_str(self.0.get(word).map_or(word, String::as_str));
            rest = after;
        }
        renamed + rest
    }
}
