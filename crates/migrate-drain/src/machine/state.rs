//! State of one node's drain and of one pod in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::spread::PodMove;
use migrate_core::{Blocked, BudgetKey, Moment, Pod, PodId, WorkloadId};

use super::io::RequestId;

/// Delay before the next try: 1 s, doubled by each refusal, at most 15 s.
pub(super) fn backoff(refusals: u32) -> Duration {
    let doublings = refusals.saturating_sub(1).min(4);
    Duration::from_secs((1u64 << doublings).min(15))
}

/// A node that is being drained.
#[derive(Clone, Debug)]
pub(super) struct NodeDrain {
    /// Order of admission: the older drain is served first.
    pub(super) seq: u64,
    pub(super) stage: Stage,
    pub(super) deadline: Moment,
    /// The uid it had when it was cordoned; another one is another machine.
    pub(super) uid: Option<String>,
    pub(super) cordon: Cordon,
    pub(super) pods: BTreeMap<String, PodDrain>,
    pub(super) evictions: u32,
    /// Workloads that lost a pod here, each with one such pod.
    pub(super) touched: BTreeMap<WorkloadId, PodId>,
    /// Pods that left since the drain began and are replaced: until their
    /// workload is as ready as before, one like them may need a place.
    pub(super) left: Vec<Pod>,
    /// Volumes of pods that left since the drain began.
    pub(super) left_volumes: BTreeSet<String>,
    /// By uid of the controller.
    pub(super) landings: BTreeMap<String, Landing>,
    pub(super) waiting: Waiting,
    /// Looks that failed in a row.
    pub(super) look_failures: u32,
    /// Next try of the cordon or of the look, while one waits.
    pub(super) retry: Option<Moment>,
    /// The only pods that are asked to go, from a node that stays in use; `None`
    /// in a drain.
    pub(super) only: Option<Vec<PodMove>>,
}

/// What a drain is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Waiting for the first lists.
    New,
    /// The cordon is asked for, or waits for its next try.
    Cordoning,
    /// Pods are asked to go, or waited for.
    Draining,
    /// Everything looks done and is read once more.
    Looking,
}

/// The cordon of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cordon {
    /// When it was last confirmed.
    pub(super) at: Option<Moment>,
    /// Seen on the node since then.
    pub(super) seen: bool,
    /// Attempts in a row without a cordon.
    pub(super) failures: u32,
    /// When the last attempt failed: it may still take effect after that.
    pub(super) failed_at: Option<Moment>,
    /// How often someone else lifted it.
    pub(super) lifted: u32,
}

/// Pods of one controller that come back to the node they were moved from.
#[derive(Clone, Debug, Default)]
pub(super) struct Landing {
    /// Pods of it that we asked to go.
    pub(super) asked: u32,
    /// Pods of it that were bound here afterwards.
    pub(super) back: u32,
}

/// What was last told about waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    pub(super) pods: Vec<(PodId, Blocked)>,
    pub(super) at: Option<Moment>,
    pub(super) on: Option<String>,
}

/// A pod of a node that is being drained.
#[derive(Clone, Debug)]
pub(super) struct PodDrain {
    pub(super) id: PodId,
    pub(super) state: PodState,
    /// When it was first asked to go, or first seen going.
    pub(super) since: Option<Moment>,
    /// Refusals in a row.
    pub(super) refusals: u32,
    /// An answer is missing: it may be on its way out already.
    pub(super) unsettled: bool,
    /// Its going has been counted.
    pub(super) counted: bool,
    /// Why only this node can host it.
    pub(super) tied: Option<String>,
    /// Named in an event with this text already.
    pub(super) told: Option<String>,
}

/// What a pod is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PodState {
    /// To be asked as soon as there is room.
    Candidate,
    /// A budget says no; waits for a change of its namespace's budgets.
    Blocked(Blocked),
    /// A request is in flight.
    Asked(RequestId),
    /// The API said no, or nothing.
    Refused {
        /// Next try.
        until: Moment,
        /// The budget that said no: its change is worth a try at once.
        blocked: Option<Blocked>,
    },
    /// On its way out.
    Leaving,
    /// Its Job runs to its end.
    Finishing,
    /// Nobody asks it to go.
    Staying,
    /// Answered in a dry run.
    Answered {
        /// It could go now.
        yes: bool,
    },
}

impl PodDrain {
    pub(super) fn new(id: PodId) -> Self {
        Self {
            id,
            state: PodState::Candidate,
            since: None,
            refusals: 0,
            unsettled: false,
            counted: false,
            tied: None,
            told: None,
        }
    }

    /// The budget that keeps it, if one does.
    pub(super) fn blocked(&self) -> Option<&Blocked> {
        match &self.state {
            PodState::Blocked(blocked) => Some(blocked),
            PodState::Refused { blocked, .. } => blocked.as_ref(),
            _ => None,
        }
    }
}

impl NodeDrain {
    pub(super) fn new(seq: u64, deadline: Moment) -> Self {
        Self {
            seq,
            stage: Stage::New,
            deadline,
            uid: None,
            cordon: Cordon::default(),
            pods: BTreeMap::new(),
            evictions: 0,
            touched: BTreeMap::new(),
            left: Vec::new(),
            left_volumes: BTreeSet::new(),
            landings: BTreeMap::new(),
            waiting: Waiting::default(),
            look_failures: 0,
            retry: None,
            only: None,
        }
    }

    /// Whether `uid` is among the pods that are to go, as far as that was said.
    pub(super) fn includes(&self, uid: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|pods| pods.iter().any(|one| one.pod.uid == uid))
    }

    /// Whether pods of it are looked at: its cordon was confirmed, or it needs
    /// none.
    pub(super) fn is_open(&self) -> bool {
        self.cordon.at.is_some() || (self.only.is_some() && self.is_cordoned())
    }

    /// Whether a cordon of it was asked for.
    pub(super) fn is_taken(&self) -> bool {
        self.only.is_none() && self.stage != Stage::New
    }

    /// Whether pods may be asked to go.
    pub(super) fn is_cordoned(&self) -> bool {
        matches!(self.stage, Stage::Draining | Stage::Looking)
    }

    /// Pods that budgets keep from going.
    pub(super) fn blocked(&self) -> Vec<(PodId, Blocked)> {
        let pods = self.pods.values();
        pods.filter_map(|pod| pod.blocked().map(|b| (pod.id.clone(), b.clone())))
            .collect()
    }

    /// Whether pods are still to leave that other nodes can host.
    pub(super) fn others_remain(&self) -> bool {
        let mut pods = self.pods.values();
        pods.any(|pod| pod.tied.is_none() && pod.state != PodState::Staying)
    }

    /// Pods that are still to leave.
    pub(super) fn remaining(&self) -> Vec<PodId> {
        let pods = self.pods.values();
        pods.filter(|pod| pod.state != PodState::Staying)
            .map(|pod| pod.id.clone())
            .collect()
    }
}

/// Place of a pod in the queue: older drains first; in a drain pods that are
/// not healthy first (their going costs nothing), then by priority, lowest
/// first, then by name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank {
    pub(super) seq: u64,
    pub(super) healthy: bool,
    pub(super) priority: i32,
    pub(super) pod: PodId,
    pub(super) node: String,
}

/// What a timer is for. A timer that is not needed any more does nothing.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// A budget that the API said is exhausted may be asked again.
    Budget(BudgetKey),
    /// Look at a node: its deadline, settle time or cordon.
    Node(String),
    /// Look at a pod: its deadline or its next try.
    Pod(String, String),
    /// Look at a hold that outlived its drain.
    Hold(String),
    /// Requests may go on.
    Throttle,
    /// Look at a release.
    Release(String),
}

/// A hold without a drain: a request whose effect is not seen yet.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) until: Moment,
    /// The pod itself is gone, and only its name is in a budget's status.
    pub(super) phantom: Option<PodId>,
}

/// A budget that the API said is exhausted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed {
    pub(super) until: Moment,
    /// Refusals in a row.
    pub(super) refusals: u32,
}

/// A node that is being given back.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) deadline: Moment,
    pub(super) failures: u32,
    pub(super) retry: Option<Moment>,
    /// The cordon is as it was; this says whether that is closed.
    pub(super) restored: Option<bool>,
    /// Workloads whose pods only this node can host.
    pub(super) awaited: BTreeSet<WorkloadId>,
}
