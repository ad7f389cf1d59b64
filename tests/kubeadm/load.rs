//! The requests: from outside through every node's port, and from a pod on
//! every node to the Services' own addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, GetParams};
use kube::core::Request;
use migrate_testbed::{KubeadmCluster, Tally, Target, Traffic, TrafficReport, eventually};
use serde_json::{Value, json};

use crate::figure;
use crate::shop::{PORT, Shop, app, items};

/// Requests a second that each entry point is to be sent.
pub(crate) const RATE: f64 = 25.0;
/// The same where two cores have the program's many starts to do as well.
pub(crate) const CALM_RATE: f64 = 15.0;
/// Some ticks come late.
pub(crate) const SENT_MORE: f64 = 1.04;
/// The part of its requests that a client may leave out. Nodes and clients share two cores, and a
/// client that had to wait sends no more to make up for it; how dense requests were is a figure.
const MISSED: f64 = 0.2;
/// Of the requests to the control target, in parts of a thousand: where more fail than these,
/// it is not the client that stalls.
const STALLS: u64 = 1;
/// Beside the nodes: what fails here is the client's own fault.
const CONTROL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 9000);
pub(crate) const CONTROL_NAME: &str = "control";
/// The folder of a node in which the pod on it keeps its report.
const FOLDER: &str = "/var/lib/shoppers";
/// Of every thread of the client on a node: what measures is not to wait for what is measured.
const GO_FIRST: &str = "for client in $(pgrep -f 'load-[i]nto'); do
    renice --priority -10 --pid $(ls \"/proc/$client/task\") > /dev/null
done";
/// The DaemonSet of the clients on the nodes.
const SHOPPERS: &str = "shoppers";
const PATIENCE: Duration = Duration::from_secs(120);

/// Requests to every entry point.
pub(crate) struct Load {
    outside: Traffic,
    /// The clients on the nodes, if they are not in pods.
    on_nodes: Option<BTreeMap<String, Traffic>>,
    rate: f64,
    _control: Traffic,
}

/// What became of them.
pub(crate) struct Tallies {
    /// By client, then by entry point.
    reports: BTreeMap<String, TrafficReport>,
    /// Requests a second that each entry point was to be sent.
    rate: f64,
}

impl Load {
    /// Begins to ask once every entry point answers, each so many times a second, from
    /// outside and from a pod on every node.
    pub(crate) async fn start(cluster: &KubeadmCluster, shop: &Shop, rate: f64) -> Self {
        let places = Places::answering(cluster, shop).await;
        let shoppers = shoppers(&places.inside, rate);
        cluster.apply(vec![shoppers]).await.unwrap();
        for node in cluster.nodes() {
            let what = format!("the client on {}", node.name());
            eventually(&what, PATIENCE, || async {
                let report = report_on(node).await?;
                Ok::<_, String>(report.values().all(|tally| tally.requests > 25))
            })
            .await
            .unwrap();
            node.script(GO_FIRST).await.unwrap();
        }
        places.ask(rate, None)
    }

    /// The same from nodes' own networks instead of pods, which may end.
    pub(crate) async fn without_pods(cluster: &KubeadmCluster, shop: &Shop) -> Self {
        let places = Places::answering(cluster, shop).await;
        let mut on_nodes = BTreeMap::new();
        for (name, network) in &places.nodes {
            let traffic = Traffic::start(network, RATE * SENT_MORE, &places.inside).unwrap();
            on_nodes.insert(name.clone(), traffic);
        }
        places.ask(RATE, Some(on_nodes))
    }

    /// The end of it.
    pub(crate) async fn finish(self, cluster: &KubeadmCluster) -> Tallies {
        let mut clients = match self.on_nodes {
            Some(clients) => clients
                .into_iter()
                .map(|(name, traffic)| (name, traffic.finish().unwrap()))
                .collect(),
            None => finish_shoppers(cluster).await,
        };
        clients.insert("outside".to_owned(), self.outside.finish().unwrap());
        Tallies {
            reports: clients,
            rate: self.rate,
        }
    }
}

/// From where what is asked, and what answers the control.
struct Places {
    outside: Vec<String>,
    through_nodes: Vec<Target>,
    /// The words before a program, by node.
    nodes: BTreeMap<String, Vec<String>>,
    inside: Vec<Target>,
    control: Traffic,
}

impl Places {
    /// Every entry point answers from everywhere.
    async fn answering(cluster: &KubeadmCluster, shop: &Shop) -> Self {
        let outside = cluster.outside();
        let control = serve_control(&outside);
        let mut places = Self {
            through_nodes: node_ports(cluster, shop),
            inside: cluster_ips(&cluster.client(), shop).await,
            nodes: BTreeMap::new(),
            outside,
            control,
        };
        for node in cluster.nodes() {
            let network = node.network().await.unwrap();
            places.nodes.insert(node.name().to_owned(), network);
        }
        tokio::task::block_in_place(|| {
            Traffic::await_answers(&places.outside, &places.through_nodes).unwrap();
            for network in places.nodes.values() {
                Traffic::await_answers(network, &places.inside).unwrap();
            }
        });
        places
    }

    /// Begins to ask from outside too.
    fn ask(self, rate: f64, on_nodes: Option<BTreeMap<String, Traffic>>) -> Load {
        let traffic = Traffic::start(&self.outside, rate * SENT_MORE, &self.through_nodes);
        Load {
            outside: traffic.unwrap(),
            on_nodes,
            rate,
            _control: self.control,
        }
    }
}

/// What the clients in pods have seen; they go away.
async fn finish_shoppers(cluster: &KubeadmCluster) -> BTreeMap<String, TrafficReport> {
    let client = cluster.client();
    for pod in items(&client, "/api/v1/namespaces/default/pods").await {
        // One that starts anew has forgotten what it has seen.
        let status = &pod["status"]["containerStatuses"][0];
        assert!(
            app(&pod) != SHOPPERS || status["restartCount"] == 0,
            "{pod}"
        );
    }
    let daemon_sets = Request::new("/apis/apps/v1/namespaces/default/daemonsets");
    let request = daemon_sets.delete(SHOPPERS, &DeleteParams::foreground());
    client.request::<Value>(request.unwrap()).await.unwrap();
    eventually("the clients to end", PATIENCE, || async {
        let pods = items(&client, "/api/v1/namespaces/default/pods").await;
        Ok::<_, String>(!pods.iter().any(|pod| app(pod) == SHOPPERS))
    })
    .await
    .unwrap();
    let mut clients = BTreeMap::new();
    for node in cluster.nodes() {
        clients.insert(node.name().to_owned(), report_on(node).await.unwrap());
        node.run(&["rm", "-r", FOLDER]).await.unwrap();
    }
    clients
}

impl Tallies {
    /// Every entry point: its client, its name, its tally, and how many of its
    /// failures are stalls of the client.
    fn rows(&self) -> impl Iterator<Item = (&str, &str, &Tally, u64)> {
        self.reports.iter().flat_map(|(client, report)| {
            let control = &report[CONTROL_NAME];
            report.iter().map(move |(name, tally)| {
                let stalled = match name == CONTROL_NAME {
                    true => tally.failed(),
                    false => tally.stalled(control),
                };
                (client.as_str(), name.as_str(), tally, stalled)
            })
        })
    }

    fn rows_of(&self, workload: &str) -> impl Iterator<Item = (&Tally, u64)> {
        let of = |name: &str| name.split('.').next() == Some(workload);
        let rows = self.rows().filter(move |(_, name, ..)| of(name));
        rows.map(|(_, _, tally, stalled)| (tally, stalled))
    }

    /// Requests to a workload: all, failed, and failed without stalls.
    pub(crate) fn of(&self, workload: &str) -> (u64, u64, u64) {
        self.rows_of(workload)
            .fold((0, 0, 0), |(all, failed, real), (tally, stalled)| {
                let mine = tally.failed();
                (all + tally.requests, failed + mine, real + mine - stalled)
            })
    }

    /// The longest time without a success at any entry point of a workload.
    pub(crate) fn longest_gap(&self, workload: &str) -> Duration {
        let gaps = self.rows_of(workload).map(|(tally, _)| tally.longest_gap);
        Duration::from_millis(gaps.max().unwrap_or(0))
    }

    /// Prints the figures of every workload with a Service.
    pub(crate) fn print(&self, of: &str, shop: &Shop) {
        println!("{self}");
        let served = shop.workloads.iter().filter(|one| one.node_port.is_some());
        for name in served.map(|one| one.name).chain([CONTROL_NAME]) {
            let (all, failed, real) = self.of(name);
            figure(&format!("{of}.requests.{name}"), all as f64, "requests");
            figure(&format!("{of}.failed.{name}"), failed as f64, "requests");
            figure(
                &format!("{of}.failed-unstalled.{name}"),
                real as f64,
                "requests",
            );
            let gap = self.longest_gap(name).as_secs_f64();
            figure(&format!("{of}.longest-gap.{name}"), gap, "s");
        }
    }

    /// No request to a replicated workload failed, but for those that failed
    /// with the client; every entry point was asked all the time.
    pub(crate) fn assert_unfailing(&self, shop: &Shop, took: Duration) {
        for (client, name, tally, _) in self.rows() {
            if name == CONTROL_NAME {
                let stalls = tally.failed() * 1000;
                assert!(stalls <= tally.requests * STALLS, "{client}\n{self}");
            }
            is_asked(&format!("{client} -> {name}"), tally, self.rate, took);
        }
        for workload in shop.replicated() {
            let (_, _, real) = self.of(workload.name);
            assert_eq!(real, 0, "{}\n{self}", workload.name);
        }
    }
}

impl fmt::Display for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (client, name, tally, stalled) in self.rows() {
            writeln!(f, "{client} -> {name}: {tally}, {stalled} with the client")?;
            let failed = tally.failed_at.iter().take(20);
            for (at, what) in failed {
                writeln!(f, "    {:.1} s in: {what}", *at as f64 / 1000.0)?;
            }
        }
        Ok(())
    }
}

/// An entry point was asked at a rate for a time, but for what [`MISSED`] allows.
pub(crate) fn is_asked(name: &str, tally: &Tally, rate: f64, time: Duration) {
    let least = (1.0 - MISSED) * rate * time.as_secs_f64();
    assert!(
        tally.requests as f64 >= least,
        "{name} should have been asked {least:.0} times: {tally}"
    );
}

/// Serves the control target.
pub(crate) fn serve_control(outside: &[String]) -> Traffic {
    Traffic::serve(outside, CONTROL.port()).unwrap()
}

/// Every node's port of every Service, with new connections and, where nothing
/// may fail, with kept ones; and the control target.
pub(crate) fn node_ports(cluster: &KubeadmCluster, shop: &Shop) -> Vec<Target> {
    let mut targets = vec![Target::new(CONTROL_NAME, CONTROL)];
    for workload in &shop.workloads {
        let Some(port) = workload.node_port else {
            continue;
        };
        // What may be down is asked in one place only: to see for how long.
        let nodes = match workload.is_replicated() {
            true => cluster.nodes(),
            false => &cluster.nodes()[..1],
        };
        for node in nodes {
            let name = format!("{}.node-port.{}", workload.name, node.name());
            let address = SocketAddrV4::new(node.address(), port);
            targets.push(Target::new(&name, address));
            if workload.is_replicated() {
                targets.push(Target::new(format!("{name}.kept"), address).kept_alive());
            }
        }
    }
    targets
}

/// The addresses of the replicated Services, with new connections and with kept ones,
/// and the control target.
pub(crate) async fn cluster_ips(client: &Client, shop: &Shop) -> Vec<Target> {
    let mut targets = vec![Target::new(CONTROL_NAME, CONTROL)];
    for workload in shop.replicated() {
        let services = Request::new("/api/v1/namespaces/default/services");
        let request = services.get(workload.name, &GetParams::default()).unwrap();
        let found: Value = client.request(request).await.unwrap();
        let address = found["spec"]["clusterIP"].as_str().unwrap();
        let name = format!("{}.cluster-ip", workload.name);
        let address = SocketAddrV4::new(address.parse().unwrap(), PORT);
        targets.push(Target::new(format!("{name}.kept"), address).kept_alive());
        targets.push(Target::new(name, address));
    }
    targets
}

/// A client in a pod on every node, the control plane's too.
fn shoppers(targets: &[Target], rate: f64) -> Value {
    let mut arguments = vec!["load-into".to_owned(), "/report/tally".to_owned()];
    arguments.push((rate * SENT_MORE).to_string());
    arguments.extend(targets.iter().map(Target::to_string));
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": SHOPPERS, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": SHOPPERS}},
            "template": {
                "metadata": {"labels": {"app": SHOPPERS}},
                "spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "main", "image": "testbed.local/traffic:1",
                        "imagePullPolicy": "Never", "args": arguments,
                        "volumeMounts": [{"name": "report", "mountPath": "/report"}],
                    }],
                    "volumes": [{
                        "name": "report",
                        "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"},
                    }],
                },
            },
        },
    })
}

/// The report of the client on a node.
async fn report_on(node: &migrate_testbed::Node) -> Result<TrafficReport, String> {
    let file = format!("{FOLDER}/tally");
    let said = node.run(&["cat", &file]).await;
    let said = said.map_err(|error| error.to_string())?;
    serde_json::from_slice(&said.stdout).map_err(|error| error.to_string())
}
