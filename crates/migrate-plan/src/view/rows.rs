//! A plan by what is upgraded: what all views are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{KubeVersion, Phase, Plan, PlannedAction, PlannedSlot, Target};

/// A target of a plan and what the schedule does to it.
#[derive(Clone, Debug)]
pub(super) struct Row<'p> {
    pub(super) target: Target,
    /// The slot, of a node.
    pub(super) slot: Option<&'p PlannedSlot>,
    /// Its version before, unless it is a task.
    pub(super) from: Option<&'p KubeVersion>,
    /// Its version after, unless it is a task.
    pub(super) to: Option<&'p KubeVersion>,
    /// What is special about it.
    pub(super) note: String,
    /// In order. Nothing for what can never begin.
    pub(super) actions: Vec<&'p PlannedAction>,
}

impl Row<'_> {
    pub(super) fn pool(&self) -> Option<&str> {
        self.slot.map(|slot| slot.pool.as_str())
    }

    pub(super) fn action(&self, phase: Phase) -> Option<&PlannedAction> {
        let mut actions = self.actions.iter();
        actions.find(|action| action.phase == phase).copied()
    }

    pub(super) fn start(&self) -> Option<Duration> {
        self.actions.first().map(|action| action.start)
    }

    /// The end of its last phase, also of one after a soak.
    pub(super) fn end(&self) -> Option<Duration> {
        self.actions.iter().map(|action| action.end).max()
    }

    /// Begin and end of what it takes without a break: all but *confirm*.
    pub(super) fn work(&self) -> Option<(Duration, Duration)> {
        let work = self.actions.iter();
        let ends = work.filter(|action| action.phase != Phase::Confirm);
        Some((self.start()?, ends.map(|action| action.end).max()?))
    }
}

/// `row` without its column `at`, of versions after, where all go to the plan's.
pub(super) fn told<T>(plan: &Plan, row: impl IntoIterator<Item = T>, at: usize) -> Vec<T> {
    let is_told = plan.own_targets().next().is_some();
    let cells = row.into_iter().enumerate();
    let cells = cells.filter(|(column, _)| is_told || *column != at);
    cells.map(|(_, cell)| cell).collect()
}

/// All targets by their begins; what has none comes last, and of those that begin
/// at one moment the order of the plan is kept.
pub(super) fn rows(plan: &Plan) -> Vec<Row<'_>> {
    let mut actions: BTreeMap<&Target, Vec<&PlannedAction>> = BTreeMap::new();
    for action in &plan.schedule {
        actions.entry(&action.target).or_default().push(action);
    }
    let members = plan.control_plane.iter().map(|member| {
        let member_name = member.name.clone();
        let target = Target::ControlPlane {
            member: member_name,
        };
        (target, None, Some(&member.from), String::new())
    });
    let slots = plan.slots.iter().map(|slot| {
        let target = Target::Node {
            pool: slot.pool.clone(),
            node: slot.node.clone(),
        };
        let notes = [
            (slot.canary, "canary"),
            (slot.pinned, "pinned"),
            (slot.hosts_runner, "hosts the runner"),
        ];
        let notes = notes.into_iter().filter(|(is_so, _)| *is_so);
        let notes: Vec<&str> = notes.map(|(_, note)| note).collect();
        (target, Some(slot), Some(&slot.from), notes.join(", "))
    });
    let tasks = plan.tasks.iter();
    let tasks = tasks.map(|task| (task.target.clone(), None, None, task.at.to_string()));
    let all = members.chain(slots).chain(tasks);
    let mut rows: Vec<Row<'_>> = all
        .map(|(target, slot, from, note)| {
            let mut of_target = actions.get(&target).cloned().unwrap_or_default();
            of_target.sort_by_key(|action| action.start);
            Row {
                actions: of_target,
                to: from.map(|_| plan.to_of(&target)),
                target,
                slot,
                from,
                note,
            }
        })
        .collect();
    rows.sort_by_key(|row| row.start().unwrap_or(Duration::MAX));
    rows
}
