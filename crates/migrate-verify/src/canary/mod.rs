//! A pod that tries a node out before its cordon is lifted.

mod manifest;
mod standing;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use kube::Client;
use kube::api::{DeleteParams, GetParams, ListParams, PostParams};
use kube::core::{ObjectList, Request};
use migrate_core::model::{STEP_LABEL, TRIAL};
use migrate_core::{
    CanaryPod, Finding, ObjectName, PrepareEnvironment, Severity, StepContext, StepError,
    StepErrorKind, StepInput, StepReport, TryNode,
};
use migrate_kube::{ApiCall, Error, READ_DEADLINE, read, within_deadline};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::health::unobserved;
use manifest::manifest;
use standing::{Pod, Standing};

/// How often a pod under way is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How long removing one, before a trial or after it, may take beyond it.
const REMOVAL: Duration = Duration::from_secs(30);

/// Tries nodes out by the pod that a policy describes
/// ([`CanaryPod`]), and sees before the start that it can be made.
///
/// A trial is one pod, bound to the node past the scheduler: it tolerates every
/// taint, has no rights, no token and no privilege, and ends by itself. It passes
/// the Pod Security standard *restricted*. Pods of earlier trials on the node,
/// also of a runner that is gone, are removed first, its own one in the end.
///
/// # Needs
/// `create`, `get`, `list` and `delete` on pods of the policy's namespace
/// (`docs/rbac-canary.yaml`).
///
/// # Errors
/// See [`TryNode`]: a pod that fails, or has not ended in its time, is
/// `Unavailable` or `Deadline`, and so are refusals, which an API server that has
/// just started gives too.
#[derive(Clone)]
pub struct CanaryTrial {
    client: Client,
    pod: CanaryPod,
}

impl CanaryTrial {
    /// Tries nodes of the cluster behind `client` out by `pod`.
    pub fn new(client: Client, pod: CanaryPod) -> Self {
        Self { client, pod }
    }

    async fn make(&self, node: &str, params: &PostParams) -> Result<Pod, Error> {
        let body = manifest(&self.pod, node).to_string().into_bytes();
        let request = Request::new(self.path()).create(params, body);
        self.ask(self.pods("create"), request).await
    }

    async fn look(&self, pod: &Pod) -> Result<Option<Pod>, Error> {
        let call = self.pods("get").named(&pod.metadata.name);
        let request = Request::new(self.path()).get(&pod.metadata.name, &GetParams::default());
        match self.ask::<Pod>(call, request).await {
            Ok(found) if found.metadata.uid == pod.metadata.uid => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, pod: &Pod, dry_run: bool) -> Result<(), Error> {
        let call = self.pods("delete").named(&pod.metadata.name);
        let mut params = DeleteParams::default().preconditions(kube::api::Preconditions {
            uid: Some(pod.metadata.uid.clone()),
            resource_version: None,
        });
        params.dry_run = dry_run;
        let request = Request::new(self.path()).delete(&pod.metadata.name, &params);
        match self.ask::<Value>(call, request).await {
            Ok(_) | Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn left_on(&self, node: &str) -> Result<Vec<Pod>, Error> {
        let selection = ListParams::default()
            .labels(&format!("{STEP_LABEL}={TRIAL}"))
            .fields(&format!("spec.nodeName={node}"));
        let (call, path) = (self.pods("list"), self.path());
        let found = read::<ObjectList<Pod>>(&self.client, &call, &path, &selection).await?;
        Ok(found.items)
    }

    async fn trial(&self, cx: &StepContext, node: &str) -> Result<(), StepError> {
        self.clear(node).await?;
        let made = self.make(node, &PostParams::default()).await;
        let pod = made.map_err(unobserved)?;
        let ended = self.ended(cx, node, &pod).await;
        let removed = tokio::time::timeout(REMOVAL, self.removed(&pod)).await;
        let stays = removed.err().map(|_| {
            let name = self.name(&pod);
            format!("{name} could not be removed; the next trial asks again")
        });
        match (ended, stays) {
            (ended, None) => ended,
            (Ok(()), Some(stays)) => Err(StepError::new(StepErrorKind::Deadline, of(node), stays)),
            (Err(mut error), Some(stays)) => {
                error.message = format!("{}; {stays}", error.message);
                Err(error)
            }
        }
    }

    /// Removes what earlier trials have left on the node, and waits until it is gone:
    /// two that use the node at once tell of each other.
    async fn clear(&self, node: &str) -> Result<(), StepError> {
        let cleared = async {
            loop {
                let left = self.left_on(node).await?;
                if left.is_empty() {
                    return Ok::<(), Error>(());
                }
                for pod in &left {
                    self.remove(pod, false).await?;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(REMOVAL, cleared).await {
            Ok(cleared) => cleared.map_err(unobserved),
            Err(_) => {
                let message = "the pod of an earlier trial is not gone yet; it is tried again";
                Err(StepError::new(StepErrorKind::Deadline, of(node), message))
            }
        }
    }

    /// Waits until the pod has ended, or its time is up.
    async fn ended(&self, cx: &StepContext, node: &str, pod: &Pod) -> Result<(), StepError> {
        let mut last = Standing::of(pod);
        let is_cancelled = {
            let waiting = async {
                loop {
                    tokio::time::sleep(POLL).await;
                    match self.look(pod).await {
                        Ok(Some(found)) => last = Standing::of(&found),
                        Ok(None) => last = Standing::Failed("somebody has removed it".to_owned()),
                        // Its time runs on.
                        Err(error) => last = Standing::Going(error.to_string()),
                    }
                    if !matches!(last, Standing::Going(_)) {
                        return;
                    }
                }
            };
            let limited = std::pin::pin!(tokio::time::timeout(self.pod.timeout, waiting));
            let cancelled = std::pin::pin!(cx.cancel.cancelled());
            matches!(select(cancelled, limited).await, Either::Left(_))
        };
        if is_cancelled {
            let message = "asked to stop in the middle of a trial; the next runner tries it again";
            return Err(StepError::new(StepErrorKind::Cancelled, of(node), message));
        }
        let (kind, what) = match last {
            Standing::Ended => return Ok(()),
            Standing::Failed(why) => (StepErrorKind::Unavailable, format!("failed: {why}")),
            Standing::Going(why) => {
                let limit = self.pod.timeout.as_secs();
                let what = format!("has not ended within {limit} s: {why}");
                (StepErrorKind::Deadline, what)
            }
        };
        let message = format!("{} {what}", self.name(pod));
        Err(StepError::new(kind, of(node), message))
    }

    /// Asks until it is removed.
    async fn removed(&self, pod: &Pod) {
        while self.remove(pod, false).await.is_err() {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: ApiCall,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Error> {
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(call.failed(kube::Error::BuildRequest(error))),
        };
        within_deadline(call, READ_DEADLINE, self.client.request(request)).await
    }

    fn pods(&self, verb: &'static str) -> ApiCall {
        ApiCall::dynamic(verb, "", "Pod", "pods").within(&self.pod.namespace)
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.pod.namespace)
    }

    fn name(&self, pod: &Pod) -> String {
        format!("canary pod {}/{}", self.pod.namespace, pod.metadata.name)
    }
}

#[async_trait]
impl TryNode for CanaryTrial {
    async fn try_node(&self, cx: &StepContext, node: &str) -> Result<(), StepError> {
        self.trial(cx, node).await
    }
}

/// Whether the pod can be made, looked at and removed, asked by dry runs: rights,
/// the namespace, Pod Security and admission webhooks are all asked with it; and
/// whether a trial has its time.
#[async_trait]
impl PrepareEnvironment for CanaryTrial {
    async fn run(&self, _: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        let mut findings = Vec::new();
        let verify = input.policy.deadlines.verify;
        if verify < self.pod.timeout + REMOVAL {
            findings.push(self.cut_off(verify));
        }
        if let Some(node) = input.model.nodes.first() {
            let refused = self.refusals(&node.name).await?;
            if !refused.is_empty() {
                findings.push(self.refused(&refused));
            }
        }
        Ok(StepReport::new(findings))
    }
}

impl CanaryTrial {
    /// What a trial needs and is not given; nothing is made.
    async fn refusals(&self, node: &str) -> Result<Vec<Error>, Error> {
        let none = Pod::named("kube-migrate-canary-none");
        let params = PostParams {
            dry_run: true,
            field_manager: None,
        };
        let asked = [
            self.make(node, &params).await.map(drop),
            self.left_on(node).await.map(drop),
            self.look(&none).await.map(drop),
            self.remove(&none, true).await,
        ];
        let mut refusals = Vec::new();
        for error in asked.into_iter().filter_map(Result::err) {
            match error.is_retryable() {
                true => return Err(error),
                false => refusals.push(error),
            }
        }
        Ok(refusals)
    }

    fn refused(&self, refusals: &[Error]) -> Finding {
        let why: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        Finding::new(
            "KM-CANARY-001",
            Severity::Blocker,
            ObjectName::cluster("Namespace", &self.pod.namespace),
            format!(
                "the pod that is to try nodes out cannot be made, seen or removed there: {}",
                why.join("; ")
            ),
            "apply docs/rbac-canary.yaml, correct canary-pod in the policy, or leave it out",
        )
    }

    fn cut_off(&self, verify: Duration) -> Finding {
        let (limit, verify) = (self.pod.timeout.as_secs(), verify.as_secs());
        let needed = limit + REMOVAL.as_secs();
        Finding::new(
            "KM-CANARY-002",
            Severity::Blocker,
            ObjectName::cluster("Policy", "canary-pod"),
            format!(
                "a trial may take {limit} s and its removal {} s more, and deadlines.verify cuts it \
                 off after {verify} s",
                REMOVAL.as_secs()
            ),
            format!("raise deadlines.verify to {needed} s at least, or lower canary-pod.timeout"),
        )
    }
}

fn of(node: &str) -> ObjectName {
    ObjectName::cluster("Node", node)
}
