//! Namespaces and leases.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Serialize};

use super::{meta, resource};

/// `v1 Namespace`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Namespace {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Status.
    pub status: NamespaceStatus,
}

/// What is read of a Namespace's status.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    pub phase: String,
}

resource!(Namespace, "", "v1", "namespaces", ClusterResourceScope);

/// `coordination.k8s.io/v1 Lease`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Lease {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: LeaseSpec,
}

/// What is read of a Lease's spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds it.
    pub holder_identity: Option<String>,
    /// How long without a renewal it is waited for.
    pub lease_duration_seconds: Option<u32>,
    /// How often it changed hands.
    pub lease_transitions: Option<i32>,
    /// When it was last renewed, as written: to be compared, not to be read.
    pub renew_time: Option<String>,
}

resource!(
    Lease,
    "coordination.k8s.io",
    "v1",
    "leases",
    NamespaceResourceScope
);
