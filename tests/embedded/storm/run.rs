//! One random cluster, upgraded through random faults, and judged.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use migrate_core::impossible::codes;
use migrate_core::steps::{BackupProof, BackupReport};
use migrate_core::{
    Cancellation, Clock, ClusterModel, Fence, Migration, Moment, Plan, Policy, StepContext,
    StepError, StepInput,
};
use migrate_drain::Drainer;
use migrate_executor::{
    Error, Executor, MemoryJournal, Position, Report, RunOutcome, Setup, StopCause,
};
use migrate_kube::{TokioClock, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_sim::SimCluster;
use migrate_sim::rules::{RuleProbe, Violation};
use migrate_sim::store::{ChangeKind, Resource};
use migrate_upgrade::SimulatedDriver;
use migrate_verify::ClusterHealth;

use super::dice::Dice;
use super::faults::Faults;
use super::world;
use crate::crash::{Crash, Crashing, dead};
use crate::replay::obeys_the_replay_law;

/// Longer than any run here may take, in the cluster's time.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a runner that an error has ended is started again.
const RESTARTS: u32 = 500;

/// What became of one run in which nothing was wrong with the run.
pub(super) struct Ended {
    pub(super) nodes: usize,
    /// Begun, and begun again by a replay.
    pub(super) actions: usize,
    pub(super) crashes: u32,
    pub(super) pauses: usize,
    pub(super) evictions: u32,
    pub(super) took: Duration,
    /// `done`, or in one word why it stopped.
    pub(super) outcome: &'static str,
}

/// Upgrades the cluster of `seed`; the error says what must not have happened.
pub(super) fn upgrade(seed: u64) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut storm = Storm::start(seed).await?;
        let end = tokio::time::timeout(PATIENCE, storm.run()).await;
        let report = end.map_err(|_| "it does not end".to_owned())??;
        storm.judge(&report)
    })
}

/// How often a run that was refused because a step could not be done is begun
/// again.
const REFUSALS: u32 = 20;

struct Storm {
    cluster: Arc<SimCluster>,
    policy: Policy,
    faults: Faults,
    probe: RuleProbe,
    /// Pods that were on a broken node when they went.
    lost: Arc<Mutex<BTreeSet<String>>>,
    clock: Arc<TokioClock>,
    planned: (ClusterModel, Plan),
    journal: MemoryJournal,
    crashes: u32,
    dice: Dice,
}

impl Storm {
    async fn start(seed: u64) -> Result<Self, String> {
        let scenario = world::scenario(&mut Dice::new(seed, 1));
        let mut policy = world::policy(&mut Dice::new(seed, 2));
        policy.waive.insert("KM-BACKUP-001".to_owned());
        let nodes: Vec<String> = scenario.node_names().collect();
        let faults = Faults::random(&mut Dice::new(seed, 3), &nodes);
        let faults = faults.with_pauses(&mut Dice::new(seed, 7));
        let probe = RuleProbe::new(world::rules(&policy, &scenario));
        let lost = Arc::new(Mutex::new(BTreeSet::new()));
        let mut seen = probe.observer();
        let (broken, losing) = (faults.broken_nodes(), Arc::clone(&lost));
        let observer = move |store: &_, change: &migrate_sim::store::Change| {
            let object = &change.object;
            let node = object.json["spec"]["nodeName"].as_str();
            let is_lost = change.kind == ChangeKind::Deleted
                && object.resource.kind == "Pod"
                && node.is_some_and(|node| broken.contains(node));
            if is_lost {
                let (namespace, name, uid) = (&object.namespace, &object.name, object.uid());
                let pod = format!("{namespace}/{name} ({uid})");
                losing.lock().unwrap().insert(pod);
            }
            seen(store, change);
        };
        let cluster = SimCluster::builder()
            .seed(seed)
            .scenario(scenario)
            .on_change(observer)
            .start()
            .await
            .map_err(|error| error.to_string())?;
        let settled = cluster.wait_until_settled(Duration::from_secs(3600)).await;
        settled.map_err(|error| format!("the cluster does not come up: {error}"))?;
        let clock = TokioClock::starting_at(Moment::from_millis(cluster.now_ms()));
        let model = observe(&cluster.client(), clock.now())
            .await
            .map_err(|error| error.to_string())?;
        let plan = Planner::new(&model, &policy, "v1.37.2".parse().unwrap())
            .plan()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            cluster: Arc::new(cluster),
            policy,
            faults,
            probe,
            lost,
            clock: Arc::new(clock),
            planned: (model, plan),
            journal: MemoryJournal::new(),
            crashes: 0,
            dice: Dice::new(seed, 4),
        })
    }

    /// Runs, dies, and goes on, until the run has ended.
    async fn run(&mut self) -> Result<Report, String> {
        let dice = Dice::new(self.dice.below(u64::MAX), 5);
        self.faults.between_runner_and_server(&self.cluster, dice);
        let dice = Dice::new(self.dice.below(u64::MAX), 6);
        let chaos = self.faults.clone();
        let chaos = tokio::spawn(chaos.in_the_cluster(Arc::clone(&self.cluster), dice));
        let report = self.run_to_the_end().await;
        chaos.abort();
        report
    }

    async fn run_to_the_end(&mut self) -> Result<Report, String> {
        let journal = self.journal.clone();
        let mut crashes = self.faults.crashes.clone();
        let mut refusals = 0;
        for _ in 0..RESTARTS {
            let crash = crashes.pop().map_or(Crash::Never, |records| {
                let seq = journal.entries().len() as u64 + records;
                if self.dice.chance(50) {
                    Crash::Before(seq)
                } else {
                    Crash::After(seq)
                }
            });
            let died = Arc::new(AtomicBool::new(false));
            let crashing = Crashing::new(journal.clone(), crash, Arc::clone(&died));
            let ended = tokio::select! {
                biased;
                ended = self.runner(crashing) => ended,
                () = dead(&died) => {
                    self.crashes += 1;
                    continue;
                }
            };
            match ended {
                // Nothing was changed: whoever reads why starts it again.
                Ok(report) if is_bad_luck(&report.outcome) && refusals < REFUSALS => {
                    refusals += 1;
                }
                Ok(report) => return Ok(report),
                Err(error) if waiting_cures(&error) => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                Err(error) => return Err(format!("an error that waiting does not cure: {error}")),
            }
        }
        Err(format!("it was started {RESTARTS} times and did not end"))
    }

    async fn runner(&self, journal: Crashing) -> Result<Report, Error> {
        let client = self.cluster.client();
        let migration = Migration::new(
            Arc::new(Preflight::new(client.clone())),
            Arc::new(no_backup),
            Arc::new(SimulatedDriver::new(client.clone())),
            Arc::new(Drainer::new(client.clone())),
            Arc::new(ClusterHealth::new(client.clone())),
        );
        let context = StepContext::new(self.clock.clone(), Fence::without_lease("storm"));
        let (model, plan) = self.planned.clone();
        let setup = Setup::new(client, migration, Box::new(journal), context).with_plan(
            plan,
            model,
            self.policy.clone(),
        );
        Executor::open(setup).await?.run(&Cancellation::new()).await
    }

    fn judge(&self, report: &Report) -> Result<Ended, String> {
        let mut wrong: Vec<String> = self.broken().iter().map(ToString::to_string).collect();
        let outcome = match &report.outcome {
            RunOutcome::Done => "done",
            RunOutcome::Refused { cause } | RunOutcome::Stopped { cause } => name(cause),
            other => {
                wrong.push(format!("an end that is none: {other}"));
                "none"
            }
        };
        // Found before the start, and the policy cannot agree to it.
        let is_impossible = report.findings.iter().any(|finding| {
            [codes::BUDGET_TIED, codes::ASSUMED_TIED].contains(&finding.code.as_str())
        });
        let is_refused = outcome == "blocked" && is_impossible;
        if self.faults.are_passing() && outcome != "done" && !is_refused {
            wrong.push(format!(
                "nothing lasting was wrong, and yet {}",
                report.outcome
            ));
        }
        wrong.extend(self.left_behind(report));
        let replayed = obeys_the_replay_law(self.journal.entries());
        let actions = replayed.unwrap_or_else(|broken| {
            wrong.push(format!("the replay law: {broken}"));
            0
        });
        if !wrong.is_empty() {
            return Err(format!("{}\n{:?}\n{report}", wrong.join("\n"), self.faults));
        }
        Ok(Ended {
            nodes: self.planned.0.nodes.len(),
            actions,
            crashes: self.crashes,
            pauses: self.faults.pauses(),
            evictions: report.evictions,
            took: report.duration.actual,
            outcome,
        })
    }

    /// Broken rules, without the pods that a broken node took with it.
    fn broken(&self) -> Vec<Violation> {
        let lost = self.lost.lock().unwrap();
        let mut broken = self.probe.finish(&self.cluster.audit());
        broken.retain(|violation| {
            let by_node = lost.iter().any(|pod| {
                violation.what == format!("pod {pod} went without an accepted eviction")
            });
            !by_node
        });
        broken
    }

    /// Cordons and marks that the report does not own up to, and nodes of a run
    /// that is done that are not at the target.
    fn left_behind(&self, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        let left_out: BTreeSet<&str> = report
            .targets
            .iter()
            .filter(|target| {
                matches!(
                    target.position,
                    Position::Skipped { .. } | Position::Failed { .. }
                )
            })
            .map(|target| target.target.name())
            .collect();
        let done = report.outcome == RunOutcome::Done;
        for node in self.cluster.store().list(Resource::NODES, None) {
            let (name, json) = (&node.name, &node.json);
            let annotations = &json["metadata"]["annotations"];
            let marked = !annotations["kube-migrate.dev/cordoned-by"].is_null();
            let cordoned = json["spec"]["unschedulable"] == true;
            if (marked || cordoned) && !report.cordons.contains(name) {
                wrong.push(format!("a cordon or mark leaked on {name}"));
            }
            if marked && done && !left_out.contains(&**name) {
                wrong.push(format!("done, and {name} still has our mark"));
            }
            let version = &json["status"]["nodeInfo"]["kubeletVersion"];
            if done && version != "v1.37.2" && !left_out.contains(&**name) {
                wrong.push(format!("done, and {name} is at {version}"));
            }
        }
        wrong
    }
}

/// The API server did not answer a runner that was being opened.
fn waiting_cures(error: &Error) -> bool {
    match error {
        Error::Cluster(error) => error.is_retryable(),
        other => matches!(other, Error::ApiAway { .. }),
    }
}

/// Refused before anything was changed, and not by a finding.
fn is_bad_luck(outcome: &RunOutcome) -> bool {
    let RunOutcome::Refused { cause } = outcome else {
        return false;
    };
    matches!(cause, StopCause::StepFailed { .. })
}

/// None is needed: the policy waives it.
fn no_backup<'a>(
    _: &'a StepContext,
    _: &'a StepInput,
) -> BoxFuture<'a, Result<BackupReport, StepError>> {
    async { Ok(BackupReport::new(BackupProof::None, Vec::new())) }.boxed()
}

fn name(cause: &StopCause) -> &'static str {
    match cause {
        StopCause::Blocked { .. } => "blocked",
        StopCause::StepFailed { .. } => "step-failed",
        StopCause::Rollout { .. } => "rollout",
        StopCause::Verification { .. } => "verification",
        StopCause::AnchorLost { .. } => "anchor-lost",
        StopCause::AnchorUnreadable { .. } => "anchor-unreadable",
        StopCause::Asked => "asked",
        _ => "other",
    }
}
