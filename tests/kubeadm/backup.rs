//! The program's own backup on real nodes: found, proven, a set, encrypted, signed,
//! stored, and nothing of what is in it anywhere else.

#[path = "../../examples/upgrade/backup/from_nodes.rs"]
mod from_nodes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use from_nodes::{FromNodes, Keeping};
use kube::Client;
use migrate_core::steps::{BackupProof, BackupReport};
use migrate_core::{BackUpData, Cancellation};
use migrate_etcd::{BackupSet, KeyRing, Lock, Seal, SigningKey, Store, inspect};
use migrate_executor::Report;
use migrate_testbed::KubeadmCluster;
use migrate_upgrade::Ssh;

use crate::{TARGET, figure};

/// The line of the policy that a proven backup makes needless.
pub(crate) const WAIVED: &str = "waive = [\"KM-BACKUP-001\"]\n";

/// Where the backups of a run are, and the keys to them.
pub(crate) struct Backups {
    folder: PathBuf,
    store: Store,
    signing: Arc<SigningKey>,
    secret: String,
    public: String,
}

impl Backups {
    pub(crate) fn new(cluster: &KubeadmCluster) -> Self {
        let folder = cluster.dir().join("backups");
        let (secret, public) = KeyRing::generate();
        Self {
            store: Store::folder(&cluster.dir().join("store")).unwrap(),
            signing: Arc::new(SigningKey::from_seed(&[7; 32]).unwrap()),
            folder,
            secret,
            public,
        }
    }

    /// The step, which reaches nodes and members over ssh alone: the network of the
    /// nodes has no way to this process.
    pub(crate) fn step(&self, cluster: &KubeadmCluster, client: Client) -> Arc<dyn BackUpData> {
        let lock = Lock::for_keys([&self.public]).unwrap();
        Arc::new(FromNodes {
            client,
            ssh: Ssh::new().with_config(cluster.ssh_config()),
            folder: self.folder.clone(),
            named: None,
            keeping: Keeping {
                seal: Some(Seal::new(lock).compressed()),
                signing: Some(Arc::clone(&self.signing)),
                store: Some(self.store.clone()),
                trial_etcd: None,
                least_rate: None,
            },
        })
    }

    /// That both backups of the run are proven, and in the store with what restores
    /// the cluster, the last one of the version that is there now.
    pub(crate) async fn are_proven(&self, cluster: &KubeadmCluster, report: &Report) {
        for backup in [&report.backup, &report.second_backup] {
            let backup = backup.as_ref().expect("the run has backed up");
            self.is_proven(backup, report);
        }
        let trusted = [self.signing.public()];
        let catalogue = self.store.list(&trusted).await.unwrap();
        assert!(catalogue.refused.is_empty() && catalogue.unfinished.is_empty());
        assert_eq!(catalogue.backups.len(), 2);
        let cancel = Cancellation::new();
        let fetched = cluster.dir().join("fetched");
        let newest = self
            .store
            .fetch_newest(&trusted, |_| true, &fetched, &cancel, |_, _| {});
        let (path, manifest, damaged) = newest.await.unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        assert_eq!(manifest.kubernetes.as_deref(), Some(TARGET));
        assert!(manifest.keys_match);
        figure("kubeadm.backup", manifest.bytes as f64, "B");

        let keys = Arc::new(KeyRing::parse(&self.secret).unwrap());
        let opened = cluster.dir().join("opened");
        let record = BackupSet::unpack(&path, keys, &opened, &cancel)
            .await
            .unwrap();
        let members = cluster
            .nodes()
            .iter()
            .filter(|node| node.is_control_plane());
        let members: Vec<&str> = members.map(|node| node.name()).collect();
        let names: Vec<&str> = record.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, members);
        let sound = inspect(&opened.join("snapshot.db")).unwrap();
        assert_eq!(Some(sound.revision), manifest.revision);
        self.tells_no_key(cluster, report, &opened).await;
    }

    fn is_proven(&self, backup: &BackupReport, report: &Report) {
        assert!(backup.proof >= BackupProof::Proven, "{report}");
        let blocks: Vec<_> = backup.findings.iter().filter(|it| it.blocks()).collect();
        assert!(blocks.is_empty(), "{blocks:?}");
        // Every member was compared, the set is whole, and it is encrypted.
        let told: Vec<_> = backup.findings.iter().map(|it| it.code.as_str()).collect();
        for code in ["KM-BACKUP-003", "KM-BACKUP-006"] {
            assert!(!told.contains(&code), "{:?}", backup.findings);
        }
    }

    /// The key that signs tokens is in the set, and in nothing that is readable.
    async fn tells_no_key(&self, cluster: &KubeadmCluster, report: &Report, opened: &Path) {
        let node = cluster.nodes().first().unwrap();
        let path = "/etc/kubernetes/pki/sa.key";
        let key = node.run(&["cat", path]).await.unwrap().stdout;
        let key = String::from_utf8(key).unwrap();
        let marker = key.lines().nth(1).unwrap();
        let kept = opened.join("nodes").join(node.name()).join(&path[1..]);
        assert_eq!(std::fs::read_to_string(kept).unwrap(), key);
        let mut said = format!("{report} {}", serde_json::to_string(report).unwrap());
        for folder in [&self.folder, &cluster.dir().join("store")] {
            for file in std::fs::read_dir(folder).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        let journal = std::fs::read(cluster.dir().join("journal")).unwrap();
        said.push_str(&String::from_utf8_lossy(&journal));
        for secret in [marker, self.secret.trim()] {
            assert!(!said.contains(secret), "a key was told");
        }
    }
}
