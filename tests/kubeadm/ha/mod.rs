//! Three control planes behind a load balancer, upgraded one after the other
//! with requests on everything: Services, the API through the balancer, etcd.

mod leaders;
mod load;
mod skew;

use std::sync::Arc;
use std::time::Duration;

use leaders::LeaderWatch;
use load::Load;
use migrate_executor::{Report, RunOutcome};
use migrate_testbed::{KubeadmCluster, Traffic, TrafficReport, skip_or_fail, traffic_program};
use migrate_upgrade::Haproxy;
use skew::{Looks, SkewWatch};
use tokio::time::Instant;

use crate::change::Reached;
use crate::lane::{broken_rules, is_at_the_target, tells_renewals_of};
use crate::load::is_asked;
use crate::observe::moves::Moves;
use crate::real::observer::{Change, Observer};
use crate::run::{Way, upgrade};
use crate::shop::{Shop, WORKLOADS};
use crate::{canary, change, job};

/// The bar of the whole run.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const MEMBERS: u8 = 3;
/// Requests a second to each of forty entry points: some ticks come late.
const SERVICE_RATE: f64 = 26.0;
/// Requests a second of each of the four kinds: 25 reads and 25 writes, half of them
/// with a new connection each.
const API_RATE: f64 = 12.5;
const ETCD_PAUSE: Duration = Duration::from_millis(100);
/// etcd's election timeout as kubeadm leaves it, and a second.
const ETCD_GAP: u64 = 1_000 + 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn three_control_planes_are_upgraded_and_nobody_notices() {
    let Some(seen) = run(true).await else {
        return;
    };
    seen.is_a_clean_upgrade().await;
    assert_eq!(seen.swapped_while_leading, Vec::<String>::new());
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
        seen.is_a_clean_upgrade().await;
    }
}

/// What was seen of one upgrade.
struct Seen {
    cluster: Arc<KubeadmCluster>,
    shop: Shop,
    report: Report,
    /// How long there were requests.
    asked_for: Duration,
    tallies: TrafficReport,
    /// At versions from outside, once a second.
    looks: Looks,
    /// Members of etcd.
    swapped_while_leading: Vec<String>,
    /// Of pods and nodes, among them canaries.
    changes: Vec<Change>,
    reached: Reached,
}

impl Seen {
    /// All that has to hold with and without a quiet API.
    async fn is_a_clean_upgrade(&self) {
        assert_eq!(self.report.outcome, RunOutcome::Done, "{}", self.report);
        assert_eq!(self.report.cordons, Vec::<String>::new());
        is_at_the_target(&self.cluster).await;
        assert_eq!(broken_rules(&self.changes), Vec::<String>::new());
        self.moves_are_few();
        tells_renewals_of(&self.report, &self.cluster, usize::from(MEMBERS));
        self.looks.found_nothing(self.report.duration.actual);
        canary::has_tried_every_node(&self.cluster, &self.changes);
        let members = usize::from(MEMBERS);
        change::was_seen_by_every_node(&self.cluster, &self.changes, &self.reached, members);
        for (name, tally) in &self.tallies {
            let is_api = name.starts_with("api.") || name.starts_with("etcd.");
            let rate = if is_api { 10.0 } else { 25.0 };
            is_asked(name, tally, rate, self.asked_for);
            if name.starts_with("guarded") || name.starts_with("unguarded") {
                assert_eq!(tally.failed(), 0, "{name}: {tally}\n{:?}", tally.failed_at);
            }
        }
        let etcd = &self.tallies["etcd.write"];
        assert!(etcd.longest_gap < ETCD_GAP, "{etcd}\n{:?}", etcd.failed_at);
    }

    /// As in the lane: no pod more than once and those of the first worker twice, and
    /// none while it starts.
    fn moves_are_few(&self) {
        let moves = Moves::of(&self.changes);
        for workload in &self.shop.workloads {
            let (evictions, bound) = moves.evictions_of(workload.name, workload.replicas());
            assert!(evictions > 0, "{}", workload.name);
            assert!(evictions <= bound, "{}: {evictions}", workload.name);
        }
        assert_eq!(moves.thrown_away, Vec::<String>::new());
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
    let builder = KubeadmCluster::builder().control_planes(MEMBERS).workers(2);
    let builder = builder.minor(36).also(37);
    let builder = builder.image("traffic", traffic_program().unwrap());
    let builder = builder.shell_image();
    let cluster = skip_or_fail(builder.start().await)?;
    figure("setup", began.elapsed().as_secs_f64(), "s");
    let cluster = Arc::new(cluster);
    job::namespace(&cluster.client(), canary::NAMESPACE, "restricted").await;
    // Those to which no request may fail.
    let shop = Shop::open(&cluster, &WORKLOADS[..2]).await;
    let outside = cluster.outside();
    let api = Traffic::ask_api(&outside, API_RATE, cluster.inside_kubeconfig_path()).unwrap();
    let etcd = Traffic::write_to_etcd(&outside, ETCD_PAUSE, cluster.etcd_access()).unwrap();
    let load = Load::start(&cluster, &shop, SERVICE_RATE).await;
    let asked_since = Instant::now();
    let skew = SkewWatch::start(Arc::clone(&cluster));
    let leaders = LeaderWatch::start(&cluster);

    let observer = Observer::start(cluster.client()).await;

    let began = Instant::now();
    let way = way(&cluster, quiesces);
    let reached = Arc::clone(&way.reached);
    let report = tokio::time::timeout(PATIENCE, upgrade(&cluster, way)).await;
    let report = report.expect("the run to end in time");
    figure("upgrade", began.elapsed().as_secs_f64(), "s");
    println!("{report}");
    let changes = observer.changes().await;
    let looks = skew.finish().await;
    let swapped_while_leading = leaders.swapped_while_leading();
    figure("skew.looks", looks.count as f64, "1");
    figure("skew.violations", looks.broken.len() as f64, "1");
    let asked_for = asked_since.elapsed();
    let mut tallies = load.finish();
    tallies.extend(api.finish().unwrap());
    tallies.extend(etcd.finish().unwrap());
    let seen = Seen {
        cluster,
        shop,
        report,
        asked_for,
        tallies,
        looks,
        swapped_while_leading,
        changes,
        reached,
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
    let mut way = Way::protected(cluster).with_canary();
    if quiesces {
        let balancer = cluster.balancer().unwrap();
        let haproxy = Haproxy::new(balancer.backend()).with_socket(balancer.socket());
        way.balancer = Some(Arc::new(haproxy));
    }
    way
}
