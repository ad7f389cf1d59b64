//! A run that is broken off anywhere is planned anew and finished by the rules.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use migrate_core::PlannedSlot;
use migrate_core::policy::CONTROL_PLANE_POOL;
use proptest::prelude::*;
use proptest::sample::Index;
use support::broken_off::{BrokenOff, blow};
use support::has_all;
use support::judge::Judge;
use support::scenario::Scenario;
use support::strategy::{config, good, scenario};
use support::world::World;

/// What goes by no order but that of policy.
fn is_of_the_order(slot: &PlannedSlot) -> bool {
    slot.pool != CONTROL_PLANE_POOL && !slot.canary && !slot.hosts_runner
}

proptest! {
    #![proptest_config(config(2))]

    /// On any day, with what befalls the cluster meanwhile, and the rest of it on another, or on one without trouble, which ends with
    /// all done that nothing keeps from beginning.
    #[test]
    fn a_run_that_is_broken_off_anywhere_is_planned_anew_and_finished(
        first in scenario(),
        other in scenario(),
        at in any::<Index>(),
        is_good in any::<bool>(),
        blow in blow(),
    ) {
        let workloads = first.workloads.iter();
        let workloads = workloads.map(|(n, b)| (*n, b.map(|b| b.max(1)))).collect();
        let first = match is_good {
            true => Scenario { workloads, ..first },
            false => first,
        };
        let mut world = World::new(first.clone());
        world.run();
        let day = Scenario {
            seed: other.seed,
            retry: other.retry,
            fail: other.fail,
            replace: other.replace,
            defer: other.defer,
            noise: other.noise,
            lose: other.lose,
            budget_status: other.budget_status,
            punctual: other.punctual,
            abort: other.abort,
            ..first
        };
        let day = if is_good { good(day) } else { day };
        let inputs = at.index(world.inputs().len() + 1);
        let left = BrokenOff::of(&world, inputs).struck(&blow);
        // The linter looks at it here.
        let (mut rest, keeps_order) = left.planned_anew(&world, day);
        let plan = rest.plan.clone();
        prop_assert_eq!(plan.parent.as_ref(), Some(&world.plan.id));
        prop_assert_eq!(plan.revision, world.plan.revision + 1);
        if keeps_order {
            let slots = plan.slots.iter().filter(|slot| is_of_the_order(slot));
            let place = |slot: &PlannedSlot| {
                let mut before = world.plan.slots.iter();
                before.position(|other| other.node == slot.node)
            };
            let places: Vec<usize> = slots.filter_map(place).collect();
            prop_assert!(places.is_sorted(), "{places:?}");
        }
        let has_all = has_all(&plan);
        prop_assert!(has_all || plan.findings.iter().any(|f| f.blocks()));
        rest.run();
        Judge::watch(&rest);
        if is_good && has_all {
            prop_assert!(rest.rollout.is_finished(), "{:?}", rest.rollout.stopped());
            prop_assert_eq!(rest.rollout.progress().done as usize, plan.targets().count());
        }
    }
}
