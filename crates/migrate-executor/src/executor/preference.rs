//! Where displaced pods should go: rather to nodes that are not drained any more.

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Finding, Moment, ObjectName, Phase, Severity, StepError, Target};

use super::Executor;
use super::tries::Tries;

/// Whether the scheduler has been told. Every runner tells it once: it is of no use in a
/// journal, for telling it again changes nothing. Without it the run goes on, and pods may
/// move twice.
#[derive(Default)]
pub(super) struct Preference {
    /// Or cannot be.
    is_told: bool,
    tries: Tries,
}

impl Preference {
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.tries.wake_at()
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.tries.is_under_way()
    }

    fn is_due(&self, now: Moment) -> bool {
        !self.is_told && self.tries.is_due(now)
    }
}

impl Executor {
    /// Tells the scheduler, once a worker is drained.
    pub(super) fn act_on_preference(&mut self, now: Moment) {
        let state = &self.state;
        let is_wanted = state.policy.rollout.prefer_upgraded_nodes && !state.aborting;
        if !is_wanted || state.end.is_some() || !self.preference.is_due(now) {
            return;
        }
        let is_drain_of_worker = |target: &Target, phase: Phase| {
            let is_worker =
                matches!(target, Target::Node { pool, .. } if pool != CONTROL_PLANE_POOL);
            is_worker && phase == Phase::Drain
        };
        let mut open = state.open.values();
        if !open.any(|action| is_drain_of_worker(&action.target, action.phase)) {
            return;
        }
        let plan = &state.plan;
        let workers = plan
            .slots
            .iter()
            .filter(|slot| slot.pool != CONTROL_PLANE_POOL);
        let workers = workers.map(|slot| (slot.node.clone(), plan.to_of_pool(&slot.pool).clone()));
        self.preference.tries.begin();
        self.jobs.push(self.shop.prefer_upgraded(workers.collect()));
    }

    pub(super) fn preferred(&mut self, result: Result<(), StepError>, now: Moment) {
        let preference = &mut self.preference;
        if preference.tries.ended(&result, now + self.pace.retry) {
            return;
        }
        preference.is_told = true;
        if let Err(error) = result {
            self.noted(vec![not_told(&error)]);
        }
    }
}

fn not_told(error: &StepError) -> Finding {
    Finding::new(
        "KM-RUN-010",
        Severity::Warning,
        ObjectName::cluster("Cluster", "nodes"),
        format!("the scheduler could not be told to prefer upgraded nodes: {error}"),
        "nothing has to be done: pods that go to nodes which are still to be drained move again",
    )
}
