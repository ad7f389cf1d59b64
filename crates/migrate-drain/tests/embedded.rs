//! The driver on the embedded cluster, in virtual time.

mod support;

use std::time::Duration;

use futures::StreamExt;
use migrate_core::NeedsConsent;
use migrate_core::steps::DrainOutcome;
use migrate_drain::{Error, machine::codes};
use migrate_sim::store::Resource;
use migrate_sim::{Budget, Spread, VolumeReach, Workload};
use serde_json::json;
use support::{Demo, context, drain, drained, policy, release, released, web};

#[tokio::test(start_paused = true)]
async fn two_nodes_of_a_busy_cluster_are_drained_within_all_budgets() {
    for seed in [7, 8] {
        let demo = Demo::start(seed).await;
        let report = demo
            .drainer()
            .drain(["general-1", "general-2"])
            .await
            .unwrap();
        assert!(report.all_nodes_empty(), "{report}");
        assert_eq!(demo.violations(), Vec::<String>::new());
        let asked = demo.evictions();
        assert!(asked.len() > 10);
        assert_eq!(
            asked.len(),
            report.evictions() as usize,
            "one request for each pod"
        );
        assert!(asked.iter().all(|(_, _, code)| *code == 201));
        assert!(demo.unschedulable("general-1"));
        demo.drainer()
            .release(["general-1", "general-2"])
            .await
            .unwrap();
        assert!(!demo.unschedulable("general-1"));
        let store = demo.cluster.store();
        let node = store.get(Resource::NODES, "", "general-1").unwrap();
        assert!(
            !node.json["metadata"].to_string().contains("cordoned-by"),
            "{}",
            node.json
        );
    }
}

#[tokio::test(start_paused = true)]
async fn negative_control_without_assumed_budgets_the_checker_objects() {
    let demo = Demo::start(7).await;
    let mut careless = policy();
    careless.assumed_budgets.enabled = false;
    let nodes = (1..=4).map(|n| format!("general-{n}"));
    let report = demo
        .drainer()
        .with_policy(careless)
        .drain(nodes)
        .await
        .unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert!(!demo.violations().is_empty());
}

/// Six pods of a controller whose objects nobody reads, on three nodes.
async fn legacy() -> (Demo, Vec<String>) {
    let pods = Workload::replication_controller("shop", "legacy", 6).with_spread(Spread::Node);
    let demo = Demo::small(3, [pods]).await;
    let nodes: Vec<String> = demo.hosts("legacy").into_keys().take(2).collect();
    (demo, nodes)
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_controller_that_is_not_read_have_an_assumed_budget() {
    let (demo, nodes) = legacy().await;
    let report = demo.drainer().drain(nodes.clone()).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
    assert!(demo.evictions().len() >= 4);
    for node in &nodes {
        assert_eq!(demo.pods_on(node, "legacy"), Vec::<String>::new());
    }
    let store = demo.cluster.store();
    let pods = store.list(Resource::PODS, Some("shop"));
    let ready = pods.filter(|pod| pod.is_ready());
    assert_eq!(ready.count(), 6, "each replacement is awaited");
}

#[tokio::test(start_paused = true)]
async fn negative_control_without_it_they_go_together_and_the_checker_objects() {
    let (demo, nodes) = legacy().await;
    let mut careless = policy();
    careless.assumed_budgets.enabled = false;
    let drainer = demo.drainer().with_policy(careless);
    let report = drainer.drain(nodes).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert!(!demo.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_requests_at_the_same_times() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let demo = Demo::start(11).await;
        let report = demo
            .drainer()
            .drain(["general-3", "batch-1"])
            .await
            .unwrap();
        assert!(report.all_nodes_empty(), "{report}");
        runs.push(format!("{:?}", demo.evictions()));
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(start_paused = true)]
async fn budgets_that_cross_on_two_nodes_do_not_lock_each_other() {
    let one = || Budget::max_unavailable(1);
    let workloads = ["x", "y", "z"].map(|name| {
        Workload::deployment("shop", name, 2)
            .with_budget(one())
            .apart()
    });
    let demo = Demo::small(4, workloads).await;
    let hosts: Vec<String> = demo.hosts("x").into_keys().collect();
    let report = demo.drainer().drain(hosts).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_budget_edited_in_mid_drain_is_noticed_at_once() {
    let demo = Demo::small(3, [web(3).with_budget(Budget::max_unavailable(0))]).await;
    let node = demo.hosts("web").into_keys().next().unwrap();
    let edit = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        let edit = |json: &mut serde_json::Value| json["spec"]["maxUnavailable"] = 1.into();
        let kind = Resource::POD_DISRUPTION_BUDGETS;
        demo.cluster
            .store()
            .modify(kind, "shop", "web", edit)
            .unwrap();
        demo.cluster.now_ms()
    };
    let drainer = demo.drainer();
    let (report, edited) = tokio::join!(drainer.drain([&node]), edit);
    assert!(report.unwrap().all_nodes_empty());
    let first = demo.evictions()[0].1;
    assert!(
        first >= edited && first - edited < 1_000,
        "{} ms later",
        first - edited
    );
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_never_has_room_is_named_with_counts_and_nothing_goes_on() {
    let demo = Demo::small(3, [web(3).with_budget(Budget::min_available(3))]).await;
    let node = demo.hosts("web").into_keys().next().unwrap();
    let mut hurried = policy();
    hurried.deadlines.drain = Duration::from_secs(120);
    let report = demo
        .drainer()
        .with_policy(hurried)
        .drain([&node])
        .await
        .unwrap();
    let Some(DrainOutcome::Deadline { blocked, remaining }) = report.nodes.get(&node) else {
        panic!("{report}");
    };
    assert_eq!((blocked[0].1.desired, blocked[0].1.healthy), (3, 3));
    assert_eq!(remaining.len(), demo.pods_on(&node, "web").len());
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == codes::BLOCKED && f.cure.contains("replica"))
    );
    let pod = remaining[0].to_string();
    let error = report.ensure_empty().unwrap_err();
    assert!(matches!(error, Error::NotEmpty(_)));
    let error = error.to_string();
    assert!(
        error.contains(&pod) && error.contains("add a replica"),
        "{error}"
    );
    assert_eq!(demo.evictions(), [], "the ledger knows without asking");
    let requests = demo.cluster.audit().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        demo.cluster.audit().len(),
        requests,
        "nothing is left running"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_against_an_exhausted_budget_ends_and_writes_nothing() {
    let guarded = Workload::deployment("shop", "guarded", 3).with_budget(Budget::min_available(3));
    let demo = Demo::small(2, [web(4), guarded]).await;
    let (commands, mut events) = demo.run(&context(), policy(), true).await;
    commands.unbounded_send(drain("general-1")).unwrap();
    let (_, outcome) = drained(&mut events).await.unwrap();
    let DrainOutcome::Failed { reason, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        reason.starts_with("dry run: ") && reason.contains("shop/guarded-"),
        "{reason}"
    );
    assert_eq!(demo.writes(), 0);
    let audit = demo.cluster.audit();
    assert!(
        audit
            .iter()
            .any(|e| e.request.subresource == "eviction" && e.request.dry_run)
    );
}

#[tokio::test(start_paused = true)]
async fn consent_is_asked_before_anything_is_written() {
    let demo = Demo::small(2, [web(2), Workload::bare_pods("shop", "tool", 2)]).await;
    let node = demo.hosts("tool").into_keys().next().unwrap();
    let report = demo.drainer().drain([&node]).await.unwrap();
    let Some(DrainOutcome::NeedsConsent { pods }) = report.nodes.get(&node) else {
        panic!("{report}");
    };
    assert!(pods.iter().all(|(_, to)| *to == NeedsConsent::Bare));
    assert_eq!(demo.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn pods_only_their_node_can_host_go_with_consent_and_are_awaited_after_release() {
    let db = Workload::stateful_set("shop", "db", 2)
        .with_volume(VolumeReach::Node)
        .apart();
    let demo = Demo::small(3, [db, web(3)]).await;
    let node = demo.hosts("db").into_keys().next().unwrap();
    let pod = demo.pods_on(&node, "db").remove(0);
    let report = demo.drainer().drain([&node]).await.unwrap();
    assert!(
        matches!(&report.nodes[&node], DrainOutcome::NeedsConsent { pods }
            if matches!(pods[0].1, NeedsConsent::OnlyHost(_))),
        "{report}"
    );
    assert_eq!(demo.writes(), 0);

    let mut agreed = policy();
    agreed.consent.downtime = true;
    let (commands, mut events) = demo.run(&context(), agreed, false).await;
    commands.unbounded_send(drain(&node)).unwrap();
    let (_, outcome) = drained(&mut events).await.unwrap();
    assert!(matches!(outcome, DrainOutcome::Empty { .. }), "{outcome:?}");
    let store = demo.cluster.store();
    let attached = store
        .list(Resource::VOLUME_ATTACHMENTS, None)
        .any(|one| one.json["spec"]["nodeName"] == node.as_str());
    assert!(!attached, "its volume is detached");
    drop(store);
    commands.unbounded_send(release(&node)).unwrap();
    drop(commands);
    assert_eq!(released(&mut events).await, Some((node, None)));
    let store = demo.cluster.store();
    let back = store.get(Resource::PODS, "shop", &pod).unwrap();
    assert!(
        back.json["status"]["conditions"]
            .to_string()
            .contains("Ready"),
        "{}",
        back.json
    );
    drop(store);
    assert_eq!(
        events.next().await,
        None,
        "commands and work are at their end"
    );
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn volumes_of_moved_pods_are_detached_before_a_node_is_empty() {
    let db = Workload::stateful_set("shop", "db", 3).with_volume(VolumeReach::Zone);
    let demo = Demo::small(3, [db]).await;
    let node = demo.hosts("db").into_keys().next().unwrap();
    let report = demo.drainer().drain([&node]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    let store = demo.cluster.store();
    let left = store
        .list(Resource::VOLUME_ATTACHMENTS, None)
        .filter(|one| one.json["spec"]["nodeName"] == node.as_str());
    assert_eq!(left.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_bound_after_the_lists_is_found() {
    let demo = Demo::small(3, [web(2)]).await;
    let late = async {
        while !demo.unschedulable("general-1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pod = json!({
            "metadata": {
                "name": "late",
                "namespace": "shop",
                "labels": { "app": "late" },
                "ownerReferences": [{
                    "apiVersion": "example.com/v1", "kind": "Fleet", "name": "fleet",
                    "uid": "fleet", "controller": true,
                }],
            },
            "spec": { "nodeName": "general-1", "containers": [{ "name": "c", "image": "i" }] },
        });
        demo.cluster.store().create(Resource::PODS, pod).unwrap();
    };
    let drainer = demo.drainer();
    let (report, ()) = tokio::join!(drainer.drain(["general-1"]), late);
    let report = report.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert!(demo.evictions().iter().any(|(name, _, _)| name == "late"));
    assert_eq!(demo.pods_on("general-1", "late"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn pods_that_come_straight_back_do_not_loop() {
    let mut stubborn = web(2).on_nodes("kubernetes.io/hostname", "general-1");
    stubborn.tolerates_everything = true;
    let demo = Demo::small(2, [stubborn]).await;
    let mut agreed = policy();
    agreed.consent.downtime = true;
    let report = demo
        .drainer()
        .with_policy(agreed)
        .drain(["general-1"])
        .await
        .unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.evictions().len(), 2, "each slot once");
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.code == codes::RELANDS)
    );
    assert_eq!(demo.pods_on("general-1", "web").len(), 2);
}
