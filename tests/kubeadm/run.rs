//! An upgrade by the project's own executor, and what can be changed of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use migrate_core::cost::PhaseDurations;
use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{
    BackUpData, Cancellation, Clock, Fence, MigratePods, Migration, PrepareEnvironment, ReachFrom,
    SeeChange, StepContext, StepError, StepInput, TryNode, UpgradeComponents, VerifyMigration,
};
use migrate_drain::Drainer;
use migrate_executor::{Executor, FileJournal, Pace, Report, Setup};
use migrate_kube::{TokioClock, connect_anew, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_testbed::KubeadmCluster;
use migrate_upgrade::{ApiServerBackend, Kubeadm, NodeShell, Ssh};
use migrate_verify::{CanaryChange, CanaryTrial, ClusterHealth};

use crate::TARGET;
use crate::backup::{Backups, WAIVED};
use crate::change::{Reached, Recorded};
use crate::real::run::{NoBackup, NoDrain, policy};

/// Accepts what the shop needs: the Job starts anew, the ledger is down.
pub(crate) const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[consent]
jobs = "evict"
pods = ["default/ledger"]
[deadlines]
drain = 300
upgrade = 900
"#;

/// Nodes are used by a pod before they are given back, and agents have to see a change
/// after the control plane; goes behind [`POLICY`].
pub(crate) const CANARY: &str = r#"
[canary-pod]
image = "testbed.local/shell:1"
[canary-change]
"#;

/// How an upgrade is made.
pub(crate) struct Way {
    /// How nodes are reached.
    pub(crate) shell: Arc<dyn NodeShell>,
    pub(crate) migrate: Arc<dyn MigratePods>,
    pub(crate) verify: Arc<dyn VerifyMigration>,
    /// What it accepts, and more.
    pub(crate) policy: String,
    /// The backup, which the policy has to accept if it is none.
    pub(crate) back_up: Arc<dyn BackUpData>,
    /// What takes API servers out of their load balancer, if anything does.
    pub(crate) balancer: Option<Arc<dyn ApiServerBackend>>,
    /// How often something that had not settled was passed over.
    pub(crate) passed_over: Arc<AtomicU64>,
    /// Which nodes have reached the Services of changes.
    pub(crate) reached: Reached,
}

impl Way {
    /// With every protection.
    pub(crate) fn protected(cluster: &KubeadmCluster) -> Self {
        let client = cluster.client();
        Self {
            shell: Arc::new(Ssh::new().with_config(cluster.ssh_config())),
            migrate: Arc::new(Drainer::new(client.clone())),
            verify: Arc::new(ClusterHealth::new(client)),
            policy: POLICY.to_owned(),
            back_up: Arc::new(NoBackup),
            balancer: None,
            passed_over: Arc::default(),
            reached: Reached::default(),
        }
    }

    /// Every node is tried out by a pod, for which there is a namespace.
    pub(crate) fn with_canary(mut self) -> Self {
        self.policy += CANARY;
        self
    }

    /// Backs up as the program does, which then needs no waiver.
    pub(crate) fn with_backups(mut self, cluster: &KubeadmCluster, backups: &Backups) -> Self {
        self.back_up = backups.step(cluster);
        self.policy = self.policy.replace(WAIVED, "");
        self
    }

    /// Nothing is moved, the nodes' software changes under the pods.
    pub(crate) fn without_drain(mut self) -> Self {
        self.migrate = Arc::new(NoDrain);
        self
    }

    /// Ready and at the target is enough, settled or not.
    pub(crate) fn without_settling(mut self) -> Self {
        let passed_over = Arc::clone(&self.passed_over);
        self.verify = Arc::new(Unsettled {
            verify: self.verify,
            passed_over,
        });
        self
    }
}

/// Upgrades the cluster to [`TARGET`] and gives the report.
pub(crate) async fn upgrade(cluster: &KubeadmCluster, way: Way) -> Report {
    let client = cluster.client();
    let policy = policy(&way.policy);
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let model = observe(&client, clock.now()).await.unwrap();
    let planner = Planner::new(&model, &policy, TARGET.parse().unwrap())
        .with_durations(PhaseDurations::kubeadm());
    let plan = planner.plan().unwrap();
    let mut driver = Kubeadm::new(way.shell).with_ignored_preflight_errors(["SystemVerification"]);
    if let Some(balancer) = way.balancer {
        driver = driver.with_api_server_backend(balancer);
    }
    let names: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.name().to_owned())
        .collect();
    let ready = driver.pre_pull(&names, &TARGET.parse().unwrap()).await;
    assert!(ready.is_ready(), "{:?}", ready.findings);
    let driver = Arc::new(driver);
    let mut migration = Migration::new(
        Arc::new(Preflight::new(client.clone())),
        way.back_up,
        Arc::clone(&driver) as Arc<dyn UpgradeComponents>,
        way.migrate,
        way.verify,
    );
    if let Some(pod) = policy.canary_pod.clone() {
        let trial = Arc::new(CanaryTrial::new(client.clone(), pod));
        let check = Arc::clone(&trial) as Arc<dyn PrepareEnvironment>;
        migration.prepare.push(check);
        migration = migration.with_trial(trial as Arc<dyn TryNode>);
    }
    if let Some(change) = &policy.canary_change {
        let change = CanaryChange::new(client.clone(), change).with_fresh(fresh(cluster).await);
        let change = Arc::new(change.with_reach(Arc::new(Recorded {
            asks: driver as Arc<dyn ReachFrom>,
            reached: way.reached,
        })));
        let check = Arc::clone(&change) as Arc<dyn PrepareEnvironment>;
        migration.prepare.push(check);
        migration = migration.with_change(change as Arc<dyn SeeChange>);
    }
    let journal = FileJournal::open(cluster.dir().join("journal")).unwrap();
    let context = StepContext::new(clock, Fence::without_lease("rig"));
    let mut pace = Pace::default();
    pace.probe = Duration::from_secs(1);
    pace.verify = Duration::from_secs(1);
    pace.retry = Duration::from_secs(1);
    let setup = Setup::new(client, migration, Box::new(journal), context)
        .with_pace(pace)
        .with_plan(plan, model, policy);
    let mut executor = Executor::open(setup).await.unwrap();
    executor.run(&Cancellation::new()).await.unwrap()
}

/// A client that opens a connection for each request, through the load balancer if
/// there is one.
pub(crate) async fn fresh(cluster: &KubeadmCluster) -> Client {
    let file = Kubeconfig::read_from(cluster.kubeconfig_path()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    connect_anew(config.unwrap()).unwrap()
}

/// Takes out of a verdict what only says that the cluster has not settled.
struct Unsettled {
    verify: Arc<dyn VerifyMigration>,
    /// How often nothing else was missing.
    passed_over: Arc<AtomicU64>,
}

/// Leaders, rollouts, kubelets' Leases, the time since the return.
const SETTLE_CODES: [&str; 4] = [
    "KM-VERIFY-009",
    "KM-VERIFY-010",
    "KM-VERIFY-011",
    "KM-VERIFY-012",
];

#[async_trait]
impl VerifyMigration for Unsettled {
    async fn observe(&self, cx: &StepContext) -> Result<Baseline, StepError> {
        self.verify.observe(cx).await
    }

    async fn observe_for(
        &self,
        cx: &StepContext,
        input: &StepInput,
        before: &Baseline,
        scopes: &[VerifyScope],
    ) -> Result<Baseline, StepError> {
        self.verify.observe_for(cx, input, before, scopes).await
    }

    fn compare(
        &self,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
        now: &Baseline,
    ) -> Verdict {
        match self.verify.compare(input, scope, before, now) {
            Verdict::Pending {
                mut missing,
                retry_after,
                progress,
            } => {
                missing.retain(|finding| !SETTLE_CODES.contains(&finding.code.as_str()));
                match missing.is_empty() {
                    true => {
                        self.passed_over.fetch_add(1, Ordering::Relaxed);
                        Verdict::passed()
                    }
                    false => Verdict::Pending {
                        missing,
                        retry_after,
                        progress,
                    },
                }
            }
            verdict => verdict,
        }
    }
}
