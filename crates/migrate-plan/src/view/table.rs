//! A plan as text in columns.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use migrate_core::cost::BoundKind;
use migrate_core::{Phase, Plan, Target};

/// Shows a plan as plain text: no colours, no wrapping, times as
/// hours:minutes:seconds from the start.
#[derive(Clone, Copy, Debug)]
pub struct PlanTable<'p> {
    plan: &'p Plan,
    rows: usize,
    undo: Option<&'p BTreeMap<Target, String>>,
}

/// Begin of each phase and the end of the last.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    drain: Option<Duration>,
    upgrade: Option<Duration>,
    verify: Option<Duration>,
    confirm: Option<Duration>,
    end: Option<Duration>,
}

impl<'p> PlanTable<'p> {
    /// All of `plan`.
    pub const fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            rows: usize::MAX,
            undo: None,
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

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        writeln!(
            f,
            "plan {} (revision {}) of cluster {}: {} -> {}",
            plan.id, plan.revision, plan.cluster, plan.from, plan.to
        )?;
        if plan.is_empty() {
            return writeln!(f, "nothing to do: everything is at {}", plan.to);
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
        self.bounds(f)?;
        self.relocation(f)
    }

    /// How often pods move.
    fn relocation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(relocation) = &self.plan.relocation else {
            return Ok(());
        };
        write!(
            f,
            "{} pods move, {:.2} times each, and no placement has less than {:.2}",
            relocation.pods,
            relocation.moves_per_pod(),
            relocation.least_moves_per_pod()
        )?;
        match relocation.homeless {
            0 => writeln!(f),
            homeless => writeln!(f, "; {homeless} times a pod finds no room at once"),
        }
    }

    /// The best bound, how far the schedule is from it, and what would help.
    fn bounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bounds) = &self.plan.bounds else {
            return Ok(());
        };
        let Some(best) = bounds.best() else {
            return Ok(());
        };
        writeln!(
            f,
            "no order is faster than {}, the bottleneck is: {}; this one is {}.{} % above",
            clock(best.time),
            best.kind,
            bounds.gap_permille / 10,
            bounds.gap_permille % 10
        )?;
        if let Some(relief) = &bounds.relief {
            let what = match &relief.of {
                BoundKind::Slots { pool } => format!("one more node of pool {pool} away at once"),
                BoundKind::Capacity { .. } => {
                    "one more node like the largest of these, at the target already,".to_owned()
                }
                of => format!("one pod more that {of} lets go at once"),
            };
            let saves = clock(relief.saves);
            writeln!(f, "{what} would lower that by {saves} or more")?;
        }
        Ok(())
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
        let header = ["POOL", "NODES", "TO DO", "AWAY AT MOST", "USEFUL"]
            .map(str::to_owned)
            .to_vec();
        let bounds = self.plan.bounds.as_ref();
        let widths = || bounds.into_iter().flat_map(|bounds| &bounds.widths);
        let row = |pool: &migrate_core::PlannedPool| {
            let to_do = self
                .plan
                .slots
                .iter()
                .filter(|slot| slot.pool == pool.name)
                .count();
            let nodes = pool.nodes.to_string();
            let width = match &pool.limit {
                None => pool.width.to_string(),
                Some(limit) => {
                    format!("{} ({}; {} asked)", pool.width, limit.resource, limit.asked)
                }
            };
            let useful = widths().find(|useful| useful.pool == pool.name);
            let useful = useful.map_or_else(|| "-".to_owned(), |it| it.useful.to_string());
            vec![pool.name.clone(), nodes, to_do.to_string(), width, useful]
        };
        std::iter::once(header)
            .chain(self.plan.pools.iter().map(row))
            .collect()
    }

    fn targets(&self) -> Vec<Vec<String>> {
        let mut rows: BTreeMap<&Target, Row> = BTreeMap::new();
        for action in &self.plan.schedule {
            let row = rows.entry(&action.target).or_default();
            match action.phase {
                Phase::Drain => row.drain = Some(action.start),
                Phase::Upgrade | Phase::BackUp => row.upgrade = Some(action.start),
                Phase::Confirm => row.confirm = Some(action.start),
                _ => row.verify = Some(action.start),
            }
            row.end = Some(action.end);
        }
        let members = self.plan.control_plane.iter().map(|member| {
            let target = Target::ControlPlane {
                member: member.name.clone(),
            };
            (target, Some(&member.from), String::new())
        });
        let slots = self.plan.slots.iter().map(|slot| {
            let target = Target::Node {
                pool: slot.pool.clone(),
                node: slot.node.clone(),
            };
            let note = match (slot.canary, slot.hosts_runner) {
                (true, true) => "canary, hosts the runner",
                (true, false) => "canary",
                (false, true) => "hosts the runner",
                (false, false) => "",
            };
            (target, Some(&slot.from), note.to_owned())
        });
        let tasks = self.plan.tasks.iter();
        let tasks = tasks.map(|task| (task.target.clone(), None, task.at.to_string()));
        let mut lines: Vec<_> = members
            .chain(slots)
            .chain(tasks)
            .map(|(target, from, note)| (rows.get(&target).copied(), target, from, note))
            .collect();
        // By begin; what has no time comes last. Stable, so plan order decides.
        lines.sort_by_key(|(row, ..)| {
            row.map_or(Duration::MAX, |row| {
                row.drain.or(row.upgrade).unwrap_or(Duration::MAX)
            })
        });
        let header = [
            "TARGET", "POOL", "FROM", "DRAIN", "UPGRADE", "VERIFY", "DONE", "",
        ]
        .map(str::to_owned);
        let mut table = vec![header.to_vec()];
        let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), clock);
        for (row, target, from, note) in lines.into_iter().take(self.rows) {
            let pool = match &target {
                Target::Node { pool, .. } => pool.as_str(),
                _ => "-",
            };
            let note = match row {
                None => "cannot begin".to_owned(),
                Some(Row {
                    confirm: Some(at), ..
                }) => format!("{note}, left alone until {}", clock(at)),
                Some(_) => note,
            };
            let from = from.map_or_else(|| "-".to_owned(), ToString::to_string);
            let row = row.unwrap_or_default();
            let times = [row.drain, row.upgrade, row.verify, row.end].map(time);
            let mut line = vec![target.to_string(), pool.to_owned(), from];
            line.extend(times);
            line.push(note);
            table.push(line);
            if let Some(undo) = self.undo.and_then(|undo| undo.get(&target)) {
                table.push(vec![format!("  {undo}")]);
            }
        }
        table
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

/// Hours, minutes and seconds, a begun second counted.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Pads every column to its widest cell, two blanks between. A row of one cell
/// is a remark on the row above and has no columns.
fn columns(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let of_columns = || rows.iter().filter(|row| row.len() == columns);
    let width = |column: usize| of_columns().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
