//! Before anything starts: images, once nothing keeps the run from starting.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use kube::Client;
use migrate_core::{
    EventKind, Finding, ObjectName, PrepareEnvironment, Step, StepContext, StepError,
    StepErrorKind, StepInput, StepReport,
};
use migrate_kube::{Anchor, anchor};

use super::Kubeadm;
use crate::Error;

/// Between two looks at the kill switch.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The checks of step 1, and then packages and images of every node that is to
/// be changed: that apt has the packages ([`Kubeadm::resolve`]), and the images
/// pulled ([`Kubeadm::pre_pull`]).
///
/// # Guarantees
/// No node is asked for either before every check has been made and no blocker
/// is left that the policy does not waive, while the anchor names another run,
/// or while the kill switch on it is pulled: that is waited for. Nor in a dry
/// run or on the way back of a node. Nothing but package lists and images is put on a node.
///
/// # Errors
/// Those of the checks. `Conflict` while another run is under way, and those of
/// reading the anchor. What a node lacks is a finding.
pub struct ImagePull {
    driver: Kubeadm,
    client: Client,
    checks: Vec<Arc<dyn PrepareEnvironment>>,
    known: Vec<Finding>,
}

impl ImagePull {
    /// Pulls with `driver` after `checks`; the anchor is read through `client`.
    pub fn new(
        driver: Kubeadm,
        client: Client,
        checks: impl IntoIterator<Item = Arc<dyn PrepareEnvironment>>,
    ) -> Self {
        Self {
            driver,
            client,
            checks: checks.into_iter().collect(),
            known: Vec::new(),
        }
    }

    /// Findings that are known already, as those of a plan: blockers among them
    /// count, and they are not reported again.
    #[must_use]
    pub fn with_findings(mut self, known: Vec<Finding>) -> Self {
        self.known = known;
        self
    }

    /// Waits until nobody pauses the run.
    async fn let_go(&self, cx: &StepContext) -> Result<(), StepError> {
        let mut told = false;
        loop {
            let anchor = Anchor::read(&self.client).await?;
            if let Some(other) = anchor.mark.filter(|mark| mark.run != cx.fence.run) {
                let object = ObjectName::namespaced("Lease", anchor::NAMESPACE, anchor::NAME);
                let message = format!(
                    "run {} is under way, its journal is {}; resume it there, or adopt it",
                    other.run, other.journal
                );
                return Err(StepError::new(StepErrorKind::Conflict, object, message));
            }
            if !anchor.paused {
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                cx.emit(EventKind::Waiting {
                    target: "run".to_owned(),
                    on: "paused".to_owned(),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn pull(&self, cx: &StepContext, input: &StepInput) -> Result<Vec<Finding>, StepError> {
        let nodes = input.model.nodes.iter();
        let nodes = nodes.filter(|node| input.is_to_change(node));
        let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        self.let_go(cx).await?;
        // A node without the packages has no kubeadm to name its images.
        let by_target = input.by_target(&names);
        let mut found = Vec::new();
        for (target, names) in &by_target {
            found.extend(self.driver.resolve(names, target).await.findings);
        }
        if found.is_empty() {
            for (target, names) in &by_target {
                found.extend(self.driver.pre_pull(names, target).await.findings);
            }
        }
        let count = names.len() as u64;
        cx.emit(EventKind::Progress {
            step: Step::Prepare,
            done: count,
            of: Some(count),
            unit: "nodes asked for packages and images".to_owned(),
        });
        Ok(found)
    }
}

#[async_trait]
impl PrepareEnvironment for ImagePull {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        let mut findings = Vec::new();
        for check in &self.checks {
            findings.extend(check.run(cx, input).await?.findings);
        }
        let mut all: Vec<Finding> = self.known.iter().chain(&findings).cloned().collect();
        input.policy.mark_waived(&mut all);
        if all.iter().any(Finding::blocks) || input.dry_run || input.way_back.is_some() {
            return Ok(StepReport::new(findings));
        }
        let (cancelled, pull) = (pin!(cx.cancel.cancelled()), pin!(self.pull(cx, input)));
        match select(cancelled, pull).await {
            Either::Left(_) => Err(Error::Cancelled.into()),
            Either::Right((found, _)) => {
                findings.extend(found?);
                Ok(StepReport::new(findings))
            }
        }
    }
}

impl fmt::Debug for ImagePull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImagePull")
            .field("driver", &self.driver)
            .field("checks", &self.checks.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
