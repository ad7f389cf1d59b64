//! Negative controls: the same observer and the same rules as in the proof, and
//! a run that lacks one guard. Each must be caught, or the proof proves nothing.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use migrate_core::MigratePods;
use migrate_drain::Drainer;
use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_sim::rules::{RuleSettings, Violation};
use migrate_sim::{Budget, Pool, Scenario, Workload};
use migrate_testbed::{AuditEvent, ControlPlane, skip_or_fail};

use real::cluster::{self, ORIGIN};
use real::figure;
use real::observer::Observer;
use real::run::{self, NoBackup, NoDrain, Parts};

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
    for control in controls() {
        let name = control.name;
        let violations = run(&plane, &control).await;
        figure(
            &format!("controls.{}", name.replace(' ', "-")),
            violations.len(),
            "violations",
        );
        let Some((rule, what)) = control.broken else {
            assert!(violations.is_empty(), "{name}: {violations:#?}");
            continue;
        };
        let is_it = |seen: &Violation| seen.rule == rule && seen.what.contains(what);
        assert!(
            violations.iter().any(is_it),
            "{name}: {rule} is not among {violations:#?}"
        );
        if control.deletes {
            // Of that pod alone. kwok ends pods by their names, and so may end the one that
            // comes after it as well, which is told too.
            let pods = violations.iter().map(|seen| seen.what.split(" (").next());
            let pods: BTreeSet<_> = pods.collect();
            assert_eq!(pods.len(), 1, "{name}: {violations:#?}");
            assert!(violations.iter().all(is_it), "{name}: {violations:#?}");
        }
    }
}

/// A run that lacks one guard, and what is to be said of it.
struct Control {
    name: &'static str,
    policy: &'static str,
    migrate: fn(Client) -> Arc<dyn MigratePods>,
    /// Whether a person deletes a pod afterwards whose name was evicted before.
    deletes: bool,
    /// The rule, and words of its violation.
    broken: Option<(&'static str, &'static str)>,
}

fn controls() -> [Control; 5] {
    let guarded = Control {
        name: "nothing off",
        policy: GUARDED,
        migrate: |client| Arc::new(Drainer::new(client)),
        deletes: false,
        broken: None,
    };
    [
        Control {
            name: "a pod deleted by hand",
            deletes: true,
            broken: Some(("I1", "went without an accepted eviction")),
            ..guarded
        },
        Control {
            name: "ledger off",
            migrate: |client| Arc::new(Drainer::new(client).unguarded()),
            broken: Some(("I1", "was evicted")),
            ..guarded
        },
        Control {
            name: "assumed budgets off",
            policy: NOTHING_ASSUMED,
            broken: Some(("I1", "was evicted")),
            ..guarded
        },
        Control {
            name: "drain off",
            migrate: |_| Arc::new(NoDrain),
            broken: Some(("I3", "changed its kubelet under")),
            ..guarded
        },
        guarded,
    ]
}

/// What the checker says of such an upgrade.
async fn run(plane: &ControlPlane, control: &Control) -> Vec<Violation> {
    let name = control.name;
    cluster::reset_nodes(plane).await;
    let observer = Observer::start(plane.client()).await;
    let client = plane.client();
    // Judged on its own evictions, not on those of the controls before it.
    let mut log = plane.audit().unwrap();
    drop(log.read_new().unwrap());
    let parts = Parts {
        run: name.replace(' ', "-"),
        policy: run::policy(control.policy),
        journal: Box::new(MemoryJournal::new()),
        back_up: Arc::new(NoBackup),
        migrate: (control.migrate)(client.clone()),
        client,
    };
    let report = run::upgrade(plane, parts).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{name}: {report}");
    let mut events = log.read_new().unwrap();
    if control.deletes {
        let name = evicted_replica(&events);
        let delete = ["delete", "pod", "-n", "shop", &name];
        cluster::kubectl(plane, &delete).await;
        events.extend(log.read_new().unwrap());
    }
    let verdict = observer.finish(RuleSettings::default(), &events).await;
    assert_eq!(
        verdict.evictions, report.evictions as usize,
        "{name}: its own evictions, all of them"
    );
    verdict.violations
}

/// A pod of the StatefulSet that was evicted, and by now is there again under
/// its name.
fn evicted_replica(events: &[AuditEvent]) -> String {
    let mut evicted = events.iter().filter(|event| event.is_accepted_eviction());
    let name = evicted.find_map(|event| {
        let name = &event.object_ref.as_ref()?.name;
        name.starts_with("cache-").then(|| name.clone())
    });
    name.expect("a pod of the StatefulSet was evicted")
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
