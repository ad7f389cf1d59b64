//! Where displaced pods go when the scheduler is told what is still to be upgraded.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use migrate_core::{Cancellation, Phase};
use migrate_executor::{Executor, MemoryJournal, RunOutcome, StepOutcome};
use migrate_kube::resources::Node;
use migrate_kube::{EvictOptions, TO_BE_UPGRADED, evict};
use migrate_sim::store::Resource;
use migrate_sim::{Budget, Pool, Scenario, Workload};
use serde_json::json;

use crate::abort::in_phase;
use crate::cluster::Rig;
use crate::upgrade::run_to;

/// Eight workers, of which the two that go last have nothing to move, so that the scheduler
/// likes them best.
async fn rig(seed: u64, prefers: bool) -> Rig {
    let web = Workload::deployment("shop", "web", 18).with_budget(Budget::min_available(15));
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 8))
        .with_workload(web)
        .with_workload(Workload::daemon_set("kube-system", "agent"));
    let mut rig = Rig::start(seed, scenario).await;
    rig.policy.rollout.prefer_upgraded_nodes = prefers;
    let client = rig.cluster.client();
    let spare = ["general-7", "general-8"];
    let nodes = Api::<Node>::all(client.clone());
    let cordon = async |unschedulable: bool| {
        let patch = json!({ "spec": { "unschedulable": unschedulable } });
        for name in spare {
            let patch = Patch::Merge(&patch);
            nodes
                .patch(name, &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    };
    let settled = async || {
        let within = Duration::from_secs(120);
        rig.cluster.wait_until_settled(within).await.unwrap();
    };
    settled().await;
    cordon(true).await;
    for pod in rig.planned().await.0.pods {
        if pod.id.namespace == "shop" && spare.contains(&pod.node.as_deref().unwrap_or_default()) {
            let _ = evict(&client, &pod.id, &EvictOptions::default()).await;
            settled().await;
        }
    }
    cordon(false).await;
    rig
}

impl Rig {
    /// Nodes that are the worse choice because of a run of ours.
    fn avoided(&self) -> Vec<String> {
        let store = self.cluster.store();
        let nodes = store.list(Resource::NODES, None);
        let avoided = nodes.filter(|node| {
            let taints = node.json["spec"]["taints"].as_array();
            let mut taints = taints.into_iter().flatten();
            taints.any(|taint| taint["key"] == TO_BE_UPGRADED)
        });
        avoided.map(|node| node.name.clone()).collect()
    }

    fn evictions(&self) -> usize {
        let audit = self.cluster.audit();
        let evictions = audit.iter().filter(|entry| {
            entry.request.subresource == "eviction" && (200..300).contains(&entry.code)
        });
        evictions.count()
    }

    /// Runs until a worker is in `phase`.
    async fn run_until(&self, journal: &MemoryJournal, phase: Phase) -> Executor {
        let (model, plan) = self.planned().await;
        let setup = self.setup(Box::new(journal.clone()));
        let setup = setup.with_plan(plan, model, self.policy.clone());
        let mut executor = Executor::open(setup).await.unwrap();
        while in_phase(&journal.entries(), phase).is_none() {
            let _ = executor.step().await.unwrap();
        }
        executor
    }
}

/// With the control: the same cluster, whose scheduler is not told.
#[tokio::test(start_paused = true)]
async fn pods_that_move_go_where_they_can_stay() {
    for seed in [1, 2, 3] {
        let mut evictions = Vec::new();
        for prefers in [false, true] {
            let rig = rig(seed, prefers).await;
            let (planned, before) = (rig.planned().await, rig.evictions());
            let broken = rig.broken();
            run_to(RunOutcome::Done, &rig, &MemoryJournal::new(), &planned).await;
            assert_eq!(rig.avoided(), [""; 0]);
            // But for the cordons that were lifted to make it so.
            assert_eq!(rig.broken(), broken);
            evictions.push(rig.evictions() - before);
        }
        let [without, with] = evictions[..] else {
            panic!("two runs");
        };
        // Each pod has to go once, and those of the first node have nowhere to stay.
        println!("{with} of {without}");
        assert!(with < without, "{with} of {without}");
    }
}

#[tokio::test(start_paused = true)]
async fn workers_are_avoided_until_each_is_given_back() {
    let rig = rig(4, true).await;
    let journal = MemoryJournal::new();
    let mut executor = rig.run_until(&journal, Phase::Upgrade).await;
    // All of them, and nothing of the control plane.
    let avoided = rig.avoided();
    assert_eq!(avoided.len(), 8, "{avoided:?}");
    assert!(!avoided.iter().any(|node| node.contains("control-plane")));
    let (model, again) = rig.planned().await;
    assert!(
        model
            .nodes
            .iter()
            .all(|node| node.taints.iter().all(|it| it.key != TO_BE_UPGRADED))
    );
    assert_eq!(again.slots.len(), 8);
    // The first that is given back is so no longer, and the others are.
    while rig.avoided().len() == 8 {
        let step = executor.step().await.unwrap();
        assert!(!matches!(step, StepOutcome::Done(_)), "{step:?}");
    }
    assert_eq!((rig.avoided().len(), rig.unfinished_nodes().len()), (7, 7));
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(rig.avoided(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_run_leaves_no_node_avoided() {
    for phase in [Phase::Drain, Phase::Verify] {
        let rig = rig(5, true).await;
        let mut executor = rig.run_until(&MemoryJournal::new(), phase).await;
        executor.abort();
        let report = executor.run(&Cancellation::new()).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Aborted, "{report}");
        assert_eq!(rig.avoided(), [""; 0]);
    }
}

/// The next runner tells the scheduler again, and takes away what the one before has left.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_leaves_no_node_avoided() {
    let rig = rig(6, true).await;
    let (journal, broken) = (MemoryJournal::new(), rig.broken());
    drop(rig.run_until(&journal, Phase::Verify).await);
    assert!(rig.avoided().len() >= 7, "{:?}", rig.avoided());
    let planned = rig.planned().await;
    let drainer = Arc::new(rig.drainer());
    let report = rig.run(Box::new(journal), drainer, &planned).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(rig.avoided(), [""; 0]);
    assert_eq!(rig.broken(), broken);
}
