//! The version skew of everything that runs, against what it can really reach,
//! looked at from outside once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use migrate_core::skew::{Component, ComponentInstance, Reachable, check};
use migrate_core::version::{KubeVersion, MinorVersion};
use migrate_testbed::KubeadmCluster;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::real::cluster::list;

const PAUSE: Duration = Duration::from_secs(1);

/// Of a control-plane node, whom each of its components asks.
const FILES: [&str; 3] = ["controller-manager.conf", "kubelet.conf", "scheduler.conf"];

/// What an upgraded cluster runs: API servers, controller managers and schedulers of three
/// control planes, kubelets and kube-proxies of five nodes.
const ALL: usize = 3 * 3 + 2 * 5;

/// What was seen.
#[derive(Default)]
pub(crate) struct Looks {
    /// Those that found an API server.
    pub(crate) count: u64,
    /// Those that found everything there is.
    whole: u64,
    pub(crate) broken: BTreeSet<String>,
}

impl Looks {
    /// A look a second, most of them at everything, and none found a broken skew.
    pub(crate) fn found_nothing(&self, took: Duration) {
        let Self {
            count,
            whole,
            broken,
        } = self;
        assert!(*count > took.as_secs() * 9 / 10, "{count} looks");
        assert!(
            whole * 4 > *count * 3,
            "{whole} of {count} looks were whole"
        );
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// Looks until it is asked for what it has seen.
pub(crate) struct SkewWatch {
    watch: JoinHandle<()>,
    seen: Arc<Mutex<Looks>>,
}

impl SkewWatch {
    pub(crate) fn start(cluster: Arc<KubeadmCluster>) -> Self {
        let seen = Arc::default();
        let watch = tokio::spawn(look_on(cluster, Arc::clone(&seen)));
        Self { watch, seen }
    }

    pub(crate) async fn finish(self) -> Looks {
        self.watch.abort();
        // It ends between two looks, or in the middle of one.
        self.watch.await.ok();
        let looks = std::mem::take(&mut *self.seen.lock().unwrap());
        println!(
            "{} of {} looks at versions were whole",
            looks.whole, looks.count
        );
        looks
    }
}

async fn look_on(cluster: Arc<KubeadmCluster>, seen: Arc<Mutex<Looks>>) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut servers = BTreeMap::new();
    loop {
        ticks.tick().await;
        // What does not answer in time is looked at again in a second.
        let Ok(Some(running)) = timeout(PAUSE * 4, look(&cluster, &mut servers)).await else {
            continue;
        };
        let mut seen = seen.lock().unwrap();
        seen.count += 1;
        seen.whole += u64::from(running.len() == ALL);
        for violation in running.iter().flat_map(check) {
            println!("{} ms: {violation}", began.elapsed().as_millis());
            seen.broken.insert(violation.to_string());
        }
    }
}

/// Everything that runs; `None` while no API server answers. One that is too slow to answer
/// may be reached all the same: it counts as what it was when it answered last, in `servers`.
async fn look(
    cluster: &KubeadmCluster,
    servers: &mut BTreeMap<String, KubeVersion>,
) -> Option<Vec<ComponentInstance>> {
    let mut locals = BTreeSet::new();
    let members = cluster.nodes().iter().filter(|it| it.is_control_plane());
    let asked = members.map(|node| async move {
        let client = cluster.client_of(node.name()).unwrap();
        let version = timeout(PAUSE, client.apiserver_version()).await;
        (node, version.ok().and_then(Result::ok))
    });
    for (node, version) in join_all(asked).await {
        if let Some(version) = version {
            let version = version.git_version.parse().unwrap();
            servers.insert(node.name().to_owned(), version);
        }
        // Whom each component of the node asks, as its file says now.
        let own = format!("https://{}:6443", node.address());
        for file in FILES {
            let said = node.read(&format!("/etc/kubernetes/{file}")).await.ok()?;
            let said = String::from_utf8_lossy(&said);
            let mut servers = said.lines().filter(|line| line.contains("server:"));
            if servers.any(|line| line.ends_with(&own)) {
                locals.insert(format!("{}/{file}", node.name()));
            }
        }
    }
    let minors: BTreeSet<MinorVersion> = servers.values().map(KubeVersion::minor_version).collect();
    let all: Reachable = minors.into_iter().collect();
    all.span()?;
    let client = cluster.client();
    let mut running: Vec<ComponentInstance> = servers
        .iter()
        .map(|(name, version)| {
            ComponentInstance::new(Component::ApiServer, name, version.clone(), all.clone())
        })
        .collect();
    // Nobody is reached through a server that has never answered.
    let reaches = |node: &str, file: &str| {
        if !locals.contains(&format!("{node}/{file}")) {
            return Some(all.clone());
        }
        let server = servers.get(node)?;
        Some(Reachable::Local(server.minor_version()))
    };
    let (nodes, pods) = tokio::join!(
        items(&client, "/api/v1/nodes"),
        items(&client, "/api/v1/namespaces/kube-system/pods"),
    );
    let mut kubelets = BTreeMap::new();
    for node in nodes? {
        let name = node["metadata"]["name"].as_str()?.to_owned();
        let version: KubeVersion = node["status"]["nodeInfo"]["kubeletVersion"]
            .as_str()?
            .parse()
            .unwrap();
        kubelets.insert(name.clone(), version.minor_version());
        if let Some(reaches) = reaches(&name, "kubelet.conf") {
            running.push(ComponentInstance::new(
                Component::Kubelet,
                name,
                version,
                reaches,
            ));
        }
    }
    for pod in pods? {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let image = pod["status"]["containerStatuses"][0]["image"].as_str();
        let Some((image, version)) = image.and_then(|image| image.rsplit_once(':')) else {
            continue;
        };
        let (component, file) = match image.rsplit('/').next()? {
            "kube-controller-manager" => (Component::ControllerManager, "controller-manager.conf"),
            "kube-scheduler" => (Component::Scheduler, "scheduler.conf"),
            "kube-proxy" => (Component::KubeProxy, ""),
            _ => continue,
        };
        let is_running = pod["status"]["phase"] == "Running";
        let Some(reaches) = reaches(node, file).filter(|_| is_running) else {
            continue;
        };
        let name = format!("{node}/{}", component.as_str());
        let version = version.parse().unwrap();
        let instance = ComponentInstance::new(component, name, version, reaches);
        running.push(match (component, kubelets.get(node)) {
            (Component::KubeProxy, Some(kubelet)) => instance.with_local_kubelet(*kubelet),
            _ => instance,
        });
    }
    Some(running)
}

async fn items(client: &Client, path: &str) -> Option<Vec<Value>> {
    timeout(PAUSE * 2, list(client, path)).await.ok()?.ok()
}
