//! A runner whose own pod is in the cluster that it upgrades.

use std::time::Duration;

use migrate_core::{Cancellation, ClusterModel, Moment, Phase, Pod, Role};
use migrate_executor::{Executor, MemoryJournal, Position, RecordedRun, RunOutcome, StopCause};
use migrate_kube::observe;
use migrate_plan::{Input, Planner};
use migrate_sim::rules::RuleSettings;
use migrate_sim::{Pool, Scenario, VolumeReach, Workload};

use crate::cluster::Rig;
use crate::replay::obeys_the_replay_law;

/// Three workers; the runner with its journal on a volume that moves with it, or
/// without any.
fn scenario(keeps_its_journal: bool) -> Scenario {
    let runner = match keeps_its_journal {
        true => Workload::stateful_set("ops", "runner", 1).with_volume(VolumeReach::Zone),
        false => Workload::deployment("ops", "runner", 1),
    };
    Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 3))
        .with_workload(Workload::deployment("shop", "web", 4))
        .with_workload(runner)
}

async fn seen(rig: &Rig) -> ClusterModel {
    let now = Moment::from_millis(rig.cluster.now_ms());
    observe(&rig.cluster.client(), now).await.unwrap()
}

fn own_pod(model: &ClusterModel) -> Option<Pod> {
    let mut pods = model.pods.iter();
    pods.find(|pod| pod.id.namespace == "ops").cloned()
}

#[tokio::test(start_paused = true)]
async fn its_node_is_the_last_and_the_run_goes_on_where_the_pod_went() {
    // There would be room for all of them at once.
    let mut settings = RuleSettings::default();
    settings.widths.insert("general".to_owned(), 3);
    let mut rig = Rig::judged_by(settings, 41, scenario(true)).await;
    rig.policy.pools.max_unavailable = "3".parse().unwrap();
    rig.policy.pools.canary = false;
    let (model, _) = rig.planned().await;
    let own = own_pod(&model).unwrap();
    let node = own.node.clone().unwrap();
    let target = "v1.37.2".parse().unwrap();
    let planner = Planner::new(&model, &rig.policy, target).with_runner_on(&node);
    let plan = planner.plan().unwrap();
    assert_eq!(plan.slots.last().unwrap().node, node);
    let journal = MemoryJournal::new();
    let setup = rig.setup(Box::new(journal.clone()));
    let setup = setup.with_plan(plan, model, rig.policy.clone());
    let mut first = Executor::open(setup.with_own_pod("ops", &own.id.name))
        .await
        .unwrap();
    // It lives until its own eviction has been accepted.
    loop {
        let _ = first.step().await.unwrap();
        let pod = own_pod(&seen(&rig).await);
        if pod.is_none_or(|pod| pod.id.uid != own.id.uid || pod.deletion.is_some()) {
            break;
        }
    }
    let report = first.report();
    drop(first);
    let others = report.targets.iter().filter(|at| at.target.name() != node);
    for at in others {
        assert!(matches!(at.position, Position::Done), "{report}");
    }
    // And is started again elsewhere.
    let next = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pod = own_pod(&seen(&rig).await);
        if let Some(pod) = pod.filter(|pod| pod.id.uid != own.id.uid && pod.is_healthy()) {
            break pod;
        }
    };
    assert_ne!(next.node.as_deref(), Some(node.as_str()));
    let setup = rig.setup(Box::new(journal.clone()));
    let mut second = Executor::open(setup.with_own_pod("ops", &next.id.name))
        .await
        .unwrap();
    let report = second.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    obeys_the_replay_law(journal.entries()).unwrap();
}

/// The plan may be of a time when the pod was elsewhere.
#[tokio::test(start_paused = true)]
async fn where_the_pod_is_now_counts_not_where_the_plan_has_it() {
    let rig = Rig::start(41, scenario(true)).await;
    let (model, _) = rig.planned().await;
    let own = own_pod(&model).unwrap();
    let node = own.node.clone().unwrap();
    let mut workers = model.nodes.iter().filter(|node| node.role == Role::Worker);
    let other = workers
        .find(|other| other.name != node)
        .unwrap()
        .name
        .clone();
    let target = "v1.37.2".parse().unwrap();
    let planner = Planner::new(&model, &rig.policy, target).with_runner_on(&other);
    let plan = planner.plan().unwrap();
    assert_eq!(plan.slots.last().unwrap().node, other);
    let journal = MemoryJournal::new();
    let setup = rig.setup(Box::new(journal.clone()));
    let setup = setup.with_plan(plan, model, rig.policy.clone());
    let setup = setup.with_own_pod("ops", &own.id.name);
    let mut executor = Executor::open(setup).await.unwrap();
    // Nobody ends this process with its pod.
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let run = RecordedRun::all(journal.entries()).remove(0);
    let seen = Input::RunnerSeen {
        node: Some(node.clone()),
    };
    assert_eq!(run.inputs[0].input, seen);
    let mut drains = run.begun.iter().filter(|it| it.phase == Phase::Drain);
    assert_eq!(drains.next_back().unwrap().target.name(), node);
    obeys_the_replay_law(journal.entries()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_would_lose_its_journal_is_refused_before_anything_is_changed() {
    let rig = Rig::start(41, scenario(false)).await;
    let (model, plan) = rig.planned().await;
    let own = own_pod(&model).unwrap();
    let setup = rig.setup(Box::new(MemoryJournal::new()));
    let setup = setup.with_plan(plan, model, rig.policy.clone());
    let setup = setup.with_own_pod("ops", &own.id.name);
    let before = rig.mutating_requests();
    let mut executor = Executor::open(setup).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let RunOutcome::Refused {
        cause: StopCause::Blocked { findings },
    } = &report.outcome
    else {
        panic!("{report}")
    };
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0].code, "KM-RUN-008");
    assert_eq!(rig.mutating_requests(), before);
}
