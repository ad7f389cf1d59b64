//! What has to be left of a window for a target to begin in it.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{Phase, Plan, PlannedTask, Point};

use super::{Job, Planner};
use crate::forecast::{Needs, Phases, zones};
use crate::{Beliefs, TargetKind};

impl Planner<'_> {
    /// Where policy has windows or blackouts, lets a target begin only if P95 of what it takes
    /// is left, as `beliefs` have it, instead of what is predicted for it (never less than
    /// that); for members, and for tasks before them, P95 of all that are left of these.
    ///
    /// The schedule stays one of predictions: in it a target may wait for the next window that
    /// would end in time as predicted. With [`Beliefs::certain`], and without windows, a plan
    /// is the same as without beliefs. Give those that forecasts are made with
    /// ([`Forecaster::new`](crate::Forecaster::new)).
    #[must_use]
    pub fn with_beliefs(mut self, beliefs: &Beliefs) -> Self {
        self.beliefs = Some(beliefs.clone());
        self
    }

    /// Gives members, nodes and tasks their lengths. `jobs` are those of its slots.
    pub(super) fn set_lengths(&self, plan: &mut Plan, jobs: &[Job<'_>]) {
        let mut needs = Needs::new(self.beliefs.as_ref());
        let has_zones = self.beliefs.is_some() && !zones(self.model).is_empty();
        for (slot, job) in plan.slots.iter_mut().zip(jobs) {
            let in_zone = has_zones && job.node.zone().is_some();
            slot.length = needs.of_node(job.pool, in_zone, job.times.phases());
        }
        // Those of a pool are alike in this.
        let provisions = jobs
            .iter()
            .map(|job| (job.pool, job.times.of(Phase::Provision)));
        let provisions: BTreeMap<&str, Duration> = provisions.collect();
        for pool in &mut plan.pools {
            let provision = provisions.get(pool.name.as_str());
            pool.provision = provision.copied().unwrap_or_default();
        }
        let times = self.task_times(&plan.tasks);
        let rows = plan.tasks.iter().zip(times).map(|(task, times)| {
            let kind = TargetKind::of(&task.target).unwrap_or(TargetKind::Addons);
            (kind, times.phases())
        });
        let rows: Vec<(TargetKind, Phases)> = rows.collect();
        // What comes before the control plane begins only if all of that can follow.
        let is_before = |task: &PlannedTask| task.at == Point::BeforeControlPlane;
        let before = plan.tasks.iter().take_while(|task| is_before(task)).count();
        let (before, after) = rows.split_at(before);
        let member = (TargetKind::Members, self.member_times().phases());
        let members = plan.control_plane.iter().map(|_| member.clone());
        let all: Vec<_> = before.iter().cloned().chain(members).collect();
        let mut lengths = needs.in_a_row(&all);
        let of_members = lengths.split_off(before.len());
        lengths.extend(
            after
                .iter()
                .flat_map(|row| needs.in_a_row(std::slice::from_ref(row))),
        );
        for (task, length) in plan.tasks.iter_mut().zip(lengths) {
            task.length = length;
        }
        for (member, length) in plan.control_plane.iter_mut().zip(of_members) {
            member.length = length;
        }
    }
}
