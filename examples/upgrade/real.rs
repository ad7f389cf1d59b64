//! A real cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use migrate_core::cost::PhaseDurations;
use migrate_core::{
    Action, ActionStatus, Cancellation, Clock, ClusterId, KubeVersion, Moment, ObjectName, Policy,
    PrepareEnvironment, StepContext, StepError, StepErrorKind, UpgradeComponents,
};
use migrate_executor::{FileJournal, Journal};
use migrate_kube::{Anchor, TokioClock};
use migrate_plan::{Beliefs, Measured};
use migrate_upgrade::{
    AddonHook, ApiServerBackend, ApiServerHook, CommandHook, Haproxy, Kubeadm, NodeShell,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::account::Account;
use crate::backup::Chosen;
use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::files::text;
use crate::foresight::Ends;
use crate::run::{self, Environment};
use crate::what_if::{Asked, Otherwise};
use crate::{abort, clean, foresight, history, nodes, patience, show};

/// Upgrades the cluster that the kubeconfig names.
pub(crate) async fn main(cli: &Cli) -> Result<ExitCode, Failure> {
    // Everything that can be wrong with the flags is found before the cluster
    // is asked anything.
    let policy = policy(cli)?;
    let measured = measured(cli)?;
    let history = history::read(cli)?;
    let beliefs = foresight::beliefs(measured.as_ref(), history.as_ref());
    let target = cli.to.as_deref().map(target).transpose()?;
    let backup = Chosen::read(cli)?;
    let balancer = balancer(cli)?;
    let addons = Arc::new(AddonHook::new(&policy.addons)?);
    let mut hooks = vec![Arc::clone(&addons) as Arc<dyn PrepareEnvironment>];
    let upgrade = match cli.kubeadm {
        // Which way to a node is known when the nodes are.
        true => Arc::new(NoDriver),
        false => upgrade(cli, &policy, &mut hooks)?,
    };
    let client = client(cli, migrate_kube::connect).await?;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    if let Command::Status { what_if } = cli.command() {
        return status(cli, &client, clock.now(), &beliefs, &what_if).await;
    }
    if target.is_none() && cli.needs_target() {
        return Err(no_target());
    }
    let mut env = Environment {
        client,
        fresh: Some(self::client(cli, migrate_kube::connect_anew).await?),
        run: format!("run-{}", clock.now().as_millis()),
        clock,
        policy,
        durations: match cli.kubeadm {
            true => PhaseDurations::kubeadm(),
            false => PhaseDurations::default(),
        },
        measured,
        link: None,
        beliefs,
        back_up: backup.without_nodes(cli),
        backup_proves: backup.proves(cli),
        upgrade,
        addons,
        kubeadm: None,
        hooks,
        cancel: stop_when_asked()?,
        waits: None,
        goes_on: false,
    };
    let goes_on = cli.changes_something() && {
        let journals = known_journals(cli);
        patience::is_unfinished(journals.iter().map(PathBuf::as_path))
    };
    env.waits = goes_on.then_some(cli.wait);
    let model = run::observed(cli, &env).await?;
    // What begins no run needs no plan.
    let begins_none = matches!(cli.command(), Command::Abort | Command::Clean { .. });
    env.link = cli
        .links
        .link((!begins_none).then_some(&env.client))
        .await?;
    if cli.kubeadm {
        let driver = Arc::new(kubeadm(
            cli,
            &env.policy,
            nodes::ways(cli, &env.client, &model)?,
            balancer,
        ));
        env.upgrade = Arc::clone(&driver) as Arc<dyn UpgradeComponents>;
        env.kubeadm = Some(driver);
    }
    if backup.asks_nodes(cli) {
        env.back_up = backup.with_nodes(cli, env.client.clone());
    }
    let cluster = model.cluster.clone();
    if goes_on {
        let path = journal_path(cli, &cluster)?;
        env.goes_on = patience::is_unfinished([path.as_path()]);
    }
    match cli.command() {
        Command::Abort => {
            return abort::execute(cli, env, &model, &journal_path(cli, &cluster)?).await;
        }
        Command::Clean { keep } => {
            let path = journal_path(cli, &cluster)?;
            return clean::execute(cli, env, &model, &path, keep).await;
        }
        _ => {}
    }
    run::execute(cli, env, target.ok_or_else(no_target)?, model, || {
        let path = journal_path(cli, &cluster)?;
        Ok(Box::new(FileJournal::open(&path)?) as Box<dyn Journal>)
    })
    .await
}

fn no_target() -> Failure {
    Failure::plain("--to: say which version to reach, such as v1.37.2")
}

/// What the journal tells, which needs no cluster, and what the cluster says.
async fn status(
    cli: &Cli,
    client: &kube::Client,
    now: Moment,
    beliefs: &Beliefs,
    asked: &[Asked],
) -> Result<ExitCode, Failure> {
    let anchor = Anchor::read(client).await;
    let path = match (&cli.journal, &anchor) {
        (Some(path), _) => Some(path.clone()),
        (None, Ok(_)) => Some(default_journal(&migrate_kube::cluster_id(client).await?)),
        (None, Err(_)) => None,
    };
    if let Some(path) = cli.journal.as_ref().filter(|path| !path.exists()) {
        return Err(Failure::new(
            path.display(),
            "there is no such journal; name that of the run with --journal",
        ));
    }
    let account = match &path {
        Some(path) => Account::read(path)?.map(|account| account.seen_at(now)),
        None => None,
    };
    let ends = match &path {
        Some(path) if account.is_some() => Ends::of_journal(path, now, beliefs)?,
        _ => None,
    };
    let what_ifs = match &path {
        Some(path) if account.is_some() && !asked.is_empty() => {
            Otherwise::of_journal(path, asked, now, beliefs)?
        }
        _ => Vec::new(),
    };
    if !asked.is_empty() && what_ifs.is_empty() {
        eprintln!("no what-if: no run goes on of which anybody could say when it ends");
    }
    let foreseen = (ends.as_ref(), what_ifs.as_slice());
    show::status(cli, anchor.as_ref().ok(), account.as_ref(), foreseen)?;
    anchor?;
    Ok(ExitCode::SUCCESS)
}

/// The journals in which this command may find its run, before the cluster has
/// said who it is.
fn known_journals(cli: &Cli) -> Vec<PathBuf> {
    match (&cli.journal, &cli.cluster_id) {
        (Some(path), _) => vec![path.clone()],
        (None, Some(id)) => vec![default_journal(&ClusterId::new(id))],
        (None, None) => {
            let files = std::fs::read_dir(JOURNALS).into_iter().flatten().flatten();
            let paths = files.map(|file| file.path());
            let is_journal = |path: &PathBuf| path.extension().is_some_and(|is| is == "journal");
            paths.filter(is_journal).collect()
        }
    }
}

/// The folder of the journals that nobody has named.
const JOURNALS: &str = ".kube-migrate";

fn default_journal(cluster: &ClusterId) -> PathBuf {
    Path::new(JOURNALS).join(format!("{cluster}.journal"))
}

/// The journal asked for, else one per cluster in a folder of our own.
fn journal_path(cli: &Cli, cluster: &ClusterId) -> Result<PathBuf, Failure> {
    if let Some(path) = &cli.journal {
        return Ok(path.clone());
    }
    std::fs::create_dir_all(JOURNALS).map_err(|error| {
        let cure = "work in a folder where this user may write, or name a file with --journal";
        Failure::new(JOURNALS, format!("{error}; {cure}"))
    })?;
    Ok(default_journal(cluster))
}

/// The policy file with the waivers of the command line.
pub(crate) fn policy(cli: &Cli) -> Result<Policy, Failure> {
    let mut policy = match &cli.policy {
        Some(path) => kube_migrate::policy_from_toml(&text(path)?)
            .map_err(|error| Failure::new(path.display(), error))?,
        None => Policy::default(),
    };
    policy.waive.extend(cli.waive.iter().cloned());
    Ok(policy)
}

/// What an earlier run took, if a file says so: one line of it may be what such a
/// run has printed, among others.
pub(crate) fn measured(cli: &Cli) -> Result<Option<Measured>, Failure> {
    let Some(path) = &cli.durations else {
        return Ok(None);
    };
    let measured = Measured::from_json(&printed(text(path)?, "measured"));
    let measured = measured.map_err(|error| Failure::new(path.display(), error))?;
    Ok(Some(measured))
}

/// The document that the last line of `text` with one of this name has; all of `text` if none
/// is what the program has printed.
pub(crate) fn printed(text: String, name: &str) -> String {
    let printed = |line: &str| {
        let mut document: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(document.get_mut(name)?.take().to_string())
    };
    let printed = text.lines().rev().find_map(printed);
    printed.unwrap_or(text)
}

/// The version asked for.
pub(crate) fn target(text: &str) -> Result<KubeVersion, Failure> {
    text.parse().map_err(|error| Failure::new("--to", error))
}

type Connect = fn(kube::Config) -> Result<kube::Client, migrate_kube::Error>;

async fn client(cli: &Cli, connect: Connect) -> Result<kube::Client, Failure> {
    let config = config(cli).await;
    let client = config.and_then(connect);
    let client = client.map_err(|error| match error {
        // Which flag it is, only the program can say.
        migrate_kube::Error::NoConfig { message } if cli.in_cluster => Failure::new(
            "--in-cluster",
            format!("{message}; run it in a pod whose ServiceAccount has its token mounted"),
        ),
        migrate_kube::Error::NoConfig { message } => Failure::new(
            "no usable kubeconfig",
            format!(
                "{message}; name a file with --kubeconfig or $KUBECONFIG, and one of its contexts \
                 with --context"
            ),
        ),
        error => error.into(),
    })?;
    // What would change something is refused by the transport.
    if !cli.changes_something() {
        return Ok(migrate_kube::read_only(client));
    }
    Ok(client)
}

async fn config(cli: &Cli) -> Result<kube::Config, migrate_kube::Error> {
    if cli.in_cluster {
        let config = kube::Config::incluster();
        return config.map_err(|error| migrate_kube::Error::NoConfig {
            message: error.to_string(),
        });
    }
    let options = KubeConfigOptions {
        context: cli.context.clone(),
        ..KubeConfigOptions::default()
    };
    Ok(match &cli.kubeconfig {
        Some(path) => {
            kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
        }
        None => kube::Config::from_kubeconfig(&options).await?,
    })
}

/// The driver of the flags; a hook is also to be asked first.
fn upgrade(
    cli: &Cli,
    policy: &Policy,
    hooks: &mut Vec<Arc<dyn PrepareEnvironment>>,
) -> Result<Arc<dyn UpgradeComponents>, Failure> {
    match (&cli.node_hook, &cli.control_plane_hook) {
        (Some(node), Some(control_plane)) => {
            // Ended by the driver before the run gives the action up, so that
            // nothing goes on changing a node that counts as failed; unless
            // this process is killed: then only a timeout of the hook's own
            // ends it.
            let timeout = before_the_deadline(policy, Duration::from_secs(30));
            let hook = CommandHook::new(node, control_plane)?;
            let hook = Arc::new(hook.with_timeout(timeout));
            hooks.push(Arc::clone(&hook) as Arc<dyn PrepareEnvironment>);
            Ok(hook)
        }
        // Looking needs no driver.
        (None, None) if !cli.changes_something() => Ok(Arc::new(NoDriver)),
        _ => Err(Failure::plain(
            "--kubeadm, or --node-hook and --control-plane-hook: something has to upgrade the nodes",
        )),
    }
}

fn kubeadm(
    cli: &Cli,
    policy: &Policy,
    shell: Arc<dyn NodeShell>,
    balancer: Option<Arc<dyn ApiServerBackend>>,
) -> Kubeadm {
    let mut driver = Kubeadm::new(shell)
        .with_ignored_preflight_errors(&cli.ignore_preflight_errors)
        .with_skipped_phases(&cli.kubeadm_skip_phases);
    // A step ends before the run gives the action up: it would go on with nobody
    // to watch it, its API server out of the load balancer.
    let patience = policy.deadlines.upgrade;
    let limit = patience
        .saturating_sub(Duration::from_secs(60))
        .max(patience / 2);
    driver = driver
        .with_control_plane_timeout(limit)
        .with_node_timeout(limit);
    if let Some(folder) = &cli.kubeadm_patches {
        driver = driver.with_patches(folder);
    }
    if let Some(binaries) = &cli.binaries {
        driver = driver.with_binaries(binaries.clone());
    }
    match balancer {
        Some(balancer) => driver.with_api_server_backend(balancer),
        None => driver,
    }
}

/// So much earlier than a run gives an upgrade up, or at half of that time.
fn before_the_deadline(policy: &Policy, margin: Duration) -> Duration {
    let patience = policy.deadlines.upgrade;
    patience.saturating_sub(margin).max(patience / 2)
}

fn balancer(cli: &Cli) -> Result<Option<Arc<dyn ApiServerBackend>>, Failure> {
    Ok(match (&cli.haproxy_backend, &cli.api_server_hook) {
        (Some(_), _) if !cli.names_an_haproxy() => {
            return Err(Failure::plain(
                "--haproxy-backend: say how its HAProxy is reached, with --haproxy-socket, \
                 --haproxy-tcp or --haproxy-ssh",
            ));
        }
        (Some(backend), _) => {
            let mut haproxy = Haproxy::new(backend);
            for path in &cli.haproxy_socket {
                haproxy = haproxy.with_socket(path);
            }
            for address in &cli.haproxy_tcp {
                haproxy = haproxy.with_tcp(address);
            }
            for (host, socket) in &cli.haproxy_ssh {
                haproxy = haproxy.with_host(nodes::ssh(cli), host, socket);
            }
            if let Some(file) = &cli.haproxy_config {
                haproxy = haproxy.with_configuration(file);
            }
            Some(Arc::new(haproxy))
        }
        (None, Some(program)) => Some(Arc::new(ApiServerHook::new(program)?)),
        (None, None) => None,
    })
}

/// By Ctrl-C, or by the kubelet that ends the pod: a container's first process is not
/// ended by a signal that it does not handle.
fn stop_when_asked() -> Result<Cancellation, Failure> {
    let mut terminated = signal(SignalKind::terminate())?;
    let cancel = Cancellation::new();
    let asked = cancel.clone();
    tokio::spawn(async move {
        let is_asked = tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
            terminated = terminated.recv() => terminated.is_some(),
        };
        if is_asked {
            eprintln!("stopping at the next safe point; the same command goes on later");
            asked.cancel();
        }
    });
    Ok(cancel)
}

/// Stands in where nothing is going to be upgraded.
struct NoDriver;

#[async_trait::async_trait]
impl UpgradeComponents for NoDriver {
    async fn begin(&self, _: &StepContext, action: &Action) -> Result<(), StepError> {
        let object = ObjectName::cluster("Action", action.id.as_str());
        let message = "nothing is upgraded without a driver; give --kubeadm or hooks";
        Err(StepError::new(StepErrorKind::Invalid, object, message))
    }

    async fn probe(&self, _: &StepContext, _: &Action) -> Result<ActionStatus, StepError> {
        Ok(ActionStatus::Absent)
    }
}
