//! Predicted durations of the phases of a target.

use std::time::Duration;

use migrate_core::cost::PhaseDurations;
use migrate_core::{Phase, Policy, Role, Target};

use crate::forecast::Phases;
use crate::intern::NodeLoad;

/// What each phase of one target takes. Whole milliseconds, rounded up, as
/// moments are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Where its pool has surge.
    provision: Duration,
    drain: Duration,
    upgrade: Duration,
    verify: Duration,
    confirm: Duration,
    /// How long the longest of its pods keeps its budget, from eviction to the
    /// replacement being ready.
    pub(super) hold: Duration,
    /// A machine comes in its place.
    is_replaced: bool,
    /// What it fetches over links if it waits for nobody, rounded down: a part of what makes
    /// its machine, or else of its upgrade.
    fetch: Duration,
}

impl Times {
    pub(super) fn of_member(durations: &PhaseDurations, policy: &Policy) -> Self {
        let settle = durations.settle.saturating_add(change(durations, policy));
        Self {
            provision: Duration::ZERO,
            drain: Duration::ZERO,
            upgrade: whole_millis(durations.control_plane_member),
            verify: whole_millis(durations.verify.saturating_add(settle)),
            confirm: Duration::ZERO,
            hold: Duration::ZERO,
            is_replaced: false,
            fetch: Duration::ZERO,
        }
    }

    pub(super) fn of_task(durations: &PhaseDurations, target: &Target) -> Self {
        let (upgrade, verify) = match target {
            Target::Backup => (durations.backup, Duration::ZERO),
            _ => (durations.addon, durations.verify),
        };
        Self {
            provision: Duration::ZERO,
            drain: Duration::ZERO,
            upgrade: whole_millis(upgrade),
            verify: whole_millis(verify),
            confirm: Duration::ZERO,
            hold: Duration::ZERO,
            is_replaced: false,
            fetch: Duration::ZERO,
        }
    }

    /// A drain lasts until the last replacement is ready. Pods go side by
    /// side, except those of one budget that allows fewer at once than the
    /// node has: they take turns. A node without pods to move is cordoned and
    /// looked at, no more.
    pub(super) fn of_node(
        durations: &PhaseDurations,
        policy: &Policy,
        load: Option<NodeLoad>,
        turns: u32,
        role: Role,
    ) -> Self {
        let (hold, moving) = match load {
            Some(load) => {
                let grace = Duration::from_secs(load.grace_seconds.into());
                let hold = whole_millis(durations.budget_hold(grace, load.volumes));
                let wait = durations.drain_per_pod_wait;
                (hold, wait.saturating_add(hold.saturating_mul(turns)))
            }
            None => (Duration::ZERO, Duration::ZERO),
        };
        // A new kubelet starts its static pods again.
        let (static_pods, settle) = match role {
            Role::ControlPlane => {
                let settle = durations.settle_again;
                let settle = settle.saturating_add(change(durations, policy));
                (durations.static_pods, settle)
            }
            _ => (Duration::ZERO, Duration::ZERO),
        };
        let ready = durations.node_ready.saturating_add(static_pods);
        let upgrade = [durations.upgrade_node, durations.boot, ready];
        let look = durations.verify.saturating_add(trial(durations, policy));
        let verify = [look, settle, durations.soak];
        Self {
            provision: Duration::ZERO,
            drain: whole_millis(durations.cordon.saturating_add(moving)),
            upgrade: whole_millis(sum(upgrade)),
            verify: whole_millis(sum(verify)),
            confirm: whole_millis(durations.verify),
            hold,
            is_replaced: false,
            fetch: Duration::ZERO,
        }
    }

    /// The same of a node whose machine is replaced: the new one is made, and the old one
    /// taken away, in whichever order.
    pub(super) fn replacing(mut self, durations: &PhaseDurations) -> Self {
        let provision = durations.provision.saturating_add(durations.node_ready);
        self.provision = whole_millis(provision);
        self.upgrade = whole_millis(durations.remove);
        self.is_replaced = true;
        self
    }

    /// The same of a node that fetches for so long over links, as a part of what it is
    /// predicted to take from then on.
    pub(super) fn fetching(mut self, fetch: Duration) -> Self {
        self.fetch = fetch;
        let fetching = match self.is_replaced {
            true => &mut self.provision,
            false => &mut self.upgrade,
        };
        *fetching = fetching.saturating_add(fetch);
        self
    }

    /// The same of a node whose pods fetch for so long over links where they go: whatever was
    /// measured of others, its drain is no shorter.
    pub(super) fn pulling(mut self, pulls: Duration) -> Self {
        self.drain = self.drain.max(pulls);
        self
    }

    /// Whether it fetches in `phase`, which takes so long: then what that takes besides.
    pub(super) fn besides_fetching(&self, phase: Phase, length: Duration) -> Option<Duration> {
        let fetches = match phase {
            Phase::Provision => self.is_replaced,
            Phase::Upgrade => true,
            _ => false,
        };
        fetches.then(|| length.saturating_sub(self.fetch))
    }

    /// With what was measured in the place of what is predicted, but for the
    /// drain of a node, which depends on its pods. What was measured of machines that
    /// were changed in place says nothing of those that are replaced. It has in it what was
    /// fetched meanwhile, and is no shorter than that.
    pub(super) fn measured(mut self, mean: impl Fn(Phase) -> Option<Duration>) -> Self {
        let provision = mean(Phase::Provision);
        if self.provision.is_zero() || provision.is_some() {
            let upgrade = mean(Phase::Upgrade).or_else(|| mean(Phase::BackUp));
            let least = match self.is_replaced {
                true => Duration::ZERO,
                false => self.fetch,
            };
            self.upgrade = upgrade.unwrap_or(self.upgrade).max(least);
        }
        if !self.provision.is_zero() {
            let least = self.fetch;
            self.provision = provision.unwrap_or(self.provision).max(least);
        }
        self.verify = mean(Phase::Verify).unwrap_or(self.verify);
        self.confirm = mean(Phase::Confirm).unwrap_or(self.confirm);
        self
    }

    /// Lengthens or shortens the drain as `total` of all drains of a pool is to
    /// `predicted`; each is `mean` where nothing was predicted.
    pub(super) fn scale_drain(&mut self, total: Duration, predicted: Duration, mean: Duration) {
        self.drain = scaled(self.drain, total, predicted).unwrap_or(mean);
        self.hold = scaled(self.hold, total, predicted).unwrap_or(self.hold);
    }

    pub(super) fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Provision => self.provision,
            Phase::Drain => self.drain,
            Phase::Upgrade | Phase::BackUp => self.upgrade,
            Phase::Confirm => self.confirm,
            _ => self.verify,
        }
    }

    /// The upgrade of a node that was not behind a replacement: where its pool has surge,
    /// its machine is made anew then.
    pub(super) fn whole_upgrade(&self) -> Duration {
        self.provision.saturating_add(self.upgrade)
    }

    /// What follows its drain, and is not shorter behind a replacement.
    pub(super) fn after_drain(&self) -> Duration {
        self.upgrade.saturating_add(self.verify)
    }

    /// What it has before it when it asks for what it fetches: nothing where a machine may be made first.
    pub(super) fn before_fetch(&self) -> Duration {
        match self.is_replaced {
            true => Duration::ZERO,
            false => self.drain,
        }
    }

    /// What follows what it fetches, whichever way it goes.
    pub(super) fn after_fetch(&self) -> Duration {
        match self.is_replaced {
            true => self.after_drain(),
            false => self.after_drain().saturating_sub(self.fetch),
        }
    }

    /// The phases that follow each other without a break: all but that of a canary alone.
    /// What is done for a replacement is a part of the change.
    pub(super) fn phases(&self) -> Phases {
        [self.drain, self.whole_upgrade(), self.verify]
    }

    /// All of them together.
    pub(super) fn total(&self) -> Duration {
        sum(self.phases())
    }
}

/// A look at what agents have to see, where the policy has that.
fn change(durations: &PhaseDurations, policy: &Policy) -> Duration {
    match policy.canary_change {
        Some(_) => durations.change,
        None => Duration::ZERO,
    }
}

/// A trial of a node, where the policy has that.
fn trial(durations: &PhaseDurations, policy: &Policy) -> Duration {
    match policy.canary_pod {
        Some(_) => durations.trial,
        None => Duration::ZERO,
    }
}

/// `part` · `to` / `from`, in whole milliseconds, rounded up.
fn scaled(part: Duration, to: Duration, from: Duration) -> Option<Duration> {
    let product = part.as_millis().saturating_mul(to.as_millis());
    let millis = product.checked_add(from.as_millis().checked_sub(1)?)? / from.as_millis();
    Some(Duration::from_millis(
        u64::try_from(millis).unwrap_or(u64::MAX),
    ))
}

fn sum(parts: [Duration; 3]) -> Duration {
    parts
        .into_iter()
        .fold(Duration::ZERO, Duration::saturating_add)
}

/// Rounded up, as moments are.
pub(super) fn whole_millis(duration: Duration) -> Duration {
    let part = duration.subsec_nanos().div_ceil(1_000_000);
    let millis = duration.as_secs().saturating_mul(1000);
    Duration::from_millis(millis.saturating_add(part.into()))
}
