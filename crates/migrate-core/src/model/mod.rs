//! The cluster model: what planner, drain and checks know about a cluster.
//!
//! Plain structs, made from a live API, a dump or a rehearsal, with a JSON form
//! (camelCase keys, `schema` first, see [`SCHEMA`]). The model leaves out what no decision here
//! reads: container specs, environment, secrets, services, ingress, status
//! history. Quantities are whole numbers (milli-CPU, bytes), times are
//! [`Moment`]s.

mod hosts;
mod node;
mod placement;
mod pod;
mod shared;
mod workload;

pub use hosts::{Admitting, Hosts, hosts_among, only_host};
pub use node::{ControlPlaneMember, Node, Resources, Role, Taint, TaintEffect, ZONE_LABEL};
pub use placement::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, Placement,
    SpreadConstraint, Toleration,
};
pub use pod::{ControllerRef, DO_NOT_DISRUPT, Labels, Pod, PodId, PodPhase, STEP_LABEL, TRIAL};
pub use shared::Shared;
pub use workload::{BudgetStatus, DisruptionBudget, UnhealthyPodPolicy, Workload, WorkloadId};

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DocumentError, KubeVersion, Moment};

/// Version of the JSON form of [`ClusterModel`]. A reader refuses a newer one:
/// [`ClusterModel::from_json`] does, and so do planner and rollout when they are
/// handed one.
pub const SCHEMA: u32 = 1;

const WHAT: &str = "cluster model";

/// Who a cluster is: the uid of its `kube-system` namespace.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ClusterId(String);

impl ClusterId {
    /// The identity given by the uid of `kube-system`.
    pub fn new(uid: impl Into<String>) -> Self {
        Self(uid.into())
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster at one moment.
///
/// Lists are sorted (nodes and members by name, the rest by namespace and
/// name), so that the same cluster gives the same bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ClusterModel {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// When it was observed.
    pub taken_at: Moment,
    /// The API servers. Exactly one, named `control-plane`, where the cluster
    /// does not show them as pods (managed control planes).
    pub control_plane: Vec<ControlPlaneMember>,
    /// Every node.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// Every pod, finished ones included.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Every controller of pods.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// Every PodDisruptionBudget.
    #[serde(default)]
    pub budgets: Vec<DisruptionBudget>,
}

impl ClusterModel {
    /// An empty model of `cluster` taken at `taken_at`.
    pub fn new(cluster: ClusterId, taken_at: Moment) -> Self {
        Self {
            schema: SCHEMA,
            cluster,
            taken_at,
            control_plane: Vec::new(),
            nodes: Vec::new(),
            pods: Vec::new(),
            workloads: Vec::new(),
            budgets: Vec::new(),
        }
    }

    /// The oldest version that an API server has; none where no member is known.
    pub fn oldest_api_server(&self) -> Option<&KubeVersion> {
        let members = self.control_plane.iter();
        members.map(|member| &member.version).min()
    }

    /// Reads the JSON form back, which `serde_json` writes, in any order: the model is
    /// [sorted](Self::sort). Every field is described in `docs/model.md`.
    ///
    /// # Errors
    /// [`DocumentError::Newer`] for one that a newer release wrote,
    /// [`DocumentError::Invalid`] for what is no model.
    pub fn from_json(json: &str) -> Result<Self, DocumentError> {
        let mut model: Self = DocumentError::read(WHAT, SCHEMA, json)?;
        model.sort();
        Ok(model)
    }

    /// Whether this release knows everything that the writer of the model may
    /// have put into it.
    ///
    /// # Errors
    /// [`DocumentError::Newer`].
    pub fn ensure_known(&self) -> Result<(), DocumentError> {
        DocumentError::unless_known(WHAT, self.schema, SCHEMA)
    }

    /// Sorts every list into its documented order, and lets neighbours share what they
    /// have alike: labels, owners and placement of the pods of one template.
    pub fn sort(&mut self) {
        self.control_plane.sort_by(|a, b| a.name.cmp(&b.name));
        self.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.pods.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
        self.workloads.sort_by(|a, b| a.id.cmp(&b.id));
        self.budgets
            .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.share();
    }

    /// Whether every list is in its documented order. Linear.
    pub fn is_sorted(&self) -> bool {
        self.is_sorted_but_for_pods() && Self::are_sorted(&self.pods)
    }

    /// Whether every list but the one of pods, which is the longest by far, is in its
    /// documented order: for who reads pods anyway, and looks at their order on the way.
    pub fn is_sorted_but_for_pods(&self) -> bool {
        self.control_plane.is_sorted_by(|a, b| a.name <= b.name)
            && self.nodes.is_sorted_by(|a, b| a.name <= b.name)
            && self.workloads.is_sorted_by(|a, b| a.id <= b.id)
            && self
                .budgets
                .is_sorted_by(|a, b| (&a.namespace, &a.name) <= (&b.namespace, &b.name))
    }

    /// Whether these pods are in the documented order of a model's.
    pub fn are_sorted(pods: &[Pod]) -> bool {
        pods.is_sorted_by(|a, b| place_of(a) <= place_of(b))
    }

    /// The model itself if it [is sorted](Self::is_sorted), else a copy that
    /// [is](Self::sort): for who is handed one by others, and whose answer shall
    /// not depend on the order in which they read the cluster.
    pub fn sorted(&self) -> Cow<'_, Self> {
        if self.is_sorted() {
            return Cow::Borrowed(self);
        }
        let mut model = self.clone();
        model.sort();
        Cow::Owned(model)
    }

    fn share(&mut self) {
        let mut last: Option<&Pod> = None;
        for pod in &mut self.pods {
            if let Some(last) = last {
                pod.share(last);
            }
            last = Some(&*pod);
        }
    }

    /// The node named `name`, by binary search: the model must be sorted.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes
            .binary_search_by(|node| node.name.as_str().cmp(name))
            .ok()
            .and_then(|index| self.nodes.get(index))
    }

    /// The nodes that host no member of the control plane: neither their labels
    /// nor the pods there say so.
    pub fn workers(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| !self.is_of_control_plane(node))
    }

    /// Whether a member of the control plane is on the node named `name`: its label
    /// or the pods there say so. The model must be sorted.
    pub fn hosts_member(&self, name: &str) -> bool {
        self.node(name)
            .is_some_and(|node| self.is_of_control_plane(node))
    }

    /// Whether there is one API server, in whose place no other could answer.
    pub fn has_one_member(&self) -> bool {
        self.control_plane.len() == 1
    }

    fn is_of_control_plane(&self, node: &Node) -> bool {
        let by_pod = || self.control_plane.iter().any(|one| one.name == node.name);
        node.role == Role::ControlPlane || by_pod()
    }

    /// The workload with this identity, by binary search: the model must be sorted.
    pub fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        self.workloads
            .binary_search_by(|workload| workload.id.cmp(id))
            .ok()
            .and_then(|index| self.workloads.get(index))
    }
}

/// By what pods are sorted.
fn place_of(pod: &Pod) -> (&str, &str) {
    (&pod.id.namespace, &pod.id.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_out_of_order_is_seen_and_a_copy_has_it_in_order() {
        let version = || KubeVersion::new(1, 36, 3);
        let mut sorted = ClusterModel::new(ClusterId::new("c"), Moment::from_millis(0));
        sorted.control_plane = ["a", "b"]
            .map(|name| ControlPlaneMember::new(name, version()))
            .into();
        sorted.nodes = ["a", "b"].map(|name| Node::new(name, version())).into();
        sorted.pods = [("a", "z"), ("b", "a")]
            .map(|(namespace, name)| Pod::new(PodId::new(namespace, name, name), "a"))
            .into();
        sorted.workloads = ["a", "b"]
            .map(|name| Workload::new(WorkloadId::new("Deployment", "a", name), 2))
            .into();
        sorted.budgets = ["a", "b"]
            .map(|name| DisruptionBudget::new("a", name, crate::LabelSelector::new()))
            .into();
        assert!(matches!(sorted.sorted(), Cow::Borrowed(_)));
        let turns: [fn(&mut ClusterModel); 5] = [
            |model| model.control_plane.reverse(),
            |model| model.nodes.reverse(),
            |model| model.pods.reverse(),
            |model| model.workloads.reverse(),
            |model| model.budgets.reverse(),
        ];
        for turn in turns {
            let mut turned = sorted.clone();
            turn(&mut turned);
            assert!(!turned.is_sorted());
            assert_eq!(*turned.sorted(), sorted);
        }
    }

    #[test]
    fn a_worker_has_no_part_of_the_control_plane() {
        let version = || KubeVersion::new(1, 36, 3);
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::from_millis(0));
        let node = |name| Node::new(name, version());
        model.nodes = ["by-label", "by-pod", "w-1", "w-2"].map(node).into();
        model.nodes[0].role = Role::ControlPlane;
        model.control_plane = vec![ControlPlaneMember::new("by-pod", version())];
        let names: Vec<&str> = model.workers().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["w-1", "w-2"]);
    }
}
