//! What a caller can act on.

use migrate_core::steps::DrainFailure;

use crate::DrainReport;

/// Why a drain or a release did not reach its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Someone asked to stop. The report says of each node how far it was: one
    /// that may be cordoned is to be released, or drained again.
    #[error("stopped: {0}")]
    Cancelled(Box<DrainReport>),
    /// Some nodes are not empty: the report says who keeps them, and the cure.
    #[error("{0}")]
    NotEmpty(Box<DrainReport>),
    /// Some nodes could not be given back: each with its reason.
    #[error("not given back: {}; cure that and release them again", list(.0))]
    NotReleased(Vec<(String, DrainFailure)>),
}

fn list(nodes: &[(String, DrainFailure)]) -> String {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|(node, reason)| format!("{node}: {reason}"))
        .collect();
    nodes.join("; ")
}
