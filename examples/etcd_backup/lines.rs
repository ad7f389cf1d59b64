//! Text for a terminal, which obeys more than letters.

use std::fmt;

use serde::Serialize;

/// Lines to be shown. Whatever is in one, it is one line, and a terminal obeys nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn add(&mut self, line: impl AsRef<str>) {
        self.0.push_str(&shown(line.as_ref()));
        self.0.push('\n');
    }

    pub(crate) fn append(&mut self, more: Self) {
        self.0.push_str(&more.0);
    }

    /// `value` as JSON, with its own ends of lines.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut lines = Self::default();
        // In JSON these stand in texts only, where they may be written like that.
        let text = serde_json::to_string_pretty(value)?;
        text.lines().for_each(|line| lines.add(line));
        Ok(lines)
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One line of `text`, with what is no letter of it as JSON writes it: what moves the cursor,
/// changes colours or titles, ends lines, turns the direction, or is not seen.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let is_unseen = matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}'
        );
        match letter.is_control() || is_unseen {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(letter))),
            false => shown.push(letter),
        }
    }
    shown
}

/// Shows one line.
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{}", shown(line.as_ref()));
}
