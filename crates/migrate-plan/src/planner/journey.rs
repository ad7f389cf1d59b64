//! Several hops: a plan for each stop of the way.

use std::time::Duration;

use migrate_core::skew::{UpgradePath, path_of_cluster};
use migrate_core::{ClusterModel, KubeVersion, Plan};

use super::Planner;
use crate::Error;

/// The whole way to a target, hop by hop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Journey {
    /// Its stops: every minor for the control plane, as few as the skew policy
    /// allows for workers.
    pub path: UpgradePath,
    /// A plan for each stop, in their order.
    pub plans: Vec<Plan>,
}

impl Journey {
    /// The predicted time of all hops, one right after the other.
    pub fn makespan(&self) -> Duration {
        let hops = self.plans.iter().map(Plan::makespan);
        hops.fold(Duration::ZERO, Duration::saturating_add)
    }
}

impl Planner<'_> {
    /// Plans the whole way to the target, however many hops it takes; none where
    /// nothing is to be done.
    ///
    /// Each hop is planned for the cluster that the one before leaves behind: at
    /// its versions and its time, with all its nodes (also those that cannot begin
    /// as things are: they are taken to be cured), uncordoned, and with its pods
    /// where they are now. A hop that leaves the workers behind has none of them.
    /// Of a minor on the way only the minor is known; the newest patch of it is
    /// meant. A hop of workers alone takes them to where the control plane is. A pool
    /// with a [target of its own](migrate_core::PoolPolicy::target_of) goes no further
    /// than that in any hop.
    ///
    /// Only the plan of a last hop, from today's cluster, is one to be run: a
    /// journey says what comes, and is planned again after each hop.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), but for [`Error::SeveralHops`].
    pub fn journey(&self) -> Result<Journey, Error> {
        self.model.ensure_known()?;
        let mut model = self.model.sorted().into_owned();
        let path = path_of_cluster(&model, &self.policy.pools, &self.target)?;
        let mut plans: Vec<Plan> = Vec::with_capacity(path.stops.len());
        for stop in &path.stops {
            let members = model.control_plane.iter().map(|member| &member.version);
            let target = if stop.minor == self.target.minor_version() {
                self.target.clone()
            } else if let (false, Some(oldest)) = (stop.control_plane, members.min()) {
                oldest.clone()
            } else {
                KubeVersion::from(stop.minor)
            };
            let mut planner: Planner<'_> = self.clone();
            planner.model = &model;
            planner.target = target;
            planner.leaves_workers = !stop.workers;
            planner.is_on_the_way = true;
            planner.parent = plans.last();
            if !plans.is_empty() {
                planner.model_hash = None;
            }
            let plan = planner.plan()?;
            arrive(&mut model, &plan);
            plans.push(plan);
        }
        Ok(Journey { path, plans })
    }
}

/// Leaves `model` as it is after `plan`.
fn arrive(model: &mut ClusterModel, plan: &Plan) {
    model.taken_at = model.taken_at + plan.makespan();
    for member in &mut model.control_plane {
        if !member.version.has_reached(&plan.to) {
            member.version = plan.to.clone();
        }
    }
    let slots = plan.slots.iter();
    let mut planned: Vec<(&str, &str)> = slots
        .map(|slot| (slot.node.as_str(), slot.pool.as_str()))
        .collect();
    planned.sort_unstable();
    for node in &mut model.nodes {
        let found = planned.binary_search_by(|(name, _)| (*name).cmp(node.name.as_str()));
        if let Ok(at) = found {
            node.kubelet_version = plan.to_of_pool(planned[at].1).clone();
            node.unschedulable = false;
        }
    }
}
