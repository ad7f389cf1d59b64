//! One pod in the ledger.

use super::{BudgetKey, BudgetKind};
use crate::{Labels, Pod, PodPhase, Shared, WorkloadId};

/// A pod the ledger has seen, as far as it decides here.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) workload: Option<Shared<WorkloadId>>,
    pub(super) is_healthy: bool,
    /// No budget is asked: it is going already, or has never run.
    pub(super) goes_freely: bool,
    /// Asked to go by us, answer outstanding or granted.
    pub(super) held: Option<Held>,
    /// Budgets that guard it: one or more real ones, else at most one assumed.
    pub(super) keys: Vec<BudgetKey>,
    /// The account of its whole workload, in force or not.
    pub(super) whole: Option<BudgetKey>,
}

/// A pod that was asked to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The API server takes a disruption off its real budgets for it.
    pub(super) spends: bool,
}

impl Entry {
    /// Not yet matched with any budget.
    pub(super) fn of(pod: &Pod, held: Option<Held>) -> Self {
        let started = pod.phase != PodPhase::Pending || pod.ready;
        Self {
            namespace: pod.id.namespace.clone(),
            name: pod.id.name.clone(),
            labels: pod.labels.clone(),
            workload: pod.workload.clone(),
            is_healthy: pod.is_healthy(),
            goes_freely: pod.deletion.is_some() || !started,
            held,
            keys: Vec::new(),
            whole: None,
        }
    }

    pub(super) fn counts(&self) -> bool {
        self.held.is_none() && self.is_healthy
    }

    pub(super) fn is_covered(&self) -> bool {
        self.real().next().is_some()
    }

    pub(super) fn real(&self) -> impl Iterator<Item = &BudgetKey> {
        self.keys.iter().filter(|key| key.kind == BudgetKind::Real)
    }
}
