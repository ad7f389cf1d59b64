//! What every step is told, and what one has to say.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::Baseline;
use super::by_node::PodsByNode;
use crate::{ClusterModel, Finding, KubeVersion, Node, Pod, Policy, Role};

/// What every step is told about the run. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepInput {
    /// The cluster as it was when the run was planned.
    pub model: Arc<ClusterModel>,
    /// The operator's choices.
    pub policy: Arc<Policy>,
    /// The version to reach; a pool of workers may have
    /// [one of its own](crate::PoolPolicy::target_of).
    pub target: KubeVersion,
    /// Send no mutating request except dry runs.
    pub dry_run: bool,
    /// The one node that goes back to an older [`target`](Self::target), while
    /// the rest of the cluster stays; `None` in an upgrade.
    pub way_back: Option<String>,
    /// Of [`pods_on`](Self::pods_on), made when it is first called.
    by_node: Arc<OnceLock<PodsByNode>>,
}

impl StepInput {
    /// The input of a run that changes things.
    pub fn new(model: Arc<ClusterModel>, policy: Arc<Policy>, target: KubeVersion) -> Self {
        Self {
            model,
            policy,
            target,
            dry_run: false,
            way_back: None,
            by_node: Arc::default(),
        }
    }

    /// Turns the run into a dry run, or back.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Makes the run the way back of one node, or an upgrade again.
    #[must_use]
    pub fn with_way_back(mut self, node: Option<impl Into<String>>) -> Self {
        self.way_back = node.map(Into::into);
        self
    }

    /// The version that the kubelet of `node` is to reach.
    pub fn target_of(&self, node: &Node) -> &KubeVersion {
        match &self.way_back {
            Some(back) if *back == node.name => &self.target,
            _ => self.policy.pools.target_of_node(node, &self.target),
        }
    }

    /// The version that the kubelet of the node `name` is to reach, which is in `pool`
    /// as far as that is known; what the model says counts first.
    pub fn target_of_named(&self, name: &str, pool: Option<&str>) -> &KubeVersion {
        if self.policy.pools.target_of.is_empty() {
            return &self.target;
        }
        match (self.model.node(name), pool) {
            (Some(node), _) => self.target_of(node),
            (None, Some(pool)) => self.policy.pools.target(pool, &self.target),
            (None, None) => &self.target,
        }
    }

    /// `nodes` by the versions that their kubelets are to reach.
    pub fn by_target(&self, nodes: &[String]) -> BTreeMap<&KubeVersion, Vec<String>> {
        let mut by_target: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for node in nodes {
            let target = self.target_of_named(node, None);
            by_target.entry(target).or_default().push(node.clone());
        }
        by_target
    }

    /// Whether the kubelet of `node` is to be changed.
    pub fn is_to_change(&self, node: &Node) -> bool {
        node.is_to_change(self.target_of(node), self.way_back.as_deref())
    }

    /// Another version to reach, for a step that is about one target alone.
    #[must_use]
    pub fn with_target(mut self, target: KubeVersion) -> Self {
        self.target = target;
        self
    }

    /// Whether a restart of this node's kubelet takes a part of the control plane
    /// away: it ends static pods whose definition it reads differently.
    pub fn hosts_control_plane(&self, before: &Baseline, node: &str) -> bool {
        let is_labelled = || {
            let mut nodes = self.model.nodes.iter();
            nodes.any(|known| known.name == node && known.role == Role::ControlPlane)
        };
        before.control_plane.contains_key(node) || is_labelled()
    }

    /// The pods of the model that run on `node`. The first call looks at all
    /// pods, for this input and its clones; the others at those of the node.
    pub fn pods_on(&self, node: &str) -> Vec<&Pod> {
        let by_node = self.by_node.get_or_init(|| PodsByNode::of(&self.model));
        by_node.on(node, &self.model)
    }
}

/// What a step has to say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
#[must_use = "an unread report is not actionable"]
pub struct StepReport {
    /// Findings; a blocker keeps the run from starting unless it is waived.
    pub findings: Vec<Finding>,
}

impl StepReport {
    /// A report of these findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::DEFAULT_POOL;
    use crate::{ClusterId, Moment};

    const OWN: &str = "1.36.5";
    const TARGET: &str = "1.37.2";

    fn version(text: &str) -> KubeVersion {
        text.parse().unwrap()
    }

    /// Nodes of two pools, of which one has a target of its own.
    fn input() -> StepInput {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let mut policy = Policy::default();
        for (name, pool, at) in [("a", "held", OWN), ("b", "held", "1.36.1"), ("c", "x", OWN)] {
            let mut node = Node::new(name, version(at));
            let label = policy.pools.label.clone();
            node.labels.insert(label, pool.to_owned());
            model.nodes.push(node);
        }
        let targets = &mut policy.pools.target_of;
        targets.insert("held".to_owned(), version(OWN));
        StepInput::new(Arc::new(model), Arc::new(policy), version(TARGET))
    }

    #[test]
    fn each_node_is_to_reach_the_target_of_its_pool() {
        let input = input();
        let nodes = input.model.nodes.iter();
        let to_change = nodes.filter(|node| input.is_to_change(node));
        let names: Vec<&str> = to_change.map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        for (name, pool, target) in [
            ("a", None, OWN),
            // What the model says counts first.
            ("c", Some("held"), TARGET),
            ("new", Some("held"), OWN),
            ("new", Some(DEFAULT_POOL), TARGET),
            ("new", None, TARGET),
        ] {
            let named = input.target_of_named(name, pool);
            assert_eq!(*named, version(target), "{name} {pool:?}");
        }
        let (own, target) = (version(OWN), version(TARGET));
        let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
        let by_target = input.by_target(&[a.clone(), b.clone(), c.clone()]);
        let expected = [(&own, vec![a, b]), (&target, vec![c])];
        assert_eq!(by_target, expected.into_iter().collect());
    }

    /// It goes where the run takes it, be that newer or older than what its pool is held
    /// at, and nothing else does.
    #[test]
    fn the_node_that_goes_back_has_the_target_of_the_run() {
        for target in [TARGET, "1.35.4"] {
            let back = input().with_target(version(target));
            let back = back.with_way_back(Some("a"));
            let of = |name: &str| back.target_of(back.model.node(name).unwrap());
            assert_eq!(*of("a"), version(target));
            let other = version(OWN).or_older(&version(target)).clone();
            assert_eq!(*of("b"), other, "{target}");
        }
    }
}
