//! The checker on an embedded cluster.

use std::sync::{Arc, Mutex, PoisonError};

use super::{RuleChecker, RuleSettings, Violation};
use crate::api::AuditEntry;
use crate::store::{Change, ChangeKind, Store};

/// A [`RuleChecker`] that sees every single write of an embedded cluster.
///
/// Give [`observer`](Self::observer) to
/// [`SimClusterBuilder::on_change`](crate::SimClusterBuilder::on_change), and
/// the audit log of the cluster to [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub struct RuleProbe(Arc<Mutex<RuleChecker>>);

impl RuleProbe {
    /// A probe that has seen nothing yet.
    pub fn new(settings: RuleSettings) -> Self {
        Self(Arc::new(Mutex::new(RuleChecker::new(settings))))
    }

    /// The observer to be called after every write.
    pub fn observer(&self) -> impl FnMut(&Store, &Change) + Send + 'static {
        let checker = Arc::clone(&self.0);
        move |_, change| {
            let mut checker = checker.lock().unwrap_or_else(PoisonError::into_inner);
            let kind = change.object.resource.kind;
            match change.kind {
                ChangeKind::Deleted => checker.deleted(kind, &change.object.json),
                _ => checker.applied(kind, &change.object.json),
            }
        }
    }

    /// Every broken rule so far, given the requests the API server has seen.
    pub fn finish(&self, audit: &[AuditEntry]) -> Vec<Violation> {
        let mut checker = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for entry in audit {
            let request = &entry.request;
            let accepted =
                request.subresource == "eviction" && entry.code == 201 && !request.dry_run;
            if accepted {
                checker.eviction_accepted(&request.namespace, &request.name);
            }
        }
        checker.finish()
    }
}
