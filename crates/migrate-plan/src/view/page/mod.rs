//! A plan as a self-contained HTML page.

mod chart;
mod tables;

use std::collections::BTreeMap;
use std::fmt;

use migrate_core::{ClusterModel, Finding, Plan, Policy, Target, listed};

use super::rows::{Row, rows};
use super::text::{counted, percent, spoken};
use super::waves::Waves;
use super::words;
use crate::html::{Block, Gantt, Page, Table, Weight};
use crate::{Quantiles, WhatIf, budget_uses};

/// How many names a line shows.
const NAMES_SHOWN: usize = 8;

/// Shows a plan as an HTML page; `to_string` gives the file.
///
/// # What it guarantees
/// - What [`Page`] does: one file, no script, nothing loaded, every name escaped.
/// - Everything that keeps the plan from being carried out stands first, with its
///   cure.
/// - Its size stays bounded for pools of any size, but for the table of nodes: a
///   large pool is one band in the chart.
#[derive(Clone, Copy, Debug)]
pub struct PlanPage<'p> {
    plan: &'p Plan,
    cluster: Option<(&'p ClusterModel, &'p Policy)>,
    undo: Option<&'p BTreeMap<Target, String>>,
    what_ifs: &'p [(String, WhatIf)],
    findings: &'p [Finding],
    forecast: Option<Quantiles>,
}

impl<'p> PlanPage<'p> {
    /// What the plan alone tells.
    pub const fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            cluster: None,
            undo: None,
            what_ifs: &[],
            findings: &[],
            forecast: None,
        }
    }

    /// Also what the cluster and the policy tell that it was made from: budgets,
    /// waves, and when no window is open, if the rollout starts when the model was taken.
    #[must_use]
    pub const fn with_cluster(mut self, model: &'p ClusterModel, policy: &'p Policy) -> Self {
        self.cluster = Some((model, policy));
        self
    }

    /// Also how each target's upgrade can be taken back, in the words of the driver.
    #[must_use]
    pub const fn with_undo(mut self, undo: &'p BTreeMap<Target, String>) -> Self {
        self.undo = Some(undo);
        self
    }

    /// Also what changes would do, each in words that go on after *if*.
    #[must_use]
    pub const fn with_what_ifs(mut self, what_ifs: &'p [(String, WhatIf)]) -> Self {
        self.what_ifs = what_ifs;
        self
    }

    /// Also findings that are not of the plan: of [`lint`](crate::lint), of checks.
    #[must_use]
    pub const fn with_findings(mut self, findings: &'p [Finding]) -> Self {
        self.findings = findings;
        self
    }

    /// Also how far to trust the predicted time, if that was forecast.
    #[must_use]
    pub const fn with_forecast(mut self, forecast: Option<Quantiles>) -> Self {
        self.forecast = forecast;
        self
    }

    /// The chart of it alone: of a plan whose schedule is what a run did, of that run.
    pub fn chart(&self) -> Gantt {
        chart::gantt(self.plan, &rows(self.plan), self.cluster)
    }

    /// The page, to be added to.
    #[must_use]
    pub fn page(&self) -> Page {
        let plan = self.plan;
        let all = rows(plan);
        let mut page = Page::new(format!("Upgrade plan {} → {}", plan.from, plan.to));
        page = self.lead(page, &all);
        if plan.is_empty() {
            return page.with_footer(self.footer());
        }
        let uses = self
            .cluster
            .map(|(model, policy)| budget_uses(plan, model, policy));
        let waves = self
            .cluster
            .map(|(model, policy)| Waves::new(plan, model, policy));
        page.with_section("Schedule", self.schedule(&all))
            .with_section("What if", tables::what_ifs(self.what_ifs))
            .with_section("Limits", tables::bounds(plan))
            .with_section("Pools", [Block::Table(tables::pools(plan))])
            .with_section(
                "Disruption budgets",
                tables::budgets(&uses.unwrap_or_default()),
            )
            .with_section("Waves", waves.iter().flat_map(tables::waves))
            .with_section("Ways back", self.ways_back())
            .with_section("Members, nodes and tasks", tables::targets(plan, &all))
            .with_section("Also found", self.remarks())
            .with_footer(self.footer())
    }

    fn lead(&self, mut page: Page, all: &[Row<'_>]) -> Page {
        let plan = self.plan;
        page = page.with_lead(Block::Small(format!(
            "Cluster {}, plan {}, revision {}",
            plan.cluster, plan.id, plan.revision
        )));
        if plan.is_empty() {
            let everything = words::everything_at(plan);
            let nothing = format!("Nothing to do: everything is at {everything}.");
            return page.with_lead(Block::Text(nothing));
        }
        let mut figures = vec![("predicted time".to_owned(), spoken(plan.makespan()))];
        if let Some(Quantiles { p50, p80, p95 }) = self.forecast {
            let shares = [
                ("half", p50),
                ("four in five", p80),
                ("nineteen in twenty", p95),
            ];
            let figure = |(share, time)| (format!("{share} take no longer"), spoken(time));
            figures.extend(shares.map(figure));
        }
        if let Some((bounds, best)) = plan.bounds.as_ref().and_then(|of| Some((of, of.best()?))) {
            figures.push(("no order is faster than".to_owned(), spoken(best.time)));
            figures.push(("above that".to_owned(), percent(bounds.gap_permille)));
        }
        figures.push((
            "to upgrade".to_owned(),
            format!(
                "{}, {}",
                counted(plan.control_plane.len(), "member"),
                counted(plan.slots.len(), "node")
            ),
        ));
        if let Some(relocation) = &plan.relocation {
            let (moves, least) = (relocation.moves_per_pod(), relocation.least_moves_per_pod());
            let what = "moves per pod".to_owned();
            figures.push((what, format!("{moves:.2} (no fewer than {least:.2})")));
        }
        page = page.with_lead(Block::Figures(figures));
        let sentences = words::bottleneck(plan).into_iter().map(sentence);
        let sentences: Vec<String> = sentences.collect();
        if !sentences.is_empty() {
            page = page.with_lead(Block::Text(sentences.join(" ")));
        }
        for finding in self.all_findings().filter(|finding| finding.blocks()) {
            page = page.with_lead(Block::finding(finding));
        }
        let never = all.iter().filter(|row| row.actions.is_empty());
        let never: Vec<String> = never.map(|row| row.target.to_string()).collect();
        if !never.is_empty() {
            let text = format!(
                "{}; what keeps them is among what is found",
                listed(&never, NAMES_SHOWN)
            );
            page = page.with_lead(Block::Note {
                weight: Weight::Bad,
                head: format!("{} cannot begin:", counted(never.len(), "target")),
                text,
            });
        }
        page
    }

    fn all_findings(&self) -> impl Iterator<Item = &'p Finding> {
        self.plan.findings.iter().chain(self.findings)
    }

    fn schedule(&self, all: &[Row<'_>]) -> Vec<Block> {
        let mut blocks = vec![Block::Gantt(chart::gantt(self.plan, all, self.cluster))];
        let start = match self.cluster {
            Some((model, _)) => format!(
                "from a start at {}, when the cluster was seen",
                model.taken_at
            ),
            None => "from the start of the rollout".to_owned(),
        };
        blocks.push(Block::Small(format!(
            "Times are predictions, {start}. Each node begins as soon as the rules let it; being \
             late is no deviation from the plan."
        )));
        blocks
    }

    /// Points of no return at once, the rest when it is asked for.
    fn ways_back(&self) -> Vec<Block> {
        let Some(undo) = self.undo.filter(|undo| !undo.is_empty()) else {
            return Vec::new();
        };
        let mut same: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
        for (target, text) in undo {
            same.entry(text).or_default().push(target);
        }
        let is_final = |text: &str| text.starts_with("POINT OF NO RETURN");
        let finals = same.iter().filter(|(text, _)| is_final(text));
        let mut blocks: Vec<Block> = finals
            .map(|(text, targets)| Block::Note {
                weight: Weight::Bad,
                head: format!("{}:", listed(targets, NAMES_SHOWN)),
                text: (*text).to_owned(),
            })
            .collect();
        let mut table = Table::new(["Target", "Way back"]);
        for (target, text) in undo.iter().filter(|(_, text)| !is_final(text)) {
            table.row([target.to_string(), text.clone()]);
        }
        if !table.is_empty() {
            let line = format!("{} can be taken back", counted(table.len(), "target"));
            blocks.push(table.folded(line));
        }
        blocks
    }

    fn remarks(&self) -> Vec<Block> {
        let others = self.all_findings().filter(|finding| !finding.blocks());
        others.map(Block::finding).collect()
    }

    fn footer(&self) -> String {
        let plan = self.plan;
        format!(
            "Made by kube-migrate under policy {} for the cluster as of model {}. The plan fixes versions, order and \
             widths; what a run does is decided anew by the same rules.",
            plan.policy_hash, plan.model_hash
        )
    }
}

impl fmt::Display for PlanPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.page().fmt(f)
    }
}

/// With a capital and a full stop.
fn sentence(words: String) -> String {
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => words,
    }
}
