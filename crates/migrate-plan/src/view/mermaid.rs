//! A plan as a Mermaid chart, for pages that render one.

use std::fmt;
use std::time::Duration;

use migrate_core::{Phase, Plan};

use super::rows::{Row, rows};

/// Renders of Mermaid grow slow, and unreadable, beyond this.
const ROWS: usize = 200;

/// Shows a plan as a `gantt` chart of Mermaid, a section for each pool.
///
/// # What it guarantees
/// - Names stay text: characters that mean something to Mermaid are replaced
///   by a blank or written as an entity of its own.
/// - Times are from the start of the rollout, counted from day 1, in no time zone.
/// - At most as many targets as were asked for (200 unless told otherwise), the first to begin; a
///   comment says how many more there are.
#[derive(Clone, Copy, Debug)]
pub struct PlanMermaid<'p> {
    plan: &'p Plan,
    rows: usize,
}

impl<'p> PlanMermaid<'p> {
    /// A chart of `plan`.
    pub const fn new(plan: &'p Plan) -> Self {
        Self { plan, rows: ROWS }
    }

    /// At most `rows` targets.
    #[must_use]
    pub const fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for PlanMermaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        let day = Duration::from_secs(24 * 60 * 60);
        writeln!(f, "gantt")?;
        writeln!(f, "    title Upgrade {} to {}", plan.from, plan.to)?;
        writeln!(f, "    dateFormat YYYY-MM-DDTHH:mm:ss")?;
        match plan.makespan() > day {
            true => writeln!(f, "    axisFormat day %j %H:%M")?,
            false => writeln!(f, "    axisFormat %H:%M")?,
        }
        let all = rows(plan);
        let begun: Vec<&Row<'_>> = all.iter().filter(|row| !row.actions.is_empty()).collect();
        let shown = &begun[..begun.len().min(self.rows)];
        let mut sections: Vec<Option<&str>> = Vec::new();
        for pool in shown.iter().map(|row| row.pool()) {
            if !sections.contains(&pool) {
                sections.push(pool);
            }
        }
        let mut number = 0_u32;
        for section in sections {
            match section {
                Some(pool) => {
                    let to = match plan.to_of_pool(pool) {
                        to if *to == plan.to => String::new(),
                        own => format!(" to {own}"),
                    };
                    writeln!(f, "    section pool {}{}", Name(pool), Name(&to))?;
                }
                None => writeln!(f, "    section control plane and tasks")?,
            }
            for row in shown.iter().filter(|row| row.pool() == section) {
                let name = row.target.to_string();
                for action in &row.actions {
                    number += 1;
                    let tag = match action.phase {
                        Phase::Drain => "crit, ",
                        Phase::Upgrade | Phase::BackUp => "active, ",
                        Phase::Provision => "done, ",
                        _ => "",
                    };
                    let (start, end) = (date(action.start), date(action.end));
                    let (name, phase) = (Name(&name), action.phase);
                    writeln!(f, "    {name} {phase} :{tag}a{number}, {start}, {end}")?;
                }
            }
        }
        match begun.len() - shown.len() {
            0 => Ok(()),
            more => writeln!(f, "%% and {more} more targets"),
        }
    }
}

/// Text that Mermaid takes for nothing else.
struct Name<'t>(&'t str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                // Ends a name, begins an entity or a comment, or is markup in what is drawn.
                ':' | ';' | '#' | '%' | '<' | '>' | '&' | '"' | '\'' | '`' | '{' | '}' => {
                    write!(f, "#{};", u32::from(char))?;
                }
                _ if char.is_control() => write!(f, " ")?,
                _ => write!(f, "{char}")?,
            }
        }
        Ok(())
    }
}

/// As a time after 2000-01-01, which is day 1 of a leap year; a begun second
/// counted, so that nothing is without length.
fn date(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (month, day) = month_and_day(days);
    format!(
        "2000-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn month_and_day(days: u128) -> (u128, u128) {
    let mut left = days;
    for (month, length) in (1..).zip([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if left < length {
            return (month, left + 1);
        }
        left -= length;
    }
    // A plan of more than a year is told to end with it.
    (12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_the_first_of_a_leap_year() {
        let at = |days: u64, seconds| date(Duration::from_secs(days * 86_400 + seconds));
        assert_eq!(at(0, 3_661), "2000-01-01T01:01:01");
        assert_eq!(at(59, 0), "2000-02-29T00:00:00");
        assert_eq!(at(60, 0), "2000-03-01T00:00:00");
        assert_eq!(at(400, 0), "2000-12-31T00:00:00");
    }

    #[test]
    fn a_name_is_never_more_than_a_name() {
        let name = Name("a:b;c\n%%d <i>").to_string();
        assert_eq!(name, "a#58;b#59;c #37;#37;d #60;i#62;");
    }
}
