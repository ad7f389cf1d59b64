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
    BackUpData, Cancellation, Clock, Fence, Finding, KubeVersion, MigratePods, Migration,
    PrepareEnvironment, ReachFrom, SeeChange, StepContext, StepError, StepInput, TryNode,
    UpgradeComponents, VerifyMigration,
};
use migrate_drain::Drainer;
use migrate_executor::{Executor, FileJournal, Pace, Report, Setup};
use migrate_kube::{TokioClock, connect_anew, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_testbed::KubeadmCluster;
use migrate_upgrade::{ApiServerBackend, Kubeadm, NodeShell, Ssh};
use migrate_verify::{CanaryChange, CanaryTrial, ClusterHealth};

use crate::backup::{Backups, WAIVED};
use crate::change::{Reached, Recorded};
use crate::real::run::{NoBackup, NoDrain, policy};
use crate::{BEFORE, TARGET};

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
    /// Who asks the API, and the same over a connection of its own for each request.
    client: Client,
    fresh: Client,
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
    /// With every protection, by the administrator.
    pub(crate) async fn protected(cluster: &KubeadmCluster) -> Self {
        Self::of(cluster, cluster.client(), fresh(cluster).await)
    }

    /// The same by the owner of these clients.
    pub(crate) fn of(cluster: &KubeadmCluster, client: Client, fresh: Client) -> Self {
        Self {
            client: client.clone(),
            fresh,
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
        self.back_up = backups.step(cluster, self.client.clone());
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
    let client = way.client;
    let policy = policy(&way.policy);
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let model = observe(&client, clock.now()).await.unwrap();
    let target: KubeVersion = TARGET.parse().unwrap();
    let mut driver = Kubeadm::new(way.shell).with_ignored_preflight_errors(["SystemVerification"]);
    let planner = Planner::new(&model, &policy, target.clone())
        .with_durations(PhaseDurations::kubeadm())
        .with_renewed(driver.renews(&BEFORE.parse().unwrap(), &target));
    let plan = planner.plan().unwrap();
    if let Some(balancer) = way.balancer {
        driver = driver.with_api_server_backend(balancer);
    }
    let names: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.name().to_owned())
        .collect();
    let ready = driver.pre_pull(&names, &target).await;
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
        let change = CanaryChange::new(client.clone(), change).with_fresh(way.fresh);
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
    connect_anew(config(cluster).await).unwrap()
}

/// The administrator's configuration.
pub(crate) async fn config(cluster: &KubeadmCluster) -> Config {
    let file = Kubeconfig::read_from(cluster.kubeconfig_path()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.unwrap()
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
/// The cluster's agents: on another node than the one asked about they are part of it.
const AGENTS: &str = "KM-VERIFY-003";

/// Whether a finding only says that the cluster has not settled.
fn is_settling(finding: &Finding, scope: &VerifyScope) -> bool {
    let of = match scope {
        VerifyScope::ControlPlane { member } => member,
        VerifyScope::Node { node } => node,
        _ => &finding.object.name,
    };
    let is_elsewhere = finding.object.name != *of;
    SETTLE_CODES.contains(&finding.code.as_str()) || (finding.code == AGENTS && is_elsewhere)
}

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
                missing.retain(|finding| !is_settling(finding, scope));
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
