//! A node that dies between an admission and the cordon that follows from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migrate_core::Plan;
use migrate_drain::Drainer;
use migrate_executor::{MemoryJournal, Record};
use migrate_plan::{ActionResult, Input};
use migrate_sim::api::Fault;
use migrate_sim::store::{ApiError, Resource};
use migrate_sim::{NodeFault, Pool, Scenario, Workload};
use tokio::time::sleep;

use crate::cluster::Rig;
use crate::replay::obeys_the_replay_law;

const SECOND: Duration = Duration::from_secs(1);

/// One member and a pool of three, one of which may be away.
async fn rig() -> Rig {
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 3))
        .with_workload(Workload::deployment("shop", "web", 2));
    let mut rig = Rig::start(1, scenario).await;
    rig.policy.pools.canary = false;
    rig
}

/// Once the first node of the pool is through, keeps the kill switch from being
/// read, so that the second is admitted and waits, until the third is dead.
/// Heals it a minute later.
async fn kill_the_third_while_the_second_waits(rig: &Rig, plan: &Plan) {
    let of_pool = plan.slots.iter().filter(|slot| slot.pool == "general");
    let nodes: Vec<&str> = of_pool.map(|slot| slot.node.as_str()).collect();
    let [first, _, third] = nodes[..] else {
        panic!("{nodes:?}");
    };
    let holds = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&holds);
    rig.cluster.api().set_faults(move |request| {
        let is_gate = request.resource == "leases" && request.verb == "get";
        match is_gate && hook.load(Ordering::SeqCst) {
            true => Fault::Answer(ApiError::Other {
                code: 503,
                reason: "ServiceUnavailable".to_owned(),
                message: "held by the test".to_owned(),
                retry_after_seconds: None,
            }),
            false => Fault::Pass,
        }
    });
    let node = |name: &str| {
        let store = rig.cluster.store();
        let node = store.get(Resource::NODES, "", name).unwrap();
        node.json.clone()
    };
    let is_through = || {
        let node = node(first);
        let version = &node["status"]["nodeInfo"]["kubeletVersion"];
        version == "v1.37.2" && node["spec"]["unschedulable"] != true
    };
    while !is_through() {
        sleep(SECOND / 10).await;
    }
    holds.store(true, Ordering::SeqCst);
    rig.cluster.set_node_fault(third, NodeFault::Dead);
    let is_ready = || {
        let store = rig.cluster.store();
        let node = store.get(Resource::NODES, "", third).unwrap();
        node.is_ready()
    };
    while is_ready() {
        sleep(SECOND).await;
    }
    sleep(SECOND * 5).await;
    holds.store(false, Ordering::SeqCst);
    sleep(SECOND * 60).await;
    rig.cluster.set_node_fault(third, NodeFault::None);
}

/// Runs through it; gives the rules that were broken and how many drains were
/// put off.
async fn rules_broken(rig: &Rig, drainer: Drainer) -> (Vec<&'static str>, usize) {
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    let run = rig.run(Box::new(journal.clone()), Arc::new(drainer), &planned);
    // Without the look how it ends does not matter.
    let _ = tokio::join!(run, kill_the_third_while_the_second_waits(rig, &planned.1));
    obeys_the_replay_law(journal.entries()).unwrap();
    let entries = journal.entries();
    let deferred = entries.iter().filter(|entry| {
        let Record::Input {
            input: Input::ActionEnded { result, .. },
        } = &entry.record
        else {
            return false;
        };
        matches!(result, ActionResult::Deferred { .. })
    });
    let deferred = deferred.count();
    let broken = rig.broken();
    (
        broken.iter().map(|violation| violation.rule).collect(),
        deferred,
    )
}

#[tokio::test(start_paused = true)]
async fn who_was_admitted_is_put_off_when_its_pool_has_become_full() {
    let rig = rig().await;
    let (broken, deferred) = rules_broken(&rig, rig.drainer()).await;
    assert!(broken.is_empty(), "{:?}", rig.broken());
    assert_eq!(deferred, 1, "and not asked again before there is room");
    assert!(rig.unfinished_nodes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_the_last_look_the_pool_is_too_far_down() {
    let rig = rig().await;
    let drainer = rig.drainer().without_last_look();
    let (broken, deferred) = rules_broken(&rig, drainer).await;
    assert!(broken.contains(&"I2"), "{broken:?}");
    assert_eq!(deferred, 0);
}
