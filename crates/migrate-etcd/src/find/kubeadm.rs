//! The members of a cluster that kubeadm has made, by its static pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use migrate_core::{ObjectName, StepError, StepErrorKind};

use super::found::{Answer, found};
use super::{ANSWER, FindMembers, FoundMembers, Way};
use crate::set::named::{MANIFESTS, flags, tidy};
use crate::{Error, Member, NodeFiles, Tls};

/// As [`ANSWER`], over a way through a node.
const ANSWER_THROUGH: Duration = Duration::from_secs(20);
/// Manifests, certificates and keys are some KiB.
const LARGEST: u64 = 1 << 20;

type Open =
    dyn Fn(String, String) -> BoxFuture<'static, Result<Way, StepError>> + Send + Sync + 'static;

/// Finds members by what is on the control-plane nodes: the URL that the static pod
/// `etcd` of each names for its clients, or the servers that `kube-apiserver` is told
/// (an etcd elsewhere); and the CA, and the client certificate if there is one, of that
/// `kube-apiserver`, whose key is held in memory and written nowhere.
///
/// Each member is asked by its own URL, and where this machine does not reach it, through
/// its node, by the way that [`through`](Self::through) gives. Its certificate has to
/// be signed by the CA of the node and be for the host of its URL either way.
#[derive(Clone)]
pub struct KubeadmMembers {
    nodes: Vec<Arc<dyn NodeFiles>>,
    open: Option<Arc<Open>>,
    is_forced: bool,
}

/// A member before anybody has asked it.
struct Candidate {
    node: String,
    member: Member,
}

/// How etcd is reached, as the API server of a node is told.
struct Client {
    servers: Vec<String>,
    tls: Option<Tls>,
}

impl KubeadmMembers {
    /// By these control-plane nodes.
    pub fn new(nodes: Vec<Arc<dyn NodeFiles>>) -> Self {
        Self {
            nodes,
            open: None,
            is_forced: false,
        }
    }

    /// Where none of the members knows a leader, takes the one that has got furthest
    /// ([`SnapshotBackup::forced`](crate::SnapshotBackup::forced)). As long as there is
    /// quorum it changes nothing.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.is_forced = true;
        self
    }

    /// Opens ways by `open`, which is given the name of a node and `HOST:PORT` as that
    /// node reaches it, such as a tunnel of `Ssh` of `migrate-upgrade`.
    #[must_use]
    pub fn through<F>(mut self, open: F) -> Self
    where
        F: Fn(String, String) -> BoxFuture<'static, Result<Way, StepError>> + Send + Sync + 'static,
    {
        self.open = Some(Arc::new(open));
        self
    }

    /// The members that the nodes name, each once, in the order of the nodes.
    async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let mut found: Vec<Candidate> = Vec::new();
        for node in &self.nodes {
            let client = client(&**node).await?;
            let here = read(&**node, &format!("{MANIFESTS}etcd.yaml")).await?;
            let urls = match here {
                Some(manifest) => {
                    let urls = value(&manifest, "advertise-client-urls").unwrap_or_default();
                    // One URL is one member: further ones are of the same.
                    urls.split(',').take(1).map(str::to_owned).collect()
                }
                None => client.servers,
            };
            for url in urls {
                let mut member = Member::new(url);
                let is_known = found.iter().any(|known| {
                    let is_same = known.member.endpoint == member.endpoint;
                    is_same && (known.node == node.node() || !self.is_of_its_node(&member))
                });
                if is_known || member.endpoint.is_empty() {
                    continue;
                }
                member.tls = client.tls.clone().filter(|_| member.is_https());
                found.push(Candidate {
                    node: node.node().to_owned(),
                    member,
                });
            }
        }
        Ok(found)
    }

    /// Whether the URL means another member on each node, so that it is asked through
    /// its node at once: here it might lead to an etcd of this machine.
    fn is_of_its_node(&self, member: &Member) -> bool {
        self.open.is_some() && member.is_loopback()
    }

    /// How a member is, and the way by which it could be asked.
    async fn ask(&self, candidate: &Candidate) -> Answer {
        let Candidate { node, member } = candidate;
        let directly = match self.is_of_its_node(member) {
            true => format!("{} is an address of {node}", member.endpoint),
            false => match member.standing(ANSWER).await {
                Ok(standing) => return Ok((member.clone(), standing, None)),
                Err(error @ (Error::Unreachable { .. } | Error::Stalled { .. })) => {
                    error.to_string()
                }
                Err(error) => return Err(error.to_string()),
            },
        };
        let Some(open) = &self.open else {
            return Err(directly);
        };
        let failed = |error: String| format!("{directly}; through {node}: {error}");
        let way = open(node.clone(), member.address()).await;
        let way = way.map_err(|error| failed(error.to_string()))?;
        let member = member.clone().via(way.address);
        match member.standing(ANSWER_THROUGH).await {
            Ok(standing) => Ok((member, standing, Some(way))),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

#[async_trait]
impl FindMembers for KubeadmMembers {
    async fn find(&self) -> Result<FoundMembers, Error> {
        let candidates = self.candidates().await?;
        let asked = join_all(candidates.iter().map(|candidate| self.ask(candidate))).await;
        let members = candidates.into_iter().map(|candidate| candidate.member);
        found(members.zip(asked), self.is_forced).map_err(|reasons| {
            let nodes: Vec<&str> = self.nodes.iter().map(|node| node.node()).collect();
            Error::NoMember {
                nodes: nodes.join(", "),
                reasons,
            }
        })
    }
}

/// What the API server of `node` is told of etcd.
async fn client(node: &dyn NodeFiles) -> Result<Client, Error> {
    let path = format!("{MANIFESTS}kube-apiserver.yaml");
    let manifest = read(node, &path).await?;
    let manifest = manifest.ok_or_else(|| lacks(node, &path))?;
    let told: BTreeMap<&str, &str> = flags(&manifest).collect();
    let servers = told.get("etcd-servers").unwrap_or(&"").split(',');
    let files = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"].map(|flag| told.get(flag));
    let tls = match files {
        [Some(ca), certificate, key] => {
            let tls = Tls::new(named(node, ca).await?);
            Some(match (certificate, key) {
                (Some(certificate), Some(key)) => {
                    tls.with_identity(named(node, certificate).await?, named(node, key).await?)
                }
                // An etcd that asks nobody for a certificate.
                _ => tls,
            })
        }
        [None, ..] => None,
    };
    Ok(Client {
        servers: servers.map(str::to_owned).collect(),
        tls,
    })
}

/// The file that a flag names.
async fn named(node: &dyn NodeFiles, path: &str) -> Result<String, Error> {
    let path = tidy(path).ok_or_else(|| lacks(node, path))?;
    let file = read(node, &path).await?;
    file.ok_or_else(|| lacks(node, &path))
}

async fn read(node: &dyn NodeFiles, path: &str) -> Result<Option<String>, Error> {
    let bytes = node
        .read(path, LARGEST)
        .await
        .map_err(|source| Error::Node {
            node: node.node().to_owned(),
            source: Box::new(source),
        })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn lacks(node: &dyn NodeFiles, path: &str) -> Error {
    let object = ObjectName::cluster("Node", node.node());
    let message = format!(
        "has no {path}, by which etcd is found; see that it is a control-plane node that kubeadm \
         has made, or name the members"
    );
    Error::Node {
        node: node.node().to_owned(),
        source: Box::new(StepError::new(StepErrorKind::Permanent, object, message)),
    }
}

/// The value of a flag.
fn value(manifest: &str, name: &str) -> Option<String> {
    let mut flags = flags(manifest);
    flags.find_map(|(flag, value)| (flag == name).then(|| value.to_owned()))
}
