//! What the API server was asked, and what it answered.

use super::route::RequestInfo;

/// Longest part of a request body that the log keeps, in bytes.
pub(super) const EXCERPT_BYTES: usize = 512;

/// One request that reached the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Cluster time of the answer, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Cluster time at which the client sent it, in the same unit.
    pub sent_ms: u64,
    /// The request. Its `dry_run` also counts what the body says.
    pub request: RequestInfo,
    /// Of an eviction the uid of the pod that had the name then, else empty.
    pub evicted_uid: String,
    /// Status code of the answer; also of one that a fault kept from the client.
    pub code: u16,
    /// Newest resourceVersion of the cluster when the answer was made.
    pub resource_version: u64,
    /// Start of the request body, as text.
    pub body_excerpt: String,
}

impl AuditEntry {
    /// Whether the request could change the cluster: a write that is no dry run and no review.
    pub fn is_mutating(&self) -> bool {
        let review = matches!(
            self.request.group.as_str(),
            "authorization.k8s.io" | "authentication.k8s.io"
        );
        !matches!(self.request.verb, "get" | "list" | "watch" | "options")
            && !self.request.dry_run
            && !review
    }
}
