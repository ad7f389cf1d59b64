//! Impossibility checks: what the model alone proves before the first cordon.
//!
//! A drain that can never end is found here and not in the middle of an
//! upgrade: budgets that no pod can ever leave, budgets that no pod can leave
//! as long as the application is as it is, and pods that need a person's word
//! before they may be moved.
//!
//! # Guarantees
//! A blocker about a budget is a proof: with the pods' health as it is, the
//! drain of some node does not end. Without one (and with consent where it is
//! asked for) every budget lets all its pods go, one after the other.
//!
//! # Caveats
//! A sick pod is taken to stay sick, and its replacement to be just as sick.
//! Capacity is not judged here.

mod budgets;
mod cure;
mod movers;
mod pods;

use crate::{ClusterModel, Finding, Node, Policy};
use movers::Movers;

/// Codes of the findings of this module.
pub mod codes {
    /// `maxUnavailable` is 0 or 0%.
    pub const NOTHING_UNAVAILABLE: &str = "KM-PDB-001";
    /// `minAvailable` asks for every pod there can be.
    pub const ALL_AVAILABLE: &str = "KM-PDB-002";
    /// Two budgets guard one pod.
    pub const TWO_BUDGETS: &str = "KM-PDB-003";
    /// The disruption controller cannot work the budget out.
    pub const SYNC_FAILED: &str = "KM-PDB-004";
    /// Neither `minAvailable` nor `maxUnavailable` is set.
    pub const NO_LIMIT: &str = "KM-PDB-005";
    /// Too few healthy pods for any disruption now.
    pub const EXHAUSTED: &str = "KM-PDB-006";
    /// The budget's status is behind its spec.
    pub const NOT_OBSERVED: &str = "KM-PDB-007";
    /// The selector matches only a part of a workload's pods.
    pub const PARTIAL_SELECTOR: &str = "KM-PDB-008";
    /// The policy's assumed budgets allow nothing.
    pub const ASSUMED_NOTHING: &str = "KM-BUDGET-001";
    /// Too few healthy pods for the assumed budget now.
    pub const ASSUMED_EXHAUSTED: &str = "KM-BUDGET-002";
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
}

/// What makes an upgrade of every node of `model` impossible, or hurt.
///
/// The model must be [sorted](ClusterModel::sort). Cost: linear in pods and
/// nodes, times the budgets of a pod's namespace; for pods with anti-affinity
/// times the nodes and the pods of their namespace.
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
    let movers = Movers::of(model, policy, drains);
    let mut findings = budgets::check(model, policy, &movers);
    findings.extend(pods::check(model, &movers));
    findings.sort_by(|a, b| (&a.code, &a.object).cmp(&(&b.code, &b.object)));
    findings
}

/// `a, b and 3 more`: enough names to look at, however many there are.
fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let mut all = all.into_iter();
    let shown: Vec<&str> = all.by_ref().take(SHOWN).collect();
    match all.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
