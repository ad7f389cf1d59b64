//! The cluster as a model, from lists.

use kube::Client;
use migrate_core::model::ControlPlaneMember;
use migrate_core::{ClusterId, ClusterModel, KubeVersion, Moment, Workload};

use crate::client::{cluster_id, list_retried, server_version};
use crate::resources::{
    DaemonSet, Deployment, Job, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    PodDisruptionBudget, ReplicaSet, Resolver, StatefulSet,
};
use crate::{Error, Retries, Selection};

/// Label of the API servers' pods, and its value.
const COMPONENT: (&str, &str) = ("component", "kube-apiserver");
/// The member of a control plane whose API servers are not visible as pods.
const UNSEEN_MEMBER: &str = "control-plane";

/// The cluster behind `client` at `now`.
///
/// All kinds are listed at the same time, each in pages.
///
/// Left out are nodes whose kubelet has never reported: they have no version and
/// run nothing.
///
/// Control-plane members are the static pods labelled `component=kube-apiserver`
/// with the version in their image's tag, or, if the tag does not say, the
/// version that the API reports; where no such pod shows, the one member
/// `control-plane` has that version.
///
/// # Caveats
/// The lists are not of one moment. What changes in between shows in some of
/// them only, as it does between two watches.
///
/// # Errors
/// [`Error::Forbidden`] naming the rule that is missing; [`Error::Decode`] naming
/// the object that cannot be read; any other of [`Error`].
pub async fn observe(client: &Client, now: Moment) -> Result<ClusterModel, Error> {
    observe_retried(client, now, &Retries::none()).await
}

/// As [`observe`], each of whose requests is tried again by itself.
///
/// # Errors
/// As [`observe`].
pub async fn observe_retried(
    client: &Client,
    now: Moment,
    retries: &Retries,
) -> Result<ClusterModel, Error> {
    let all = Selection::all();
    let mut lists = Lists::default();
    let (cluster, version);
    (
        cluster,
        version,
        lists.nodes,
        lists.pods,
        lists.budgets,
        lists.deployments,
        lists.replica_sets,
        lists.stateful_sets,
        lists.daemon_sets,
        lists.jobs,
        lists.claims,
        lists.volumes,
    ) = futures::try_join!(
        retries.run(|| cluster_id(client)),
        retries.run(|| server_version(client)),
        list_retried::<Node>(client, &all, retries),
        list_retried::<Pod>(client, &all, retries),
        list_retried::<PodDisruptionBudget>(client, &all, retries),
        list_retried::<Deployment>(client, &all, retries),
        list_retried::<ReplicaSet>(client, &all, retries),
        list_retried::<StatefulSet>(client, &all, retries),
        list_retried::<DaemonSet>(client, &all, retries),
        list_retried::<Job>(client, &all, retries),
        list_retried::<PersistentVolumeClaim>(client, &all, retries),
        list_retried::<PersistentVolume>(client, &all, retries),
    )?;
    lists.to_model(cluster, &version, now)
}

/// What a model is made of; for who reads less than [`observe`] does, what was
/// not read stays empty.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is what its type says")]
pub struct Lists {
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub budgets: Vec<PodDisruptionBudget>,
    pub deployments: Vec<Deployment>,
    pub replica_sets: Vec<ReplicaSet>,
    pub stateful_sets: Vec<StatefulSet>,
    pub daemon_sets: Vec<DaemonSet>,
    pub jobs: Vec<Job>,
    pub claims: Vec<PersistentVolumeClaim>,
    pub volumes: Vec<PersistentVolume>,
}

impl Lists {
    /// The model of `cluster`, whose API reports `version`, at `now`; see
    /// [`observe`].
    ///
    /// # Errors
    /// [`Error::Decode`] naming the object that cannot be read.
    pub fn to_model(
        &self,
        cluster: ClusterId,
        version: &KubeVersion,
        now: Moment,
    ) -> Result<ClusterModel, Error> {
        let mut resolver = Resolver::new();
        for replica_set in &self.replica_sets {
            resolver.see_replica_set(replica_set);
        }
        for claim in &self.claims {
            resolver.see_claim(claim);
        }
        for volume in &self.volumes {
            resolver.see_volume(volume);
        }

        let mut model = ClusterModel::new(cluster, now);
        model.control_plane = control_plane(&self.pods, version);
        for node in &self.nodes {
            if node.has_reported() {
                model.nodes.push(node.to_model()?);
            } else {
                tracing::warn!(
                    node = node.metadata.name,
                    "left out: its kubelet has never reported"
                );
            }
        }
        model.pods = self
            .pods
            .iter()
            .map(|pod| pod.to_model(&resolver))
            .collect();
        model.budgets = self
            .budgets
            .iter()
            .map(PodDisruptionBudget::to_model)
            .collect();
        model
            .workloads
            .extend(self.deployments.iter().map(Deployment::to_model));
        model
            .workloads
            .extend(self.stateful_sets.iter().map(StatefulSet::to_model));
        model
            .workloads
            .extend(self.daemon_sets.iter().map(DaemonSet::to_model));
        model.workloads.extend(self.jobs.iter().map(Job::to_model));
        let alone = self
            .replica_sets
            .iter()
            .filter(|replica_set| replica_set.deployment().is_none());
        model.workloads.extend(alone.map(ReplicaSet::to_model));
        model.workloads.extend(Workload::count(&model.pods));
        model.sort();
        Ok(model)
    }
}

/// The control-plane members among `pods`; `version` is what the API reports.
pub fn control_plane(pods: &[Pod], version: &KubeVersion) -> Vec<ControlPlaneMember> {
    let mut members: Vec<ControlPlaneMember> =
        pods.iter().filter_map(|pod| member(pod, version)).collect();
    if members.is_empty() {
        members.push(ControlPlaneMember::new(UNSEEN_MEMBER, version.clone()));
    }
    members
}

fn member(pod: &Pod, version: &KubeVersion) -> Option<ControlPlaneMember> {
    let (key, value) = COMPONENT;
    let labels = pod.metadata.labels.as_ref()?;
    if labels.get(key).map(String::as_str) != Some(value) || !pod.is_mirror() {
        return None;
    }
    let node = pod.spec.node_name.clone()?;
    let image = pod
        .spec
        .containers
        .iter()
        .find(|container| container.name == value);
    let tag = image.and_then(|container| version_of(&container.image));
    let mut member = ControlPlaneMember::new(node, tag.unwrap_or_else(|| version.clone()));
    member.ready = pod.is_ready();
    Some(member)
}

/// The version in an image's tag. Tags cannot hold `+`; builders write `_`.
fn version_of(image: &str) -> Option<KubeVersion> {
    let image = image.split_once('@').map_or(image, |(name, _digest)| name);
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    let (_, tag) = last.split_once(':')?;
    tag.replace('_', "+").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn api_server(node: &str, image: &str, ready: &str, mirror: bool) -> Pod {
        let mut pod = json!({
            "metadata": { "name": format!("kube-apiserver-{node}"), "namespace": "kube-system",
                          "labels": { "component": "kube-apiserver" }, "annotations": {} },
            "spec": { "nodeName": node,
                      "containers": [{ "name": "kube-apiserver", "image": image }] },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        });
        if mirror {
            pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("hash");
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn members_and_their_versions() {
        let reported: KubeVersion = "v1.36.3".parse().unwrap();
        let pods = [
            api_server("a", "registry.k8s.io/kube-apiserver:v1.37.2", "True", true),
            api_server(
                "b",
                "localhost:5000/kube-apiserver:v1.36.3_vendor.1",
                "False",
                true,
            ),
            api_server(
                "c",
                "registry.k8s.io/kube-apiserver@sha256:abcd",
                "True",
                true,
            ),
            api_server("d", "registry.k8s.io/kube-apiserver:v1.0.0", "True", false),
        ];
        let members = control_plane(&pods, &reported);
        let shown: Vec<String> = members
            .iter()
            .map(|member| format!("{} {} {}", member.name, member.version, member.ready))
            .collect();
        assert_eq!(
            shown,
            [
                "a v1.37.2 true",
                "b v1.36.3+vendor.1 false",
                "c v1.36.3 true"
            ]
        );

        let unseen = control_plane(&pods[3..], &reported);
        assert_eq!(unseen, [ControlPlaneMember::new("control-plane", reported)]);
    }
}
