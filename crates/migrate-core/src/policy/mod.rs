//! Policy: every choice that is the operator's, with its default.
//!
//! All of it has a serde form (`policy.toml`, kebab-case keys) in which every
//! key may be left out; unknown keys are refused. Durations are whole seconds.

mod addon;
mod ahead;
mod calendar;
mod canary_change;
mod canary_pod;
mod identity;
mod pools;
mod waiver;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{IntOrPercent, Workload};
pub use addon::Addon;
pub use ahead::LongestAhead;
pub use calendar::{Calendar, Opening, Period, Weekday};
pub use canary_change::CanaryChange;
pub use canary_pod::CanaryPod;
pub use pools::{CONTROL_PLANE_POOL, DEFAULT_POOL, PoolPolicy, ZonePolicy};

/// Everything an operator may decide.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Policy {
    /// What is upgraded at points of the run, in this order; names are unique.
    #[serde(rename = "addon", deserialize_with = "addon::unique")]
    pub addons: Vec<Addon>,
    /// When the data is backed up.
    pub backup: BackupPolicy,
    /// How nodes map to pools and how many of a pool may be away.
    pub pools: PoolPolicy,
    /// Budgets for workloads that have none.
    pub assumed_budgets: AssumedBudgetPolicy,
    /// What may be done to pods that do not simply move.
    pub consent: Consent,
    /// How long to wait, and then what.
    pub deadlines: Deadlines,
    /// What waits for what.
    pub rollout: RolloutPolicy,
    /// A change that the agents of every node have to see after a part of the
    /// control plane has come back; without one a minute is waited for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_change: Option<CanaryChange>,
    /// A pod that tries each node out before its cordon is lifted; without one
    /// the word of the node and its agents is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_pod: Option<CanaryPod>,
    /// Move one pod of each workload back that a run has left on one node, after
    /// the final verification. Off: it is only reported.
    pub respread: bool,
    /// Findings that a person accepts, each by its code or, for one object, by
    /// code and object (`KM-HOOK-002 guard`); each shows in every report.
    pub waive: BTreeSet<String>,
}

/// When the data is backed up, besides before anything is changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct BackupPolicy {
    /// Once more after the control plane, before addons and workers, in a run
    /// that upgrades a member: the first backup has nothing of what was written
    /// since, and is of the old versions.
    pub after_control_plane: bool,
    /// How old a backup may be when the first action begins, in its serde form in
    /// whole seconds. An older one is taken anew, though not within a minute, and one
    /// that a provider gives although it is older is a finding, `KM-BACKUP-007`.
    #[serde(with = "seconds")]
    pub max_age: Duration,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        Self {
            after_control_plane: true,
            max_age: Duration::from_secs(60 * 60),
        }
    }
}

/// Budgets for workloads that have no PodDisruptionBudget.
///
/// Most outages in practice are pods without a budget that all sit on the next
/// node, so every Deployment, ReplicaSet and StatefulSet with two or more replicas is
/// treated as if it had one, and so is every other controller that keeps two or
/// more pods running ([`WorkloadId::is_counted`](crate::WorkloadId::is_counted)).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct AssumedBudgetPolicy {
    /// Whether to assume any.
    pub enabled: bool,
    /// `maxUnavailable` of each; percentages round up.
    pub max_unavailable: IntOrPercent,
    /// Namespaces without assumed budgets.
    pub exclude_namespaces: BTreeSet<String>,
}

impl AssumedBudgetPolicy {
    /// How many healthy pods the budget assumed for `workload` needs; `None` if
    /// none is assumed for it.
    pub fn needs(&self, workload: &Workload) -> Option<u32> {
        let guarded = self.enabled
            && workload.replicas >= 2
            && workload.replaces_pods()
            && !self.exclude_namespaces.contains(&workload.id.namespace);
        let may_go = self.max_unavailable.resolve_up(workload.replicas);
        guarded.then(|| workload.replicas.saturating_sub(may_go))
    }

    /// The least [`max_unavailable`](Self::max_unavailable), of the kind that it is, by which
    /// `more` pods more of `replicas` may be away than by this one; all of them at most.
    pub fn raised(&self, replicas: u32, more: u32) -> IntOrPercent {
        let may_go = self.max_unavailable.resolve_up(replicas);
        let wanted = may_go.saturating_add(more).min(replicas);
        match self.max_unavailable {
            IntOrPercent::Int(_) => IntOrPercent::Int(wanted.max(may_go)),
            IntOrPercent::Percent(percent) => {
                // The first that rounds up to so many.
                let below = u64::from(wanted).saturating_sub(1) * 100;
                let first = below.checked_div(replicas.into()).map_or(0, |it| it + 1);
                let first = u32::try_from(first).unwrap_or(u32::MAX);
                IntOrPercent::Percent(first.max(percent))
            }
        }
    }

    /// How many pods of `workload` may be away, as its status stands; `None` if
    /// no budget is assumed for it.
    pub fn room(&self, workload: &Workload) -> Option<u32> {
        let needs = self.needs(workload)?;
        Some(workload.ready.saturating_sub(needs))
    }
}

impl Default for AssumedBudgetPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            max_unavailable: IntOrPercent::Int(1),
            exclude_namespaces: BTreeSet::new(),
        }
    }
}

/// What may be done to a pod of a Job.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub enum JobPolicy {
    /// Evict it; the Job starts it anew elsewhere.
    Evict,
    /// Wait until it has finished.
    #[default]
    Wait,
}

/// What may be done to pods that do not simply move.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Consent {
    /// Evict pods without a controller: nothing starts them again.
    pub bare_pods: bool,
    /// Evict pods that ask not to be disrupted ([`DO_NOT_DISRUPT`](crate::model::DO_NOT_DISRUPT)).
    /// Without it those of Jobs are waited for, whatever [`jobs`](Self::jobs) says.
    pub do_not_disrupt: bool,
    /// Evict pods with emptyDir volumes: the data ends with the pod.
    pub empty_dir: bool,
    /// Pods of Jobs.
    pub jobs: JobPolicy,
    /// Accept downtime of every pod that only its node can host.
    pub downtime: bool,
    /// Accept downtime, or the loss of a bare pod, for these: `namespace/pod`
    /// or `namespace/workload`.
    pub pods: BTreeSet<String>,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            bare_pods: false,
            do_not_disrupt: false,
            empty_dir: true,
            jobs: JobPolicy::Wait,
            downtime: false,
            pods: BTreeSet::new(),
        }
    }
}

/// What holds targets back although they could begin.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RolloutPolicy {
    /// No worker begins before every control-plane node has been upgraded and
    /// verified; one of those that fails stops the run, as a member does.
    pub control_plane_nodes_first: bool,
    /// How long a verified canary is left alone with the new version before it
    /// is verified once more. No other worker begins meanwhile. Zero: the others
    /// of its pool follow at once.
    #[serde(
        serialize_with = "seconds::serialize",
        deserialize_with = "seconds::deserialize_or_none"
    )]
    pub canary_soak: Duration,
    /// How many nodes may fail and be skipped before one more stops the run.
    /// Counts where [`Deadlines::then`] says [`OnDeadline::Skip`].
    pub max_failed_nodes: u32,
    /// How many pods the drains of all nodes together may displace in a minute: a
    /// drain begins only when those of the one before it have had their time. Zero:
    /// as many as budgets and widths let go.
    pub displaced_per_minute: u32,
    /// Make workers that are still to be upgraded the worse choice for new pods while the
    /// others are drained, by a taint with the effect `PreferNoSchedule`, so that a pod that
    /// has to move goes where it can stay. Off: the scheduler chooses as it always does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prefer_upgraded_nodes: bool,
    /// When members and nodes may begin; without one, any time. None begins that
    /// is predicted to end after its window. What has begun is brought to its
    /// end.
    pub windows: Vec<Period>,
    /// Times when none may begin although a window is open.
    pub blackouts: Vec<Period>,
}

impl RolloutPolicy {
    /// Windows without blackouts.
    pub fn calendar(&self) -> Calendar {
        Calendar::new(self.windows.clone(), self.blackouts.clone())
    }
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            control_plane_nodes_first: true,
            canary_soak: Duration::ZERO,
            max_failed_nodes: 1,
            displaced_per_minute: 0,
            prefer_upgraded_nodes: false,
            windows: Vec::new(),
            blackouts: Vec::new(),
        }
    }
}

/// What happens to a node whose deadline has passed. Nothing is ever forced.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub enum OnDeadline {
    /// Leave it as it is (cordon lifted if nothing was changed), go on with
    /// the others, and report it.
    Skip,
    /// Stop the run.
    #[default]
    Stop,
}

/// How long to wait for what; in the serde form whole seconds, from one to a
/// year's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Deadlines {
    /// One request to the API.
    #[serde(with = "seconds")]
    pub request: Duration,
    /// One pod: from its first eviction attempt until it is gone.
    #[serde(with = "seconds")]
    pub pod: Duration,
    /// One node: from its cordon until it is drained.
    #[serde(with = "seconds")]
    pub drain: Duration,
    /// One node or control-plane member: from begin to success.
    #[serde(with = "seconds")]
    pub upgrade: Duration,
    /// One node or member: until it and its workloads are as well as before;
    /// from the last progress, while a rollout is waited for.
    #[serde(with = "seconds")]
    pub verify: Duration,
    /// The API server: how long it may not answer while nothing is under way, before
    /// the runner leaves the run as it is, to be gone on with.
    #[serde(with = "seconds")]
    pub api: Duration,
    /// What then, where it was a pod or a node.
    pub then: OnDeadline,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            pod: Duration::from_secs(15 * 60),
            drain: Duration::from_secs(60 * 60),
            upgrade: Duration::from_secs(30 * 60),
            verify: Duration::from_secs(10 * 60),
            api: Duration::from_secs(10 * 60),
            then: OnDeadline::Stop,
        }
    }
}

mod seconds {
    use std::time::Duration;

    use serde::de::{Error, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    /// More is a slip of the hand, and sums of what a clock can hold overflow.
    const YEAR: u64 = 365 * 24 * 60 * 60;

    /// Rounded up, so that a part of a second does not come back as none.
    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        let rest = u64::from(value.subsec_nanos() > 0);
        s.serialize_u64(value.as_secs().saturating_add(rest))
    }

    /// A time to wait that has to be there.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        bounded(d, 1, "1 to 31536000 seconds (a year)")
    }

    /// One that may be left out.
    pub(super) fn deserialize_or_none<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Duration, D::Error> {
        bounded(d, 0, "0 to 31536000 seconds (a year)")
    }

    fn bounded<'de, D: Deserializer<'de>>(
        d: D,
        least: u64,
        expected: &'static str,
    ) -> Result<Duration, D::Error> {
        let seconds = u64::deserialize(d)?;
        if (least..=YEAR).contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        let found = Unexpected::Unsigned(seconds);
        Err(D::Error::invalid_value(found, &expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_json_and_unknown_keys_are_refused() {
        let json = serde_json::to_string(&Policy::default()).unwrap();
        assert_eq!(
            serde_json::from_str::<Policy>(&json).unwrap(),
            Policy::default()
        );
        assert!(serde_json::from_str::<Policy>(r#"{"max-unavailble": 1}"#).is_err());
    }

    #[test]
    fn a_raised_assumption_is_the_least_that_lets_so_many_more_go() {
        let raised = |from: &str, replicas: u32, more: u32| {
            let policy = AssumedBudgetPolicy {
                max_unavailable: from.parse().unwrap(),
                ..AssumedBudgetPolicy::default()
            };
            policy.raised(replicas, more).to_string()
        };
        assert_eq!(raised("1", 12, 1), "2");
        assert_eq!(raised("3", 4, 5), "4");
        assert_eq!(raised("9", 4, 1), "9");
        // One of twelve by 8 %, two from 9 %.
        assert_eq!(raised("8%", 12, 1), "9%");
        assert_eq!(raised("25%", 10, 1), "31%");
        assert_eq!(raised("100%", 10, 1), "100%");
        assert_eq!(raised("50%", 0, 1), "50%");
        for (replicas, percent, more) in [(7, 15, 1), (10, 25, 2), (3, 1, 1), (200, 33, 4)] {
            let policy = AssumedBudgetPolicy {
                max_unavailable: IntOrPercent::Percent(percent),
                ..AssumedBudgetPolicy::default()
            };
            let before = policy.max_unavailable.resolve_up(replicas);
            let IntOrPercent::Percent(raised) = policy.raised(replicas, more) else {
                panic!("no percentage");
            };
            let least = |percent| IntOrPercent::Percent(percent).resolve_up(replicas);
            assert_eq!(least(raised), before + more);
            assert!(least(raised - 1) < before + more);
        }
    }

    #[test]
    fn times_are_from_one_second_to_a_year() {
        let read = |json: &str| serde_json::from_str::<Policy>(json);
        for (seconds, is_time) in [("0", false), ("1", true), ("31536000", true)] {
            let json = format!(r#"{{"deadlines": {{"request": {seconds}}}}}"#);
            assert_eq!(read(&json).is_ok(), is_time, "{json}");
        }
        let json = r#"{"deadlines": {"drain": 31536001}}"#;
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains("1 to 31536000 seconds"), "{error}");
        assert!(read(r#"{"rollout": {"canary-soak": 0}}"#).is_ok());
        let mut hasty = Policy::default();
        hasty.deadlines.request = Duration::from_millis(1500);
        let back = read(&serde_json::to_string(&hasty).unwrap()).unwrap();
        assert_eq!(back.deadlines.request, Duration::from_secs(2));
    }
}
