//! Planning anew: what stays, what moves, and that it ends well.

use std::time::Duration;

use migrate_core::{ClusterModel, IntOrPercent, Node, Phase, Plan, Policy, Target};
use migrate_plan::{Error, Planner, Replan};
use proptest::prelude::*;

use crate::small;
use crate::support::{Cluster, NEW, OLD, linted, version};

fn names(plan: &Plan) -> Vec<&str> {
    plan.slots.iter().map(|slot| slot.node.as_str()).collect()
}

/// A pool of `count` nodes of which `width` may be away, and nothing to wait for.
fn wide(count: usize, width: u32) -> (ClusterModel, Policy) {
    let model = Cluster::new().member("m").pool("red", count).build();
    let mut policy = Policy::default();
    policy.pools.canary = false;
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    (model, policy)
}

fn replanned(model: &ClusterModel, policy: &Policy, earlier: &Plan, gain: u32) -> Replan {
    let planner = Planner::new(model, policy, version(NEW)).with_reorder_gain(gain);
    let replan = planner.replan(earlier).unwrap();
    let _ = linted(replan.plan.clone(), model, policy);
    replan
}

/// Gives a node so many pods, which makes it the first by priority.
fn load(model: &mut ClusterModel, node: &str, pods: usize) {
    let more = Cluster::new().deployment("heavy", &vec![node; pods]);
    let more = more.build();
    model.workloads.extend(more.workloads);
    model.pods.extend(more.pods);
    model.sort();
}

#[test]
fn what_is_done_goes_and_the_rest_stays_in_order() {
    let (mut model, policy) = wide(6, 2);
    let earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(
        names(&earlier),
        ["red-1", "red-2", "red-3", "red-4", "red-5", "red-6"]
    );
    model.nodes[1].kubelet_version = version(NEW);
    load(&mut model, "red-6", 3);
    let fresh = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(names(&fresh)[0], "red-6");
    let replan = replanned(&model, &policy, &earlier, 100);
    assert!(replan.keeps_order);
    assert_eq!(
        names(&replan.plan),
        ["red-1", "red-3", "red-4", "red-5", "red-6"]
    );
    assert_eq!(replan.plan.parent.as_ref(), Some(&earlier.id));
    assert_eq!(replan.plan.revision, earlier.revision + 1);
    assert_eq!(replan.kept, replan.plan.makespan());
}

#[test]
fn a_new_node_goes_where_its_priority_puts_it() {
    let (mut model, policy) = wide(4, 2);
    load(&mut model, "red-3", 3);
    let earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(names(&earlier), ["red-3", "red-1", "red-2", "red-4"]);
    for name in ["red-15", "red-9"] {
        let mut node = Node::new(name, version(OLD));
        node.labels = model.nodes[0].labels.clone();
        model.nodes.push(node);
    }
    model.sort();
    let replan = replanned(&model, &policy, &earlier, 5);
    let expected = ["red-3", "red-1", "red-15", "red-2", "red-4", "red-9"];
    assert_eq!(names(&replan.plan), expected);
}

#[test]
fn another_order_has_to_be_worth_it() {
    let (mut model, policy) = wide(3, 2);
    let earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    // Two short ones after the long one are no longer than two beside each other
    // and then the long one alone: it should begin first.
    load(&mut model, "red-3", 20);
    let kept = replanned(&model, &policy, &earlier, 100);
    assert!(kept.keeps_order);
    assert_eq!(names(&kept.plan), ["red-1", "red-2", "red-3"]);
    let other = replanned(&model, &policy, &earlier, 5);
    assert!(!other.keeps_order);
    assert_eq!(names(&other.plan), ["red-3", "red-1", "red-2"]);
    assert!(other.plan.makespan() < other.kept.mul_f64(0.95));
    assert_eq!(other.kept, kept.plan.makespan());
    assert_eq!(other.plan.parent.as_ref(), Some(&earlier.id));
}

#[test]
fn the_canary_stays_while_it_can_be_one() {
    let (mut model, mut policy) = wide(3, 2);
    policy.pools.canary = true;
    load(&mut model, "red-1", 3);
    let earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let canary = |plan: &Plan| {
        let mut canaries = plan.slots.iter().filter(|slot| slot.canary);
        canaries.next().unwrap().node.clone()
    };
    assert_eq!(canary(&earlier), "red-2");
    // Now another one would tell as soon, by name before it.
    model.pods.clear();
    let replan = replanned(&model, &policy, &earlier, 5);
    assert_eq!(canary(&replan.plan), "red-2");
    let mut away = model.clone();
    away.nodes[1].ready = false;
    let replan = replanned(&away, &policy, &earlier, 5);
    assert_eq!(canary(&replan.plan), "red-1");
    // One that is away already goes before it, and takes nothing more away.
    model.nodes[2].unschedulable = true;
    let replan = replanned(&model, &policy, &earlier, 5);
    assert_eq!(canary(&replan.plan), "red-3");
}

#[test]
fn a_plan_of_another_cluster_is_refused() {
    let (model, policy) = wide(3, 2);
    let mut earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    earlier.cluster = migrate_core::ClusterId::new("another");
    let error = Planner::new(&model, &policy, version(NEW)).replan(&earlier);
    assert!(matches!(error, Err(Error::OtherCluster { .. })));
}

/// Leaves `model` as a run of `plan` does that is broken off after `time`: what has
/// been verified is done, what was drained is empty and cordoned.
fn interrupted(model: &ClusterModel, plan: &Plan, time: Duration) -> ClusterModel {
    let mut model = model.clone();
    model.taken_at = model.taken_at + time;
    for action in plan.schedule.iter().filter(|action| action.start < time) {
        let is_over = action.end <= time;
        match &action.target {
            Target::ControlPlane { member } if is_over && action.phase == Phase::Verify => {
                let mut members = model.control_plane.iter_mut();
                let found = members.find(|one| one.name == *member).unwrap();
                found.version = plan.to.clone();
            }
            Target::Node { node, .. } => {
                let mut nodes = model.nodes.iter_mut();
                let found = nodes.find(|one| one.name == *node).unwrap();
                match action.phase {
                    Phase::Drain => found.unschedulable = true,
                    Phase::Verify if is_over => {
                        found.unschedulable = false;
                        found.kubelet_version = plan.to.clone();
                    }
                    _ => {}
                }
                if action.phase == Phase::Drain && is_over {
                    model.pods.retain(|pod| pod.node.as_ref() != Some(node));
                }
            }
            _ => {}
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Broken off anywhere and planned anew, all that is left is done, by the rules,
    /// in the order it had.
    #[test]
    fn a_plan_that_is_interrupted_anywhere_is_finished(
        width in 1..4u32,
        canary in any::<bool>(),
        permille in 0..1000u32,
    ) {
        let mut policy = Policy::default();
        policy.pools.max_unavailable = IntOrPercent::Int(width);
        policy.pools.canary = canary;
        let model = small().build();
        let earlier = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        let time = earlier.makespan() * permille / 1000;
        let model = interrupted(&model, &earlier, time);
        let replan = replanned(&model, &policy, &earlier, 100);
        let (plan, before) = (&replan.plan, names(&earlier));
        let verified = plan.schedule.iter().filter(|action| action.phase == Phase::Verify);
        let is_task = |action: &&migrate_core::PlannedAction| matches!(action.target, Target::Addon { .. });
        prop_assert_eq!(
            verified.filter(|action| !is_task(action)).count(),
            plan.slots.len() + plan.control_plane.len()
        );
        let canaries: Vec<&str> = plan.slots.iter().filter(|slot| slot.canary)
            .map(|slot| slot.node.as_str()).collect();
        let left: Vec<&str> = before.iter().copied()
            .filter(|name| names(plan).contains(name) && !canaries.contains(name)).collect();
        let now: Vec<&str> = names(plan).into_iter()
            .filter(|name| !canaries.contains(name)).collect();
        prop_assert_eq!(now, left);
    }

    /// Whatever order its lists have, a cluster gets the same plan, to the byte.
    #[test]
    fn permuting_the_model_changes_nothing(turns in prop::collection::vec(any::<u16>(), 5)) {
        let policy = Policy::default();
        let model = small().build();
        let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        let mut shuffled = model.clone();
        let by = |turn: u16, len: usize| usize::from(turn) % len.max(1);
        shuffled.control_plane.rotate_left(by(turns[0], model.control_plane.len()));
        shuffled.nodes.rotate_left(by(turns[1], model.nodes.len()));
        shuffled.pods.rotate_left(by(turns[2], model.pods.len()));
        shuffled.pods.reverse();
        shuffled.workloads.rotate_left(by(turns[3], model.workloads.len()));
        shuffled.budgets.rotate_left(by(turns[4], model.budgets.len()));
        shuffled.sort();
        let again = Planner::new(&shuffled, &policy, version(NEW)).plan().unwrap();
        prop_assert_eq!(
            serde_json::to_string(&plan).unwrap(),
            serde_json::to_string(&again).unwrap()
        );
    }
}
