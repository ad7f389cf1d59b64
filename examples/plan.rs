//! Plans an upgrade and changes nothing: the table, an HTML page, JSON, and what
//! would be faster.
//!
//! `cargo run --example plan` plans for an embedded cluster; with `--kubeconfig`
//! for a real one, which is only read; with `--model` for one from a file that
//! `--dump` wrote, or that follows the schema of `migrate_core::ClusterModel`. With
//! `--throughput`, or `--measure-links`, nodes fetch over a link that they share.

#[path = "shared/failure.rs"]
mod failure;
#[path = "shared/files.rs"]
mod files;
#[path = "shared/links.rs"]
mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube_migrate::policy_from_toml;
use migrate_core::cost::{BoundKind, BytesPerSecond, Draws, Link, PhaseDurations};
use migrate_core::{
    BudgetKey, BudgetKind, Clock, ClusterModel, Finding, KubeVersion, Moment, Phase, Plan, Policy,
    Relocation,
};
use migrate_kube::{TokioClock, observe};
use migrate_plan::{
    Beliefs, BudgetTable, Change, DiffTable, Forecaster, History, PlanDiff, PlanMermaid, PlanPage,
    PlanTable, PlanTimeline, Planner, Quantiles, Waves, budget_uses, lint, lint_revision,
    plan_from_json, plan_to_json,
};
use migrate_sim::SimCluster;
use serde_json::json;

use crate::failure::Failure;
use crate::links::LinkFlags;

/// Longer tables are cut.
const ROWS: usize = 40;
/// Those of the program, so that both forecast the same.
const DRAWS: Draws = Draws::new(1);

/// Plan an upgrade; nothing is changed.
#[derive(Debug, Parser)]
#[command(name = "plan", version)]
struct Cli {
    /// The cluster from a file instead of an API.
    #[arg(long, value_name = "FILE.json", conflicts_with = "kubeconfig")]
    model: Option<PathBuf>,
    /// The cluster that a kubeconfig names.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Policy, see docs/policy.toml.
    #[arg(long, value_name = "FILE.toml")]
    policy: Option<PathBuf>,
    /// Version to reach; the next minor if left out.
    #[arg(long, value_name = "VERSION")]
    to: Option<KubeVersion>,
    /// Predict a kubeadm cluster that is changed in place, as the program does with its
    /// flag of this name: a history of such runs goes with it.
    #[arg(long)]
    kubeadm: bool,
    /// Forecast from what earlier runs took, which the program keeps in this file
    /// (`--history`); windows, too, go by that.
    #[arg(long, value_name = "FILE.jsonl")]
    history: Option<PathBuf>,
    #[command(flatten)]
    links: LinkFlags,
    /// Write the cluster that was observed to this file, for `--model`.
    #[arg(long, value_name = "FILE.json")]
    dump: Option<PathBuf>,
    /// Write the plan as a self-contained HTML page to this file.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Figures and starts as JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Also what is taken of each disruption budget.
    #[arg(long)]
    budgets: bool,
    /// What is another than in this plan, which `--plan` wrote; as JSON with `--json`.
    #[arg(long, value_name = "FILE.json")]
    diff: Option<PathBuf>,
    /// Write the plan as a Mermaid chart to this file.
    #[arg(long, value_name = "FILE.mmd")]
    mermaid: Option<PathBuf>,
    /// Also bars over time, as wide as COLUMNS says.
    #[arg(long)]
    timeline: bool,
    /// Also the plan cut into waves, and what gates between them would cost.
    #[arg(long)]
    waves: bool,
    /// Write the plan itself to this file.
    #[arg(long, value_name = "FILE.json")]
    plan: Option<PathBuf>,
    /// Plan nothing: say what the linter finds in this plan, which `--plan` wrote and somebody
    /// may have edited, for the cluster as it is. Exit code 1 for a blocker.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["budgets", "diff", "html", "mermaid", "plan", "timeline", "waves"])]
    lint: Option<PathBuf>,
    /// The plan that it replaces, or was before it was edited: also says which pinned nodes left
    /// their places.
    #[arg(long, value_name = "FILE.json", requires = "lint")]
    parent: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.links.measure_links && cli.kubeconfig.is_none() {
        let error = Cli::command().error(
            ErrorKind::MissingRequiredArgument,
            "--measure-links asks a cluster: give --kubeconfig",
        );
        error.exit();
    }
    run(&cli).await.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let policy = policy(cli)?;
    let history = history(cli)?;
    let model = model(cli).await?;
    let asked = match &cli.kubeconfig {
        Some(path) if cli.links.measure_links => Some(client(path).await?),
        _ => None,
    };
    let link = cli.links.link(asked.as_ref()).await?;
    if let Some(path) = &cli.dump {
        files::write(path, &serde_json::to_string_pretty(&model)?)?;
    }
    if let Some(path) = &cli.lint {
        return linted(cli, path, &model, &policy);
    }
    // What it is about the cluster is in that file.
    let about = |failure: Failure| match &cli.model {
        Some(path) => Failure::new(path.display(), failure),
        None => failure,
    };
    let target = match &cli.to {
        Some(target) => target.clone(),
        None => next_minor(&model).map_err(about)?,
    };
    let beliefs = history
        .as_ref()
        .map_or_else(Beliefs::default, Beliefs::learned);
    let durations = match cli.kubeadm {
        true => PhaseDurations::kubeadm(),
        false => PhaseDurations::default(),
    };
    let mut planner = Planner::new(&model, &policy, target)
        .with_durations(durations)
        .with_improvement_by_size();
    if history.is_some() {
        planner = planner.with_beliefs(&beliefs);
    }
    if let Some(link) = &link {
        planner = planner.with_link(link.clone());
    }
    let begun = tokio::time::Instant::now();
    let plan = planner.plan().map_err(|error| about(error.into()))?;
    let took = begun.elapsed();
    if let Some(path) = &cli.plan {
        files::write(path, &plan_to_json(&plan)?)?;
    }
    let forecast = Forecaster::of_plan(&model, &policy, &plan, &beliefs, &DRAWS)?;
    let forecast = forecast.map(|forecast| forecast.makespan);
    let stuck = beliefs.stuck_in(&plan);
    let found = lint(&plan, &model, &policy);
    let mut what_ifs = Vec::new();
    if !cli.json || cli.html.is_some() {
        for (words, change) in changes(&plan, &model, &policy, link.as_ref()) {
            what_ifs.push((words, planner.what_if_beside(&plan, &change)?));
        }
    }
    if let Some(path) = &cli.html {
        let page = PlanPage::new(&plan)
            .with_cluster(&model, &policy)
            .with_forecast(forecast)
            .with_what_ifs(&what_ifs)
            .with_findings(&found);
        files::write(path, &page.to_string())?;
    }
    if let Some(path) = &cli.mermaid {
        files::write(path, &PlanMermaid::new(&plan).to_string())?;
    }
    if let Some(path) = &cli.diff {
        let diff = PlanDiff::between(&plan_of(path)?, &plan);
        match cli.json {
            true => println!("{:#}", json!(diff)),
            false => println!("{}", DiffTable::new(&diff).with_rows(ROWS)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cli.json {
        let mut figures = figures(&plan, forecast, took);
        if forecast.is_some() && !stuck.is_empty() {
            figures["forecast_seconds"]["stuck"] = json!(stuck);
        }
        if let Some(link) = &link {
            let faster = planner.what_if_beside(&plan, &twice_as_fast(link))?.after;
            figures["link"] = of_link(&plan, link, faster);
        }
        println!("{figures:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let table = PlanTable::new(&plan)
        .with_forecast(forecast)
        .with_stuck(&stuck);
    println!("{}", table.with_rows(ROWS));
    if let Some(history) = &history {
        let runs: BTreeSet<&str> = history.lines.iter().map(|line| line.run.as_str()).collect();
        let (actions, runs) = (history.lines.len(), runs.len());
        println!("the forecast goes by {actions} actions of {runs} earlier runs\n");
    }
    if let Some(link) = &link {
        println!("{}\n", links::told(link));
    }
    for finding in found {
        println!("{finding}");
    }
    if cli.budgets {
        let uses = budget_uses(&plan, &model, &policy);
        println!("\n{}", BudgetTable::new(&uses).with_rows(ROWS));
    }
    if cli.timeline {
        let columns = std::env::var("COLUMNS").ok();
        let columns = columns.and_then(|columns| columns.parse().ok());
        let timeline = PlanTimeline::new(&plan).with_cluster(&model, &policy);
        let timeline = timeline.with_width(columns.unwrap_or(100));
        println!("\n{}", timeline.with_rows(ROWS));
    }
    if cli.waves {
        println!("\n{}", Waves::new(&plan, &model, &policy));
    }
    for (words, what_if) in what_ifs {
        let (before, after) = (minutes(what_if.before), minutes(what_if.after));
        let held = held_back(&what_if.plan);
        println!("what if {words}: {after:.1} min instead of {before:.1} min{held}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the linter finds in the plan of a file.
fn linted(
    cli: &Cli,
    path: &Path,
    model: &ClusterModel,
    policy: &Policy,
) -> Result<ExitCode, Failure> {
    let plan = plan_of(path)?;
    let found = match &cli.parent {
        Some(parent) => lint_revision(&plan, &plan_of(parent)?, model, policy),
        None => lint(&plan, model, policy),
    };
    if cli.json {
        println!("{:#}", json!(found));
    } else if found.is_empty() {
        println!("nothing found in plan {}", plan.id);
    } else {
        found.iter().for_each(|finding| println!("{finding}"));
    }
    Ok(match found.iter().any(Finding::blocks) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn plan_of(path: &Path) -> Result<Plan, Failure> {
    let plan = plan_from_json(&files::text(path)?);
    plan.map_err(|error| Failure::new(path.display(), error))
}

fn policy(cli: &Cli) -> Result<Policy, Failure> {
    let Some(path) = &cli.policy else {
        return Ok(Policy::default());
    };
    let policy = policy_from_toml(&files::text(path)?);
    policy.map_err(|error| Failure::new(path.display(), error))
}

/// What earlier runs took, if a file says so.
fn history(cli: &Cli) -> Result<Option<History>, Failure> {
    let Some(path) = &cli.history else {
        return Ok(None);
    };
    let history = History::from_text(&files::text(path)?);
    let history = history.map_err(|error| Failure::new(path.display(), error))?;
    Ok(Some(history))
}

async fn model(cli: &Cli) -> Result<ClusterModel, Failure> {
    if let Some(path) = &cli.model {
        let model = ClusterModel::from_json(&files::text(path)?);
        return model.map_err(|error| Failure::new(path.display(), error));
    }
    if let Some(path) = &cli.kubeconfig {
        let client = client(path).await?;
        return Ok(observe(&client, TokioClock::system().now()).await?);
    }
    // The embedded cluster lives in virtual time; planning is measured in real time.
    tokio::time::pause();
    let cluster = SimCluster::demo(7).await?;
    let now = Moment::from_millis(cluster.now_ms());
    let model = observe(&cluster.client(), now).await?;
    tokio::time::resume();
    Ok(model)
}

async fn client(path: &Path) -> Result<kube::Client, Failure> {
    let unusable = |error: &dyn Display| {
        let cure = "name a kubeconfig of the cluster with --kubeconfig";
        Failure::new(path.display(), format!("{error}; {cure}"))
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let config = config.map_err(|error| unusable(&error))?;
    let client = migrate_kube::connect(config).map_err(|error| unusable(&error))?;
    Ok(migrate_kube::read_only(client))
}

/// What the plan has of the link; `faster` is what it would take with twice the throughput.
fn of_link(plan: &Plan, link: &Link, faster: Duration) -> serde_json::Value {
    let limits = plan.bounds.iter().flat_map(|bounds| &bounds.limits);
    let is_it = |kind: &BoundKind| matches!(kind, BoundKind::Bandwidth { link: name } if *name == link.name);
    let mut bounds = limits.filter(|limit| is_it(&limit.kind));
    json!({
        "name": link.name,
        "bytes_per_second": link.throughput,
        "latency_seconds": link.latency.as_secs_f64(),
        "bytes_per_node": link.per_node,
        "bytes_per_pod": link.per_pod,
        "lower_bound_seconds": bounds.next().map(|bound| bound.time.as_secs_f64()),
        "twice_as_fast_seconds": faster.as_secs_f64(),
    })
}

fn twice_as_fast(link: &Link) -> Change {
    Change::Link {
        name: link.name.clone(),
        throughput: BytesPerSecond(link.throughput.0.saturating_mul(2)),
    }
}

fn next_minor(model: &ClusterModel) -> Result<KubeVersion, Failure> {
    let oldest = model.oldest_api_server().ok_or_else(|| {
        Failure::plain(
            "the cluster model has no control plane, whose next version it could go to: give a \
             model that has one (docs/model.md)",
        )
    })?;
    Ok(oldest.minor_version().next().into())
}

/// What a program that compares planners asks for.
fn figures(plan: &Plan, forecast: Option<Quantiles>, took: Duration) -> serde_json::Value {
    let bounds = plan.bounds.as_ref();
    let bound = bounds.and_then(|bounds| bounds.best());
    let drains = plan.schedule.iter();
    let drains = drains.filter(|action| action.phase == Phase::Drain);
    let starts: BTreeMap<&str, f64> = drains
        .map(|action| (action.target.name(), action.start.as_secs_f64()))
        .collect();
    json!({
        "planning_seconds": took.as_secs_f64(),
        "makespan_seconds": plan.makespan().as_secs_f64(),
        "forecast_seconds": forecast.map(|forecast| json!({
            "p50": forecast.p50.as_secs_f64(),
            "p80": forecast.p80.as_secs_f64(),
            "p95": forecast.p95.as_secs_f64(),
        })),
        "lower_bound_seconds": bound.map(|bound| bound.time.as_secs_f64()),
        "moves_per_pod": plan.relocation.as_ref().map(Relocation::moves_per_pod),
        "bottleneck": bound.map(|bound| bound.kind.to_string()),
        "starts": starts,
    })
}

/// What may help with the bottleneck.
fn changes(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    link: Option<&Link>,
) -> Vec<(String, Change)> {
    let Some(bounds) = &plan.bounds else {
        return Vec::new();
    };
    match bounds.best().map(|best| &best.kind) {
        Some(BoundKind::Slots { pool } | BoundKind::Zones { pool }) => {
            let widths = bounds.widths.iter().filter(|width| width.pool == *pool);
            let wider =
                widths.flat_map(|width| [width.width + 1, width.useful.max(width.width + 1)]);
            let wider: BTreeSet<u32> = wider.collect();
            wider
                .into_iter()
                .map(|width| {
                    let pool = pool.clone();
                    let words = format!("{width} nodes of pool {pool} were away at once");
                    (words, Change::Width { pool, width })
                })
                .collect()
        }
        Some(BoundKind::Budget { budget }) => {
            let Some(budget) = BudgetKey::from_shown(budget) else {
                return Vec::new();
            };
            if budget.kind == BudgetKind::Assumed {
                return Vec::from_iter(raised(&budget, model, policy));
            }
            let words = format!("{budget} had one more replica");
            vec![(words, Change::Replicas { budget, more: 1 })]
        }
        Some(BoundKind::Bandwidth { link: name }) => {
            let links = link.into_iter().filter(|link| link.name == *name);
            let words = format!("link {name} carried twice as much");
            links
                .map(|link| (words.clone(), twice_as_fast(link)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// That `budget`, which is assumed, lets one pod more go, and all others that are assumed by
/// the same rule.
fn raised(budget: &BudgetKey, model: &ClusterModel, policy: &Policy) -> Option<(String, Change)> {
    let mut workloads = model.workloads.iter();
    let workload = workloads.find(|workload| BudgetKey::assumed(&workload.id) == *budget)?;
    let assumed = &policy.assumed_budgets;
    let max_unavailable = assumed.raised(workload.replicas, 1);
    let words = format!("assumed-budgets.max-unavailable were {max_unavailable}");
    let change = Change::Assumed { max_unavailable };
    (max_unavailable != assumed.max_unavailable).then_some((words, change))
}

/// What room keeps nodes back, if any does.
fn held_back(plan: &Plan) -> String {
    let scarce = plan.rooms.iter().map(|room| room.resource.as_str());
    let scarce: BTreeSet<&str> = scarce.collect();
    let scarce: Vec<&str> = scarce.into_iter().collect();
    match scarce.is_empty() {
        true => String::new(),
        false => format!(" (room: {})", scarce.join(", ")),
    }
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}
