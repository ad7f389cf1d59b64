//! One budget's account.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DisruptionBudget, IntOrPercent, UnhealthyPodPolicy, WorkloadId};

/// Whether a budget is an object of the cluster or our assumption.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BudgetKind {
    /// A PodDisruptionBudget.
    Real,
    /// Assumed for a workload without one.
    Assumed,
}

/// Names a budget.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetKey {
    /// Real or assumed.
    pub kind: BudgetKind,
    /// Namespace.
    pub namespace: String,
    /// The PodDisruptionBudget's name, or `Kind/name` of the workload.
    pub name: String,
}

impl BudgetKey {
    /// The PodDisruptionBudget `namespace/name`.
    pub fn real(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: BudgetKind::Real,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The budget assumed for a workload.
    pub fn assumed(workload: &WorkloadId) -> Self {
        Self {
            kind: BudgetKind::Assumed,
            namespace: workload.namespace.clone(),
            name: format!("{}/{}", workload.kind, workload.name),
        }
    }

    /// The budget that is shown as `text`, as bounds of plans have it; `None` if none is.
    pub fn from_shown(text: &str) -> Option<Self> {
        [BudgetKind::Real, BudgetKind::Assumed]
            .into_iter()
            .find_map(|kind| {
                let key = text.strip_prefix(kind.shown())?.strip_prefix(' ')?;
                let (namespace, name) = key.split_once('/')?;
                Some(Self {
                    kind,
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            })
    }
}

impl BudgetKind {
    /// What stands before the name of such a budget.
    const fn shown(self) -> &'static str {
        match self {
            Self::Real => "PodDisruptionBudget",
            Self::Assumed => "assumed budget of",
        }
    }
}

impl fmt::Display for BudgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.shown();
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// A budget's numbers at one moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BudgetView {
    /// Which budget.
    pub key: BudgetKey,
    /// Healthy pods it needs.
    pub desired: u32,
    /// Healthy pods that nobody has asked to go.
    pub healthy: u32,
    /// Pods that we have asked to go and that are still there.
    pub held: u32,
    /// How many more may be asked now.
    pub allowed: u32,
}

/// Why a pod may not be evicted now, as data.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// The budget that says no; absent for a pod that nobody has seen, or that
    /// has nowhere to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetKey>,
    /// Healthy pods it needs.
    pub desired: u32,
    /// Healthy pods it has.
    pub healthy: u32,
    /// The reason.
    pub reason: BlockedReason,
}

/// The kind of [`Blocked`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum BlockedReason {
    /// Every disruption it allows is taken.
    Exhausted,
    /// Its status is behind its spec.
    NotObserved,
    /// Every other node that could host the pod is away, and these of them come
    /// back: nodes of the run.
    NowhereToGo(Vec<String>),
    /// The disruption controller cannot work it out, in its words.
    SyncFailed(String),
    /// A second budget guards the pod, which the API refuses for good.
    TwoBudgets(BudgetKey),
    /// The pod is not Ready and its budget does not let such pods go.
    UnhealthyPod,
    /// The pod has not been observed.
    Unseen,
}

impl Blocked {
    /// For a ledger of your own: `budget` says no because of `reason`, with
    /// `healthy` pods of which it needs `desired` (zeros where nobody has
    /// counted). The one of [`BudgetLedger`](crate::BudgetLedger) makes its own.
    pub fn new(budget: BudgetKey, desired: u32, healthy: u32, reason: BlockedReason) -> Self {
        Self {
            budget: Some(budget),
            desired,
            healthy,
            reason,
        }
    }

    /// Of a pod that nobody has seen: deciding about it would be a guess.
    pub fn unseen() -> Self {
        Self {
            budget: None,
            desired: 0,
            healthy: 0,
            reason: BlockedReason::Unseen,
        }
    }

    /// Of a pod that has nowhere to go until one of the nodes `away` is back.
    pub fn nowhere_to_go(away: Vec<String>) -> Self {
        Self {
            budget: None,
            desired: 0,
            healthy: 0,
            reason: BlockedReason::NowhereToGo(away),
        }
    }

    /// By `budget`, every disruption of which is taken, in the numbers of
    /// `view` as far as there are any.
    pub(super) fn exhausted(budget: BudgetKey, view: Option<BudgetView>) -> Self {
        Self {
            budget: Some(budget),
            desired: view.as_ref().map_or(0, |view| view.desired),
            healthy: view.as_ref().map_or(0, |view| view.healthy),
            reason: BlockedReason::Exhausted,
        }
    }

    pub(super) fn two_budgets(first: &BudgetKey, second: &BudgetKey) -> Self {
        Self {
            budget: Some(first.clone()),
            desired: 0,
            healthy: 0,
            reason: BlockedReason::TwoBudgets(second.clone()),
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(budget) = &self.budget {
            write!(f, "{budget}: ")?;
        }
        match &self.reason {
            BlockedReason::Exhausted => write!(
                f,
                "needs {} healthy pods and has {}",
                self.desired, self.healthy
            ),
            BlockedReason::NotObserved => f.write_str("its status is not up to date yet"),
            BlockedReason::NowhereToGo(away) => write!(
                f,
                "no other node can host it until one of {} is back",
                away.join(", ")
            ),
            BlockedReason::SyncFailed(message) => write!(f, "cannot be worked out: {message}"),
            BlockedReason::TwoBudgets(second) => write!(f, "a second budget guards it: {second}"),
            BlockedReason::UnhealthyPod => write!(
                f,
                "the pod is not Ready, and with {} of {} healthy pods such pods may not go",
                self.healthy, self.desired
            ),
            BlockedReason::Unseen => f.write_str("the pod has not been observed yet"),
        }
    }
}

/// Balance of one budget. Counts are signed because observations come in any
/// order; they are clamped where they are shown.
#[derive(Clone, Debug)]
pub(super) struct Account {
    desired: u32,
    healthy: i32,
    members: i32,
    /// Pods asked to go, and whether the object's status is to show them.
    held: BTreeMap<String, bool>,
    /// The cluster's own object, for real budgets.
    object: Option<DisruptionBudget>,
    /// The rest is for assumed budgets. Replicas of the workload.
    expected: u32,
    /// Members that no real budget matches.
    uncovered: i32,
    /// There was one, and the workload has not been whole since.
    in_force: bool,
}

impl Account {
    pub(super) fn empty() -> Self {
        Self {
            desired: 0,
            healthy: 0,
            members: 0,
            held: BTreeMap::new(),
            object: None,
            expected: 0,
            uncovered: 0,
            in_force: false,
        }
    }

    pub(super) fn assumed(expected: u32, max_unavailable: &IntOrPercent) -> Self {
        let mut account = Self::empty();
        account.expect(expected, max_unavailable);
        account
    }

    /// Takes the object's new state and gives the one before.
    pub(super) fn update(&mut self, budget: &DisruptionBudget) -> Option<DisruptionBudget> {
        self.desired = u32::try_from(budget.status.desired_healthy).unwrap_or(0);
        self.object.replace(budget.clone())
    }

    /// The cluster's own object, if it is a real budget.
    pub(super) fn object(&self) -> Option<&DisruptionBudget> {
        self.object.as_ref()
    }

    pub(super) fn expect(&mut self, expected: u32, max_unavailable: &IntOrPercent) {
        self.expected = expected;
        self.desired = expected.saturating_sub(max_unavailable.resolve_up(expected));
    }

    pub(super) fn is_unused(&self) -> bool {
        self.members == 0
    }

    /// Whether it says anything: a real budget always does, an assumed one
    /// while real budgets do not speak for the whole workload.
    pub(super) fn is_in_force(&self) -> bool {
        self.object.is_some() || self.in_force
    }

    /// `held`: asked to go, and whether the object's status is to show that.
    pub(super) fn post(&mut self, pod: &str, counts: bool, held: Option<bool>, sign: i32) {
        self.members += sign;
        if counts {
            self.healthy += sign;
        }
        if let Some(spends) = held {
            if sign > 0 {
                self.held.insert(pod.to_owned(), spends);
            } else {
                self.held.remove(pod);
            }
        }
    }

    pub(super) fn post_uncovered(&mut self, sign: i32) {
        self.uncovered += sign;
    }

    /// Draws the conclusion from what was posted.
    pub(super) fn settle(&mut self) {
        if self.uncovered > 0 {
            self.in_force = true;
        } else if self.healthy() >= self.expected {
            self.in_force = false;
        }
    }

    /// Real budgets were found for members that had none.
    pub(super) fn end_if_covered(&mut self) {
        self.in_force &= self.uncovered > 0;
    }

    /// Whether a pod that is not Ready goes without a disruption being spent.
    pub(super) fn lets_sick_pods_go(&self) -> bool {
        let Some(object) = &self.object else {
            return true;
        };
        let status = &object.status;
        match object.unhealthy_pods {
            UnhealthyPodPolicy::AlwaysAllow => true,
            UnhealthyPodPolicy::IfHealthyBudget => {
                status.current_healthy >= status.desired_healthy && status.desired_healthy > 0
            }
            UnhealthyPodPolicy::Unknown => false,
        }
    }

    fn healthy(&self) -> u32 {
        u32::try_from(self.healthy).unwrap_or(0)
    }

    /// How many more healthy pods may be asked to go.
    fn allowed(&self) -> u32 {
        let own = self.healthy().saturating_sub(self.desired);
        let Some(object) = &self.object else {
            return own;
        };
        // What we asked for and the status does not show yet.
        let outstanding = self
            .held
            .iter()
            .filter(|(pod, spends)| **spends && !object.status.disrupted_pods.contains(*pod))
            .count();
        let outstanding = u32::try_from(outstanding).unwrap_or(u32::MAX);
        let status = u32::try_from(object.status.disruptions_allowed).unwrap_or(0);
        own.min(status.saturating_sub(outstanding))
    }

    pub(super) fn blocked(&self, key: &BudgetKey, healthy_pod: bool) -> Option<Blocked> {
        let no = |reason| {
            Some(Blocked {
                budget: Some(key.clone()),
                desired: self.desired,
                healthy: self.healthy(),
                reason,
            })
        };
        if let Some(object) = &self.object {
            if !healthy_pod {
                if self.lets_sick_pods_go() {
                    return None;
                }
                // What the policy does not let go at once may still go like a
                // healthy pod, as far as the budget allows any.
                let unknown = object.unhealthy_pods == UnhealthyPodPolicy::Unknown;
                if unknown || self.allowed() == 0 {
                    return no(BlockedReason::UnhealthyPod);
                }
            }
            if !object.status.observed {
                return no(BlockedReason::NotObserved);
            }
            if let Some(message) = &object.status.sync_failed {
                return no(BlockedReason::SyncFailed(message.clone()));
            }
        } else if !healthy_pod {
            // Its going makes nothing worse.
            return None;
        }
        if self.allowed() == 0 {
            return no(BlockedReason::Exhausted);
        }
        None
    }

    pub(super) fn view(&self, key: &BudgetKey) -> BudgetView {
        BudgetView {
            key: key.clone(),
            desired: self.desired,
            healthy: self.healthy(),
            held: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            allowed: self.allowed(),
        }
    }
}
