//! Clusters described in a TOML file: pools of nodes, workloads, budgets, faults.
//!
//! A [`Scenario`] says what is in a cluster, not what runs it: its
//! [`objects`](Scenario::objects) are plain Kubernetes objects that a real
//! control plane takes as well. The format, with every default:
//!
//! ```
//! let scenario: migrate_sim::Scenario = r#"
//! version = "v1.36.3"                # of every kubelet
//!
//! [[pools]]
//! name = "control-plane"             # nodes are control-plane-1, control-plane-2, ...
//! count = 3
//! control_plane = true               # false; label, taint and static pods of a member
//! zones = ["zone-a", "zone-b", "zone-c"] # ["zone-a"]; nodes take them in turn
//! cpu = "4"                          # "8"
//! memory = "16Gi"                    # "32Gi"
//! pods = 110
//!
//! [[pools]]
//! name = "general"
//! count = 2
//! labels = { disk = "fast" }         # besides node.kubernetes.io/pool = name
//! taints = []                        # as in a Node
//!
//! [[workloads]]
//! kind = "deployment"                # statefulset, daemonset, replicationcontroller, job, pod
//! namespace = "shop"                 # made when it is not there
//! name = "cart"
//! copies = 1                         # more: cart-1, cart-2, ...
//! replicas = 3                       # of a job: its completions, all at once
//! budget = { min_available = 2 }     # or max_unavailable = "25%"; none
//! spread = "zone"                    # "node", "none": even spread, required
//! apart = false                      # true: never two on one node, required
//! cpu = "100m"
//! memory = "128Mi"
//! image = "registry.example/shop/cart:1.0"
//! grace_seconds = 30
//! "#.parse()?;
//! assert_eq!(scenario.pools[1].count, 2);
//! assert!(scenario.objects().iter().any(|object| object["kind"] == "PodDisruptionBudget"));
//! # Ok::<(), migrate_sim::ScenarioError>(())
//! ```
//!
//! Further fields of a workload are those of [`Workload`], faults those of [`Fault`].

mod objects;
mod workload;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::workload::{Budget, Spread, Volume, VolumeReach, Workload, WorkloadKind};

/// What is in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// Kubernetes version of every node, such as `v1.36.3`.
    pub version: String,
    /// Groups of equal nodes.
    pub pools: Vec<Pool>,
    /// What runs on them.
    pub workloads: Vec<Workload>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Any other objects, as they stand in a manifest; created last.
    pub objects: Vec<Value>,
}

/// Equal nodes, named `NAME-1`, `NAME-2`, ...
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pool {
    /// Name of the pool, also the value of its nodes' label `node.kubernetes.io/pool`.
    pub name: String,
    /// How many nodes.
    #[serde(default = "one")]
    pub count: u32,
    /// Whether the nodes are control-plane members.
    #[serde(default)]
    pub control_plane: bool,
    /// Zones that the nodes take in turn.
    #[serde(default = "default_zones")]
    pub zones: Vec<String>,
    /// Labels of every node.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints of every node.
    #[serde(default)]
    pub taints: Vec<Value>,
    /// Cores of a node.
    #[serde(default = "default_node_cpu")]
    pub cpu: String,
    /// Memory of a node.
    #[serde(default = "default_node_memory")]
    pub memory: String,
    /// How many pods a node takes.
    #[serde(default = "default_node_pods")]
    pub pods: u32,
    /// Kubernetes version of the nodes, if it differs from the others'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Something that goes wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fault {
    /// Name of the node.
    pub node: String,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Seconds after the start.
    #[serde(default)]
    pub after_seconds: u64,
}

/// What goes wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultKind {
    /// The node falls silent and stays so.
    Dead,
    /// The kubelet does not come back from its next restart.
    NeverReady,
    /// Everything on the node takes three times as long.
    Slow,
    /// The node is as it should be again.
    Recovered,
}

/// A scenario that cannot be read or makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not TOML, or not of the form of a scenario.
    #[error("the scenario cannot be read: {0}")]
    Malformed(#[from] toml::de::Error),
    /// Two things have one name.
    #[error("{what} {name:?} is there twice")]
    Duplicate {
        /// What kind of thing.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// A fault names a node that is in no pool.
    #[error("there is no node {0:?} for the fault")]
    UnknownNode(String),
}

impl Scenario {
    /// A cluster of this version with nothing in it.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            ..Self::default()
        }
    }

    /// Adds a pool.
    #[must_use]
    pub fn with_pool(mut self, pool: Pool) -> Self {
        self.pools.push(pool);
        self
    }

    /// Adds a workload.
    #[must_use]
    pub fn with_workload(mut self, workload: Workload) -> Self {
        self.workloads.push(workload);
        self
    }

    /// Adds any other object.
    #[must_use]
    pub fn with_object(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    /// The cluster that examples and demonstrations upgrade: 15 nodes, 3 of
    /// them control-plane members, and some 300 pods in a dozen namespaces.
    ///
    /// # Errors
    /// None in practice: the file is part of this crate and tested.
    pub fn demo() -> Result<Self, ScenarioError> {
        include_str!("demo.toml").parse()
    }

    /// Names of all nodes, pool by pool.
    pub fn node_names(&self) -> impl Iterator<Item = String> {
        self.pools.iter().flat_map(Pool::node_names)
    }

    /// Everything as Kubernetes objects, in an order in which they can be created.
    ///
    /// Nodes carry a `status`, which a real API server takes through the status
    /// subresource only.
    pub fn objects(&self) -> Vec<Value> {
        objects::of(self)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        unique("pool", self.pools.iter().map(|pool| pool.name.clone()))?;
        unique(
            "workload",
            self.workloads.iter().flat_map(Workload::full_names),
        )?;
        match self
            .faults
            .iter()
            .find(|fault| !self.node_names().any(|node| node == fault.node))
        {
            Some(fault) => Err(ScenarioError::UnknownNode(fault.node.clone())),
            None => Ok(()),
        }
    }
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }
}

impl Pool {
    /// `count` worker nodes with 8 cores and 32 GiB each, in one zone.
    pub fn new(name: impl Into<String>, count: u32) -> Self {
        Self {
            name: name.into(),
            count,
            control_plane: false,
            zones: default_zones(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            cpu: default_node_cpu(),
            memory: default_node_memory(),
            pods: default_node_pods(),
            version: None,
        }
    }

    /// `count` control-plane members.
    pub fn control_plane(count: u32) -> Self {
        Self {
            control_plane: true,
            ..Self::new("control-plane", count)
        }
    }

    /// Sets the zones that the nodes take in turn.
    #[must_use]
    pub fn with_zones<S: Into<String>>(mut self, zones: impl IntoIterator<Item = S>) -> Self {
        self.zones = zones.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a label to every node.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets cores, memory and pods of a node.
    #[must_use]
    pub fn with_capacity(
        mut self,
        cpu: impl Into<String>,
        memory: impl Into<String>,
        pods: u32,
    ) -> Self {
        self.cpu = cpu.into();
        self.memory = memory.into();
        self.pods = pods;
        self
    }

    /// Names of the nodes.
    pub fn node_names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|index| format!("{}-{index}", self.name))
    }
}

fn unique(what: &'static str, names: impl Iterator<Item = String>) -> Result<(), ScenarioError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if let Some(name) = seen.replace(name) {
            return Err(ScenarioError::Duplicate { what, name });
        }
    }
    Ok(())
}

fn one() -> u32 {
    1
}

fn default_zones() -> Vec<String> {
    vec!["zone-a".to_owned()]
}

fn default_node_cpu() -> String {
    "8".to_owned()
}

fn default_node_memory() -> String {
    "32Gi".to_owned()
}

fn default_node_pods() -> u32 {
    110
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_doubles_are_refused() {
        let read = |text: &str| text.parse::<Scenario>();
        assert!(matches!(
            read("verson = 'v1.36.3'"),
            Err(ScenarioError::Malformed(_))
        ));
        let twice = "[[pools]]\nname = 'a'\n[[pools]]\nname = 'a'";
        assert!(matches!(
            read(twice),
            Err(ScenarioError::Duplicate { what: "pool", .. })
        ));
        let fault = "[[faults]]\nnode = 'a-1'\nkind = 'dead'";
        assert!(matches!(read(fault), Err(ScenarioError::UnknownNode(node)) if node == "a-1"));
    }

    #[test]
    fn a_scenario_survives_its_own_file() -> Result<(), Box<dyn std::error::Error>> {
        let demo = Scenario::demo()?;
        assert_eq!(toml::to_string(&demo)?.parse::<Scenario>()?, demo);
        assert_eq!(demo.node_names().count(), 15);
        Ok(())
    }
}
