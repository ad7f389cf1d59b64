//! The verification step.

use async_trait::async_trait;
use kube::Client;
use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{
    ClusterModel, PoolPolicy, StepContext, StepError, StepErrorKind, StepInput, VerifyMigration,
};
use migrate_kube::{Error, Retries};

use crate::extent::{Extent, read};
use crate::signals::{Signals, knock};
use crate::{baseline, compare};

/// Observes a cluster's health and compares it with a baseline.
///
/// Sends only reads: lists and `GET /readyz`. `observe` reads every node, pod
/// and controller; `observe_for` of a node its own pods, of workloads their
/// namespaces, and of the control plane every node and `kube-system`.
///
/// Each read is tried again by itself ([`Retries`]): an observation of many reads
/// comes through where some of them fail.
///
/// # Errors
/// An observation that is refused (403) is worth making again, as is one that
/// meets a server error: an API server that has just started answers so until
/// it has read the roles. The message names the rule, for when it stays so.
#[derive(Clone)]
pub struct ClusterHealth {
    client: Client,
}

impl ClusterHealth {
    /// Looks at the cluster behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn look(
        &self,
        cx: &StepContext,
        extent: &Extent,
        pools: &PoolPolicy,
    ) -> Result<Baseline, StepError> {
        let retries = Retries::until(&cx.cancel);
        let ((ready, time), model, signals) = futures::try_join!(
            retries.run(|| knock(&self.client)),
            read(&self.client, extent, cx.clock.now(), &retries),
            Signals::read(&self.client, extent, &retries),
        )
        .map_err(unobserved)?;
        let mut seen = baseline(&model, ready);
        seen.server_time = time;
        signals.record(&mut seen);
        record_pools(&mut seen, &model, pools);
        Ok(seen)
    }
}

#[async_trait]
impl VerifyMigration for ClusterHealth {
    async fn observe(&self, cx: &StepContext) -> Result<Baseline, StepError> {
        self.look(cx, &Extent::whole(), &PoolPolicy::default())
            .await
    }

    async fn observe_for(
        &self,
        cx: &StepContext,
        input: &StepInput,
        before: &Baseline,
        scopes: &[VerifyScope],
    ) -> Result<Baseline, StepError> {
        let extent = Extent::of(input, before, scopes);
        self.look(cx, &extent, &input.policy.pools).await
    }

    fn compare(
        &self,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
        now: &Baseline,
    ) -> Verdict {
        compare(input, scope, before, now)
    }
}

/// Which pools nodes are of that nobody knew before, where that says what version
/// they are to have.
fn record_pools(seen: &mut Baseline, model: &ClusterModel, pools: &PoolPolicy) {
    let nodes = model.nodes.iter().filter(|_| !pools.target_of.is_empty());
    for node in nodes {
        if let Some(known) = seen.nodes.get_mut(&node.name) {
            known.pool = Some(pools.pool_of(node).to_owned());
        }
    }
}

/// What a request that failed says of the cluster: a refusal (403) may pass.
pub(crate) fn unobserved(error: Error) -> StepError {
    let is_refused = matches!(error, Error::Forbidden { .. });
    let mut error = StepError::from(error);
    if is_refused {
        error.kind = StepErrorKind::Unavailable;
    }
    error
}
