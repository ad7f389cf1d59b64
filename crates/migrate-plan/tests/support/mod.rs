//! Clusters made for tests, and a small generator of pseudo-random numbers.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod broken_off;
pub(crate) mod furnished;
pub(crate) mod judge;
pub(crate) mod scenario;
pub(crate) mod strategy;
pub(crate) mod world;

use migrate_core::{
    Addon, ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget,
    IntOrPercent, KubeVersion, LabelSelector, Moment, Node, Phase, Plan, Pod, PodId, Point, Policy,
    Role, Severity, Workload, WorkloadId,
};

pub(crate) const OLD: &str = "v1.36.3";
pub(crate) const NEW: &str = "v1.37.2";

pub(crate) fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

/// A cluster that grows by the word.
pub(crate) struct Cluster {
    model: ClusterModel,
    pods: usize,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let id = ClusterId::new("3f8c2f0e-demo");
        Self {
            model: ClusterModel::new(id, Moment::from_millis(1_800_000_000_000)),
            pods: 0,
        }
    }

    pub(crate) fn member(mut self, name: &str) -> Self {
        self.model
            .control_plane
            .push(ControlPlaneMember::new(name, version(OLD)));
        self
    }

    /// `count` nodes `pool-1`, `pool-2`, ... of `pool`.
    pub(crate) fn pool(mut self, pool: &str, count: usize) -> Self {
        for number in 1..=count {
            let mut node = Node::new(format!("{pool}-{number}"), version(OLD));
            if pool == "control-plane" {
                node.role = Role::ControlPlane;
            } else {
                node.labels
                    .insert("node.kubernetes.io/pool".into(), pool.into());
            }
            self.model.nodes.push(node);
        }
        self
    }

    /// A Deployment with one pod on each of `nodes`.
    pub(crate) fn deployment(mut self, name: &str, nodes: &[&str]) -> Self {
        let id = WorkloadId::new("Deployment", "shop", name);
        self.model
            .workloads
            .push(Workload::new(id.clone(), nodes.len() as u32));
        for node in nodes {
            self.pods += 1;
            let pod_name = format!("{name}-{:04}", self.pods);
            let mut pod = Pod::new(PodId::new("shop", &pod_name, &pod_name), *node);
            pod.workload = Some(id.clone().into());
            pod.labels.insert("app".into(), name.into());
            pod.controller = Some(
                ControllerRef {
                    group: "apps".into(),
                    kind: "ReplicaSet".into(),
                    name: name.into(),
                    uid: name.into(),
                }
                .into(),
            );
            self.model.pods.push(pod);
        }
        self
    }

    /// A budget over the Deployment `name` as it stands.
    pub(crate) fn budget(mut self, name: &str, allowed: i32) -> Self {
        let selector = LabelSelector::new().with_label("app", name);
        let mut budget = DisruptionBudget::new("shop", name, selector);
        let pods = self
            .model
            .pods
            .iter()
            .filter(|pod| budget.matches(pod))
            .count()
            .try_into()
            .unwrap();
        budget.status.observed = true;
        budget.status.expected_pods = pods;
        budget.status.current_healthy = pods;
        budget.status.desired_healthy = pods - allowed;
        let needed = u32::try_from(pods - allowed).unwrap();
        budget.min_available = Some(IntOrPercent::Int(needed));
        budget.status.disruptions_allowed = allowed;
        self.model.budgets.push(budget);
        self
    }

    pub(crate) fn node(mut self, name: &str, change: impl FnOnce(&mut Node)) -> Self {
        change(
            self.model
                .nodes
                .iter_mut()
                .find(|node| node.name == name)
                .unwrap(),
        );
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut ClusterModel)) -> Self {
        change(&mut self.model);
        self
    }

    pub(crate) fn build(mut self) -> ClusterModel {
        self.model.sort();
        self.model
    }
}

/// The plan, which the linter finds nothing in. A budget that has to recover first
/// is believed to, as plans do, and what a cluster breaks already is no fault of theirs.
pub(crate) fn linted(plan: Plan, model: &ClusterModel, policy: &Policy) -> Plan {
    let mut found = migrate_plan::lint(&plan, model, policy);
    // What waits for the scheduler may be late for its window.
    let is_told = |code: &str| ["KM-LINT-009", "KM-LINT-010", "KM-LINT-020"].contains(&code);
    found.retain(|f| f.severity == Severity::Blocker || !is_told(&f.code));
    assert_eq!(found, [], "{plan:#?}");
    plan
}

/// Whether the schedule brings all that is in the plan to its end.
pub(crate) fn has_all(plan: &Plan) -> bool {
    let is_last = |phase| matches!(phase, Phase::Verify | Phase::BackUp);
    let verified = plan.schedule.iter().filter(|a| is_last(a.phase)).count();
    verified == plan.targets().count()
}

/// Splitmix: enough for tests, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is at least 1.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// An addon at each point, two at one of them, listed in no order.
pub(crate) fn addons() -> Vec<Addon> {
    vec![
        Addon::new("last", Point::AfterAll),
        Addon::new("cni", Point::AfterControlPlane),
        Addon::new("csi", Point::AfterControlPlane),
        Addon::new("agents", Point::BeforeWorkers),
        Addon::new("first", Point::BeforeControlPlane),
    ]
}
