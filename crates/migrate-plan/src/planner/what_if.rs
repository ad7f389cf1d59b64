//! What a change would do: the same planner, run once more.

use std::time::Duration;

use migrate_core::cost::{BytesPerSecond, Link};
use migrate_core::{BudgetKey, BudgetKind, ClusterModel, IntOrPercent, Plan, Policy, WorkloadId};

use super::Planner;
use crate::Error;

/// Something that could be changed before the start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// So many nodes of a pool may be away at once.
    Width {
        /// The pool.
        pool: String,
        /// How many.
        width: u32,
    },
    /// A workload has more replicas, ready and on nodes with nothing before
    /// them; what a budget makes of it follows from its spec.
    Replicas {
        /// The budget that counts them, real or assumed.
        budget: BudgetKey,
        /// How many more.
        more: u32,
    },
    /// Policy lets so many pods of each [assumed](BudgetKind::Assumed) budget be away at once
    /// (`assumed-budgets.max-unavailable`); of one of them, what one pod more takes is
    /// [`AssumedBudgetPolicy::raised`](migrate_core::AssumedBudgetPolicy::raised).
    Assumed {
        /// How many, of every workload without a budget of its own.
        max_unavailable: IntOrPercent,
    },
    /// A link that the planner [has](Planner::with_link) carries more, or less.
    Link {
        /// Its name.
        name: String,
        /// What it carries then.
        throughput: BytesPerSecond,
    },
    /// Another policy.
    Policy(Box<Policy>),
    /// Another cluster: more nodes, fewer pods, other budgets.
    Model(Box<ClusterModel>),
}

/// What a change would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WhatIf {
    /// The plan with the change. It fits the changed cluster and policy alone,
    /// so it is there to be looked at.
    pub plan: Plan,
    /// How long the rollout is predicted to take without the change.
    pub before: Duration,
    /// And with it.
    pub after: Duration,
}

impl Planner<'_> {
    /// Plans as things are, and once more with `change`. Costs two plans, and a
    /// copy of the model where that changes.
    ///
    /// # Errors
    /// [`Error::NoSuchThing`] for a pool, a budget or a link that is not there; else as
    /// [`plan`](Self::plan), for the cluster as it is or changed.
    pub fn what_if(&self, change: &Change) -> Result<WhatIf, Error> {
        self.what_if_beside(&self.plan()?, change)
    }

    /// The same beside `plan`, which this planner has made of things as they are: for who
    /// has it, and for who asks more than once. Costs one plan, and a copy of the model
    /// where that changes.
    ///
    /// # Errors
    /// As [`what_if`](Self::what_if), for the cluster changed.
    pub fn what_if_beside(&self, plan: &Plan, change: &Change) -> Result<WhatIf, Error> {
        let before = plan.makespan();
        let plan = match change {
            Change::Width { pool, width } => {
                let mut nodes = self.model.nodes.iter();
                if !nodes.any(|node| self.policy.pools.pool_of(node) == pool) {
                    return Err(no_such(format!("pool {pool}")));
                }
                let mut policy = self.policy.clone();
                let widths = &mut policy.pools.max_unavailable_of;
                widths.insert(pool.clone(), IntOrPercent::Int(*width));
                self.under(self.model, &policy)
            }
            Change::Replicas { budget, more } => {
                let mut model = self.model.clone();
                add_replicas(&mut model, budget, *more)?;
                self.under(&model, self.policy)
            }
            Change::Assumed { max_unavailable } => {
                let mut policy = self.policy.clone();
                policy.assumed_budgets.max_unavailable = *max_unavailable;
                self.under(self.model, &policy)
            }
            Change::Link { name, throughput } => {
                let is_it = |link: &&Link| link.name == *name;
                let link = self.links.iter().find(is_it);
                let link = link.ok_or_else(|| no_such(format!("link {name}")))?;
                let link = link.clone().with_throughput(*throughput);
                self.clone().with_link(link).plan()
            }
            Change::Policy(policy) => self.under(self.model, policy),
            Change::Model(model) => self.under(model, self.policy),
        }?;
        Ok(WhatIf {
            after: plan.makespan(),
            plan,
            before,
        })
    }

    fn under<'b>(&'b self, model: &'b ClusterModel, policy: &'b Policy) -> Result<Plan, Error> {
        let mut planner: Planner<'b> = self.clone();
        planner.model = model;
        planner.policy = policy;
        planner.plan()
    }
}

/// Adds `more` ready replicas to what `budget` counts.
pub(crate) fn add_replicas(
    model: &mut ClusterModel,
    budget: &BudgetKey,
    more: u32,
) -> Result<(), Error> {
    let unknown = || no_such(format!("budget {budget}"));
    if budget.kind == BudgetKind::Assumed {
        let is_it = |id: &WorkloadId| BudgetKey::assumed(id) == *budget;
        let mut workloads = model.workloads.iter_mut();
        let workload = workloads.find(|workload| is_it(&workload.id));
        let workload = workload.ok_or_else(unknown)?;
        workload.replicas = workload.replicas.saturating_add(more);
        workload.ready = workload.ready.saturating_add(more);
        return Ok(());
    }
    let mut budgets = model.budgets.iter_mut();
    let is_it = |name: &str, namespace: &str| BudgetKey::real(namespace, name) == *budget;
    let budget = budgets.find(|known| is_it(&known.name, &known.namespace));
    let budget = budget.ok_or_else(unknown)?;
    let more = i32::try_from(more).unwrap_or(i32::MAX);
    let expected = budget.status.expected_pods.saturating_add(more);
    let desired = budget.desired_healthy(u32::try_from(expected).unwrap_or(0));
    let status = &mut budget.status;
    status.expected_pods = expected;
    status.current_healthy = status.current_healthy.saturating_add(more);
    status.desired_healthy = i32::try_from(desired).unwrap_or(i32::MAX);
    let allowed = status
        .current_healthy
        .saturating_sub(status.desired_healthy);
    status.disruptions_allowed = allowed.max(0);
    Ok(())
}

pub(crate) fn no_such(what: String) -> Error {
    Error::NoSuchThing { what }
}
