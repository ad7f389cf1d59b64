//! What the machine asks for, as requests whose answers are inputs.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use migrate_core::steps::DrainFailureKind;
use migrate_core::{Fence, PodId};
use migrate_kube::{
    Error, EvictOptions, Restored, Retries, Selection, cordon, cordon_if, evict, get, list_retried,
    resources, restore_cordon,
};

use super::lens::Pods;
use super::writes::{Write, Written};
use crate::machine::{Failure, Input, RequestId, Room};

/// What came back.
pub(super) enum Reply {
    /// An input as it is.
    Input(Box<Input>),
    /// The pods of a node and then the node, to be seen through the lens first.
    Looked(
        String,
        Result<(Pods, Option<Box<resources::Node>>), Failure>,
    ),
}

impl From<Input> for Reply {
    fn from(input: Input) -> Self {
        Self::Input(Box::new(input))
    }
}

/// Makes the requests of one run.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) client: Client,
    pub(super) fence: Fence,
    pub(super) deadline: Duration,
    pub(super) dry_run: bool,
}

impl Calls {
    pub(super) fn evict(
        &self,
        request: RequestId,
        pod: PodId,
        grace: Option<u32>,
    ) -> BoxFuture<'static, Reply> {
        let mut options = EvictOptions::default().with_deadline(self.deadline);
        options.grace = grace;
        options.dry_run = self.dry_run;
        let client = self.client.clone();
        async move {
            let answer = evict(&client, &pod, &options).await;
            Reply::from(Input::Answer { request, answer })
        }
        .boxed()
    }

    /// Answered within two deadlines of a request, one more with a look at the
    /// Lease, and one with a look at the pool: a change is a read and a write.
    pub(super) fn write(&self, node: String, write: Write) -> BoxFuture<'static, Written> {
        let calls = self.clone();
        let requests = match write {
            Write::Cordon(Some(_)) => 3,
            Write::Cordon(None) | Write::Restore => 2,
        };
        let limit = calls
            .deadline
            .saturating_mul(requests + u32::from(self.fence.epoch > 0));
        async move {
            let answer = async {
                match &write {
                    Write::Cordon(room) => calls.cordon(&node, room.as_ref()).await,
                    Write::Restore => calls.restore(&node).await,
                }
            };
            let answer = match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let reason = format!("no answer within {} s", limit.as_secs_f64());
                    Err((Failure::passing(reason), false))
                }
            };
            let (input, sure) = match (answer, &write) {
                (Ok(input), _) => (input, true),
                (Err((failure, sure)), Write::Cordon(_)) => {
                    let node = node.clone();
                    (Input::CordonFailed { node, failure }, sure)
                }
                (Err((failure, sure)), Write::Restore) => {
                    let node = node.clone();
                    (Input::RestoreFailed { node, failure }, sure)
                }
            };
            Written {
                node,
                write,
                input,
                sure,
            }
        }
        .boxed()
    }

    /// Cordons the node; given a `room`, only if its pool, read right before,
    /// has it.
    async fn cordon(&self, node: &str, room: Option<&Room>) -> Result<Input, (Failure, bool)> {
        let (client, fence) = (&self.client, &self.fence);
        let cordoned = match room {
            None => cordon(client, node, fence).await.map(Ok),
            Some(room) => {
                let among = match room.selector() {
                    Some(labels) => Selection::all().labels(labels),
                    None => Selection::all(),
                };
                let judge = |seen: &[resources::Node]| {
                    let away = |node: &resources::Node| node.spec.unschedulable || !node.is_ready();
                    let names = seen.iter().filter_map(|node| {
                        let name = node.metadata.name.as_deref()?;
                        Some((name, away(node)))
                    });
                    room.missing(names).map_or(Ok(()), Err)
                };
                cordon_if(client, node, fence, &among, judge).await
            }
        };
        let cordoned = cordoned.map_err(|error| (of_node(&error), is_sure(&error)))?;
        let node = node.to_owned();
        Ok(match cordoned {
            Ok(cordoned) => Input::Cordoned {
                node,
                was_unschedulable: cordoned.was_unschedulable,
            },
            Err(away) => Input::NoRoom { node, away },
        })
    }

    async fn restore(&self, node: &str) -> Result<Input, (Failure, bool)> {
        let restored = restore_cordon(&self.client, node, &self.fence).await;
        let still_cordoned = match restored.map_err(|error| (of_node(&error), is_sure(&error)))? {
            Restored::Released { still_cordoned } => still_cordoned,
            Restored::NodeGone => return Err((gone(), true)),
            // Never cordoned by this run: nothing to give back.
            _ => false,
        };
        Ok(Input::Restored {
            node: node.to_owned(),
            still_cordoned,
        })
    }

    /// Reads the pods of a node, and after them the node itself: pods of a
    /// machine that had only its name say nothing about it. Each read is tried
    /// again by itself; dropping the future ends it.
    pub(super) fn look(&self, node: String) -> BoxFuture<'static, Reply> {
        let client = self.client.clone();
        async move {
            let selection = Selection::all().fields(format!("spec.nodeName={node}"));
            let seen = async {
                let retries = Retries::default();
                let pods = list_retried::<resources::Pod>(&client, &selection, &retries).await?;
                let node = retries
                    .run(|| get::<resources::Node>(&client, &node))
                    .await?;
                Ok::<_, Error>((pods, node.map(Box::new)))
            };
            let seen = seen.await.map_err(|error| failure(&error));
            Reply::Looked(node, seen)
        }
        .boxed()
    }
}

/// What `error` means to the machine.
pub(super) fn failure(error: &Error) -> Failure {
    if error.is_retryable() {
        return Failure::passing(error.to_string());
    }
    let kind = match error {
        Error::Forbidden { .. } | Error::Unauthorized { .. } => DrainFailureKind::Forbidden,
        Error::OtherOwner { .. } => DrainFailureKind::OtherOwner,
        Error::Fenced { .. } => DrainFailureKind::Superseded,
        Error::Api { .. } | Error::Refused { .. } => DrainFailureKind::Refused,
        _ => DrainFailureKind::Other,
    };
    Failure::permanent(kind, error.to_string())
}

/// The same of a change of a node. A Lease that is missing is no missing node.
fn of_node(error: &Error) -> Failure {
    let mut failure = failure(error);
    if let Error::NotFound { call } = error
        && call.object().kind == "Node"
    {
        failure.kind = DrainFailureKind::NoSuchNode;
    }
    failure
}

/// Whether the server has refused the call, so that it has no effect.
fn is_sure(error: &Error) -> bool {
    !matches!(
        error,
        Error::Api { code: 500.., .. }
            | Error::Deadline { .. }
            | Error::Decode { .. }
            | Error::Unreachable { .. }
    )
}

fn gone() -> Failure {
    Failure::permanent(DrainFailureKind::NoSuchNode, "the node is gone")
}
