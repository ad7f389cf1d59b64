//! Where components of a control plane and the kubelets there find their API server.

mod kubelet;
pub(super) mod worker;

use std::collections::BTreeSet;

use migrate_core::skew::{self, Component, ComponentInstance, Reachable};
use migrate_core::version::MinorVersion;
use migrate_core::{Finding, KubeVersion, Severity};
use serde_json::Value;

use super::super::read::{ApiServer, Cluster, Survey};
use super::{Asked, on_node, tag};

const ELSEWHERE: &str = "KM-KUBEADM-010";
const UNKNOWN: &str = "KM-KUBEADM-028";

const CURE: &str = "let it go to the API server of its own node";

const ENDPOINT: &str = "the control plane's endpoint";
const UNREAD: &str = "no address of the node";

/// Where an address of a kubeconfig leads.
enum Place<'a> {
    /// To an API server that is known, with its node's name.
    Member(&'a ApiServer),
    /// To all of them.
    Endpoint,
    /// To none of all those there are.
    Nowhere,
    /// Not here; what is there could not be read.
    Elsewhere,
}

/// Those that do not go to their own node's API server. Controller manager and
/// scheduler are judged by what the skew policy says of them at the target beside
/// the API servers that they can reach as these are now: the others come later. The
/// kubelet comes after all of them.
pub(super) fn judge(node: &str, survey: &Survey, asked: Asked<'_>) -> Vec<Finding> {
    let cluster = &survey.cluster;
    let config = cluster.kubeadm_config.as_deref();
    let config: Option<Value> = config.and_then(|text| serde_saphyr::from_str(text).ok());
    let config = config.as_ref();
    let elsewhere = survey.servers.iter().filter(|(_, server)| {
        let host = host(server);
        !is_own(host, &survey.addresses)
    });
    let judged = elsewhere.map(|(file, server)| {
        let place = place(server, cluster, config);
        if let Place::Nowhere = place {
            return nowhere(node, file, server);
        }
        if file == kubelet::FILE {
            return kubelet::judge(node, server, &place, config, asked);
        }
        let (place, reaches) = match place {
            Place::Member(other) => {
                let reaches = minor(other).map(Reachable::Local);
                (api_server_of(other), reaches)
            }
            Place::Endpoint => {
                let reaches = through(node, cluster, asked.target);
                (ENDPOINT.to_owned(), reaches)
            }
            Place::Nowhere | Place::Elsewhere => (UNREAD.to_owned(), None),
        };
        let said = reaches.and_then(|reaches| forbidden(node, file, asked.target, reaches));
        let (severity, why) = match said {
            Some(why) => (Severity::Blocker, why),
            None => (
                Severity::Warning,
                "it may wait for another one while that is changed".to_owned(),
            ),
        };
        let evidence = format!("{file}.conf goes to {server}, {place}: {why}");
        on_node(node, ELSEWHERE, severity, evidence, CURE)
    });
    judged.collect()
}

fn place<'a>(server: &str, cluster: &'a Cluster, config: Option<&Value>) -> Place<'a> {
    let address = host(server);
    let mut servers = cluster.api_servers.iter();
    if let Some(other) = servers.find(|other| other.address == address) {
        return Place::Member(other);
    }
    let endpoint = config.map(|config| {
        let endpoint = config["controlPlaneEndpoint"].as_str();
        host(endpoint.unwrap_or_default())
    });
    match endpoint {
        Some(endpoint) if endpoint == address => Place::Endpoint,
        // Known are all the addresses there are, and it is none of them.
        Some(_) if !cluster.api_servers.is_empty() => Place::Nowhere,
        _ => Place::Elsewhere,
    }
}

fn nowhere(node: &str, file: &str, server: &str) -> Finding {
    let evidence = format!(
        "{file}.conf goes to {server}, which is neither an API server's address nor the control \
         plane's endpoint: which one answers there is not known"
    );
    on_node(node, UNKNOWN, Severity::Warning, evidence, CURE)
}

fn api_server_of(other: &ApiServer) -> String {
    format!("the API server of {}", other.node)
}

/// Every API server as it is when the components of `node` are changed, right after
/// its own one; `None` where one does not tell its version, or none is known.
fn through(node: &str, cluster: &Cluster, target: &KubeVersion) -> Option<Reachable> {
    let servers = cluster.api_servers.iter();
    let minors: Option<BTreeSet<MinorVersion>> = servers
        .map(|server| match server.node == node {
            true => Some(target.minor_version()),
            false => minor(server),
        })
        .collect();
    minors
        .filter(|minors| !minors.is_empty())
        .map(Reachable::LoadBalanced)
}

fn minor(server: &ApiServer) -> Option<MinorVersion> {
    let version: KubeVersion = tag(&server.image).parse().ok()?;
    Some(version.minor_version())
}

/// What the policy says against the component of `file` at the target.
fn forbidden(node: &str, file: &str, target: &KubeVersion, reaches: Reachable) -> Option<String> {
    let component = match file {
        "controller-manager" => Component::ControllerManager,
        "scheduler" => Component::Scheduler,
        _ => return None,
    };
    let instance = ComponentInstance::new(component, node, target.clone(), reaches);
    let violation = skew::check(&instance).into_iter().next()?;
    let peers = violation.peers.map(|peers| peers.oldest.to_string());
    Some(format!(
        "at {target} it would meet one of {} ({})",
        peers.unwrap_or_else(|| "an unknown version".to_owned()),
        violation.rule
    ))
}

/// The host of `https://HOST:PORT` or `HOST:PORT`, without the brackets of IPv6.
fn host(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    match rest.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => rest.split(':').next().unwrap_or_default(),
    }
}

fn is_own(host: &str, addresses: &[String]) -> bool {
    matches!(host, "127.0.0.1" | "::1" | "localhost") || addresses.iter().any(|own| own == host)
}
