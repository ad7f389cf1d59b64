//! A pool that is held back at a patch of the minor before.

use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_sim::store::Resource;
use migrate_sim::{Pool, Scenario, Workload};

use crate::cluster::Rig;
use crate::replay::obeys_the_replay_law;
use crate::upgrade::run_to;

const OWN: &str = "v1.36.5";

#[tokio::test(start_paused = true)]
async fn a_pool_goes_to_its_own_target_and_the_rules_hold() {
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 2))
        .with_pool(Pool::new("gpu", 2))
        .with_workload(Workload::deployment("shop", "web", 3));
    let mut rig = Rig::start(7, scenario).await;
    let targets = &mut rig.policy.pools.target_of;
    targets.insert("gpu".to_owned(), OWN.parse().unwrap());
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    let report = run_to(RunOutcome::Done, &rig, &journal, &planned).await;
    assert!(report.contains("pool gpu -> v1.36.5"), "{report}");
    obeys_the_replay_law(journal.entries()).unwrap();
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    let mut held = Vec::new();
    for node in rig.cluster.store().list(Resource::NODES, None) {
        let version = &node.json["status"]["nodeInfo"]["kubeletVersion"];
        let pool = &node.json["metadata"]["labels"]["node.kubernetes.io/pool"];
        let is_held = pool == "gpu";
        let wanted = if is_held { OWN } else { "v1.37.2" };
        assert_eq!(version, wanted, "{}", node.name);
        held.extend(is_held.then(|| node.name.clone()));
    }
    assert_eq!(held.len(), 2, "{held:?}");
    // It stays so: another run has nothing to do.
    let again = rig.planned().await;
    assert!(again.1.is_empty(), "{:?}", again.1.slots);
}
