use proptest::prelude::*;

use super::*;
use crate::{IntOrPercent, LabelSelector, PodId, UnhealthyPodPolicy};

fn web(index: u32) -> Pod {
    let mut pod = Pod::new(
        PodId::new("shop", format!("web-{index}"), format!("uid-{index}")),
        "node",
    );
    pod.labels.insert("app".into(), "web".into());
    pod.workload = Some(WorkloadId::new("Deployment", "shop", "web"));
    pod
}

fn deployment(replicas: u32) -> Workload {
    Workload::new(WorkloadId::new("Deployment", "shop", "web"), replicas)
}

fn budget(allowed: i32, desired: i32, healthy: i32) -> DisruptionBudget {
    let mut budget = DisruptionBudget::new("shop", "web", LabelSelector::default());
    budget.max_unavailable = Some(IntOrPercent::Int(1));
    budget.status.observed = true;
    budget.status.disruptions_allowed = allowed;
    budget.status.desired_healthy = desired;
    budget.status.current_healthy = healthy;
    budget
}

fn ledger(replicas: u32) -> BudgetLedger {
    let mut ledger = BudgetLedger::new(AssumedBudgetPolicy::default());
    ledger.observe_workload(&deployment(replicas));
    for index in 0..replicas {
        ledger.observe_pod(&web(index));
    }
    ledger
}

#[test]
fn an_assumed_budget_is_held_until_the_replacement_is_ready() {
    let mut ledger = ledger(3);
    ledger.hold("uid-0").unwrap();
    let blocked = ledger.hold("uid-1").unwrap_err();
    assert_eq!((blocked.desired, blocked.healthy), (2, 2));
    ledger.forget_pod("uid-0");
    assert!(ledger.hold("uid-1").is_err(), "gone is not replaced");
    let mut fresh = web(7);
    fresh.ready = false;
    ledger.observe_pod(&fresh);
    assert!(ledger.hold("uid-1").is_err(), "started is not Ready");
    fresh.ready = true;
    ledger.observe_pod(&fresh);
    ledger.hold("uid-1").unwrap();
}

#[test]
fn one_replica_has_no_assumed_budget_and_policy_can_switch_them_off() {
    let mut one = ledger(1);
    one.hold("uid-0").unwrap();
    let policy = AssumedBudgetPolicy {
        enabled: false,
        ..AssumedBudgetPolicy::default()
    };
    let mut off = BudgetLedger::new(policy);
    off.observe_workload(&deployment(2));
    off.observe_pod(&web(0));
    off.observe_pod(&web(1));
    off.hold("uid-0").unwrap();
    off.hold("uid-1").unwrap();
}

#[test]
fn a_real_budget_takes_the_place_of_the_assumed_one() {
    let mut ledger = ledger(3);
    ledger.observe_budget(&budget(2, 1, 3));
    assert_eq!(ledger.accounts().count(), 1);
    ledger.hold("uid-0").unwrap();
    ledger.hold("uid-1").unwrap();
    assert!(ledger.hold("uid-2").is_err());
    ledger.forget_budget("shop", "web");
    assert_eq!(ledger.budgets_of("uid-2")[0].kind, BudgetKind::Assumed);
}

#[test]
fn what_the_status_shows_is_not_counted_twice() {
    let mut ledger = ledger(4);
    ledger.observe_budget(&budget(2, 2, 4));
    ledger.hold("uid-0").unwrap();
    let mut seen = budget(1, 2, 4);
    seen.status.disrupted_pods.insert("web-0".into());
    ledger.observe_budget(&seen);
    ledger.hold("uid-1").unwrap();
}

#[test]
fn budgets_that_cannot_say_yes_say_why() {
    let mut ledger = ledger(2);
    let mut stale = budget(1, 1, 2);
    stale.status.observed = false;
    ledger.observe_budget(&stale);
    assert_eq!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::NotObserved
    );
    ledger.observe_budget(&budget(1, 1, 2));
    let mut second = budget(1, 1, 2);
    second.name = "also".into();
    ledger.observe_budget(&second);
    assert!(matches!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::TwoBudgets(_)
    ));
    assert_eq!(
        ledger.blocked("nobody").unwrap().reason,
        BlockedReason::Unseen
    );
}

#[test]
fn unready_pods_follow_the_unhealthy_pod_policy() {
    let mut ledger = ledger(3);
    let mut sick = web(0);
    sick.ready = false;
    ledger.observe_pod(&sick);
    assert_eq!(ledger.blocked("uid-0"), None, "assumed: nothing gets worse");
    let mut real = budget(0, 3, 2);
    ledger.observe_budget(&real);
    assert_eq!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::UnhealthyPod
    );
    real.unhealthy_pods = UnhealthyPodPolicy::AlwaysAllow;
    ledger.observe_budget(&real);
    assert_eq!(ledger.blocked("uid-0"), None);
}

proptest! {
    /// Whatever is asked in whatever order, an assumed budget never has fewer
    /// pods left than it needs, and holds and releases balance.
    #[test]
    fn assumed_budgets_hold_under_any_order(
        replicas in 2u32..8,
        max in 1u32..4,
        steps in proptest::collection::vec((0u8..5, 0u32..8), 0..60),
    ) {
        let policy = AssumedBudgetPolicy {
            max_unavailable: IntOrPercent::Int(max),
            ..AssumedBudgetPolicy::default()
        };
        let mut ledger = BudgetLedger::new(policy);
        ledger.observe_workload(&deployment(replicas));
        for index in 0..replicas { ledger.observe_pod(&web(index)); }
        let mut replacement = replicas;
        for (step, index) in steps {
            let uid = format!("uid-{index}");
            match step {
                0 | 1 => { let _ = ledger.hold(&uid); }
                2 => ledger.release(&uid),
                3 if ledger.is_held(&uid) => {
                    ledger.forget_pod(&uid);
                    ledger.observe_pod(&web(replacement));
                    replacement += 1;
                }
                _ => if index < replicas && !ledger.budgets_of(&uid).is_empty() {
                    ledger.observe_pod(&web(index));
                },
            }
            for view in ledger.accounts() {
                prop_assert!(view.healthy >= view.desired, "{view:?}");
                prop_assert!(view.held <= max, "{view:?}");
            }
        }
    }
}
