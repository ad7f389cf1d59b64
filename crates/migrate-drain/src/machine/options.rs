//! What the machine is told before it starts.

use std::time::Duration;

use migrate_core::{AssumedBudgetPolicy, Consent, Policy};

use super::Pools;

/// Choices of a drain, most of them the operator's [`Policy`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Budgets for workloads that have none.
    pub assumed_budgets: AssumedBudgetPolicy,
    /// What may be done to pods that do not simply move.
    pub consent: Consent,
    /// One pod: from its first eviction attempt until it is gone.
    pub pod_deadline: Duration,
    /// One node: from its cordon until it is drained.
    pub drain_deadline: Duration,
    /// One node: from its release until the pods only it can host are ready.
    pub release_deadline: Duration,
    /// Grace in seconds in place of each pod's own.
    pub grace: Option<u32>,
    /// Eviction requests in flight at once, over all nodes.
    pub max_requests: usize,
    /// How long after its cordon a node is not called empty: a pod that was
    /// being bound at that moment still shows up.
    pub settle: Duration,
    /// Cordon nothing, and ask for each pod once whether it could go.
    pub dry_run: bool,
    /// Pools whose room is looked at before a node of them is first cordoned;
    /// nothing is looked at where a person names the nodes.
    pub pools: Option<Pools>,
    /// Off only in negative controls of tests: the ledger never objects.
    #[doc(hidden)]
    pub guarded: bool,
}

impl Options {
    /// The choices made by `policy`; 32 requests at once.
    pub fn new(policy: &Policy) -> Self {
        Self {
            assumed_budgets: policy.assumed_budgets.clone(),
            consent: policy.consent.clone(),
            pod_deadline: policy.deadlines.pod,
            drain_deadline: policy.deadlines.drain,
            release_deadline: policy.deadlines.verify,
            grace: None,
            max_requests: 32,
            settle: Duration::from_secs(2),
            dry_run: false,
            pools: None,
            guarded: true,
        }
    }

    /// Grace in seconds in place of each pod's own. 0 becomes 1: removing a
    /// pod before its containers have stopped lets two of one name run.
    #[must_use]
    pub fn with_grace(mut self, seconds: u32) -> Self {
        self.grace = Some(seconds.max(1));
        self
    }

    /// Requests in flight at once, at least 1.
    #[must_use]
    pub fn with_max_requests(mut self, requests: usize) -> Self {
        self.max_requests = requests.max(1);
        self
    }

    /// Takes a node only while its pool has room.
    #[must_use]
    pub fn with_pools(mut self, pools: Pools) -> Self {
        self.pools = Some(pools);
        self
    }

    /// Turns the drain into a question, or back.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(&Policy::default())
    }
}
