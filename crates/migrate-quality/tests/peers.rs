//! The simulated cluster, and the tools on it.

#![allow(clippy::unwrap_used, reason = "tests")]

use migrate_quality::cluster::{Ask, Cluster, Guard, Notice};
use migrate_quality::instance::{Instance, Setting};
use migrate_quality::peers::{Marking, Order, Then, Tool, Width, change_times, run, run_planned};

const NODES: usize = 40;

fn fleet(seed: u64) -> Instance {
    Instance::new(&Setting::fleet(NODES, seed), seed)
}

#[test]
fn a_budget_is_kept_to_unless_a_pod_is_deleted() {
    let instance = fleet(1);
    let mut cluster = Cluster::new(&instance, Guard::Real);
    // Every pod of every node: budgets run out.
    let pods: Vec<usize> = (0..NODES).flat_map(|node| cluster.staying(node)).collect();
    let refused: Vec<usize> = pods
        .iter()
        .copied()
        .filter(|pod| !cluster.evict(*pod, Ask::Plainly))
        .collect();
    let tally = cluster.tally();
    assert!(tally.moves > 0 && tally.refused as usize == refused.len());
    assert_eq!(tally.real_violations, 0);
    // What nobody but the plan knows of was overdrawn.
    assert!(tally.assumed_violations > 0);
    assert!(cluster.evict(refused[0], Ask::Forcibly));
    assert_eq!(cluster.tally().real_violations, 1);
}

#[test]
fn budgets_recover_and_a_cordoned_node_empties() {
    let instance = fleet(2);
    let mut cluster = Cluster::new(&instance, Guard::All);
    cluster.cordon(0);
    let before = cluster.staying(0).len();
    assert!(before > 0);
    let mut is_empty = false;
    loop {
        for pod in cluster.staying(0) {
            cluster.evict(pod, Ask::Plainly);
        }
        match cluster.step() {
            Some(Notice::Empty(0)) => is_empty = true,
            Some(_) => {}
            None => break,
        }
    }
    assert!(is_empty && cluster.staying(0).is_empty());
    let tally = cluster.tally();
    assert_eq!(tally.moves as usize, before);
    assert_eq!((tally.real_violations, tally.assumed_violations), (0, 0));
}

#[test]
fn every_tool_upgrades_every_node_and_budgets_that_the_api_knows_are_kept() {
    let instance = fleet(3);
    let times = change_times(&instance, 0.5);
    for as_policy in [false, true] {
        for tool in Tool::all(as_policy) {
            let outcome = run(&tool, &instance, Guard::All, &times);
            assert_eq!(outcome.done, NODES, "{}", tool.name);
            assert!(outcome.moves_per_pod >= 1.0, "{}", tool.name);
            let forces = tool.patience.is_some_and(|(_, then)| then == Then::Force);
            let broken = outcome.tally.real_violations + outcome.tally.assumed_violations;
            assert!(broken == 0 || forces, "{}: {broken}", tool.name);
            let again = run(&tool, &instance, Guard::All, &times);
            assert_eq!(
                outcome.makespan, again.makespan,
                "{}: not the same twice",
                tool.name
            );
        }
    }
}

#[test]
fn a_plan_keeps_assumed_budgets_that_others_break() {
    let instance = fleet(4);
    let times = change_times(&instance, 0.5);
    for guard in [Guard::Real, Guard::All] {
        let outcome = run_planned(&instance, guard, Marking::Nothing, &times).unwrap();
        assert_eq!(outcome.done, NODES);
        let tally = outcome.tally;
        assert_eq!((tally.real_violations, tally.assumed_violations), (0, 0));
    }
    // Negative control: the same cluster, a tool that does not know of them.
    let outcome = run(&Tool::suc(Width::Total(8)), &instance, Guard::Real, &times);
    assert!(outcome.tally.assumed_violations > 0);
    assert_eq!(outcome.tally.real_violations, 0);
}

#[test]
fn widths_decide_and_a_pool_after_the_other_is_slower() {
    let instance = fleet(5);
    let times = change_times(&instance, 0.5);
    let hours = |tool: &Tool| run(tool, &instance, Guard::Real, &times).makespan;
    let one = hours(&Tool::suc(Width::Total(1)));
    let four = hours(&Tool::suc(Width::Total(4)));
    assert!(one > 2 * four, "{one} and {four}");
    assert!(
        one >= times.iter().sum(),
        "one at a time takes all times together"
    );
    let mut in_turn = Tool::openshift(Width::OfPool(1));
    let beside = hours(&in_turn);
    in_turn.pools_in_turn = true;
    assert!(hours(&in_turn) > beside);
    assert_eq!(in_turn.order, Order::ZoneAge);
}
