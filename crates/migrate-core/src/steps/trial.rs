//! The trial of a node, a part of step 5.

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::StepError;
use crate::StepContext;

/// A part of step 5: tries a node out that has passed its gate, before its cordon
/// is lifted.
///
/// # Guarantees
/// What a trial puts on the node it removes again, also what an earlier one has
/// left there; a pod of its own that a drain meets is waited for, if its
/// [`STEP_LABEL`](crate::model::STEP_LABEL) is [`TRIAL`](crate::model::TRIAL). It can be made any number of
/// times. Dropping the future stops it at once; what it has made then ends by
/// itself.
///
/// # Errors
/// `Unavailable` and `Deadline`: the node does not do what it should yet, or
/// nobody knows; the executor tries again until `deadlines.verify`. Every other
/// kind: waiting does not help; the verification of the node has failed.
#[async_trait]
pub trait TryNode: Send + Sync {
    /// Whether pods on `node` can do what pods have to.
    async fn try_node(&self, cx: &StepContext, node: &str) -> Result<(), StepError>;
}

/// A closure as the trial of a node. See
/// [`back_up_fn`](super::back_up_fn) for how to write one.
pub fn try_node_fn<F>(step: F) -> F
where
    F: for<'a> Fn(&'a StepContext, &'a str) -> BoxFuture<'a, Result<(), StepError>> + Send + Sync,
{
    step
}

#[async_trait]
impl<F> TryNode for F
where
    F: for<'a> Fn(&'a StepContext, &'a str) -> BoxFuture<'a, Result<(), StepError>> + Send + Sync,
{
    async fn try_node(&self, cx: &StepContext, node: &str) -> Result<(), StepError> {
        self(cx, node).await
    }
}
