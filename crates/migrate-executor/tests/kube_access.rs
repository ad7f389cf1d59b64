//! The executor's own access to a cluster, over the embedded one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use migrate_core::{BudgetKey, Fence, Moment, Policy, StepErrorKind, StepInput, WorkloadId};
use migrate_executor::{AnchorState, ClusterAccess, KubeAccess, MarkedNode, adoptable_model};
use migrate_kube::resources::{Lease, Node, Pod};
use migrate_kube::{Claim, RunMark};
use migrate_plan::Input;
use migrate_sim::{Budget, Pool, SimCluster, Workload};

async fn cluster() -> (SimCluster, Client) {
    let cart = Workload::deployment("shop", "cart", 3).with_budget(Budget::min_available(2));
    let cluster = SimCluster::builder()
        .seed(7)
        .nodes(Pool::new("general", 3))
        .workload(cart)
        .start()
        .await
        .unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(60))
        .await
        .unwrap();
    let client = cluster.client();
    (cluster, client)
}

fn writes(cluster: &SimCluster) -> usize {
    cluster
        .audit()
        .iter()
        .filter(|entry| entry.is_mutating())
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_anchor_names_one_run_and_its_journal() {
    let (cluster, client) = cluster().await;
    let access = KubeAccess::new(client.clone());
    let model = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    assert_eq!(access.identity().await.unwrap(), model.cluster);
    assert_eq!(access.anchor().await.unwrap(), AnchorState::new());

    let lasts = Duration::from_secs(30);
    let of = |run, journal, plan| Claim::new(RunMark::new(run, journal, plan), lasts);
    let claim = of("run-1", "host:/a.journal", "plan-1");
    let now = Moment::EPOCH;
    assert_eq!(access.claim(&claim, now).await.unwrap(), 1);
    let holder = access.anchor().await.unwrap().holder;
    assert_eq!(holder.as_ref().unwrap().lasts, lasts);
    let named = |journal, epoch| {
        AnchorState::new()
            .with_run("run-1", journal)
            .with_epoch(epoch)
    };
    let first = named("host:/a.journal", 1).with_holder(holder.clone());
    assert_eq!(access.anchor().await.unwrap(), first);
    let before = writes(&cluster);
    access.clear(&Fence::new("run-2", 1)).await.unwrap();
    access.clear(&Fence::new("run-1", 2)).await.unwrap();
    access.renew(&claim.mark, 2, now).await.unwrap();
    assert_eq!(
        writes(&cluster),
        before,
        "nothing to change, nothing is sent"
    );

    let other = of("run-2", "host:/b.journal", "plan-1");
    let error = access.claim(&other, now).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict);
    assert!(error.to_string().contains("run-1"), "{error}");
    let moved = of("run-1", "host:/b.journal", "plan-2").with_lapsed(holder);
    assert_eq!(access.claim(&moved, now).await.unwrap(), 2);

    let leases = Api::<Lease>::namespaced(client, "kube-system");
    let pause = serde_json::json!({
        "metadata": { "annotations": { "kube-migrate.dev/pause": "true" } },
    });
    let params = PatchParams::default();
    leases
        .patch("kube-migrate", &params, &Patch::Merge(&pause))
        .await
        .unwrap();
    let seen = access.anchor().await.unwrap();
    let paused = named("host:/b.journal", 2).with_holder(seen.holder.clone());
    assert_eq!(seen, paused.with_paused(true));
    access.clear(&Fence::new("run-1", 2)).await.unwrap();
    assert_eq!(
        access.anchor().await.unwrap(),
        AnchorState::new().with_epoch(2).with_paused(true)
    );
}

#[tokio::test(start_paused = true)]
async fn cordons_are_taken_over_and_then_given_back_as_they_were() {
    let (_cluster, client) = cluster().await;
    let access = KubeAccess::new(client.clone());
    let nodes = Api::<Node>::all(client.clone());
    let model = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    let [first, second, _] = &model.nodes[..] else {
        panic!("three nodes");
    };
    let foreign = serde_json::json!({ "spec": { "unschedulable": true } });
    let params = PatchParams::default();
    nodes
        .patch(&second.name, &params, &Patch::Merge(&foreign))
        .await
        .unwrap();
    let claim = |run, journal| {
        let mark = RunMark::new(run, journal, "plan");
        Claim::new(mark, Duration::from_secs(30))
    };
    let epoch = access.claim(&claim("run-1", "a"), Moment::EPOCH).await;
    let old = Fence::new("run-1", epoch.unwrap());
    for node in [first, second] {
        migrate_kube::cordon(&client, &node.name, &old)
            .await
            .unwrap();
    }
    let marked = |run| {
        vec![
            MarkedNode::new(&first.name, run, false),
            MarkedNode::new(&second.name, run, true),
        ]
    };
    assert_eq!(access.marked_nodes().await.unwrap(), marked("run-1"));

    let seen = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    let adoptable = adoptable_model(&access, seen).await.unwrap();
    let unschedulable: Vec<_> = adoptable
        .nodes
        .iter()
        .map(|node| node.unschedulable)
        .collect();
    assert_eq!(unschedulable, [false, true, false]);

    // Another run, whose plan knows nothing of the first.
    access.clear(&old).await.unwrap();
    let epoch = access.claim(&claim("run-2", "b"), Moment::EPOCH).await;
    let new = Fence::new("run-2", epoch.unwrap());
    for _ in 0..2 {
        let taken = access.take_over(&new).await.unwrap();
        assert_eq!(taken, [first.name.clone(), second.name.clone()]);
        assert_eq!(access.marked_nodes().await.unwrap(), marked("run-2"));
    }
    let error = access.take_over(&old).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict);

    for node in [first, second] {
        migrate_kube::restore_cordon(&client, &node.name, &new)
            .await
            .unwrap();
    }
    assert_eq!(access.marked_nodes().await.unwrap(), []);
    let model = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    let unschedulable: Vec<_> = model.nodes.iter().map(|node| node.unschedulable).collect();
    assert_eq!(unschedulable, [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn the_first_look_shows_everything_and_later_ones_what_changes() {
    let (_cluster, client) = cluster().await;
    let access = KubeAccess::new(client.clone());
    let model = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    let mut planned = model.clone();
    let mut deleted = planned.workloads[0].clone();
    deleted.id = WorkloadId::new("Deployment", "shop", "deleted");
    planned.workloads.push(deleted.clone());
    let input = StepInput::new(
        Arc::new(planned),
        Arc::new(Policy::default()),
        "v1.37.2".parse().unwrap(),
    );
    let mut changes = access.changes(&input);
    let first = changes.next().await.unwrap().unwrap();
    let count = |is: fn(&Input) -> bool| first.iter().filter(|input| is(input)).count();
    assert_eq!(
        count(|input| matches!(input, Input::NodeSeen { ready: true, .. })),
        3
    );
    assert_eq!(
        count(|input| matches!(input, Input::BudgetSeen { allowed: 1, .. })),
        2,
        "a real one and what is assumed for a workload"
    );
    let unbounded: Vec<_> = first
        .iter()
        .filter(|input| matches!(input, Input::BudgetSeen { allowed, .. } if *allowed > 1))
        .collect();
    let lifted = Input::BudgetSeen {
        key: BudgetKey::assumed(&deleted.id),
        allowed: u32::MAX,
    };
    assert_eq!(unbounded, [&lifted], "planned, and gone by now");

    let pod = &model.pods[0].id;
    let now = kube::api::DeleteParams::default().grace_period(0);
    Api::<Pod>::namespaced(client.clone(), &pod.namespace)
        .delete(&pod.name, &now)
        .await
        .unwrap();
    for room in [0, 1] {
        let key = BudgetKey::assumed(&WorkloadId::new("Deployment", "shop", "cart"));
        let seen = Input::BudgetSeen { key, allowed: room };
        while !changes.next().await.unwrap().unwrap().contains(&seen) {}
    }

    let name = &model.nodes[0].name;
    let by_hand = Fence::without_lease("run-1");
    migrate_kube::cordon(&client, name, &by_hand).await.unwrap();
    let cordoned = |input: &Input| match input {
        Input::NodeSeen {
            node,
            unschedulable: true,
            ..
        } => node == name,
        _ => false,
    };
    while !changes.next().await.unwrap().unwrap().iter().any(cordoned) {}
    Api::<Node>::all(client)
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let gone = Input::NodeGone { node: name.clone() };
    while !changes.next().await.unwrap().unwrap().contains(&gone) {}
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_node_shows_who_has_its_name() {
    let (cluster, client) = cluster().await;
    let access = KubeAccess::new(client.clone());
    let model = migrate_kube::observe(&client, Moment::EPOCH).await.unwrap();
    let node = &model.nodes[0];
    let seen = access.look_at_node(&node.name).await.unwrap();
    let Input::NodeSeen { uid, .. } = &seen else {
        panic!("{seen:?}");
    };
    assert_eq!(uid.as_ref(), Some(&node.uid));
    let name = node.name.clone();
    let mut store = cluster.store();
    let options = migrate_sim::store::DeleteOptions::now();
    let nodes = migrate_sim::store::Resource::NODES;
    store.delete(nodes, "", &name, &options).unwrap();
    drop(store);
    let seen = access.look_at_node(&name).await.unwrap();
    assert_eq!(seen, Input::NodeGone { node: name });
}
