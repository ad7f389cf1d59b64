//! Closures as steps.

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{
    BackUpData, BackupReport, DrainCommands, DrainEvents, MigratePods, PrepareEnvironment,
    StepError, StepInput, StepReport,
};
use crate::StepContext;

/// A closure as step 1, which may keep things of its own and borrow what it is
/// handed. See [`back_up_fn`] for how to write one.
pub fn prepare_fn<F>(step: F) -> F
where
    F: for<'a> Fn(&'a StepContext, &'a StepInput) -> BoxFuture<'a, Result<StepReport, StepError>>
        + Send
        + Sync,
{
    step
}

/// A closure as step 2, which may keep things of its own and borrow what it is
/// handed: another tool that makes the backup, or a person's word that there
/// is one.
///
/// Gives the closure back as it is. Only here does the compiler learn that its
/// future may borrow from its arguments; a closure that is written elsewhere
/// is taken to do so for one lifetime only, and is no step.
///
/// A step can be run more than once, so the future gets a clone of what the
/// closure keeps.
///
/// ```
/// use std::path::PathBuf;
/// use std::sync::Arc;
///
/// use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport, back_up_fn};
/// use migrate_core::{BackUpData, Cancellation, StepError};
///
/// # #[derive(Clone)]
/// # struct Tool;
/// # impl Tool {
/// #     async fn save(&self, _: &str, _: &Cancellation) -> Result<PathBuf, StepError> {
/// #         Ok("/backups/a.db".into())
/// #     }
/// # }
/// fn step(tool: Tool) -> Arc<dyn BackUpData> {
///     Arc::new(back_up_fn(move |cx, input| {
///         let tool = tool.clone();
///         Box::pin(async move {
///             let path = tool.save(input.model.cluster.as_str(), &cx.cancel).await?;
///             let artifact = BackupArtifact::new(path, 4096, "e3b0c442…");
///             Ok(BackupReport::new(BackupProof::Restored, vec![artifact]))
///         })
///     }))
/// }
/// # step(Tool);
/// ```
pub fn back_up_fn<F>(step: F) -> F
where
    F: for<'a> Fn(&'a StepContext, &'a StepInput) -> BoxFuture<'a, Result<BackupReport, StepError>>
        + Send
        + Sync,
{
    step
}

/// A closure as step 4, which may keep things of its own and borrow what it is
/// handed; its stream of events outlives both. See [`back_up_fn`] for how to
/// write one.
pub fn migrate_fn<F>(step: F) -> F
where
    F: for<'a> Fn(
            &'a StepContext,
            &'a StepInput,
            DrainCommands,
        ) -> BoxFuture<'a, Result<DrainEvents, StepError>>
        + Send
        + Sync,
{
    step
}

#[async_trait]
impl<F> PrepareEnvironment for F
where
    F: for<'a> Fn(&'a StepContext, &'a StepInput) -> BoxFuture<'a, Result<StepReport, StepError>>
        + Send
        + Sync,
{
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        self(cx, input).await
    }
}

#[async_trait]
impl<F> BackUpData for F
where
    F: for<'a> Fn(&'a StepContext, &'a StepInput) -> BoxFuture<'a, Result<BackupReport, StepError>>
        + Send
        + Sync,
{
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        self(cx, input).await
    }
}

#[async_trait]
impl<F> MigratePods for F
where
    F: for<'a> Fn(
            &'a StepContext,
            &'a StepInput,
            DrainCommands,
        ) -> BoxFuture<'a, Result<DrainEvents, StepError>>
        + Send
        + Sync,
{
    async fn migrate(
        &self,
        cx: &StepContext,
        input: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        self(cx, input, commands).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;
    use futures::executor::block_on;

    use super::*;
    use crate::steps::{BackupProof, StepErrorKind};
    use crate::{ClusterId, ClusterModel, Fence, KubeVersion, Moment, ObjectName, Policy};

    fn environment() -> (StepContext, StepInput) {
        let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let policy = Arc::new(Policy::default());
        let target = KubeVersion::new(1, 37, 0);
        (
            StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("run", 1)),
            StepInput::new(Arc::new(model), policy, target),
        )
    }

    fn refused(by: &str, cx: &StepContext, input: &StepInput) -> StepError {
        let object = ObjectName::cluster("Backup", input.model.cluster.to_string());
        let message = format!("{by} says no to {}", cx.fence.run);
        StepError::new(StepErrorKind::Forbidden, object, message)
    }

    /// Each keeps a name, and its future borrows both arguments over an await.
    #[test]
    fn closures_that_keep_and_borrow_are_steps() {
        let (cx, input) = environment();
        let keep = || "ann".to_owned();

        let name = keep();
        let step: Arc<dyn BackUpData> = Arc::new(back_up_fn(move |cx, input| {
            let name = name.clone();
            Box::pin(async move {
                std::future::ready(()).await;
                match cx.cancel.is_cancelled() {
                    true => Err(refused(&name, cx, input)),
                    false => Ok(BackupReport::new(BackupProof::Restored, Vec::new())),
                }
            })
        }));
        let report = block_on(step.run(&cx, &input)).unwrap();
        assert_eq!(report.proof, BackupProof::Restored);
        cx.cancel.cancel();
        let error = block_on(step.run(&cx, &input)).unwrap_err();
        assert_eq!(error.to_string(), "Backup c: ann says no to run");

        let name = keep();
        let step: Arc<dyn PrepareEnvironment> = Arc::new(prepare_fn(move |cx, input| {
            let name = name.clone();
            Box::pin(async move { Err(refused(&name, cx, input)) })
        }));
        assert!(block_on(step.run(&cx, &input)).is_err());

        let name = keep();
        let step: Arc<dyn MigratePods> = Arc::new(migrate_fn(move |cx, input, commands| {
            let name = name.clone();
            Box::pin(async move {
                let error = refused(&name, cx, input);
                assert_eq!(commands.count().await, 0, "{error}");
                Ok(futures::stream::empty().boxed())
            })
        }));
        let none = futures::stream::empty().boxed();
        let events = block_on(step.migrate(&cx, &input, none)).unwrap();
        assert_eq!(block_on(events.count()), 0);
    }
}
