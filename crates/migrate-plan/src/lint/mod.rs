//! The linter: a plan's schedule, judged by rules written down once more.
//!
//! It shares no code with the machine that made the schedule, nor with the
//! planner's way to match pods and budgets, so that a mistake there is seen here.

mod budgets;
mod capacity;
mod gates;
mod order;
mod pace;
mod pins;
mod skew;
mod stages;
mod structure;
mod targets;
mod timeline;
mod widths;
mod windows;

use std::fmt;
use std::time::Duration;

use migrate_core::{ClusterModel, Finding, ObjectName, Plan, Policy, Severity, Target};

use timeline::Timeline;

/// The codes of [`lint`]; what each means is in `docs/findings.md`.
mod codes {
    pub(super) const OTHER: &str = "KM-LINT-001";
    pub(super) const EDITED: &str = "KM-LINT-002";
    pub(super) const STRUCTURE: &str = "KM-LINT-003";
    pub(super) const LEFT_OUT: &str = "KM-LINT-004";
    pub(super) const PHASES: &str = "KM-LINT-005";
    pub(super) const CONTROL_PLANE: &str = "KM-LINT-006";
    pub(super) const WIDTH: &str = "KM-LINT-007";
    pub(super) const CANARY: &str = "KM-LINT-008";
    pub(super) const BUDGET: &str = "KM-LINT-009";
    pub(super) const WINDOW: &str = "KM-LINT-010";
    pub(super) const TASK: &str = "KM-LINT-011";
    pub(super) const RUNNER: &str = "KM-LINT-012";
    pub(super) const NOT_READY: &str = "KM-LINT-013";
    pub(super) const CAPACITY: &str = "KM-LINT-014";
    pub(super) const RAMP: &str = "KM-LINT-015";
    pub(super) const ZONE: &str = "KM-LINT-016";
    pub(super) const RESERVE: &str = "KM-LINT-017";
    pub(super) const PACE: &str = "KM-LINT-018";
    pub(super) const OWN_TARGET: &str = "KM-LINT-019";
    pub(super) const SKEW: &str = "KM-LINT-020";
    pub(super) const NO_TIME: &str = "KM-LINT-021";
    pub(super) const SURGE: &str = "KM-LINT-022";
    pub(super) const PIN: &str = "KM-LINT-023";
}

/// Replays the schedule of `plan` against the cluster and the policy, and says
/// what it breaks; nothing for a plan that [`Planner`](crate::Planner) made from
/// the same.
///
/// # What it checks
/// - The plan is for this cluster and this policy, names what is there, each once,
///   and leaves out nothing (KM-LINT-001 to -004). One that was edited by hand is
///   no plan of its id any more, which is told.
/// - Every phase of a target once, in order, one after the other (-005).
/// - At every instant: control plane first and one at a time (-006), no more nodes
///   of a pool away than its width, those included that are away anyway (-007),
///   the canary alone, and left alone for its soak (-008), no budget, real or
///   assumed, gives more than it has (-009), each target within a window (-010),
///   tasks alone and at their points (-011), the runner's node last (-012).
/// - No node begins that is not Ready (-013).
/// - At every instant pods have room, by the sum of what those ask for that may not
///   leave some pools, unless no more than one node of each is away (-014).
/// - No node begins before the stages of its pool's ramp before it are verified
///   (-015), while another zone of its pool is in work (-016), or into what its pool
///   keeps for failures (-017), nor before the pods of the drain before it have had
///   their time (-018), where policy has these.
/// - A version that a pool has of its own keeps the skew of kubelets, and takes none
///   of its nodes back (-019). Members go to their own minor or the next one, and no
///   kubelet meets an API server that it may not meet (-020). One that does so before the
///   plan begins, and comes no further away from what it may be, is only told.
/// - Whatever is in the plan has a time, unless a finding of the plan keeps it from
///   being carried out as it is (-021).
/// - At every instant no more nodes of a pool are behind replacements than its surge
///   (-022); none of these is drained before its replacement is there (-005), and is away
///   or takes room from then on.
/// - No node is pinned to a place that it cannot have: before the canary of its pool, behind
///   the runner's node, or as either of these elsewhere than first or last (-023).
///
/// Start times are predictions: what a run does is decided anew by the same
/// rules. So a blocker here means that the plan is not what the rules would make
/// of it, never that a run would break them.
///
/// Blockers come first, then by code and object; `policy` may waive. Linear in
/// pods, and in actions but for sorting them.
#[must_use]
pub fn lint(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Vec<Finding> {
    checked(plan, model, policy).finish(policy)
}

/// As [`lint`], for a plan that takes the place of `parent`, or is an edited copy of it. Also
/// finds nodes that both have [pinned](migrate_core::PlannedSlot::pinned), and whose place is
/// another: not as many nodes of their pool go before them as in `parent`, less those that
/// `plan` does not have any more (KM-LINT-023).
#[must_use]
pub fn lint_revision(
    plan: &Plan,
    parent: &Plan,
    model: &ClusterModel,
    policy: &Policy,
) -> Vec<Finding> {
    let mut report = checked(plan, model, policy);
    pins::since(plan, parent, &mut report);
    report.finish(policy)
}

fn checked(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Report {
    let model = &*model.sorted();
    let mut report = Report::default();
    structure::check(plan, model, policy, &mut report);
    skew::check(plan, model, &mut report);
    let timeline = Timeline::new(plan, policy, &mut report);
    order::check(plan, &timeline, &mut report);
    gates::check(plan, policy, &timeline, &mut report);
    pace::check(model, policy, &timeline, &mut report);
    stages::check(model, policy, &timeline, &mut report);
    widths::check(plan, model, policy, &timeline, &mut report);
    budgets::check(model, policy, &timeline, &mut report);
    windows::check(plan, model, policy, &timeline, &mut report);
    capacity::check(plan, model, policy, &timeline, &mut report);
    pins::check(plan, &mut report);
    report
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    found: Vec<Finding>,
}

impl Report {
    fn add(&mut self, code: &str, severity: Severity, object: ObjectName, evidence: String) {
        let cure = match severity {
            Severity::Blocker => "undo the edit, or plan again",
            _ => "see that it is meant so",
        };
        self.found
            .push(Finding::new(code, severity, object, evidence, cure));
    }

    fn broken(&mut self, code: &str, object: ObjectName, evidence: String) {
        self.add(code, Severity::Blocker, object, evidence);
    }

    fn finish(mut self, policy: &Policy) -> Vec<Finding> {
        policy.mark_waived(&mut self.found);
        self.found.sort_by(|a, b| {
            let key = |f: &Finding| (f.code.clone(), f.object.clone(), f.evidence.clone());
            b.severity
                .cmp(&a.severity)
                .then_with(|| key(a).cmp(&key(b)))
        });
        self.found.dedup();
        self.found
    }
}

/// The object that a finding about `target` names.
fn object(target: &Target) -> ObjectName {
    let kind = match target {
        Target::ControlPlane { .. } => "ControlPlaneMember",
        Target::Node { .. } => "Node",
        _ => "Task",
    };
    ObjectName::cluster(kind, target.name())
}

/// A time of the schedule in seconds.
struct At(Duration);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
