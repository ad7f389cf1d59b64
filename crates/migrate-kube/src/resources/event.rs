//! Events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};

use super::{meta, resource};

/// `v1 Event`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Event {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Machine-readable reason, e.g. `Pulled`.
    #[serde(deserialize_with = "meta::nullable")]
    pub reason: String,
    /// Text.
    #[serde(deserialize_with = "meta::nullable")]
    pub message: String,
    /// Who saw it.
    #[serde(deserialize_with = "meta::nullable")]
    pub source: EventSource,
}

/// Who saw an event.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct EventSource {
    /// What it is, e.g. `kubelet`.
    pub component: Option<String>,
    /// The node that it is on.
    pub host: Option<String>,
}

resource!(Event, "", "v1", "events", NamespaceResourceScope);
