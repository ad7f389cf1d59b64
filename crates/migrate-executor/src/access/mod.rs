//! What the executor itself reads and writes in a cluster.
//!
//! The five steps bring their own access. This is what is left: who the
//! cluster is, the anchor that says which run is in it, the marks of our
//! cordons, and what the rollout is told about nodes and budgets.

mod changes;
mod kube;

pub use self::kube::KubeAccess;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::stream::BoxStream;
use migrate_core::{ClusterId, ClusterModel, Fence, KubeVersion, Moment, StepError, StepInput};
use migrate_kube::{Claim, DRAINED_BY_HAND, Holder, RunMark};
use migrate_plan::Input;

/// A cluster as the executor needs it. [`KubeAccess`] is the real one; a
/// rehearsal without an API brings its own.
///
/// # Errors
/// `Unavailable` and `Deadline` are for what may pass, `Forbidden` for what is
/// not allowed, with the rule to add, `Conflict` for what another run or holder
/// has. An answer that is late is given up and counts as `Deadline`, except
/// while a run is opened. While a run is opened, `Forbidden` is asked again for
/// a minute, since an API server that has just started gives it; every other
/// error, `Unavailable` too, ends the opening as
/// [`Error::Cluster`](crate::Error::Cluster), or [`Error::ApiAway`](crate::Error::ApiAway)
/// where an unfinished run is to go on. Later it is as said below.
#[async_trait]
pub trait ClusterAccess: Send + Sync {
    /// Who the cluster is. Asked only while a run is opened.
    ///
    /// # Errors
    /// As of the trait.
    async fn identity(&self) -> Result<ClusterId, StepError>;

    /// The cluster as it is at `now`, as a plan is made from it. Asked after the
    /// final verification, for how replicas stand over nodes.
    ///
    /// # Errors
    /// What may pass is asked again, five times in a row. After that, and at once
    /// for every other kind, the report says that nobody has looked.
    async fn observe(&self, now: Moment) -> Result<ClusterModel, StepError>;

    /// The anchor as it is now; all empty where there is none.
    ///
    /// # Errors
    /// Nothing begins before it could be read. What may pass is asked again
    /// after a while, `Forbidden` for a minute; after that, and at once for every
    /// other kind, this runner leaves off and the run is as it was.
    async fn anchor(&self) -> Result<AnchorState, StepError>;

    /// Takes the next epoch and writes the mark of `claim` into the anchor, also
    /// over another journal of the same run; gives the epoch. Every call takes a
    /// new one, above the anchor's and the claim's floor. `now` is when it was
    /// taken, for others to see.
    ///
    /// # Errors
    /// `Conflict` when the anchor names another run, or another holder than the
    /// lapsed one of the claim. What may pass is asked again after a while, with
    /// no end; every other kind refuses the run.
    async fn claim(&self, claim: &Claim, now: Moment) -> Result<u64, StepError>;

    /// Renews the anchor if `mark` holds it under `epoch`; gives it as it is
    /// then, ours or not.
    ///
    /// # Errors
    /// Whatever its kind, it is asked again after a while. Once the Lease may
    /// count as lapsed, drains rest and no upgrade begins until it is renewed.
    /// That somebody else holds the run is no error but the answer.
    async fn renew(
        &self,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<AnchorState, StepError>;

    /// Takes the run of `fence` out of the anchor, and its stamps and what it
    /// [prefers](Self::prefer_upgraded) from nodes. The epoch stays. Does nothing if the
    /// anchor names another run, epoch, or none.
    ///
    /// # Errors
    /// At the end of a run what may pass is tried five times. Then, and at once
    /// for every other kind, the report has the finding `KM-RUN-006`; opening the
    /// journal again clears it.
    async fn clear(&self, fence: &Fence) -> Result<(), StepError>;

    /// The node that the pod `namespace/name` is on; `None` for a pod that is not
    /// there, or on no node yet, and where nothing is known of pods.
    ///
    /// # Errors
    /// Asked when a run is opened for whoever runs in that pod: none but what may
    /// pass by itself is tried again.
    async fn node_of_pod(&self, namespace: &str, name: &str) -> Result<Option<String>, StepError> {
        let _ = (namespace, name);
        Ok(None)
    }

    /// The nodes that any run of ours has cordoned and not given back.
    ///
    /// # Errors
    /// At the end of a run as of [`clear`](Self::clear).
    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError>;

    /// Makes the cordons of every run ones of the run of `fence`, except those
    /// that people set, and sees to it that no write of an older epoch takes
    /// effect on a node from now on. Gives the nodes with its cordons. May be
    /// called again after it was done in part.
    ///
    /// # Errors
    /// What may pass is tried again after a while, after another look at the
    /// anchor; every other kind stops the run.
    async fn take_over(&self, fence: &Fence) -> Result<Vec<String>, StepError>;

    /// Has the scheduler prefer other nodes to these, as long as they have not reached the
    /// version beside them. That is over for a node once its cordon is given back, and for all
    /// once the run is [cleared](Self::clear). By default nothing is preferred.
    ///
    /// # Errors
    /// What may pass is tried five times. Then, and at once for every other kind, the run goes
    /// on without and has the finding `KM-RUN-010`.
    async fn prefer_upgraded(
        &self,
        fence: &Fence,
        nodes: &BTreeMap<String, KubeVersion>,
    ) -> Result<(), StepError> {
        let _ = (fence, nodes);
        Ok(())
    }

    /// What is there under the name of `node` now: [`Input::NodeSeen`] with its uid,
    /// or [`Input::NodeGone`]. Asked right before an upgrade of a node begins, and
    /// after one has failed.
    ///
    /// # Errors
    /// Whatever its kind, it is asked again after a while, until the deadline of
    /// the upgrade, which does not begin before. After a failure, that stands.
    async fn look_at_node(&self, node: &str) -> Result<Input, StepError>;

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
    /// The epoch of the last holder, of this run or of an earlier one; 0 before
    /// the first.
    pub epoch: u64,
    /// Who holds the run.
    pub holder: Option<Holder>,
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

    /// With the epoch of the last holder.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    /// With who holds the run.
    #[must_use]
    pub fn with_holder(mut self, holder: Option<Holder>) -> Self {
        self.holder = holder;
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
