//! Plans: content, order, refusals, impossibilities, table and JSON.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{DocumentError, KubeVersion, Phase, Plan, Policy, Severity, Target};
use migrate_plan::{Error, PlanTable, Planner, plan_from_json, plan_to_json, replay};
use support::{Cluster, NEW, OLD, version};

fn plan(model: &migrate_core::ClusterModel) -> Plan {
    Planner::new(model, &Policy::default(), version(NEW))
        .plan()
        .unwrap()
}

/// Three members and their nodes, four and two workers, budgets of both kinds.
fn small() -> Cluster {
    Cluster::new()
        .member("control-plane-1")
        .member("control-plane-2")
        .pool("control-plane", 2)
        .pool("general", 4)
        .pool("batch", 2)
        .deployment("web", &["general-1", "general-2", "general-3"])
        .budget("web", 1)
        .deployment("api", &["general-3", "general-4"])
        .deployment("single", &["batch-1"])
}

#[test]
fn the_table_of_a_small_cluster() {
    let model = small()
        .node("batch-2", |node| node.unschedulable = true)
        .build();
    let plan = plan(&model);
    // The id changes with every field of policy and model.
    let table = PlanTable::new(&plan)
        .to_string()
        .replace(&plan.id, "0123456789ab");
    let golden = include_str!("golden/small.txt");
    assert_eq!(table, golden, "\n{table}");
    let short = PlanTable::new(&plan).with_rows(3).to_string();
    assert!(short.contains("... and 7 more"), "{short}");
}

#[test]
fn the_way_back_stands_under_its_target() {
    let plan = plan(&small().build());
    let plain = PlanTable::new(&plan).to_string();
    let target = Target::ControlPlane {
        member: plan.control_plane[0].name.clone(),
    };
    let undo = BTreeMap::from([(target.clone(), "POINT OF NO RETURN: ".repeat(9))]);
    let table = PlanTable::new(&plan).with_undo(&undo).to_string();
    let mut lines: Vec<&str> = table.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("POINT"))
        .unwrap();
    assert!(lines[at - 1].starts_with(&target.to_string()), "{table}");
    // However long it is, the columns stay as they are.
    lines.remove(at);
    assert_eq!(lines, plain.lines().collect::<Vec<_>>());
}

#[test]
fn json_gives_the_plan_back_and_a_newer_schema_is_refused() {
    let plan = plan(&small().build());
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
    let newer = json.replacen("\"schema\": 1", "\"schema\": 2", 1);
    let error = plan_from_json(&newer).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Document(DocumentError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{error}"
    );
    let error = plan_from_json("{}").unwrap_err();
    assert!(matches!(
        error,
        Error::Document(DocumentError::Invalid { .. })
    ));
}

#[test]
fn a_model_of_a_newer_release_is_neither_planned_for_nor_run_on() {
    let mut model = small().build();
    let policy = Policy::default();
    let plan = plan(&model);
    model.schema += 1;
    let planned = Planner::new(&model, &policy, version(NEW)).plan();
    let run = migrate_plan::Rollout::new(&plan, &model, &policy);
    for error in [planned.map(drop).unwrap_err(), run.map(drop).unwrap_err()] {
        let expected = "the cluster model has schema 2 and this release knows up to 1: use the \
                        release that wrote it, or make it anew";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn equal_input_gives_equal_bytes_and_any_change_another_id() {
    let model = small().build();
    assert_eq!(
        plan_to_json(&plan(&model)).unwrap(),
        plan_to_json(&plan(&model)).unwrap()
    );
    let first = plan(&model);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    let other = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_ne!(first.id, other.id);
    let policy = Policy::default();
    let next = Planner::new(&model, &policy, version(NEW))
        .replacing(&first)
        .plan()
        .unwrap();
    assert_eq!(
        (next.parent.as_deref(), next.revision),
        (Some(first.id.as_str()), 2)
    );
    assert_ne!(first.id, next.id);
    // Predictions are not part of what a plan fixes.
    let durations = serde_json::from_str(r#"{"boot":{"secs":0,"nanos":0}}"#).unwrap();
    let faster = Planner::new(&model, &policy, version(NEW))
        .with_durations(durations)
        .plan()
        .unwrap();
    assert_eq!(first.id, faster.id);
    assert!(faster.makespan() < first.makespan());
}

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
    assert_eq!(plan.schedule.len(), 2 * 2 + 8 * 3);
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

fn drains(plan: &Plan) -> Vec<(Duration, Duration)> {
    let drains = plan
        .schedule
        .iter()
        .filter(|action| action.phase == Phase::Drain);
    drains.map(|action| (action.start, action.end)).collect()
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
fn what_is_not_one_hop_is_refused_with_the_way() {
    let model = small().build();
    let policy = Policy::default();
    let refuse = |to: &str| {
        Planner::new(&model, &policy, version(to))
            .plan()
            .unwrap_err()
            .to_string()
    };
    let two_ahead = refuse("1.38.0");
    assert!(two_ahead.contains("1.36 -> 1.37 -> 1.38"), "{two_ahead}");
    assert!(two_ahead.contains("to 1.37 first"), "{two_ahead}");
    let downgrade = refuse("1.35.0");
    assert!(downgrade.contains("cannot go back"), "{downgrade}");
    assert!(refuse("2.0.0").contains("major version"));
    assert!("1.thirtyseven".parse::<KubeVersion>().is_err());
    // Workers that would fall behind come first.
    let behind = small()
        .node("general-1", |n| n.kubelet_version = version("1.33.0"))
        .build();
    let error = Planner::new(&behind, &policy, version(NEW))
        .plan()
        .unwrap_err()
        .to_string();
    assert!(error.contains("every node to 1.36 first"), "{error}");
    // A target between two members is a downgrade for one of them.
    let mixed = small()
        .change(|m| m.control_plane[1].version = version("1.37.5"))
        .build();
    let error = Planner::new(&mixed, &policy, version("1.37.1"))
        .plan()
        .unwrap_err();
    assert!(error.to_string().contains("cannot go back"), "{error}");
    let empty = Cluster::new().pool("general", 1).build();
    let error = Planner::new(&empty, &policy, version(NEW))
        .plan()
        .unwrap_err();
    assert!(matches!(error, Error::NoControlPlane));
}

#[test]
fn a_kubelet_ahead_of_an_api_server_is_found() {
    let model = small()
        .node("general-1", |n| n.kubelet_version = version("1.37.0"))
        .build();
    let finding = plan(&model).findings.swap_remove(0);
    assert_eq!(
        (finding.code.as_str(), finding.severity),
        ("KM-SKEW-001", Severity::Blocker)
    );
    assert!(
        finding.evidence.contains("kubelet general-1 runs v1.37.0"),
        "{finding}"
    );
}

#[test]
fn a_budget_that_never_allows_is_a_blocker_and_the_others_go_on() {
    let model = small()
        .deployment("db", &["general-2", "batch-1"])
        .budget("db", 0)
        .build();
    let plan = plan(&model);
    let finding = plan
        .findings
        .iter()
        .find(|f| f.code == "KM-PDB-001")
        .unwrap();
    assert!(finding.blocks());
    assert_eq!(finding.object.to_string(), "PodDisruptionBudget shop/db");
    assert!(finding.evidence.contains("minAvailable is 2"), "{finding}");
    let drained: Vec<&str> = plan
        .schedule
        .iter()
        .filter(|action| action.phase == Phase::Verify)
        .map(|action| action.target.name())
        .collect();
    assert!(!drained.contains(&"general-2") && !drained.contains(&"batch-1"));
    assert!(drained.contains(&"general-4") && drained.contains(&"batch-2"));
    assert!(PlanTable::new(&plan).to_string().contains("cannot begin"));
    let mut policy = Policy::default();
    policy.waive.insert("KM-PDB-001".into());
    let waived = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert!(
        waived
            .findings
            .iter()
            .any(|f| f.code == "KM-PDB-001" && f.waived && !f.blocks())
    );
}

#[test]
fn a_budget_that_recovers_is_only_a_warning() {
    let model = small()
        .change(|m| {
            m.budgets[0].status.current_healthy = 2;
            m.budgets[0].status.disruptions_allowed = 0;
        })
        .build();
    let plan = plan(&model);
    let finding = plan
        .findings
        .iter()
        .find(|f| f.code == "KM-PDB-003")
        .unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(plan.schedule.len(), 2 * 2 + 8 * 3);
    // With a pod that is down somebody has to act, and then all of it can go.
    let model = small().change(|m| {
        m.budgets[0].status.current_healthy = 2;
        m.budgets[0].status.disruptions_allowed = 0;
        let down = m.pods.iter_mut().find(|pod| pod.id.name.starts_with("web"));
        down.unwrap().ready = false;
    });
    let plan = self::plan(&model.build());
    let finding = &plan.findings[0];
    assert_eq!(
        (finding.code.as_str(), finding.severity),
        ("KM-PDB-003", Severity::Blocker)
    );
    assert_eq!(plan.schedule.len(), 2 * 2 + 8 * 3);
}

#[test]
fn two_budgets_on_a_pod_are_a_blocker() {
    let model = small()
        .change(|m| {
            let mut second = m.budgets[0].clone();
            second.name = "web-too".into();
            m.budgets.push(second);
        })
        .build();
    let finding = plan(&model).findings.swap_remove(0);
    assert_eq!(finding.code, "KM-PDB-002");
    assert!(finding.evidence.contains("3 pods") && finding.evidence.contains("web-too"));
}

#[test]
fn nodes_that_are_away_take_slots() {
    // One that is not Ready takes the only slot of its pool.
    let model = small().node("general-2", |node| node.ready = false).build();
    let plan_of_not_ready = plan(&model);
    let codes: Vec<&str> = plan_of_not_ready
        .findings
        .iter()
        .map(|f| f.code.as_str())
        .collect();
    assert_eq!(codes, ["KM-NODE-001", "KM-NODE-003", "KM-BUDGET-002"]);
    let begun = |plan: &Plan, pool: &str| {
        let of_pool = |a: &&migrate_core::PlannedAction| {
            a.phase == Phase::Drain && a.target.name().starts_with(pool)
        };
        plan.schedule.iter().filter(of_pool).count()
    };
    assert_eq!(
        (
            begun(&plan_of_not_ready, "general"),
            begun(&plan_of_not_ready, "batch")
        ),
        (0, 2)
    );
    // One that is cordoned takes it too, but needs no further one: so it goes
    // first, and the others have their times for when it is uncordoned.
    let model = small()
        .node("general-3", |node| node.unschedulable = true)
        .build();
    let plan_of_cordoned = plan(&model);
    assert_eq!(begun(&plan_of_cordoned, "general"), 4);
    let first = plan_of_cordoned
        .slots
        .iter()
        .find(|slot| slot.pool == "general")
        .unwrap();
    assert_eq!(first.node, "general-3");
    let codes: Vec<&str> = plan_of_cordoned
        .findings
        .iter()
        .map(|f| f.code.as_str())
        .collect();
    assert_eq!(codes, ["KM-NODE-003", "KM-NODE-002", "KM-BUDGET-002"]);
    // With a further slot nothing waits for that.
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert!(!plan.findings.iter().any(|f| f.blocks()));
}

#[test]
fn assumed_budgets_are_reported_and_hold() {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "4".parse().unwrap();
    policy.pools.canary = false;
    let model = Cluster::new()
        .member("m")
        .pool("general", 4)
        .deployment("api", &["general-1", "general-2", "general-3", "general-4"])
        .build();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let finding = &plan.findings[0];
    assert_eq!(
        (finding.code.as_str(), finding.severity),
        ("KM-BUDGET-002", Severity::Info)
    );
    assert!(finding.evidence.contains("Deployment/api"), "{finding}");
    for pair in drains(&plan).windows(2) {
        assert!(pair[1].0 >= pair[0].1, "{pair:?}");
    }
    policy.assumed_budgets.enabled = false;
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert!(
        drains(&plan).windows(2).all(|pair| pair[0] == pair[1]),
        "all at once"
    );
    policy.assumed_budgets.enabled = true;
    policy.assumed_budgets.max_unavailable = "0".parse().unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(plan.findings[0].code, "KM-BUDGET-001");
    assert!(drains(&plan).is_empty());
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
