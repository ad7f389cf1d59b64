//! One node goes back to the older release, and forward again.

use migrate_core::{ClusterModel, Plan};
use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_plan::{Error, Planner};
use migrate_sim::store::Resource;

use crate::cluster::{Rig, small};
use crate::upgrade::run_to;

const OLD: &str = "v1.36.3";

async fn back(rig: &Rig, node: &str, to: &str) -> Result<(ClusterModel, Plan), Error> {
    let (model, _) = rig.planned().await;
    let planner = Planner::new(&model, &rig.policy, to.parse().unwrap());
    let plan = planner.taking_back(node).plan()?;
    Ok((model, plan))
}

/// Kubelet's version by node.
fn versions(rig: &Rig) -> Vec<(String, String)> {
    let store = rig.cluster.store();
    let nodes = store.list(Resource::NODES, None).map(|node| {
        let version = &node.json["status"]["nodeInfo"]["kubeletVersion"];
        (node.name.clone(), version.as_str().unwrap().to_owned())
    });
    nodes.collect()
}

#[tokio::test(start_paused = true)]
async fn one_node_goes_back_and_comes_again_and_the_rules_hold() {
    let rig = Rig::start(11, small()).await;
    let journal = MemoryJournal::new();
    let planned = rig.planned().await;
    run_to(RunOutcome::Done, &rig, &journal, &planned).await;

    let node = planned.1.slots.last().unwrap().node.clone();
    let way_back = back(&rig, &node, OLD).await.unwrap();
    assert_eq!(way_back.1.way_back(), Some(node.as_str()));
    assert!(way_back.1.control_plane.is_empty());
    run_to(RunOutcome::Done, &rig, &journal, &way_back).await;
    for (name, version) in versions(&rig) {
        let wanted = if name == node { OLD } else { "v1.37.2" };
        assert_eq!(version, wanted, "{name}");
    }
    assert_eq!(rig.unfinished_nodes(), [&*node]);

    let again = rig.planned().await;
    assert_eq!(again.1.slots.len(), 1);
    run_to(RunOutcome::Done, &rig, &journal, &again).await;
    assert_eq!(rig.unfinished_nodes(), Vec::<String>::new());
    // That a version goes back, and comes again, is all there is to be seen.
    let broken = rig.broken();
    assert_eq!(broken.len(), 3, "{broken:?}");
    for violation in broken {
        assert_eq!(violation.rule, "I6", "{violation:?}");
        assert!(violation.what.contains(&node), "{violation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_way_back_is_refused_by_name() {
    let rig = Rig::start(12, small()).await;
    let planned = rig.planned().await;
    run_to(RunOutcome::Done, &rig, &MemoryJournal::new(), &planned).await;
    let node = planned.1.slots[0].node.clone();
    for (node, to, reason) in [
        ("nobody", OLD, "no such node"),
        (&*node, "v1.37.2", "not older"),
        (&*node, "v1.38.0", "not older"),
        (&*node, "v1.33.9", "kubelet"),
    ] {
        let error = back(&rig, node, to).await.unwrap_err().to_string();
        assert!(error.contains(node) && error.contains(reason), "{error}");
    }
}
