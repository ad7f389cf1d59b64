//! Slim types of the objects that only preflight reads.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use migrate_core::LabelSelector;
use migrate_kube::resources::Condition;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Declares a type with metadata and says where the API serves it.
macro_rules! object {
    ($doc:literal $type:ident = $group:literal $plural:literal $scope:ty {
        $($(#[$attribute:meta])* $field:ident: $field_type:ty,)*
    }) => {
        #[doc = $doc]
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $type {
            pub(crate) metadata: ObjectMeta,
            $($(#[$attribute])* pub(crate) $field: $field_type,)*
        }

        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                stringify!($type).into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

object! { "Webhooks that validate."
    ValidatingWebhookConfiguration = "admissionregistration.k8s.io" "validatingwebhookconfigurations" ClusterResourceScope {
        #[serde(deserialize_with = "nullable")]
        webhooks: Vec<Webhook>,
    }
}

object! { "Webhooks that change what they see."
    MutatingWebhookConfiguration = "admissionregistration.k8s.io" "mutatingwebhookconfigurations" ClusterResourceScope {
        #[serde(deserialize_with = "nullable")]
        webhooks: Vec<Webhook>,
    }
}

object! { "Where the pods behind a Service are."
    EndpointSlice = "discovery.k8s.io" "endpointslices" NamespaceResourceScope {
        #[serde(deserialize_with = "nullable")]
        endpoints: Vec<Endpoint>,
    }
}

object! { "Who serves an API group version."
    APIService = "apiregistration.k8s.io" "apiservices" ClusterResourceScope {
        spec: ApiServiceSpec,
        status: ApiServiceStatus,
    }
}

object! { "A Deployment with what its pods run."
    Deployment = "apps" "deployments" NamespaceResourceScope {
        spec: RunnerSpec,
    }
}

object! { "A StatefulSet with what its pods run."
    StatefulSet = "apps" "statefulsets" NamespaceResourceScope {
        spec: RunnerSpec,
    }
}

object! { "What leads to pods."
    Service = "" "services" NamespaceResourceScope {
        spec: ServiceSpec,
    }
}

object! { "A DaemonSet with what its pods run."
    DaemonSet = "apps" "daemonsets" NamespaceResourceScope {
        spec: RunnerSpec,
    }
}

object! { "A CronJob with what its pods run."
    CronJob = "batch" "cronjobs" NamespaceResourceScope {
        spec: CronSpec,
    }
}

/// One webhook of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    pub(crate) client_config: ClientConfig,
    /// Absent is `Fail`.
    pub(crate) failure_policy: Option<String>,
    pub(crate) namespace_selector: Option<LabelSelector>,
    pub(crate) object_selector: Option<LabelSelector>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) rules: Vec<Rule>,
}

/// Where a webhook is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClientConfig {
    pub(crate) service: Option<ServiceReference>,
    pub(crate) url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(default)]
pub(crate) struct ServiceReference {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a webhook wants to be asked about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(deserialize_with = "nullable")]
    pub(crate) api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) api_versions: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) operations: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) resources: Vec<String>,
    /// `Cluster`, `Namespaced`, or absent and `*` for both.
    pub(crate) scope: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: EndpointConditions,
    pub(crate) node_name: Option<String>,
    pub(crate) target_ref: Option<TargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Absent is ready.
    pub(crate) ready: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    pub(crate) uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiServiceSpec {
    /// Absent: served by kube-apiserver itself.
    pub(crate) service: Option<ServiceReference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiServiceStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunnerSpec {
    /// Absent is 1; a DaemonSet has none.
    pub(crate) replicas: Option<u32>,
    pub(crate) template: PodTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CronSpec {
    pub(crate) suspend: Option<bool>,
    pub(crate) job_template: JobTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct JobTemplate {
    pub(crate) spec: JobTemplateSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct JobTemplateSpec {
    pub(crate) template: PodTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodTemplate {
    pub(crate) metadata: TemplateMetadata,
    pub(crate) spec: PodTemplateSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateMetadata {
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodTemplateSpec {
    #[serde(deserialize_with = "nullable")]
    pub(crate) containers: Vec<TemplateContainer>,
    /// Absent is 30.
    pub(crate) termination_grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TemplateContainer {
    pub(crate) image: Option<String>,
    pub(crate) lifecycle: Option<Lifecycle>,
    /// Only whether there is one counts.
    pub(crate) readiness_probe: Option<IgnoredAny>,
}

/// Hooks of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) pre_stop: Option<Handler>,
}

/// What a hook does; one that does neither asks somebody.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Handler {
    pub(crate) exec: Option<Exec>,
    pub(crate) sleep: Option<Sleep>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Exec {
    #[serde(deserialize_with = "nullable")]
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sleep {
    pub(crate) seconds: i64,
}

/// Which pods a Service leads to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSpec {
    #[serde(deserialize_with = "nullable")]
    pub(crate) selector: BTreeMap<String, String>,
    /// `None` if it is headless.
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
}

/// Kubernetes reads `null` and an absent field alike.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
