//! A cluster with the shop on it, its requests and its observers, while
//! something is done to it.

use std::time::Duration;

use migrate_testbed::{KubeadmCluster, KubeadmClusterBuilder, skip_or_fail, traffic_program};
use tokio::time::Instant;

use crate::load::{Load, RATE, Tallies};
use crate::observe::api::ApiReader;
use crate::observe::moves::Moves;
use crate::observe::settled::settled_for;
use crate::real::observer::{Change, Observer};
use crate::shop::{Shop, Workload};
use crate::{figure, job};

/// What was seen meanwhile.
pub(crate) struct Seen<T> {
    /// What it gave.
    pub(crate) result: T,
    /// How long it took.
    pub(crate) took: Duration,
    pub(crate) tallies: Tallies,
    pub(crate) changes: Vec<Change>,
    pub(crate) moves: Moves,
    /// How long the control plane had been back when the first pod of the shop was evicted;
    /// nothing if none was.
    pub(crate) settled_for: Option<Duration>,
}

/// One control-plane node and two workers of the older release, with the
/// packages and images of the newer one.
pub(crate) fn builder() -> KubeadmClusterBuilder {
    let builder = KubeadmCluster::builder().workers(2).minor(36).also(37);
    let builder = builder.image("traffic", traffic_program().unwrap());
    builder.image(job::PROGRAM.0, job::PROGRAM.1).shell_image()
}

/// A cluster of [`builder`] with an open shop.
pub(crate) async fn open(workloads: &[Workload]) -> Option<(KubeadmCluster, Shop)> {
    open_on(builder(), workloads).await
}

/// The same on a cluster of one's own.
pub(crate) async fn open_on(
    builder: KubeadmClusterBuilder,
    workloads: &[Workload],
) -> Option<(KubeadmCluster, Shop)> {
    let began = Instant::now();
    let cluster = skip_or_fail(builder.start().await)?;
    figure("kubeadm.start", began.elapsed().as_secs_f64(), "s");
    let shop = Shop::open(&cluster, workloads).await;
    Some((cluster, shop))
}

/// Does something within a time, and prints its figures under a name.
pub(crate) async fn watch<T>(
    name: &str,
    cluster: &KubeadmCluster,
    shop: &Shop,
    within: Duration,
    work: impl Future<Output = T>,
) -> Seen<T> {
    let load = Load::start(cluster, shop, RATE).await;
    watch_under(load, name, cluster, shop, within, work).await
}

/// The same under requests that were begun already.
pub(crate) async fn watch_under<T>(
    load: Load,
    name: &str,
    cluster: &KubeadmCluster,
    shop: &Shop,
    within: Duration,
    work: impl Future<Output = T>,
) -> Seen<T> {
    let observer = Observer::start(cluster.client()).await;
    let reader = ApiReader::start(cluster.client());
    let began = Instant::now();
    let result = tokio::time::timeout(within, work).await;
    let took = began.elapsed();
    let gaps = reader.finish();
    // The end of the clients is not part of it.
    let changes = observer.changes().await;
    let tallies = load.finish(cluster).await;
    let moves = Moves::of(&changes);

    figure(&format!("{name}.took"), took.as_secs_f64(), "s");
    tallies.print(name, shop);
    gaps.print(name);
    let evictions: u32 = moves.evictions.values().sum();
    figure(&format!("{name}.evictions"), evictions.into(), "1");
    for workload in &shop.workloads {
        let (evictions, bound) = moves.evictions_of(workload.name, workload.replicas());
        println!("{}: {evictions} evictions, at most {bound}", workload.name);
    }
    for start in &moves.thrown_away {
        println!("thrown away before it was ready: {start}");
    }
    let thrown_away = moves.thrown_away.len() as f64;
    figure(&format!("{name}.starts-thrown-away"), thrown_away, "1");
    let settled_for = settled_for(&changes);
    if let Some(time) = settled_for {
        figure(&format!("{name}.settled-for"), time.as_secs_f64(), "s");
    }
    Seen {
        result: result.expect("it to end in time"),
        took,
        tallies,
        changes,
        moves,
        settled_for,
    }
}
