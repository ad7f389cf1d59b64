//! What planning refuses and what it finds.

use migrate_core::skew::PathError;
use migrate_core::{KubeVersion, Phase, Plan, Policy, Severity};
use migrate_plan::{Error, PlanTable, Planner};

use crate::support::{Cluster, NEW, version};
use crate::{drains, plan, small};

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
    assert!(matches!(error, Error::NoPath(PathError::NoControlPlane)));
}

#[test]
fn a_kubelet_ahead_of_all_that_is_to_come_is_a_blocker() {
    let model = small()
        .node("general-1", |n| n.kubelet_version = version("1.38.0"))
        .build();
    let finding = plan(&model).findings.swap_remove(0);
    assert_eq!(
        (finding.code.as_str(), finding.severity),
        ("KM-SKEW-001", Severity::Blocker)
    );
    assert!(
        finding.evidence.contains("kubelet general-1 runs v1.38.0"),
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
    assert_eq!(plan.schedule.len(), 2 * 2 + 1 + 8 * 3);
    // With a pod that is down somebody has to act, and then all of it can go.
    let model = small().change(|m| {
        m.budgets[0].status.current_healthy = 2;
        m.budgets[0].status.disruptions_allowed = 0;
        let down = m.pods.iter_mut().find(|pod| pod.id.name.starts_with("web"));
        down.unwrap().ready = false;
    });
    let plan = crate::plan(&model.build());
    let finding = &plan.findings[0];
    assert_eq!(
        (finding.code.as_str(), finding.severity),
        ("KM-PDB-003", Severity::Blocker)
    );
    assert_eq!(plan.schedule.len(), 2 * 2 + 1 + 8 * 3);
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
