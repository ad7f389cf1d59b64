//! A pod that tries a node out before its cordon is lifted.

mod change;
mod gates;
mod manifest;
mod objects;
mod standing;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use migrate_core::model::{STEP_LABEL, TRIAL};
use migrate_core::{
    CanaryPod, Finding, ObjectName, PrepareEnvironment, Severity, StepContext, StepError,
    StepErrorKind, StepInput, StepReport, TryNode,
};
use migrate_kube::Error;

use crate::health::unobserved;
use change::CHANGE_LABEL;
use manifest::manifest;
use objects::{Objects, PODS, refusals};
use standing::{Pod, Standing};

pub use change::CanaryChange;
pub use gates::GatesLeftOut;

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
    objects: Objects,
    pod: CanaryPod,
}

impl CanaryTrial {
    /// Tries nodes of the cluster behind `client` out by `pod`.
    pub fn new(client: Client, pod: CanaryPod) -> Self {
        let objects = Objects::new(client, &pod.namespace);
        Self { objects, pod }
    }

    async fn make(&self, node: &str, dry_run: bool) -> Result<Pod, Error> {
        let body = manifest(&self.pod, node);
        self.objects.make(PODS, &body, dry_run).await
    }

    async fn look(&self, pod: &Pod) -> Result<Option<Pod>, Error> {
        match self.objects.get::<Pod>(PODS, &pod.metadata.name).await {
            Ok(found) if found.metadata.uid == pod.metadata.uid => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, pod: &Pod, dry_run: bool) -> Result<(), Error> {
        let params = DeleteParams {
            dry_run,
            ..DeleteParams::default()
        };
        self.objects.remove(PODS, &pod.metadata, params).await
    }

    async fn left_on(&self, node: &str) -> Result<Vec<Pod>, Error> {
        // Those of a change are no trials, and others look at them.
        let selection = ListParams::default()
            .labels(&format!("{STEP_LABEL}={TRIAL},!{CHANGE_LABEL}"))
            .fields(&format!("spec.nodeName={node}"));
        self.objects.list(PODS, &selection).await
    }

    async fn trial(&self, cx: &StepContext, node: &str) -> Result<(), StepError> {
        self.clear(node).await?;
        let made = self.make(node, false).await;
        let pod = made.map_err(unobserved)?;
        let ended = self.ended(cx, node, &pod).await;
        let removed = tokio::time::timeout(REMOVAL, self.removed(&pod)).await;
        let stays = removed.err().map(|_| {
            let name = self.name(&pod);
            format!("{name} could not be removed; the next trial asks again")
        });
        and_removed(ended, stays, of(node))
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
            let refusals = self.refusals(&node.name).await?;
            if !refusals.is_empty() {
                let what = "the pod that is to try nodes out";
                let namespace = self.objects.namespace();
                findings.push(refused("canary-pod", what, namespace, &refusals));
            }
        }
        Ok(StepReport::new(findings))
    }
}

impl CanaryTrial {
    /// What a trial needs and is not given; nothing is made.
    async fn refusals(&self, node: &str) -> Result<Vec<Error>, Error> {
        let none = Pod::named("kube-migrate-canary-none");
        let asked = [
            self.make(node, true).await.map(drop),
            self.left_on(node).await.map(drop),
            self.look(&none).await.map(drop),
            self.remove(&none, true).await,
        ];
        refusals(asked)
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

/// What came of something that is removed after it, if it `stays`, of `object`.
fn and_removed<T>(
    ended: Result<T, StepError>,
    stays: Option<String>,
    object: ObjectName,
) -> Result<T, StepError> {
    match (ended, stays) {
        (ended, None) => ended,
        (Ok(_), Some(stays)) => Err(StepError::new(StepErrorKind::Deadline, object, stays)),
        (Err(mut error), Some(stays)) => {
            error.message = format!("{}; {stays}", error.message);
            Err(error)
        }
    }
}

/// That `what`, which the policy's table asks for, cannot be made.
fn refused(table: &str, what: &str, namespace: &str, refusals: &[Error]) -> Finding {
    let why: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Finding::new(
        "KM-CANARY-001",
        Severity::Blocker,
        ObjectName::cluster("Namespace", namespace),
        format!(
            "{what} cannot be made, seen or removed there: {}",
            why.join("; ")
        ),
        format!("apply docs/rbac-canary.yaml, correct {table} in the policy, or leave it out"),
    )
}
