//! The kubelet of a worker that does not go through the control plane's endpoint.

use migrate_core::{Finding, Severity};
use serde_json::Value;

use super::super::on_node;
use super::kubelet::FILE;
use super::{Place, UNKNOWN, api_server_of, host, place};
use crate::kubeadm::survey::read::{Cluster, Survey};

const ONE: &str = "KM-KUBEADM-040";

/// kubeadm joins a worker with the control plane's endpoint as its server. One that
/// goes to a single member of several has no API server while that one is changed:
/// longer than the grace of the node controller, and it counts as not ready.
/// `cluster` is what a control-plane node tells; nothing is said without it.
pub(in super::super::super) fn judge(
    node: &str,
    survey: &Survey,
    cluster: &Cluster,
) -> Option<Finding> {
    if !survey.manifests.is_empty() {
        return None;
    }
    let server = survey.servers.get(FILE)?;
    let config: Value = serde_saphyr::from_str(cluster.kubeadm_config.as_deref()?).ok()?;
    let endpoint = config["controlPlaneEndpoint"].as_str().unwrap_or_default();
    let goes = format!("{FILE}.conf goes to {server}");
    let shown = match endpoint {
        "" => "an endpoint of the whole control plane".to_owned(),
        endpoint => format!("the control plane's endpoint, {endpoint}"),
    };
    let cure = format!("let it go to {shown}, and restart the kubelet");
    match place(server, cluster, Some(&config)) {
        Place::Member(member) if cluster.api_servers.len() > 1 => {
            let is_endpoint = host(endpoint) == host(server);
            let (also, cure) = match is_endpoint {
                true => (
                    ", as the control plane's endpoint does",
                    "nothing, if a load balancer answers there; else put one before the API \
                     servers and let the endpoint be its address"
                        .to_owned(),
                ),
                false => ("", cure),
            };
            let evidence = format!(
                "{goes}, {}, one of {}{also}: while that one is changed the kubelet has no API server, \
                 and its node may count as not ready",
                api_server_of(member),
                cluster.api_servers.len()
            );
            Some(on_node(node, ONE, Severity::Warning, evidence, cure))
        }
        Place::Nowhere => {
            let evidence = format!(
                "{goes}, which is neither an API server's address nor the control plane's \
                 endpoint: whether one answers while another is changed is not known"
            );
            Some(on_node(node, UNKNOWN, Severity::Warning, evidence, cure))
        }
        Place::Member(_) | Place::Endpoint | Place::Elsewhere => None,
    }
}
