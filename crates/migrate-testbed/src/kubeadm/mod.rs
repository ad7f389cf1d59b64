//! A real Kubernetes cluster made by kubeadm, without virtual machines.

mod access;
mod balancer;
mod builder;
pub(crate) mod command;
mod faults;
mod images;
mod machine;
mod network;
mod node;
mod packages;
mod process;
mod rootfs;
mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use balancer::Balancer;
pub use builder::KubeadmClusterBuilder;
pub use faults::HeldLock;
pub use node::Node;

use crate::Error;
use crate::objects::{self, Applied};
use crate::process::RunDir;
use access::Access;
use network::Network;

/// Name of the folder of volumes in that of a cluster.
const VOLUMES: &str = "volumes";

/// A running cluster of real nodes; dropping it ends all of it.
///
/// Every node is a tree of processes in namespaces of its own, with systemd,
/// containerd, kubelet and sshd; the control plane is what `kubeadm init` and
/// `kubeadm join` have made of it. Its network has no way out: the cluster is
/// reached through ports of 127.0.0.1.
pub struct KubeadmCluster {
    // Fields are dropped in this order: nodes and what leads to them, their
    // network, their folder.
    nodes: Vec<Node>,
    balancer: Option<Balancer>,
    access: Access,
    network: Arc<Network>,
    run_dir: RunDir,
}

impl KubeadmCluster {
    /// Options, then [`start`](KubeadmClusterBuilder::start).
    pub fn builder() -> KubeadmClusterBuilder {
        KubeadmClusterBuilder::default()
    }

    /// A client that may do everything and never retries by itself.
    pub fn client(&self) -> kube::Client {
        self.access.client.clone()
    }

    /// A kubeconfig for the same user as [`client`](Self::client), good on
    /// this machine while the cluster lives.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.access.kubeconfig
    }

    /// The same for programs in the cluster's network: the API as nodes reach
    /// it, through the load balancer if there is one.
    pub fn inside_kubeconfig_path(&self) -> &Path {
        &self.access.inside
    }

    /// A client of the API server of one control plane, past the load balancer.
    pub fn client_of(&self, control_plane: &str) -> Option<kube::Client> {
        self.access.members.get(control_plane).cloned()
    }

    /// Kubeconfigs whose servers are the members of etcd, good in the cluster's
    /// network; see [`Traffic::write_to_etcd`](crate::Traffic::write_to_etcd).
    pub fn etcd_access(&self) -> &[PathBuf] {
        &self.access.etcd
    }

    /// What is before the API servers of several control planes.
    pub fn balancer(&self) -> Option<&Balancer> {
        self.balancer.as_ref()
    }

    /// All nodes, those of the control plane first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// The configuration with which `ssh -F` reaches every node by its name as
    /// a user who may use sudo, with a key of its own and checked host keys.
    pub fn ssh_config(&self) -> PathBuf {
        self.run_dir.path().join("ssh").join("config")
    }

    /// The folder that every node has as `/srv/volumes` and may write to: what is
    /// there is, to pods, a volume that moves with them from node to node.
    pub fn volumes(&self) -> PathBuf {
        self.run_dir.path().join(VOLUMES)
    }

    /// The words that run a program in the cluster's network, beside the
    /// nodes, to be put before it.
    pub fn outside(&self) -> Vec<String> {
        self.network.prefix()
    }

    /// Creates objects, as [`ControlPlane::apply`](crate::ControlPlane::apply).
    ///
    /// # Errors
    /// [`Error::MalformedObject`], [`Error::Api`] for the first refusal.
    pub async fn apply(&self, objects: Vec<Value>) -> Result<Applied, Error> {
        objects::apply(&self.access.client, objects).await
    }

    /// The folder of this cluster; it goes away with the cluster.
    pub fn dir(&self) -> &Path {
        self.run_dir.path()
    }
}

impl Drop for KubeadmCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("--- the end of the console of {}:", node.name());
                eprintln!("{}", node.console_tail(15));
            }
        }
    }
}

/// Short and stable name of a text, for folders and files in the cache.
fn fingerprint(text: &str) -> String {
    sha256(text.as_bytes()).chars().take(8).collect()
}

/// In hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
