//! Pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use migrate_core::model::{self, DO_NOT_DISRUPT, PodId, PodPhase, Resources};
use serde::{Deserialize, Serialize};

use super::node::resources;
use super::placement::placement;
use super::{
    Affinity, Condition, Quantity, Resolver, Toleration, TopologySpreadConstraint, controller_of,
    deletion_of, is_true, meta, resource,
};

/// Marks the API object of a static pod.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// The grace period of a pod that names none, in seconds.
const DEFAULT_GRACE: u64 = 30;

/// `v1 Pod`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Pod {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: PodSpec,
    /// Status.
    pub status: PodStatus,
}

/// What is read of a Pod's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// Containers.
    #[serde(deserialize_with = "meta::nullable")]
    pub containers: Vec<Container>,
    /// Init containers, sidecars among them.
    #[serde(deserialize_with = "meta::nullable")]
    pub init_containers: Vec<Container>,
    /// What the runtime itself takes.
    #[serde(deserialize_with = "meta::nullable")]
    pub overhead: BTreeMap<String, Quantity>,
    /// Requests of the pod as a whole.
    pub resources: Option<ContainerResources>,
    /// Volumes.
    #[serde(deserialize_with = "meta::nullable")]
    pub volumes: Vec<Volume>,
    /// Node selector.
    #[serde(deserialize_with = "meta::nullable")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinities.
    pub affinity: Option<Affinity>,
    /// Tolerations.
    #[serde(deserialize_with = "meta::nullable")]
    pub tolerations: Vec<Toleration>,
    /// Spread constraints.
    #[serde(deserialize_with = "meta::nullable")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// What its kubelet does with containers that end; absent means `Always`.
    pub restart_policy: Option<String>,
    /// Grace period.
    pub termination_grace_period_seconds: Option<i64>,
    /// Priority.
    pub priority: Option<i32>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
    /// Requests.
    pub resources: ContainerResources,
}

/// What a container asks for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerResources {
    /// By resource name.
    #[serde(deserialize_with = "meta::nullable")]
    pub requests: BTreeMap<String, Quantity>,
}

/// A volume of a pod, as far as it ties the pod to a place or loses data.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Data that ends with the pod.
    pub empty_dir: Option<serde_json::Value>,
    /// A claim made for this pod, named `pod-volume`.
    pub ephemeral: Option<serde_json::Value>,
    /// A claim.
    pub persistent_volume_claim: Option<ClaimSource>,
}

/// Names a claim.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// The claim's name.
    pub claim_name: String,
}

/// What is read of a Pod's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
    /// Conditions.
    #[serde(deserialize_with = "meta::nullable")]
    pub conditions: Vec<Condition>,
}

resource!(Pod, "", "v1", "pods", NamespaceResourceScope);

impl Pod {
    /// Namespace, name and uid.
    pub fn id(&self) -> PodId {
        PodId::new(
            meta::namespace_of(&self.metadata),
            meta::name_of(&self.metadata),
            meta::uid_of(&self.metadata),
        )
    }

    /// Whether its Ready condition is True.
    pub fn is_ready(&self) -> bool {
        is_true(&self.status.conditions, "Ready")
    }

    /// Whether it is the API object of a static pod.
    pub fn is_mirror(&self) -> bool {
        super::annotation(&self.metadata, MIRROR_ANNOTATION).is_some()
    }

    /// Whether it is to run for ever. One that is not may end well any time, and
    /// its controller need not make another.
    pub fn is_kept_running(&self) -> bool {
        let policy = self.spec.restart_policy.as_deref();
        policy.is_none_or(|policy| policy == "Always")
    }

    /// The claims it mounts, ephemeral ones included.
    pub fn claims(&self) -> impl Iterator<Item = String> + '_ {
        self.spec.volumes.iter().filter_map(|volume| {
            match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(claim.claim_name.clone()),
                (None, Some(_)) => {
                    Some(format!("{}-{}", meta::name_of(&self.metadata), volume.name))
                }
                (None, None) => None,
            }
        })
    }

    /// The pod as decisions see it; `resolver` knows its workload and where its
    /// volumes are.
    ///
    /// What the resolver has not seen yet is left out: a pod whose ReplicaSet is
    /// unknown counts as the ReplicaSet's own.
    pub fn to_model(&self, resolver: &Resolver) -> model::Pod {
        let mut pod = model::Pod::new(self.id(), String::new());
        pod.node = self.spec.node_name.clone().filter(|name| !name.is_empty());
        pod.labels = self.metadata.labels.clone().unwrap_or_default();
        pod.controller = controller_of(&self.metadata);
        pod.workload = pod
            .controller
            .as_ref()
            .and_then(|controller| resolver.workload(&pod.id.namespace, controller))
            .filter(|id| !id.is_counted() || self.is_kept_running());
        pod.phase = phase(&self.status.phase);
        pod.ready = self.is_ready();
        pod.deletion = deletion_of(&self.metadata);
        pod.grace_seconds = self
            .spec
            .termination_grace_period_seconds
            .map_or(DEFAULT_GRACE, |seconds| u64::try_from(seconds).unwrap_or(1));
        pod.mirror = self.is_mirror();
        pod.empty_dir = self
            .spec
            .volumes
            .iter()
            .any(|volume| volume.empty_dir.is_some());
        pod.do_not_disrupt = DO_NOT_DISRUPT
            .into_iter()
            .find(|(name, value)| super::annotation(&self.metadata, name) == Some(*value))
            .map(|(name, _)| name.to_owned());
        pod.claims = self.claims().collect();
        pod.priority = self.spec.priority.unwrap_or_default();
        pod.requests = self.requests();
        pod.placement = placement(&self.metadata, &self.spec);
        pod.placement.volume_affinity = pod
            .claims
            .iter()
            .filter_map(|claim| resolver.volume_affinity(&pod.id.namespace, claim))
            .collect();
        pod
    }

    /// What the scheduler counts: containers and sidecars together, or the
    /// largest moment of initialisation, plus overhead. Requests of the pod as a
    /// whole take the place of those of its containers.
    fn requests(&self) -> Resources {
        let mut sidecars = BTreeMap::new();
        let mut peak = BTreeMap::new();
        for container in &self.spec.init_containers {
            let mut moment = sidecars.clone();
            add(&mut moment, &container.resources.requests);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.clone_from(&moment);
            }
            raise(&mut peak, &moment);
        }
        let mut running = sidecars;
        for container in &self.spec.containers {
            add(&mut running, &container.resources.requests);
        }
        raise(&mut running, &peak);
        if let Some(whole) = &self.spec.resources {
            running.extend(
                whole
                    .requests
                    .iter()
                    .map(|(name, amount)| (name.clone(), *amount)),
            );
        }
        add(&mut running, &self.spec.overhead);
        let mut requests = resources(&running);
        requests.pods = 1;
        requests
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn add(to: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let sum = to.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(to: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let most = to.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
}

fn phase(text: &str) -> PodPhase {
    match text {
        "Failed" => PodPhase::Failed,
        "" | "Pending" => PodPhase::Pending,
        "Running" => PodPhase::Running,
        "Succeeded" => PodPhase::Succeeded,
        _ => PodPhase::Unknown,
    }
}
