//! A proven backup of a cluster that kubeadm has made, by what is on its
//! control-plane nodes. Included by the tests on real nodes too, so that what they
//! show is what the program does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use migrate_core::steps::BackupReport;
use migrate_core::{BackUpData, StepContext, StepError, StepInput};
use migrate_etcd::{
    KubeadmMembers, LiveKeys, NamedMembers, NodeFiles, ProvenBackup, ScriptNode, Seal, SigningKey,
    Store, Way,
};
use migrate_upgrade::{Ssh, scripts_on};

/// How long the read of one file of a node may take.
const READ: Duration = Duration::from_secs(60);

/// What becomes of a snapshot.
#[derive(Clone, Default)]
pub(crate) struct Keeping {
    pub(crate) seal: Option<Seal>,
    pub(crate) signing: Option<Arc<SigningKey>>,
    pub(crate) store: Option<Store>,
    pub(crate) trial_etcd: Option<PathBuf>,
    /// Bytes a second that a snapshot has to come with, if not the usual.
    pub(crate) least_rate: Option<u64>,
}

impl Keeping {
    /// `step`, as slow as it may be, tried in `folder`, signed and stored, as far as that was
    /// asked for.
    pub(crate) fn finish(&self, step: ProvenBackup, folder: &Path) -> ProvenBackup {
        // Without an etcd what was restored is read again.
        let step = step.with_trial(folder, self.trial_etcd.clone());
        let step = match self.least_rate {
            Some(rate) => step.with_least_rate(rate),
            None => step,
        };
        match (&self.signing, &self.store) {
            (Some(key), Some(store)) => step.stored(store.clone(), Arc::clone(key)),
            (Some(key), None) => step.signed(Arc::clone(key)),
            (None, _) => step,
        }
    }
}

/// Step 2 of a run over ssh. Put together for each backup: members, certificates and
/// keys are those that the cluster has by then.
pub(crate) struct FromNodes {
    pub(crate) client: kube::Client,
    pub(crate) ssh: Ssh,
    /// Where backups are made, and stay.
    pub(crate) folder: PathBuf,
    /// The members to take it of; without them they are looked for on the nodes.
    pub(crate) named: Option<NamedMembers>,
    pub(crate) keeping: Keeping,
}

impl FromNodes {
    fn files(&self, input: &StepInput) -> Vec<Arc<dyn NodeFiles>> {
        let members = input.model.control_plane.iter();
        let files = members.map(|member| {
            let scripts = scripts_on(Arc::new(self.ssh.clone()), member.name.clone(), READ);
            Arc::new(ScriptNode::new(&member.name, scripts)) as Arc<dyn NodeFiles>
        });
        files.collect()
    }

    fn step(&self, files: &[Arc<dyn NodeFiles>]) -> ProvenBackup {
        if let Some(members) = &self.named {
            return ProvenBackup::finding(Arc::new(members.clone()), &self.folder);
        }
        let ssh = self.ssh.clone();
        let members = KubeadmMembers::new(files.to_vec()).through(move |node, address| {
            let ssh = ssh.clone();
            async move {
                let tunnel = ssh.tunnel(&node, &address).await?;
                Ok::<_, StepError>(Way::new(tunnel.address(), tunnel))
            }
            .boxed()
        });
        ProvenBackup::finding(Arc::new(members), &self.folder)
    }
}

#[async_trait::async_trait]
impl BackUpData for FromNodes {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let files = self.files(input);
        let mut step = self.step(&files);
        if let Some(seal) = &self.keeping.seal {
            let keys = migrate_kube::cluster_keys(&self.client).await?;
            let live = LiveKeys::parse(&keys.ca, &keys.jwks)?;
            step = step.as_set(seal.clone(), files, live);
        }
        self.keeping.finish(step, &self.folder).run(cx, input).await
    }
}
