//! How much of the cluster an observation reads.
//!
//! Every list asks for the newest state, never for whatever a cache has
//! (`resourceVersion=0`): an older state may show the workloads as they were
//! before the drain, and so pass. What is asked for is small instead.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::core::Resource;
use migrate_core::steps::{Baseline, StepInput, VerifyScope};
use migrate_core::{ClusterId, ClusterModel, Moment};
use migrate_kube::resources::{DaemonSet, Deployment, Node, Pod, ReplicaSet, StatefulSet};
use migrate_kube::{Error, Lists, Retries, Selection, list_retried, server_version};
use serde::de::DeserializeOwned;

use crate::compare::workloads_of;
use crate::signals::SYSTEM;

/// Lists of one kind that are under way at the same time.
const AT_ONCE: usize = 8;

/// What there is to read.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Extent {
    /// Everything.
    whole: bool,
    /// The control plane, and what has to settle after it: every node, their
    /// Leases, and the pods of `kube-system`.
    control_plane: bool,
    /// These nodes and their pods.
    nodes: BTreeSet<String>,
    /// Controllers and pods of these namespaces.
    namespaces: BTreeSet<String>,
}

impl Extent {
    pub(crate) fn whole() -> Self {
        Self {
            whole: true,
            ..Self::default()
        }
    }

    /// What comparisons with `before` within `scopes` look at.
    pub(crate) fn of(input: &StepInput, before: &Baseline, scopes: &[VerifyScope]) -> Self {
        let mut extent = Self::default();
        for scope in scopes {
            match scope {
                VerifyScope::ControlPlane { .. } => extent.control_plane = true,
                VerifyScope::Node { node } => {
                    extent.control_plane |= input.hosts_control_plane(before, node);
                    extent.nodes.insert(node.clone());
                }
                VerifyScope::WorkloadsOf { node, displaced } => {
                    let ids = workloads_of(input, node, displaced).into_iter();
                    extent.namespaces.extend(ids.map(|id| id.namespace));
                }
                _ => return Self::whole(),
            }
        }
        if extent.control_plane {
            extent.namespaces.insert(SYSTEM.to_owned());
        }
        extent
    }

    /// Whether the control plane is looked at.
    pub(crate) fn has_control_plane(&self) -> bool {
        self.whole || self.control_plane
    }

    /// All nodes, or these.
    fn nodes(&self) -> Vec<Selection> {
        match self.has_control_plane() {
            true => vec![Selection::all()],
            false => self.named_nodes(),
        }
    }

    /// Objects named like all nodes, or like these.
    pub(crate) fn named_after_nodes(&self) -> Vec<Selection> {
        match self.whole {
            true => vec![Selection::all()],
            false => self.named_nodes(),
        }
    }

    fn named_nodes(&self) -> Vec<Selection> {
        self.one_answer_each("metadata.name")
    }

    fn one_answer_each(&self, field: &str) -> Vec<Selection> {
        let of = |node| Selection::all().fields(format!("{field}={node}")).unpaged();
        self.nodes.iter().map(of).collect()
    }

    /// What is in the namespaces.
    fn namespaced(&self) -> Vec<Selection> {
        match self.whole {
            true => vec![Selection::all()],
            false => {
                let within = |namespace| Selection::all().within(namespace);
                self.namespaces.iter().map(within).collect()
            }
        }
    }
}

/// The part of the cluster's model that `extent` says. All kinds are listed at
/// the same time, each tried again by itself; what health does not depend on, as volumes and budgets, is
/// left out.
pub(crate) async fn read(
    client: &Client,
    extent: &Extent,
    now: Moment,
    retries: &Retries,
) -> Result<ClusterModel, Error> {
    let everywhere = [Selection::all()];
    let namespaced = extent.namespaced();
    let pods = match extent.whole {
        true => Vec::new(),
        false => extent.one_answer_each("spec.nodeName"),
    };
    let pods = [pods, namespaced.clone()].concat();
    let mut lists = Lists::default();
    let version;
    (
        version,
        lists.nodes,
        lists.pods,
        lists.deployments,
        lists.replica_sets,
        lists.stateful_sets,
        lists.daemon_sets,
    ) = futures::try_join!(
        retries.run(|| server_version(client)),
        list_each::<Node>(client, extent.nodes(), retries),
        list_each::<Pod>(client, pods, retries),
        list_each::<Deployment>(client, namespaced.clone(), retries),
        list_each::<ReplicaSet>(client, namespaced.clone(), retries),
        list_each::<StatefulSet>(client, namespaced.clone(), retries),
        list_each::<DaemonSet>(client, everywhere.to_vec(), retries),
    )?;
    // A pod of one of the nodes may be in one of the namespaces.
    let key = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
    lists.pods.sort_by_cached_key(key);
    lists.pods.dedup_by(|a, b| {
        a.metadata.namespace == b.metadata.namespace && a.metadata.name == b.metadata.name
    });
    // Nobody reads whose model it is.
    lists.to_model(ClusterId::new(""), &version, now)
}

/// What is in any of `selections`.
pub(crate) async fn list_each<K>(
    client: &Client,
    selections: Vec<Selection>,
    retries: &Retries,
) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let lists: Vec<Vec<K>> = stream::iter(selections)
        .map(|selection| async move { list_retried(client, &selection, retries).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}
