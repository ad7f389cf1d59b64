//! What is predicted of plans whose order was edited.

use migrate_core::cost::Bounds;
use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{ClusterModel, Plan, Policy, Severity};
use migrate_plan::{Planner, lint};
use proptest::prelude::*;

use crate::placement::workers;
use crate::small;
use crate::support::furnished::furnished;
use crate::support::scenario::planner;
use crate::support::strategy::{config, scenario, surging};
use crate::support::{NEW, OLD, version};

/// `plan` with two workers of one pool in each other's places, neither a canary nor with a
/// place of its own.
fn swapped(plan: &Plan, seed: u64) -> Option<Plan> {
    let is_free = |at: &usize| {
        let slot = &plan.slots[*at];
        !slot.canary && !slot.hosts_runner && slot.pool != CONTROL_PLANE_POOL
    };
    let free: Vec<usize> = (0..plan.slots.len()).filter(is_free).collect();
    let one = *free.get(seed as usize % free.len().max(1))?;
    let pool = &plan.slots[one].pool;
    let other = free
        .iter()
        .rev()
        .find(|at| plan.slots[**at].pool == *pool)?;
    let mut edited = plan.clone();
    edited.slots.swap(one, *other);
    (one != *other).then_some(edited)
}

fn predict(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Option<Plan> {
    let planner = Planner::new(model, policy, version(NEW));
    planner.predict(plan).unwrap()
}

/// Which pods find a place at once depends on who goes first.
#[test]
fn an_edited_plan_has_the_limits_and_the_moves_of_its_own_order() {
    let mut model = workers(5, 1_200);
    // The longest, so that who has it last is late.
    model.pods[4].grace_seconds = 900;
    let policy = Policy::default();
    let planner = Planner::new(&model, &policy, version(NEW)).with_destinations();
    let plan = planner.plan().unwrap();
    let mut edited = plan.clone();
    edited.slots[1..].reverse();
    let predicted = planner.predict(&edited).unwrap().unwrap();
    assert_eq!((&predicted.id, &predicted.slots), (&plan.id, &edited.slots));
    assert_eq!(predicted.identity(), edited.identity());
    assert_ne!(predicted.schedule, plan.schedule);
    // No order changes what none can beat.
    let (before, after) = (plan.bounds.unwrap(), predicted.bounds.clone().unwrap());
    assert_eq!(before.limits, after.limits);
    let again = Bounds::new(after.limits.clone(), predicted.makespan());
    assert_eq!(after.gap_permille, again.gap_permille);
    assert_eq!(predicted.estimate, plan.estimate);
    let (before, after) = (plan.relocation.unwrap(), predicted.relocation.unwrap());
    let first = |of: &migrate_core::Relocation| of.destinations[1].from.clone();
    assert_eq!(first(&after), predicted.slots[1].node);
    assert_ne!(first(&before), first(&after));
}

#[test]
fn another_canary_and_pins_are_those_of_the_file() {
    let (model, policy) = (small().build(), Policy::default());
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let mut edited = plan;
    let general = |slot: &migrate_core::PlannedSlot| slot.pool == "general";
    let first = edited.slots.iter().position(general).unwrap();
    let last = edited.slots.iter().rposition(general).unwrap();
    assert!(edited.slots[first].canary);
    edited.slots.swap(first, last);
    edited.slots[first].canary = true;
    edited.slots[last].canary = false;
    edited.slots[last].pinned = true;
    let predicted = predict(&edited, &model, &policy).unwrap();
    assert_eq!(predicted.slots, edited.slots);
    let mut drains = predicted.schedule.iter();
    let drain = drains.find(|it| {
        it.phase == migrate_core::Phase::Drain && it.target.name().starts_with("general")
    });
    assert_eq!(drain.unwrap().target.name(), edited.slots[first].node);
}

/// What is left out is in no time, limit or move either.
#[test]
fn nodes_that_were_taken_out_are_left_out() {
    let (model, policy) = (small().build(), Policy::default());
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let mut edited = plan.clone();
    edited.slots.retain(|slot| slot.pool != "general");
    let predicted = predict(&edited, &model, &policy).unwrap();
    assert_eq!(predicted.slots, edited.slots);
    assert!(predicted.makespan() < plan.makespan());
    let best = |plan: &Plan| plan.bounds.as_ref().unwrap().best().unwrap().time;
    assert!(best(&predicted) <= predicted.makespan());
    assert!(best(&predicted) < best(&plan));
    assert!(predicted.estimate.total < plan.estimate.total);
}

#[test]
fn what_is_no_other_order_is_not_predicted() {
    let (mut model, policy) = (small().build(), Policy::default());
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let mut wider = plan.clone();
    wider.pools[0].width += 1;
    assert_eq!(predict(&wider, &model, &policy), None);
    let mut gone = plan.clone();
    gone.slots[0].node = "nobody".into();
    assert_eq!(predict(&gone, &model, &policy), None);
    assert_eq!(predict(&plan, &model, &policy).as_ref(), Some(&plan));
    let done = model.nodes.iter_mut().find(|node| node.name == "general-2");
    done.unwrap().kubelet_version = version(NEW);
    assert_eq!(predict(&plan, &model, &policy), None);
    assert_eq!(plan.slots[0].from, version(OLD));
}

proptest! {
    #![proptest_config(config(2))]

    /// A plan that nobody edited is what it was, to the byte; an edited one is what a plan is
    /// that keeps its order for another reason, and what the linter has nothing against.
    #[test]
    fn an_edited_plan_is_predicted_as_one_that_has_its_order_anyway(
        scenario in prop_oneof![scenario(), surging()],
        seed in any::<u64>(),
    ) {
        let (model, policy) = furnished(&scenario);
        let planner = planner(&scenario, &model, &policy, None).with_reorder_gain(100);
        let plan = planner.plan().unwrap();
        let same = planner.predict(&plan).unwrap();
        prop_assert_eq!(same.as_ref(), Some(&plan));
        let Some(edited) = swapped(&plan, seed) else {
            return Ok(());
        };
        let predicted = planner.predict(&edited).unwrap().unwrap();
        prop_assert_eq!(&predicted.slots, &edited.slots);
        let broken = lint(&predicted, &model, &policy);
        prop_assert!(broken.iter().all(|f| f.severity != Severity::Blocker), "{:?}", broken);
        let replan = planner.replan(&edited).unwrap().plan;
        if replan.slots == edited.slots {
            prop_assert_eq!(&predicted.schedule, &replan.schedule);
            prop_assert_eq!(&predicted.estimate, &replan.estimate);
            prop_assert_eq!(&predicted.bounds, &replan.bounds);
            prop_assert_eq!(&predicted.relocation, &replan.relocation);
        }
    }
}
