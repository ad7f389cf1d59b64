//! The report of a drain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use migrate_core::steps::DrainOutcome;
use migrate_core::{EventKind, Finding, Severity};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What became of each node.
///
/// Shown as one sentence for each node, which names every pod that keeps it, then
/// a line for each finding that is more than information: evidence and cure.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "a node in it may not be empty"]
pub struct DrainReport {
    /// By node.
    pub nodes: BTreeMap<String, DrainOutcome>,
    /// What people should know, with cures.
    pub findings: Vec<Finding>,
    /// By node, however its drain ended: evictions that the API accepted.
    #[serde(default)]
    pub evicted: BTreeMap<String, u32>,
}

impl DrainReport {
    /// Whether every node that was to be drained is empty; true if there was
    /// none.
    pub fn all_nodes_empty(&self) -> bool {
        self.nodes
            .values()
            .all(|outcome| matches!(outcome, DrainOutcome::Empty { .. }))
    }

    /// Evictions that the API accepted, on all nodes.
    pub fn evictions(&self) -> u32 {
        self.evicted.values().sum()
    }

    /// The report itself if every node is empty.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] otherwise.
    pub fn ensure_empty(self) -> Result<Self, Error> {
        if self.all_nodes_empty() {
            return Ok(self);
        }
        Err(Error::NotEmpty(Box::new(self)))
    }

    /// Takes note of what an event tells of a drain.
    pub(super) fn note(&mut self, event: &EventKind) {
        match event {
            EventKind::Found { finding } => self.findings.push(finding.clone()),
            EventKind::PodEvicted { node, .. } => {
                *self.evicted.entry(node.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (node, outcome)) in self.nodes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{node}: {}", Told(outcome))?;
        }
        let serious = |finding: &&Finding| finding.severity != Severity::Info;
        self.findings
            .iter()
            .filter(serious)
            .try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

/// An outcome in words.
struct Told<'a>(&'a DrainOutcome);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DrainOutcome::Empty { evictions } => write!(f, "empty after {evictions} evictions"),
            DrainOutcome::NeedsConsent { pods } => {
                f.write_str("not begun, someone has to agree:")?;
                pods.iter()
                    .try_for_each(|(pod, to)| write!(f, " {pod} ({to})"))?;
                f.write_str("; agree in the policy (consent), or move them by hand")
            }
            DrainOutcome::Deadline { blocked, remaining } => {
                f.write_str("not empty in time:")?;
                let named: BTreeSet<_> = blocked.iter().map(|(pod, _)| pod).collect();
                let others: Vec<_> = remaining
                    .iter()
                    .filter(|pod| !named.contains(pod))
                    .collect();
                for (pod, why) in blocked {
                    write!(f, " {pod} ({why})")?;
                }
                for pod in &others {
                    write!(f, " {pod} (still there)")?;
                }
                if named.is_empty() && others.is_empty() {
                    f.write_str(" its pods are gone, volumes or the last look are missing")?;
                }
                f.write_str("; cure that and drain it again, or release it")
            }
            DrainOutcome::Failed { reason, .. } => f.write_str(reason),
            DrainOutcome::NoRoom { pool, away } => {
                write!(f, "not begun, pool {pool} is full with {}", away.join(", "))
            }
            DrainOutcome::NodeGone { .. } => {
                f.write_str("gone during its drain; drain what has its name now, if anything does")
            }
            DrainOutcome::Cancelled {
                cordoned: false, ..
            } => f.write_str("not begun"),
            DrainOutcome::Cancelled {
                cordoned: true,
                evictions,
            } => write!(
                f,
                "stopped after {evictions} evictions and may be cordoned; drain it again, or \
                 release it"
            ),
            other => write!(f, "{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::{AssumedBudgetPolicy, BudgetKey, BudgetLedger, ObjectName, PodId};

    use super::*;

    #[test]
    fn every_pod_that_keeps_a_node_is_named_and_so_are_the_cures() {
        let pod = |name: &str| PodId::new("shop", name, name);
        let ledger = BudgetLedger::new(AssumedBudgetPolicy::default());
        let blocked = ledger.exhausted(BudgetKey::real("shop", "sick"));
        let mut report = DrainReport::default();
        report.nodes.insert(
            "worker-1".to_owned(),
            DrainOutcome::Deadline {
                blocked: vec![(pod("sick"), blocked)],
                remaining: vec![pod("sick"), pod("stuck")],
            },
        );
        let finding = |severity, cure| {
            let object = ObjectName::namespaced("Pod", "shop", "stuck");
            Finding::new("KM-POD-203", severity, object, "it is terminating", cure)
        };
        report.findings = vec![
            finding(Severity::Warning, "look for finalizers"),
            finding(Severity::Info, "nothing"),
        ];
        for node in ["worker-1", "worker-1", "gone"] {
            let (node, pod) = (node.to_owned(), pod("moved"));
            report.note(&EventKind::PodEvicted { node, pod });
        }
        assert_eq!(report.evictions(), 3, "also on nodes that are not empty");
        let error = report.ensure_empty().unwrap_err().to_string();
        for word in [
            "shop/sick (",
            "shop/stuck (still there)",
            "look for finalizers",
        ] {
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(error.matches("shop/sick (").count(), 1, "{error}");
        assert!(!error.contains("nothing"), "{error}");
    }
}
