//! The report of a drain.

use std::collections::BTreeMap;
use std::fmt;

use migrate_core::Finding;
use migrate_core::steps::DrainOutcome;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What became of each node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "a node in it may not be empty"]
pub struct DrainReport {
    /// By node.
    pub nodes: BTreeMap<String, DrainOutcome>,
    /// What people should know, with cures.
    pub findings: Vec<Finding>,
}

impl DrainReport {
    /// Whether every node is empty.
    pub fn is_empty(&self) -> bool {
        self.nodes
            .values()
            .all(|outcome| matches!(outcome, DrainOutcome::Empty { .. }))
    }

    /// Evictions that the API accepted on nodes that are empty.
    pub fn evictions(&self) -> u32 {
        self.nodes
            .values()
            .map(|outcome| match outcome {
                DrainOutcome::Empty { evictions } => *evictions,
                _ => 0,
            })
            .sum()
    }

    /// The report itself if every node is empty.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] otherwise.
    pub fn ensure_empty(self) -> Result<Self, Error> {
        if self.is_empty() {
            return Ok(self);
        }
        Err(Error::NotEmpty(Box::new(self)))
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (node, outcome)) in self.nodes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{node}: ")?;
            match outcome {
                DrainOutcome::Empty { evictions } => {
                    write!(f, "empty after {evictions} evictions")?
                }
                DrainOutcome::NeedsConsent { pods } => {
                    f.write_str("not begun, someone has to agree:")?;
                    for (pod, to) in pods {
                        write!(f, " {pod} ({to})")?;
                    }
                }
                DrainOutcome::Deadline { blocked, remaining } => {
                    write!(f, "not empty in time, {} pods remain", remaining.len())?;
                    for (pod, why) in blocked {
                        write!(f, ", {pod} ({why})")?;
                    }
                }
                DrainOutcome::Failed { reason, .. } => f.write_str(reason)?,
                DrainOutcome::NoRoom { pool, away } => {
                    write!(f, "not begun, pool {pool} is full with {}", away.join(", "))?
                }
                DrainOutcome::NodeGone { .. } => f.write_str(
                    "gone during its drain; drain what has its name now, if anything does",
                )?,
                other => write!(f, "{other:?}")?,
            }
        }
        Ok(())
    }
}
