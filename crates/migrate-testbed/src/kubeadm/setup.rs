//! Making a cluster of booted nodes.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use http::Request;
use serde_json::Value;

use super::command::run;
use super::images::REPOSITORY;
use super::network::{CLUSTER_CIDR, pod_subnet};
use super::node::Node;
use super::packages::{cni_version, package_version};
use super::rootfs::OPERATOR;
use crate::releases::Release;
use crate::{Error, Progress, eventually};

const CONTAINERD: &str = include_str!("files/containerd.toml");
const CNI: &str = include_str!("files/cni.conflist");
const EXTERNAL_ETCD: &str = include_str!("files/external-etcd.sh");
const INIT: &str = include_str!("files/kubeadm-init.yaml");
const JOIN: &str = include_str!("files/kubeadm-join.yaml");

/// These tokens guard nothing: the network ends on this machine.
const TOKEN: &str = "abcdef.0123456789abcdef";
const CERTIFICATE_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What kubeadm checks of a machine and nodes in namespaces cannot have.
const IGNORED: &str = "SystemVerification, \
    FileContent--proc-sys-net-bridge-bridge-nf-call-iptables, Swap, Mem, NumCPU";

const PATIENCE: Duration = Duration::from_secs(180);

/// The making of one cluster.
pub(super) struct Setup<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) release: Release,
    /// Where the API is reached by all.
    pub(super) endpoint: Ipv4Addr,
    pub(super) external_etcd: bool,
    pub(super) systemd_driver: bool,
    pub(super) run_dir: &'a Path,
    pub(super) report: &'a (dyn Fn(&Progress) + Send + Sync),
}

impl Setup<'_> {
    /// Returns the administrator's kubeconfig as kubeadm wrote it.
    pub(super) async fn make_cluster(&self) -> Result<String, Error> {
        self.say("installing packages and images on the nodes");
        try_join_all(self.nodes.iter().map(|node| self.install(node))).await?;
        let (first, others) = self.nodes.split_first().ok_or_else(|| Error::Io {
            what: "a cluster of no nodes".to_owned(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        if self.external_etcd {
            self.say("an etcd of its own");
            let address = first.address().to_string();
            let words = ["bash", "-euo", "pipefail", "-c", EXTERNAL_ETCD, "etcd"];
            let version = format!("v{}", self.release.kubernetes);
            let arguments: [&str; 2] = [&address, &version];
            first.run(&[&words[..], &arguments].concat()).await?;
        }
        self.say("kubeadm init");
        self.write(
            first,
            "/etc/kubernetes/testbed.yaml",
            &self.fill(INIT, first),
        )
        .await?;
        let words = [
            "kubeadm",
            "init",
            "--config",
            "/etc/kubernetes/testbed.yaml",
            "--upload-certs",
        ];
        let said = first.run(&words).await?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut words = said.split_whitespace();
        let hash = words.find(|word| word.starts_with("sha256:"));
        let hash = hash.unwrap_or_default().to_owned();
        self.say("kubeadm join");
        for node in others {
            let text = self.fill(JOIN, node).replace("@CA_HASH@", &hash);
            self.write(node, "/etc/kubernetes/testbed.yaml", &text)
                .await?;
            node.run(&[
                "kubeadm",
                "join",
                "--config",
                "/etc/kubernetes/testbed.yaml",
            ])
            .await?;
        }
        let admin = first.run(&["cat", "/etc/kubernetes/admin.conf"]).await?;
        Ok(String::from_utf8_lossy(&admin.stdout).into_owned())
    }

    async fn install(&self, node: &Node) -> Result<(), Error> {
        self.write(
            node,
            "/etc/containerd/config.toml",
            &self.fill(CONTAINERD, node),
        )
        .await?;
        self.write(
            node,
            "/etc/cni/net.d/10-testbed.conflist",
            &self.fill(CNI, node),
        )
        .await?;
        let version = package_version(self.release.kubernetes);
        // apt would take the newest, and leave an upgrade none to bring.
        let cni = cni_version(&version);
        let roles = if node.is_control_plane() {
            "control-plane everywhere"
        } else {
            "everywhere"
        };
        let script = format!(
            "systemctl restart containerd\n\
             export DEBIAN_FRONTEND=noninteractive\n\
             apt-get -qq update\n\
             apt-get -qq install -y kubelet={version} kubeadm={version} kubectl={version} \
             kubernetes-cni={cni}\n\
             apt-mark hold kubelet kubeadm kubectl\n\
             apt-mark auto kubernetes-cni\n\
             systemctl daemon-reload\n\
             systemctl enable kubelet\n\
             for age in now later; do for role in {roles}; do\n\
             for image in /srv/testbed/images/$age/$role/*.tar; do\n\
             [ ! -e \"$image\" ] || ctr --namespace k8s.io images import \"$image\"\n\
             done; done; done\n"
        );
        node.script(&script).await.map(drop)
    }

    fn fill(&self, template: &str, node: &Node) -> String {
        let driver = if self.systemd_driver {
            "systemd"
        } else {
            "cgroupfs"
        };
        let pause = self.release.kubeadm.map_or("", |parts| parts.pause);
        let control_plane = if node.is_control_plane() {
            format!(
                "controlPlane:\n  certificateKey: \"{CERTIFICATE_KEY}\"\n  \
                 localAPIEndpoint: {{advertiseAddress: {}, bindPort: 6443}}",
                node.address()
            )
        } else {
            "# a worker".to_owned()
        };
        let etcd = if self.external_etcd {
            format!(
                "etcd: {{external: {{endpoints: [\"https://{}:2379\"], \
                 caFile: /etc/etcd/pki/etcd/ca.crt, \
                 certFile: /etc/etcd/pki/apiserver-etcd-client.crt, \
                 keyFile: /etc/etcd/pki/apiserver-etcd-client.key}}}}",
                node.address()
            )
        } else {
            "# etcd is kubeadm's own".to_owned()
        };
        [
            ("@REPOSITORY@", REPOSITORY),
            ("@PAUSE@", pause),
            (
                "@SYSTEMD_CGROUP@",
                if self.systemd_driver { "true" } else { "false" },
            ),
            ("@CGROUP_DRIVER@", driver),
            ("@POD_SUBNET@", &pod_subnet(node.number())),
            ("@CLUSTER_CIDR@", CLUSTER_CIDR),
            ("@TOKEN@", TOKEN),
            ("@CERTIFICATE_KEY@", CERTIFICATE_KEY),
            ("@ADDRESS@", &node.address().to_string()),
            ("@NAME@", node.name()),
            ("@IGNORED@", IGNORED),
            ("@VERSION@", self.release.kubernetes),
            ("@ENDPOINT@", &format!("{}:6443", self.endpoint)),
            ("@CONTROL_PLANE@", &control_plane),
            ("@ETCD@", &etcd),
        ]
        .into_iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    }

    async fn write(&self, node: &Node, path: &str, text: &str) -> Result<(), Error> {
        let words = [
            "bash",
            "-c",
            "printf %s \"$1\" > \"$2\"",
            "write",
            text,
            path,
        ];
        node.run(&words).await.map(drop)
    }

    /// A key, known hosts and a configuration for OpenSSH.
    pub(super) async fn write_ssh_config(&self, ports: &[u16]) -> Result<(), Error> {
        let folder = self.run_dir.join("ssh");
        fs::create_dir_all(&folder).map_err(Error::io("making the folder of SSH"))?;
        let key = folder.join("key");
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f"])
            .arg(&key);
        run("ssh-keygen", &mut keygen)?;
        let public = fs::read_to_string(key.with_extension("pub"))
            .map_err(Error::io("reading the public key"))?;
        let (mut config, mut known) = (String::new(), String::new());
        for (node, port) in self.nodes.iter().zip(ports) {
            let host_key = node
                .run(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
                .await?;
            let host_key = String::from_utf8_lossy(&host_key.stdout).into_owned();
            let words: Vec<&str> = host_key.split_whitespace().take(2).collect();
            known += &format!("{} {}\n", node.name(), words.join(" "));
            config += &format!(
                "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {name}\n",
                name = node.name()
            );
            let script = format!(
                "install -d -m 700 -o {OPERATOR} -g {OPERATOR} /home/{OPERATOR}/.ssh\n\
                 echo '{}' > /home/{OPERATOR}/.ssh/authorized_keys\n\
                 systemctl restart ssh",
                public.trim()
            );
            node.script(&script).await?;
        }
        config += &format!(
            "Host *\n  User {OPERATOR}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  BatchMode yes\n",
            key.display(),
            folder.join("known_hosts").display()
        );
        private_file(&folder.join("known_hosts"), &known)?;
        private_file(&folder.join("config"), &config)
    }

    /// Waits until every node is Ready and every pod of the system runs.
    pub(super) async fn await_ready(&self, client: &kube::Client) -> Result<(), Error> {
        self.say("waiting for nodes and system pods");
        let items = async |path: &str| {
            let request = Request::get(path).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let list: Value = client
                .request(request)
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(list["items"].as_array().cloned().unwrap_or_default())
        };
        eventually("the cluster to be ready", PATIENCE, || async {
            let nodes = items("/api/v1/nodes").await?;
            let pods = items("/api/v1/namespaces/kube-system/pods").await?;
            if nodes.len() != self.nodes.len() {
                return Err(format!("{} nodes have joined", nodes.len()));
            }
            match nodes.iter().chain(&pods).find(|object| !is_ready(object)) {
                Some(object) => Err(format!("{} is not ready", object["metadata"]["name"])),
                None => Ok(true),
            }
        })
        .await
    }

    fn say(&self, what: &str) {
        (self.report)(&Progress::Step {
            what: what.to_owned(),
        });
    }
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub(super) fn private_file(path: &Path, text: &str) -> Result<(), Error> {
    let writing = || format!("writing {}", path.display());
    fs::write(path, text).map_err(Error::io(writing()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Error::io(writing()))
}
