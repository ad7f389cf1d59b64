//! What a change would do to a rollout that runs: its clones, run ahead with it and
//! without.

use migrate_core::cost::Draws;
use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{BudgetKey, IntOrPercent, Moment};

use super::{Forecast, Forecaster};
use crate::intern::Interned;
use crate::machine::Machine;
use crate::planner::{add_replicas, no_such};
use crate::{Change, Error, Planner, Rollout};

/// When a rollout ends as things are, and when with a change from now on.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a what-if has no effect"]
#[non_exhaustive]
pub struct LiveWhatIf {
    /// Without it: what [`Forecaster::at`] says.
    pub before: Forecast,
    /// With it, by the same draws.
    pub after: Forecast,
}

impl Forecaster<'_> {
    /// The forecast at `now` from where `rollout` stands, and that of a clone of it with
    /// `change`; nothing is changed there.
    ///
    /// What can be changed is what the rollout decides by: the width of a pool, and what a
    /// budget allows, as more replicas make it. A wider pool has to have the room for it
    /// that the cluster had when the plan was made, which costs a plan; more replicas a
    /// copy of the model.
    ///
    /// # Errors
    /// [`Error::NotLive`] for a change that no rollout can be told: a link, whose queue is
    /// in the durations of the plan; another policy or cluster; a wider pool where there is
    /// no room for it, or whose nodes go one by one. [`Error::NoSuchThing`] for a pool or a
    /// budget that is not there.
    pub fn what_if(
        &self,
        now: Moment,
        rollout: &Rollout,
        change: &Change,
        draws: &Draws,
        runs: u32,
    ) -> Result<LiveWhatIf, Error> {
        let live = self.live(now, rollout);
        let mut changed = live.clone();
        match change {
            Change::Width { pool, width } => self.set_width(&mut changed, pool, *width)?,
            Change::Replicas { budget, more } => self.allow(&mut changed, budget, *more)?,
            Change::Link { name, .. } => {
                let reason = "what its upgrades wait for each other there is in their durations";
                return Err(not_live(format!("link {name}"), reason));
            }
            Change::Policy(_) | Change::Assumed { .. } => {
                return Err(not_live("the policy".to_owned(), DECIDED));
            }
            Change::Model(_) => return Err(not_live("the cluster".to_owned(), DECIDED)),
        }
        // Decided with the change: it runs, as what was decided before.
        while changed.pop().is_some() {}
        Ok(LiveWhatIf {
            before: self.ahead(now, &live, draws, runs),
            after: self.ahead(now, &changed, draws, runs),
        })
    }

    fn set_width(&self, machine: &mut Machine, name: &str, width: u32) -> Result<(), Error> {
        let mut pools = (0..).zip(&self.plan.pools);
        let (id, pool) = pools
            .find(|(_, pool)| pool.name == name)
            .ok_or_else(|| no_such(format!("pool {name}")))?;
        let what = || format!("pool {name}");
        if name == CONTROL_PLANE_POOL && self.policy.rollout.control_plane_nodes_first {
            return Err(not_live(what(), "its nodes go one by one"));
        }
        if width > pool.width {
            let mut policy = self.policy.clone();
            let widths = &mut policy.pools.max_unavailable_of;
            widths.insert(name.to_owned(), IntOrPercent::Int(width));
            let plan = Planner::new(self.model, &policy, self.plan.to.clone()).plan()?;
            // What there is to spare, no rollout can be told that goes by another plan.
            if plan.rooms != self.plan.rooms {
                let reason =
                    "there may be too little room for that, which the plan knows nothing of";
                return Err(not_live(what(), reason));
            }
        }
        machine.set_width(id, width);
        Ok(())
    }

    fn allow(&self, machine: &mut Machine, key: &BudgetKey, more: u32) -> Result<(), Error> {
        let mut model = self.model.clone();
        add_replicas(&mut model, key, more)?;
        let changed = Interned::new(&model, self.policy);
        let steady = |of: &Interned<'_>| {
            let mut budgets = (0..).zip(&of.budgets);
            let found = budgets.find(|(_, budget)| budget.source.key() == *key);
            found.map(|(id, budget)| (id, budget.steady))
        };
        let unknown = || no_such(format!("budget {key}"));
        let (id, before) = steady(&self.budgets).ok_or_else(unknown)?;
        let (_, after) = steady(&changed).ok_or_else(unknown)?;
        let allowed = machine.allowed(id);
        let allowed = allowed.saturating_add(after.saturating_sub(before));
        machine.budget_seen(id, allowed);
        Ok(())
    }
}

/// Why another policy or cluster is nothing for a rollout.
const DECIDED: &str = "the plan was made for it";

fn not_live(what: String, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    Error::NotLive { what, reason }
}
