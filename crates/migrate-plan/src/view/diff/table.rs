//! A diff as text.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use migrate_core::{KubeVersion, Target};

use super::super::text::{clock, columns};
use super::{ChangeKind, PlanDiff, TargetChange, TargetSeen};

/// Shows a diff as plain text in columns.
#[derive(Clone, Copy, Debug)]
pub struct DiffTable<'d> {
    diff: &'d PlanDiff,
    rows: usize,
}

impl<'d> DiffTable<'d> {
    /// All of `diff`.
    pub const fn new(diff: &'d PlanDiff) -> Self {
        Self {
            diff,
            rows: usize::MAX,
        }
    }

    /// At most `rows` targets; how many more there are is said.
    #[must_use]
    pub const fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Done => "at the target now",
            Self::LeftOut => "left out",
            Self::Earlier => "earlier",
            Self::Later => "later",
            Self::NowBegins => "begins now",
            Self::CannotBegin => "cannot begin any more",
            Self::Other => "changed",
        })
    }
}

impl fmt::Display for DiffTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diff = self.diff;
        let (old, new) = (&diff.before, &diff.after);
        writeln!(
            f,
            "plan {} (revision {}) -> plan {} (revision {})",
            old.id, old.revision, new.id, new.revision
        )?;
        if diff.is_empty() {
            return writeln!(f, "nothing differs");
        }
        let mut fact = |what: &str, was: &str, is: &str| {
            if was != is {
                return writeln!(f, "{what}: {was} -> {is}");
            }
            Ok(())
        };
        let bound = |time: Option<Duration>| time.map_or_else(|| "none".to_owned(), clock);
        fact("cluster", &old.cluster, &new.cluster)?;
        fact("from", &old.from.to_string(), &new.from.to_string())?;
        fact("to", &old.to.to_string(), &new.to.to_string())?;
        fact("policy", &old.policy_hash, &new.policy_hash)?;
        fact("model", &old.model_hash, &new.model_hash)?;
        fact("predicted", &clock(old.makespan), &clock(new.makespan))?;
        let bounds = (bound(old.lower_bound), bound(new.lower_bound));
        fact("no order is faster than", &bounds.0, &bounds.1)?;
        let words = |words: &Option<String>| words.clone().unwrap_or_else(|| "none".to_owned());
        fact(
            "bottleneck",
            &words(&old.bottleneck),
            &words(&new.bottleneck),
        )?;
        for pool in &diff.pools {
            let shape = |shape: Option<(u32, u32)>, to: &Option<KubeVersion>| match (shape, to) {
                (Some((nodes, width)), None) => format!("{nodes} nodes, {width} away at most"),
                (Some((nodes, width)), Some(to)) => {
                    format!("{nodes} nodes, {width} away at most, to {to}")
                }
                (None, _) => "none".to_owned(),
            };
            let name = format!("pool {}", pool.pool);
            let before = shape(pool.before, &pool.to_before);
            let after = shape(pool.after, &pool.to_after);
            writeln!(f, "{name}: {before} -> {after}")?;
        }
        self.targets(f)?;
        for finding in &diff.found {
            writeln!(f, "new: {finding}")?;
        }
        for finding in &diff.gone {
            writeln!(f, "gone: {finding}")?;
        }
        Ok(())
    }
}

impl DiffTable<'_> {
    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = &self.diff.targets;
        if changes.is_empty() {
            return Ok(());
        }
        let mut kinds: BTreeMap<ChangeKind, usize> = BTreeMap::new();
        for change in changes {
            *kinds.entry(change.kind).or_default() += 1;
        }
        let counts: Vec<String> = kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
        writeln!(f, "targets: {}\n", counts.join(", "))?;
        let header = ["TARGET", "CHANGE", "BEGAN", "BEGINS", "BY", ""];
        let header = header.map(str::to_owned).to_vec();
        let rows = changes.iter().take(self.rows).map(row);
        columns(f, &std::iter::once(header).chain(rows).collect::<Vec<_>>())?;
        match changes.len().checked_sub(self.rows) {
            Some(more @ 1..) => writeln!(f, "... and {more} more"),
            _ => Ok(()),
        }
    }
}

fn row(change: &TargetChange) -> Vec<String> {
    let start = |seen: &Option<TargetSeen>| seen.as_ref().and_then(|seen| seen.start);
    let (was, is) = (start(&change.before), start(&change.after));
    let by = match (was, is) {
        (Some(was), Some(is)) if is != was => clock(is.abs_diff(was)),
        _ => "-".to_owned(),
    };
    let seen = change.after.as_ref().or(change.before.as_ref());
    let target = seen.map_or_else(|| change.id.clone(), |seen| seen.target.to_string());
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), clock);
    let (kind, note) = (change.kind.to_string(), notes(change).join(", "));
    vec![target, kind, time(was), time(is), by, note]
}

/// What else is another.
fn notes(change: &TargetChange) -> Vec<String> {
    let (Some(was), Some(is)) = (&change.before, &change.after) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    if change.reordered {
        notes.push(format!("place {} -> {}", was.place + 1, is.place + 1));
    }
    if let (Target::Node { pool: was, .. }, Target::Node { pool: is, .. }) =
        (&was.target, &is.target)
        && was != is
    {
        notes.push(format!("pool {was} -> {is}"));
    }
    if let (Some(was), Some(is)) = (&was.from, &is.from)
        && was != is
    {
        notes.push(format!("from {was} -> {is}"));
    }
    match (&was.to, &is.to) {
        (was, is) if was == is => {}
        (_, Some(own)) => notes.push(format!("to {own} of its own")),
        (_, None) => notes.push("to the plan's version".to_owned()),
    }
    let length = |of: &TargetSeen| Some(of.end?.saturating_sub(of.start?));
    if let (Some(was), Some(is)) = (length(was), length(is))
        && was != is
    {
        notes.push(format!("takes {} -> {}", clock(was), clock(is)));
    }
    for (what, was, is) in [
        ("canary", was.canary, is.canary),
        ("left alone", was.soaks, is.soaks),
        ("hosts the runner", was.hosts_runner, is.hosts_runner),
        ("pinned", was.pinned, is.pinned),
    ] {
        match (was, is) {
            (false, true) => notes.push(format!("{what} now")),
            (true, false) => notes.push(format!("no longer {what}")),
            _ => {}
        }
    }
    notes
}
