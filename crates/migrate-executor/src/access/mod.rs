//! What the executor itself reads and writes in a cluster.
//!
//! The five steps bring their own access. This is what is left: who the
//! cluster is, the anchor that says which run is in it, the marks of our
//! cordons, and what the rollout is told about nodes and budgets.

mod changes;
mod kube;

pub use self::kube::KubeAccess;

use async_trait::async_trait;
use futures::stream::BoxStream;
use migrate_core::{ClusterId, ClusterModel, StepError, StepInput};
use migrate_kube::{DRAINED_BY_HAND, RunMark};
use migrate_plan::Input;

/// A cluster as the executor needs it. [`KubeAccess`] is the real one; a
/// rehearsal without an API brings its own.
#[async_trait]
pub trait ClusterAccess: Send + Sync {
    /// Who the cluster is.
    async fn identity(&self) -> Result<ClusterId, StepError>;

    /// The anchor as it is now; all empty where there is none.
    async fn anchor(&self) -> Result<AnchorState, StepError>;

    /// Writes `mark` into the anchor, also over another journal of the same
    /// run. Does nothing if it is there already.
    ///
    /// # Errors
    /// `Conflict` when the anchor names another run.
    async fn claim(&self, mark: &RunMark) -> Result<(), StepError>;

    /// Takes `run` out of the anchor. Does nothing if it names another or none.
    async fn clear(&self, run: &str) -> Result<(), StepError>;

    /// The nodes that any run of ours has cordoned and not given back.
    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError>;

    /// Makes the cordon of `node` that belongs to run `from` one of run `to`.
    /// Does nothing if it is already, or is gone.
    async fn take_over(&self, node: &str, from: &str, to: &str) -> Result<(), StepError>;

    /// What is seen of nodes and budgets, assumed ones included: first
    /// everything, in one item, then changes, for as long as the stream is
    /// polled. Repeats are harmless. An error is not the end: the stream goes
    /// on when the cluster answers again.
    fn changes(&self, input: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>>;
}

/// What the anchor in the cluster says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct AnchorState {
    /// The run that has not ended.
    pub run: Option<String>,
    /// Where its journal is.
    pub journal: Option<String>,
    /// Somebody pulled the kill switch: no new action may begin.
    pub paused: bool,
}

impl AnchorState {
    /// An anchor that names no run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names `run` and its journal.
    #[must_use]
    pub fn with_run(mut self, run: impl Into<String>, journal: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self.journal = Some(journal.into());
        self
    }

    /// Sets the kill switch.
    #[must_use]
    pub fn with_paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }
}

/// A node that a run of ours has cordoned.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct MarkedNode {
    /// Node.
    pub node: String,
    /// The run.
    pub run: String,
    /// Whether somebody else had cordoned it before; it stays so afterwards.
    pub was_unschedulable: bool,
}

impl MarkedNode {
    /// `node`, cordoned by `run`.
    pub fn new(node: impl Into<String>, run: impl Into<String>, was_unschedulable: bool) -> Self {
        Self {
            node: node.into(),
            run: run.into(),
            was_unschedulable,
        }
    }
}

/// The model from which to plan when a run is to be adopted: cordons of ours
/// are left out, for the new run takes them over. In the plan of any other run
/// they would count as somebody else's, for which it has to wait.
///
/// # Errors
/// Those of [`ClusterAccess::marked_nodes`].
pub async fn adoptable_model(
    access: &dyn ClusterAccess,
    mut model: ClusterModel,
) -> Result<ClusterModel, StepError> {
    let marked_nodes = access.marked_nodes().await?;
    for marked in marked_nodes
        .into_iter()
        .filter(|marked| marked.run != DRAINED_BY_HAND)
    {
        for node in model
            .nodes
            .iter_mut()
            .filter(|node| node.name == marked.node)
        {
            node.unschedulable &= marked.was_unschedulable;
        }
    }
    Ok(model)
}
