//! A running embedded cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::api::{ApiServer, AuditEntry};
use crate::builder::SimClusterBuilder;
use crate::error::SimError;
use crate::object::{int_at, is_finished, is_ready, str_at};
use crate::scenario::Scenario;
use crate::store::{Object, Resource, Store, StoreGuard};
use crate::world::{NodeFault, World};

/// An embedded Kubernetes cluster: API server, controllers, scheduler, kubelets.
///
/// Time is tokio's: in a paused runtime an hour of cluster time passes as fast
/// as its work can be done, and two runs with one seed and the same requests
/// are equal to the byte. One task runs everything behind the API; it ends
/// when the handle is dropped. Clients stay valid, the cluster just stands still.
#[derive(Debug)]
pub struct SimCluster {
    api: ApiServer,
    world: Arc<Mutex<World>>,
    kick: Arc<Notify>,
    task: AbortHandle,
}

impl SimCluster {
    /// A cluster without nodes and workloads, to be filled.
    pub fn builder() -> SimClusterBuilder {
        SimClusterBuilder::new()
    }

    /// The cluster of [`Scenario::demo`], up and running: Kubernetes v1.36.3,
    /// 15 nodes, some 300 pods, all of them Ready.
    ///
    /// # Errors
    /// [`SimError::Timeout`] if it does not come up, which a test rules out.
    pub async fn demo(seed: u64) -> Result<Self, SimError> {
        let cluster = Self::builder()
            .seed(seed)
            .scenario(Scenario::demo()?)
            .start()
            .await?;
        cluster.wait_until_settled(Duration::from_secs(600)).await?;
        Ok(cluster)
    }

    /// A client of the cluster, for the namespace `default`. It never retries.
    pub fn client(&self) -> kube::Client {
        self.api.client()
    }

    /// The API server: latency, faults, outages, access rules, `/metrics`.
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// The objects, past the API and without latency.
    ///
    /// This is a lock: hold one at a time, and none over an await, or the
    /// cluster and its clients wait for ever.
    pub fn store(&self) -> StoreGuard<'_> {
        self.api.shared().lock()
    }

    /// Every request that reached the API server so far.
    pub fn audit(&self) -> Vec<AuditEntry> {
        self.api.audit()
    }

    /// Cluster time in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.api.shared().now_ms()
    }

    /// How many times a controller, kubelet or the scheduler's timer has
    /// looked at something: the measure of work, independent of the machine.
    pub fn steps(&self) -> u64 {
        lock(&self.world).steps()
    }

    /// Breaks a node or mends it, from this moment on.
    pub fn set_node_fault(&self, node: &str, fault: NodeFault) {
        lock(&self.world).schedule_fault(self.now_ms(), node, fault);
        self.kick.notify_one();
    }

    /// Waits until the objects satisfy a condition; it is tried after every change.
    ///
    /// # Errors
    /// [`SimError::Timeout`] after `limit` of cluster time.
    pub async fn wait_until(
        &self,
        limit: Duration,
        condition: impl Fn(&Store) -> bool,
    ) -> Result<(), SimError> {
        let mut changes = self.api.shared().changes();
        let reached = async {
            loop {
                changes.borrow_and_update();
                if condition(&self.store()) {
                    return;
                }
                if changes.changed().await.is_err() {
                    // Cannot be: the sender lives as long as the server does.
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(limit, reached)
            .await
            .map_err(|_| SimError::Timeout(limit))
    }

    /// Waits until every workload has what it asks for, see [`is_settled`].
    ///
    /// # Errors
    /// [`SimError::Timeout`] after `limit` of cluster time.
    pub async fn wait_until_settled(&self, limit: Duration) -> Result<(), SimError> {
        self.wait_until(limit, is_settled).await
    }

    pub(crate) fn spawn(api: ApiServer, world: World, reaction: Duration) -> Self {
        let world = Arc::new(Mutex::new(world));
        let kick = Arc::new(Notify::new());
        let task = tokio::spawn(run(
            api.clone(),
            Arc::clone(&world),
            Arc::clone(&kick),
            reaction,
        ));
        Self {
            api,
            world,
            kick,
            task: task.abort_handle(),
        }
    }

    pub(crate) async fn wait_for_first_step(&self) {
        while self.steps() == 0 && self.store().count(Resource::NODES) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for SimCluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether every pod is ready or finished, every workload has as many ready
/// pods as it asks for, and every controller has seen the newest specification.
pub fn is_settled(store: &Store) -> bool {
    let pods = store
        .list(Resource::PODS, None)
        .all(|pod| !pod.is_terminating() && (is_ready(&pod.json) || is_finished(&pod.json)));
    let wanted = |object: &Object, path: &[&str]| int_at(&object.json, path).unwrap_or_default();
    let workloads = [
        (Resource::DEPLOYMENTS, "readyReplicas"),
        (Resource::REPLICA_SETS, "readyReplicas"),
        (Resource::REPLICATION_CONTROLLERS, "readyReplicas"),
        (Resource::STATEFUL_SETS, "readyReplicas"),
    ];
    let are_observed = |object: &Object| {
        wanted(object, &["status", "observedGeneration"])
            == wanted(object, &["metadata", "generation"])
    };
    pods && workloads.iter().all(|(resource, ready)| {
        store.list(resource, None).all(|object| {
            are_observed(object)
                && wanted(object, &["spec", "replicas"]) == wanted(object, &["status", ready])
        })
    }) && store.list(Resource::DAEMON_SETS, None).all(|set| {
        are_observed(set)
            && wanted(set, &["status", "desiredNumberScheduled"])
                == wanted(set, &["status", "numberReady"])
    }) && store
        .list(Resource::POD_DISRUPTION_BUDGETS, None)
        .all(|budget| are_observed(budget) || has_failed_sync(budget))
}

fn has_failed_sync(budget: &Object) -> bool {
    crate::object::condition(&budget.json, "DisruptionAllowed")
        .is_some_and(|condition| str_at(condition, &["reason"]) == "SyncFailed")
}

/// Runs the world: after every change, and whenever a timer is due.
async fn run(api: ApiServer, world: Arc<Mutex<World>>, kick: Arc<Notify>, reaction: Duration) {
    let shared = Arc::clone(api.shared());
    let mut changes = shared.changes();
    loop {
        let (next, seen) = {
            let mut world = lock(&world);
            let mut store = shared.lock();
            let next = world.step(&mut store);
            if let Some(version) = world.version()
                && version != api.version()
            {
                api.set_version(version);
            }
            (next, store.resource_version())
        };
        if *changes.borrow_and_update() != seen {
            // Someone else wrote in between, on another thread.
            continue;
        }
        let due = async {
            match next {
                Some(at) => sleep_until(shared.instant_at(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = kick.notified() => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(reaction).await;
            }
            () = due => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
