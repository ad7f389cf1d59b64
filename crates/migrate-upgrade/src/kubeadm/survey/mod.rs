//! Before anything starts: what on the nodes an upgrade could trip over.

mod judge;
mod read;
mod releases;

use async_trait::async_trait;
use migrate_core::{
    Clock, Finding, KubeVersion, Node, PrepareEnvironment, Role, StepContext, StepError, StepInput,
    StepReport,
};

use super::readiness::Answer;
use super::{COMMON, Kubeadm, PACKAGES, release};
use crate::{Error, Script};
use judge::{Asked, Window, judge, judge_worker};
use read::Survey;
pub(super) use read::{Certificate, certificates};

pub(super) const SURVEY: &str = include_str!("survey.sh");

impl Kubeadm {
    /// Looks at `nodes` for what an upgrade to `target` could trip over:
    ///
    /// * everywhere cgroup v1, feature gates and flags of the kubelet that are
    ///   gone, an old containerd, a clock that is apart from `clock`, what the
    ///   packages bring along, a folder of patches that is missing, and where a
    ///   worker's kubelet finds its API server;
    /// * on control-plane nodes certificates, room for kubeadm's copy of etcd,
    ///   manifests of several versions and where components find their API
    ///   server;
    /// * of the cluster, read on a control-plane node, feature gates and flags
    ///   in its configuration that are gone, the version of an external etcd,
    ///   and a CoreDNS that is not kubeadm's.
    ///
    /// Changes nothing; one script on each node, which takes apt's lists as they
    /// are. A node that does not answer is a finding. What concerns the cluster
    /// is found once. `clock` tells the time of day.
    pub async fn survey(
        &self,
        nodes: &[String],
        target: &KubeVersion,
        clock: &dyn Clock,
    ) -> Vec<Finding> {
        let (answers, mut findings) = self.surveyed(nodes, target, clock).await;
        findings.extend(self.judged(&answers, target));
        findings
    }

    /// What the nodes say, and a finding for each that does not.
    pub(super) async fn surveyed(
        &self,
        nodes: &[String],
        target: &KubeVersion,
        clock: &dyn Clock,
    ) -> (Vec<Answer>, Vec<Finding>) {
        let options = &self.options;
        let programs = options.programs();
        let text = format!("{COMMON}\n{PACKAGES}\n{SURVEY}\n{programs}\nsurvey \"$@\"\n");
        let script = Script::new(text)
            .arg(&self.layout.root)
            .arg(release(target).unwrap_or_else(|| target.to_string()))
            .args([options.source(), options.patches.as_str()]);
        self.answers(nodes, &script, clock).await
    }

    /// What their answers mean; each finding once.
    pub(super) fn judged(&self, answers: &[Answer], target: &KubeVersion) -> Vec<Finding> {
        let asked = Asked {
            target,
            skipped: &self.options.skipped,
            ignored: &self.options.ignored,
        };
        let surveys: Vec<Survey> = answers
            .iter()
            .map(|answer| Survey::read(&answer.text))
            .collect();
        // What workers are judged by, too: the fullest answer there is.
        let clusters = surveys.iter().map(|survey| &survey.cluster);
        let cluster = clusters
            .filter(|cluster| cluster.kubeadm_config.is_some())
            .max_by_key(|cluster| cluster.api_servers.len());
        let mut findings = Vec::new();
        for (answer, survey) in answers.iter().zip(&surveys) {
            let window = Window {
                asked: answer.asked,
                answered: answer.answered,
            };
            let of_node = judge(&answer.node, survey, window, asked);
            let of_worker = cluster.and_then(|cluster| judge_worker(&answer.node, survey, cluster));
            for finding in of_node.into_iter().chain(of_worker) {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }

    /// What [`ApiServerBackend::examine`](crate::ApiServerBackend::examine) says of
    /// the load balancer, if one is known and a control-plane node is still to be
    /// changed. Changes nothing.
    pub async fn examine_balancer(&self, input: &StepInput) -> Vec<Finding> {
        let is_to_change =
            |node: &Node| node.role == Role::ControlPlane && input.is_to_change(node);
        match &self.balancer {
            Some(balancer) if input.model.nodes.iter().any(is_to_change) => {
                let members = input.model.control_plane.iter();
                let members: Vec<String> = members.map(|member| member.name.clone()).collect();
                balancer.examine(&members).await
            }
            _ => Vec::new(),
        }
    }
}

/// Surveys the nodes that are not at the target yet, and all control-plane
/// nodes; and, while one of these is still to be changed, their load balancer,
/// if one is known. A dry run runs no command on a node, so that it finds nothing here.
#[async_trait]
impl PrepareEnvironment for Kubeadm {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        // What it looks for concerns an upgrade.
        if input.dry_run || input.way_back.is_some() {
            return Ok(StepReport::default());
        }
        let is_concerned =
            |node: &&Node| node.role == Role::ControlPlane || input.is_to_change(node);
        let nodes = input.model.nodes.iter().filter(is_concerned);
        let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
        let cancelled = std::pin::pin!(cx.cancel.cancelled());
        let survey = std::pin::pin!(async {
            let mut found = self.survey(&names, &input.target, &*cx.clock).await;
            found.extend(self.examine_balancer(input).await);
            found
        });
        match futures::future::select(cancelled, survey).await {
            futures::future::Either::Left(_) => Err(Error::Cancelled.into()),
            futures::future::Either::Right((findings, _)) => Ok(StepReport::new(findings)),
        }
    }
}

#[cfg(test)]
mod tests;
