//! The workloads and the requests to them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use kube::Client;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use migrate_testbed::{KubeadmCluster, Target, Traffic, TrafficReport, eventually};
use serde_json::{Value, json};

const PORT: u16 = 8080;
/// Beside the nodes: what fails here is the client's own fault.
const CONTROL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 9000);

/// Two Deployments behind Services: one with a PodDisruptionBudget, one without.
pub(crate) struct Shop {
    services: Vec<Service>,
}

struct Service {
    name: &'static str,
    node_port: u16,
    cluster_ip: Ipv4Addr,
}

/// Requests to every entry point, from outside and from every node.
pub(crate) struct Load {
    loads: Vec<Traffic>,
    _control: tokio::process::Child,
}

impl Shop {
    pub(crate) async fn open(cluster: &KubeadmCluster) -> Self {
        let mut objects = Vec::new();
        for (name, node_port) in [("guarded", 30_080), ("unguarded", 30_081)] {
            objects.extend([deployment(name), service(name, node_port)]);
        }
        objects.push(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "guarded", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
        }));
        cluster.apply(objects).await.unwrap();
        let client = cluster.client();
        eventually("the shop to open", Duration::from_secs(120), || async {
            let all = items(&client, "/apis/apps/v1/namespaces/default/deployments").await;
            let open = |deployment: &Value| deployment["status"]["availableReplicas"] == 2;
            Ok::<_, String>(all.len() == 2 && all.iter().all(open))
        })
        .await
        .unwrap();
        let mut services = Vec::new();
        for (name, node_port) in [("guarded", 30_080), ("unguarded", 30_081)] {
            let all = Request::new("/api/v1/namespaces/default/services");
            let request = all.get(name, &GetParams::default()).unwrap();
            let found: Value = client.request(request).await.unwrap();
            let cluster_ip = found["spec"]["clusterIP"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            services.push(Service {
                name,
                node_port,
                cluster_ip,
            });
        }
        Self { services }
    }

    /// Begins `rate` requests a second to each target.
    pub(crate) async fn load_at(&self, rate: f64, cluster: &KubeadmCluster) -> Load {
        let outside = cluster.outside();
        let program = migrate_testbed::traffic_program().unwrap();
        let control = tokio::process::Command::new(&outside[0])
            .args(&outside[1..])
            .arg(program)
            .args(["serve", &CONTROL.port().to_string()])
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut targets = vec![Target::new("control", CONTROL)];
        for service in &self.services {
            for node in cluster.nodes() {
                let name = format!("{}.node-port.{}", service.name, node.name());
                let address = SocketAddrV4::new(node.address(), service.node_port);
                targets.push(Target::new(&name, address));
                targets.push(Target::new(format!("{name}.kept"), address).kept_alive());
            }
        }
        let mut places = vec![(outside, targets)];
        for node in cluster.nodes() {
            let targets: Vec<Target> = self
                .services
                .iter()
                .map(|service| {
                    let name = format!("{}.cluster-ip.{}", service.name, node.name());
                    Target::new(name, SocketAddrV4::new(service.cluster_ip, PORT))
                })
                .collect();
            places.push((node.network().await.unwrap(), targets));
        }
        for (prefix, targets) in &places {
            tokio::task::block_in_place(|| Traffic::await_answers(prefix, targets)).unwrap();
        }
        let start = |(prefix, targets): &(Vec<String>, Vec<Target>)| {
            Traffic::start(prefix, rate, targets).unwrap()
        };
        let loads = places.iter().map(start).collect();
        Load {
            loads,
            _control: control,
        }
    }
}

impl Load {
    pub(crate) fn finish(self) -> TrafficReport {
        let reports = self.loads.into_iter().map(|load| load.finish().unwrap());
        reports.flatten().collect()
    }
}

/// What a list of the API holds.
pub(crate) async fn items(client: &Client, path: &str) -> Vec<Value> {
    let request = Request::new(path).list(&ListParams::default()).unwrap();
    let list: Value = client.request(request).await.unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Two replicas that take ten seconds to start and five to leave.
fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"app": name}},
                    }],
                    "containers": [{
                        "name": "web", "image": "testbed.local/traffic:1",
                        "imagePullPolicy": "Never",
                        "args": ["serve", PORT.to_string(), "10"],
                        "readinessProbe": {
                            "httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 1,
                        },
                        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                        "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}},
                    }],
                },
            },
        },
    })
}

fn service(name: &str, node_port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort", "selector": {"app": name},
            "ports": [{"port": PORT, "targetPort": PORT, "nodePort": node_port}],
        },
    })
}
