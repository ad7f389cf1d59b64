//! A plan as text in columns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use migrate_core::{KubeVersion, Phase, Plan, PlannedRoom, Target};

use super::rows::{Row, rows, told};
use super::text::{clock, columns};
use super::words;
use crate::{Quantiles, Stuck};

/// Shows a plan as plain text: no colours, no wrapping, times as
/// hours:minutes:seconds from the start.
#[derive(Clone, Copy, Debug)]
pub struct PlanTable<'p> {
    plan: &'p Plan,
    rows: usize,
    undo: Option<&'p BTreeMap<Target, String>>,
    forecast: Option<Quantiles>,
    stuck: &'p [Stuck],
}

impl<'p> PlanTable<'p> {
    /// All of `plan`.
    pub const fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            rows: usize::MAX,
            undo: None,
            forecast: None,
            stuck: &[],
        }
    }

    /// At most `rows` targets, the first ones; how many more there are is said.
    #[must_use]
    pub const fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Under each target that `undo` knows, how its upgrade can be taken back,
    /// in the words of the driver.
    #[must_use]
    pub const fn with_undo(mut self, undo: &'p BTreeMap<Target, String>) -> Self {
        self.undo = Some(undo);
        self
    }

    /// Also how far to trust the predicted time, if that was forecast.
    #[must_use]
    pub const fn with_forecast(mut self, forecast: Option<Quantiles>) -> Self {
        self.forecast = forecast;
        self
    }

    /// Also how likely its actions are to be stuck, which no quantile of the forecast has
    /// in it ([`Beliefs::stuck_in`](crate::Beliefs::stuck_in)); nothing where nothing was learned of that.
    #[must_use]
    pub const fn with_stuck(mut self, stuck: &'p [Stuck]) -> Self {
        self.stuck = stuck;
        self
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        writeln!(
            f,
            "plan {} (revision {}) of cluster {}: {} -> {}",
            plan.id, plan.revision, plan.cluster, plan.from, plan.to
        )?;
        if plan.is_empty() {
            let everything = words::everything_at(plan);
            return writeln!(f, "nothing to do: everything is at {everything}");
        }
        writeln!(
            f,
            "{} control-plane members and {} nodes to upgrade, {} at the target already",
            plan.control_plane.len(),
            plan.slots.len(),
            plan.at_target.len()
        )?;
        writeln!(
            f,
            "predicted {}; its limits alone come to {}, the tightest is: {}",
            clock(plan.makespan()),
            clock(self.limits()),
            plan.estimate.bottleneck
        )?;
        if let Some(Quantiles { p50, p80, p95 }) = self.forecast {
            let [p50, p80, p95] = [p50, p80, p95].map(clock);
            writeln!(
                f,
                "forecast {p50} (P50: one in two such rollouts takes longer), {p80} (P80: one in \
                 five), {p95} (P95: one in twenty)"
            )?;
        }
        let mut lines = Vec::from_iter(words::stuck(self.stuck));
        lines.extend(words::bottleneck(plan));
        lines.extend(plan.relocation.as_ref().map(words::moves));
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }

    /// The estimate without the check of the whole cluster at the end, which
    /// is no action of the plan.
    fn limits(&self) -> Duration {
        let tail = self
            .plan
            .estimate
            .terms
            .last()
            .map_or(Duration::ZERO, |term| term.duration);
        self.plan.estimate.total.saturating_sub(tail)
    }

    fn pools(&self) -> Vec<Vec<String>> {
        let header = ["POOL", "TO", "NODES", "TO DO", "AWAY AT MOST", "USEFUL"];
        let header = header.map(str::to_owned);
        let rows = std::iter::once(header).chain(pools(self.plan));
        rows.map(|row| told(self.plan, row, 1)).collect()
    }

    fn targets(&self) -> Vec<Vec<String>> {
        let header = [
            "TARGET", "POOL", "FROM", "TO", "DRAIN", "UPGRADE", "VERIFY", "DONE", "",
        ]
        .map(str::to_owned);
        let mut table = vec![told(self.plan, header, 3)];
        let version =
            |of: Option<&KubeVersion>| of.map_or_else(|| "-".to_owned(), ToString::to_string);
        for row in rows(self.plan).into_iter().take(self.rows) {
            let mut line = vec![row.target.to_string()];
            line.push(row.pool().unwrap_or("-").to_owned());
            line.extend([row.from, row.to].map(version));
            line.extend(times(&row));
            line.push(note(&row));
            table.push(told(self.plan, line, 3));
            if let Some(undo) = self.undo.and_then(|undo| undo.get(&row.target)) {
                table.push(vec![format!("  {undo}")]);
            }
        }
        table
    }
}

/// Of each pool its name, version after, nodes, nodes to do, width, and the width that
/// is of use.
pub(super) fn pools(plan: &Plan) -> impl Iterator<Item = [String; 6]> {
    let mut to_do: BTreeMap<&str, usize> = BTreeMap::new();
    for slot in &plan.slots {
        *to_do.entry(slot.pool.as_str()).or_default() += 1;
    }
    let bounds = plan.bounds.as_ref();
    let widths = move || bounds.into_iter().flat_map(|bounds| &bounds.widths);
    plan.pools.iter().map(move |pool| {
        let to_do = to_do.get(pool.name.as_str()).copied().unwrap_or(0);
        let useful = widths().find(|useful| useful.pool == pool.name);
        let useful = useful.map_or_else(|| "-".to_owned(), |it| it.useful.to_string());
        let nodes = pool.nodes.to_string();
        let scarce: BTreeSet<&str> = scarce(plan, &pool.name).collect();
        let width = match scarce.is_empty() {
            true => pool.width.to_string(),
            false => {
                let scarce: Vec<&str> = scarce.into_iter().collect();
                format!("{} (room: {})", pool.width, scarce.join(", "))
            }
        };
        let width = match pool.surge {
            0 => width,
            surge => format!("{width} + {surge} replaced"),
        };
        let to = plan.to_of_pool(&pool.name).to_string();
        [
            pool.name.clone(),
            to,
            nodes,
            to_do.to_string(),
            width,
            useful,
        ]
    })
}

/// The resources of which the plan has rooms with nodes of `pool` that it drains.
pub(crate) fn scarce<'p>(plan: &'p Plan, pool: &str) -> impl Iterator<Item = &'p str> {
    let slots = plan.slots.iter().filter(move |slot| slot.pool == pool);
    let nodes: BTreeSet<&str> = slots.map(|slot| slot.node.as_str()).collect();
    let is_of = move |room: &&PlannedRoom| {
        let mut offers = room.offers.keys();
        offers.any(|node| nodes.contains(node.as_str()))
    };
    plan.rooms
        .iter()
        .filter(is_of)
        .map(|room| room.resource.as_str())
}

/// Begin of drain, upgrade and verification, and the end of the last phase.
pub(super) fn times(row: &Row<'_>) -> [String; 4] {
    let begin = |phase| row.action(phase).map(|action| action.start);
    let upgrade = begin(Phase::Upgrade).or_else(|| begin(Phase::BackUp));
    let times = [
        begin(Phase::Drain),
        upgrade,
        begin(Phase::Verify),
        row.end(),
    ];
    times.map(|time| time.map_or_else(|| "-".to_owned(), clock))
}

/// What is to be said of a target beside its times.
pub(super) fn note(row: &Row<'_>) -> String {
    let note = match row.action(Phase::Confirm) {
        _ if row.actions.is_empty() => "cannot begin".to_owned(),
        Some(confirm) => format!("{}, left alone until {}", row.note, clock(confirm.start)),
        None => row.note.clone(),
    };
    let Some(provision) = row.action(Phase::Provision) else {
        return note;
    };
    let made = format!("replacement made from {}", clock(provision.start));
    match note.is_empty() {
        true => made,
        false => format!("{note}, {made}"),
    }
}

impl fmt::Display for PlanTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        if !self.plan.is_empty() {
            writeln!(f)?;
            columns(f, &self.pools())?;
            writeln!(f)?;
            columns(f, &self.targets())?;
            let all = self.plan.targets().count();
            if all > self.rows {
                writeln!(f, "... and {} more", all - self.rows)?;
            }
        }
        if !self.plan.findings.is_empty() {
            writeln!(f)?;
        }
        for finding in &self.plan.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}
