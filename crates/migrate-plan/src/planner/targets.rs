//! What a plan calls the targets of a machine.

use migrate_core::{KubeVersion, Moment, Plan, PlannedAction, Target};

use super::simulate::Step;

/// The target with this number: members first, then slots, then tasks.
pub(crate) fn target_of(plan: &Plan, target: u32) -> Target {
    match place(plan, target) {
        Place::Member(at) => Target::ControlPlane {
            member: plan.control_plane[at].name.clone(),
        },
        Place::Slot(at) => Target::Node {
            pool: plan.slots[at].pool.clone(),
            node: plan.slots[at].node.clone(),
        },
        Place::Task(at) => plan.tasks[at].target.clone(),
    }
}

pub(super) fn from_of(plan: &Plan, target: u32) -> &KubeVersion {
    match place(plan, target) {
        Place::Member(at) => &plan.control_plane[at].from,
        Place::Slot(at) => &plan.slots[at].from,
        Place::Task(_) => &plan.from,
    }
}

/// What was begun, from the start on.
pub(super) fn schedule(plan: &Plan, start: Moment, steps: &[Step]) -> Vec<PlannedAction> {
    let planned = steps.iter().map(|step| {
        let target = target_of(plan, step.target);
        let (begin, end) = (step.begin.since(start), step.end.since(start));
        PlannedAction::new(target, step.phase, begin, end)
    });
    planned.collect()
}

/// Where in a plan a target is.
enum Place {
    Member(usize),
    Slot(usize),
    Task(usize),
}

fn place(plan: &Plan, target: u32) -> Place {
    let at = target as usize;
    let slot = at.checked_sub(plan.control_plane.len());
    let task = slot.and_then(|slot| slot.checked_sub(plan.slots.len()));
    match (slot, task) {
        (_, Some(task)) => Place::Task(task),
        (Some(slot), None) => Place::Slot(slot),
        (None, None) => Place::Member(at),
    }
}
