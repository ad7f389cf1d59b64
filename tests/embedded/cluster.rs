//! A small cluster, and one runner on it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport, addon_fn};
use migrate_core::{
    Cancellation, ClusterModel, Fence, MigratePods, Migration, Moment, Plan, Policy, StepContext,
    StepError, StepInput,
};
use migrate_drain::Drainer;
use migrate_executor::{Error, Executor, Journal, Report, Setup};
use migrate_kube::{TokioClock, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_sim::rules::{RuleProbe, RuleSettings, Violation};
use migrate_sim::store::Resource;
use migrate_sim::{Budget, Pool, Scenario, SimCluster, Workload};
use migrate_upgrade::SimulatedDriver;
use migrate_verify::ClusterHealth;
use serde_json::{Value, json};

/// An embedded cluster under the eyes of the rule checker.
pub(crate) struct Rig {
    pub(crate) cluster: SimCluster,
    pub(crate) policy: Policy,
    probe: RuleProbe,
    clock: Arc<TokioClock>,
}

/// One member, four workers, and each kind of workload.
pub(crate) fn small() -> Scenario {
    Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 4))
        .with_workload(
            Workload::deployment("shop", "cart", 3).with_budget(Budget::min_available(2)),
        )
        .with_workload(Workload::deployment("shop", "web", 4))
        .with_workload(Workload::deployment("shop", "search", 2))
        .with_workload(Workload::stateful_set("data", "store", 3))
        .with_workload(Workload::daemon_set("kube-system", "agent"))
}

impl Rig {
    pub(crate) async fn start(seed: u64, scenario: Scenario) -> Self {
        Self::judged_by(RuleSettings::default(), seed, scenario).await
    }

    pub(crate) async fn judged_by(settings: RuleSettings, seed: u64, scenario: Scenario) -> Self {
        let cluster = SimCluster::builder().seed(seed).scenario(scenario);
        let (cluster, probe) = RuleProbe::start(settings, cluster).await.unwrap();
        let clock = TokioClock::starting_at(Moment::from_millis(cluster.now_ms()));
        Self {
            cluster,
            policy: Policy::default(),
            probe,
            clock: Arc::new(clock),
        }
    }

    pub(crate) async fn planned(&self) -> (ClusterModel, Plan) {
        let client = self.cluster.client();
        let now = migrate_core::Clock::now(self.clock.as_ref());
        let model = observe(&client, now).await.unwrap();
        let target = "v1.37.2".parse().unwrap();
        let plan = Planner::new(&model, &self.policy, target).plan().unwrap();
        (model, plan)
    }

    pub(crate) fn drainer(&self) -> Drainer {
        Drainer::new(self.cluster.client())
    }

    /// What a runner over `journal` is made of.
    pub(crate) fn setup(&self, journal: Box<dyn Journal>) -> Setup {
        let client = self.cluster.client();
        let migration = Migration::new(
            Arc::new(Preflight::new(client.clone())),
            Arc::new(proven_backup),
            Arc::new(SimulatedDriver::new(client.clone())),
            Arc::new(self.drainer()),
            Arc::new(ClusterHealth::new(client.clone())),
        )
        // Nothing here has addons of its own: they only take time.
        .with_addons(Arc::new(addon_fn(
            |_, _| tokio::time::sleep(Duration::from_secs(5)).map(Ok).boxed(),
            |_, _| std::future::ready(Ok(())).boxed(),
        )));
        let context = StepContext::new(self.clock.clone(), Fence::without_lease("test-run"));
        Setup::new(client, migration, journal, context)
    }

    /// Opens a runner over `journal` and runs it to its end.
    pub(crate) async fn run(
        &self,
        journal: Box<dyn Journal>,
        migrate: Arc<dyn MigratePods>,
        planned: &(ClusterModel, Plan),
    ) -> Result<Report, Error> {
        let (model, plan) = planned.clone();
        let setup = self.setup(journal);
        let mut setup = setup.with_plan(plan, model, self.policy.clone());
        setup.migration.migrate = migrate;
        Executor::open(setup).await?.run(&Cancellation::new()).await
    }

    /// Sets the kill switch on the anchor of the run under way.
    pub(crate) async fn pause(&self, paused: bool) {
        let annotations = json!({ "kube-migrate.dev/pause": paused.to_string() });
        let patch = json!({ "metadata": { "annotations": annotations } });
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-migrate";
        let request = http::Request::patch(lease)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        let client = self.cluster.client();
        client.request::<Value>(request.unwrap()).await.unwrap();
    }

    /// Rules broken so far.
    pub(crate) fn broken(&self) -> Vec<Violation> {
        self.probe.finish(&self.cluster.audit())
    }

    /// Nodes that are not at the target, or not in use, or still marked as ours.
    pub(crate) fn unfinished_nodes(&self) -> Vec<String> {
        let store = self.cluster.store();
        let nodes = store.list(Resource::NODES, None).filter(|node| {
            let json = &node.json;
            json["status"]["nodeInfo"]["kubeletVersion"] != "v1.37.2"
                || json["spec"]["unschedulable"] == true
                || json["metadata"]["annotations"]
                    .get("kube-migrate.dev/cordoned-by")
                    .is_some()
        });
        nodes.map(|node| node.name.clone()).collect()
    }

    /// How often each action was begun on a node: writes of its id.
    pub(crate) fn begun(&self) -> Vec<String> {
        let audit = self.cluster.audit();
        let patches = audit.iter().filter(|entry| {
            entry.request.resource == "nodes"
                && entry.request.verb == "patch"
                && entry.code == 200
                && entry.body_excerpt.contains("sim.kube-migrate.dev/")
        });
        patches
            .map(|entry| format!("{} {}", entry.request.name, entry.body_excerpt))
            .collect()
    }

    /// Requests so far that could change something.
    pub(crate) fn mutating_requests(&self) -> usize {
        let audit = self.cluster.audit();
        audit.iter().filter(|entry| entry.is_mutating()).count()
    }
}

/// A backup that somebody else has made and restored.
fn proven_backup<'a>(
    _: &'a StepContext,
    _: &'a StepInput,
) -> BoxFuture<'a, Result<BackupReport, StepError>> {
    let artifact = BackupArtifact::new("elsewhere.db", 4096, "0".repeat(64));
    async move { Ok(BackupReport::new(BackupProof::Restored, vec![artifact])) }.boxed()
}
