//! Backup steps of your own: closures that keep what they need.
//!
//! The first asks a tool that the team trusts, the second takes a person's
//! word. `cargo run --example custom_backup`

use std::path::PathBuf;
use std::sync::Arc;

use migrate_core::steps::{BACKUP_UNPROVEN, BackupArtifact, BackupProof, BackupReport, back_up_fn};
use migrate_core::{
    BackUpData, Cancellation, ClusterId, ClusterModel, Fence, Finding, KubeVersion, Moment,
    ObjectName, Policy, Severity, StepContext, StepError, StepErrorKind, StepInput,
};

/// Stands for the team's tool, which makes a backup and restores it.
#[derive(Clone)]
struct Tool {
    store: PathBuf,
}

impl Tool {
    async fn save(&self, cluster: &ClusterId, cancel: &Cancellation) -> Result<PathBuf, StepError> {
        if cancel.is_cancelled() {
            let object = ObjectName::cluster("Backup", cluster.to_string());
            let message = "cancelled before it began; nothing is left behind";
            return Err(StepError::new(StepErrorKind::Cancelled, object, message));
        }
        Ok(self.store.join(format!("{cluster}.db")))
    }
}

fn by_tool(tool: Tool) -> impl BackUpData {
    back_up_fn(move |cx, input| {
        let tool = tool.clone();
        Box::pin(async move {
            let path = tool.save(&input.model.cluster, &cx.cancel).await?;
            let artifact = BackupArtifact::new(path, 4096, "e3b0c442…");
            Ok(BackupReport::new(BackupProof::Restored, vec![artifact]))
        })
    })
}

/// No file is named, so the run goes on only if policy waives the finding.
fn by_word_of(person: String) -> impl BackUpData {
    back_up_fn(move |_, input| {
        let finding = Finding::new(
            BACKUP_UNPROVEN,
            Severity::Blocker,
            ObjectName::cluster("Backup", input.model.cluster.to_string()),
            format!("{person} says that there is a backup; nobody has looked at it here"),
            "waive KM-BACKUP-001 if you have proven it",
        );
        let report = BackupReport::new(BackupProof::Unproven, Vec::new()).with_finding(finding);
        Box::pin(async { Ok(report) })
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StepError> {
    let store = PathBuf::from("/backups");
    let steps: [Arc<dyn BackUpData>; 2] = [
        Arc::new(by_tool(Tool { store })),
        Arc::new(by_word_of("ann".to_owned())),
    ];
    let model = ClusterModel::new(ClusterId::new("demo"), Moment::EPOCH);
    let target = KubeVersion::new(1, 37, 2);
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::without_lease("example"));
    for step in steps {
        let report = step.run(&cx, &input).await?;
        println!("{:?}", report.proof);
        for artifact in &report.artifacts {
            println!("  {}", artifact.path.display());
        }
        for finding in &report.findings {
            println!("  {}: {}; {}", finding.code, finding.evidence, finding.cure);
        }
    }
    Ok(())
}
