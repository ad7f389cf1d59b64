//! The checks, each from what it reads to findings.

pub(crate) mod access;
pub(crate) mod actors;
pub(crate) mod api_services;
pub(crate) mod deprecated;
pub(crate) mod nodes;
pub(crate) mod services;
pub(crate) mod versions;
pub(crate) mod webhooks;

/// Codes of the findings of this crate; those about pods and budgets are in
/// [`migrate_core::impossible::codes`], those about nodes and versions that run
/// in [`migrate_core::preconditions::codes`].
pub mod codes {
    /// There is no way from the present versions to the target.
    pub const NO_PATH: &str = "KM-SKEW-002";
    /// The target is more than one hop away.
    pub const SEVERAL_HOPS: &str = "KM-SKEW-003";
    /// A webhook that fails closed has no ready backend.
    pub const HOOK_DOWN: &str = "KM-HOOK-001";
    /// It has one ready backend, which a drain takes away.
    pub const HOOK_SINGLE: &str = "KM-HOOK-002";
    /// All its backends are on one node.
    pub const HOOK_ONE_NODE: &str = "KM-HOOK-003";
    /// It is reached by URL: nothing is known of its backend.
    pub const HOOK_URL: &str = "KM-HOOK-004";
    /// An APIService is unavailable.
    pub const API_UNAVAILABLE: &str = "KM-API-001";
    /// An API is in use that the target does not serve.
    pub const API_REMOVED: &str = "KM-API-002";
    /// A deprecated API is in use that the target still serves.
    pub const API_DEPRECATED: &str = "KM-API-003";
    /// The API server offers no metrics, or there are several of which one was
    /// read, so use of deprecated APIs is unknown.
    pub const API_USE_UNKNOWN: &str = "KM-API-004";
    /// Pods behind a Service end before every proxy has heard of it.
    pub const ENDS_AT_ONCE: &str = "KM-SERVICE-001";
    /// A preStop hook takes all of the grace period.
    pub const CUT_OFF: &str = "KM-SERVICE-002";
    /// Pods behind a Service have no readiness probe.
    pub const NEVER_ASKED: &str = "KM-SERVICE-003";
    /// A permission is missing that a run needs.
    pub const RUN_FORBIDDEN: &str = "KM-RBAC-001";
    /// A permission is missing that only a check needs.
    pub const CHECK_FORBIDDEN: &str = "KM-RBAC-002";
    /// cluster-autoscaler is active.
    pub const CLUSTER_AUTOSCALER: &str = "KM-ACTOR-001";
    /// Karpenter is active.
    pub const KARPENTER: &str = "KM-ACTOR-002";
    /// A MachineHealthCheck is active.
    pub const MACHINE_HEALTH_CHECK: &str = "KM-ACTOR-003";
    /// kured is active.
    pub const KURED: &str = "KM-ACTOR-004";
    /// descheduler is active.
    pub const DESCHEDULER: &str = "KM-ACTOR-005";
}

/// What a check answers.
pub(crate) type Answer = Result<Vec<migrate_core::Finding>, migrate_kube::Error>;

/// Enough names to look at, however many there are.
pub(crate) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    migrate_core::listed(all, 5)
}
