//! Lists and watches: pages, resuming, bookmarks, 410, selectors.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{add_pod, pod, send, server};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, WatchEvent, WatchParams};
use migrate_sim::store::{DeleteOptions, Resource};
use serde_json::{Value, json};

fn show(event: &WatchEvent<Pod>) -> String {
    match event {
        WatchEvent::Added(pod) => format!("+{}", pod.name_any()),
        WatchEvent::Modified(pod) => format!("~{}", pod.name_any()),
        WatchEvent::Deleted(pod) => format!("-{}", pod.name_any()),
        WatchEvent::Bookmark(bookmark) => format!("@{}", bookmark.metadata.annotations.len()),
        WatchEvent::Error(status) => format!("!{}", status.code),
    }
}

async fn watched(pods: &Api<Pod>, params: &WatchParams, version: &str) -> Vec<String> {
    let events: Vec<WatchEvent<Pod>> = pods
        .watch(params, version)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    events.iter().map(show).collect()
}

#[tokio::test(start_paused = true)]
async fn a_watch_sends_what_is_there_and_what_comes() {
    let server = server();
    add_pod(&server, "a", true);
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let params = WatchParams::default().timeout(10);
    let mut events = pods.watch(&params, "0").await.unwrap().boxed();
    assert_eq!(show(&events.try_next().await.unwrap().unwrap()), "+a");
    add_pod(&server, "b", true);
    assert_eq!(show(&events.try_next().await.unwrap().unwrap()), "+b");
    let mut store = server.shared().lock();
    store
        .modify(Resource::PODS, "default", "a", |pod| {
            pod["status"]["phase"] = "Failed".into()
        })
        .unwrap();
    store
        .delete(Resource::PODS, "default", "b", &DeleteOptions::now())
        .unwrap();
    drop(store);
    assert_eq!(show(&events.try_next().await.unwrap().unwrap()), "~a");
    let gone = events.try_next().await.unwrap().unwrap();
    assert_eq!(show(&gone), "-b");
    let WatchEvent::Deleted(gone) = gone else {
        unreachable!()
    };
    assert_eq!(
        gone.resource_version().unwrap(),
        server.shared().lock().resource_version().to_string()
    );
    assert_eq!(
        show(&events.try_next().await.unwrap().unwrap()),
        "@0",
        "a bookmark before the end"
    );
    assert!(
        events.try_next().await.unwrap().is_none(),
        "ends after its timeout"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_behind_its_version_and_misses_nothing() {
    let server = server();
    add_pod(&server, "a", true);
    let version = server.shared().lock().resource_version().to_string();
    for name in ["b", "c"] {
        add_pod(&server, name, true);
    }
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let mut params = WatchParams::default().timeout(1);
    params.bookmarks = false;
    assert_eq!(watched(&pods, &params, &version).await, ["+b", "+c"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_older_than_the_history_is_410_and_an_idle_kind_is_not() {
    let server = server();
    add_pod(&server, "a", true);
    let old = server.shared().lock().resource_version().to_string();
    add_pod(&server, "b", true);
    let idle = server.shared().lock().resource_version().to_string();
    server.shared().lock().compact();
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let mut params = WatchParams::default().timeout(1);
    params.bookmarks = false;
    assert_eq!(watched(&pods, &params, &old).await, ["!410"]);
    assert!(watched(&pods, &params, &idle).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_gets_bookmarks() {
    let server = server();
    add_pod(&server, "a", true);
    let version = server.shared().lock().resource_version().to_string();
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let params = WatchParams::default().timeout(130);
    assert_eq!(
        watched(&pods, &params, &version).await,
        ["@0", "@0", "@0"],
        "two in between, one at the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_a_marked_bookmark() {
    let server = server();
    add_pod(&server, "a", true);
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let params = WatchParams::default().initial_events().timeout(10);
    assert_eq!(watched(&pods, &params, "0").await, ["+a", "@1", "@0"]);
    let path = "/api/v1/pods?watch=1&sendInitialEvents=true&allowWatchBookmarks=true";
    assert_eq!(
        send(&server, "GET", path, Value::Null).await.code,
        422,
        "resourceVersionMatch is missing"
    );
}

#[tokio::test(start_paused = true)]
async fn objects_that_start_or_stop_to_match_come_and_go() {
    let server = server();
    add_pod(&server, "a", true);
    add_pod(&server, "b", true);
    let version = server.shared().lock().resource_version().to_string();
    let relabel = |name: &str, app: &str| {
        let mut store = server.shared().lock();
        store
            .modify(Resource::PODS, "default", name, |pod| {
                pod["metadata"]["labels"]["app"] = app.into()
            })
            .unwrap();
    };
    relabel("a", "other");
    relabel("a", "else");
    relabel("a", "web");
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let mut params = WatchParams::default().labels("app=web").timeout(1);
    params.bookmarks = false;
    assert_eq!(watched(&pods, &params, &version).await, ["-a", "+a"]);
    let mut events = pods.watch(&params, &version).await.unwrap().boxed();
    let Some(WatchEvent::Deleted(gone)) = events.try_next().await.unwrap() else {
        unreachable!()
    };
    assert_eq!(gone.labels()["app"], "web", "as it last matched");
    let left_at = version.parse::<u64>().unwrap() + 1;
    assert_eq!(gone.resource_version(), Some(left_at.to_string()));
    let mut params = WatchParams::default()
        .fields("spec.nodeName=node-2")
        .timeout(1);
    params.bookmarks = false;
    assert!(watched(&pods, &params, &version).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_moment() {
    let server = server();
    for index in 0..10 {
        add_pod(&server, &format!("p{index}"), true);
    }
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let first = pods.list(&ListParams::default().limit(4)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    {
        // What happens between the pages does not show: gone, changed and new ones.
        let mut store = server.shared().lock();
        for gone in ["p1", "p5", "p9"] {
            store
                .delete(Resource::PODS, "default", gone, &DeleteOptions::now())
                .unwrap();
        }
        store
            .modify(Resource::PODS, "default", "p6", |pod| {
                pod["metadata"]["labels"]["app"] = "new".into()
            })
            .unwrap();
        store.create(Resource::PODS, pod("p55", json!({}))).unwrap();
        store.create(Resource::PODS, pod("p5", json!({}))).unwrap();
    }
    let mut names: Vec<String> = first.iter().map(ResourceExt::name_any).collect();
    let mut next = Some(token.clone());
    while let Some(token) = next {
        let page = pods
            .list(&ListParams::default().limit(4).continue_token(&token))
            .await
            .unwrap();
        assert_eq!(
            page.metadata.resource_version,
            first.metadata.resource_version
        );
        assert!(page.iter().all(|pod| pod.labels()["app"] == "web"));
        names.extend(page.iter().map(ResourceExt::name_any));
        next = page.metadata.continue_.filter(|token| !token.is_empty());
    }
    assert_eq!(
        names,
        (0..10).map(|index| format!("p{index}")).collect::<Vec<_>>()
    );

    server.shared().lock().compact();
    let late = pods
        .list(&ListParams::default().limit(4).continue_token(&token))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = late else {
        panic!("{late}")
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn lists_select_and_are_ordered() {
    let server = server();
    for name in ["b", "a", "c"] {
        add_pod(&server, name, true);
    }
    let pods: Api<Pod> = Api::all(server.client());
    let names = async |params: ListParams| -> Vec<String> {
        pods.list(&params)
            .await
            .unwrap()
            .iter()
            .map(ResourceExt::name_any)
            .collect()
    };
    assert_eq!(names(ListParams::default()).await, ["a", "b", "c"]);
    assert_eq!(
        names(ListParams::default().fields("spec.nodeName=node-1,metadata.name!=b")).await,
        ["a", "c"]
    );
    assert_eq!(
        names(ListParams::default().fields("spec.nodeName=node-2")).await,
        [""; 0]
    );
    assert_eq!(
        names(ListParams::default().labels("app in (web),!gone")).await,
        ["a", "b", "c"]
    );
    assert_eq!(
        names(
            ListParams::default()
                .fields("status.phase=Running")
                .limit(2)
        )
        .await,
        ["a", "b"]
    );
    for query in [
        "fieldSelector=spec.foo%3D1",
        "labelSelector=a%20b",
        "limit=x",
        "continue=x",
    ] {
        assert_eq!(
            send(
                &server,
                "GET",
                &format!("/api/v1/pods?{query}"),
                Value::Null
            )
            .await
            .code,
            400,
            "{query}"
        );
    }
    let future = send(
        &server,
        "GET",
        "/api/v1/pods?resourceVersion=999999",
        Value::Null,
    )
    .await;
    assert_eq!(future.code, 504);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_deletion_waits_for_the_kubelet() {
    let server = server();
    add_pod(&server, "a", true);
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let leaving = pods
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(
        pods.get_opt("a").await.unwrap().is_some(),
        "only a kubelet ends it"
    );
    server
        .shared()
        .lock()
        .remove(Resource::PODS, "default", "a")
        .unwrap();
    assert!(pods.get_opt("a").await.unwrap().is_none());
}
