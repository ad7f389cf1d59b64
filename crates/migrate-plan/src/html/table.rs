//! Tables.

use std::fmt;

use super::Block;
use super::escape::Escaped;

/// Longer tables are folded, and so much of them is shown at once.
const LONG: usize = 40;
const SHORT: usize = 10;

/// Rows and columns of text.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    numbers: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows. A column whose head begins with `#` holds numbers: it is set
    /// to the right, and the `#` is not shown.
    pub fn new<'h>(head: impl IntoIterator<Item = &'h str>) -> Self {
        let head = head.into_iter().map(|head| match head.strip_prefix('#') {
            Some(head) => (head.to_owned(), true),
            None => (head.to_owned(), false),
        });
        let (head, numbers) = head.unzip();
        let rows = Vec::new();
        Self {
            head,
            numbers,
            rows,
        }
    }

    /// Adds a row; cells beyond the last column are left out.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter().map(Into::into);
        self.rows.push(cells.take(self.head.len()).collect());
    }

    /// Whether it has no rows.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows it has.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// The table under `line`, which opens it.
    #[must_use]
    pub fn folded(self, line: impl Into<String>) -> Block {
        Block::Folded {
            line: line.into(),
            blocks: vec![Block::Table(self)],
        }
    }

    /// What a page shows of it: nothing if it is empty; if it has more than 40
    /// rows, the first 10 and then all of it, folded under how many there are of `what`.
    #[must_use]
    pub fn blocks(self, what: &str) -> Vec<Block> {
        let rows = self.rows.len();
        if rows == 0 {
            return Vec::new();
        }
        if rows <= LONG {
            return vec![Block::Table(self)];
        }
        let mut short = self.clone();
        short.rows.truncate(SHORT);
        let folded = self.folded(format!("all {rows} {what}"));
        vec![Block::Table(short), folded]
    }

    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = |number: &bool| if *number { " class=\"n\"" } else { "" };
        write!(f, "<div class=\"scroll\"><table>\n<thead><tr>")?;
        for (head, number) in self.head.iter().zip(&self.numbers) {
            write!(
                f,
                "<th scope=\"col\"{}>{}</th>",
                class(number),
                Escaped(head)
            )?;
        }
        writeln!(f, "</tr></thead>\n<tbody>")?;
        for row in &self.rows {
            write!(f, "<tr>")?;
            for (cell, number) in row.iter().zip(&self.numbers) {
                write!(f, "<td{}>{}</td>", class(number), Escaped(cell))?;
            }
            writeln!(f, "</tr>")?;
        }
        writeln!(f, "</tbody>\n</table></div>")
    }
}
