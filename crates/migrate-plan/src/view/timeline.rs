//! A plan as bars of text, for terminals.

use std::fmt;
use std::time::Duration;

use migrate_core::{ClusterModel, Phase, Plan, PlannedAction, Policy};

use super::at_once::at_once;
use super::closed::closed;
use super::rows::{Row, rows};
use super::text::clock;

/// The narrowest that bars are drawn, however narrow the terminal is.
const LEAST: usize = 20;
/// The widest that names are shown.
const NAMES: usize = 36;
const LEGEND: &str = "d drain  U upgrade  v verify  . left alone  B backup  x no window";

/// Shows when each target of a plan is at work, as plain text: a line for each
/// target, and before them one for each pool that tells how many of it are away.
///
/// # What it guarantees
/// - No line of bars is longer than the width it was given, or than 57 if that is more.
/// - One cell is one part of the time, the same in all lines; it shows the phase
///   that has most of it. What is at work never shows as idle, however short it is.
#[derive(Clone, Copy, Debug)]
pub struct PlanTimeline<'p> {
    plan: &'p Plan,
    cluster: Option<(&'p ClusterModel, &'p Policy)>,
    width: usize,
    rows: usize,
}

impl<'p> PlanTimeline<'p> {
    /// All of `plan`, 100 characters wide.
    pub const fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            cluster: None,
            width: 100,
            rows: usize::MAX,
        }
    }

    /// Also when no window is open, if the rollout starts when the model was taken.
    #[must_use]
    pub const fn with_cluster(mut self, model: &'p ClusterModel, policy: &'p Policy) -> Self {
        self.cluster = Some((model, policy));
        self
    }

    /// No line longer than `width` characters.
    #[must_use]
    pub const fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// At most `rows` targets, the first ones; how many more there are is said.
    #[must_use]
    pub const fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

/// The time, cut into cells.
#[derive(Clone, Copy)]
struct Cells {
    count: usize,
    end: Duration,
}

impl Cells {
    /// From which cell to which, the last one included.
    fn range(self, start: Duration, end: Duration) -> (usize, usize) {
        let whole = self.end.as_millis().max(1);
        let count = self.count as u128;
        let first = start.as_millis() * count / whole;
        let last = (end.as_millis() * count).div_ceil(whole).saturating_sub(1);
        let cell = |at: u128| usize::try_from(at).unwrap_or(0).min(self.count - 1);
        let first = cell(first);
        (first, cell(last).max(first))
    }

    /// How much of cell `at` is between `start` and `end`, in parts of a cell.
    fn share(self, at: usize, start: Duration, end: Duration) -> u128 {
        let whole = self.end.as_millis();
        let (from, to) = (at as u128 * whole, (at as u128 + 1) * whole);
        let count = self.count as u128;
        let (start, end) = (start.as_millis() * count, end.as_millis() * count);
        end.min(to).saturating_sub(start.max(from))
    }

    fn bar(self, row: &Row<'_>) -> String {
        let mut most = vec![(0_u128, ' '); self.count];
        let mut draw = |mark: char, start: Duration, end: Duration| {
            let (first, last) = self.range(start, end);
            let cells = most.iter_mut().enumerate();
            for (at, (most, shown)) in cells.take(last + 1).skip(first) {
                let share = self.share(at, start, end);
                // Work shows before rest.
                let beats = match (mark, *shown) {
                    (_, ' ') => true,
                    ('.', _) => false,
                    (_, '.') => true,
                    _ => share > *most,
                };
                if beats {
                    (*most, *shown) = (share, mark);
                }
            }
        };
        let mut before = None;
        for action in &row.actions {
            let mark = match action.phase {
                Phase::Provision => 'p',
                Phase::Drain => 'd',
                Phase::Upgrade => 'U',
                Phase::BackUp => 'B',
                _ => 'v',
            };
            if let (Some(before), Phase::Confirm) = (before, action.phase) {
                draw('.', before, action.start);
            }
            draw(mark, action.start, action.end);
            before = Some(action.end);
        }
        most.into_iter().map(|(_, mark)| mark).collect()
    }

    /// The most of `spans` that are under way in each cell: a digit, or `+`.
    fn counts(self, spans: &[(Duration, Duration)]) -> String {
        let mut most = vec![0_u32; self.count];
        let steps = at_once(spans);
        for (step, next) in steps.iter().zip(steps.iter().skip(1)) {
            let (first, last) = self.range(step.0, next.0);
            for cell in &mut most[first..=last] {
                *cell = (*cell).max(step.1);
            }
        }
        let mark = |count: u32| match char::from_digit(count, 10) {
            Some('0') => ' ',
            Some(digit) => digit,
            None => '+',
        };
        most.into_iter().map(mark).collect()
    }

    fn closed(self, closed: &[(Duration, Duration)]) -> String {
        let mut cells = vec![' '; self.count];
        for (start, end) in closed {
            let (first, last) = self.range(*start, *end);
            for (at, cell) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
                if self.share(at, *start, *end) * 2 >= self.end.as_millis() {
                    *cell = 'x';
                }
            }
        }
        cells.into_iter().collect()
    }

    /// Times under the begin, the middle and the end.
    fn axis(self) -> String {
        let (middle, end) = (clock(self.end / 2), clock(self.end));
        let at = (self.count / 2).saturating_sub(middle.len() / 2);
        let mut axis = format!("{:<at$}{middle}", clock(Duration::ZERO));
        let left = self.count.saturating_sub(axis.chars().count());
        match left > end.len() {
            true => axis.push_str(&format!("{end:>left$}")),
            false => axis = format!("{:<1$}{end}", "0", self.count.saturating_sub(end.len())),
        }
        axis
    }
}

impl fmt::Display for PlanTimeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        let end = plan.makespan();
        if end.is_zero() {
            return writeln!(f, "nothing begins");
        }
        let all = rows(plan);
        let begun = all.iter().filter(|row| !row.actions.is_empty());
        let count = begun.clone().count();
        let mut lines: Vec<(String, Vec<(Duration, Duration)>)> = plan
            .pools
            .iter()
            .map(|pool| (format!("pool {}", pool.name), Vec::new()))
            .collect();
        for row in begun.clone() {
            let at = plan.pools.iter().position(|p| row.pool() == Some(&p.name));
            if let (Some(at), Some(work)) = (at, row.work()) {
                lines[at].1.push(work);
            }
        }
        lines.retain(|(_, spans)| !spans.is_empty());
        let name = |row: &Row<'_>| row.target.to_string();
        let names = lines.iter().map(|(name, _)| name.chars().count());
        let names = names.chain(
            begun
                .clone()
                .take(self.rows)
                .map(|row| name(row).chars().count()),
        );
        let label = names.max().unwrap_or(0).clamp(6, NAMES);
        let count_of = self.width.saturating_sub(label + 1).max(LEAST);
        let cells = Cells {
            count: count_of,
            end,
        };
        let mut line = |name: &str, bar: &str| {
            let name = shortened(name, label);
            let line = format!("{name:<label$} {bar}");
            writeln!(f, "{}", line.trim_end())
        };
        line("", &cells.axis())?;
        if let Some((model, policy)) = self.cluster {
            let closed = closed(&policy.rollout.calendar(), model.taken_at, end);
            if !closed.is_empty() {
                line("closed", &cells.closed(&closed))?;
            }
        }
        for (name, spans) in &lines {
            line(name, &cells.counts(spans))?;
        }
        for row in begun.take(self.rows) {
            line(&name(row), &cells.bar(row))?;
        }
        if count > self.rows {
            writeln!(f, "... and {} more", count - self.rows)?;
        }
        let never = all.len() - count;
        if never > 0 {
            writeln!(f, "{never} cannot begin")?;
        }
        let is_made = |action: &PlannedAction| action.phase == Phase::Provision;
        match plan.schedule.iter().any(is_made) {
            true => writeln!(f, "p replacement made  {LEGEND}"),
            false => writeln!(f, "{LEGEND}"),
        }
    }
}

fn shortened(name: &str, chars: usize) -> String {
    match name.char_indices().nth(chars) {
        None => name.to_owned(),
        // The end tells nodes of a pool apart.
        Some(_) => {
            let head = chars / 2 - 1;
            let tail = chars - head - 2;
            let length = name.chars().count();
            let first: String = name.chars().take(head).collect();
            let last: String = name.chars().skip(length - tail).collect();
            format!("{first}..{last}")
        }
    }
}
