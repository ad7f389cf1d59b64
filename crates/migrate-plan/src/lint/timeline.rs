//! When each target is at work, as the schedule has it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Phase, Plan, PlannedAction, PlannedSlot, Policy, Severity, Target};

use super::{At, Report, codes, object};

/// From the begin of the first phase to the end of the last but *confirm*.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Span {
    pub(super) start: Duration,
    pub(super) end: Duration,
}

impl Span {
    /// Whether `at` is within it; its end is not.
    pub(super) fn contains(self, at: Duration) -> bool {
        self.start <= at && at < self.end
    }
}

/// A slot that is at work, once.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotSpan<'p> {
    pub(super) slot: &'p PlannedSlot,
    pub(super) all: Span,
    /// When its replacement is made, if it has one.
    pub(super) provision: Option<Span>,
    pub(super) drain: Span,
    pub(super) confirm: Option<Span>,
}

/// When the phases of a target are.
struct Taken {
    all: Span,
    provision: Option<Span>,
    drain: Option<Span>,
    confirm: Option<Span>,
}

/// The schedule by target.
#[derive(Debug)]
pub(super) struct Timeline<'p> {
    /// Members with their spans, in the order of the plan; `None` if it has none.
    pub(super) members: Vec<Option<Span>>,
    /// Slots that are at work, by their begins.
    pub(super) slots: Vec<SlotSpan<'p>>,
    /// Tasks in the order of the plan.
    pub(super) tasks: Vec<Option<Span>>,
    nodes_first: bool,
}

impl<'p> Timeline<'p> {
    pub(super) fn new(plan: &'p Plan, policy: &Policy, report: &mut Report) -> Self {
        let mut actions: BTreeMap<&Target, Vec<&PlannedAction>> = BTreeMap::new();
        for action in &plan.schedule {
            actions.entry(&action.target).or_default().push(action);
        }
        let mut findings = plan.findings.iter();
        let is_kept_from_it = findings.any(|found| found.severity == Severity::Blocker);
        let surging = plan.pools.iter().filter(|pool| pool.surge > 0);
        let surging: BTreeSet<&str> = surging.map(|pool| pool.name.as_str()).collect();
        let mut take = |target: &Target, expected: &[Phase], may_have_replacement: bool| {
            // What is left is empty: a target that is there twice is told elsewhere.
            let of_target = actions.get_mut(target).map(mem::take);
            if of_target.is_none() && !is_kept_from_it {
                let evidence = "it is in the plan, and begins at no time".to_owned();
                report.broken(codes::NO_TIME, object(target), evidence);
            }
            let of_target = of_target.filter(|actions| !actions.is_empty())?;
            let is = |phase: Phase| move |action: &&PlannedAction| action.phase == phase;
            let (confirms, work): (Vec<_>, Vec<_>) =
                of_target.into_iter().partition(is(Phase::Confirm));
            let (provisions, work): (Vec<_>, Vec<_>) =
                work.into_iter().partition(is(Phase::Provision));
            let phases: Vec<Phase> = work.iter().map(|action| action.phase).collect();
            let all = provisions.iter().chain(&work).chain(&confirms);
            let in_order = all.clone().is_sorted_by(|a, b| a.end <= b.start);
            let is_whole = phases == expected
                && in_order
                && confirms.len() <= 1
                && provisions.len() <= usize::from(may_have_replacement);
            let mut ends = all.clone().map(|action| action.start <= action.end);
            if !is_whole || !ends.all(|ends| ends) {
                let text = all.map(ToString::to_string);
                let text: Vec<String> = text.collect();
                let evidence = format!(
                    "its phases are not {expected:?}, each once and after the one before: {}",
                    text.join("; ")
                );
                report.broken(codes::PHASES, object(target), evidence);
            }
            let span = |action: &PlannedAction| Span {
                start: action.start,
                end: action.end.max(action.start),
            };
            let begun = || provisions.iter().chain(&work);
            let all = Span {
                start: begun().map(|action| action.start).min()?,
                end: begun().map(|action| action.end).max()?,
            };
            let drain = work.iter().find(|action| action.phase == Phase::Drain);
            Some(Taken {
                all,
                provision: provisions.first().map(|action| span(action)),
                drain: drain.map(|action| span(action)),
                confirm: confirms.first().map(|action| span(action)),
            })
        };
        let members = plan.control_plane.iter().map(|member| {
            let target = Target::ControlPlane {
                member: member.name.clone(),
            };
            Some(take(&target, &[Phase::Upgrade, Phase::Verify], false)?.all)
        });
        let members = members.collect();
        let slots = plan.slots.iter().filter_map(|slot| {
            let target = Target::Node {
                pool: slot.pool.clone(),
                node: slot.node.clone(),
            };
            let phases = [Phase::Drain, Phase::Upgrade, Phase::Verify];
            let taken = take(&target, &phases, surging.contains(&*slot.pool))?;
            Some(SlotSpan {
                slot,
                all: taken.all,
                provision: taken.provision,
                // Without a drain it is at fault already; the whole of it counts.
                drain: taken.drain.unwrap_or(taken.all),
                confirm: taken.confirm,
            })
        });
        let mut slots: Vec<SlotSpan<'_>> = slots.collect();
        let tasks = plan.tasks.iter().map(|task| {
            let expected: &[Phase] = match task.target {
                Target::Backup => &[Phase::BackUp],
                _ => &[Phase::Upgrade, Phase::Verify],
            };
            Some(take(&task.target, expected, false)?.all)
        });
        let tasks = tasks.collect();
        slots.sort_by(|a, b| (a.all, &a.slot.node).cmp(&(b.all, &b.slot.node)));
        for (target, of_target) in actions.iter().filter(|(_, left)| !left.is_empty()) {
            let first = of_target.iter().map(|action| action.start).min();
            let first = At(first.unwrap_or_default());
            let evidence =
                format!("the schedule begins it at {first}, and the plan has no such target");
            report.broken(codes::STRUCTURE, object(target), evidence);
        }
        Self {
            members,
            slots,
            tasks,
            nodes_first: policy.rollout.control_plane_nodes_first,
        }
    }

    /// Whether a slot is one of those that come before all others.
    pub(super) fn is_first(&self, slot: &PlannedSlot) -> bool {
        self.nodes_first && slot.pool == CONTROL_PLANE_POOL
    }
}
