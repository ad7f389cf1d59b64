//! Volumes, claims and attachments.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Serialize};

use super::{NodeSelector, meta, resource};

/// `v1 PersistentVolumeClaim`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistentVolumeClaim {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: ClaimSpec,
}

/// What is read of a claim's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    /// The volume it is bound to.
    pub volume_name: Option<String>,
    /// Access modes.
    #[serde(deserialize_with = "meta::nullable")]
    pub access_modes: Vec<String>,
}

resource!(
    PersistentVolumeClaim,
    "",
    "v1",
    "persistentvolumeclaims",
    NamespaceResourceScope
);

/// `v1 PersistentVolume`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PersistentVolume {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: VolumeSpec,
}

/// What is read of a volume's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    /// Which nodes can reach it; absent is all.
    pub node_affinity: Option<VolumeNodeAffinity>,
}

/// Which nodes can reach a volume.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeNodeAffinity {
    /// The nodes.
    pub required: Option<NodeSelector>,
}

resource!(
    PersistentVolume,
    "",
    "v1",
    "persistentvolumes",
    ClusterResourceScope
);

/// `storage.k8s.io/v1 VolumeAttachment`. A volume is detached from a node when
/// its attachment is *gone*, not when `attached` turns false.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct VolumeAttachment {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: VolumeAttachmentSpec,
    /// Status.
    pub status: VolumeAttachmentStatus,
}

/// What is read of an attachment's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeAttachmentSpec {
    /// The node.
    pub node_name: String,
    /// The volume.
    pub source: VolumeAttachmentSource,
}

/// Which volume is attached.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeAttachmentSource {
    /// Name of the PersistentVolume; absent for inline volumes.
    pub persistent_volume_name: Option<String>,
}

/// What is read of an attachment's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeAttachmentStatus {
    /// Whether it is attached.
    pub attached: bool,
}

resource!(
    VolumeAttachment,
    "storage.k8s.io",
    "v1",
    "volumeattachments",
    ClusterResourceScope
);
