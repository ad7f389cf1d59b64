//! Plans of small clusters beside optima that an exact solver proved.
//!
//! The bench `quality` finds them; here they are constants, so that a change of the
//! planner's order, of the machine's rules or of the generator shows in CI.

#![allow(clippy::unwrap_used, reason = "tests")]

use migrate_quality::instance::{Instance, Setting};
use migrate_quality::problem::{Problem, replay};
use migrate_quality::statistics::Distribution;

/// Seed, workers, and the shortest time from the first worker's begin to the end in
/// milliseconds, proven by `cargo bench -p migrate-quality --bench quality`.
const PROVEN: [(u64, usize, i64); 19] = [
    (1, 33, 3_148_000),
    (2, 33, 5_089_000),
    (7, 10, 3_208_000),
    (9, 33, 10_494_000),
    (10, 32, 7_408_000),
    (13, 20, 2_090_000),
    (16, 12, 2_526_000),
    (17, 22, 7_913_000),
    (19, 13, 1_830_000),
    (20, 10, 3_555_000),
    (25, 14, 6_875_000),
    (26, 24, 10_139_000),
    (27, 30, 12_575_000),
    (28, 31, 3_831_000),
    (29, 32, 7_201_000),
    (33, 12, 4_653_000),
    (36, 20, 3_586_000),
    (37, 32, 5_126_000),
    (38, 10, 1_667_000),
];

fn gap(rounds: u32, seed: u64, nodes: usize, optimum: i64) -> f64 {
    let instance = Instance::new(&Setting::small(seed), seed).without_capacity();
    let planner = instance.planner().with_improvement(rounds);
    let plan = planner.plan().unwrap();
    let problem = Problem::new(&instance.model, &instance.policy, &plan).unwrap();
    assert_eq!(problem.tasks.len(), nodes, "seed {seed}: another cluster");
    let starts = problem.starts(&plan);
    assert_eq!(problem.check(&starts), Ok(()), "seed {seed}");
    let makespan = problem.makespan(&starts);
    // A schedule that beats an optimum does so by a rule that one side lacks.
    assert!(
        makespan >= optimum,
        "seed {seed}: {makespan} ms beats {optimum} ms"
    );
    let bounds = plan.bounds.as_ref().unwrap();
    let bound = bounds.best().unwrap().time.as_millis() as i64 - problem.before;
    assert!(
        bound <= optimum,
        "seed {seed}: a bound of {bound} ms over {optimum} ms"
    );
    makespan as f64 / optimum as f64
}

#[test]
fn plans_are_near_proven_optima() {
    let gaps = |rounds| {
        let gaps = PROVEN.map(|(seed, nodes, optimum)| gap(rounds, seed, nodes, optimum));
        Distribution::new(gaps)
    };
    let plain = gaps(0);
    assert!(plain.mean() <= 1.03, "mean {}", plain.mean());
    assert!(plain.worst() <= 1.11, "worst {}", plain.worst());
    let improved = gaps(300);
    assert!(improved.mean() <= 1.01, "mean {}", improved.mean());
    assert!(improved.worst() <= 1.05, "worst {}", improved.worst());
}

#[test]
fn an_improved_plan_is_a_plan_like_any_other() {
    for seed in [3, 5, 11, 14] {
        let instance = Instance::new(&Setting::small(seed), seed).without_capacity();
        let plan = || instance.planner().with_improvement(60).plan().unwrap();
        let improved = plan();
        assert_eq!(improved, plan(), "seed {seed}: not the same twice");
        let plain = instance.plan().unwrap();
        assert!(improved.makespan() < plain.makespan(), "seed {seed}");
        assert_ne!(
            improved.id, plain.id,
            "seed {seed}: another order, another plan"
        );
        let found = migrate_plan::lint(&improved, &instance.model, &instance.policy);
        assert!(found.is_empty(), "seed {seed}: {found:?}");
        let nodes = |plan: &migrate_core::Plan| {
            let mut nodes: Vec<_> = plan.slots.iter().map(|slot| slot.node.clone()).collect();
            nodes.sort_unstable();
            nodes
        };
        assert_eq!(nodes(&improved), nodes(&plain), "seed {seed}");
    }
}

/// Both derivations of the rules agree: what the problem forbids, the linter finds. Of room
/// the linter has sums of its own, of nodes that are empty and not of those that are about to
/// be: where it finds too little, so does the problem.
#[test]
fn the_linter_and_the_problem_forbid_the_same() {
    let (mut forbidden, mut scarce, mut full) = (0, 0, 0);
    let both = (1..=20u64).flat_map(|seed| [(seed, false), (seed, true)]);
    for (seed, has_capacity) in both {
        let instance = Instance::new(&Setting::small(seed), seed);
        let instance = match has_capacity {
            true => instance,
            false => instance.without_capacity(),
        };
        let (model, policy) = (&instance.model, &instance.policy);
        let plan = instance.plan().unwrap();
        let problem = Problem::new(model, policy, &plan).unwrap();
        scarce += usize::from(!problem.rooms.is_empty());
        let starts = problem.starts(&plan);
        // What begins at one moment does so in the plan's order: some may have ended before others.
        let mut order = problem.order(&starts);
        let place = |task: usize| {
            plan.slots
                .iter()
                .position(|slot| slot.node == problem.tasks[task].node)
        };
        order.sort_by_key(|task| (starts[*task], place(*task)));
        let same = replay(&problem, model, policy, &plan, &order).unwrap();
        assert_eq!(same.starts, starts, "seed {seed}");
        assert_eq!(problem.check(&same.starts), Ok(()), "seed {seed}");
        let sooner = (0..starts.len()).map(|task| {
            let mut sooner = starts.clone();
            sooner[task] = (sooner[task] - 1000).max(0);
            sooner
        });
        // The largest of all pools, as many as these are wide, when all others are done.
        let end = problem.makespan(&starts);
        let takes = |task: &usize| problem.rooms.first().map(|room| room.takes[*task]);
        let mut largest: Vec<usize> = (0..starts.len()).collect();
        largest.sort_by_key(|task| std::cmp::Reverse(takes(task)));
        let tasks = &problem.tasks;
        let some = problem.pools.iter().enumerate().flat_map(|(id, pool)| {
            let of_pool = largest.iter().filter(move |task| tasks[**task].pool == id);
            of_pool.take(pool.width as usize)
        });
        let mut at_once = starts.clone();
        some.for_each(|task| at_once[*task] = end);
        let together = std::iter::once(at_once);
        for (at, edit) in sooner.chain(together).enumerate() {
            let checked = problem.check(&edit);
            let edited = problem.scheduled(&plan, &edit);
            let found = migrate_plan::lint(&edited, model, policy);
            let is_clean = !found.iter().any(migrate_core::Finding::blocks);
            let lacking = problem.lacking(&edit);
            assert!(
                checked.is_ok() == is_clean || lacking.is_some() && is_clean,
                "seed {seed}, edit {at}: {checked:?}: {found:?}"
            );
            forbidden += usize::from(!is_clean);
            let is_full = found.iter().any(|finding| finding.code == "KM-LINT-014");
            assert!(lacking.is_some() || !is_full, "seed {seed}, edit {at}");
            full += usize::from(is_full);
        }
    }
    assert!(forbidden > 100, "only {forbidden} were forbidden");
    assert!(
        scarce > 5 && full > 2,
        "{scarce} had rooms, {full} edits broke them by the linter"
    );
}
