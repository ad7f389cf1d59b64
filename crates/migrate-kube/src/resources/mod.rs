//! Slim types of the Kubernetes objects that upgrades read.
//!
//! Own serde structs with only the fields that are read, so that no version
//! feature of `k8s-openapi` matters and a list of 150,000 pods stays small.
//! Lists, maps and optional fields may be absent or `null` alike; unknown fields
//! are ignored. They are for reading: what is changed on the server is changed by
//! patches that name only the changed fields, never by writing one of these back.
//!
//! Each implements [`kube::Resource`], so `kube::Api<resources::Pod>` works, and
//! the ones that have a counterpart in [`migrate_core::model`] convert to it
//! (`to_model`). What a pod needs from other objects for that comes from a
//! [`Resolver`].

#[cfg(test)]
mod tests;

mod budget;
mod cluster;
mod event;
mod meta;
mod node;
mod placement;
mod pod;
mod quantity;
mod resolver;
mod storage;
mod workload;

pub use budget::{BudgetSpec, BudgetStatus, PodDisruptionBudget};
pub use cluster::{Lease, LeaseSpec, Namespace, NamespaceStatus};
pub use event::{Event, EventSource};
pub use meta::{annotation, controller_of, deletion_of, has_seen};
pub use node::{AttachedVolume, CONTROL_PLANE_LABEL, Node, NodeInfo, NodeSpec, NodeStatus, Taint};
pub use placement::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm, PodAntiAffinity,
    Toleration, TopologySpreadConstraint,
};
pub use pod::{ClaimSource, Container, ContainerResources, Pod, PodSpec, PodStatus, Volume};
pub use quantity::Quantity;
pub use resolver::Resolver;
pub use storage::{
    ClaimSpec, PersistentVolume, PersistentVolumeClaim, VolumeAttachment, VolumeAttachmentSource,
    VolumeAttachmentSpec, VolumeAttachmentStatus, VolumeNodeAffinity, VolumeSpec,
};
pub use workload::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, Deployment, Job, JobSpec, JobStatus, ReplicaSet,
    ReplicaStatus, ReplicasSpec, StatefulSet,
};

use serde::{Deserialize, Serialize};

/// A condition of an object's status.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Type, e.g. `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Machine-readable reason.
    pub reason: String,
    /// Text.
    pub message: String,
}

/// The condition of type `kind`, if the object has it.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of type `kind` is `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// Says where the API serves a type.
macro_rules! resource {
    ($type:ident, $group:literal, $version:literal, $plural:literal, $scope:ty) => {
        impl ::kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
                stringify!($type).into()
            }

            fn group((): &()) -> ::std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> ::std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(
                &mut self,
            ) -> &mut ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
use resource;
