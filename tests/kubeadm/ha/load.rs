//! Requests from outside and from every node itself, to Services, to the API through
//! the balancer and to etcd: two cores that run three API servers have no room for a
//! pod that asks on every node.

use std::time::Duration;

use migrate_testbed::{KubeadmCluster, Target, Traffic, TrafficReport};
use tokio::time::Instant;

use crate::load::{CONTROL_NAME, SENT_MORE, cluster_ips, is_asked, node_ports, serve_control};
use crate::shop::Shop;

/// Requests a second of each of the four kinds: 25 in all, half of them writes and half of
/// each with a new connection each.
const API_RATE: f64 = 6.25;
const ETCD_PAUSE: Duration = Duration::from_millis(100);
/// Of the requests to the API one in so many may fail, where API servers are taken out of
/// the balancer before they change.
const FEW: u64 = 1_000;

/// Requests to every entry point.
pub(super) struct Load {
    loads: Vec<Traffic>,
    rate: f64,
    since: Instant,
    _control: Traffic,
}

/// What became of them.
pub(super) struct Asked {
    pub(super) tallies: TrafficReport,
    /// Requests a second that each entry point was to be sent.
    rate: f64,
    /// How long there were requests.
    time: Duration,
}

impl Load {
    /// Begins to ask once all entry points answer, each so many times a second.
    pub(super) async fn start(cluster: &KubeadmCluster, shop: &Shop, rate: f64) -> Self {
        let outside = cluster.outside();
        let api = Traffic::ask_api(&outside, API_RATE, cluster.inside_kubeconfig_path());
        let etcd = Traffic::write_to_etcd(&outside, ETCD_PAUSE, cluster.etcd_access());
        let mut loads = vec![api.unwrap(), etcd.unwrap()];
        let control = serve_control(&outside);
        let mut places = vec![(outside, node_ports(cluster, shop))];
        let inside = cluster_ips(&cluster.client(), shop).await;
        for node in cluster.nodes() {
            // Kept connections go through the nodes' ports alone: what asks takes of the
            // two cores what five nodes have not.
            let services = inside
                .iter()
                .filter(|target| target.name != CONTROL_NAME && !target.keep_alive);
            let from_here = services.map(|target| {
                let mut target = target.clone();
                target.name = format!("{}.{}", target.name, node.name());
                target
            });
            places.push((node.network().await.unwrap(), from_here.collect()));
        }
        for (prefix, targets) in &places {
            tokio::task::block_in_place(|| Traffic::await_answers(prefix, targets)).unwrap();
        }
        let start = |(prefix, targets): &(Vec<String>, Vec<Target>)| {
            Traffic::start(prefix, rate * SENT_MORE, targets).unwrap()
        };
        loads.extend(places.iter().map(start));
        Self {
            loads,
            rate,
            since: Instant::now(),
            _control: control,
        }
    }

    /// The end of it; prints all figures under a name.
    pub(super) fn finish(self, name: &str) -> Asked {
        let time = self.since.elapsed();
        let reports = self.loads.into_iter().map(|load| load.finish().unwrap());
        let asked = Asked {
            tallies: reports.flatten().collect(),
            rate: self.rate,
            time,
        };
        asked.print(name);
        asked
    }
}

impl Asked {
    /// Requests to the API, and failed ones.
    pub(super) fn api(&self) -> (u64, u64) {
        self.of(|name| name.starts_with("api."))
    }

    /// Fewer requests to the API failed than where it is not quiet.
    pub(super) fn assert_few_of_the_api_failed(&self) {
        let (asked, failed) = self.api();
        assert!(
            failed * FEW < asked,
            "{failed} of {asked} to the API failed"
        );
    }

    /// More of them failed.
    pub(super) fn assert_many_of_the_api_failed(&self) {
        let (asked, failed) = self.api();
        assert!(
            failed * FEW > asked,
            "{failed} of {asked} to the API failed"
        );
    }

    /// Everything was asked all the time, and no request to a Service failed.
    pub(super) fn assert_services_unfailing(&self) {
        for (name, tally) in &self.tallies {
            let rate = match name.as_str() {
                name if name.starts_with("api.") => API_RATE,
                "etcd.write" => ETCD_PAUSE.as_secs_f64().recip(),
                _ => self.rate,
            };
            is_asked(name, tally, rate, self.time);
            if is_service(name) {
                assert_eq!(tally.failed(), 0, "{name}: {tally}\n{:?}", tally.failed_at);
            }
        }
    }

    fn of(&self, is_meant: fn(&str) -> bool) -> (u64, u64) {
        let tallies = self.tallies.iter().filter(|(name, _)| is_meant(name));
        tallies.fold((0, 0), |(asked, failed), (_, tally)| {
            (asked + tally.requests, failed + tally.failed())
        })
    }

    fn print(&self, of: &str) {
        let figure = |name: &str, value: f64, unit: &str| {
            println!("figure {of}.{name} {value:.3} {unit}");
        };
        for (name, tally) in &self.tallies {
            println!("{name}: {tally}");
            if !is_service(name) && name != CONTROL_NAME {
                println!("{name} failed at {:?}", tally.failed_at);
                figure(&format!("{name}.failed"), tally.failed() as f64, "requests");
                figure(&format!("{name}.gap"), tally.longest_gap as f64, "ms");
            }
        }
        let (asked, failed) = self.api();
        figure("api.requests", asked as f64, "requests");
        figure("api.failed", failed as f64 * 100.0 / asked as f64, "%");
        let (asked, failed) = self.of(is_service);
        figure("services.requests", asked as f64, "requests");
        figure("services.failed", failed as f64, "requests");
    }
}

/// Those of the shop; the others are the API, etcd and the control.
fn is_service(name: &str) -> bool {
    name.starts_with("guarded") || name.starts_with("unguarded")
}
