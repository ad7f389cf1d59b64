//! What a node says of itself, as data. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// What `survey.sh` prints of one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Survey {
    /// The file system below `/sys/fs/cgroup`; `cgroup2fs` is version 2.
    pub(super) cgroup: String,
    /// Whether the kubelet is told to go on with version 1.
    pub(super) accepts_cgroup_v1: bool,
    /// Images of the control plane by component; none on a worker.
    pub(super) manifests: BTreeMap<String, String>,
    /// Addresses of the node.
    pub(super) addresses: Vec<String>,
    /// `server:` of kubeconfigs, by the name of the file without `.conf`.
    pub(super) servers: BTreeMap<String, String>,
    /// Size of a stacked etcd's folder.
    pub(super) etcd_kib: Option<u64>,
    /// Room where kubeadm copies it to.
    pub(super) free_kib: Option<u64>,
    /// Certificates that are there; absent where kubeadm did not tell.
    pub(super) certificates: Option<Vec<Certificate>>,
    /// `featureGates` of the kubelet's file on the node, YAML.
    pub(super) own_gates: String,
    /// File and flag of what the kubelet is started with; a value only of
    /// `--feature-gates`.
    pub(super) kubelet_flags: Vec<(String, String)>,
    /// Version of containerd, if there is one.
    pub(super) containerd: Option<String>,
    /// Where what an upgrade installs is written and little room is left, with
    /// the MiB that are free.
    pub(super) short_of_room: Vec<(String, String)>,
    /// The folder of patches that is not there.
    pub(super) patches_missing: Option<String>,
    /// What the packages of the target bring along.
    pub(super) packages: Packages,
    /// The node's clock when the script began and ended, milliseconds.
    pub(super) clock: Vec<i64>,
    /// What is the same on every control plane.
    pub(super) cluster: Cluster,
}

/// What apt would do beyond kubeadm, kubelet and kubectl.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Packages {
    /// Packages that change too, with their versions as apt names them.
    pub(super) along: Vec<(String, String)>,
    /// Files of those that somebody has changed.
    pub(super) changed: Vec<String>,
    /// Packages that would be removed.
    pub(super) removed: Vec<String>,
    /// Packages that kubeadm alone would change, before the node is drained.
    pub(super) early: Vec<String>,
    /// What apt says if it cannot.
    pub(super) refused: Option<String>,
    /// Programs in the place of which plain ones were asked for, and the packages
    /// they belong to.
    pub(super) managed: Vec<(String, String)>,
    /// Programs of no package, and where they lie.
    pub(super) unmanaged: Vec<(String, String)>,
}

/// What the API tells; absent where it did not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cluster {
    /// `ClusterConfiguration`, YAML.
    pub(super) kubeadm_config: Option<String>,
    /// `featureGates` of `kube-system/kubelet-config`, YAML.
    pub(super) kubelet_gates: Option<String>,
    /// Whether there is a `ConfigMap` `coredns`.
    pub(super) has_corefile: Option<bool>,
    /// Deployments that are labelled as the cluster's DNS.
    pub(super) dns: Option<Vec<Deployment>>,
    /// The API servers there are; empty where they could not be listed.
    pub(super) api_servers: Vec<ApiServer>,
    /// Address of each member of an external etcd, and its version.
    pub(super) etcd: Vec<(String, String)>,
}

/// A static pod of an API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ApiServer {
    pub(super) node: String,
    /// The address of its node.
    pub(super) address: String,
    pub(super) image: String,
}

/// A Deployment of the cluster's DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Deployment {
    pub(super) name: String,
    pub(super) image: String,
    /// `app.kubernetes.io/managed-by`, empty if it has none.
    pub(super) managed_by: String,
}

/// A certificate, as `kubeadm certs check-expiration -o json` has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Certificate {
    pub(super) name: String,
    pub(super) expires: String,
    /// By the node's own clock; not above zero once it has expired.
    pub(super) seconds_left: i64,
    /// The key of its authority is not on the node.
    pub(super) external: bool,
    /// Whether it is an authority, which no upgrade renews.
    pub(super) is_authority: bool,
}

impl Survey {
    /// Reads what `survey.sh` prints; lines it does not know are left out.
    pub(super) fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let value = || rest.to_owned();
            let packages = &mut read.packages;
            match word {
                "cgroup" => read.cgroup = value(),
                "fail-cgroup-v1" => read.accepts_cgroup_v1 = rest == "false",
                "manifest" => read.manifests.extend(pair(rest)),
                "server" => read.servers.extend(pair(rest)),
                "address" => read
                    .addresses
                    .extend(rest.split_whitespace().map(str::to_owned)),
                "etcd-kib" => read.etcd_kib = rest.parse().ok(),
                "free-kib" => read.free_kib = rest.parse().ok(),
                "certificates" => read.certificates = certificates(rest),
                "kubelet-gates" => add_line(&mut read.own_gates, rest),
                "kubelet-flag" => read.kubelet_flags.extend(pair(rest)),
                "containerd" => read.containerd = Some(value()),
                "short-of-room" => read.short_of_room.extend(pair(rest)),
                "patches-missing" => read.patches_missing = Some(value()),
                "package" => packages.along.extend(pair(rest)),
                "package-changed" => packages.changed.extend(pair(rest).map(|(_, file)| file)),
                "package-removed" => packages.removed.push(value()),
                "package-early" => packages.early.push(value()),
                "packages-refused" => packages.refused = Some(value()),
                "managed" => packages.managed.extend(pair(rest)),
                "unmanaged" => packages.unmanaged.extend(pair(rest)),
                "clock" => read.clock.extend(rest.parse::<i64>()),
                _ => read.cluster.read(word, rest),
            }
        }
        read
    }
}

impl Cluster {
    fn read(&mut self, word: &str, rest: &str) {
        match word {
            "kubeadm-config" => add_line(self.kubeadm_config.get_or_insert_default(), rest),
            "kubelet-config" => add_line(self.kubelet_gates.get_or_insert_default(), rest),
            "coredns-config" => self.has_corefile = Some(!rest.is_empty()),
            "coredns" => self.dns.get_or_insert_default().extend(deployment(rest)),
            "api-server" => self.api_servers.extend(api_server(rest)),
            "etcd-version" => self.etcd.extend(pair(rest)),
            _ => {}
        }
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(' ')?;
    Some((name.to_owned(), value.to_owned()))
}

fn add_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The line that only says that an answer begins is none.
fn deployment(line: &str) -> Option<Deployment> {
    let mut words = line.split(' ').map(str::to_owned);
    Some(Deployment {
        name: words.next().filter(|name| !name.is_empty())?,
        image: words.next()?,
        managed_by: words.next().unwrap_or_default(),
    })
}

fn api_server(line: &str) -> Option<ApiServer> {
    let mut words = line.split(' ').map(str::to_owned);
    Some(ApiServer {
        node: words.next().filter(|node| !node.is_empty())?,
        address: words.next()?,
        image: words.next().filter(|image| !image.is_empty())?,
    })
}

fn certificates(json: &str) -> Option<Vec<Certificate>> {
    let info: Value = serde_json::from_str(json).ok()?;
    let list = |field: &str, is_authority: bool| {
        let entries = info.get(field)?.as_array()?.iter();
        Some(
            entries
                .filter_map(|entry| certificate(entry, is_authority))
                .collect::<Vec<_>>(),
        )
    };
    let mut all = list("certificates", false)?;
    all.extend(list("certificateAuthorities", true)?);
    Some(all)
}

/// One that exists: an external etcd's, for example, is named as missing.
fn certificate(entry: &Value, is_authority: bool) -> Option<Certificate> {
    let is = |field: &str| entry.get(field).and_then(Value::as_bool).unwrap_or(false);
    if is("missing") {
        return None;
    }
    let text = |field: &str| Some(entry.get(field)?.as_str()?.to_owned());
    Some(Certificate {
        name: text("name")?,
        expires: text("expirationDate")?,
        seconds_left: entry.get("residualTime")?.as_i64()?,
        external: is("externallyManaged"),
        is_authority,
    })
}
