//! The error of this crate.

use migrate_core::cost::CostError;
use migrate_core::skew::{PathError, PathStop, UpgradePath};
use migrate_core::{ClusterId, DocumentError, KubeVersion};

/// Why there is no plan, or why a plan cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plan or a model is of a newer release, or none at all.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// No term of the estimate may last for ever.
    #[error("no estimate: {0}")]
    Estimate(#[from] CostError),
    /// The plan contradicts itself or the model it is run on: make a new one.
    #[error("plan {plan} does not fit: {problem}; make a new plan")]
    Inconsistent {
        /// The plan.
        plan: String,
        /// What does not fit.
        problem: String,
    },
    /// There is no way from the present versions to the target, or no version to
    /// start from.
    #[error(transparent)]
    NoPath(#[from] PathError),
    /// A change is asked about that is none of this cluster.
    #[error("the cluster has no {what}; name one that the plan's table or JSON shows")]
    NoSuchThing {
        /// What is not there.
        what: String,
    },
    /// A change is asked about that no rollout can be told while it runs.
    #[error(
        "{what} cannot be changed under a rollout that runs: {reason}; ask about a plan that is \
         made anew"
    )]
    NotLive {
        /// What is to be changed.
        what: String,
        /// Why it cannot.
        reason: String,
    },
    /// A node cannot go back to that version.
    #[error("node {node} cannot go back to {target}: {reason}")]
    NoWayBack {
        /// The node.
        node: String,
        /// The version.
        target: KubeVersion,
        /// Why not.
        reason: String,
    },
    /// The plan is for another cluster.
    #[error(
        "plan {plan} is for cluster {expected}, this is cluster {found}; use the client of that \
         cluster, or plan again for this one"
    )]
    OtherCluster {
        /// The plan.
        plan: String,
        /// The cluster it was made for.
        expected: ClusterId,
        /// The cluster it was handed.
        found: ClusterId,
    },
    /// The plan was made under another policy: plan again, or restore it.
    #[error(
        "plan {plan} was made under policy {expected} and is handed policy {found}; hand it that \
         policy, or plan again under this one"
    )]
    OtherPolicy {
        /// The plan.
        plan: String,
        /// Hash of the policy it was made under.
        expected: String,
        /// Hash of the policy it was handed.
        found: String,
    },
    /// The target is more than one hop away. A plan is one hop.
    #[error("{} takes more than one hop ({path}): {}", .path.target, first_hop(.first))]
    SeveralHops {
        /// The whole way.
        path: UpgradePath,
        /// The hop to plan first.
        first: PathStop,
    },
}

fn first_hop(stop: &PathStop) -> String {
    if stop.control_plane {
        format!("plan the upgrade to {} first", stop.minor)
    } else {
        format!("bring every node to {} first", stop.minor)
    }
}
