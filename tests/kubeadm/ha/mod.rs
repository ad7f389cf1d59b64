//! Three control planes behind a load balancer, upgraded one after the other
//! with requests on everything: Services, the API through the balancer, etcd.

mod load;
mod skew;

use std::sync::Arc;
use std::time::Duration;

use load::Load;
use migrate_executor::{Report, RunOutcome};
use migrate_testbed::{KubeadmCluster, Traffic, TrafficReport, skip_or_fail, traffic_program};
use migrate_upgrade::Haproxy;
use skew::SkewWatch;
use tokio::time::Instant;

use crate::run::{Way, upgrade};
use crate::shop::{Shop, WORKLOADS};

/// The bar of the whole run.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Requests a second to each of thirty entry points.
const SERVICE_RATE: f64 = 25.0;
/// Requests a second of each of the four kinds.
const API_RATE: f64 = 10.0;
const ETCD_PAUSE: Duration = Duration::from_millis(100);
/// etcd's election timeout as kubeadm leaves it, and a second.
const ETCD_GAP: u64 = 1_000 + 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn three_control_planes_are_upgraded_and_nobody_notices() {
    let Some(seen) = run(true).await else {
        return;
    };
    seen.is_a_clean_upgrade();
    let (asked, failed) = seen.api();
    assert!(
        failed * 1_000 < asked,
        "{failed} of {asked} requests to the API failed"
    );
}

/// What a load balancer's own checks are worth: published, not judged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn without_taking_api_servers_out_requests_to_the_api_fail() {
    if let Some(seen) = run(false).await {
        seen.is_a_clean_upgrade();
    }
}

/// What was seen of one upgrade.
struct Seen {
    report: Report,
    tallies: TrafficReport,
    /// How often versions were looked at from outside, once a second.
    looks: usize,
    broken_skew: Vec<String>,
}

impl Seen {
    /// All that has to hold with and without a quiet API.
    fn is_a_clean_upgrade(&self) {
        assert_eq!(self.report.outcome, RunOutcome::Done, "{}", self.report);
        assert_eq!(self.report.cordons, Vec::<String>::new());
        assert_eq!(self.broken_skew, Vec::<String>::new());
        let took = self.report.duration.actual;
        assert!(
            self.looks as u64 > took.as_secs() / 2,
            "{} looks",
            self.looks
        );
        for (name, tally) in &self.tallies {
            assert!(tally.requests > 500, "{name}: {tally}");
            if name.starts_with("guarded") || name.starts_with("unguarded") {
                assert_eq!(tally.failed(), 0, "{name}: {tally}\n{:?}", tally.failed_at);
            }
        }
        let etcd = &self.tallies["etcd.write"];
        assert!(etcd.longest_gap < ETCD_GAP, "{etcd}\n{:?}", etcd.failed_at);
    }

    /// Requests to the API, and failed ones.
    fn api(&self) -> (u64, u64) {
        let api = self
            .tallies
            .iter()
            .filter(|(name, _)| name.starts_with("api."));
        api.fold((0, 0), |(asked, failed), (_, tally)| {
            (asked + tally.requests, failed + tally.failed())
        })
    }
}

/// One upgrade under load; `None` where there can be no cluster.
async fn run(quiesces: bool) -> Option<Seen> {
    let prefix = if quiesces { "ha" } else { "ha-no-quiesce" };
    let figure = |name: &str, value: f64, unit: &str| {
        println!("figure {prefix}.{name} {value:.2} {unit}");
    };
    let began = Instant::now();
    let builder = KubeadmCluster::builder().control_planes(3).workers(2);
    let builder = builder.minor(36).also(37);
    let builder = builder.image("traffic", traffic_program().unwrap());
    let cluster = skip_or_fail(builder.start().await)?;
    figure("setup", began.elapsed().as_secs_f64(), "s");
    let cluster = Arc::new(cluster);
    // Those to which no request may fail.
    let shop = Shop::open(&cluster, &WORKLOADS[..2]).await;
    let outside = cluster.outside();
    let api = Traffic::ask_api(&outside, API_RATE, cluster.inside_kubeconfig_path()).unwrap();
    let etcd = Traffic::write_to_etcd(&outside, ETCD_PAUSE, cluster.etcd_access()).unwrap();
    let load = Load::start(&cluster, &shop, SERVICE_RATE).await;
    let skew = SkewWatch::start(Arc::clone(&cluster));

    let began = Instant::now();
    let report = tokio::time::timeout(PATIENCE, upgrade(&cluster, way(&cluster, quiesces))).await;
    let report = report.expect("the run to end in time");
    figure("upgrade", began.elapsed().as_secs_f64(), "s");
    println!("{report}");
    let (looks, broken_skew) = skew.finish().await;
    figure("skew.looks", looks as f64, "1");
    figure("skew.violations", broken_skew.len() as f64, "1");
    let mut tallies = load.finish();
    tallies.extend(api.finish().unwrap());
    tallies.extend(etcd.finish().unwrap());
    let seen = Seen {
        report,
        tallies,
        looks,
        broken_skew,
    };
    for (name, tally) in &seen.tallies {
        println!("{name}: {tally}");
        if name.starts_with("api.") || name.starts_with("etcd.") {
            println!("{name} failed at {:?}", tally.failed_at);
            figure(&format!("{name}.failed"), tally.failed() as f64, "requests");
            figure(&format!("{name}.gap"), tally.longest_gap as f64, "ms");
        }
    }
    let (asked, failed) = seen.api();
    figure("api.failed", failed as f64 * 100.0 / asked as f64, "%");
    let services = seen
        .tallies
        .iter()
        .filter(|(name, _)| name.contains("guarded"));
    let failed: u64 = services.map(|(_, tally)| tally.failed()).sum();
    figure("services.failed", failed as f64, "requests");
    Some(seen)
}

/// With every protection, and API servers taken out first or not.
fn way(cluster: &KubeadmCluster, quiesces: bool) -> Way {
    let mut way = Way::protected(cluster);
    if quiesces {
        let balancer = cluster.balancer().unwrap();
        let haproxy = Haproxy::new(balancer.backend()).with_socket(balancer.socket());
        way.balancer = Some(Arc::new(haproxy));
    }
    way
}
