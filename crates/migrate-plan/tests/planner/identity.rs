//! What the identity of a plan stands for.

use migrate_core::{ClusterModel, Moment, Policy};
use migrate_plan::Planner;

use crate::small;
use crate::support::{NEW, version};

fn hash(change: impl FnOnce(&mut ClusterModel)) -> String {
    let mut model = small().build();
    change(&mut model);
    model.sort();
    let policy = Policy::default();
    let planner = Planner::new(&model, &policy, version(NEW));
    planner.plan().unwrap().model_hash
}

type Change = fn(&mut ClusterModel);

#[test]
fn all_that_a_rollout_decides_from_is_in_the_hash_of_the_model() {
    let changes: [(&str, Change); 12] = [
        ("time", |model| model.taken_at = Moment::EPOCH),
        ("member", |model| model.control_plane[0].ready = false),
        ("node's uid", |model| model.nodes[3].uid = "u".into()),
        ("node's health", |model| model.nodes[3].ready = false),
        ("cordon", |model| model.nodes[3].unschedulable = true),
        ("pool", |model| model.nodes[5].labels.clear()),
        ("place of a pod", |model| {
            model.pods[0].node = model.pods[2].node.clone()
        }),
        ("pod's health", |model| model.pods[0].ready = false),
        ("labels of a pod", |model| {
            model.pods.iter_mut().for_each(|pod| pod.labels.clear())
        }),
        ("grace", |model| model.pods[0].grace_seconds = 300),
        ("budget", |model| {
            model.budgets[0].status.disruptions_allowed += 1
        }),
        ("replicas", |model| {
            model.workloads.iter_mut().for_each(|one| one.replicas += 1);
        }),
    ];
    let before = hash(|_| ());
    assert_eq!(before, hash(|_| ()));
    for (what, change) in changes {
        assert_ne!(hash(change), before, "{what}");
    }
}

#[test]
fn what_no_decision_reads_is_not() {
    let before = hash(|_| ());
    assert_eq!(hash(|model| model.pods[0].priority = 7), before);
    let rename = |model: &mut ClusterModel| model.pods[0].id.uid = "another".into();
    assert_eq!(hash(rename), before);
}
