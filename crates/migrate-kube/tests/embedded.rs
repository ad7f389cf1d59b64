//! The adapter against the embedded cluster: real requests, real semantics,
//! virtual time.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::{Api, Client};
use migrate_core::model::Role;
use migrate_core::{ClusterModel, Fence, KubeVersion, Moment, PodId};
use migrate_kube::resources::{Pod, PodDisruptionBudget};
use migrate_kube::{
    Anchor, Claim, Error, EvictOptions, EvictionAnswer, Restored, RunMark, Selection, WatchEvent,
    cordon, evict, list, observe, read_only, restore_cordon, watch,
};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::{Budget, Pool, SimCluster, Workload};
use serde_json::json;

const SETTLE: Duration = Duration::from_secs(600);

/// Three nodes, a web with a budget of one, and a cart without a budget.
async fn shop() -> SimCluster {
    let web = Workload::deployment("shop", "web", 3).with_budget(Budget::min_available(2));
    let cart = Workload::deployment("shop", "cart", 2);
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(web)
        .workload(cart);
    let cluster = cluster.start().await.unwrap();
    cluster.wait_until_settled(SETTLE).await.unwrap();
    cluster
}

async fn pods_of(client: &Client, workload: &str) -> Vec<PodId> {
    let model = observe(client, Moment::EPOCH).await.unwrap();
    let of = |pod: &&migrate_core::Pod| pod.workload.as_ref().is_some_and(|w| w.name == workload);
    model
        .pods
        .iter()
        .filter(of)
        .map(|pod| pod.id.clone())
        .collect()
}

async fn allowed(client: &Client) -> i32 {
    let budgets = list::<PodDisruptionBudget>(client, &Selection::all())
        .await
        .unwrap();
    budgets[0].status.disruptions_allowed
}

#[tokio::test(start_paused = true)]
async fn the_demo_cluster_is_observed_sorted_complete_and_without_a_write() {
    let cluster = SimCluster::demo(7).await.unwrap();
    cluster.api().take_audit();
    let client = read_only(cluster.client());
    let now = Moment::from_millis(cluster.now_ms());
    let model = observe(&client, now).await.unwrap();
    assert!(cluster.audit().iter().all(|entry| !entry.is_mutating()));

    let mut sorted = model.clone();
    sorted.sort();
    assert_eq!(sorted, model);
    let version: KubeVersion = "v1.36.3".parse().unwrap();
    assert_eq!(model.control_plane.len(), 3);
    for member in &model.control_plane {
        assert!(member.ready && member.version == version, "{member:?}");
        assert_eq!(
            model.node(&member.name).map(|node| node.role),
            Some(Role::ControlPlane)
        );
    }
    assert_eq!(model.nodes.len(), 15);
    assert!(
        model
            .nodes
            .iter()
            .all(|node| node.ready && node.allocatable.cpu_milli >= 4000)
    );
    assert!(model.pods.len() > 200, "{}", model.pods.len());

    let kinds: BTreeSet<&str> = model.workloads.iter().map(|w| w.id.kind.as_str()).collect();
    assert!(
        kinds.is_superset(&["Deployment", "DaemonSet", "StatefulSet"].into()),
        "{kinds:?}"
    );
    assert!(
        !kinds.contains("ReplicaSet"),
        "every one of them belongs to a Deployment"
    );
    for pod in &model.pods {
        let Some(workload) = &pod.workload else {
            continue;
        };
        assert!(model.workload(workload).is_some(), "{pod:?}");
    }
    assert!(model.pods.iter().any(|pod| pod.mirror));
    assert!(
        model
            .pods
            .iter()
            .any(|pod| !pod.placement.volume_affinity.is_empty())
    );
    assert!(model.budgets.iter().all(|budget| budget.status.observed));
    assert!(
        model
            .budgets
            .iter()
            .any(|budget| budget.status.disruptions_allowed > 0)
    );

    // Another cluster of the same seed is the same to the byte.
    let twin = SimCluster::demo(7).await.unwrap();
    let twin = observe(&twin.client(), now).await.unwrap();
    let json = |model: &ClusterModel| serde_json::to_string(model).unwrap();
    assert_eq!(json(&twin), json(&model));
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_stops_the_observation_with_the_rule_to_add() {
    let cluster = shop().await;
    let most = [
        "nodes",
        "pods",
        "namespaces",
        "persistentvolumes",
        "persistentvolumeclaims",
    ];
    cluster.api().set_access([
        AccessRule::new(["get", "list"], [""], most),
        AccessRule::new(["list"], ["apps", "batch"], ["*"]),
    ]);
    let error = observe(&cluster.client(), Moment::EPOCH).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    let rule = r#"{apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: ["list"]}"#;
    assert!(error.to_string().ends_with(rule), "{error}");
}

#[tokio::test(start_paused = true)]
async fn evictions_are_answered_as_a_server_answers_them() {
    let cluster = shop().await;
    let client = cluster.client();
    let web = pods_of(&client, "web").await;
    let real = EvictOptions::default();
    let question = EvictOptions::default().with_dry_run();

    // Any number of questions is answered yes and changes nothing.
    for pod in &web {
        assert_eq!(
            evict(&client, pod, &question).await,
            EvictionAnswer::Accepted
        );
    }
    assert_eq!(allowed(&client).await, 1);

    assert_eq!(
        evict(&client, &web[0], &real).await,
        EvictionAnswer::Accepted
    );
    for options in [&real, &question] {
        let answer = evict(&client, &web[1], options).await;
        let EvictionAnswer::BudgetExhausted { budget, message } = answer else {
            panic!("{answer}");
        };
        assert_eq!(budget.as_deref(), Some("web"));
        assert!(message.contains("needs 2 healthy pods"), "{message}");
    }
    // The one that is going is not asked for a budget again.
    assert_eq!(
        evict(&client, &web[0], &real).await,
        EvictionAnswer::Accepted
    );

    cluster.wait_until_settled(SETTLE).await.unwrap();
    assert_eq!(evict(&client, &web[0], &real).await, EvictionAnswer::Gone);
    let unknown = PodId::new("nowhere", "web-1", "u");
    assert_eq!(evict(&client, &unknown, &real).await, EvictionAnswer::Gone);
    let kept = pods_of(&client, "web").await;
    assert!(kept.contains(&web[1]) && kept.contains(&web[2]) && kept.len() == 3);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_is_not_evicted_and_the_refusal_spends_the_budget() {
    let cluster = shop().await;
    let client = cluster.client();
    let web = pods_of(&client, "web").await;
    assert_eq!(allowed(&client).await, 1);
    let before = PodId::new("shop", web[0].name.clone(), "an-earlier-uid");
    let answer = evict(&client, &before, &EvictOptions::default()).await;
    assert_eq!(answer, EvictionAnswer::OtherPod);
    assert_eq!(allowed(&client).await, 0);
    assert_eq!(pods_of(&client, "web").await, web);
}

#[tokio::test(start_paused = true)]
async fn two_budgets_and_a_namespace_that_ends() {
    let cluster = shop().await;
    let client = cluster.client();
    let web = pods_of(&client, "web").await;
    let budgets = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        "shop",
        &kube::core::ApiResource::erase::<PodDisruptionBudget>(&()),
    );
    let second: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": "second", "namespace": "shop" },
        "spec": { "selector": {}, "maxUnavailable": 1 },
    }))
    .unwrap();
    budgets
        .create(&PostParams::default(), &second)
        .await
        .unwrap();
    let real = EvictOptions::default();
    assert_eq!(
        evict(&client, &web[0], &real).await,
        EvictionAnswer::TwoBudgets
    );
    budgets
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        evict(&client, &web[0], &real).await,
        EvictionAnswer::Accepted
    );

    let namespaces = Api::<migrate_kube::resources::Namespace>::all(client.clone());
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    let cart = list::<Pod>(&client, &Selection::all().labels("app=cart"))
        .await
        .unwrap();
    let answer = evict(&client, &cart[0].id(), &real).await;
    assert_eq!(answer, EvictionAnswer::NamespaceTerminating);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_unknown_and_the_watch_tells() {
    let cluster = shop().await;
    let client = cluster.client();
    let pod = pods_of(&client, "cart").await.remove(0);
    let all = Selection::all().fields("metadata.namespace=shop");
    let mut events = pin!(watch(Api::<Pod>::all(client.clone()), &all));
    let first = events.next().await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Restarted(pods) if pods.len() == 5));

    cluster.api().set_faults(|request| {
        if request.verb == "create" {
            Fault::DropAnswer
        } else {
            Fault::Pass
        }
    });
    let answer = evict(&client, &pod, &EvictOptions::default()).await;
    assert!(matches!(answer, EvictionAnswer::Unknown { .. }), "{answer}");
    let mut leaving = false;
    loop {
        match events.next().await.unwrap().unwrap() {
            WatchEvent::Applied(seen) if seen.id() == pod => {
                leaving |= seen.metadata.deletion_timestamp.is_some();
            }
            WatchEvent::Deleted(seen) if seen.id() == pod => break,
            _ => {}
        }
    }
    assert!(leaving);
}

#[tokio::test(start_paused = true)]
async fn a_watch_misses_nothing_while_its_connections_break() {
    let cluster = shop().await;
    let client = cluster.client();
    cluster.api().set_faults(|request| {
        if request.verb == "watch" {
            Fault::CloseWatch(Duration::from_millis(700))
        } else {
            Fault::Pass
        }
    });
    let mut events = pin!(watch(Api::<Pod>::all(client.clone()), &Selection::all()));
    let mut known = BTreeSet::new();
    let pods = pods_of(&client, "cart").await;
    for pod in &pods {
        evict(&client, pod, &EvictOptions::default()).await;
    }
    let watched = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Restarted(pods)) => {
                    known = pods.iter().map(Pod::id).collect();
                }
                Ok(WatchEvent::Applied(pod)) => {
                    known.insert(pod.id());
                }
                Ok(WatchEvent::Deleted(pod)) => {
                    known.remove(&pod.id());
                }
                Ok(_) | Err(_) => {}
            }
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(120), watched)
            .await
            .is_err()
    );
    let listed = list::<Pod>(&client, &Selection::all()).await.unwrap();
    assert_eq!(known, listed.iter().map(Pod::id).collect());
    assert!(pods.iter().all(|pod| !known.contains(pod)));
}

#[tokio::test(start_paused = true)]
async fn cordon_and_anchor_come_and_go() {
    let cluster = shop().await;
    let client = cluster.client();
    let node = observe(&client, Moment::EPOCH)
        .await
        .unwrap()
        .nodes
        .remove(0);
    let unschedulable = || async {
        let model = observe(&client, Moment::EPOCH).await.unwrap();
        model.node(&node.name).unwrap().unschedulable
    };
    let mark = RunMark::new("run-1", "host:/var/lib/journal", "plan-1");
    let claim = Claim::new(mark, Duration::from_secs(30));
    let claimed = Anchor::claim(&client, &claim, Moment::EPOCH).await.unwrap();
    let ours = Fence::new("run-1", claimed.epoch);
    let cordoned = cordon(&client, &node.name, &ours).await.unwrap();
    assert!(!cordoned.was_unschedulable && cordoned.uid == node.uid);
    assert!(unschedulable().await);
    let by_hand = Fence::without_lease("run-2");
    let error = cordon(&client, &node.name, &by_hand).await.unwrap_err();
    assert!(matches!(error, Error::OtherOwner { .. }), "{error}");
    let next = Anchor::claim(&client, &claim, Moment::EPOCH).await.unwrap();
    let stale = restore_cordon(&client, &node.name, &ours).await;
    assert!(matches!(
        stale,
        Err(Error::Fenced {
            ours: 1,
            found: 2,
            ..
        })
    ));
    assert!(unschedulable().await);
    let ours = Fence::new("run-1", next.epoch);
    let restored = restore_cordon(&client, &node.name, &ours).await.unwrap();
    assert_eq!(
        restored,
        Restored::Released {
            still_cordoned: false
        }
    );
    assert!(!unschedulable().await);

    let other = RunMark::new("run-2", "elsewhere:/journal", "plan-2");
    let other = Claim::new(other, Duration::from_secs(30));
    assert!(matches!(
        Anchor::claim(&client, &other, Moment::EPOCH).await,
        Err(Error::Conflict { .. })
    ));
    let late = next.clone();
    assert!(next.clear(&client).await.unwrap().mark.is_none());
    let lost = late.clear(&client).await.unwrap_err();
    assert!(matches!(lost, Error::Conflict { .. }), "{lost}");
    let third = Anchor::claim(&client, &other, Moment::EPOCH).await.unwrap();
    assert_eq!(third.epoch, 3);
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_a_virtual_address_is_the_member_of_its_lease_where_kube_vip_runs() {
    let cluster = SimCluster::builder()
        .nodes(Pool::control_plane(3))
        .start()
        .await
        .unwrap();
    let client = cluster.client();
    let holder = async || {
        let model = observe(&client, Moment::EPOCH).await.unwrap();
        migrate_kube::address_holder(&client, &model).await.unwrap()
    };
    assert_eq!(holder().await, None);
    let model = observe(&client, Moment::EPOCH).await.unwrap();
    let member = model.control_plane[1].name.clone();
    let create = async |path: &str, object: serde_json::Value| {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .unwrap();
        client.request::<serde_json::Value>(request).await.unwrap();
    };
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "kube-system", "name": "plndr-cp-lock"},
        "spec": {"holderIdentity": member},
    });
    create(
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        lease,
    )
    .await;
    // Left over: nothing of kube-vip runs there.
    assert_eq!(holder().await, None);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "kube-system",
            "name": format!("kube-vip-{member}"),
            "annotations": {"kubernetes.io/config.mirror": "x"},
        },
        "spec": {
            "nodeName": member,
            "containers": [{"name": "kube-vip", "image": "kube-vip"}],
        },
    });
    create("/api/v1/namespaces/kube-system/pods", pod).await;
    assert_eq!(holder().await, Some(member));
}
