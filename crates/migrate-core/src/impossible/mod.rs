//! Impossibility checks: what the model alone proves before the first cordon.
//!
//! A drain that can never end is found here and not in the middle of an
//! upgrade: budgets that no pod can ever leave, budgets that no pod can leave
//! as long as the application is as it is, pods that need a person's word
//! before they may be moved, and pods that a verification may not live to see
//! available.
//!
//! # Guarantees
//! A blocker about a budget is a proof: with the pods' health as it is, the
//! drain of some node does not end. Without one (and with consent where it is
//! asked for) every budget lets all its pods go, one after the other.
//!
//! # Caveats
//! A sick pod is taken to stay sick, and its replacement to be just as sick.
//! Capacity is not judged here.

mod available;
mod budgets;
mod cure;
mod movers;
mod pods;
mod unknown;

pub use unknown::check_unknown;

use crate::{ClusterModel, Finding, Node, Policy, listed};
use movers::Movers;

/// Codes of the findings of this module.
pub mod codes {
    /// A budget that can never let a pod go.
    pub const BUDGET_NEVER: &str = "KM-PDB-001";
    /// Two budgets guard one pod.
    pub const TWO_BUDGETS: &str = "KM-PDB-002";
    /// A budget that lets no pod go as things are.
    pub const BUDGET_NOT_NOW: &str = "KM-PDB-003";
    /// A budget whose status is behind its spec.
    pub const BUDGET_NOT_OBSERVED: &str = "KM-PDB-004";
    /// A budget that lets fewer pods be down than only one node can host.
    pub const BUDGET_TIED: &str = "KM-PDB-005";
    /// The policy's assumed budgets can never let a pod go.
    pub const ASSUMED_NEVER: &str = "KM-BUDGET-001";
    /// An assumed budget that lets no pod go as things are.
    pub const ASSUMED_NOT_NOW: &str = "KM-BUDGET-003";
    /// An assumed budget that lets fewer pods be down than only one node can host.
    pub const ASSUMED_TIED: &str = "KM-BUDGET-004";
    /// A pod without a controller would be lost.
    pub const BARE: &str = "KM-POD-001";
    /// `emptyDir` data would be lost.
    pub const EMPTY_DIR: &str = "KM-POD-002";
    /// A pod that only its node can host would be down.
    pub const ONLY_HOST: &str = "KM-POD-003";
    /// The drain waits until a Job has ended.
    pub const JOB: &str = "KM-POD-004";
    /// The only replica is moved.
    pub const SINGLE_REPLICA: &str = "KM-POD-005";
    /// What a controller wants is not known: its pods are counted.
    pub const COUNTED: &str = "KM-POD-006";
    /// Nobody waits for what a controller that is not known makes of a pod.
    pub const NOT_KEPT: &str = "KM-POD-007";
    /// Pods are available too late for a verification.
    pub const LATE: &str = "KM-POD-008";
    /// A pod asks not to be disrupted.
    pub const DO_NOT_DISRUPT: &str = "KM-POD-009";
}

/// What makes an upgrade of every node of `model` impossible, or hurt.
///
/// The model must be [sorted](ClusterModel::sort). Cost: what
/// [`BudgetLedger`](crate::BudgetLedger) and [`Hosts`](crate::Hosts) cost,
/// asked once for each pod.
pub fn check(model: &ClusterModel, policy: &Policy) -> Vec<Finding> {
    check_nodes(model, policy, |_| true)
}

/// The same for the nodes that `drains` names only: those at the target
/// already keep their pods.
pub fn check_nodes(
    model: &ClusterModel,
    policy: &Policy,
    drains: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let movers = Movers::of(model, policy, &drains, |_| true);
    let mut findings = budgets::check(model, policy, &movers, |_| true);
    findings.extend(available::check(model, policy, drains));
    findings.extend(pods::check(model, policy, &movers));
    findings.extend(unknown::check(model, policy, &movers));
    sorted(findings)
}

/// What [`check_nodes`] finds about the budgets, real and assumed, of the
/// namespaces that `concerns` names: the `KM-PDB` and `KM-BUDGET` codes. For
/// who knows in which namespaces something may keep a drain from ending.
pub fn check_budgets(
    model: &ClusterModel,
    policy: &Policy,
    drains: impl Fn(&Node) -> bool,
    concerns: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let movers = Movers::of(model, policy, drains, &concerns);
    sorted(budgets::check(model, policy, &movers, concerns))
}

/// What [`check_nodes`] finds of pods that a person has to agree to before they may be moved,
/// whatever nodes could host them, and has not: blockers with the codes [`BARE`](codes::BARE),
/// [`DO_NOT_DISRUPT`](codes::DO_NOT_DISRUPT) and [`EMPTY_DIR`](codes::EMPTY_DIR). A drain of such
/// a node does not end. Linear in pods.
pub fn check_consent(
    model: &ClusterModel,
    policy: &Policy,
    drains: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let movers = Movers::of(model, policy, drains, |_| true);
    sorted(pods::check_consent(policy, &movers))
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (&a.code, &a.object).cmp(&(&b.code, &b.object)));
    findings
}

/// Enough names to look at, however many there are.
pub(crate) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    listed(all, 3)
}

pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
