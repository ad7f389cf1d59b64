//! The planner: makes a plan by running the rollout on predicted durations.

mod bounding;
mod edited;
mod estimate;
mod findings;
mod homeless;
mod improve;
mod jobs;
mod journey;
mod lengths;
mod measured;
mod order;
mod path;
mod pins;
mod placing;
mod pools;
mod rehearsal;
mod renewed;
mod replan;
mod room;
mod scheduler;
mod simulate;
mod sorted;
mod surge;
mod targets;
mod times;
mod trace;
mod transfers;
mod what_if;

use std::collections::BTreeSet;
use std::fmt::Write;

use migrate_core::cost::{Bytes, BytesPerSecond, CostModel, Link, PhaseDurations};
use migrate_core::impossible::check_unknown;
use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::skew::PathError;
use migrate_core::{
    ClusterModel, KubeVersion, Moment, Node, Plan, PlannedMember, PlannedSlot, PlannedTask, Point,
    Policy, Target, WorkloadId,
};

use crate::intern::Interned;
use crate::machine::{Machine, Spec};
use crate::rollout::spec;
use crate::{Beliefs, Error};
use jobs::{Job, Outlook};
pub use journey::Journey;
use measured::Means;
pub(crate) use measured::millis;
pub use measured::{MEASURED_SCHEMA, Measured, MeasuredAction, MeasuredPhase, TargetKind};
pub(crate) use rehearsal::LONGEST_ACTION;
pub use rehearsal::{Difference, Timeline, rehearse};
pub use replan::{REORDER_GAIN, Replan};
use room::{Limits, Numbers};
use simulate::predicted;
pub(crate) use simulate::{Fed, Lasts, Step, play, simulate};
use targets::schedule;
pub(crate) use targets::target_of;
use times::Times;
pub use trace::Trace;
pub(crate) use transfers::{busy, takes};
pub use what_if::{Change, WhatIf};
pub(crate) use what_if::{add_replicas, no_such};

/// What the number of a slot takes of its name: five digits and the stroke.
const NUMBER: usize = 6;

/// Makes plans.
///
/// # Guarantees
/// - Deterministic: equal input gives an equal plan, to the byte of its JSON.
/// - The schedule is what [`Rollout`](crate::Rollout) does if every action
///   lasts as predicted, succeeds at the first attempt, and budgets recover to
///   what they allow while all their pods are healthy.
/// - It ends, whatever the cluster: what can never begin has no time in the
///   schedule and a blocker among the findings.
/// - Time: linear in pods and labels, near linear in nodes and in the budgets
///   they touch, and in the pods of namespaces where something may keep a drain
///   from ending.
/// - The order of the model's lists does not matter. One that is not sorted, as
///   observing a cluster leaves it, costs a copy and its sorting besides.
#[derive(Clone, Debug)]
pub struct Planner<'a> {
    model: &'a ClusterModel,
    policy: &'a Policy,
    target: KubeVersion,
    durations: PhaseDurations,
    measured: Option<Means>,
    beliefs: Option<Beliefs>,
    transfer: Option<(Bytes, BytesPerSecond)>,
    /// That nodes fetch over; their order does not matter.
    links: Vec<Link>,
    model_hash: Option<String>,
    parent: Option<&'a Plan>,
    /// Other orders to be tried.
    improvement: u32,
    /// Whose order is kept.
    order_of: Option<&'a Plan>,
    /// Whose order, canaries and pins are taken over as they are.
    exactly: Option<&'a Plan>,
    reorder_gain: u32,
    way_back: Option<&'a str>,
    /// Workers stay where they are: a hop of the control plane alone.
    leaves_workers: bool,
    /// A hop of a journey, whose way is known to be one.
    is_on_the_way: bool,
    runner_on: Option<&'a str>,
    address_on: Option<&'a str>,
    destinations: bool,
    /// Made anew with the members.
    renewed: BTreeSet<WorkloadId>,
    /// What upgrades nodes makes machines.
    replaces: bool,
}

/// A plan, and what it was made of.
#[derive(Debug)]
struct Run<'m> {
    plan: Plan,
    steps: Vec<Step>,
    /// With what findings made believe.
    interned: Interned<'m>,
}

impl<'a> Planner<'a> {
    /// A planner that takes the cluster of `model` to `target` under `policy`.
    pub fn new(model: &'a ClusterModel, policy: &'a Policy, target: KubeVersion) -> Self {
        Self {
            model,
            policy,
            target,
            durations: PhaseDurations::default(),
            measured: None,
            beliefs: None,
            transfer: None,
            links: Vec::new(),
            model_hash: None,
            parent: None,
            improvement: 0,
            order_of: None,
            exactly: None,
            reorder_gain: REORDER_GAIN,
            way_back: None,
            leaves_workers: false,
            is_on_the_way: false,
            runner_on: None,
            address_on: None,
            destinations: false,
            renewed: BTreeSet::new(),
            replaces: false,
        }
    }

    /// Takes one node back to the target, which is older than the control
    /// plane, and leaves everything else as it is: drained, changed, verified
    /// and given back as in an upgrade.
    #[must_use]
    pub fn taking_back(mut self, node: &'a str) -> Self {
        self.way_back = Some(node);
        self
    }

    /// Puts `node`, where the runner's own pod is, at the end: it begins once all
    /// other workers, or all other control-plane nodes, are done or given up, and
    /// none of them begins while it is in work. Told that the pod is elsewhere
    /// ([`Input::RunnerSeen`](crate::Input::RunnerSeen)), the rollout has that node wait instead.
    #[must_use]
    pub fn with_runner_on(mut self, node: &'a str) -> Self {
        self.runner_on = Some(node);
        self
    }

    /// Puts `member`, which holds the control plane's virtual address (kube-vip),
    /// at the end of the members, so that the address moves once; a finding of
    /// the plan says so.
    #[must_use]
    pub fn with_address_on(mut self, member: &'a str) -> Self {
        self.address_on = Some(member);
        self
    }

    /// Predicts with these durations.
    #[must_use]
    pub fn with_durations(mut self, durations: PhaseDurations) -> Self {
        self.durations = durations;
        self
    }

    /// Names the model in another way than by the hash of all that a rollout decides
    /// from, as by the hash of a document it was read from.
    #[must_use]
    pub fn with_model_hash(mut self, hash: impl Into<String>) -> Self {
        self.model_hash = Some(hash.into());
        self
    }

    /// Makes the next revision of `parent`: nodes that are [pinned](PlannedSlot::pinned)
    /// there keep their places, and stay pinned.
    #[must_use]
    pub fn replacing(mut self, parent: &'a Plan) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Makes the plan. Everything at the target gives an empty one.
    ///
    /// # Errors
    /// [`Error::Document`] for a model that a newer release took;
    /// [`Error::NoPath`] for a target that cannot be reached, as a downgrade, for a
    /// pool whose own target cannot be kept to, and for a model without a control plane;
    /// [`Error::SeveralHops`], with the way, for one that is more than one hop ahead;
    /// [`Error::NoWayBack`]; [`Error::Estimate`] for a link without throughput.
    pub fn plan(&self) -> Result<Plan, Error> {
        self.in_order(|planner, numbers| Ok(planner.run(numbers, |_, _| {})?.plan))
    }

    fn run(&self, numbers: Numbers<'a>, record: impl FnMut(Moment, Fed)) -> Result<Run<'a>, Error> {
        self.model.ensure_known()?;
        // None whose transfers would never end.
        for link in &self.links {
            link.time(0, 0)?;
        }
        let gone = path::gone_pools(self.model, self.policy, self.parent);
        match self.way_back {
            Some(node) => path::check_way_back(self.model, node, &self.target)?,
            None if self.is_on_the_way => {}
            None => path::check(self.model, self.policy, &gone, &self.target)?,
        }
        let is_way_back = self.way_back.is_some();
        let mut found =
            findings::of_preconditions(self.model, self.policy, &self.target, is_way_back);
        let Numbers {
            mut interned,
            table,
        } = numbers;
        let drains = |node: &Node| self.is_to_change(node);
        found.extend(findings::of_budgets(
            self.model,
            self.policy,
            &interned,
            drains,
        ));
        found.extend(check_unknown(self.model, self.policy, drains));
        found.extend(findings::of_gone(&gone));
        // As the model has it, before anything is believed.
        let hash = match &self.model_hash {
            Some(hash) => hash.clone(),
            None => interned.hash(self.model),
        };
        findings::believe(&found, &mut interned);
        // Later, since these name workloads, and say nothing of their budgets.
        found.extend(findings::of_consent(
            self.model,
            self.policy,
            &interned,
            drains,
        ));
        let mut jobs = self.jobs(&interned);
        let pools = self.pools(&interned);
        found.extend(self.of_surge(&pools));
        let room = self.room(table, &interned, &jobs);
        let mut rooms = Vec::new();
        if let Some(room) = &room {
            let (scarce, told) = room.scarce(&pools, self.policy);
            rooms = scarce;
            found.extend(told);
        }
        let limits = Limits {
            pools: &pools,
            rooms: &rooms,
        };
        self.sort(&mut jobs, &interned, limits)?;
        let mut plan = self.outline(&jobs, &interned, limits, hash)?;
        plan.id = plan.identity();
        let spec = self.spec(&plan, &jobs, &interned)?;
        let mut machine = Machine::new(&spec, &interned);
        let start = self.model.taken_at;
        let member_times = self.member_times();
        let task_times = self.task_times(&plan.tasks);
        let times = simulate::Alone {
            member: member_times,
            tasks: &task_times,
        };
        let lasts = predicted(&jobs, times, self.scheduler(), self.transfers());
        let steps = simulate(&mut machine, start, &interned, lasts, record);
        plan.schedule = schedule(&plan, start, &steps);
        plan.estimate = estimate::estimate(&plan, &interned, &jobs, times, self)?;
        plan.bounds = bounding::bounds(
            &plan,
            &steps,
            &jobs,
            &interned,
            self.model,
            self.policy,
            start,
            room.as_ref(),
            self.scheduler(),
            &self.links,
        );
        if let Some(room) = &room {
            found.extend(room.place(&mut plan, &jobs, &steps, self.destinations));
        }
        found.extend(findings::of_windows(
            &plan,
            self.policy,
            start,
            self.beliefs.is_some(),
        ));
        found.extend(findings::of_assumed(&interned, &jobs));
        found.extend(findings::of_address(&plan, self.address_on));
        plan.findings = findings::finish(found, self.policy);
        Ok(Run {
            plan,
            steps,
            interned,
        })
    }

    /// `plan` in ids: what [`spec`] makes of it, without looking for names.
    fn spec(&self, plan: &Plan, jobs: &[Job<'_>], interned: &Interned<'_>) -> Result<Spec, Error> {
        spec(plan, self.model, self.policy, interned, |at, _| {
            Some(jobs[at].id)
        })
    }

    /// The second backup, then addons by their points, in the order of the
    /// policy. None where nothing is upgraded.
    fn tasks(&self, plan: &Plan) -> Vec<PlannedTask> {
        if plan.is_empty() || self.way_back.is_some() {
            return Vec::new();
        }
        let has_members = !plan.control_plane.is_empty();
        let mut slots = plan.slots.iter();
        let has_workers = slots.any(|slot| slot.pool != CONTROL_PLANE_POOL);
        let comes_to = |point| match point {
            Point::BeforeControlPlane => has_members,
            Point::BeforeWorkers => has_workers,
            _ => true,
        };
        let backup = has_members && self.policy.backup.after_control_plane;
        let backup = backup.then(|| PlannedTask::new(Target::Backup, Point::AfterControlPlane));
        let addons = self.policy.addons.iter();
        let addons = addons.filter(|addon| comes_to(addon.at)).map(|addon| {
            let name = addon.name.clone();
            PlannedTask::new(Target::Addon { name }, addon.at)
        });
        let mut tasks: Vec<_> = backup.into_iter().chain(addons).collect();
        tasks.sort_by_key(|task| task.at);
        tasks
    }

    fn task_times(&self, tasks: &[PlannedTask]) -> Vec<Times> {
        let times = |task: &PlannedTask| {
            let times = Times::of_task(&self.durations, &task.target);
            match TargetKind::of(&task.target) {
                Some(kind) => self.as_measured(times, &kind),
                None => times,
            }
        };
        tasks.iter().map(times).collect()
    }

    /// The plan without its predictions and its id.
    fn outline(
        &self,
        jobs: &[Job<'_>],
        interned: &Interned<'_>,
        limits: Limits<'_>,
        model_hash: String,
    ) -> Result<Plan, Error> {
        let mut sizes = vec![0u32; limits.pools.len()];
        // Slots are numbered by name within their pool, whether or not they
        // have something to do, so that numbers stay from plan to plan.
        let mut numbers: Vec<u32> = Vec::with_capacity(self.model.nodes.len());
        for (id, _) in (0..).zip(&self.model.nodes) {
            let size = &mut sizes[interned.pools.id_of(id) as usize];
            numbers.push(*size);
            *size += 1;
        }
        let members = &self.model.control_plane;
        let from = members.iter().map(|member| &member.version).min();
        let from = from.ok_or(PathError::NoControlPlane)?;
        let slots: Vec<PlannedSlot> = jobs
            .iter()
            .map(|job| {
                let mut name = String::with_capacity(job.pool.len() + NUMBER);
                // Writing to a string cannot fail.
                let _ = write!(name, "{}/{}", job.pool, numbers[job.id as usize]);
                // A node whose upgrade has failed may still call itself older:
                // it goes back from where it was to go.
                let from = match self.way_back {
                    Some(_) => from,
                    None => &job.node.kubelet_version,
                };
                let node = &job.node.name;
                let mut slot = PlannedSlot::new(name, job.pool, node, from.clone());
                slot.canary = job.canary;
                slot.hosts_runner = self.runner_on == Some(node.as_str());
                slot.pinned = job.pinned.is_some();
                slot
            })
            .collect();
        let is_done = |version: &KubeVersion| version.has_reached(&self.target);
        let mut control_plane: Vec<PlannedMember> = members
            .iter()
            .filter(|member| !is_done(&member.version))
            .map(|member| PlannedMember::new(&member.name, member.version.clone()))
            .collect();
        // Stable: the others stay as they are.
        control_plane.sort_by_key(|member| self.address_on == Some(member.name.as_str()));
        let done_members = members
            .iter()
            .filter(|member| is_done(&member.version))
            .map(|member| {
                let member = member.name.clone();
                Target::ControlPlane { member }.to_string()
            });
        let nodes = self.model.nodes.iter();
        let done_nodes = nodes.filter(|node| !self.is_behind(node));
        let at_target: Vec<String> = done_members
            .chain(done_nodes.map(|node| node.name.clone()))
            .collect();
        let cluster = self.model.cluster.clone();
        // The estimate comes last: nothing is predicted before the order is.
        let estimate = CostModel::default().estimate()?;
        let mut plan = Plan::new(cluster, from.clone(), self.target.clone(), estimate);
        plan.parent = self.parent.map(|parent| parent.id.clone());
        plan.revision = self
            .parent
            .map_or(1, |parent| parent.revision.saturating_add(1));
        plan.policy_hash = self.policy.identity();
        plan.model_hash = model_hash;
        plan.pools = limits.pools.to_vec();
        plan.rooms = limits.rooms.to_vec();
        plan.control_plane = control_plane;
        plan.slots = slots;
        plan.tasks = self.tasks(&plan);
        if !self.policy.rollout.calendar().is_always_open() {
            self.set_lengths(&mut plan, jobs);
        }
        plan.at_target = at_target;
        Ok(plan)
    }
}
