//! Times and columns of plain text.

use std::fmt;
use std::time::Duration;

/// Hours, minutes and seconds, a begun second counted.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// As people say it, as exact as it matters: `48 min`, `1 h 32 min`, `2 d 3 h`; rounded
/// up.
pub(super) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    let (minutes, hours) = (seconds.div_ceil(60), seconds.div_ceil(3600));
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 if minutes < 120 => format!("{minutes} min"),
        0..=172_799 if hours < 48 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Thousandths as a percentage with one digit.
pub(super) fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// `1 node`, `2 nodes`.
pub(super) fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// Pads every column to its widest cell, two blanks between. A row of one cell
/// is a remark on the row above and has no columns.
pub(super) fn columns(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_exactly_as_it_matters() {
        let said = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(said(119), "119 s");
        assert_eq!(said(121), "3 min");
        assert_eq!(said(7_139), "119 min");
        assert_eq!(said(7_141), "2 h 0 min");
        assert_eq!(said(5_542), "93 min");
        assert_eq!(said(172_000), "47 h 47 min");
        assert_eq!(said(172_801), "2 d 1 h");
    }
}
