//! The fields that are read of objects for what the cluster model leaves out.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use migrate_core::steps::{BaselineLease, BaselineRollout};
use migrate_core::{IntOrPercent, WorkloadId};
use migrate_kube::resources::{DaemonSetStatus, has_seen};
use serde::Deserialize;

/// `coordination.k8s.io/v1 Lease`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lease {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: LeaseSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u32>,
    renew_time: Option<Timestamp>,
}

/// `storage.k8s.io/v1 CSINode`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CsiNode {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: CsiNodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CsiNodeSpec {
    /// `null` on a node without drivers.
    pub(super) drivers: Option<Vec<CsiDriver>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct CsiDriver {
    pub(super) name: String,
}

/// `apps/v1 DaemonSet`, with its strategy.
#[derive(Debug, Deserialize)]
pub(super) struct DaemonSet {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: DaemonSetSpec,
    #[serde(default)]
    status: DaemonSetStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DaemonSetSpec {
    update_strategy: UpdateStrategy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    r#type: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_unavailable: Option<IntOrPercent>,
    max_surge: Option<IntOrPercent>,
}

impl RollingUpdate {
    /// Nodes worked on at once, of `desired`; one of the two is zero.
    fn at_once(&self, desired: u32) -> u32 {
        let resolve = |limit: Option<IntOrPercent>| limit.map(|limit| limit.resolve_up(desired));
        resolve(self.max_unavailable)
            .max(resolve(self.max_surge))
            .map_or(1, |limit| limit.max(1))
    }
}

/// Anything with conditions that say since when they are so.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conditioned {
    status: ConditionedStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionedStatus {
    conditions: Option<Vec<TimedCondition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TimedCondition {
    r#type: String,
    status: String,
    last_transition_time: Option<Timestamp>,
}

/// A list without its metadata.
#[derive(Debug, Deserialize)]
pub(super) struct Items<T> {
    pub(super) items: Option<Vec<T>>,
}

/// Says where the API serves a type that is read in pages.
macro_rules! resource {
    ($type:ident, $kind:literal, $group:literal, $plural:literal, $scope:ty) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
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

resource!(
    Lease,
    "Lease",
    "coordination.k8s.io",
    "leases",
    NamespaceResourceScope
);
resource!(
    CsiNode,
    "CSINode",
    "storage.k8s.io",
    "csinodes",
    ClusterResourceScope
);

impl Lease {
    /// What is compared; absent while nobody has renewed it, or for ever.
    pub(super) fn to_baseline(&self) -> Option<BaselineLease> {
        let spec = &self.spec;
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let renewed = spec.renew_time?.into();
        let seconds = spec.lease_duration_seconds?;
        Some(BaselineLease::new(holder, renewed, seconds))
    }
}

impl DaemonSet {
    /// What is compared. Pods of an older template are as they should be under
    /// the strategy `OnDelete`.
    pub(super) fn to_baseline(&self) -> BaselineRollout {
        let status = &self.status;
        let desired = status.desired_number_scheduled;
        let mut rollout = BaselineRollout::done(id("DaemonSet", &self.metadata), desired);
        rollout.observed = has_seen(status.observed_generation, &self.metadata);
        rollout.available = status.number_available;
        let strategy = &self.spec.update_strategy;
        if strategy.r#type != "OnDelete" {
            rollout.updated = status.updated_number_scheduled;
            let rolling = strategy.rolling_update.as_ref();
            rollout.at_once = Some(rolling.map_or(1, |rolling| rolling.at_once(desired)));
        }
        rollout
    }
}

/// What is compared of a Deployment.
pub(super) fn deployment(object: &migrate_kube::resources::Deployment) -> BaselineRollout {
    let status = &object.status;
    let desired = object.spec.replicas.unwrap_or(1);
    let mut rollout = BaselineRollout::done(id("Deployment", &object.metadata), desired);
    rollout.observed = has_seen(status.observed_generation, &object.metadata);
    rollout.updated = status.updated_replicas;
    rollout.available = status.available_replicas;
    rollout
}

impl Conditioned {
    /// Since when it has been Ready.
    pub(super) fn ready_since(&self) -> Option<Timestamp> {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions
            .find(|condition| condition.r#type == "Ready" && condition.status == "True")
            .and_then(|condition| condition.last_transition_time)
    }
}

fn id(kind: &str, metadata: &ObjectMeta) -> WorkloadId {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    WorkloadId::new(kind, text(&metadata.namespace), text(&metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn daemon_set(strategy: &str) -> Value {
        json!({ "metadata": { "name": "kube-proxy", "namespace": "kube-system", "generation": 2 },
                "spec": { "updateStrategy": { "type": strategy } },
                "status": { "desiredNumberScheduled": 3, "updatedNumberScheduled": 1,
                            "numberAvailable": 2, "observedGeneration": 1 } })
    }

    #[test]
    fn a_rollout_is_read_and_on_delete_keeps_old_pods() {
        let rolling = from_value::<DaemonSet>(daemon_set("RollingUpdate")).unwrap();
        let mut expected =
            BaselineRollout::done(WorkloadId::new("DaemonSet", "kube-system", "kube-proxy"), 3);
        expected.observed = false;
        expected.updated = 1;
        expected.available = 2;
        expected.at_once = Some(1);
        assert_eq!(rolling.to_baseline(), expected);
        let mut by_percent = daemon_set("RollingUpdate");
        by_percent["spec"]["updateStrategy"]["rollingUpdate"] =
            json!({ "maxUnavailable": 0, "maxSurge": "34%" });
        let by_percent = from_value::<DaemonSet>(by_percent).unwrap();
        assert_eq!(by_percent.to_baseline().at_once, Some(2));
        expected.updated = 3;
        expected.at_once = None;
        let by_hand = from_value::<DaemonSet>(daemon_set("OnDelete")).unwrap();
        assert_eq!(by_hand.to_baseline(), expected);
    }

    #[test]
    fn leases_drivers_and_conditions_are_read_with_their_nulls() {
        let lease = json!({ "metadata": { "name": "w" }, "spec": {
            "holderIdentity": "w", "leaseDurationSeconds": 40, "leaseTransitions": null,
            "renewTime": "2026-11-22T22:26:14.123456Z" } });
        let lease = from_value::<Lease>(lease).unwrap().to_baseline().unwrap();
        assert_eq!(lease.renewed.to_string(), "2026-11-22T22:26:14.123Z");
        let unheld = json!({ "metadata": {}, "spec": { "renewTime": null } });
        assert_eq!(from_value::<Lease>(unheld).unwrap().to_baseline(), None);

        let bare = json!({ "metadata": { "name": "w" }, "spec": { "drivers": null } });
        assert!(from_value::<CsiNode>(bare).unwrap().spec.drivers.is_none());

        let pod = |status: &str| {
            let condition = json!({ "type": "Ready", "status": status,
                                    "lastTransitionTime": "2026-11-22T22:26:14Z" });
            let pod = json!({ "status": { "conditions": [{ "type": "Initialized" }, condition] } });
            from_value::<Conditioned>(pod).unwrap().ready_since()
        };
        assert_eq!(pod("True"), Some("2026-11-22T22:26:14Z".parse().unwrap()));
        assert_eq!(pod("False"), None);
    }
}
