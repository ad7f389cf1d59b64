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
