//! Negative controls: the same observer and the same rules as in the proof, and
//! a run that lacks one guard. Each must be caught, or the proof proves nothing.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::sync::Arc;

use kube::Client;
use migrate_core::MigratePods;
use migrate_drain::Drainer;
use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_sim::rules::{RuleSettings, Violation};
use migrate_sim::{Budget, Pool, Scenario, Workload};
use migrate_testbed::{ControlPlane, skip_or_fail};

use real::cluster::{self, ORIGIN};
use real::observer::Observer;
use real::run::{self, NoBackup, NoDrain, Parts};
use real::{audit, figure};

const GUARDED: &str = "waive = ['KM-BACKUP-001']";
const NOTHING_ASSUMED: &str = "waive = ['KM-BACKUP-001']\n[assumed-budgets]\nenabled = false";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_guard_is_caught() {
    // The control plane is at the target: only nodes are left to do.
    let builder = ControlPlane::builder().minor(37).audit(true);
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    cluster::load(&plane, &scenario()).await;
    let drainer = |client: &Client| Drainer::new(client.clone());
    type Make = Box<dyn Fn(&Client) -> Arc<dyn MigratePods>>;
    let controls: [(&str, &str, Make, &str); 4] = [
        (
            "nothing off",
            GUARDED,
            Box::new(move |client| Arc::new(drainer(client))),
            "",
        ),
        (
            "ledger off",
            GUARDED,
            Box::new(move |client| Arc::new(drainer(client).unguarded())),
            "I1",
        ),
        (
            "assumed budgets off",
            NOTHING_ASSUMED,
            Box::new(move |client| Arc::new(drainer(client))),
            "I1",
        ),
        ("drain off", GUARDED, Box::new(|_| Arc::new(NoDrain)), "I3"),
    ];
    for (name, policy, migrate, broken) in controls {
        let violations = run(&plane, name, policy, &migrate).await;
        figure(
            &format!("controls.{}", name.replace(' ', "-")),
            violations.len(),
            "violations",
        );
        let rules: Vec<&str> = violations.iter().map(|violation| violation.rule).collect();
        if broken.is_empty() {
            assert!(rules.is_empty(), "{name}: {violations:#?}");
        } else {
            assert!(
                rules.contains(&broken),
                "{name}: {broken} is not among {violations:#?}"
            );
        }
    }
}

/// What the checker says of an upgrade that drains like this.
async fn run(
    plane: &ControlPlane,
    name: &str,
    policy: &str,
    migrate: &dyn Fn(&Client) -> Arc<dyn MigratePods>,
) -> Vec<Violation> {
    cluster::reset_nodes(plane).await;
    let observer = Observer::start(plane.client()).await;
    let client = plane.client();
    let parts = Parts {
        run: name.replace(' ', "-"),
        policy: run::policy(policy),
        journal: Box::new(MemoryJournal::new()),
        back_up: Arc::new(NoBackup),
        migrate: migrate(&client),
        client,
    };
    let report = run::upgrade(plane, parts).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{name}: {report}");
    observer
        .finish(RuleSettings::default(), &audit::all(plane))
        .await
        .violations
}

/// Every node has two pods of each workload, most of which have no budget.
fn scenario() -> Scenario {
    let mut web = Workload::deployment("shop", "web", 6);
    web.copies = 5;
    let workloads = [
        web,
        Workload::stateful_set("shop", "cache", 4),
        Workload::deployment("shop", "cart", 4).with_budget(Budget::max_unavailable(1)),
        Workload::daemon_set("shop", "logs"),
    ];
    let zones = ["zone-a", "zone-b", "zone-c"];
    let mut scenario = Scenario::new(ORIGIN).with_pool(Pool::new("general", 3).with_zones(zones));
    for mut workload in workloads {
        workload.stop_seconds = Some(1);
        scenario = scenario.with_workload(workload);
    }
    scenario
}
