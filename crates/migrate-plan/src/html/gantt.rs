//! Bars over time as an inline picture.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::escape::{Escaped, shortened};
use crate::view::{at_once, clock};

/// Units of the picture, which is as wide as the page.
const WIDTH: u32 = 1100;
const LABELS: u32 = 220;
const RIGHT: u32 = 14;
const AXIS: u32 = 24;
const ROW: u32 = 17;
const BAR: u32 = 11;
const BAND: u32 = 64;
const LABEL_CHARS: usize = 33;
/// At most so many times stand along the axis.
const TICKS: u64 = 9;
/// Steps between them, in seconds.
const STEPS: [u64; 19] = [
    1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800,
];

/// What is at work when.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Gantt {
    /// From top to bottom.
    pub groups: Vec<GanttGroup>,
    /// When nothing may begin, from and to.
    pub closed: Vec<(Duration, Duration)>,
}

/// Rows that belong together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GanttGroup {
    /// Each for itself.
    Rows {
        /// Name.
        name: String,
        /// From top to bottom.
        rows: Vec<GanttRow>,
    },
    /// How many are at work, for groups that are too large for rows.
    Band {
        /// Name.
        name: String,
        /// When each begins and ends, in any order.
        spans: Vec<(Duration, Duration)>,
        /// How many may be at work at once.
        limit: u32,
    },
}

/// A row.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GanttRow {
    /// Its name.
    pub label: String,
    /// In order.
    pub bars: Vec<GanttBar>,
}

/// A bar.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GanttBar {
    /// Its colour.
    pub tone: Tone,
    /// From the begin of the picture.
    pub start: Duration,
    /// From the begin of the picture.
    pub end: Duration,
}

/// What a bar shows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Tone {
    /// A machine is made that comes in its place.
    Provision,
    /// Pods move.
    Drain,
    /// Components change.
    Upgrade,
    /// It is looked at.
    Verify,
    /// It is left alone.
    Soak,
    /// Data are backed up.
    BackUp,
    /// It waits.
    Waiting,
    /// It failed.
    Failed,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Drain => "drain",
            Self::Upgrade => "upgrade",
            Self::Verify => "verify",
            Self::Soak => "soak",
            Self::BackUp => "backup",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

impl GanttRow {
    /// A row.
    pub fn new(label: impl Into<String>, bars: Vec<GanttBar>) -> Self {
        let label = label.into();
        Self { label, bars }
    }
}

impl GanttBar {
    /// A bar.
    pub const fn new(tone: Tone, start: Duration, end: Duration) -> Self {
        Self { tone, start, end }
    }
}

impl GanttGroup {
    fn height(&self) -> u32 {
        match self {
            Self::Rows { rows, .. } => {
                let rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                ROW.saturating_add(ROW.saturating_mul(rows))
            }
            Self::Band { .. } => ROW + BAND + 8,
        }
    }

    fn end(&self) -> Duration {
        let end = match self {
            Self::Rows { rows, .. } => rows
                .iter()
                .flat_map(|row| &row.bars)
                .map(|bar| bar.end)
                .max(),
            Self::Band { spans, .. } => spans.iter().map(|(_, end)| *end).max(),
        };
        end.unwrap_or_default()
    }

    fn tones(&self) -> BTreeSet<Tone> {
        match self {
            Self::Rows { rows, .. } => {
                let bars = rows.iter().flat_map(|row| &row.bars);
                bars.map(|bar| bar.tone).collect()
            }
            Self::Band { .. } => BTreeSet::new(),
        }
    }
}

/// From times to places.
#[derive(Clone, Copy)]
struct Scale {
    end: Duration,
}

impl Scale {
    fn x(self, at: Duration) -> f64 {
        let share = at.min(self.end).as_secs_f64() / self.end.as_secs_f64();
        f64::from(LABELS) + share * f64::from(WIDTH - LABELS - RIGHT)
    }

    /// A bar is seen however short it is.
    fn bar(self, start: Duration, end: Duration) -> (f64, f64) {
        let from = self.x(start);
        (from, (self.x(end) - from).max(1.0))
    }
}

impl Gantt {
    /// `groups`, with `closed` as the times when nothing may begin.
    pub const fn new(groups: Vec<GanttGroup>, closed: Vec<(Duration, Duration)>) -> Self {
        Self { groups, closed }
    }

    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.groups.iter().map(GanttGroup::end).max();
        let Some(end) = end.filter(|end| !end.is_zero()) else {
            return Ok(());
        };
        let scale = Scale { end };
        let heights = self.groups.iter().map(GanttGroup::height);
        let height = heights.fold(AXIS + 6, u32::saturating_add);
        self.legend(f)?;
        writeln!(
            f,
            "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"What is at work when\">"
        )?;
        for (from, to) in self.closed.iter().filter(|(from, _)| *from < end) {
            let (x, width) = scale.bar(*from, *to);
            let below = height - AXIS;
            writeln!(
                f,
                "<rect class=\"shade\" x=\"{x:.1}\" y=\"{AXIS}\" width=\"{width:.1}\" \
                 height=\"{below}\"><title>closed: nothing begins</title></rect>"
            )?;
        }
        axis(scale, height, f)?;
        let mut y = AXIS;
        for group in &self.groups {
            match group {
                GanttGroup::Rows { name, rows } => rows_of(name, rows, y, scale, f)?,
                GanttGroup::Band { name, spans, limit } => {
                    band(name, spans, *limit, y, scale, f)?;
                }
            }
            y = y.saturating_add(group.height());
        }
        writeln!(f, "</svg></div>")
    }

    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tones: BTreeSet<Tone> = self.groups.iter().flat_map(GanttGroup::tones).collect();
        write!(f, "<div class=\"legend\">")?;
        for class in tones.into_iter().map(Tone::class) {
            write!(f, "<span><i class=\"{class}\"></i>{class}</span>")?;
        }
        if !self.closed.is_empty() {
            write!(f, "<span><i class=\"closed\"></i>no window</span>")?;
        }
        writeln!(f, "</div>")
    }
}

fn axis(scale: Scale, height: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let seconds = scale.end.as_secs();
    let fits = |step: &&u64| seconds / **step <= TICKS;
    let step = STEPS.iter().find(fits).copied();
    let step = step.unwrap_or(seconds / TICKS).max(1);
    let mut at = 0;
    while at <= seconds {
        let time = Duration::from_secs(at);
        let x = scale.x(time);
        let below = AXIS - 8;
        writeln!(
            f,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{AXIS}\" x2=\"{x:.1}\" y2=\"{height}\"/>"
        )?;
        // The last one would stick out.
        if x + 30.0 < f64::from(WIDTH) {
            let time = tick(time, step);
            writeln!(
                f,
                "<text class=\"t\" x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{time}</text>"
            )?;
        }
        at = at.saturating_add(step);
    }
    Ok(())
}

/// As exact as the steps are.
fn tick(time: Duration, step: u64) -> String {
    let minutes = time.as_secs() / 60;
    let (days, hours) = (minutes / 1_440, minutes / 60 % 24);
    match step {
        86_400.. => format!("day {days}"),
        3_600.. if days > 0 => format!("{days} d {hours} h"),
        60.. => format!("{}:{:02}", minutes / 60, minutes % 60),
        _ => clock(time),
    }
}

fn rows_of(
    name: &str,
    rows: &[GanttRow],
    y: u32,
    scale: Scale,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    heading(name, y, f)?;
    let mut y = y + ROW;
    for row in rows {
        let middle = y + ROW - 5;
        let label = shortened(&row.label, LABEL_CHARS);
        let (label, full) = (Escaped(&label), Escaped(&row.label));
        writeln!(
            f,
            "<text x=\"10\" y=\"{middle}\">{label}<title>{full}</title></text>"
        )?;
        let top = y + (ROW - BAR) / 2;
        for bar in &row.bars {
            let (x, width) = scale.bar(bar.start, bar.end);
            let class = bar.tone.class();
            let (from, to) = (clock(bar.start), clock(bar.end));
            writeln!(
                f,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" \
                 height=\"{BAR}\"><title>{full}: {class} {from} – {to}</title></rect>"
            )?;
        }
        y = y.saturating_add(ROW);
    }
    Ok(())
}

fn heading(name: &str, y: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let middle = y + ROW - 5;
    let short = shortened(name, LABEL_CHARS);
    let (short, name) = (Escaped(&short), Escaped(name));
    writeln!(
        f,
        "<text class=\"g\" x=\"0\" y=\"{middle}\">{short}<title>{name}</title></text>"
    )
}

/// Of each column of the picture the most that are at work in it.
fn band(
    name: &str,
    spans: &[(Duration, Duration)],
    limit: u32,
    y: u32,
    scale: Scale,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    heading(name, y, f)?;
    let steps = at_once(spans);
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let top = y + ROW;
    let full = f64::from(most.max(limit).max(1));
    let height = |count: u32| f64::from(top + BAND) - f64::from(BAND) * f64::from(count) / full;
    let (at_most, base) = (height(limit), top + BAND);
    let mut columns: Vec<u32> = vec![0; (WIDTH - LABELS - RIGHT) as usize + 1];
    let column = |at: Duration| (scale.x(at) - f64::from(LABELS)).max(0.0) as usize;
    for (pair, next) in steps.iter().zip(steps.iter().skip(1)) {
        let last = column(next.0).min(columns.len() - 1);
        for most in &mut columns[column(pair.0).min(last)..=last] {
            *most = (*most).max(pair.1);
        }
    }
    write!(f, "<path class=\"band\" d=\"M{LABELS} {base}")?;
    let mut before = None;
    for (at, count) in (LABELS..).zip(&columns) {
        if before != Some(count) {
            write!(f, "H{at}V{:.1}", height(*count))?;
            before = Some(count);
        }
    }
    let right = WIDTH - RIGHT;
    writeln!(f, "H{right}V{base}Z\"><title>{most} at most</title></path>")?;
    writeln!(
        f,
        "<line class=\"limit\" x1=\"{LABELS}\" y1=\"{at_most:.1}\" x2=\"{right}\" \
         y2=\"{at_most:.1}\"/>"
    )?;
    for (line, text) in [
        (18, format!("{} to upgrade", spans.len())),
        (33, format!("{most} away at most")),
        (48, format!("{limit} may be (dashed)")),
    ] {
        let line = top + line;
        writeln!(f, "<text class=\"t\" x=\"10\" y=\"{line}\">{text}</text>")?;
    }
    Ok(())
}
