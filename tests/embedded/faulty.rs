//! A run over a cluster in which something is wrong with a worker, and canaries.

use std::time::Duration;

use migrate_core::{Cancellation, Migration};
use migrate_executor::{Executor, MemoryJournal, Report};
use migrate_sim::NodeFault;
use migrate_sim::store::Resource;
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;

pub(crate) const CANARIES: &str = "kube-migrate-canary";

/// How it went.
pub(crate) struct Faulty {
    pub(crate) rig: Rig,
    /// The worker.
    pub(crate) node: String,
    /// When it began, in milliseconds of the cluster.
    pub(crate) began: u64,
    pub(crate) report: Report,
}

/// A run over a worker that has `fault` for `how_long`; `set` gives it its canaries. No
/// rule is broken, and the journal can be replayed.
pub(crate) async fn run(
    fault: NodeFault,
    how_long: Duration,
    set: impl FnOnce(&Rig, &mut Migration),
) -> Faulty {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                            "metadata": { "name": CANARIES } });
    let rig = Rig::start(11, small()).await;
    {
        let mut store = rig.cluster.store();
        store.create(Resource::NAMESPACES, namespace).unwrap();
    }
    let (model, plan) = rig.planned().await;
    let mut workers = plan.slots.iter().filter(|slot| slot.pool == "general");
    let node = workers.nth(1).unwrap().node.clone();
    let journal = MemoryJournal::new();
    let setup = rig.setup(Box::new(journal.clone()));
    let mut setup = setup.with_plan(plan, model, rig.policy.clone());
    set(&rig, &mut setup.migration);
    rig.cluster.set_node_fault(&node, fault);
    let began = rig.cluster.now_ms();
    let cancel = Cancellation::new();
    let mut executor = Executor::open(setup).await.unwrap();
    let healed = async {
        sleep(how_long).await;
        rig.cluster.set_node_fault(&node, NodeFault::None);
        std::future::pending::<()>().await;
    };
    let report = tokio::select! {
        report = executor.run(&cancel) => report.unwrap(),
        () = healed => unreachable!(),
    };
    obeys_the_replay_law(journal.entries()).unwrap();
    assert_eq!(rig.broken(), []);
    Faulty {
        rig,
        node,
        began,
        report,
    }
}
