//! PodDisruptionBudgets.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use migrate_core::model::{self, UnhealthyPodPolicy};
use migrate_core::{IntOrPercent, LabelSelector};
use serde::{Deserialize, Serialize};

use super::{Condition, condition, has_seen, meta, resource};

/// `policy/v1 PodDisruptionBudget`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: BudgetSpec,
    /// Status.
    pub status: BudgetStatus,
}

/// A PodDisruptionBudget's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetSpec {
    /// Which pods; absent matches none, empty all of the namespace.
    pub selector: Option<LabelSelector>,
    /// Pods that must stay.
    pub min_available: Option<IntOrPercent>,
    /// Pods that may be away.
    pub max_unavailable: Option<IntOrPercent>,
    /// When pods that are not Ready may be evicted.
    pub unhealthy_pod_eviction_policy: Option<UnhealthyPodPolicy>,
}

/// A PodDisruptionBudget's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// The `metadata.generation` this status is of.
    pub observed_generation: i64,
    /// Evictions allowed now.
    pub disruptions_allowed: i32,
    /// Healthy pods.
    pub current_healthy: i32,
    /// Healthy pods needed.
    pub desired_healthy: i32,
    /// Pods counted.
    pub expected_pods: i32,
    /// Pods whose eviction was granted, with the time, and not yet seen.
    #[serde(deserialize_with = "meta::nullable")]
    pub disrupted_pods: BTreeMap<String, Option<String>>,
    /// Conditions.
    #[serde(deserialize_with = "meta::nullable")]
    pub conditions: Vec<Condition>,
}

resource!(
    PodDisruptionBudget,
    "policy",
    "v1",
    "poddisruptionbudgets",
    NamespaceResourceScope
);

impl PodDisruptionBudget {
    /// The budget as decisions see it.
    pub fn to_model(&self) -> model::DisruptionBudget {
        let selector = LabelSelector::default();
        let mut budget = model::DisruptionBudget::new(
            meta::namespace_of(&self.metadata),
            meta::name_of(&self.metadata),
            selector,
        );
        budget.selector.clone_from(&self.spec.selector);
        budget.min_available = self.spec.min_available;
        budget.max_unavailable = self.spec.max_unavailable;
        budget.unhealthy_pods = self.spec.unhealthy_pod_eviction_policy.unwrap_or_default();
        let status = &self.status;
        budget.status.observed = has_seen(status.observed_generation, &self.metadata);
        budget.status.disruptions_allowed = status.disruptions_allowed;
        budget.status.current_healthy = status.current_healthy;
        budget.status.desired_healthy = status.desired_healthy;
        budget.status.expected_pods = status.expected_pods;
        budget.status.disrupted_pods = status.disrupted_pods.keys().cloned().collect();
        budget.status.sync_failed = condition(&status.conditions, "DisruptionAllowed")
            .filter(|found| found.status == "False" && found.reason == "SyncFailed")
            .map(|found| found.message.clone());
        budget
    }
}
