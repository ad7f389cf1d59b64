//! Nodes that are pinned to their places, in new plans and in the eyes of the linter.

use migrate_core::{ClusterModel, Finding, IntOrPercent, Node, Plan, Policy};
use migrate_plan::{
    DiffTable, PlanDiff, PlanTable, Planner, Replan, lint, lint_revision, plan_from_json,
    plan_to_json,
};
use proptest::prelude::*;

use crate::placement::workers;
use crate::support::{Cluster, NEW, OLD, has_all, version};

/// A pool of so many nodes of which two may be away, without a canary.
fn pool(count: usize) -> (ClusterModel, Policy) {
    let model = Cluster::new().member("m").pool("red", count).build();
    let mut policy = Policy::default();
    policy.pools.canary = false;
    policy.pools.max_unavailable = IntOrPercent::Int(2);
    (model, policy)
}

/// So many pods of one Deployment on each of these nodes.
fn loaded(mut model: ClusterModel, loads: &[(&str, usize)]) -> ClusterModel {
    let nodes = loads.iter();
    let nodes = nodes.flat_map(|(node, pods)| std::iter::repeat_n(*node, *pods));
    let more = Cluster::new().deployment("heavy", &nodes.collect::<Vec<_>>());
    let more = more.build();
    model.workloads.extend(more.workloads);
    model.pods.extend(more.pods);
    model.sort();
    model
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.slots.iter().map(|slot| slot.node.as_str()).collect()
}

/// The plan of `model`, with these nodes pinned where they are.
fn pinned(model: &ClusterModel, policy: &Policy, nodes: &[&str]) -> Plan {
    let mut plan = Planner::new(model, policy, version(NEW)).plan().unwrap();
    for slot in &mut plan.slots {
        slot.pinned = nodes.contains(&slot.node.as_str());
    }
    plan.edited()
}

fn replanned(model: &ClusterModel, policy: &Policy, earlier: &Plan, gain: u32) -> Replan {
    let planner = Planner::new(model, policy, version(NEW)).with_reorder_gain(gain);
    planner.replan(earlier).unwrap()
}

fn of_pins(found: Vec<Finding>) -> Vec<String> {
    let found = found.into_iter().filter(|f| f.code == "KM-LINT-023");
    found
        .map(|f| format!("{} {}", f.object.name, f.evidence))
        .collect()
}

#[test]
fn a_pin_is_part_of_a_plan_and_shows() {
    let (model, policy) = pool(3);
    let plain = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let json = plan_to_json(&plain).unwrap();
    assert!(!json.contains("pinned"));
    let plan = pinned(&model, &policy, &["red-2"]);
    assert_ne!(plan.id, plain.id);
    assert_eq!(plan.parent.as_ref(), Some(&plain.id));
    let read = plan_from_json(&plan_to_json(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
    let table = PlanTable::new(&plan).to_string();
    let of_node = |name: &str| {
        let mut lines = table.lines();
        lines.find(|line| line.contains(name)).unwrap().to_owned()
    };
    assert!(of_node("red-2").ends_with("pinned"), "{table}");
    assert!(!of_node("red-1").contains("pinned"), "{table}");
    let diff = PlanDiff::between(&plain, &plan);
    let text = DiffTable::new(&diff).to_string();
    assert!(text.contains("pinned now"), "{text}");
    assert_eq!(diff.targets.len(), 1);
}

#[test]
fn a_pinned_node_keeps_its_place_and_what_is_new_goes_behind_it() {
    let (model, policy) = pool(6);
    let earlier = pinned(&model, &policy, &["red-2", "red-4"]);
    let mut model = loaded(model, &[("red-6", 3)]);
    model.nodes[0].kubelet_version = version(NEW);
    let mut node = Node::new("red-0", version(OLD));
    node.labels = model.nodes[1].labels.clone();
    model.nodes.push(node);
    let model = loaded(model, &[("red-0", 9)]);
    let replan = replanned(&model, &policy, &earlier, 100);
    assert!(replan.keeps_order);
    let expected = ["red-2", "red-3", "red-4", "red-0", "red-5", "red-6"];
    assert_eq!(names(&replan.plan), expected);
    let pins = replan.plan.slots.iter().filter(|slot| slot.pinned);
    let pins: Vec<&str> = pins.map(|slot| slot.node.as_str()).collect();
    assert_eq!(pins, ["red-2", "red-4"]);
    let found = lint_revision(&replan.plan, &earlier, &model, &policy);
    assert_eq!(of_pins(found), [""; 0]);
    // The next one keeps them too.
    let next = Planner::new(&model, &policy, version(NEW)).replacing(&replan.plan);
    let next = next.plan().unwrap();
    assert_eq!(names(&next)[0], "red-2");
    assert_eq!(names(&next)[2], "red-4");
    assert_eq!(names(&next)[1], "red-0", "the others go by priority");
}

#[test]
fn another_order_goes_around_a_pinned_node() {
    let (model, policy) = pool(3);
    let free = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let earlier = pinned(&model, &policy, &["red-2"]);
    let model = loaded(model, &[("red-3", 20)]);
    let unpinned = replanned(&model, &policy, &free, 5);
    assert_eq!(names(&unpinned.plan), ["red-3", "red-1", "red-2"]);
    let replan = replanned(&model, &policy, &earlier, 5);
    assert!(!replan.keeps_order);
    assert_eq!(names(&replan.plan), ["red-3", "red-2", "red-1"]);
    assert!(replan.plan.slots[1].pinned);
}

#[test]
fn the_canary_is_the_node_that_is_pinned_to_be_first() {
    let (model, mut policy) = pool(4);
    policy.pools.canary = true;
    let earlier = pinned(&model, &policy, &["red-2", "red-4"]);
    assert_eq!(names(&earlier), ["red-1", "red-2", "red-3", "red-4"]);
    // The one before is done, and the pinned one is none that policy would choose.
    let mut model = loaded(model, &[("red-2", 9)]);
    model.nodes[0].kubelet_version = version(NEW);
    let replan = replanned(&model, &policy, &earlier, 0);
    assert_eq!(names(&replan.plan), ["red-2", "red-3", "red-4"]);
    assert!(replan.plan.slots[0].canary);
    let found = lint_revision(&replan.plan, &earlier, &model, &policy);
    assert_eq!(of_pins(found), [""; 0]);
    // One that is pinned elsewhere is the last choice.
    let earlier = pinned(&model, &policy, &["red-4"]);
    assert_eq!(names(&earlier), ["red-3", "red-2", "red-4"]);
    let model = loaded(model, &[("red-3", 30)]);
    let mut gone = model;
    gone.nodes.retain(|node| node.name != "red-3");
    let replan = replanned(&gone, &policy, &earlier, 0);
    assert_eq!(names(&replan.plan), ["red-2", "red-4"]);
}

#[test]
fn improving_an_order_moves_no_pinned_node() {
    let model = Cluster::new()
        .member("m")
        .pool("red", 6)
        .deployment("a", &["red-1", "red-2", "red-3", "red-4"])
        .budget("a", 1)
        .deployment("b", &["red-5", "red-5", "red-5"])
        .deployment("c", &["red-6", "red-6", "red-6"])
        .build();
    let (_, policy) = pool(1);
    let planner = Planner::new(&model, &policy, version(NEW));
    let plain = planner.plan().unwrap();
    let improved = planner.clone().with_improvement(100).plan().unwrap();
    let places = names(&plain).into_iter().zip(names(&improved));
    let moved: Vec<usize> = (0..)
        .zip(places)
        .filter(|(_, (a, b))| a != b)
        .map(|(at, _)| at)
        .collect();
    assert!(!moved.is_empty());
    for at in moved {
        let mut earlier = plain.clone();
        earlier.slots[at].pinned = true;
        let earlier = earlier.edited();
        let planner = planner.clone().with_improvement(100).replacing(&earlier);
        let plan = planner.plan().unwrap();
        assert_eq!(names(&plan)[at], names(&plain)[at], "{at}");
    }
}

#[test]
fn pins_that_cannot_be_kept_are_told() {
    let (model, mut policy) = pool(4);
    policy.pools.canary = true;
    let pin = |node: &str, change: &dyn Fn(&mut Plan)| {
        let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        change(&mut plan);
        let mut slots = plan.slots.iter_mut();
        slots.find(|slot| slot.node == node).unwrap().pinned = true;
        of_pins(lint(&plan.edited(), &model, &policy))
    };
    assert_eq!(pin("red-1", &|_| {}), [""; 0]);
    assert_eq!(pin("red-3", &|_| {}), [""; 0]);
    let before = |plan: &mut Plan| plan.slots.swap(0, 2);
    let why = "its pin as number 1 of pool red cannot be kept: the canary red-1 goes first";
    assert_eq!(pin("red-3", &before), [format!("red-3 {why}")]);
    let why = "its pin as number 3 of pool red cannot be kept: it is the canary, which goes first";
    assert_eq!(pin("red-1", &before), [format!("red-1 {why}")]);
    let runs = |at: usize| move |plan: &mut Plan| plan.slots[at].hosts_runner = true;
    let why = "its pin as number 2 of pool red cannot be kept: the runner's own pod is on it, so it \
               goes last";
    assert_eq!(pin("red-2", &runs(1)), [format!("red-2 {why}")]);
    assert_eq!(pin("red-4", &runs(3)), [""; 0]);
    let why = "its pin as number 4 of pool red cannot be kept: the runner's own pod is on node \
               red-2, so that one goes last";
    assert_eq!(pin("red-4", &runs(1)), [format!("red-4 {why}")]);
}

#[test]
fn a_pinned_node_that_left_its_place_is_told() {
    let (model, policy) = pool(4);
    let parent = pinned(&model, &policy, &["red-2", "red-4"]);
    let found = |change: &dyn Fn(&mut Plan)| {
        let mut plan = parent.clone();
        change(&mut plan);
        of_pins(lint_revision(&plan.edited(), &parent, &model, &policy))
    };
    assert_eq!(found(&|_| {}), [""; 0]);
    // Who has it done before it moves up with the others.
    assert_eq!(found(&|plan| drop(plan.slots.remove(0))), [""; 0]);
    let moved = found(&|plan| plan.slots.swap(0, 1));
    assert_eq!(moved.len(), 1);
    let why = "pinned as number 2 of those of pool red that are left, and it is number 1";
    assert!(moved[0].starts_with("red-2 plan "), "{moved:?}");
    assert!(moved[0].ends_with(why), "{moved:?}");
    // Who takes a pin away means it.
    let freed = |plan: &mut Plan| {
        plan.slots.swap(0, 1);
        plan.slots[0].pinned = false;
    };
    assert_eq!(found(&freed), [""; 0]);
    let elsewhere = found(&|plan| plan.slots[3].pool = "blue".into());
    assert_eq!(elsewhere.len(), 1);
    assert!(elsewhere[0].ends_with("pinned in pool red, and it is in blue"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever is done, new and loaded otherwise, and whether or not another order is
    /// chosen: pinned nodes keep their places.
    #[test]
    fn pinned_nodes_keep_their_places(
        pins in prop::collection::vec(any::<bool>(), 8),
        done in prop::collection::vec(any::<bool>(), 8),
        loads in prop::collection::vec(0..12usize, 10),
        gain in prop::sample::select(vec![0u32, 100]),
        rounds in 0..20u32,
    ) {
        let (model, policy) = pool(8);
        let names: Vec<String> = (0..10).map(|at| format!("red-{at}")).collect();
        let chosen = names[1..9].iter().zip(&pins).filter(|(_, is)| **is);
        let chosen: Vec<&str> = chosen.map(|(name, _)| name.as_str()).collect();
        let earlier = pinned(&model, &policy, &chosen);
        let mut model = model;
        for new in ["red-0", "red-9"] {
            let mut node = Node::new(new, version(OLD));
            node.labels = model.nodes[0].labels.clone();
            model.nodes.push(node);
        }
        for (node, is_done) in model.nodes.iter_mut().zip(&done) {
            if *is_done {
                node.kubelet_version = version(NEW);
            }
        }
        let loads: Vec<(&str, usize)> =
            names.iter().map(String::as_str).zip(loads.iter().copied()).collect();
        let model = loaded(model, &loads);
        let planner = Planner::new(&model, &policy, version(NEW))
            .with_reorder_gain(gain)
            .with_improvement(rounds);
        for plan in [
            planner.replan(&earlier).unwrap().plan,
            planner.clone().replacing(&earlier).plan().unwrap(),
        ] {
            let still = plan.slots.iter().filter(|slot| slot.pinned).count();
            let left = earlier.slots.iter().filter(|slot| slot.pinned);
            let left = left.filter(|slot| !plan.at_target.contains(&slot.node));
            prop_assert_eq!(still, left.count());
            let found = lint_revision(&plan, &earlier, &model, &policy);
            prop_assert_eq!(of_pins(found), [""; 0]);
        }
    }
}

#[test]
fn a_pinned_canary_goes_beside_a_cordoned_node_where_there_is_room_for_none() {
    let mut model = workers(2, 4_000);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(2);
    let plan = pinned(&model, &policy, &["general-1"]);
    assert!(plan.slots[0].canary && plan.slots[0].pinned);
    model.nodes[1].unschedulable = true;
    let plan = replanned(&model, &policy, &plan, 5).plan;
    assert!(plan.slots[0].canary && plan.slots[0].node == "general-1");
    assert!(has_all(&plan), "{plan:#?}");
}
