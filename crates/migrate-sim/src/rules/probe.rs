//! The checker on an embedded cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{RuleChecker, RuleSettings, Violation};
use crate::api::AuditEntry;
use crate::store::{Change, ChangeKind, Store};
use crate::{SimCluster, SimClusterBuilder, SimError};

/// How long [`RuleProbe::start`] waits for a new cluster.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(600);

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

    /// Starts a cluster under the eyes of a new probe and waits until it has
    /// settled, at most [`SETTLED_WITHIN`] of its time. What happens from then
    /// on is the caller's; what happened before is judged too.
    ///
    /// ```
    /// use migrate_sim::rules::{RuleProbe, RuleSettings};
    /// use migrate_sim::{Pool, Scenario, SimCluster};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), migrate_sim::SimError> {
    /// let scenario = Scenario::new("v1.36.3").with_pool(Pool::new("general", 2));
    /// let cluster = SimCluster::builder().scenario(scenario);
    /// let (cluster, probe) = RuleProbe::start(RuleSettings::default(), cluster).await?;
    /// // ... something acts through cluster.client() ...
    /// assert!(probe.finish(&cluster.audit()).is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`SimClusterBuilder::start`] and
    /// [`SimCluster::wait_until_settled`].
    pub async fn start(
        settings: RuleSettings,
        cluster: SimClusterBuilder,
    ) -> Result<(SimCluster, Self), SimError> {
        let probe = Self::new(settings);
        let cluster = cluster.on_change(probe.observer()).start().await?;
        cluster.wait_until_settled(SETTLED_WITHIN).await?;
        Ok((cluster, probe))
    }

    /// The observer to be called after every write.
    pub fn observer(&self) -> impl FnMut(&Store, &Change) + Send + 'static {
        let checker = Arc::clone(&self.0);
        move |store, change| {
            let mut checker = checker.lock().unwrap_or_else(PoisonError::into_inner);
            checker.at_ms(store.now_ms());
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
                checker.eviction_accepted(&entry.evicted_uid);
            }
            let changed = request.resource == "nodes" && entry.is_mutating() && entry.code == 200;
            if changed {
                checker.node_written(&request.name, entry.resource_version, entry.sent_ms);
            }
        }
        checker.finish()
    }
}
