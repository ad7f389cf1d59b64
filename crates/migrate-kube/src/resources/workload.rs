//! Controllers of pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use migrate_core::model::{self, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{Condition, controller_of, has_seen, is_true, meta, resource};

/// What is read of the spec of a controller with `spec.replicas`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicasSpec {
    /// Wanted; absent is 1.
    pub replicas: Option<u32>,
    /// How long a pod must be ready to be available; absent is 0.
    pub min_ready_seconds: u32,
    /// Whether a Deployment's rollout is paused.
    pub paused: bool,
}

/// What is read of the status of a controller with `spec.replicas`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaStatus {
    /// Pods there are.
    pub replicas: u32,
    /// Ready ones.
    pub ready_replicas: u32,
    /// Ones that have been ready for `minReadySeconds`.
    pub available_replicas: u32,
    /// Ones of the current template.
    pub updated_replicas: u32,
    /// The `metadata.generation` this status is of.
    pub observed_generation: i64,
    /// Conditions.
    #[serde(deserialize_with = "meta::nullable")]
    pub conditions: Vec<Condition>,
}

macro_rules! replicated {
    ($type:ident, $plural:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[serde(default)]
        pub struct $type {
            /// Metadata.
            #[serde(deserialize_with = "meta::slim")]
            pub metadata: ObjectMeta,
            /// Spec.
            pub spec: ReplicasSpec,
            /// Status.
            pub status: ReplicaStatus,
        }

        resource!($type, "apps", "v1", $plural, NamespaceResourceScope);

        impl $type {
            /// The workload as decisions see it.
            pub fn to_model(&self) -> model::Workload {
                let (wanted, status) = (self.spec.replicas.unwrap_or(1), &self.status);
                let kind = stringify!($type);
                let mut workload = workload(kind, &self.metadata, wanted, status.ready_replicas);
                workload.available = has_seen(status.observed_generation, &self.metadata)
                    .then_some(status.available_replicas);
                workload.min_ready_seconds = self.spec.min_ready_seconds;
                workload
            }
        }
    };
}

replicated!(Deployment, "deployments", "`apps/v1 Deployment`.");
replicated!(ReplicaSet, "replicasets", "`apps/v1 ReplicaSet`.");
replicated!(StatefulSet, "statefulsets", "`apps/v1 StatefulSet`.");

impl ReplicaSet {
    /// The Deployment that made it; `None` for one that stands alone, or that
    /// belongs to a kind nobody here knows.
    pub fn deployment(&self) -> Option<WorkloadId> {
        let controller = controller_of(&self.metadata)?;
        let is_deployment = controller.kind == "Deployment" && controller.group == "apps";
        is_deployment.then(|| {
            WorkloadId::new(
                "Deployment",
                meta::namespace_of(&self.metadata),
                controller.name,
            )
        })
    }
}

/// `apps/v1 DaemonSet`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct DaemonSet {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: DaemonSetSpec,
    /// Status.
    pub status: DaemonSetStatus,
}

/// What is read of a DaemonSet's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    /// How long a pod must be ready to be available; absent is 0.
    pub min_ready_seconds: u32,
}

/// What is read of a DaemonSet's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    /// Nodes that should run one.
    pub desired_number_scheduled: u32,
    /// Nodes that run a ready one.
    pub number_ready: u32,
    /// Nodes that have run a ready one for `minReadySeconds`.
    pub number_available: u32,
    /// Nodes that run one of the current template.
    pub updated_number_scheduled: u32,
    /// The `metadata.generation` this status is of.
    pub observed_generation: i64,
}

resource!(
    DaemonSet,
    "apps",
    "v1",
    "daemonsets",
    NamespaceResourceScope
);

impl DaemonSet {
    /// The workload as decisions see it.
    pub fn to_model(&self) -> model::Workload {
        let status = &self.status;
        let wanted = status.desired_number_scheduled;
        let mut workload = workload("DaemonSet", &self.metadata, wanted, status.number_ready);
        workload.available =
            has_seen(status.observed_generation, &self.metadata).then_some(status.number_available);
        workload.min_ready_seconds = self.spec.min_ready_seconds;
        workload
    }
}

/// `batch/v1 Job`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Job {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: JobSpec,
    /// Status.
    pub status: JobStatus,
}

/// What is read of a Job's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    /// Pods at once; absent is 1.
    pub parallelism: Option<u32>,
    /// Successes wanted.
    pub completions: Option<u32>,
    /// Not running on purpose.
    pub suspend: bool,
}

/// What is read of a Job's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// Pods that run.
    pub active: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that succeeded.
    pub succeeded: u32,
    /// Pods that failed.
    pub failed: u32,
    /// Conditions.
    #[serde(deserialize_with = "meta::nullable")]
    pub conditions: Vec<Condition>,
}

resource!(Job, "batch", "v1", "jobs", NamespaceResourceScope);

impl Job {
    /// Whether it has ended, well or not.
    pub fn is_finished(&self) -> bool {
        let conditions = &self.status.conditions;
        is_true(conditions, "Complete") || is_true(conditions, "Failed")
    }

    /// The workload as decisions see it; one that has ended or is suspended
    /// wants no pods.
    pub fn to_model(&self) -> model::Workload {
        let idle = self.spec.suspend || self.is_finished();
        let wanted = if idle {
            0
        } else {
            self.spec.parallelism.unwrap_or(1)
        };
        workload("Job", &self.metadata, wanted, self.status.ready)
    }
}

fn workload(kind: &str, metadata: &ObjectMeta, replicas: u32, ready: u32) -> model::Workload {
    let id = WorkloadId::new(kind, meta::namespace_of(metadata), meta::name_of(metadata));
    let mut workload = model::Workload::new(id, replicas);
    workload.uid = meta::uid_of(metadata);
    workload.ready = ready;
    workload
}
