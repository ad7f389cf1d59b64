//! Which kinds the cluster serves, and under which paths.

use std::fmt;

/// One kind of object as the API server serves it.
///
/// The kinds of the embedded cluster are constants (`Resource::PODS`, ...);
/// a CustomResourceDefinition adds more while the cluster runs. Two
/// descriptors are equal when they name the same table of one store.
#[derive(Clone, Copy)]
pub struct Resource {
    /// Position of the kind's table in its store.
    pub(super) index: usize,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version inside the group.
    pub version: &'static str,
    /// Kind of one object, such as `Pod`.
    pub kind: &'static str,
    /// Plural name in paths, such as `pods`.
    pub plural: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `/status` subresource, so that writes to the main
    /// resource leave the status alone.
    pub has_status: bool,
    /// Whether `metadata.generation` counts changes of the desired state.
    pub has_generation: bool,
    /// Whether there is a `/scale` subresource.
    pub has_scale: bool,
}

impl Resource {
    /// `v1` or `apps/v1`, as written in an object.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as written in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether a CustomResourceDefinition made this kind.
    pub fn is_custom(&self) -> bool {
        self.index >= Self::ALL.len()
    }

    /// Finds a built-in kind by `apiVersion` and `kind`.
    pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        let mut built_in = Self::ALL.iter().copied();
        built_in.find(|resource| resource.is_of(api_version, kind))
    }

    /// Whether objects with these `apiVersion` and `kind` are of it.
    pub(super) fn is_of(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind && self.api_version() == api_version
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.qualified())
    }
}

macro_rules! resources {
    ($($id:ident = $group:literal $version:literal $kind:literal $plural:literal $scope:ident [$($flag:ident)*];)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($id),* }

        impl Resource {
            $(
                #[doc = concat!("`", $plural, "`, version `", $version, "` of group `", $group, "`.")]
                pub const $id: &'static Self = &Self {
                    $($flag: true,)*
                    ..Self::bare(Index::$id as usize, $group, $version, $kind, $plural, resources!(@$scope))
                };
            )*

            /// Every built-in kind, in the order of their tables.
            pub const ALL: &'static [&'static Self] = &[$(Self::$id),*];
        }
    };
    (@namespaced) => { true };
    (@cluster) => { false };
}

impl Resource {
    pub(super) const fn bare(
        index: usize,
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        namespaced: bool,
    ) -> Self {
        Self {
            index,
            group,
            version,
            kind,
            plural,
            namespaced,
            has_status: false,
            has_generation: false,
            has_scale: false,
        }
    }
}

resources! {
    NAMESPACES = "" "v1" "Namespace" "namespaces" cluster [has_status];
    NODES = "" "v1" "Node" "nodes" cluster [has_status];
    PODS = "" "v1" "Pod" "pods" namespaced [has_status has_generation];
    CONFIG_MAPS = "" "v1" "ConfigMap" "configmaps" namespaced [];
    SECRETS = "" "v1" "Secret" "secrets" namespaced [];
    SERVICES = "" "v1" "Service" "services" namespaced [has_status];
    ENDPOINTS = "" "v1" "Endpoints" "endpoints" namespaced [];
    EVENTS = "" "v1" "Event" "events" namespaced [];
    SERVICE_ACCOUNTS = "" "v1" "ServiceAccount" "serviceaccounts" namespaced [];
    PERSISTENT_VOLUMES = "" "v1" "PersistentVolume" "persistentvolumes" cluster [has_status];
    PERSISTENT_VOLUME_CLAIMS = "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" namespaced [has_status];
    REPLICATION_CONTROLLERS = "" "v1" "ReplicationController" "replicationcontrollers" namespaced [has_status has_generation has_scale];
    RESOURCE_QUOTAS = "" "v1" "ResourceQuota" "resourcequotas" namespaced [has_status];
    LIMIT_RANGES = "" "v1" "LimitRange" "limitranges" namespaced [];
    DEPLOYMENTS = "apps" "v1" "Deployment" "deployments" namespaced [has_status has_generation has_scale];
    REPLICA_SETS = "apps" "v1" "ReplicaSet" "replicasets" namespaced [has_status has_generation has_scale];
    STATEFUL_SETS = "apps" "v1" "StatefulSet" "statefulsets" namespaced [has_status has_generation has_scale];
    DAEMON_SETS = "apps" "v1" "DaemonSet" "daemonsets" namespaced [has_status has_generation];
    CONTROLLER_REVISIONS = "apps" "v1" "ControllerRevision" "controllerrevisions" namespaced [];
    JOBS = "batch" "v1" "Job" "jobs" namespaced [has_status has_generation];
    CRON_JOBS = "batch" "v1" "CronJob" "cronjobs" namespaced [has_status has_generation];
    POD_DISRUPTION_BUDGETS = "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" namespaced [has_status has_generation];
    LEASES = "coordination.k8s.io" "v1" "Lease" "leases" namespaced [];
    EVENTS_V1 = "events.k8s.io" "v1" "Event" "events" namespaced [];
    ENDPOINT_SLICES = "discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" namespaced [has_generation];
    STORAGE_CLASSES = "storage.k8s.io" "v1" "StorageClass" "storageclasses" cluster [];
    VOLUME_ATTACHMENTS = "storage.k8s.io" "v1" "VolumeAttachment" "volumeattachments" cluster [has_status];
    CSI_NODES = "storage.k8s.io" "v1" "CSINode" "csinodes" cluster [];
    CSI_DRIVERS = "storage.k8s.io" "v1" "CSIDriver" "csidrivers" cluster [];
    PRIORITY_CLASSES = "scheduling.k8s.io" "v1" "PriorityClass" "priorityclasses" cluster [has_generation];
    VALIDATING_WEBHOOKS = "admissionregistration.k8s.io" "v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" cluster [has_generation];
    MUTATING_WEBHOOKS = "admissionregistration.k8s.io" "v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" cluster [has_generation];
    API_SERVICES = "apiregistration.k8s.io" "v1" "APIService" "apiservices" cluster [has_status];
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" cluster [has_status has_generation];
    ROLES = "rbac.authorization.k8s.io" "v1" "Role" "roles" namespaced [];
    ROLE_BINDINGS = "rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings" namespaced [];
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles" cluster [];
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io" "v1" "ClusterRoleBinding" "clusterrolebindings" cluster [];
    INGRESSES = "networking.k8s.io" "v1" "Ingress" "ingresses" namespaced [has_status has_generation];
    NETWORK_POLICIES = "networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" namespaced [has_generation];
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" namespaced [has_status];
}
