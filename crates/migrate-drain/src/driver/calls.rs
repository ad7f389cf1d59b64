//! What the machine asks for, as requests whose answers are inputs.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use migrate_core::PodId;
use migrate_kube::{
    Error, EvictOptions, Restored, Selection, cordon, evict, list, resources, restore_cordon,
};

use super::lens::Pods;
use crate::machine::{Failure, Input, RequestId};

/// What came back.
pub(super) enum Reply {
    /// An input as it is.
    Input(Box<Input>),
    /// The pods of a node, to be seen through the lens first.
    Pods(String, Result<Pods, Failure>),
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
    pub(super) run: String,
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

    pub(super) fn cordon(&self, node: String) -> BoxFuture<'static, Reply> {
        let Self { client, run, .. } = self.clone();
        async move {
            Reply::from(match cordon(&client, &node, &run).await {
                Ok(cordoned) => Input::Cordoned {
                    node,
                    was_unschedulable: cordoned.was_unschedulable,
                },
                Err(error) => Input::CordonFailed {
                    node,
                    failure: failure(&error),
                },
            })
        }
        .boxed()
    }

    pub(super) fn restore(&self, node: String) -> BoxFuture<'static, Reply> {
        let Self { client, run, .. } = self.clone();
        async move {
            Reply::from(match restore_cordon(&client, &node, &run).await {
                Ok(Restored::Released { still_cordoned }) => Input::Restored {
                    node,
                    still_cordoned,
                },
                Ok(Restored::NodeGone) => Input::RestoreFailed {
                    node,
                    failure: gone(),
                },
                // Never cordoned by this run: nothing to give back.
                Ok(_) => Input::Restored {
                    node,
                    still_cordoned: false,
                },
                Err(error) => Input::RestoreFailed {
                    node,
                    failure: failure(&error),
                },
            })
        }
        .boxed()
    }

    pub(super) fn look(&self, node: String) -> BoxFuture<'static, Reply> {
        let client = self.client.clone();
        async move {
            let selection = Selection::all().fields(format!("spec.nodeName={node}"));
            let pods = list::<resources::Pod>(&client, &selection).await;
            Reply::Pods(node, pods.map_err(|error| failure(&error)))
        }
        .boxed()
    }
}

/// What `error` means to the machine.
pub(super) fn failure(error: &Error) -> Failure {
    let mut failure = match error.is_retryable() {
        true => Failure::passing(error.to_string()),
        false => Failure::permanent(error.to_string()),
    };
    failure.not_found = matches!(error, Error::NotFound { .. });
    failure
}

fn gone() -> Failure {
    let mut failure = Failure::permanent("the node is gone");
    failure.not_found = true;
    failure
}
