//! The linter: good plans pass, and each kind of break is found.

use std::time::Duration;

use migrate_core::policy::ZonePolicy;
use migrate_core::{
    Addon, ClusterId, ClusterModel, Finding, Phase, Plan, PlannedAction, PlannedSlot, Point,
    Policy, Severity, Target, ZONE_LABEL,
};
use migrate_plan::{Planner, lint};

use crate::support::{Cluster, NEW, version};
use crate::{plan, small};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster and a policy with something of everything.
fn everything() -> (ClusterModel, Policy) {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    policy.rollout.canary_soak = Duration::from_secs(600);
    policy.addons = vec![
        Addon::new("cni", Point::AfterControlPlane),
        Addon::new("last", Point::AfterAll),
    ];
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "12:00"}]"#).unwrap();
    (small().build(), policy)
}

/// The plan, after `change`, is found to break exactly `code`.
fn finds(code: &str, change: impl FnOnce(&mut Plan, &mut ClusterModel, &mut Policy)) {
    let (mut model, mut policy) = everything();
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(lint(&plan, &model, &policy), []);
    change(&mut plan, &mut model, &mut policy);
    let found = lint(&plan, &model, &policy);
    assert!(found.iter().any(|f| f.code == code), "{code}: {found:#?}");
    assert!(is_only(&found, code), "{code}: {found:#?}");
}

/// Nothing else is found than `code`, but that it was edited, and what the cluster breaks
/// before the plan begins.
fn is_only(found: &[Finding], code: &str) -> bool {
    let told = [
        ("KM-LINT-002", Severity::Info),
        ("KM-LINT-020", Severity::Warning),
    ];
    let is_told = |f: &Finding| told.contains(&(f.code.as_str(), f.severity));
    found.iter().all(|f| f.code == code || is_told(f))
}

/// The actions of a target by its name.
fn of<'p>(plan: &'p mut Plan, name: &'p str) -> impl Iterator<Item = &'p mut PlannedAction> {
    let schedule = plan.schedule.iter_mut();
    schedule.filter(move |action| action.target.name() == name)
}

fn start(plan: &mut Plan, name: &str) -> Duration {
    of(plan, name).map(|action| action.start).min().unwrap()
}

fn end(plan: &mut Plan, name: &str) -> Duration {
    let work = of(plan, name).filter(|action| action.phase != Phase::Confirm);
    work.map(|action| action.end).max().unwrap()
}

/// Lets a target begin at `at`.
fn shift(plan: &mut Plan, name: &str, at: Duration) {
    let start = start(plan, name);
    for action in of(plan, name) {
        action.start = action.start + at - start;
        action.end = action.end + at - start;
    }
}

fn slot<'p>(plan: &'p mut Plan, node: &str) -> &'p mut PlannedSlot {
    plan.slots
        .iter_mut()
        .find(|slot| slot.node == node)
        .unwrap()
}

#[test]
fn another_cluster_and_another_policy_are_found() {
    finds("KM-LINT-001", |_, model, _| {
        model.cluster = ClusterId::new("other")
    });
    finds("KM-LINT-001", |_, _, policy| policy.respread = true);
}

#[test]
fn a_hand_edit_is_told_and_blocks_nothing() {
    let (model, policy) = everything();
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let last = plan.slots.len() - 1;
    plan.slots.swap(last, last - 1);
    let found = lint(&plan, &model, &policy);
    let codes: Vec<_> = found
        .iter()
        .map(|f| (f.code.as_str(), f.severity))
        .collect();
    assert_eq!(codes, [("KM-LINT-002", Severity::Info)]);
}

#[test]
fn what_is_not_there_or_there_twice_is_found() {
    finds("KM-LINT-003", |plan, _, _| {
        let again = plan.slots[3].clone();
        plan.slots.push(again);
    });
    finds("KM-LINT-003", |_, model, _| {
        model.nodes.retain(|node| node.name != "batch-1");
        for pod in &mut model.pods {
            pod.node = pod.node.take().filter(|node| node != "batch-1");
        }
    });
    finds("KM-LINT-003", |plan, _, _| plan.pools[0].width = 9);
    finds("KM-LINT-003", |_, model, _| {
        model.nodes[0].kubelet_version = version(NEW);
    });
    finds("KM-LINT-003", |plan, _, _| {
        let target = Target::Addon {
            name: "none".into(),
        };
        let at = plan.makespan() + SECOND;
        let action = PlannedAction::new(target, Phase::Upgrade, at, at + SECOND);
        plan.schedule.push(action);
    });
}

#[test]
fn what_is_left_out_is_found() {
    finds("KM-LINT-004", |plan, _, _| {
        plan.slots.retain(|slot| slot.node != "general-4");
        plan.schedule
            .retain(|action| action.target.name() != "general-4");
    });
}

#[test]
fn phases_out_of_order_are_found() {
    finds("KM-LINT-005", |plan, _, _| {
        plan.schedule
            .retain(|a| a.target.name() != "general-4" || a.phase != Phase::Drain);
    });
    finds("KM-LINT-005", |plan, _, _| {
        let verify = of(plan, "general-4").find(|action| action.phase == Phase::Verify);
        let verify = verify.unwrap();
        verify.start -= SECOND;
    });
    finds("KM-LINT-005", |plan, _, _| {
        let again = of(plan, "general-4").last().unwrap().clone();
        plan.schedule.push(again);
    });
}

#[test]
fn a_control_plane_that_is_not_first_or_not_one_by_one_is_found() {
    finds("KM-LINT-006", |plan, _, _| {
        let name = plan.control_plane[1].name.clone();
        // Members and their nodes have the same names.
        let of_member = |a: &&mut PlannedAction| matches!(a.target, Target::ControlPlane { .. });
        for action in of(plan, &name).filter(of_member) {
            action.start -= SECOND;
            action.end -= SECOND;
        }
    });
    let (model, policy) = everything();
    let mut timeless = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    timeless.schedule.retain(|a| match &a.target {
        Target::Node { node, .. } => node != "control-plane-2",
        _ => true,
    });
    let found = lint(&timeless, &model, &policy);
    let codes: Vec<&str> = found.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["KM-LINT-006", "KM-LINT-021"]);
    let mut model = small().build();
    let mut plan = plan(&model);
    plan.control_plane.pop();
    let is_other = |a: &PlannedAction| a.target.name() != "control-plane-2";
    plan.schedule
        .retain(|a| is_other(a) || matches!(a.target, Target::Node { .. }));
    model.sort();
    let found = lint(&plan, &model, &Policy::default());
    assert!(found.iter().any(|f| f.code == "KM-LINT-006"), "{found:#?}");
}

#[test]
fn too_many_nodes_away_are_found() {
    // Their drains follow one another, as the budgets want it.
    // A pool that is narrower in the plan than policy asks for is so in its schedule.
    finds("KM-LINT-007", |plan, _, _| {
        let pool = plan.pools.iter_mut().find(|pool| pool.name == "general");
        pool.unwrap().width = 1;
    });
    finds("KM-LINT-007", |plan, _, _| {
        let names = ["general-2", "general-3", "general-4"];
        let mut at = names
            .map(|name| start(plan, name))
            .into_iter()
            .min()
            .unwrap();
        for name in names {
            shift(plan, name, at);
            let drain = of(plan, name).find(|action| action.phase == Phase::Drain);
            at = drain.unwrap().end;
        }
    });
    // Somebody has cordoned the other node.
    let (model, mut policy) = everything();
    policy.pools.max_unavailable = "1".parse().unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let mut later = model;
    let node = later.nodes.iter_mut().find(|node| node.name == "general-4");
    node.unwrap().unschedulable = true;
    let found = lint(&plan, &later, &policy);
    assert!(found.iter().any(Finding::blocks), "{found:#?}");
    assert!(is_only(&found, "KM-LINT-007"), "{found:#?}");
}

#[test]
fn a_canary_that_is_not_alone_is_found() {
    finds("KM-LINT-008", |plan, _, _| {
        let canary = start(plan, "batch-2");
        shift(plan, "batch-1", canary + SECOND);
    });
    // It soaks for ten minutes.
    finds("KM-LINT-008", |plan, _, _| {
        let at = end(plan, "batch-2") + SECOND;
        shift(plan, "batch-1", at);
    });
    finds("KM-LINT-008", |plan, _, _| {
        plan.schedule
            .retain(|action| action.phase != Phase::Confirm);
    });
}

#[test]
fn budgets_that_give_too_much_are_found() {
    // web lets one go and is on the first three.
    finds("KM-LINT-009", |plan, _, _| {
        let at = start(plan, "general-3");
        shift(plan, "general-2", at);
    });
    // api has no budget of its own and is on the last two.
    finds("KM-LINT-009", |plan, _, _| {
        let at = start(plan, "general-3");
        shift(plan, "general-4", at);
    });
    finds("KM-LINT-009", |_, model, _| {
        let budget = &mut model.budgets[0];
        budget.min_available = Some("100%".parse().unwrap());
        budget.status.desired_healthy = budget.status.expected_pods;
        budget.status.disruptions_allowed = 0;
    });
}

#[test]
fn work_outside_a_window_is_found() {
    finds("KM-LINT-010", |plan, _, _| {
        for action in &mut plan.schedule {
            action.start += 24 * 60 * 60 * SECOND / 2;
            action.end += 24 * 60 * 60 * SECOND / 2;
        }
    });
}

#[test]
fn tasks_that_are_not_alone_or_not_at_their_point_are_found() {
    finds("KM-LINT-011", |plan, _, _| {
        let at = start(plan, "batch-2");
        shift(plan, "cni", at);
    });
    finds("KM-LINT-011", |plan, _, _| {
        let at = start(plan, "last") - SECOND;
        shift(plan, "last", at);
    });
}

#[test]
fn a_runner_that_is_not_last_is_found() {
    finds("KM-LINT-012", |plan, _, _| {
        slot(plan, "general-1").hosts_runner = true
    });
}

#[test]
fn a_node_that_is_not_ready_does_not_begin() {
    let model = small().build();
    let planned = plan(&model);
    let mut later = model;
    let node = later.nodes.iter_mut().find(|node| node.name == "batch-1");
    node.unwrap().ready = false;
    let found = lint(&planned, &later, &Policy::default());
    assert!(found.iter().any(|f| f.code == "KM-LINT-013"), "{found:#?}");
}

/// A plan that was made without a rule is found to break it: protection off, and
/// the linter objects.
fn finds_without(code: &str, rule: impl Fn(&mut Policy)) {
    let zones = ["a", "b", "c"].into_iter().cycle();
    let cluster = Cluster::new().member("m").pool("general", 9);
    let model = cluster.change(|model| {
        for (node, zone) in model.nodes.iter_mut().zip(zones) {
            node.labels.insert(ZONE_LABEL.into(), zone.into());
        }
    });
    let nodes: Vec<String> = (1..=9).map(|n| format!("general-{n}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    // Nothing but the rule holds them up.
    let model = model.deployment("web", &nodes).deployment("api", &nodes);
    let model = model.budget("web", 9).budget("api", 9).build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "4".parse().unwrap();
    let off = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(lint(&off, &model, &policy), []);
    rule(&mut policy);
    let mut on = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(lint(&on, &model, &policy), []);
    assert_ne!(on.schedule, off.schedule);
    on.schedule = off.schedule;
    let found = lint(&on, &model, &policy);
    assert!(!found.is_empty() && is_only(&found, code), "{found:#?}");
}

#[test]
fn a_ramp_that_is_not_kept_is_found() {
    finds_without("KM-LINT-015", |policy| policy.pools.ramp = vec![1, 3]);
}

#[test]
fn two_zones_at_once_are_found() {
    let one = ZonePolicy::OneAtATime;
    finds_without("KM-LINT-016", |policy| policy.pools.zones = one);
}

#[test]
fn a_reserve_that_is_not_kept_is_found() {
    let reserve = "20%".parse().unwrap();
    finds_without("KM-LINT-017", |policy| {
        policy.pools.failure_reserve = reserve
    });
}

/// A cordoned node takes nothing of the reserve, also of one that another leaves at
/// the same moment.
#[test]
fn a_cordoned_node_that_begins_with_another_leaves_it_the_reserve() {
    let cluster = Cluster::new().member("m").pool("general", 3);
    let model = cluster
        .node("general-1", |node| node.unschedulable = true)
        .build();
    let mut policy = Policy::default();
    policy.pools.canary = false;
    policy.pools.max_unavailable = "2".parse().unwrap();
    policy.pools.failure_reserve = "1".parse().unwrap();
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let together = start(&mut plan, "general-1");
    shift(&mut plan, "general-2", together);
    assert!(is_only(&lint(&plan, &model, &policy), ""));
    // The control: a moment later it does not.
    shift(&mut plan, "general-2", together + SECOND);
    let found = lint(&plan, &model, &policy);
    assert!(found.iter().any(|f| f.code == "KM-LINT-017"), "{found:#?}");
}

#[test]
fn drains_that_displace_pods_too_fast_are_found() {
    finds_without("KM-LINT-018", |policy| {
        policy.rollout.displaced_per_minute = 1;
    });
}

#[test]
fn versions_that_may_not_meet_are_found() {
    // Two minors at once, for each member.
    finds("KM-LINT-020", |plan, _, _| plan.to = version("v1.38.0"));
    finds("KM-LINT-020", |plan, model, _| {
        model.control_plane[0].version = version("v1.38.0");
        plan.control_plane[0].from = version("v1.38.0");
    });
    // A kubelet that meets the first new API server too far behind, whether it changes or not.
    for is_planned in [true, false] {
        let (mut model, policy) = everything();
        let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        let old = version("v1.33.9");
        let worker = plan.slots.last().unwrap().node.clone();
        let node = model.nodes.iter_mut().find(|node| node.name == worker);
        node.unwrap().kubelet_version = old.clone();
        plan.slots.last_mut().unwrap().from = old;
        if !is_planned {
            plan.slots.pop();
            plan.schedule
                .retain(|action| action.target.name() != worker);
        }
        let found = lint(&plan, &model, &policy);
        let found = found.iter().filter(|f| f.code == "KM-LINT-020");
        let objects: Vec<String> = found.map(|f| f.object.to_string()).collect();
        assert_eq!(objects, [format!("Node {worker}")], "{is_planned}");
    }
    // The control plane is where it is, and a kubelet goes to a newer version than it.
    let (mut model, policy) = everything();
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    for member in &mut model.control_plane {
        member.version = version(NEW);
    }
    plan.control_plane.clear();
    let met = |plan: &Plan| {
        let found = lint(plan, &model, &policy);
        found.iter().filter(|f| f.code == "KM-LINT-020").count()
    };
    assert_eq!(met(&plan), 0);
    plan.to = version("v1.38.0");
    assert_eq!(met(&plan), plan.slots.len());
}

#[test]
fn what_stands_otherwise_than_planned_is_found() {
    finds("KM-LINT-003", |plan, _, _| {
        plan.slots[0].from = version("v1.35.1")
    });
    finds("KM-LINT-003", |plan, _, _| {
        plan.control_plane[0].from = version("v1.36.1");
    });
}

#[test]
fn a_target_without_a_time_is_found() {
    finds("KM-LINT-021", |plan, _, _| {
        let last = plan.slots.last().unwrap().node.clone();
        plan.schedule.retain(|action| action.target.name() != last);
    });
    finds("KM-LINT-021", |plan, _, _| plan.schedule.clear());
}

#[test]
fn waivers_hold_and_a_plan_without_targets_is_fine() {
    let model = small().build();
    let plan = plan(&model);
    let mut policy = Policy::default();
    policy.waive.insert("KM-LINT-001".into());
    let found = lint(&plan, &model, &policy);
    assert!(
        found.iter().all(|f| f.code == "KM-LINT-001" && !f.blocks()),
        "{found:#?}"
    );
    assert!(!found.is_empty());
    let done = Cluster::new().member("m").change(|model| {
        model.control_plane[0].version = version(NEW);
    });
    let done = done.build();
    assert_eq!(lint(&crate::plan(&done), &done, &Policy::default()), []);
}
