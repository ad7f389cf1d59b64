//! The embedded cluster at the size of a large real one: 150,000 pods on 5,000
//! nodes, through the store and through a client.
//!
//! Prints one line `figure NAME VALUE UNIT` per one-off measurement, then the
//! repeatable ones. `SIM_BENCH_PODS` sets another size: the figures per object
//! stay the same, as the cost is linear.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use futures::TryStreamExt;
use http::header::ACCEPT;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, EvictParams, ListParams};
use kube::client::Body;
use migrate_sim::api::ApiServer;
use migrate_sim::store::{DEFAULT_START_MS, Resource, Shared, Store};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::ServiceExt;

type Error = Box<dyn std::error::Error + Send + Sync>;

const NAMESPACES: usize = 500;
const PODS_PER_NODE: usize = 30;
const WATCHERS: usize = 100;
const CHANGES: usize = 10_000;
const EVICTIONS: usize = 5_000;
/// What a reader of whole objects accepts, and one of their metadata.
const FULL: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn main() -> Result<(), Error> {
    let pods = std::env::var("SIM_BENCH_PODS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(150_000);
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let server = runtime.block_on(one_off(pods))?;
    repeatable(&runtime, &server);
    Ok(())
}

async fn one_off(pods: usize) -> Result<ApiServer, Error> {
    let start = Instant::now();
    let server = ApiServer::new(Arc::new(Shared::new(load(pods)?)), "v1.36.3");
    server.set_latency(Duration::ZERO);
    figure("load", start, pods, "us/pod");
    memory("memory_loaded", pods);

    let start = Instant::now();
    let bytes = list_all(&server, FULL).await?;
    figure("list_first", start, pods, "us/pod");
    println!("figure pod_size {} bytes", bytes / pods);
    let start = Instant::now();
    black_box(list_all(&server, FULL).await?);
    figure("list_again", start, pods, "us/pod");
    for name in ["list_metadata_first", "list_metadata_again"] {
        let start = Instant::now();
        black_box(list_all(&server, METADATA).await?);
        figure(name, start, pods, "us/pod");
    }
    memory("memory_listed", pods);
    let start = Instant::now();
    let listed: Api<Pod> = Api::all(server.client());
    let mut page = ListParams::default().limit(500);
    let mut names = Vec::new();
    loop {
        let list = listed.list(&page).await?;
        names.extend(
            list.items
                .iter()
                .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())),
        );
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => break,
        }
    }
    figure("list_typed_client", start, names.len(), "us/pod");

    for (accept, name, volume) in [
        (FULL, "fan_out", "fan_out_volume"),
        (METADATA, "fan_out_metadata", "fan_out_metadata_volume"),
    ] {
        let start = Instant::now();
        let sent = fan_out(&server, &names, accept).await?;
        figure(name, start, WATCHERS * CHANGES, "us/event");
        println!("figure {volume} {} MB", sent / 1_000_000);
    }

    let start = Instant::now();
    for (namespace, name) in names.iter().rev().take(EVICTIONS) {
        let pods: Api<Pod> = Api::namespaced(server.client(), namespace);
        pods.evict(name, &EvictParams::default()).await?;
    }
    figure("evict", start, EVICTIONS, "us/eviction");
    memory("memory_end", pods);
    Ok(server)
}

/// Changes pods while watchers look on; the bytes that these have read.
async fn fan_out(
    server: &ApiServer,
    names: &[(String, String)],
    accept: &'static str,
) -> Result<usize, Error> {
    let now = server.shared().lock().resource_version();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| tokio::spawn(watch(server.clone(), accept, now, 3 * CHANGES)))
        .collect();
    // Another value each time: what changes nothing is no change.
    let address = format!("10.9.9.9 at {now}");
    let start = Instant::now();
    for chunk in names[..CHANGES.min(names.len())].chunks(100) {
        let mut store = server.shared().lock();
        for (namespace, name) in chunk {
            store.modify(Resource::PODS, namespace, name, |pod| {
                pod["status"]["podIP"] = address.clone().into();
            })?;
        }
        drop(store);
        tokio::task::yield_now().await;
    }
    figure("modify_watched", start, CHANGES, "us/change");
    let mut sent = 0;
    for watcher in watchers {
        sent += watcher.await??;
    }
    Ok(sent)
}

fn repeatable(runtime: &Runtime, server: &ApiServer) {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    let path = "/api/v1/namespaces/ns-001/pods?limit=500";
    criterion.bench_function("page_of_500", |b| {
        b.iter(|| runtime.block_on(get(server, path, FULL)))
    });
    criterion.bench_function("metadata_page_of_500", |b| {
        b.iter(|| runtime.block_on(get(server, path, METADATA)))
    });
    criterion.bench_function("pods_of_a_node", |b| {
        let path = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-00042";
        b.iter(|| runtime.block_on(get(server, path, FULL)));
    });
    let mut count = 0_u64;
    criterion.bench_function("modify", |b| {
        b.iter_batched(
            || {
                count += 1;
                count
            },
            |count| {
                let mut store = server.shared().lock();
                let changed =
                    store.modify(Resource::PODS, "ns-001", "app-0-7d9c6b5f4-000001", |pod| {
                        pod["metadata"]["annotations"]["count"] = count.to_string().into();
                    });
                black_box(changed.map(|pod| pod.rv)).ok()
            },
            BatchSize::SmallInput,
        );
    });
    criterion.final_summary();
}

async fn get(server: &ApiServer, path: &str, accept: &str) -> Result<usize, Error> {
    let request = http::Request::get(path).header(ACCEPT, accept);
    let request = request.body(Body::empty())?;
    Ok(server
        .clone()
        .oneshot(request)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes()
        .len())
}

/// Bytes of all pods, in pages of 500.
async fn list_all(server: &ApiServer, accept: &str) -> Result<usize, Error> {
    let mut bytes = 0;
    let mut token = String::new();
    loop {
        let page = http::Request::get(format!("/api/v1/pods?limit=500&continue={token}"))
            .header(ACCEPT, accept)
            .body(Body::empty())?;
        let mut body = server.clone().oneshot(page).await?.into_body();
        let mut head = None;
        while let Some(frame) = body.frame().await {
            let piece = frame?.into_data().unwrap_or_default();
            bytes += piece.len();
            head.get_or_insert(piece);
        }
        let head = String::from_utf8(head.unwrap_or_default().to_vec())?;
        match head
            .split_once(r#""continue":""#)
            .and_then(|(_, rest)| rest.split_once('"'))
        {
            Some((next, _)) => token = next.to_owned(),
            None => return Ok(bytes),
        }
    }
}

/// Reads a watch from behind a version until it has seen so many pieces; their bytes.
async fn watch(
    server: ApiServer,
    accept: &str,
    version: u64,
    pieces: usize,
) -> Result<usize, Error> {
    let request = http::Request::get(format!("/api/v1/pods?watch=1&resourceVersion={version}"))
        .header(ACCEPT, accept)
        .body(Body::empty())?;
    let body = server
        .oneshot(request)
        .await?
        .into_body()
        .into_data_stream();
    let read = body.try_fold((0, 0), |(seen, bytes), piece| async move {
        // Stops the stream by an error once everything is there.
        if seen + 1 == pieces {
            Err(format!("{}", bytes + piece.len()).into())
        } else {
            Ok((seen + 1, bytes + piece.len()))
        }
    });
    match read.await {
        Err(end) => Ok(end.to_string().parse()?),
        Ok((_, bytes)) => Ok(bytes),
    }
}

fn load(pods: usize) -> Result<Store, Error> {
    let mut store = Store::new(1, DEFAULT_START_MS);
    for index in 0..NAMESPACES {
        store.create(
            Resource::NAMESPACES,
            json!({ "metadata": { "name": format!("ns-{index:03}") } }),
        )?;
    }
    for index in 0..pods {
        store.create(Resource::PODS, pod(index))?;
    }
    Ok(store)
}

fn figure(name: &str, start: Instant, count: usize, unit: &str) {
    println!(
        "figure {name} {:.3} {unit}",
        start.elapsed().as_secs_f64() * 1e6 / count as f64
    );
}

/// Peak memory of the process per pod, where the system tells it.
fn memory(name: &str, pods: usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<usize>()
            .ok()
    });
    if let Some(kilobytes) = peak {
        println!("figure {name} {:.1} kB/pod", kilobytes as f64 / pods as f64);
    }
}

/// A pod of the size that real ones have, managed fields left out.
fn pod(index: usize) -> Value {
    let app = format!("app-{}", index / 20);
    json!({
        "metadata": {
            "name": format!("{app}-7d9c6b5f4-{index:06}"),
            "namespace": format!("ns-{:03}", index % NAMESPACES),
            "annotations": { "example.dev/revision": "1" },
            "labels": { "app": app, "pod-template-hash": "7d9c6b5f4" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-7d9c6b5f4"),
                "uid": format!("owner-{}", index / 20), "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "nodeName": format!("node-{:05}", index / PODS_PER_NODE),
            "containers": [{
                "name": "main", "image": "registry.example/app:1.2.3",
                "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets", "readOnly": true }],
            }],
            "volumes": [{ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }],
            "serviceAccountName": "default",
        },
        "status": {
            "phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.3", "startTime": "2026-09-01T00:00:00Z",
            "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-09-01T00:00:05Z" },
                { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-09-01T00:00:00Z" },
            ],
            "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0, "image": "registry.example/app:1.2.3" }],
        },
    })
}
