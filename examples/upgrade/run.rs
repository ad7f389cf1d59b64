//! The flow that the demo and a real cluster share: observe, plan, ask, run.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::cost::{Link, PhaseDurations};
use migrate_core::steps::BACKUP_UNPROVEN;
use migrate_core::{
    Action, BackUpData, Cancellation, Clock, ClusterModel, Fence, Finding, KubeVersion, Migration,
    Node, Phase, Plan, Policy, PrepareEnvironment, ReachFrom, SeeChange, StepContext, StepInput,
    Target, TryNode, UpgradeAddons, UpgradeComponents, preconditions,
};
use migrate_drain::Drainer;
use migrate_executor::{
    ClusterAccess, Error, Executor, Journal, KubeAccess, MarkedNode, Report, RunOutcome, Setup,
    StepOutcome, adoptable_model,
};
use migrate_kube::{DRAINED_BY_HAND, observe};
use migrate_plan::{Beliefs, Measured, Planner};
use migrate_preflight::Preflight;
use migrate_upgrade::{ImagePull, Kubeadm};
use migrate_verify::{CanaryChange, CanaryTrial, ClusterHealth, GatesLeftOut};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::foresight::{self, Lookout};
use crate::patience::Patience;
use crate::progress::Progress;
use crate::{check, handed, history, nodes, rehearsal, show};

/// What differs between the demo and a real cluster.
pub(crate) struct Environment {
    pub(crate) client: kube::Client,
    /// The same, over a connection of its own for each request; none where there is no
    /// network.
    pub(crate) fresh: Option<kube::Client>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: Policy,
    /// How long the phases are expected to last.
    pub(crate) durations: PhaseDurations,
    /// What nodes fetch over, if somebody said or measured it.
    pub(crate) link: Option<Link>,
    /// What an earlier run took, in the place of these.
    pub(crate) measured: Option<Measured>,
    /// What forecasts believe of durations.
    pub(crate) beliefs: Beliefs,
    pub(crate) back_up: Arc<dyn BackUpData>,
    /// Whether a run needs no waiver for that, as far as is known before it.
    pub(crate) backup_proves: bool,
    pub(crate) upgrade: Arc<dyn UpgradeComponents>,
    /// What upgrades the addons of the policy.
    pub(crate) addons: Arc<dyn UpgradeAddons>,
    /// The same driver, where it is kubeadm's: it also looks at the nodes first.
    pub(crate) kubeadm: Option<Arc<Kubeadm>>,
    /// Programs of the operator's that are asked before anything starts.
    pub(crate) hooks: Vec<Arc<dyn PrepareEnvironment>>,
    pub(crate) cancel: Cancellation,
    pub(crate) run: String,
    /// How long an API server that is out of reach is waited for before the run is
    /// open: only if an unfinished one goes on.
    pub(crate) waits: Option<Duration>,
    /// Whether an unfinished run of this cluster goes on.
    pub(crate) goes_on: bool,
}

impl Environment {
    pub(crate) fn patience(&self) -> Patience<'_> {
        Patience {
            clock: self.clock.as_ref(),
            cancel: &self.cancel,
            limit: self.waits,
        }
    }
}

/// The model, refused if it is another cluster's than asked for.
pub(crate) async fn observed(cli: &Cli, env: &Environment) -> Result<ClusterModel, Failure> {
    let patience = env.patience();
    let model = patience
        .ask(|| observe(&env.client, env.clock.now()))
        .await?;
    match &cli.cluster_id {
        Some(wanted) if wanted != model.cluster.as_str() => Err(Failure::new(
            format!("cluster {}", model.cluster),
            format!("is not the one asked for, {wanted}; check --kubeconfig and --context"),
        )),
        _ => Ok(model),
    }
}

/// Plans, and unless that is all, runs.
pub(crate) async fn execute(
    cli: &Cli,
    mut env: Environment,
    target: KubeVersion,
    model: ClusterModel,
    journal: impl FnOnce() -> Result<Box<dyn Journal>, Failure>,
) -> Result<ExitCode, Failure> {
    let access = KubeAccess::new(env.client.clone());
    let left = left_by_an_ended_run(cli, &env, &access).await?;
    // Cordons of the run that is taken over are no obstacles.
    let model = if cli.adopt || cli.way_back().is_some() || left.is_some() {
        let patience = env.patience();
        patience
            .ask(|| adoptable_model(&access, model.clone()))
            .await?
    } else {
        model
    };
    if let Some(run) = left {
        env.run = run;
    }
    let mut planner = Planner::new(&model, &env.policy, target.clone())
        .with_durations(env.durations.clone())
        .with_improvement_by_size();
    planner = match &env.link {
        Some(link) => planner.with_link(link.clone()),
        None => {
            let (per_node, rate) = show::transfer(cli, None);
            planner.with_transfer(per_node, rate)
        }
    };
    if let Some(measured) = &env.measured {
        planner = planner.with_measured(measured);
    }
    planner = planner.with_beliefs(&env.beliefs);
    if let Some(node) = cli.way_back() {
        planner = planner.taking_back(node);
    }
    let members = model.control_plane.iter().map(|member| &member.version);
    if let (Some(driver), Some(from)) = (&env.kubeadm, members.min()) {
        planner = planner.with_renewed(driver.renews(from, &target));
    }
    let own_pod = own_pod();
    if let Some(node) = own_pod.as_ref().and_then(|own| node_of(&model, own)) {
        planner = planner.with_runner_on(node);
    }
    // A hint: without the right to see Leases members go by their names.
    let holder = migrate_kube::address_holder(&env.client, &model).await;
    let holder = holder.ok().flatten();
    if let Some(member) = &holder {
        planner = planner.with_address_on(member);
    }
    let plan = handed::or_new(cli, &env, &model, &planner)?;
    if cli.command() == Command::Check {
        return check::execute(cli, &env, model, &plan).await;
    }
    let undo = undo(cli, &plan, &model, &env.policy);
    let forecast = foresight::of_plan(&env, &model, &plan)?;
    let stuck = env.beliefs.stuck_in(&plan);
    show::plan(cli, &plan, env.link.as_ref(), (forecast, &stuck), &undo)?;
    show::plan_page(cli, &plan, (&model, &env.policy), forecast, &undo)?;
    // Found by the step after the checks, and known now: such a backup does not prove.
    // Of which object, only the backup will say.
    let is_of_backups = |line: &String| line.split_whitespace().next() == Some(BACKUP_UNPROVEN);
    let is_needed = !plan.is_empty() && !env.backup_proves;
    if is_needed && !env.policy.waive.iter().any(is_of_backups) {
        show::will_need(cli, BACKUP_UNPROVEN)?;
    }
    if cli.command() == Command::Plan {
        return Ok(verdict(plan.findings.iter()));
    }
    if cli.dry_run {
        return dry_run(cli, &env, model, &plan).await;
    }
    // An unfinished run goes on even where a new plan would be empty.
    let journal = journal()?;
    confirm(cli, &plan)?;
    if let Some(driver) = &env.kubeadm {
        nodes::put_back_members(cli, driver, &model, &env, &journal.place()).await?;
    }

    let progress = Progress::new(cli, plan.targets().count());
    let mut setup = setup(cli, &env, &progress, journal, plan.findings.clone())
        .with_adopt(cli.adopt)
        .with_plan(plan, model, env.policy.clone());
    setup.forecast = forecast;
    if cli.adopt {
        eprintln!("adopting: if somebody holds the run, its Lease is watched first");
    }
    if let Some((namespace, name)) = own_pod {
        setup = setup.with_own_pod(namespace, name);
    }
    let mut executor = Executor::open(setup).await.map_err(not_opened)?;
    let report = run_on(&mut executor, &env, &progress).await;
    progress.finish();
    let report = report?;
    show::report(cli, &report)?;
    history::keep(cli, &env, &report);
    Ok(match report.outcome {
        RunOutcome::Done | RunOutcome::NothingToDo => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Steps to the end of the run, and says now and then when that will be.
async fn run_on(
    executor: &mut Executor,
    env: &Environment,
    progress: &Progress,
) -> Result<Report, Error> {
    let mut lookout = Lookout::new(env.beliefs.clone(), env.clock.now());
    loop {
        match executor.step().await? {
            StepOutcome::Done(report) => return Ok(*report),
            StepOutcome::Stopped(stop) => return Ok(stop.report),
            _ => lookout.look(executor, env.clock.now(), progress).await,
        }
    }
}

/// Namespace and name of the pod that this program runs in, as its manifest says by
/// the downward API.
fn own_pod() -> Option<(String, String)> {
    let of = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Some((of("POD_NAMESPACE")?, of("POD_NAME")?))
}

fn node_of<'m>(model: &'m ClusterModel, own: &(String, String)) -> Option<&'m str> {
    let mut pods = model.pods.iter();
    let pod = pods.find(|pod| pod.id.namespace == own.0 && pod.id.name == own.1)?;
    pod.node.as_deref()
}

/// What a runner over `journal` is made of; `found` is what planning has found.
pub(crate) fn setup(
    cli: &Cli,
    env: &Environment,
    progress: &Progress,
    journal: Box<dyn Journal>,
    found: Vec<Finding>,
) -> Setup {
    // The executor takes the epoch.
    let fence = Fence::without_lease(env.run.clone());
    let context = StepContext::new(Arc::clone(&env.clock), fence)
        .with_events(progress.sink())
        .with_cancel(env.cancel.clone());
    let client = env.client.clone();
    let (trial, change) = (trial(env), change(env));
    let mut checks = checks(env, trial.clone(), change.clone());
    if let Some(driver) = &env.kubeadm {
        // Findings are told in this order: the nodes before the trial.
        checks.insert(1, Arc::clone(driver) as Arc<dyn PrepareEnvironment>);
        // Pulls what is needed once everybody has looked.
        let pull = ImagePull::new(Kubeadm::clone(driver), client.clone(), checks);
        checks = vec![Arc::new(pull.with_findings(found))];
    }
    let mut migration = Migration::new(
        Arc::new(Preflight::new(client.clone())),
        Arc::clone(&env.back_up),
        Arc::clone(&env.upgrade),
        Arc::new(Drainer::new(client.clone())),
        Arc::new(ClusterHealth::new(client.clone())),
    )
    .with_addons(Arc::clone(&env.addons));
    checks.extend(env.hooks.iter().cloned());
    migration.prepare = checks;
    migration.trial = trial.map(|trial| trial as Arc<dyn TryNode>);
    migration.change = change.map(|change| change as Arc<dyn SeeChange>);
    Setup::new(client, migration, journal, context).with_patience(cli.wait)
}

/// What tries nodes out, if the policy wants them tried out.
fn trial(env: &Environment) -> Option<Arc<CanaryTrial>> {
    let pod = env.policy.canary_pod.clone()?;
    Some(Arc::new(CanaryTrial::new(env.client.clone(), pod)))
}

/// The change that agents have to see, if the policy wants one; where nodes can be
/// asked, their Services too.
fn change(env: &Environment) -> Option<Arc<CanaryChange>> {
    let policy = env.policy.canary_change.as_ref()?;
    let change = CanaryChange::new(env.client.clone(), policy);
    let change = match &env.fresh {
        Some(fresh) => change.with_fresh(fresh.clone()),
        None => change,
    };
    Some(Arc::new(match &env.kubeadm {
        Some(driver) => change.with_reach(Arc::clone(driver) as Arc<dyn ReachFrom>),
        None => change,
    }))
}

/// What looks at the cluster before the start, and asks nobody but the API.
fn checks(
    env: &Environment,
    trial: Option<Arc<CanaryTrial>>,
    change: Option<Arc<CanaryChange>>,
) -> Vec<Arc<dyn PrepareEnvironment>> {
    let left_out = GatesLeftOut::new(trial.is_some(), change.is_some());
    let mut checks: Vec<Arc<dyn PrepareEnvironment>> =
        vec![Arc::new(Preflight::new(env.client.clone()))];
    checks.extend(trial.map(|trial| trial as Arc<dyn PrepareEnvironment>));
    checks.extend(change.map(|change| change as Arc<dyn PrepareEnvironment>));
    checks.push(Arc::new(left_out));
    checks
}

/// What the checks find that ask the API alone; nothing is changed.
pub(crate) async fn looked_at(
    env: &Environment,
    input: &StepInput,
) -> Result<Vec<Finding>, Failure> {
    let fence = Fence::without_lease(env.run.clone());
    let context = StepContext::new(Arc::clone(&env.clock), fence);
    let mut found = Vec::new();
    for check in checks(env, trial(env), change(env)) {
        found.extend(check.run(&context, input).await?.findings);
    }
    found.extend(check_runner(input));
    Ok(found)
}

/// The run that has ended and left a node cordoned which this command may bring
/// back: the node is given back by who goes by that run's name.
async fn left_by_an_ended_run(
    cli: &Cli,
    env: &Environment,
    access: &KubeAccess,
) -> Result<Option<String>, Failure> {
    let patience = env.patience();
    if cli.way_back().is_none() && patience.ask(|| access.anchor()).await?.run.is_some() {
        return Ok(None);
    }
    let is_of_a_run = |mark: &MarkedNode| mark.run != DRAINED_BY_HAND;
    let is_meant = |mark: &MarkedNode| cli.way_back().is_none_or(|node| mark.node == node);
    let marks = patience.ask(|| access.marked_nodes()).await?.into_iter();
    let mut left = marks.filter(|mark| is_of_a_run(mark) && is_meant(mark));
    Ok(left.next().map(|mark| mark.run))
}

/// The executor's cure, with the flag that it is here.
pub(crate) fn not_opened(error: Error) -> Failure {
    match error {
        Error::OtherRun { .. } | Error::OtherTarget { .. } | Error::OtherPolicy { .. } => {
            Failure::plain(format!("{error} (--adopt)"))
        }
        error => error.into(),
    }
}

/// How the upgrade of each target can be taken back, as far as driver and policy say.
fn undo(cli: &Cli, plan: &Plan, model: &ClusterModel, policy: &Policy) -> BTreeMap<Target, String> {
    let addon = |name: &String| {
        let mut addons = policy.addons.iter();
        addons.find(|addon| addon.name == *name)
    };
    plan.targets()
        .filter_map(|(target, from)| {
            let undo = match &target {
                Target::Addon { name } => addon(name)?.way_back(),
                Target::Backup => return None,
                _ if !cli.kubeadm => return None,
                _ => {
                    let (from, to) = (from.clone(), plan.to_of(&target).clone());
                    let upgrade = Action::new(&plan.id, target.clone(), Phase::Upgrade, from, to);
                    Kubeadm::undo(&upgrade, model).to_string()
                }
            };
            Some((target, undo))
        })
        .collect()
}

/// Whether the run could go on once the pod is moved that this program runs in.
fn check_runner(input: &StepInput) -> Vec<Finding> {
    let Some((namespace, name)) = own_pod() else {
        return Vec::new();
    };
    let is_to_change = |node: &Node| input.is_to_change(node);
    preconditions::check_runner(&input.model, &input.policy, &namespace, &name, is_to_change)
}

/// What a dry run leaves to `check` and to the run: the nodes, what stands before
/// the API servers, and the operator's programs.
const NOT_REHEARSED: [&str; 5] = [
    "KM-KUBEADM-",
    "KM-LB-",
    "KM-ETCD-",
    "KM-HOOK-005",
    "KM-HOOK-006",
];

/// The checks, and a rehearsal of every eviction; the client underneath refuses
/// whatever would change something. How pods would be answered now decides
/// nothing about the exit code: a run waits for budgets.
async fn dry_run(
    cli: &Cli,
    env: &Environment,
    model: ClusterModel,
    plan: &Plan,
) -> Result<ExitCode, Failure> {
    rehearsal::show(cli, env, &model, plan).await?;
    let input = StepInput::new(
        Arc::new(model),
        Arc::new(env.policy.clone()),
        plan.to.clone(),
    )
    .with_dry_run(true)
    .with_way_back(plan.way_back());
    let mut found = looked_at(env, &input).await?;
    let all = Finding::merged(&plan.findings, found.clone());
    found.extend(env.policy.unmatched_waivers(&all, &NOT_REHEARSED));
    env.policy.mark_waived(&mut found);
    show::findings(cli, &found)?;
    Ok(verdict(found.iter().chain(&plan.findings)))
}

/// Whether a run would be let start, as far as these say.
pub(crate) fn verdict<'a>(mut findings: impl Iterator<Item = &'a Finding>) -> ExitCode {
    match findings.any(Finding::blocks) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn confirm(cli: &Cli, plan: &Plan) -> Result<(), Failure> {
    if cli.yes || cli.is_demo() || plan.is_empty() {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::plain(
            "nobody to ask: standard input is no terminal; look at the plan and give --yes",
        ));
    }
    eprint!("Start? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::plain("not started")),
    }
}
