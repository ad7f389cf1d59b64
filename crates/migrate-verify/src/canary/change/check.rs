//! Whether a change can be made, before the start.

use async_trait::async_trait;
use migrate_core::{
    Finding, ObjectName, PrepareEnvironment, Severity, StepContext, StepError, StepInput,
    StepReport,
};
use migrate_kube::{Error, Retries};

use super::super::objects::{Kind, Metadata, Named, PODS, refusals};
use super::super::refused;
use super::{CanaryChange, SERVICES, SLICES, manifest, with_removals};

/// Whether everything can be made, seen and removed, asked by dry runs; and whether
/// a look has its time.
#[async_trait]
impl PrepareEnvironment for CanaryChange {
    async fn run(&self, _: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        let mut findings = Vec::new();
        let nodes = input.model.nodes.len();
        let (verify, needed) = (input.policy.deadlines.verify, with_removals(nodes));
        if verify < needed {
            let (verify, needed) = (verify.as_secs(), needed.as_secs());
            findings.push(Finding::new(
                "KM-CANARY-002",
                Severity::Blocker,
                ObjectName::cluster("Policy", "canary-change"),
                format!(
                    "a look at {nodes} nodes may take {needed} s, and deadlines.verify cuts it off \
                     after {verify} s"
                ),
                format!("raise deadlines.verify to {needed} s at least"),
            ));
        }
        if let Some(node) = input.model.nodes.first() {
            let refusals = self.refusals(&node.name).await?;
            if !refusals.is_empty() {
                let what = "what agents are to see";
                let found = refused("canary-change", what, self.objects.namespace(), &refusals);
                findings.push(found);
            }
        }
        Ok(StepReport::new(findings))
    }
}

impl CanaryChange {
    /// What a look needs and is not given; nothing is made.
    async fn refusals(&self, node: &str) -> Result<Vec<Error>, Error> {
        let objects = &self.objects;
        let mut asked = vec![
            objects
                .make::<Named>(PODS, &manifest::pod(node), true)
                .await
                .map(drop),
        ];
        if self.reach.is_some() {
            let slice = self.api_slice().await;
            if let Ok(slice) = &slice {
                let none = Metadata::absent("kube-migrate-change-none");
                for (kind, body) in [(SERVICES, slice.service()), (SLICES, slice.behind(&none))] {
                    asked.push(objects.make::<Named>(kind, &body, true).await.map(drop));
                }
            }
            asked.push(slice.map(drop));
        }
        for kind in self.kinds() {
            asked.extend(self.seen_and_removed(*kind).await);
        }
        refusals(asked)
    }

    async fn seen_and_removed(&self, kind: Kind) -> [Result<(), Error>; 2] {
        let none = Metadata::absent("kube-migrate-change-none");
        let retries = Retries::none();
        let seen = self.made::<Named>(kind, &retries).await;
        [seen.map(drop), self.remove(kind, &none, true).await]
    }
}
