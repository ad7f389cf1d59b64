//! Before anything starts: what on the nodes an upgrade could trip over.

mod judge;
mod read;
mod releases;

use std::collections::BTreeMap;

use async_trait::async_trait;
use migrate_core::{
    Clock, Finding, KubeVersion, Node, ObjectName, PrepareEnvironment, Role, Severity, StepContext,
    StepError, StepInput, StepReport, WorkloadId, listed,
};

use super::readiness::Answer;
use super::{COMMON, Kubeadm, PACKAGES, release};
use crate::{Error, Script};
use judge::{Asked, Window, judge, judge_worker};
use read::Survey;
pub(super) use read::{Certificate, certificates};

pub(super) const SURVEY: &str = include_str!("survey.sh");
const OTHER_MINOR: &str = "KM-KUBEADM-041";
/// How many nodes a finding names.
const NAMED: usize = 5;

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
        findings.extend(self.judged(&answers, |_| target));
        findings
    }

    /// [`survey`](Self::survey) before a run of `input`: each node by the version that it
    /// is to reach, which may be one of its pool's own; and what
    /// [`examine_targets`](Self::examine_targets) says of these.
    pub async fn survey_for(
        &self,
        nodes: &[String],
        input: &StepInput,
        clock: &dyn Clock,
    ) -> Vec<Finding> {
        let mut findings = Self::examine_targets(input);
        let mut answers = Vec::new();
        for (target, nodes) in input.by_target(nodes) {
            let (answered, silent) = self.surveyed(&nodes, target, clock).await;
            answers.extend(answered);
            findings.extend(silent);
        }
        findings.extend(self.judged(&answers, |node| input.target_of_named(node, None)));
        findings
    }

    /// Pools with a target of their own that kubeadm cannot take them to: of another
    /// minor than the cluster's. Its `kubeadm` would be older than the control plane, which
    /// no version of it supports, and may not read the configuration that is there for
    /// kubelets. A pool that stays where it is needs none.
    pub fn examine_targets(input: &StepInput) -> Vec<Finding> {
        let minor = input.target.minor_version();
        let mut nodes: BTreeMap<&str, (&KubeVersion, Vec<&str>)> = BTreeMap::new();
        for node in &input.model.nodes {
            let target = input.target_of(node);
            if target.minor_version() != minor && input.is_to_change(node) {
                let pool = input.policy.pools.pool_of(node);
                let of_pool = nodes.entry(pool).or_insert((target, Vec::new()));
                of_pool.1.push(&node.name);
            }
        }
        let found = nodes.into_iter().map(|(pool, (own, nodes))| {
            Finding::new(
                OTHER_MINOR,
                Severity::Blocker,
                ObjectName::cluster("Pool", pool),
                format!(
                    "{} of its nodes are to go to {own} while the control plane goes to {} ({}), and \
                     kubeadm of {} does not work in a cluster of {minor}",
                    nodes.len(),
                    input.target,
                    listed(&nodes, NAMED),
                    own.minor_version(),
                ),
                "take the pool to that version in a run before the control plane's, hold it where \
                 it is, or give it one of the control plane's minor (pools.target-of)",
            )
        });
        found.collect()
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

    /// What their answers mean, of nodes that go to what `target_of` says; each finding
    /// once.
    pub(super) fn judged<'t>(
        &self,
        answers: &[Answer],
        target_of: impl Fn(&str) -> &'t KubeVersion,
    ) -> Vec<Finding> {
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
            let asked = self.asked(target_of(&answer.node));
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

    /// The workloads that the upgrade of the last member makes anew on the way from one
    /// release to another, pod by pod, as a planner wants to know
    /// (`Planner::with_renewed` of `migrate-plan`): kubeadm's `CoreDNS`, whose Deployment
    /// its addon writes anew, unless that phase is skipped. Its pods would rather not be on
    /// one node (`preferredDuringScheduling…` in `addons/dns/manifests.go`).
    ///
    /// None where both minors bring the same one, or where what one brings is not known;
    /// an image that `kubeadm-config` names itself is not looked at.
    pub fn renews(&self, from: &KubeVersion, to: &KubeVersion) -> Vec<WorkloadId> {
        let [old, new] = [from, to].map(|version| releases::coredns(version.minor_version()));
        let is_other = old.is_some() && new.is_some() && old != new;
        let dns = || WorkloadId::new("Deployment", "kube-system", judge::DNS_NAME);
        let is_skipped = self.asked(to).skips("addon", judge::DNS_NAME);
        (is_other && !is_skipped).then(dns).into_iter().collect()
    }

    const fn asked<'a>(&'a self, target: &'a KubeVersion) -> Asked<'a> {
        Asked {
            target,
            skipped: self.options.skipped.as_slice(),
            ignored: self.options.ignored.as_slice(),
        }
    }

    /// What [`ApiServerBackend::examine`](crate::ApiServerBackend::examine) says of
    /// the load balancer, while a control-plane node is still to be changed; of several
    /// members without one that is known, that (KM-LB-008). Changes nothing.
    pub async fn examine_balancer(&self, input: &StepInput) -> Vec<Finding> {
        let is_to_change =
            |node: &Node| node.role == Role::ControlPlane && input.is_to_change(node);
        match &self.balancer {
            Some(balancer) if input.model.nodes.iter().any(is_to_change) => {
                let members = input.model.control_plane.iter();
                let members: Vec<String> = members.map(|member| member.name.clone()).collect();
                balancer.examine(&members).await
            }
            None if input.model.control_plane.len() > 1
                && input.model.nodes.iter().any(is_to_change) =>
            {
                vec![nothing_takes_them_out(input.model.control_plane.len())]
            }
            _ => Vec::new(),
        }
    }
}

/// Several API servers, and no balancer is known from which to take them.
fn nothing_takes_them_out(members: usize) -> Finding {
    Finding::new(
        "KM-LB-008",
        Severity::Warning,
        ObjectName::cluster("ControlPlane", "API servers"),
        format!(
            "nothing takes the {members} API servers out of their load balancer before they are \
             changed, and nobody has looked how it checks them: each answers 500 on an open port \
             while its etcd is swapped"
        ),
        "name the load balancer (an `ApiServerBackend`; `--haproxy-…` or `--api-server-hook`), or \
         see that its checks ask /readyz over TLS, every second or two",
    )
}

/// Surveys the nodes that are not at the target yet, and all control-plane
/// nodes; and, while one of these is still to be changed, their load balancer,
/// if one is known. A dry run runs no command on a node, so that it finds no more here
/// than the targets of pools say.
#[async_trait]
impl PrepareEnvironment for Kubeadm {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        // What it looks for concerns an upgrade.
        if input.way_back.is_some() {
            return Ok(StepReport::default());
        }
        if input.dry_run {
            return Ok(StepReport::new(Self::examine_targets(input)));
        }
        let is_concerned =
            |node: &&Node| node.role == Role::ControlPlane || input.is_to_change(node);
        let nodes = input.model.nodes.iter().filter(is_concerned);
        let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
        let cancelled = std::pin::pin!(cx.cancel.cancelled());
        let survey = std::pin::pin!(async {
            let mut found = self.survey_for(&names, input, &*cx.clock).await;
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
