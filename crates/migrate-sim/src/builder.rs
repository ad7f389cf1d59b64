//! Building an embedded cluster.

use std::time::Duration;

use serde_json::Value;

use crate::api::ApiServer;
use crate::cluster::SimCluster;
use crate::error::SimError;
use crate::object::{Condition, name, namespace, set_condition, str_at};
use crate::scenario::{FaultKind, Pool, Scenario, Workload};
#[cfg(feature = "snapshot")]
use crate::snapshot::Snapshot;
use crate::store::{self, Change, Resource, Shared, Store};
use crate::world::{NodeFault, Settings, Times, World};

/// How many times as long things take on a slow node of a scenario.
const SLOW_FACTOR: u32 = 3;

/// Puts an embedded cluster together; see [`SimCluster::builder`].
#[must_use]
pub struct SimClusterBuilder {
    seed: u64,
    start_ms: u64,
    times: Times,
    latency: Duration,
    lease_renewal: Option<Duration>,
    scenario: Scenario,
    observers: Vec<store::Observer>,
    #[cfg(feature = "snapshot")]
    snapshot: Option<Snapshot>,
}

impl SimClusterBuilder {
    pub(crate) fn new() -> Self {
        Self {
            seed: 1,
            start_ms: store::DEFAULT_START_MS,
            times: Times::default(),
            latency: crate::api::DEFAULT_LATENCY,
            lease_renewal: None,
            scenario: Scenario::new("v1.36.3"),
            observers: Vec::new(),
            #[cfg(feature = "snapshot")]
            snapshot: None,
        }
    }

    /// Begins with the objects of a snapshot instead of an empty cluster, at the last
    /// moment that they tell of, and with the newest version of their kubelets where no
    /// control plane shows; what is said of time and version after this counts.
    ///
    /// Pools, workloads and objects are added to these.
    #[cfg(feature = "snapshot")]
    pub fn snapshot(mut self, snapshot: Snapshot) -> Self {
        self.start_ms = snapshot.newest_ms().unwrap_or(self.start_ms);
        if let Some(version) = snapshot.version() {
            self.scenario.version = version;
        }
        self.snapshot = Some(snapshot);
        self
    }

    /// Sets the seed of all uids, generated names and jitter; 1 otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the cluster time of the start, in milliseconds since the Unix epoch.
    pub fn start_time_ms(mut self, start_ms: u64) -> Self {
        self.start_ms = start_ms;
        self
    }

    /// Sets how long things take.
    pub fn times(mut self, times: Times) -> Self {
        self.times = times;
        self
    }

    /// Sets the time from a request to its answer.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Lets every kubelet renew its Lease this often, as real ones do.
    ///
    /// Off otherwise: heartbeats are then computed, and Leases written only
    /// when a node comes, goes silent or returns. An idle cluster costs nothing.
    pub fn lease_renewal(mut self, every: Duration) -> Self {
        self.lease_renewal = Some(every);
        self
    }

    /// Takes over everything of a scenario, in place of what was set before.
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        self.scenario = scenario;
        self
    }

    /// Sets the Kubernetes version of nodes and control plane; `v1.36.3` otherwise.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.scenario.version = version.into();
        self
    }

    /// Adds a pool of nodes.
    pub fn nodes(mut self, pool: Pool) -> Self {
        self.scenario.pools.push(pool);
        self
    }

    /// Adds a workload.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.scenario.workloads.push(workload);
        self
    }

    /// Adds any other object; its namespace must be there.
    pub fn object(mut self, object: Value) -> Self {
        self.scenario.objects.push(object);
        self
    }

    /// Calls `observer` after every change, from the first object on: the place
    /// for checks of rules that hold after every single write.
    pub fn on_change(mut self, observer: impl FnMut(&Store, &Change) + Send + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Starts the cluster and returns when its controllers have taken
    /// everything in; nothing has been started on the nodes yet. Most
    /// callers go on with [`SimCluster::wait_until_settled`].
    ///
    /// Spawns one task on the tokio runtime it is called in.
    ///
    /// # Errors
    /// [`SimError::UnknownKind`] or [`SimError::Refused`] for an object that
    /// cannot be created.
    pub async fn start(self) -> Result<SimCluster, SimError> {
        let mut store = self.empty_store();
        for observer in self.observers {
            store.on_change(observer);
        }
        let mut world = World::new(Settings {
            seed: self.seed,
            times: self.times.clone(),
            lease_renewal: self.lease_renewal,
        });
        #[cfg(feature = "snapshot")]
        if let Some(snapshot) = self.snapshot {
            for node in snapshot.silent_nodes() {
                world.schedule_fault(self.start_ms, node, NodeFault::Dead);
            }
            snapshot.fill(&mut store)?;
        }
        for object in self.scenario.objects() {
            create(&mut store, object)?;
        }
        for fault in &self.scenario.faults {
            let at = self
                .start_ms
                .saturating_add(fault.after_seconds.saturating_mul(1000));
            world.schedule_fault(at, &fault.node, node_fault(fault.kind));
        }
        let api = ApiServer::new(
            std::sync::Arc::new(Shared::new(store)),
            self.scenario.version,
        );
        api.set_latency(self.latency);
        let cluster = SimCluster::spawn(api, world, self.times.reaction);
        cluster.wait_for_first_step().await;
        Ok(cluster)
    }
}

impl SimClusterBuilder {
    /// Where objects are to be put in.
    fn empty_store(&self) -> Store {
        #[cfg(feature = "snapshot")]
        if let Some(snapshot) = &self.snapshot {
            return Store::resumed(self.seed, self.start_ms, snapshot.revision());
        }
        Store::new(self.seed, self.start_ms)
    }
}

impl std::fmt::Debug for SimClusterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimClusterBuilder")
            .field("seed", &self.seed)
            .field("scenario", &self.scenario)
            .finish_non_exhaustive()
    }
}

fn create(store: &mut Store, mut object: Value) -> Result<(), SimError> {
    let (api_version, kind) = (
        str_at(&object, &["apiVersion"]).to_owned(),
        str_at(&object, &["kind"]).to_owned(),
    );
    let resource = store
        .by_kind(&api_version, &kind)
        .ok_or_else(|| SimError::UnknownKind {
            api_version,
            kind: kind.clone(),
        })?;
    if resource == Resource::NODES {
        register(&mut object, store.now_ms());
    }
    let full_name = [namespace(&object), name(&object)].join("/");
    store
        .create(resource, object)
        .map_err(|source| SimError::Refused {
            kind,
            name: full_name.trim_start_matches('/').to_owned(),
            source,
        })?;
    Ok(())
}

/// The cluster starts with kubelets that are there already.
fn register(node: &mut Value, now: u64) {
    for pressure in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
        set_condition(
            node,
            Condition::new(pressure, "False").because("KubeletHasNoPressure", ""),
            now,
        );
    }
    let ready =
        Condition::new("Ready", "True").because("KubeletReady", "kubelet is posting ready status");
    set_condition(node, ready, now);
}

fn node_fault(kind: FaultKind) -> NodeFault {
    match kind {
        FaultKind::Dead => NodeFault::Dead,
        FaultKind::NeverReady => NodeFault::NeverReady,
        FaultKind::Slow => NodeFault::Slow(SLOW_FACTOR),
        FaultKind::Recovered => NodeFault::None,
    }
}
