//! What a run leaves on one node, and what `respread` does about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use http::Request;
use kube::Client;
use migrate_core::{Cancellation, PodId};
use migrate_executor::{
    Entry, Error, Executor, Journal, MemoryJournal, Record, Report, RunOutcome, RunStep, StepResult,
};
use migrate_kube::{EvictOptions, EvictionAnswer, evict, observe};
use migrate_sim::{Budget, Pool, Scenario, Workload};
use serde_json::{Value, json};

use crate::cluster::Rig;
use crate::crash::{Crash, Crashing, dead};
use crate::replay::obeys_the_replay_law;
use crate::upgrade::run_to;

/// Two workers, so that the second drain leaves everything on the first.
fn pair() -> Scenario {
    let mut slow = Workload::deployment("shop", "slow", 2);
    slow.ready_seconds = Some(60);
    Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 2))
        .with_workload(
            Workload::deployment("shop", "cart", 3).with_budget(Budget::min_available(2)),
        )
        .with_workload(Workload::deployment("shop", "web", 4))
        .with_workload(slow)
        .with_workload(Workload::deployment("shop", "lone", 1))
        .with_workload(Workload::daemon_set("kube-system", "agent"))
}

async fn respreading(seed: u64) -> Rig {
    let mut rig = Rig::start(seed, pair()).await;
    rig.policy.respread = true;
    rig
}

/// The pods that each Deployment of the shop has on each node.
async fn shop(rig: &Rig) -> BTreeMap<String, BTreeMap<String, Vec<PodId>>> {
    let now = migrate_core::Moment::from_millis(rig.cluster.now_ms());
    let model = observe(&rig.cluster.client(), now).await.unwrap();
    let mut shop = BTreeMap::<_, BTreeMap<_, Vec<_>>>::new();
    for pod in model.pods.into_iter().filter(|pod| pod.is_healthy()) {
        if let (Some(workload), Some(node)) = (pod.workload, pod.node)
            && workload.namespace == "shop"
        {
            let nodes = shop.entry(workload.name.clone()).or_default();
            nodes.entry(node).or_default().push(pod.id);
        }
    }
    shop
}

/// Uids of the pods that were evicted, in order.
fn evicted(rig: &Rig) -> Vec<String> {
    let audit = rig.cluster.audit();
    let evictions = audit.iter().filter(|entry| {
        entry.request.subresource == "eviction" && entry.code == 201 && !entry.request.dry_run
    });
    evictions.map(|entry| entry.evicted_uid.clone()).collect()
}

/// The pods that the run decided to move back, each with its workload's name.
fn decided(entries: &[Entry]) -> Vec<(String, String)> {
    let moves = entries.iter().filter_map(|entry| match &entry.record {
        Record::StepEnded {
            result: StepResult::Spread { moves, .. },
        } => Some(moves),
        _ => None,
    });
    let moves = moves.flatten();
    moves
        .map(|one| (one.workload.name.clone(), one.pod.uid.clone()))
        .collect()
}

fn crowded(report: &Report) -> Vec<&str> {
    let found = report.findings.iter();
    found
        .filter(|finding| finding.code == "KM-SPREAD-001")
        .map(|finding| finding.object.name.as_str())
        .collect()
}

async fn run(rig: &Rig, journal: Box<dyn Journal>) -> Report {
    let planned = rig.planned().await;
    let report = rig.run(journal, Arc::new(rig.drainer()), &planned).await;
    report.unwrap()
}

#[tokio::test(start_paused = true)]
async fn replicas_that_all_stand_on_one_node_are_reported_and_left() {
    let rig = Rig::start(31, pair()).await;
    let before = shop(&rig).await;
    assert!(before["web"].len() == 2 && before["cart"].len() == 2);
    let journal = MemoryJournal::new();
    let report = run(&rig, Box::new(journal.clone())).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let after = shop(&rig).await;
    assert_eq!(after["web"].len(), 1, "{after:?}");
    assert_eq!(crowded(&report), ["cart", "slow", "web"], "{report}");
    let node = after["web"].keys().next().unwrap();
    assert!(
        report
            .to_string()
            .contains(&format!("stand on node {node}"))
    );
    assert_eq!(decided(&journal.entries()), []);
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
}

#[tokio::test(start_paused = true)]
async fn respread_moves_one_pod_of_each_back_within_all_budgets() {
    for seed in [31, 32, 33] {
        let rig = respreading(seed).await;
        let journal = MemoryJournal::new();
        let report = run(&rig, Box::new(journal.clone())).await;
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert_eq!(crowded(&report), [""; 0], "{report}");
        let after = shop(&rig).await;
        for name in ["cart", "web", "slow"] {
            assert_eq!(after[name].len(), 2, "{name}: {after:?}");
        }
        let moves = decided(&journal.entries());
        let names: Vec<_> = moves.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cart", "slow", "web"]);
        let (all, last) = (evicted(&rig), moves.len());
        let last: BTreeSet<_> = all[all.len() - last..].iter().collect();
        assert_eq!(last, moves.iter().map(|(_, uid)| uid).collect());
        assert_eq!(report.evictions as usize, all.len(), "{report}");
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());
        assert_eq!(rig.unfinished_nodes(), [""; 0]);
        obeys_the_replay_law(journal.entries()).unwrap();
    }
}

/// A crash at every record of the end of the run: no workload loses a second pod.
#[tokio::test(start_paused = true)]
async fn however_often_it_dies_no_workload_loses_a_second_pod() {
    let undisturbed = MemoryJournal::new();
    let _ = run(&respreading(31).await, Box::new(undisturbed.clone())).await;
    let entries = undisturbed.entries();
    let is_look = |entry: &Entry| {
        let step = RunStep::Spread;
        entry.record == Record::StepBegan { step }
    };
    let first = entries.iter().position(is_look).unwrap() as u64;
    let mut died_in_the_middle = 0;
    for seq in first..entries.len() as u64 {
        for crash in [Crash::Before(seq), Crash::After(seq)] {
            let rig = respreading(31).await;
            let planned = rig.planned().await;
            let (journal, died) = (MemoryJournal::new(), Arc::default());
            let crashing = Crashing::new(journal.clone(), crash, Arc::clone(&died));
            let one = rig.run(Box::new(crashing), Arc::new(rig.drainer()), &planned);
            tokio::select! {
                biased;
                report = one => panic!("{crash:?}: {}", report.unwrap()),
                () = dead(&died) => {}
            }
            died_in_the_middle += u32::from(has_moved_in_vain(&rig, &journal));
            run_to(RunOutcome::Done, &rig, &journal, &planned).await;
            let moves = decided(&journal.entries());
            assert_eq!(moves.len(), 3, "{crash:?}");
            let all = evicted(&rig);
            let last: BTreeSet<_> = all[all.len() - 3..].iter().collect();
            assert_eq!(
                last,
                moves.iter().map(|(_, uid)| uid).collect(),
                "{crash:?}"
            );
            assert!(rig.broken().is_empty(), "{crash:?}: {:?}", rig.broken());
        }
    }
    assert!(died_in_the_middle > 0);
}

/// Whether pods were moved, and the journal does not know it.
fn has_moved_in_vain(rig: &Rig, journal: &MemoryJournal) -> bool {
    let entries = journal.entries();
    let knows = entries.iter().any(|entry| {
        let record = &entry.record;
        matches!(
            record,
            Record::StepEnded {
                result: StepResult::Respread { .. }
            }
        )
    });
    let gone = evicted(rig);
    let moves = decided(&entries);
    !knows && moves.iter().any(|(_, uid)| gone.contains(uid))
}

/// A crash while the next pods start.
#[tokio::test(start_paused = true)]
async fn one_that_dies_before_the_next_pods_are_ready_waits_for_them() {
    let rig = respreading(31).await;
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    let (model, plan) = planned.clone();
    let setup = rig.setup(Box::new(journal.clone()));
    let setup = setup.with_plan(plan, model, rig.policy.clone());
    let mut executor = Executor::open(setup).await.unwrap();
    while !has_moved_in_vain(&rig, &journal) {
        step(&mut executor, 1).await;
    }
    drop(executor);
    let moved = evicted(&rig).len();
    run_to(RunOutcome::Done, &rig, &journal, &planned).await;
    assert_eq!(evicted(&rig).len(), moved);
    let after = shop(&rig).await;
    for (name, wanted) in [("cart", 3), ("slow", 2), ("web", 4)] {
        let ready: usize = after[name].values().map(Vec::len).sum();
        assert_eq!((ready, after[name].len()), (wanted, 2), "{name}: {after:?}");
    }
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
}

/// Pauses the run right before its moves become durable.
struct Pausing {
    inner: MemoryJournal,
    client: Client,
}

#[async_trait]
impl Journal for Pausing {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        if !decided(std::slice::from_ref(entry)).is_empty() {
            pause(&self.client, true).await;
        }
        self.inner.append(entry).await
    }
}

/// A runner that stands before its moves, since somebody holds the run.
async fn held(rig: &Rig, journal: &MemoryJournal, unguarded: bool) -> Executor {
    let (model, plan) = rig.planned().await;
    let pausing = Pausing {
        inner: journal.clone(),
        client: rig.cluster.client(),
    };
    let mut setup = rig.setup(Box::new(pausing));
    if unguarded {
        setup.migration.migrate = Arc::new(rig.drainer().unguarded());
    }
    let setup = setup.with_plan(plan, model, rig.policy.clone());
    let mut executor = Executor::open(setup).await.unwrap();
    while decided(&journal.entries()).is_empty() {
        let _ = executor.step().await.unwrap();
    }
    executor
}

async fn pause(client: &Client, paused: bool) {
    let body = json!({ "metadata": { "annotations": {
        "kube-migrate.dev/pause": paused.to_string(),
    }}});
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-migrate";
    let request = Request::patch(lease)
        .header("Content-Type", "application/merge-patch+json")
        .body(body.to_string().into_bytes());
    let patched: Result<Value, _> = client.request(request.unwrap()).await;
    patched.unwrap();
}

async fn step(executor: &mut Executor, times: u32) {
    for _ in 0..times {
        let _ = executor.step().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_holds_it_and_an_abort_leaves_it() {
    for aborts in [false, true] {
        let rig = respreading(31).await;
        let journal = MemoryJournal::new();
        let mut executor = held(&rig, &journal, false).await;
        let before = evicted(&rig).len();
        step(&mut executor, 60).await;
        assert_eq!(evicted(&rig).len(), before, "somebody holds the run");
        if aborts {
            executor.abort();
            step(&mut executor, 5).await;
        }
        pause(&rig.cluster.client(), false).await;
        let report = executor.run(&Cancellation::new()).await.unwrap();
        let (outcome, moved) = match aborts {
            true => (RunOutcome::Aborted, 0),
            false => (RunOutcome::Done, 3),
        };
        assert_eq!(report.outcome, outcome, "{report}");
        assert_eq!(evicted(&rig).len(), before + moved, "{report}");
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());
        obeys_the_replay_law(journal.entries()).unwrap();
    }
}

/// Somebody else takes a pod of `slow` between the decision and the move: with
/// the ledger the move waits for the next one, without it the checker objects.
#[tokio::test(start_paused = true)]
async fn a_budget_that_is_spent_meanwhile_is_waited_for_and_the_control_breaks_it() {
    for unguarded in [false, true] {
        let rig = respreading(31).await;
        let journal = MemoryJournal::new();
        let mut executor = held(&rig, &journal, unguarded).await;
        let moves: BTreeSet<_> = decided(&journal.entries())
            .into_iter()
            .map(|it| it.1)
            .collect();
        let slow = shop(&rig).await.remove("slow").unwrap();
        let mut others = slow.into_values().flatten();
        let other = others.rfind(|pod| !moves.contains(&pod.uid)).unwrap();
        let answer = evict(&rig.cluster.client(), &other, &EvictOptions::default()).await;
        assert!(matches!(answer, EvictionAnswer::Accepted), "{answer:?}");
        pause(&rig.cluster.client(), false).await;
        let report = executor.run(&Cancellation::new()).await.unwrap();
        let broken: BTreeSet<_> = rig.broken().iter().map(|it| it.rule).collect();
        match unguarded {
            true => assert!(broken.contains("I1"), "{report}"),
            false => {
                assert!(broken.is_empty(), "{:?}", rig.broken());
                assert_eq!(report.outcome, RunOutcome::Done, "{report}");
            }
        }
    }
}
