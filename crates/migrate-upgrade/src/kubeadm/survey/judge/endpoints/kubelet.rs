//! The kubelet of a control-plane node that does not go to the API server there.

use migrate_core::version::MinorVersion;
use migrate_core::{Finding, Severity};
use serde_json::Value;

use super::super::{Asked, on_node};
use super::{CURE, ELSEWHERE, ENDPOINT, Place, UNREAD, api_server_of, host};

const BALANCED: &str = "KM-KUBEADM-036";

/// The name of its kubeconfig, without `.conf`.
pub(super) const FILE: &str = "kubelet";

/// kubeadm's gate, and the minor since which it is on unless it is set to false.
const LOCAL_MODE: (&str, MinorVersion) = ("ControlPlaneKubeletLocalMode", MinorVersion::new(1, 33));
/// Since then nobody asks for the gate.
const LOCAL_MODE_ALWAYS: MinorVersion = MinorVersion::new(1, 35);
/// The phase of `kubeadm upgrade` that does it.
const PHASE: &str = "kubeconfig";

/// A kubelet must not be newer than any API server that it may reach. Its turn comes
/// after every member's, so that the policy forbids nothing here: what is said is
/// what that rests on, and what becomes of the kubelet before.
pub(super) fn judge(
    node: &str,
    server: &str,
    place: &Place<'_>,
    config: Option<&Value>,
    asked: Asked<'_>,
) -> Finding {
    let target = asked.target;
    let goes = format!("{FILE}.conf goes to {server}");
    let leads = match place {
        Place::Endpoint => ENDPOINT.to_owned(),
        Place::Member(other) => api_server_of(other),
        Place::Nowhere | Place::Elsewhere => UNREAD.to_owned(),
    };
    if is_moved(server, config, asked) {
        let evidence = format!(
            "{goes}, {leads}: `kubeadm upgrade` of {target} lets it go to the API server of its own \
             node, and restarts it for that in the step of the control plane, while the node is \
             not drained yet; its pods stay"
        );
        let cure = "nothing; or let it go there and restart it before";
        return on_node(node, BALANCED, Severity::Info, evidence, cure);
    }
    if let Place::Endpoint = place {
        let evidence = format!(
            "{goes}, {leads}: it must not be newer than any API server behind it, and is changed \
             after all those of the cluster, but not after others"
        );
        let cure =
            "see that no other API server is behind it; or let it go to that of its own node";
        return on_node(node, BALANCED, Severity::Info, evidence, cure);
    }
    let evidence = format!(
        "{goes}, {leads}: the node is not seen to be well while that one is changed, and the kubelet \
         must not be newer than it is"
    );
    on_node(node, ELSEWHERE, Severity::Warning, evidence, CURE)
}

/// Whether the target's kubeadm writes the address anew: if it is the very endpoint
/// (`UpdateKubeletKubeconfigServer` in its phases/upgrade/postupgrade.go).
fn is_moved(server: &str, config: Option<&Value>, asked: Asked<'_>) -> bool {
    let (gate, since) = LOCAL_MODE;
    let Some(config) = config else {
        return false;
    };
    let endpoint = config["controlPlaneEndpoint"].as_str().unwrap_or_default();
    let is_off = asked.minor() < LOCAL_MODE_ALWAYS && config["featureGates"][gate] == false;
    asked.minor() >= since
        && !is_off
        && !asked.skips(PHASE, "")
        && is_the_endpoint(server, endpoint)
}

/// kubeadm compares with `https://ENDPOINT`; without a port, with that of the API
/// server of the node, which is 6443 unless it was given another one. An address
/// that differs in its port alone stays.
fn is_the_endpoint(server: &str, endpoint: &str) -> bool {
    let has_port = endpoint
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']') && port.parse::<u16>().is_ok());
    let same = server.strip_prefix("https://");
    match has_port {
        true => same == Some(endpoint),
        false => same.is_some() && host(server) == host(endpoint),
    }
}
