//! Findings: what a check has to say, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first `shown` of `all` and how many more there are: `a, b and 3 more`.
pub fn listed<T: fmt::Display>(all: impl IntoIterator<Item = T>, shown: usize) -> String {
    let mut all = all.into_iter();
    let names: Vec<String> = all
        .by_ref()
        .take(shown)
        .map(|name| name.to_string())
        .collect();
    let names = names.join(", ");
    match all.count() {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Likely to hurt; the run may start.
    Warning,
    /// The run does not start until it is cured, or waived.
    Blocker,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Blocker => "blocker",
        })
    }
}

/// Names an object of the cluster, or a file or program outside it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Kubernetes kind, or a plain word such as `File`.
    pub kind: String,
    /// Namespace; absent for what has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl ObjectName {
    /// An object without a namespace.
    pub fn cluster(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: None,
            name: name.into(),
        }
    }

    /// An object in a namespace.
    pub fn namespaced(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One thing a check found.
///
/// The code is stable (`KM-PDB-001`): people waive by it and search for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable code, `KM-` + area + three digits.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub object: ObjectName,
    /// What was seen, with counts.
    pub evidence: String,
    /// What to do about it.
    pub cure: String,
    /// Set when policy waived it; a waived finding stays in every report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waived: bool,
}

impl Finding {
    /// A finding that nobody has waived.
    pub fn new(
        code: impl Into<String>,
        severity: Severity,
        object: ObjectName,
        evidence: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            code: code.into(),
            severity,
            object,
            evidence: evidence.into(),
            cure: cure.into(),
            waived: false,
        }
    }

    /// What a plan and the checks found. Both make some of the same checks: what
    /// they found alike (code and object) is said once, in the words of the
    /// checks, which have looked at more than the model; unless the plan takes it
    /// more seriously.
    #[must_use]
    pub fn merged(planned: &[Self], found: Vec<Self>) -> Vec<Self> {
        let same = |a: &Self, b: &Self| a.code == b.code && a.object == b.object;
        let is_left = |old: &&Self| {
            let as_serious = |new: &Self| same(old, new) && new.severity >= old.severity;
            !found.iter().any(as_serious)
        };
        let left: Vec<_> = planned.iter().filter(is_left).cloned().collect();
        let is_new = |new: &Self| !left.iter().any(|old| same(old, new));
        let new: Vec<_> = found.into_iter().filter(is_new).collect();
        [left, new].concat()
    }

    /// Whether this finding keeps a run from starting.
    pub fn blocks(&self) -> bool {
        self.severity == Severity::Blocker && !self.waived
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}{} {}: {}; {}",
            self.code,
            self.severity,
            if self.waived { " (waived)" } else { "" },
            self.object,
            self.evidence,
            self.cure
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plan_and_checks_found_alike_is_said_once() {
        let finding = |severity, evidence: &str| {
            let node = ObjectName::cluster("Node", "red-1");
            Finding::new("KM-NODE-002", severity, node, evidence, "")
        };
        let said = |planned, found| {
            let planned = [finding(planned, "plan")];
            let merged = Finding::merged(&planned, vec![finding(found, "check")]);
            merged.into_iter().map(|f| f.evidence).collect::<Vec<_>>()
        };
        assert_eq!(said(Severity::Warning, Severity::Warning), ["check"]);
        assert_eq!(said(Severity::Warning, Severity::Blocker), ["check"]);
        assert_eq!(said(Severity::Blocker, Severity::Warning), ["plan"]);
    }
}
