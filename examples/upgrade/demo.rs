//! The demo: a whole upgrade on the embedded cluster, in virtual time, with
//! the rules that can be seen from outside checked after every write.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::cost::PhaseDurations;
use migrate_core::policy::DEFAULT_POOL;
use migrate_core::steps::{BACKUP_UNPROVEN, addon_fn};
use migrate_core::{Cancellation, Moment, Policy};
use migrate_executor::{FileJournal, MemoryJournal};
use migrate_kube::TokioClock;
use migrate_sim::rules::{RuleProbe, RuleSettings};
use migrate_sim::{Scenario, SimCluster, Times};
use migrate_upgrade::SimulatedDriver;
use serde_json::Value;

use crate::backup::{self, EmbeddedSnapshot};
use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::run::{self, Environment};
use crate::{foresight, history, real, show};

/// Version the demo goes to unless told otherwise.
const TARGET: &str = "v1.37.2";

/// Upgrades the embedded cluster.
pub(crate) async fn main(cli: &Cli) -> Result<ExitCode, Failure> {
    if matches!(cli.command(), Command::Status { .. }) {
        return Err(Failure::plain(
            "the embedded cluster ends with its run; give --kubeconfig to ask a real one",
        ));
    }
    let mut policy = real::policy(cli)?;
    let measured = real::measured(cli)?;
    let history = history::read(cli)?;
    // What a person would accept here: there is no etcd to compare a snapshot with.
    policy.waive.insert(BACKUP_UNPROVEN.to_owned());
    policy.consent.bare_pods = true;
    policy.consent.downtime = true;

    let scenario = Scenario::demo()?;
    let probe = RuleProbe::new(rules(&policy, &scenario)?);
    let cluster = SimCluster::builder()
        .seed(cli.seed)
        .scenario(scenario)
        .on_change(probe.observer())
        .start()
        .await?;
    cluster.wait_until_settled(Duration::from_secs(600)).await?;
    let cluster = Arc::new(cluster);

    let sign = cli.backup.sign.as_deref();
    let back_up = EmbeddedSnapshot {
        cluster: Arc::clone(&cluster),
        folder: cli.backup_dir.clone(),
        signing: sign.map(backup::signing).transpose()?,
    };
    let target = real::target(cli.to.as_deref().unwrap_or(TARGET))?;
    let env = Environment {
        client: if cli.dry_run {
            migrate_kube::read_only(cluster.client())
        } else {
            cluster.client()
        },
        fresh: None,
        clock: Arc::new(TokioClock::starting_at(Moment::from_millis(
            cluster.now_ms(),
        ))),
        policy,
        durations: durations(&Times::default()),
        beliefs: foresight::beliefs(measured.as_ref(), history.as_ref()),
        measured,
        link: cli.links.link(None).await?,
        back_up: Arc::new(back_up),
        backup_proves: false,
        upgrade: Arc::new(SimulatedDriver::new(cluster.client())),
        // There is nothing to upgrade in the embedded cluster.
        addons: Arc::new(addon_fn(
            |_, _| Box::pin(async { Ok(()) }),
            |_, _| Box::pin(async { Ok(()) }),
        )),
        kubeadm: None,
        hooks: Vec::new(),
        cancel: Cancellation::new(),
        run: format!("demo-{}", cli.seed),
        waits: None,
        goes_on: false,
    };
    let model = run::observed(cli, &env).await?;
    let code = run::execute(cli, env, target, model, || {
        Ok(match &cli.journal {
            Some(path) => Box::new(FileJournal::open(path)?),
            None => Box::new(MemoryJournal::new()),
        })
    })
    .await?;
    if cli.command() == Command::Plan {
        return Ok(code);
    }
    let broken = probe.finish(&cluster.audit());
    show::rules(cli, &broken)?;
    Ok(if broken.is_empty() {
        code
    } else {
        ExitCode::FAILURE
    })
}

/// What the checker has to know of `policy`.
fn rules(policy: &Policy, scenario: &Scenario) -> Result<RuleSettings, Failure> {
    let mut sizes = BTreeMap::<String, u32>::new();
    let objects = scenario.objects();
    for node in objects.iter().filter(|object| object["kind"] == "Node") {
        let labels = &node["metadata"]["labels"];
        if labels
            .get("node-role.kubernetes.io/control-plane")
            .is_none()
        {
            let pool = labels.get(&policy.pools.label).and_then(Value::as_str);
            *sizes
                .entry(pool.unwrap_or(DEFAULT_POOL).to_owned())
                .or_default() += 1;
        }
    }
    let mut settings = RuleSettings::default();
    settings.pool_label.clone_from(&policy.pools.label);
    settings.widths = sizes
        .into_iter()
        .map(|(pool, size)| {
            let width = policy.pools.width(&pool, size);
            (pool, usize::try_from(width).unwrap_or(usize::MAX))
        })
        .collect();
    let assumed = &policy.assumed_budgets;
    settings.assumed_max_unavailable = match assumed.enabled {
        true => serde_json::to_value(assumed.max_unavailable)?,
        false => Value::from("100%"),
    };
    settings.nothing_assumed_in = assumed.exclude_namespaces.clone();
    settings.control_plane_nodes_first = policy.rollout.control_plane_nodes_first;
    Ok(settings)
}

/// What the embedded cluster takes for each phase; on a real one these are
/// learned, or the defaults.
fn durations(times: &Times) -> PhaseDurations {
    let mut durations = PhaseDurations::default();
    durations.cordon = Duration::ZERO;
    durations.drain_per_pod_wait = Duration::ZERO;
    durations.stop = times.stop;
    durations.pull = times.image_pull;
    durations.volume_move = times.volume_detach + times.volume_attach;
    durations.start = times.container_start;
    durations.readiness = times.readiness;
    durations.upgrade_node = times.kubelet_restart;
    durations.boot = Duration::ZERO;
    durations.node_ready = Duration::ZERO;
    durations.control_plane_member = times.control_plane_restart;
    // The pause between two looks.
    durations.verify = Duration::from_secs(2);
    durations
}
