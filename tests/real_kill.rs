//! The program is killed (SIGKILL) at named points of an upgrade of a real
//! control plane, and the same command goes on each time.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{ActionId, Phase, Target};
use migrate_executor::{Entry, Record, RunStep, StepResult};
use migrate_sim::rules::RuleSettings;
use migrate_sim::{Budget, Pool, Scenario, Workload};
use migrate_testbed::{AuditLog, ControlPlane, Identity, skip_or_fail};
use tokio::process::Command;
use tokio::time::Instant;

use real::cluster::{self, ORIGIN, TARGET};
use real::observer::Observer;
use real::program::{self, Bench, JournalTail};
use real::{audit, figure};

const USER: &str = "killed";
const NODES: usize = 8;
const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[pools]
max-unavailable = 2
[consent]
bare-pods = true
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_program_goes_on_where_it_was() {
    let builder = ControlPlane::builder().minor(36).also(37).audit(true);
    // Long enough that a kill falls into it.
    let builder = builder.node_upgrade_time(Duration::from_secs(1));
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    cluster::load(&plane, &scenario()).await;
    let observer = Observer::start(plane.client()).await;
    let began = Instant::now();

    let bench = Bench::new();
    let hook = bench.bookkeeping(plane.hook_program());
    let policy = bench.write("policy.toml", POLICY);
    let user = Identity::new(USER).with_group("system:masters");
    let kubeconfig = plane.kubeconfig_for(&user).unwrap();
    let command = || {
        let mut command = bench.program(&kubeconfig);
        command
            .args(["--to", TARGET, "--yes", "--policy"])
            .arg(&policy);
        command.args(["--journal", "journal"]);
        command
            .arg("--node-hook")
            .arg(&hook)
            .arg("--control-plane-hook")
            .arg(&hook);
        command.args(["--etcd", &plane.etcd_endpoint()]);
        command
    };

    let mut seen = Seen {
        journal: JournalTail::new(bench.path("journal")),
        log: plane.audit().unwrap(),
        evictions: 0,
    };
    let mut killed = 0;
    for (name, reached) in POINTS {
        if kill_when(&plane, &bench, &command, &mut seen, name, *reached).await {
            killed += 1;
            println!("killed at {name:?}, {} records", seen.journal.entries.len());
        }
    }
    assert!(
        killed >= 10,
        "killed at {killed} points only\n{}",
        log(&bench)
    );

    let ended = program::finish(&mut command()).await;
    assert!(ended.status.success(), "{}\n{}", ended.said(), log(&bench));
    cluster::assert_upgraded(&plane, &[]).await;
    let again = program::finish(&mut command()).await;
    assert!(
        again.status.success() && again.out.contains("nothing to do"),
        "{}",
        again.said()
    );
    figure("kill.points", killed, "1");
    figure("kill.upgrade", began.elapsed().as_secs_f64(), "s");

    let events = audit::all(&plane);
    let mut settings = RuleSettings::default();
    settings.widths = BTreeMap::from([("general".to_owned(), 2)]);
    let verdict = observer.finish(settings, &events).await;
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    figure("kill.evictions", verdict.evictions, "1");
    figure("kill.violations", verdict.violations.len(), "1");
    let changes = audit::node_changes(&events);
    assert_eq!(changes.len(), NODES, "{changes:?}");
    assert!(changes.values().all(|&times| times == 1), "{changes:?}");
    assert_begun_once(&bench);
    seen.journal.read();
    program::assert_announced_once(&seen.journal.entries);
}

/// Whether a run has come to a point.
type Reached = fn(&Seen) -> bool;

/// Where the program is killed, in the order in which a run comes there.
const POINTS: &[(&str, Reached)] = &[
    ("the run is opened", |seen| {
        seen.any(|r| matches!(r, Record::RunOpened(_)))
    }),
    ("the backup began", |seen| {
        seen.any(|r| {
            matches!(
                r,
                Record::StepBegan {
                    step: RunStep::BackUp
                }
            )
        })
    }),
    ("the backup is made", |seen| {
        seen.any(|r| {
            matches!(
                r,
                Record::StepEnded {
                    result: StepResult::BackedUp { .. }
                }
            )
        })
    }),
    ("the anchor is claimed", |seen| {
        seen.any(|r| {
            matches!(
                r,
                Record::StepEnded {
                    result: StepResult::Claimed
                }
            )
        })
    }),
    ("intent: upgrade of the control plane", |seen| {
        seen.intents(Phase::Upgrade, true) >= 1
    }),
    ("the control plane is upgraded", |seen| {
        seen.intents(Phase::Verify, true) >= 1
    }),
    ("intent: drain of the canary", |seen| {
        seen.intents(Phase::Drain, false) >= 1
    }),
    ("a pod is evicted", |seen| seen.evictions >= 1),
    ("the canary is drained", |seen| {
        seen.any(|r| matches!(r, Record::DrainEnded { .. }))
    }),
    ("intent: upgrade of the canary", |seen| {
        seen.intents(Phase::Upgrade, false) >= 1
    }),
    ("intent: verification of the canary", |seen| {
        seen.intents(Phase::Verify, false) >= 1
    }),
    ("the canary is given back", |seen| {
        seen.count(|r| matches!(r, Record::Released { .. })) >= 1
    }),
    ("two drains are under way", |seen| {
        seen.intents(Phase::Drain, false) >= 3
    }),
    ("half of the nodes are given back", |seen| {
        seen.count(|r| matches!(r, Record::Released { .. })) >= NODES / 2
    }),
    ("the final verification began", |seen| {
        seen.any(|r| {
            matches!(
                r,
                Record::StepBegan {
                    step: RunStep::FinalVerify
                }
            )
        })
    }),
];

/// What of a run is to be seen from outside.
struct Seen {
    journal: JournalTail,
    log: AuditLog,
    evictions: usize,
}

impl Seen {
    fn look(&mut self) {
        self.journal.read();
        let news = self.log.read_new().unwrap();
        self.evictions += news
            .iter()
            .filter(|event| event.is_accepted_eviction())
            .count();
    }

    fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.journal
            .entries
            .iter()
            .filter(|entry| wanted(&entry.record))
            .count()
    }

    fn any(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        self.count(wanted) > 0
    }

    /// How many actions of this phase were announced, each counted once.
    fn intents(&self, phase: Phase, of_control_plane: bool) -> usize {
        let intents = intents(&self.journal.entries);
        let wanted = intents.values().filter(|(seen, target)| {
            *seen == phase && matches!(target, Target::ControlPlane { .. }) == of_control_plane
        });
        wanted.count()
    }
}

/// Announced actions with their phase and target.
fn intents(entries: &[Entry]) -> BTreeMap<ActionId, (Phase, Target)> {
    let intent = |entry: &Entry| match &entry.record {
        Record::Intent { action } => {
            Some((action.id.clone(), (action.phase, action.target.clone())))
        }
        _ => None,
    };
    entries.iter().filter_map(intent).collect()
}

/// Runs the program until it has come to a point, and kills it there. `false`
/// if an earlier kill came after that point already.
async fn kill_when(
    plane: &ControlPlane,
    bench: &Bench,
    command: impl Fn() -> Command,
    seen: &mut Seen,
    name: &str,
    reached: Reached,
) -> bool {
    seen.look();
    if reached(seen) {
        println!("not killed at {name:?}: it is past");
        return false;
    }
    let mut child = program::start(bench, &mut command());
    let deadline = Instant::now() + Duration::from_secs(120);
    while !reached(seen) {
        if let Some(status) = child.try_wait().unwrap() {
            // One that starts while the control plane changes finds no API,
            // says so and ends.
            let log = log(bench);
            let error = log.lines().last().unwrap_or_default();
            let away = error.contains("shutting down") || error.contains("out of reach");
            assert!(
                !status.success() && away,
                "it ended before {name:?}: {status}\n{log}"
            );
            println!("started again: {error}");
            api_is_back(plane).await;
            child = program::start(bench, &mut command());
        }
        assert!(
            Instant::now() < deadline,
            "it never came to {name:?}\n{}",
            log(bench)
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
        seen.look();
    }
    child.kill().await.unwrap();
    true
}

async fn api_is_back(plane: &ControlPlane) {
    let client = plane.client();
    let what = "the API to be back";
    let version = || async { client.apiserver_version().await.map(|_| true) };
    migrate_testbed::eventually(what, Duration::from_secs(60), version)
        .await
        .unwrap();
}

/// A hook's begin that was accepted is not repeated, unless the last probe since
/// that call said that there is nothing of it or that it failed. Since the call,
/// not since its end: a hook survives a kill of the program, so the next run may
/// ask before that one has got far. Hooks leave alone what is going on already.
fn assert_begun_once(bench: &Bench) {
    let mut begun: BTreeMap<&str, Begun> = BTreeMap::new();
    let calls = bench.hook_calls();
    for (place, call) in calls.iter().enumerate() {
        // What was asked before the start is about no action of the run.
        if call.action.starts_with("preflight.") {
            continue;
        }
        let seen = begun.entry(&call.action).or_default();
        match (call.phase.as_str(), call.code.as_str()) {
            ("begin", "0") => {
                let allowed = match (seen.called_at, seen.absent_at) {
                    (Some(called), Some(absent)) => absent >= called,
                    (called, _) => called.is_none(),
                };
                assert!(allowed, "{} was begun twice: {calls:#?}", call.action);
                seen.called_at = Some(call.after);
            }
            ("probe", "20" | "75") => seen.absent_at = Some(place),
            ("probe", _) => seen.absent_at = None,
            _ => {}
        }
    }
    assert_eq!(
        begun.len(),
        NODES + 1,
        "one action for each node and the control plane"
    );
}

/// What a hook was asked about an action: places among the ends of its calls.
#[derive(Default)]
struct Begun {
    /// Where the last accepted begin was called.
    called_at: Option<usize>,
    /// Where the last probe ended, if it said that nothing is under way.
    absent_at: Option<usize>,
}

/// What all runs of the program said.
fn log(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("log")).unwrap_or_default()
}

fn scenario() -> Scenario {
    let mut web = Workload::deployment("shop", "web", 4);
    web.copies = 4;
    let workloads = [
        web,
        Workload::stateful_set("shop", "store", 3),
        // An eviction that a kill breaks off may have spent its share of the
        // budget, which the API server gives back after two minutes only. So
        // there is room for some of these.
        Workload::deployment("shop", "cart", 8).with_budget(Budget::max_unavailable(4)),
        Workload::deployment("shop", "mailer", 1),
        Workload::daemon_set("shop", "logs"),
        Workload::bare_pods("shop", "debug", 1),
    ];
    let zones = ["zone-a", "zone-b", "zone-c"];
    let pool = Pool::new("general", NODES as u32).with_zones(zones);
    let mut scenario = Scenario::new(ORIGIN).with_pool(pool);
    for mut workload in workloads {
        workload.stop_seconds = Some(1);
        scenario = scenario.with_workload(workload);
    }
    scenario
}
