//! Texts for people.

/// The end of a text, of so many lines at the most.
pub(crate) fn last_lines(text: &str, lines: usize) -> String {
    let skipped = text.lines().count().saturating_sub(lines);
    text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
}
