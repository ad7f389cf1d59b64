//! A backup step of your own: a closure is a `BackUpData`.
//!
//! Here it stands for a tool that the team trusts and that has just made and
//! restored a backup. `cargo run --example custom_backup`

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, ClusterId, ClusterModel, Fence, Moment, Policy, StepContext, StepError, StepInput,
};

fn our_tool<'a>(
    _: &'a StepContext,
    input: &'a StepInput,
) -> BoxFuture<'a, Result<BackupReport, StepError>> {
    async move {
        let path = format!("/backups/{}.db", input.model.cluster);
        let artifact = BackupArtifact::new(path, 4096, "e3b0c442…");
        Ok(BackupReport::new(BackupProof::Restored, vec![artifact]))
    }
    .boxed()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StepError> {
    let step: Arc<dyn BackUpData> = Arc::new(our_tool);
    let model = ClusterModel::new(ClusterId::new("demo"), Moment::EPOCH);
    let target = "v1.37.2"
        .parse()
        .unwrap_or(migrate_core::KubeVersion::new(1, 37, 2));
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("example", 1));
    let report = step.run(&cx, &input).await?;
    println!("{:?}: {}", report.proof, report.artifacts[0].path.display());
    Ok(())
}
