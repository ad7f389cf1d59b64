//! What is begun when.

use std::time::Duration;

use migrate_core::{BudgetKey, OnDeadline};
use migrate_plan::{Input, WaitingOn};

use crate::run::{Run, cluster, policy};

#[test]
fn a_whole_run_in_order() {
    let model = cluster().build();
    let mut run = Run::new(&model, &policy("2", true, OnDeadline::Stop));
    assert_eq!(run.waiting_on("m1"), WaitingOn::Start);
    assert_eq!(run.tell(Input::Started), ["upgrade m1"]);
    assert_eq!(
        run.waiting_on("m2"),
        WaitingOn::ControlPlane {
            member: "m1".into()
        }
    );
    assert_eq!(
        run.waiting_on("general-1"),
        WaitingOn::ControlPlane {
            member: "m1".into()
        }
    );
    assert_eq!(run.ok("upgrade m1"), ["verify m1"]);
    assert_eq!(run.ok("verify m1"), ["upgrade m2"]);
    assert_eq!(
        run.through(&["upgrade", "verify"], "m2"),
        ["drain general-1"]
    );
    let canary = WaitingOn::Canary {
        pool: "general".into(),
        node: "general-1".into(),
    };
    assert_eq!(run.waiting_on("general-2"), canary);
    assert!(run.ok("verify general-1").is_empty(), "not running");
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert_eq!(run.ok("upgrade general-1"), ["verify general-1"]);
    assert_eq!(
        run.ok("verify general-1"),
        ["drain general-2", "drain general-3"]
    );
    assert!(run.ok("verify general-1").is_empty(), "told twice");
    assert!(matches!(
        run.waiting_on("general-2"),
        WaitingOn::PreviousPhase { .. }
    ));
    let slot = WaitingOn::PoolSlot {
        pool: "general".into(),
        width: 2,
    };
    assert_eq!(run.waiting_on("general-4"), slot);
    let progress = run.rollout.progress();
    assert_eq!(
        (progress.done, progress.running, progress.waiting),
        (3, 2, 1)
    );
    run.through(&["drain", "upgrade"], "general-3");
    assert_eq!(run.ok("verify general-3"), ["drain general-4"]);
    run.through(&["drain", "upgrade", "verify"], "general-2");
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-4"),
        ["finished"]
    );
    assert!(run.rollout.is_finished() && run.rollout.wake_at().is_none());
}

#[test]
fn a_budget_lets_nodes_go_in_turn_and_wakes_exactly_who_waits() {
    let model = cluster()
        .deployment("web", &["general-1", "general-2", "general-2", "general-3"])
        .budget("web", 2)
        .build();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    // general-2 has two pods of the budget and takes all of it; general-1 and
    // general-3 then wait, general-4 has none of them.
    let begun = run.members_done();
    assert_eq!(
        begun,
        ["drain general-1", "drain general-3", "drain general-4"]
    );
    let on = run.waiting_on("general-2");
    let key = BudgetKey::real("shop", "web");
    assert_eq!(
        on,
        WaitingOn::Budget {
            key: key.clone(),
            needed: 2,
            free: 0
        }
    );
    assert_eq!(
        on.to_string(),
        "PodDisruptionBudget shop/web has 0 free and it needs 2"
    );
    assert_eq!(run.ok("drain general-4"), ["upgrade general-4"]);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert_eq!(
        run.ok("drain general-3"),
        ["upgrade general-3", "drain general-2"]
    );
    // While it drains, the status shows what it has spent: no contradiction.
    assert!(run.tell(Input::BudgetSeen { key, allowed: 0 }).is_empty());
}

#[test]
fn a_budget_seen_to_recover_wakes() {
    let model = cluster()
        .deployment("web", &["general-1", "general-2"])
        .budget("web", 1)
        .change(|m| m.budgets[0].status.disruptions_allowed = 0)
        .build();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-3", "drain general-4"]);
    let key = BudgetKey::real("shop", "web");
    let seen = |allowed| Input::BudgetSeen {
        key: key.clone(),
        allowed,
    };
    assert!(run.tell(seen(0)).is_empty());
    assert_eq!(run.tell(seen(1)), ["drain general-1"]);
    // Spent by that drain, and given back when it ends.
    assert!(run.tell(seen(0)).is_empty());
    assert_eq!(
        run.ok("drain general-1"),
        ["upgrade general-1", "drain general-2"]
    );
    // Somebody else spends it: with nothing of ours in flight that is the truth.
    run.ok("drain general-2");
    run.tell(seen(0));
    assert!(
        run.tell(Input::BudgetSeen {
            key: BudgetKey::real("shop", "new"),
            allowed: 3
        })
        .is_empty()
    );
}

#[test]
fn pause_holds_every_begin_and_nothing_else() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    assert!(run.tell(Input::Paused { paused: true }).is_empty());
    assert!(run.ok("drain general-1").is_empty());
    assert!(run.fail("drain general-2", true).is_empty());
    assert_eq!(run.waiting_on("general-1"), WaitingOn::Paused);
    run.now = run.now + Duration::from_secs(3600);
    assert!(run.poll().is_empty());
    let resumed = run.tell(Input::Paused { paused: false });
    assert_eq!(resumed, ["upgrade general-1", "drain general-2"]);
}
