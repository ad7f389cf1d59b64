//! Three control planes behind a load balancer, upgraded one after the other
//! with requests on everything: Services, the API through the balancer, etcd.

mod killed;
mod leaders;
mod load;
mod skew;

use std::sync::Arc;
use std::time::Duration;

use leaders::LeaderWatch;
use load::{Asked, Load};
use migrate_executor::{Report, RunOutcome};
use migrate_testbed::{KubeadmCluster, skip_or_fail, traffic_program};
use migrate_upgrade::Haproxy;
use skew::{Looks, SkewWatch};
use tokio::time::Instant;

use crate::change::Reached;
use crate::lane::{broken_rules, is_at_the_target, tells_renewals_of};
use crate::load::RATE;
use crate::observe::moves::Moves;
use crate::real::observer::{Change, Observer};
use crate::run::{Way, upgrade};
use crate::shop::{Shop, WORKLOADS};
use crate::{canary, change, figure, job};

/// The bar of the whole run.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const MEMBERS: u8 = 3;
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
    seen.asked.assert_few_of_the_api_failed();
}

/// What a load balancer's own checks are worth. Of the balancer's three checks, two seconds
/// apart, all have to fail before a server is out: for four seconds at least a third of the
/// requests with connections of their own, of which there are 12.5 a second, goes to an API
/// server whose etcd is away, in each of three members; that is twice of what may fail where
/// it is taken out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn without_taking_api_servers_out_requests_to_the_api_fail() {
    if let Some(seen) = run(false).await {
        seen.is_a_clean_upgrade().await;
        seen.asked.assert_many_of_the_api_failed();
    }
}

/// What was seen of one upgrade.
struct Seen {
    cluster: Arc<KubeadmCluster>,
    shop: Shop,
    report: Report,
    asked: Asked,
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
        self.asked.assert_services_unfailing();
        let etcd = &self.asked.tallies["etcd.write"];
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
}

/// Three control planes behind a load balancer and two workers, with an open shop of those
/// to which no request may fail; `None` where there can be no cluster.
async fn open(name: &str) -> Option<(KubeadmCluster, Shop)> {
    let began = Instant::now();
    let builder = KubeadmCluster::builder().control_planes(MEMBERS).workers(2);
    let builder = builder.minor(36).also(37);
    let builder = builder.image("traffic", traffic_program().unwrap());
    // Packages and images of five nodes go to the one disk that there is.
    let builder = builder.etcd_in_memory().shell_image();
    let cluster = skip_or_fail(builder.start().await)?;
    figure(&format!("{name}.setup"), began.elapsed().as_secs_f64(), "s");
    let shop = Shop::open(&cluster, &WORKLOADS[..2]).await;
    Some((cluster, shop))
}

/// One upgrade under load; `None` where there can be no cluster.
async fn run(quiesces: bool) -> Option<Seen> {
    let name = if quiesces { "ha" } else { "ha-no-quiesce" };
    let (cluster, shop) = open(name).await?;
    let cluster = Arc::new(cluster);
    job::namespace(&cluster.client(), canary::NAMESPACE, "restricted").await;
    let load = Load::start(&cluster, &shop, RATE).await;
    let skew = SkewWatch::start(Arc::clone(&cluster));
    let leaders = LeaderWatch::start(&cluster);

    let observer = Observer::start(cluster.client()).await;

    let began = Instant::now();
    let way = way(&cluster, quiesces).await;
    let reached = Arc::clone(&way.reached);
    let report = tokio::time::timeout(PATIENCE, upgrade(&cluster, way)).await;
    let report = report.expect("the run to end in time");
    let took = began.elapsed().as_secs_f64();
    figure(&format!("{name}.upgrade"), took, "s");
    println!("{report}");
    let changes = observer.changes().await;
    let looks = skew.finish().await;
    let swapped_while_leading = leaders.swapped_while_leading();
    let broken = looks.broken.len() as f64;
    figure(&format!("{name}.skew.looks"), looks.count as f64, "1");
    figure(&format!("{name}.skew.violations"), broken, "1");
    let asked = load.finish(name);
    Some(Seen {
        cluster,
        shop,
        report,
        asked,
        looks,
        swapped_while_leading,
        changes,
        reached,
    })
}

/// With every protection, and API servers taken out first or not.
async fn way(cluster: &KubeadmCluster, quiesces: bool) -> Way {
    let mut way = Way::protected(cluster).await.with_canary();
    if quiesces {
        let balancer = cluster.balancer().unwrap();
        let haproxy = Haproxy::new(balancer.backend()).with_socket(balancer.socket());
        way.balancer = Some(Arc::new(haproxy));
    }
    way
}
