//! The dry run's look ahead: what the API would answer to each eviction now.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use migrate_core::{ClusterModel, Plan};
use migrate_drain::{Drainer, Rehearsal, Rehearsed};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::run::Environment;
use crate::show;

/// Into how many parts the nodes go, for the progress bar.
const PARTS: usize = 20;

/// Rehearses the eviction of every pod that the plan moves, and shows what
/// would go, what would not, and what to do about it.
pub(crate) async fn show(
    cli: &Cli,
    env: &Environment,
    model: &ClusterModel,
    plan: &Plan,
) -> Result<(), Failure> {
    let nodes: Vec<&str> = plan.slots.iter().map(|slot| &*slot.node).collect();
    let drainer = Drainer::new(env.client.clone()).with_policy(env.policy.clone());
    let mut rehearser = drainer.rehearser(model);
    let bar = bar(cli, nodes.len());
    let mut pods = Vec::new();
    for part in nodes.chunks(nodes.len().div_ceil(PARTS).max(1)) {
        let part = part.iter().copied();
        bar.inc(part.len() as u64);
        pods.extend(rehearser.rehearse(part, &env.cancel).await);
    }
    bar.finish_and_clear();
    if cli.json {
        return show::json("rehearsal", &pods);
    }
    table(&pods)
}

fn bar(cli: &Cli, nodes: usize) -> ProgressBar {
    if cli.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("rehearsed nodes {bar:40} {pos}/{len}");
    ProgressBar::new(nodes as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One line for all pods that are answered alike.
fn table(pods: &[Rehearsal]) -> Result<(), Failure> {
    let mut lines: BTreeMap<Line, usize> = BTreeMap::new();
    for pod in pods {
        *lines.entry(Line::of(pod)).or_default() += 1;
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "Evictions rehearsed, each pod as if it went alone, nothing changed: {}",
        pods.len()
    )?;
    for (line, count) in lines {
        writeln!(out, "  {count:>6}  {}", line.what)?;
        if let Some(cure) = line.cure {
            writeln!(out, "          {cure}")?;
        }
    }
    writeln!(out)?;
    Ok(())
}

/// What became of some pods, and what a person can do about it.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Line {
    /// Those that go come first, those that need somebody last.
    rank: u8,
    what: String,
    cure: Option<&'static str>,
}

impl Line {
    fn of(pod: &Rehearsal) -> Self {
        let consent = match &pod.consent {
            Some(consent) => format!(", once somebody agrees: {consent}"),
            None => String::new(),
        };
        let (rank, what, cure) = match &pod.result {
            Rehearsed::Allowed => (
                u8::from(pod.consent.is_some()),
                format!("would be let go now{consent}"),
                pod.consent
                    .is_some()
                    .then_some("give consent in the policy, see [consent]"),
            ),
            Rehearsed::Gone => (2, "gone since".to_owned(), None),
            result @ Rehearsed::Waits { .. } => (3, format!("not asked: {result}"), None),
            Rehearsed::AssumedBudget { blocked } => (
                4,
                format!("blocked now by {blocked}"),
                Some("a run waits for it; policy: [assumed-budgets]"),
            ),
            Rehearsed::Budget { blocked, .. } => (
                5,
                format!("blocked now by {blocked}"),
                Some("a run waits for it; if it lasts, add a replica or loosen the budget"),
            ),
            Rehearsed::Webhook { webhook, message } => (
                6,
                format!("refused by webhook {webhook}: {message}"),
                Some("ask whoever runs the webhook; one with side effects cannot be rehearsed"),
            ),
            Rehearsed::Forbidden { message } => (
                7,
                format!("forbidden in namespace {}: {message}", pod.pod.namespace),
                Some("apply docs/rbac.yaml, or find the policy that forbids it"),
            ),
            Rehearsed::Unauthorized { message } => (
                8,
                format!("the credentials are not accepted: {message}"),
                Some("renew them, or name the right context"),
            ),
            Rehearsed::NotAsked => (9, "not asked".to_owned(), Some("run it again")),
            other => (9, format!("no answer: {other}"), Some("run it again")),
        };
        Self { rank, what, cure }
    }
}
