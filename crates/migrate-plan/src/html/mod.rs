//! Self-contained HTML pages: of plans, of runs, of a tool of your own.
//!
//! A [`Page`] is data: headings, text, figures, tables, a chart. All of it is
//! plain text until it is shown, and escaped then, so that no name of a cluster
//! can become markup.
//!
//! # What it guarantees
//! - One file: no script, no font, no picture, no link from elsewhere; a policy in
//!   its head forbids a browser to load or run any.
//! - Light and dark by what the reader prefers; it prints well.
//! - Equal pages give equal bytes.

mod escape;
mod gantt;
mod table;

use std::fmt;

use migrate_core::{Finding, Severity};

pub use gantt::{Gantt, GanttBar, GanttGroup, GanttRow, Tone};
pub use table::Table;

use escape::Escaped;

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded, nothing is run; the one style sheet is in the page.
const SECURITY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// An HTML page. `to_string` gives the file.
///
/// ```
/// use migrate_plan::html::{Block, Page, Table};
///
/// let mut nodes = Table::new(["Node", "State"]);
/// nodes.row(["<b>worker-1</b>", "done"]);
/// let page = Page::new("My run").with_section("Nodes", [Block::Table(nodes)]);
/// assert!(page.to_string().contains("&lt;b&gt;worker-1&lt;/b&gt;"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// Title and first heading.
    pub title: String,
    /// What stands before the first section.
    pub lead: Vec<Block>,
    /// Sections with their headings.
    pub sections: Vec<(String, Vec<Block>)>,
    /// The last line.
    pub footer: String,
}

/// A part of a page.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A paragraph that may be passed over.
    Small(String),
    /// A few figures, each with what it is.
    Figures(Vec<(String, String)>),
    /// Something to be looked at.
    Note {
        /// How much it matters.
        weight: Weight,
        /// What it is about, in a few words.
        head: String,
        /// What is to be said.
        text: String,
    },
    /// Rows and columns.
    Table(Table),
    /// Bars over time.
    Gantt(Gantt),
    /// Blocks that show when their line is opened.
    Folded {
        /// The line.
        line: String,
        /// What is under it.
        blocks: Vec<Self>,
    },
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Weight {
    /// Good to know.
    Info,
    /// May hurt.
    Warning,
    /// Is in the way.
    Bad,
}

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            lead: Vec::new(),
            sections: Vec::new(),
            footer: String::new(),
        }
    }

    /// With `block` at the end of what stands before the first section.
    #[must_use]
    pub fn with_lead(mut self, block: Block) -> Self {
        self.lead.push(block);
        self
    }

    /// With one more section; without blocks there is none.
    #[must_use]
    pub fn with_section(
        mut self,
        heading: impl Into<String>,
        blocks: impl IntoIterator<Item = Block>,
    ) -> Self {
        let blocks: Vec<Block> = blocks.into_iter().collect();
        if !blocks.is_empty() {
            self.sections.push((heading.into(), blocks));
        }
        self
    }

    /// With `text` as the last line.
    #[must_use]
    pub fn with_footer(mut self, text: impl Into<String>) -> Self {
        self.footer = text.into();
        self
    }
}

impl Block {
    /// What a finding says, with its cure; one that nobody has waived stands out.
    pub fn finding(finding: &Finding) -> Self {
        let weight = match finding.severity {
            Severity::Blocker if finding.blocks() => Weight::Bad,
            Severity::Blocker | Severity::Warning => Weight::Warning,
            Severity::Info => Weight::Info,
        };
        let waived = if finding.waived { " (waived)" } else { "" };
        Self::Note {
            weight,
            head: format!("{}{waived} {}:", finding.code, finding.object),
            text: format!("{}. Cure: {}.", finding.evidence, finding.cure),
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = Escaped(&self.title);
        writeln!(f, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>")?;
        writeln!(f, "<meta charset=\"utf-8\">")?;
        writeln!(
            f,
            "<meta http-equiv=\"Content-Security-Policy\" content=\"{SECURITY}\">"
        )?;
        writeln!(
            f,
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        )?;
        writeln!(f, "<title>{title}</title>\n<style>\n{STYLE}</style>")?;
        writeln!(f, "</head>\n<body>\n<h1>{title}</h1>")?;
        write_all(&self.lead, f)?;
        for (heading, blocks) in &self.sections {
            writeln!(f, "<h2>{}</h2>", Escaped(heading))?;
            write_all(blocks, f)?;
        }
        if !self.footer.is_empty() {
            writeln!(f, "<footer>{}</footer>", Escaped(&self.footer))?;
        }
        writeln!(f, "</body>\n</html>")
    }
}

fn write_all(blocks: &[Block], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    blocks.iter().try_for_each(|block| write_one(block, f))
}

fn write_one(block: &Block, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match block {
        Block::Text(text) => writeln!(f, "<p>{}</p>", Escaped(text)),
        Block::Small(text) => writeln!(f, "<p class=\"dim\">{}</p>", Escaped(text)),
        Block::Figures(figures) => {
            writeln!(f, "<div class=\"cards\">")?;
            for (what, figure) in figures {
                let (what, figure) = (Escaped(what), Escaped(figure));
                writeln!(
                    f,
                    "<div class=\"card\"><b>{figure}</b><span>{what}</span></div>"
                )?;
            }
            writeln!(f, "</div>")
        }
        Block::Note { weight, head, text } => {
            let class = match weight {
                Weight::Info => "note",
                Weight::Warning => "note warning",
                Weight::Bad => "note bad",
            };
            let (head, text) = (Escaped(head), Escaped(text));
            writeln!(f, "<div class=\"{class}\"><b>{head}</b> {text}</div>")
        }
        Block::Table(table) => table.write(f),
        Block::Gantt(gantt) => gantt.write(f),
        Block::Folded { line, blocks } => {
            writeln!(f, "<details><summary>{}</summary>", Escaped(line))?;
            write_all(blocks, f)?;
            writeln!(f, "</details>")
        }
    }
}
