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
            let pair = || {
                let (name, value) = rest.split_once(' ')?;
                Some((name.to_owned(), value.to_owned()))
            };
            match word {
                "cgroup" => read.cgroup = rest.to_owned(),
                "fail-cgroup-v1" => read.accepts_cgroup_v1 = rest == "false",
                "manifest" => read.manifests.extend(pair()),
                "server" => read.servers.extend(pair()),
                "address" => read
                    .addresses
                    .extend(rest.split_whitespace().map(str::to_owned)),
                "etcd-kib" => read.etcd_kib = rest.parse().ok(),
                "free-kib" => read.free_kib = rest.parse().ok(),
                "certificates" => read.certificates = certificates(rest),
                _ => {}
            }
        }
        read
    }
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
