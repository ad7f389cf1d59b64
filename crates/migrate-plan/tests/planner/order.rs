//! What a plan has first, and how long it takes.

use migrate_core::{Phase, Plan, PlannedAction, Policy, Target};
use migrate_plan::{PlanTable, Planner, replay};

use crate::placement::workers;
use crate::support::{Cluster, NEW, OLD, has_all, linted, version};
use crate::{drains, plan, small};

#[test]
fn members_come_first_then_canaries_then_the_busiest_budget() {
    let plan = plan(&small().build());
    let order: Vec<String> = plan
        .schedule
        .iter()
        .filter(|action| action.phase != Phase::Verify)
        .filter(|action| {
            action.phase == Phase::Drain || matches!(action.target, Target::ControlPlane { .. })
        })
        .map(|action| action.target.name().to_owned())
        .collect();
    assert_eq!(&order[..2], ["control-plane-1", "control-plane-2"]);
    let slots: Vec<&str> = plan.slots.iter().map(|slot| slot.node.as_str()).collect();
    // Every worker with pods lasts as long as the other, so names decide the
    // canaries; general-3 has pods of both budgets and web is the busier one.
    assert_eq!(
        slots,
        [
            "control-plane-1",
            "control-plane-2",
            "general-1",
            "batch-2",
            "general-2",
            "general-3",
            "general-4",
            "batch-1",
        ]
    );
    let canaries: Vec<&str> = plan
        .slots
        .iter()
        .filter(|slot| slot.canary)
        .map(|slot| slot.node.as_str())
        .collect();
    assert_eq!(canaries, ["general-1", "batch-2"]);
    // The second backup is one.
    assert_eq!(plan.schedule.len(), 2 * 2 + 1 + 8 * 3);
}

#[test]
fn wider_pools_are_faster_until_a_budget_is_the_limit() {
    let nodes: Vec<String> = (1..=12).map(|n| format!("general-{n}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let model = Cluster::new()
        .member("m")
        .pool("general", 12)
        .deployment("web", &nodes)
        .budget("web", 1)
        .build();
    let of_width = |width: &str| {
        let mut policy = Policy::default();
        policy.pools.max_unavailable = width.parse().unwrap();
        Planner::new(&model, &policy, version(NEW)).plan().unwrap()
    };
    let (one, four, twelve) = (of_width("1"), of_width("4"), of_width("12"));
    assert!(one.makespan() > four.makespan() * 2);
    // From the budget's point of view all drains are in one row.
    let drain = |plan: &Plan| {
        plan.schedule
            .iter()
            .filter(|a| a.phase == Phase::Drain)
            .count()
    };
    assert_eq!(drain(&twelve), 12);
    for pair in drains(&twelve).windows(2) {
        assert!(pair[1].0 >= pair[0].1, "{pair:?}");
    }
    // The wider pool is limited by the budget and says so.
    assert!(twelve.estimate.bottleneck.to_string().contains("shop/web"));
    assert!(
        one.estimate
            .bottleneck
            .to_string()
            .contains("slots of pool general")
    );
}

#[test]
fn an_upgraded_cluster_needs_no_plan() {
    let model = small().build();
    let upgraded = migrate_core::ClusterModel::clone(&model);
    let upgraded = Cluster::new().change(|m| {
        *m = upgraded;
        m.control_plane
            .iter_mut()
            .for_each(|member| member.version = version(NEW));
        m.nodes
            .iter_mut()
            .for_each(|node| node.kubelet_version = version(NEW));
    });
    let plan = plan(&upgraded.build());
    assert!(plan.is_empty() && plan.schedule.is_empty() && plan.makespan().is_zero());
    assert_eq!(plan.at_target.len(), 2 + 8);
    assert!(PlanTable::new(&plan).to_string().contains("nothing to do"));
}

#[test]
fn nodes_at_the_target_are_left_out() {
    let done = |node: &mut migrate_core::Node| node.kubelet_version = version("v1.37.9");
    let model = small()
        .change(|m| {
            m.control_plane
                .iter_mut()
                .for_each(|member| member.version = version("1.37.9"))
        })
        .node("general-2", done)
        .build();
    let policy = Policy::default();
    let plan = Planner::new(&model, &policy, version("1.37.9"))
        .plan()
        .unwrap();
    assert!(plan.control_plane.is_empty());
    assert!(plan.slots.iter().all(|slot| slot.node != "general-2"));
    assert!(plan.at_target.contains(&"general-2".to_owned()));
    assert!(
        plan.at_target
            .contains(&"control plane control-plane-1".to_owned())
    );
}

#[test]
fn the_schedule_is_no_shorter_than_its_limits() {
    let plan = plan(&small().build());
    for term in &plan.estimate.terms {
        assert!(term.duration <= plan.makespan(), "{term:?}");
    }
    assert_eq!(plan.from, version(OLD));
}

#[test]
fn the_trace_replays() {
    let model = small()
        .node("general-3", |node| node.unschedulable = true)
        .build();
    let policy = Policy::default();
    let trace = Planner::new(&model, &policy, version(NEW)).trace().unwrap();
    let replayed = replay(&trace.plan, &model, &policy, &trace.inputs).unwrap();
    assert_eq!(replayed, trace.commands);
    assert_eq!(trace.commands.len(), trace.plan.schedule.len() + 1);
}

#[test]
fn the_node_of_the_runner_is_the_last_of_all_workers_and_no_canary() {
    let (model, policy) = (small().build(), Policy::default());
    for own in ["general-1", "batch-2"] {
        let planner = Planner::new(&model, &policy, version(NEW)).with_runner_on(own);
        let plan = planner.plan().unwrap();
        let last = plan.slots.last().unwrap();
        assert_eq!((last.node.as_str(), last.canary), (own, false));
        assert_eq!(plan.slots.iter().filter(|slot| slot.canary).count(), 2);
        // Not only in priority: there is room for it beside others.
        let of_own = |it: &&PlannedAction| it.target.name() == own;
        let begin = plan.schedule.iter().filter(of_own).map(|it| it.start).min();
        let others = plan.schedule.iter().filter(|it| !of_own(it));
        assert_eq!(begin, others.map(|it| it.end).max());
    }
    let lonely = Cluster::new().member("m").pool("general", 1).build();
    let planner = Planner::new(&lonely, &policy, version(NEW)).with_runner_on("general-1");
    assert!(planner.plan().unwrap().slots[0].canary, "it has no other");
}

#[test]
fn a_cordoned_node_of_the_runner_leaves_its_pool_a_place_for_the_others() {
    // There is room for none to be away, and its node is, until all others are done. One
    // that is cordoned too goes first, whichever is before the other by name.
    for (own, also) in [
        ("general-1", None),
        ("general-1", Some("general-2")),
        ("general-2", Some("general-1")),
    ] {
        let mut model = workers(3, 3_000);
        for node in &mut model.nodes {
            node.unschedulable = node.name == own || also == Some(node.name.as_str());
        }
        let mut policy = Policy::default();
        policy.pools.max_unavailable = "3".parse().unwrap();
        let planner = Planner::new(&model, &policy, version(NEW)).with_runner_on(own);
        let plan = planner.plan().unwrap();
        assert!(has_all(&plan), "{plan:#?}");
        assert_eq!(plan.slots.last().unwrap().node, own);
    }
}

#[test]
fn a_node_that_is_not_ready_is_no_canary_beside_one_whose_budgets_may_be_mended() {
    let model = Cluster::new()
        .member("m")
        .pool("general", 2)
        .deployment("web", &["general-1", "general-2"])
        .budget("web", 1)
        .node("general-1", |node| node.ready = false)
        .change(|model| {
            let mut second = model.budgets[0].clone();
            second.name = "second".into();
            model.budgets.push(second);
        })
        .build();
    let (policy, target) = (Policy::default(), version(NEW));
    let plan = Planner::new(&model, &policy, target).plan().unwrap();
    let canaries = plan.slots.iter().filter(|slot| slot.canary);
    let canaries: Vec<&str> = canaries.map(|slot| slot.node.as_str()).collect();
    assert_eq!(canaries, ["general-2"]);
}

#[test]
fn the_member_that_holds_the_virtual_address_is_the_last_and_the_plan_says_so() {
    let (model, policy) = (small().build(), Policy::default());
    let members = |plan: &Plan| -> Vec<String> {
        let members = plan.control_plane.iter();
        members.map(|member| member.name.clone()).collect()
    };
    let told = |plan: &Plan| {
        let mut found = plan.findings.iter();
        found.any(|finding| finding.code == "KM-LB-005")
    };
    let planner = Planner::new(&model, &policy, version(NEW)).with_address_on("control-plane-1");
    let plan = planner.plan().unwrap();
    assert_eq!(members(&plan), ["control-plane-2", "control-plane-1"]);
    assert!(told(&plan), "{:?}", plan.findings);
    let first = plan.schedule.first().unwrap();
    assert_eq!(first.target.name(), "control-plane-2");
    // Nobody's, or one that is no member: the order of names.
    for holder in [None, Some("general-1")] {
        let planner = Planner::new(&model, &policy, version(NEW));
        let plan = match holder {
            Some(node) => planner.with_address_on(node).plan().unwrap(),
            None => planner.plan().unwrap(),
        };
        assert_eq!(members(&plan), ["control-plane-1", "control-plane-2"]);
        assert!(!told(&plan), "{:?}", plan.findings);
    }
    let lonely = Cluster::new().member("m").pool("general", 1).build();
    let planner = Planner::new(&lonely, &policy, version(NEW)).with_address_on("m");
    assert!(!told(&planner.plan().unwrap()));
}

#[test]
fn improvement_finds_the_order_that_a_rule_of_thumb_misses() {
    // a's budget is the busiest, so its nodes go first; but b and c have the longest
    // drains, and one slot of two is then left to them alone.
    let model = Cluster::new()
        .member("m")
        .pool("general", 6)
        .deployment("a", &["general-1", "general-2", "general-3", "general-4"])
        .budget("a", 1)
        .deployment("b", &["general-5", "general-5", "general-5"])
        .deployment("c", &["general-6", "general-6", "general-6"])
        .build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    policy.pools.canary = false;
    let planner = Planner::new(&model, &policy, version(NEW)).with_runner_on("general-2");
    let plain = planner.plan().unwrap();
    let improved = planner.clone().with_improvement(100);
    let plan = linted(improved.plan().unwrap(), &model, &policy);
    assert!(plan.makespan() <= plain.makespan());
    assert_eq!(plan.slots.last().unwrap().node, "general-2");
    assert_eq!(improved.plan().unwrap(), plan);
    let by_size = planner.clone().with_improvement_by_size().plan().unwrap();
    assert_eq!(
        planner.clone().with_improvement(1000).plan().unwrap(),
        by_size
    );
    // None is none.
    assert_eq!(planner.with_improvement(0).plan().unwrap(), plain);
}
