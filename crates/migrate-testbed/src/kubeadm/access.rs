//! The ways to a cluster's servers, for this process and for programs in the
//! cluster's network.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use super::network::{Forward, Network};
use super::node::Node;
use super::setup::private_file;
use crate::Error;
use crate::control_plane::client;

const API_PORT: u16 = 6443;

/// Clients, and files that name servers and keys.
pub(super) struct Access {
    pub(super) client: kube::Client,
    pub(super) kubeconfig: PathBuf,
    /// The API as nodes reach it.
    pub(super) inside: PathBuf,
    /// The API server of each control plane.
    pub(super) members: BTreeMap<String, kube::Client>,
    /// Each etcd member, in the same form.
    pub(super) etcd: Vec<PathBuf>,
    ways_in: Vec<Forward>,
}

impl Access {
    /// Opens the ways to the API at `endpoint` and to each control plane;
    /// `admin` is the administrator's kubeconfig as kubeadm wrote it.
    pub(super) async fn open(
        nodes: &[Node],
        network: &Network,
        endpoint: Ipv4Addr,
        admin: &str,
        external_etcd: bool,
        folder: &Path,
    ) -> Result<Self, Error> {
        let mut ways_in = Vec::new();
        let mut open = |address: Ipv4Addr| -> Result<String, Error> {
            let way = network.forward(SocketAddrV4::new(address, API_PORT))?;
            let server = format!("https://127.0.0.1:{}", way.port());
            ways_in.push(way);
            Ok(server)
        };
        let kubeconfig = folder.join("admin.conf");
        private_file(&kubeconfig, &with_server(admin, &open(endpoint)?))?;
        let inside = folder.join("inside.conf");
        let server = format!("https://{endpoint}:{API_PORT}");
        private_file(&inside, &with_server(admin, &server))?;

        let mut members = BTreeMap::new();
        let mut etcd = Vec::new();
        for node in nodes.iter().filter(|node| node.is_control_plane()) {
            let file = folder.join(format!("admin-{}.conf", node.name()));
            private_file(&file, &with_server(admin, &open(node.address())?))?;
            members.insert(node.name().to_owned(), client(&file).await?);
        }
        // One that is not kubeadm's is the first node's alone.
        let (with_etcd, pki) = match external_etcd {
            true => (1, "/etc/etcd/pki/etcd"),
            false => (members.len(), "/etc/kubernetes/pki/etcd"),
        };
        for node in nodes.iter().take(with_etcd) {
            etcd.push(etcd_access(node, pki, folder).await?);
        }
        Ok(Self {
            client: client(&kubeconfig).await?,
            kubeconfig,
            inside,
            members,
            etcd,
            ways_in,
        })
    }

    /// Keeps these ways open as long as the others.
    pub(super) fn keep(&mut self, ways: Vec<Forward>) {
        self.ways_in.extend(ways);
    }
}

/// A kubeconfig with another server.
fn with_server(text: &str, server: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("server: ") {
            format!("    server: {server}\n")
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

/// A kubeconfig whose server is the etcd of a node, with its certificates in `pki`.
async fn etcd_access(node: &Node, pki: &str, folder: &Path) -> Result<PathBuf, Error> {
    let folder = folder.join("etcd").join(node.name());
    fs::create_dir_all(&folder).map_err(Error::io("making a folder for etcd's keys"))?;
    for name in ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"] {
        let file = format!("{pki}/{name}");
        let text = node.run(&["cat", &file]).await?.stdout;
        private_file(&folder.join(name), &String::from_utf8_lossy(&text))?;
    }
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: etcd\n\
         clusters: [{{name: etcd, cluster: {{server: \"https://{}:2379\", certificate-authority: {}}}}}]\n\
         users: [{{name: etcd, user: {{client-certificate: {}, client-key: {}}}}}]\n\
         contexts: [{{name: etcd, context: {{cluster: etcd, user: etcd}}}}]\n",
        node.address(),
        folder.join("ca.crt").display(),
        folder.join("healthcheck-client.crt").display(),
        folder.join("healthcheck-client.key").display(),
    );
    let file = folder.join("access.conf");
    private_file(&file, &text)?;
    Ok(file)
}
