//! Before anything starts: what on the nodes an upgrade could trip over.

mod judge;
mod read;

use async_trait::async_trait;
use migrate_core::{
    Finding, KubeVersion, PrepareEnvironment, StepContext, StepError, StepInput, StepReport,
};

use super::{COMMON, Kubeadm};
use crate::{Error, Script};
use read::Survey;

pub(super) const SURVEY: &str = include_str!("survey.sh");

impl Kubeadm {
    /// Looks at `nodes` for what an upgrade to `target` could trip over:
    /// cgroup v1, and on control-plane nodes certificates, room for kubeadm's
    /// copy of etcd, manifests of several versions and where components find
    /// their API server. Changes nothing; one script on each node. A node that
    /// does not answer is a finding.
    pub async fn survey(&self, nodes: &[String], target: &KubeVersion) -> Vec<Finding> {
        let script =
            Script::new(format!("{COMMON}\n{SURVEY}\nsurvey \"$@\"\n")).arg(&self.layout.root);
        let (answers, mut findings) = self.answers(nodes, &script).await;
        for (node, text) in answers {
            findings.extend(judge::judge(&node, &Survey::read(&text), target));
        }
        findings
    }
}

/// Surveys the nodes that are not at the target yet, and all control-plane
/// nodes. A dry run runs no command on a node, so that it finds nothing here.
#[async_trait]
impl PrepareEnvironment for Kubeadm {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        // What it looks for concerns an upgrade.
        if input.dry_run || input.way_back.is_some() {
            return Ok(StepReport::default());
        }
        let is_concerned = |node: &&migrate_core::Node| {
            node.role == migrate_core::Role::ControlPlane || input.is_to_change(node)
        };
        let nodes = input.model.nodes.iter().filter(is_concerned);
        let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
        let cancelled = std::pin::pin!(cx.cancel.cancelled());
        let survey = std::pin::pin!(self.survey(&names, &input.target));
        match futures::future::select(cancelled, survey).await {
            futures::future::Either::Left(_) => Err(Error::Cancelled.into()),
            futures::future::Either::Right((findings, _)) => Ok(StepReport::new(findings)),
        }
    }
}

#[cfg(test)]
mod tests;
