//! What health needs and the cluster model leaves out: Leases, rollouts,
//! registered storage drivers, and since when the control plane is up.

mod resources;

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::ListParams;
use migrate_core::Moment;
use migrate_core::steps::{Baseline, BaselineLease, BaselineRollout};
use migrate_kube::resources::{CONTROL_PLANE_LABEL, Deployment};
use migrate_kube::{ApiCall, Error, READ_DEADLINE, Retries, Selection, within_deadline};
use serde::de::DeserializeOwned;

use crate::extent::{Extent, list_each};

use resources::{Conditioned, CsiNode, DaemonSet, Items, Lease, deployment};

/// Where the cluster's own agents live.
pub(crate) const SYSTEM: &str = "kube-system";
/// Where kubelets renew their Leases.
const NODE_LEASES: &str = "kube-node-lease";
/// Leases by which control-plane components elect their leader.
const LEADERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

const API_SERVERS: &str = "component=kube-apiserver";
const DNS: &str = "k8s-app=kube-dns";

/// What was read beside the cluster model.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    control_plane_since: Option<Moment>,
    leaders: BTreeMap<String, BaselineLease>,
    node_leases: BTreeMap<String, BaselineLease>,
    rollouts: Vec<BaselineRollout>,
    csi_drivers: BTreeMap<String, BTreeSet<String>>,
}

impl Signals {
    /// Reads what `extent` says, all kinds at the same time. Leases and
    /// CSINodes, as many as nodes, come in pages; the other lists are short by
    /// their nature.
    ///
    /// Leases and CSINodes that the API does not have, or that may not be read,
    /// are left out: what is absent from a baseline is never asked for.
    pub(crate) async fn read(
        client: &Client,
        extent: &Extent,
        retries: &Retries,
    ) -> Result<Self, Error> {
        let csi_nodes = extent.named_after_nodes();
        let csi_nodes = optional(list_each::<CsiNode>(client, csi_nodes, retries));
        if !extent.has_control_plane() {
            let mut signals = Self::default();
            signals.see_drivers(csi_nodes.await?);
            return Ok(signals);
        }
        let leases = [SYSTEM, NODE_LEASES].map(|namespace| Selection::all().within(namespace));
        let short = Short { client, retries };
        let (leases, csi_nodes, api_servers, nodes, daemon_sets, deployments) = futures::try_join!(
            optional(list_each::<Lease>(client, leases.to_vec(), retries)),
            csi_nodes,
            short.list::<Conditioned>(("", "Pod", "pods"), Some(SYSTEM), API_SERVERS),
            short.list::<Conditioned>(("", "Node", "nodes"), None, CONTROL_PLANE_LABEL),
            short.list::<DaemonSet>(("apps", "DaemonSet", "daemonsets"), Some(SYSTEM), ""),
            short.list::<Deployment>(("apps", "Deployment", "deployments"), Some(SYSTEM), DNS),
        )?;
        let mut signals = Self::default();
        for lease in &leases {
            signals.see_lease(lease);
        }
        signals.see_drivers(csi_nodes);
        // Where it does not run in pods its nodes say nothing about it.
        let nodes = nodes.iter().filter(|_| !api_servers.is_empty());
        signals.control_plane_since = api_servers
            .iter()
            .chain(nodes)
            .filter_map(Conditioned::ready_since)
            .max()
            .map(Moment::from);
        signals.rollouts = daemon_sets.iter().map(DaemonSet::to_baseline).collect();
        signals.rollouts.extend(deployments.iter().map(deployment));
        Ok(signals)
    }

    fn see_drivers(&mut self, csi_nodes: Vec<CsiNode>) {
        for node in csi_nodes {
            let drivers = node.spec.drivers.unwrap_or_default();
            let drivers = drivers.into_iter().map(|driver| driver.name).collect();
            let name = node.metadata.name.unwrap_or_default();
            self.csi_drivers.insert(name, drivers);
        }
    }

    fn see_lease(&mut self, lease: &Lease) {
        let metadata = &lease.metadata;
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return;
        };
        let leases = match namespace.as_str() {
            NODE_LEASES => &mut self.node_leases,
            SYSTEM if LEADERS.contains(&name.as_str()) => &mut self.leaders,
            _ => return,
        };
        if let Some(lease) = lease.to_baseline() {
            leases.insert(name.clone(), lease);
        }
    }

    /// Writes them into `baseline`.
    pub(crate) fn record(mut self, baseline: &mut Baseline) {
        baseline.control_plane_since = self.control_plane_since;
        baseline.leaders = self.leaders;
        baseline.rollouts = self.rollouts;
        for (name, node) in &mut baseline.nodes {
            node.lease = self.node_leases.remove(name);
            node.csi_drivers = self.csi_drivers.remove(name).unwrap_or_default();
        }
    }
}

/// Whether `/readyz` answers ok, and what time it is there.
///
/// Its status code is the contract, its text is for people. The time is the
/// `Date` of the answer: Leases are judged by clocks of the cluster, never by
/// the one of this machine.
pub(crate) async fn knock(client: &Client) -> Result<(bool, Option<Moment>), Error> {
    let call = ApiCall::path("/readyz");
    let request = http::Request::get("/readyz")
        .body(kube::client::Body::empty())
        .map_err(|error| call.clone().failed(kube::Error::HttpError(error)))?;
    let answer = within_deadline(call.clone(), READ_DEADLINE, client.send(request)).await?;
    let status = answer.status();
    let time = answer
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(moment);
    if status.is_success() || status.is_server_error() {
        return Ok((status.is_success(), time));
    }
    let reason = status.canonical_reason().unwrap_or_default();
    let words = kube::core::Status::failure(reason, reason).with_code(status.as_u16());
    Err(call.failed(kube::Error::Api(Box::new(words))))
}

/// The moment of an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn moment(date: &str) -> Option<Moment> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(date).ok().map(Moment::from)
}

/// Nothing where the API lacks the kind or does not let us read it.
async fn optional<T>(read: impl Future<Output = Result<Vec<T>, Error>>) -> Result<Vec<T>, Error> {
    match read.await {
        Err(error @ (Error::Forbidden { .. } | Error::NotFound { .. })) => {
            tracing::debug!(%error, "left out of the observation");
            Ok(Vec::new())
        }
        answer => answer,
    }
}

/// Reads lists that are short whatever the size of the cluster, in one answer.
#[derive(Clone, Copy)]
struct Short<'a> {
    client: &'a Client,
    retries: &'a Retries,
}

impl Short<'_> {
    /// `kind` is group, kind and resource.
    async fn list<T: DeserializeOwned>(
        self,
        (group, kind, resource): (&'static str, &'static str, &'static str),
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<T>, Error> {
        let mut call = ApiCall::dynamic("list", group, kind, resource);
        let mut path = match group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        if let Some(namespace) = namespace {
            call = call.within(namespace);
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{resource}");
        let params = ListParams {
            label_selector: (!labels.is_empty()).then(|| labels.to_owned()),
            ..ListParams::default()
        };
        let items = self
            .retries
            .run(|| migrate_kube::read::<Items<T>>(self.client, &call, &path, &params));
        Ok(items.await?.items.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        let at = moment("Sun, 22 Nov 2026 22:26:14 GMT").unwrap();
        assert_eq!(at.to_string(), "2026-11-22T22:26:14.000Z");
        assert_eq!(moment("soon"), None);
    }
}
