//! What runs on the cluster while something is done to it: the workloads as
//! data.

pub(crate) mod ledger;
mod objects;

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use migrate_testbed::{KubeadmCluster, eventually};
use serde_json::Value;

use crate::real::cluster::{condition, list};

/// Where servers listen.
pub(crate) const PORT: u16 = 8080;

/// How many seconds a pod goes on after its end was decided. Where a machine has
/// too little of its processors the kube-proxies of two nodes needed six.
const PRE_STOP: u32 = 10;

const PATIENCE: Duration = Duration::from_secs(180);

/// One workload, and what it promises to its users.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// `minAvailable` of its PodDisruptionBudget, if it has one.
    pub(crate) min_available: Option<u32>,
    /// How many seconds its preStop hook sleeps; none if 0.
    pub(crate) pre_stop: u32,
    /// The port that every node forwards to its Service, if it has one.
    pub(crate) node_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A Deployment that spreads its replicas over nodes where it can.
    Deployment { replicas: u32 },
    /// A StatefulSet of one replica whose volume is on the last worker, and to
    /// which it writes a line a second: it is down while that node is away, which the policy accepts.
    Pinned,
    /// A Job that does not end before the upgrade does.
    LongJob,
    /// A CronJob whose Jobs end at once, every minute.
    ShortJobs,
}

/// The ordinary shop.
pub(crate) const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "guarded",
        kind: Kind::Deployment { replicas: 2 },
        min_available: Some(1),
        pre_stop: PRE_STOP,
        node_port: Some(30_080),
    },
    Workload {
        name: "unguarded",
        kind: Kind::Deployment { replicas: 2 },
        min_available: None,
        pre_stop: PRE_STOP,
        node_port: Some(30_081),
    },
    Workload {
        name: "single",
        kind: Kind::Deployment { replicas: 1 },
        min_available: None,
        pre_stop: PRE_STOP,
        node_port: Some(30_082),
    },
    Workload {
        name: "ledger",
        kind: Kind::Pinned,
        min_available: None,
        pre_stop: 0,
        node_port: Some(30_083),
    },
    Workload {
        name: "long",
        kind: Kind::LongJob,
        min_available: None,
        pre_stop: 0,
        node_port: None,
    },
    Workload {
        name: "short",
        kind: Kind::ShortJobs,
        min_available: None,
        pre_stop: 0,
        node_port: None,
    },
];

impl Workload {
    pub(crate) fn replicas(&self) -> u32 {
        match self.kind {
            Kind::Deployment { replicas } => replicas,
            Kind::Pinned | Kind::LongJob => 1,
            Kind::ShortJobs => 0,
        }
    }

    /// Whether no request to it may fail: it has a replica to spare.
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicas() > 1
    }
}

/// An open shop.
pub(crate) struct Shop {
    pub(crate) workloads: Vec<Workload>,
}

impl Shop {
    /// Makes the workloads and waits until all of them serve.
    pub(crate) async fn open(cluster: &KubeadmCluster, workloads: &[Workload]) -> Self {
        let last = cluster.nodes().last().unwrap();
        last.run(&["mkdir", "-p", objects::VOLUME]).await.unwrap();
        let mut all = objects::storage(last.name());
        all.extend(workloads.iter().flat_map(objects::of));
        cluster.apply(all).await.unwrap();
        let shop = Self {
            workloads: workloads.to_vec(),
        };
        shop.await_whole(&cluster.client()).await;
        shop
    }

    /// The workloads to which no request may fail.
    pub(crate) fn replicated(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(|one| one.is_replicated())
    }

    /// Makes every pod anew, so that replicas are spread again.
    pub(crate) async fn spread(&self, client: &Client) {
        let pod = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &pod);
        for workload in &self.workloads {
            let of = ListParams::default().labels(&format!("app={}", workload.name));
            let deleting = DeleteParams::default();
            pods.delete_collection(&deleting, &of).await.unwrap();
        }
        self.await_whole(client).await;
    }

    /// Waits until every workload has its replicas, and none too many.
    pub(crate) async fn await_whole(&self, client: &Client) {
        eventually("the shop to be whole", PATIENCE, || async {
            let pods = items(client, "/api/v1/namespaces/default/pods").await;
            for workload in &self.workloads {
                let (mut ready, mut all) = (0, 0);
                let of = |pod: &&Value| app(pod) == workload.name && !is_finished(pod);
                for pod in pods.iter().filter(of) {
                    all += 1;
                    ready += u32::from(is_ready(pod));
                }
                let wanted = workload.replicas();
                if workload.kind != Kind::ShortJobs && (ready, all) != (wanted, wanted) {
                    return Err(format!("{}: {ready} of {all} ready", workload.name));
                }
            }
            Ok(true)
        })
        .await
        .unwrap();
    }
}

/// The name of the workload that a pod belongs to.
pub(crate) fn app(pod: &Value) -> &str {
    pod["metadata"]["labels"]["app"].as_str().unwrap_or("")
}

/// Whether a pod is Ready and not on its way out.
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && condition(pod, "Ready") == "True"
}

/// Whether a pod has run to its end, as an evicted one of a Job has.
pub(crate) fn is_finished(pod: &Value) -> bool {
    let phase = &pod["status"]["phase"];
    phase == "Succeeded" || phase == "Failed"
}

/// What a list of the API holds.
pub(crate) async fn items(client: &Client, path: &str) -> Vec<Value> {
    list(client, path).await.unwrap()
}
