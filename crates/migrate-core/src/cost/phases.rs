//! Durations of the phases of an upgrade, before any have been measured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PodsPerSecond;

/// One constant per phase. The defaults are priors, typical of a cluster of
/// virtual machines in a cloud, and meant to be replaced by measurements; a
/// node with the defaults takes a little under five minutes, which is what
/// managed services report for an undisturbed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct PhaseDurations {
    /// Marking the node unschedulable and seeing it: all that the drain of a node takes
    /// which has no pods to move. Default 1 s.
    pub cordon: Duration,
    /// What a pod waits for its eviction to be allowed when nobody else uses
    /// its budget: one retry. Default 5 s. Waiting for *other* pods of the
    /// budget is not in here, it follows from the schedule.
    pub drain_per_pod_wait: Duration,
    /// From the accepted eviction until the pod is gone, if its grace period
    /// allows that long. Default 30 s, the grace period Kubernetes gives when
    /// none is named.
    pub stop: Duration,
    /// Scheduling one pod. Default 6.25 ms, 160 pods per second: what the
    /// scheduler does at 5,000 nodes with its default spreading. Pods of all drains
    /// are scheduled one after the other. Zero: nothing waits for that.
    pub schedule: Duration,
    /// Fetching the images a node does not have. Default 30 s, some 400 MB at
    /// 100 Mbit/s.
    pub pull: Duration,
    /// Detaching a network volume and attaching it elsewhere; only for pods
    /// that have one. Default 60 s.
    pub volume_move: Duration,
    /// Starting the containers of a scheduled pod. Default 5 s, the start-up
    /// objective of Kubernetes without image pull.
    pub start: Duration,
    /// From started to ready. Default 10 s, one readiness probe at its default
    /// period.
    pub readiness: Duration,
    /// Changing the software of a drained node, or replacing its machine.
    /// Default 120 s.
    pub upgrade_node: Duration,
    /// The reboot. Default 90 s; zero if nodes do not reboot, some 15 minutes
    /// on bare metal.
    pub boot: Duration,
    /// From the kubelet starting until the node is ready. Default 30 s.
    pub node_ready: Duration,
    /// From asking for a machine that comes in place of a node until its kubelet starts:
    /// where the pool has [surge](crate::PoolPolicy::max_surge). Default 120 s, what the
    /// scaling groups of clouds take; those that make single machines take 30 s.
    pub provision: Duration,
    /// Taking away a machine that has its replacement. Default 60 s, what a managed
    /// service waits after the last eviction.
    pub remove: Duration,
    /// One control-plane member, with its components. Default 5 min.
    pub control_plane_member: Duration,
    /// Waiting for the cluster to settle after each member was away. Default 0,
    /// for members that are replaced behind a load balancer.
    pub settle: Duration,
    /// From the new kubelet of a control-plane node until the static pods there,
    /// which it has ended, are at rest: a part of the node's upgrade. Default 0.
    pub static_pods: Duration,
    /// Waiting for the cluster to settle after that. Default 0.
    pub settle_again: Duration,
    /// One look at the canary change, after each of the two; counts only where a
    /// [policy](crate::Policy::canary_change) has one. Default 6 s: no look takes less
    /// than 5 s, and on real nodes one took 5.4 s.
    pub change: Duration,
    /// Trying a node out by a pod before it is given back; counts only where a
    /// [policy](crate::Policy::canary_pod) has one. Default 3 s: on real nodes, with the
    /// image there, 2 to 3 s.
    pub trial: Duration,
    /// Checking a node, or the whole cluster at the end. Default 60 s, two
    /// looks half a minute apart.
    pub verify: Duration,
    /// Waiting after a node has been verified, in case trouble shows late.
    /// Default 0.
    pub soak: Duration,
    /// Upgrading one addon, without its [`verify`](Self::verify). Default 60 s.
    pub addon: Duration,
    /// Backing up the data once more. Default 30 s.
    pub backup: Duration,
}

impl Default for PhaseDurations {
    fn default() -> Self {
        Self {
            cordon: Duration::from_secs(1),
            drain_per_pod_wait: Duration::from_secs(5),
            stop: Duration::from_secs(30),
            schedule: Duration::from_micros(6250),
            pull: Duration::from_secs(30),
            volume_move: Duration::from_secs(60),
            start: Duration::from_secs(5),
            readiness: Duration::from_secs(10),
            upgrade_node: Duration::from_secs(120),
            boot: Duration::from_secs(90),
            node_ready: Duration::from_secs(30),
            provision: Duration::from_secs(120),
            remove: Duration::from_secs(60),
            control_plane_member: Duration::from_secs(300),
            settle: Duration::ZERO,
            static_pods: Duration::ZERO,
            settle_again: Duration::ZERO,
            change: Duration::from_secs(6),
            trial: Duration::from_secs(3),
            verify: Duration::from_secs(60),
            soak: Duration::ZERO,
            addon: Duration::from_secs(60),
            backup: Duration::from_secs(30),
        }
    }
}

impl PhaseDurations {
    /// What the scheduler does at this [`schedule`](Self::schedule), in whole pods per
    /// second and at least one; `None` where that takes no time, so that nothing limits it.
    pub fn scheduler_rate(&self) -> Option<PodsPerSecond> {
        let second = Duration::from_secs(1).as_nanos();
        let rate = second.checked_div(self.schedule.as_nanos())?.max(1);
        Some(PodsPerSecond(u32::try_from(rate).unwrap_or(u32::MAX)))
    }

    /// Of a kubeadm cluster that is changed in place: packages, static pods and
    /// kubelets, without a reboot. Measured in an upgrade of one control-plane
    /// and two worker nodes from 1.36 to 1.37 on two cores, with images on every
    /// node beforehand: set [`pull`](Self::pull) where pods have to fetch theirs,
    /// [`boot`](Self::boot) where nodes reboot, [`volume_move`](Self::volume_move)
    /// where volumes come over the network.
    pub fn kubeadm() -> Self {
        Self {
            cordon: Duration::from_secs(2),
            drain_per_pod_wait: Duration::from_secs(1),
            stop: Duration::from_secs(7),
            pull: Duration::ZERO,
            volume_move: Duration::ZERO,
            start: Duration::from_secs(2),
            readiness: Duration::from_secs(11),
            upgrade_node: Duration::from_secs(6),
            boot: Duration::ZERO,
            node_ready: Duration::from_secs(2),
            control_plane_member: Duration::from_secs(170),
            settle: Duration::from_secs(22),
            static_pods: Duration::from_secs(18),
            settle_again: Duration::from_secs(54),
            verify: Duration::from_secs(6),
            ..Self::default()
        }
    }

    /// From asking for the eviction of a pod with this grace period until it
    /// is gone. The drain of a node lasts as long as its slowest pod.
    pub fn drain(&self, grace: Duration) -> Duration {
        sum([self.drain_per_pod_wait, self.stop.min(grace)])
    }

    /// From the accepted eviction of a pod until its replacement is ready:
    /// how long it holds its disruption budget, *h* in the
    /// [model](crate::cost).
    pub fn budget_hold(&self, grace: Duration, moves_volume: bool) -> Duration {
        let volume = self.volume_of(moves_volume);
        let stop = self.stop.min(grace);
        sum([
            stop,
            self.schedule,
            self.pull,
            volume,
            self.start,
            self.readiness,
        ])
    }

    /// One worker from cordon to uncordon, given the drain of its slowest pod: *d*
    /// in the [model](crate::cost).
    pub fn node(&self, drain: Duration, moves_volume: bool) -> Duration {
        let volume = self.volume_of(moves_volume);
        let work = sum([self.cordon, drain, volume, self.upgrade_node, self.boot]);
        sum([work, self.node_ready, self.verify, self.soak])
    }

    const fn volume_of(&self, moves_volume: bool) -> Duration {
        if moves_volume {
            self.volume_move
        } else {
            Duration::ZERO
        }
    }
}

fn sum<const N: usize>(phases: [Duration; N]) -> Duration {
    phases
        .into_iter()
        .fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up() {
        let phases = PhaseDurations::default();
        let grace = Duration::from_secs(10);
        assert_eq!(phases.drain(grace), Duration::from_secs(15));
        assert_eq!(phases.drain(Duration::MAX), Duration::from_secs(35));
        assert_eq!(
            phases.budget_hold(grace, true),
            Duration::from_micros(115_006_250)
        );
        assert_eq!(
            phases.node(phases.drain(grace), false),
            Duration::from_secs(1 + 15 + 120 + 90 + 30 + 60)
        );
        let rate = PodsPerSecond(160);
        assert_eq!(phases.schedule * rate.0, Duration::from_secs(1));
        let rate_of = |schedule: Duration| {
            let phases = PhaseDurations {
                schedule,
                ..phases.clone()
            };
            phases.scheduler_rate()
        };
        assert_eq!(rate_of(phases.schedule), Some(rate));
        assert_eq!(rate_of(Duration::from_millis(2)), Some(PodsPerSecond(500)));
        assert_eq!(rate_of(Duration::MAX), Some(PodsPerSecond(1)));
        assert_eq!(rate_of(Duration::ZERO), None);
    }

    #[test]
    fn what_is_not_named_keeps_its_default() {
        let phases: PhaseDurations =
            serde_json::from_str(r#"{"boot":{"secs":0,"nanos":0}}"#).unwrap();
        assert_eq!(
            phases,
            PhaseDurations {
                boot: Duration::ZERO,
                ..PhaseDurations::default()
            }
        );
    }
}
