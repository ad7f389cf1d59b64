//! Access, faults, latency, outages, the audit log, and determinism.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{add_budget, add_pod, evict, send, server, stored};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, WatchEvent, WatchParams};
use migrate_sim::api::{AccessRule, ApiServer, Fault};
use migrate_sim::store::{ApiError, ChangeKind, Resource};
use serde_json::{Value, json};
use tokio::time::Instant;

fn pods(server: &ApiServer) -> Api<Pod> {
    Api::default_namespaced(server.client())
}

/// The kind of the connection error below a client's error.
fn connection_error(error: &kube::Error) -> io::ErrorKind {
    let kube::Error::Service(source) = error else {
        panic!("{error:?}")
    };
    source.downcast_ref::<io::Error>().unwrap().kind()
}

#[tokio::test(start_paused = true)]
async fn what_no_rule_allows_is_403_and_the_reviews_say_so() {
    let server = server();
    add_pod(&server, "a", true);
    server.set_access([
        AccessRule::new(["get", "list"], [""], ["pods"]),
        AccessRule::new(["create"], [""], ["pods/eviction"]).in_namespaces(["default"]),
    ]);
    assert_eq!(
        send(&server, "GET", "/api/v1/pods", Value::Null).await.code,
        200
    );
    let refused = send(&server, "GET", "/api/v1/nodes", Value::Null).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.body["message"],
        r#"nodes is forbidden: User "kubernetes-admin" cannot list resource "nodes" in API group "" at the cluster scope"#,
    );
    assert_eq!(
        send(
            &server,
            "DELETE",
            "/api/v1/namespaces/default/pods/a",
            Value::Null
        )
        .await
        .code,
        403
    );
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (attributes, allowed) in [
        (
            json!({ "verb": "create", "resource": "pods", "subresource": "eviction", "namespace": "default" }),
            true,
        ),
        (
            json!({ "verb": "create", "resource": "pods", "subresource": "eviction" }),
            false,
        ),
        (json!({ "verb": "patch", "resource": "nodes" }), false),
    ] {
        let review = send(
            &server,
            "POST",
            path,
            json!({ "spec": { "resourceAttributes": attributes } }),
        )
        .await;
        assert_eq!(
            (review.code, review.body["status"]["allowed"].as_bool()),
            (201, Some(allowed)),
            "{attributes}"
        );
    }
    let rules = send(
        &server,
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json!({ "spec": { "namespace": "x" } }),
    )
    .await;
    assert_eq!(
        rules.body["status"]["resourceRules"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(evict(&server, "a", Value::Null).await.code, 201);
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_the_latency_and_writes_half_way() {
    let server = server();
    server.set_latency(Duration::from_millis(4));
    add_pod(&server, "a", true);
    let start = Instant::now();
    let client = pods(&server);
    let params = DeleteParams::default().grace_period(0);
    let deletion = tokio::spawn(async move { client.delete("a", &params).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!stored(&server, Resource::PODS, "a").is_null());
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(stored(&server, Resource::PODS, "a").is_null());
    assert!(!deletion.is_finished());
    deletion.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(4));
}

#[tokio::test(start_paused = true)]
async fn faults_hit_the_requests_that_they_choose() {
    let server = server();
    add_pod(&server, "a", true);
    let faults = Arc::new(Mutex::new(vec![
        Fault::DropAnswer,
        Fault::Answer(ApiError::Other {
            code: 503,
            reason: "ServiceUnavailable".into(),
            message: "later".into(),
            retry_after_seconds: Some(2),
        }),
        Fault::Refuse,
        Fault::Delay(Duration::from_secs(9)),
    ]));
    let queue = Arc::clone(&faults);
    server.set_faults(move |request| match request.verb {
        "delete" => queue.lock().unwrap().pop().unwrap_or_default(),
        _ => Fault::Pass,
    });
    let pods = pods(&server);
    let params = DeleteParams::default();
    let start = Instant::now();
    pods.delete("a", &params.clone().dry_run()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(9));
    assert_eq!(
        connection_error(&pods.delete("a", &params).await.unwrap_err()),
        io::ErrorKind::ConnectionRefused
    );
    let kube::Error::Api(status) = pods.delete("a", &params).await.unwrap_err() else {
        panic!()
    };
    assert_eq!(
        (status.code, status.reason.as_str()),
        (503, "ServiceUnavailable")
    );
    assert!(
        stored(&server, Resource::PODS, "a")["metadata"]["deletionTimestamp"].is_null(),
        "nothing happened so far"
    );
    assert_eq!(
        connection_error(&pods.delete("a", &params).await.unwrap_err()),
        io::ErrorKind::ConnectionReset
    );
    assert!(
        stored(&server, Resource::PODS, "a")["metadata"]["deletionTimestamp"].is_string(),
        "it took effect"
    );
    server.clear_faults();
    pods.delete("a", &params).await.unwrap();
    let codes: Vec<u16> = server.audit().iter().map(|entry| entry.code).collect();
    assert_eq!(
        codes,
        [200, 503, 200, 200],
        "a refused connection never reached the server"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_refuses_connections_and_breaks_watches() {
    let server = server();
    add_pod(&server, "a", true);
    let pods = pods(&server);
    let mut events = Box::pin(pods.watch(&WatchParams::default(), "0").await.unwrap());
    assert!(matches!(
        events.try_next().await.unwrap(),
        Some(WatchEvent::Added(_))
    ));
    server.set_available(false);
    assert!(events.try_next().await.is_err());
    assert_eq!(
        connection_error(&pods.get("a").await.unwrap_err()),
        io::ErrorKind::ConnectionRefused
    );
    server.set_available(true);
    pods.get("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_be_cut_short() {
    let server = server();
    server.set_faults(|request| match request.verb {
        "watch" => Fault::CloseWatch(Duration::from_secs(5)),
        _ => Fault::Pass,
    });
    let start = Instant::now();
    let events: Vec<WatchEvent<Pod>> = pods(&server)
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(events.is_empty());
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_audit_log_tells_who_did_what() {
    let server = server();
    add_pod(&server, "a", true);
    evict(&server, "a", json!({ "gracePeriodSeconds": 3 })).await;
    send(&server, "GET", "/api/v1/pods?limit=5", Value::Null).await;
    let audit = server.take_audit();
    assert!(server.audit().is_empty());
    let [eviction, list] = audit.as_slice() else {
        panic!("{audit:?}")
    };
    let request = &eviction.request;
    assert_eq!(
        [
            request.verb,
            &request.resource,
            &request.namespace,
            &request.name,
            &request.subresource,
            &request.user_agent
        ],
        ["create", "pods", "default", "a", "eviction", "test"],
    );
    assert_eq!((eviction.code, eviction.is_mutating()), (201, true));
    assert!(eviction.body_excerpt.contains("gracePeriodSeconds"));
    assert_eq!(
        (
            list.request.verb,
            list.request.query.as_str(),
            list.is_mutating()
        ),
        ("list", "limit=5", false)
    );
}

#[tokio::test(start_paused = true)]
async fn health_metrics_and_unknown_paths() {
    let server = server();
    assert_eq!(
        send(&server, "GET", "/readyz", Value::Null).await.text,
        "ok"
    );
    server.set_ready(false);
    assert_eq!(send(&server, "GET", "/readyz", Value::Null).await.code, 500);
    assert_eq!(send(&server, "GET", "/livez", Value::Null).await.code, 200);
    server.set_metrics("apiserver_requested_deprecated_apis{group=\"\"} 1\n");
    assert!(
        send(&server, "GET", "/metrics", Value::Null)
            .await
            .text
            .starts_with("apiserver_requested")
    );
    assert_eq!(
        send(&server, "GET", "/nowhere", Value::Null).await.code,
        404
    );
    assert_eq!(
        send(&server, "DELETE", "/version", Value::Null).await.code,
        405
    );
}

#[tokio::test(start_paused = true)]
async fn observers_see_every_change_at_once_and_in_order() {
    let server = server();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    server.shared().lock().on_change(move |store, change| {
        assert_eq!(store.resource_version(), change.rv);
        log.lock().unwrap().push((change.rv, change.kind));
    });
    add_pod(&server, "a", true);
    evict(&server, "a", Value::Null).await;
    server
        .shared()
        .lock()
        .remove(Resource::PODS, "default", "a")
        .unwrap();
    let seen = seen.lock().unwrap();
    let kinds: Vec<ChangeKind> = seen.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(
        kinds,
        [
            ChangeKind::Added,
            ChangeKind::Modified,
            ChangeKind::Modified,
            ChangeKind::Deleted
        ]
    );
    assert!(seen.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
}

/// Many clients at once, with faults; everything that was sent and written.
async fn busy_run() -> String {
    let server = server();
    server.set_latency(Duration::from_millis(3));
    let mut requests = 0;
    server.set_faults(move |_| {
        requests += 1;
        if requests % 7 == 0 {
            Fault::DropAnswer
        } else {
            Fault::Delay(Duration::from_millis(requests % 5))
        }
    });
    add_budget(&server, "pb", json!({}), json!({ "disruptionsAllowed": 9 }));
    for index in 0..20 {
        add_pod(&server, &format!("p{index}"), true);
    }
    let client = server.client();
    let watch: Api<Pod> = Api::all(client.clone());
    let watcher = tokio::spawn(async move {
        let events = watch.watch(&WatchParams::default().timeout(60), "0").await;
        match events {
            Ok(events) => format!("{:?}", events.try_collect::<Vec<_>>().await),
            Err(error) => error.to_string(),
        }
    });
    let tasks: Vec<_> = (0..20)
        .map(|index| {
            let pods: Api<Pod> = Api::default_namespaced(client.clone());
            tokio::spawn(async move {
                format!(
                    "{:?}",
                    pods.evict(&format!("p{index}"), &Default::default()).await
                )
            })
        })
        .collect();
    let mut text = String::new();
    for task in tasks {
        text += &task.await.unwrap();
    }
    text += &watcher.await.unwrap();
    text += &format!("{:?}", server.audit());
    let store = server.shared().lock();
    for change in store.changes_since(0).unwrap() {
        text += &String::from_utf8_lossy(&change.object.bytes());
    }
    text
}

#[tokio::test(start_paused = true)]
async fn two_runs_give_the_same_bytes() {
    let first = busy_run().await;
    assert!(first.contains("deletionTimestamp") && first.contains("TooManyRequests"));
    assert_eq!(first, busy_run().await);
}
