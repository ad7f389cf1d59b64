//! The verification step.

use async_trait::async_trait;
use kube::Client;
use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{StepContext, StepError, StepInput, VerifyMigration};
use migrate_kube::{ApiCall, Error, observe};

use crate::{baseline, compare};

/// Observes a cluster's health and compares it with a baseline.
///
/// Sends only reads: paged lists and `GET /readyz`.
#[derive(Clone)]
pub struct ClusterHealth {
    client: Client,
}

impl ClusterHealth {
    /// Looks at the cluster behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// `/readyz`: its status code is the contract, its text is for people.
    async fn is_ready(&self) -> Result<bool, Error> {
        let failed = |error| ApiCall::path("/readyz").failed(error);
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .map_err(|error| failed(kube::Error::HttpError(error)))?;
        match self.client.request_text(request).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code >= 500 => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

#[async_trait]
impl VerifyMigration for ClusterHealth {
    async fn observe(&self, cx: &StepContext) -> Result<Baseline, StepError> {
        let ready = self.is_ready().await?;
        let model = observe(&self.client, cx.clock.now()).await?;
        Ok(baseline(&model, ready))
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
