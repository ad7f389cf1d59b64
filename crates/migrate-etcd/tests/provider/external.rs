//! A cluster whose keys are not all on its nodes.

use std::fs;
use std::sync::Arc;

use migrate_core::BackUpData;
use migrate_core::steps::{BACKUP_UNPROVEN, BackupProof};
use migrate_etcd::{
    BACKUP_KEY_IN_DOUBT, FolderNode, KeyRing, Lock, Manifest, PrivateKey, ProvenBackup, Seal,
    SigningKey,
};

use super::{environment, live, node, with_one_key};
use crate::server::{etcd, usual};

/// With an external CA the set is proven, and says what a restore needs beside it; without the
/// key that signs tokens it is not.
#[tokio::test]
async fn a_key_that_no_node_has_is_told_and_recorded() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    drop(node(&root));
    let without = [
        ("ca.key", BackupProof::Proven, "an external CA"),
        ("sa.key", BackupProof::Unproven, "to sign tokens"),
    ];
    for (millis, (file, proof, words)) in (1..).zip(without) {
        fs::remove_file(root.join("etc/kubernetes/pki").join(file)).unwrap();
        let (cx, input) = environment(millis);
        let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
        let nodes = vec![Arc::new(FolderNode::new("cp-1", &root)) as _];
        let step = ProvenBackup::new(snapshots.clone(), vec![member.clone()])
            .as_set(seal, nodes, live())
            .signed(Arc::clone(&signing));
        let report = step.run(&cx, &input).await.unwrap();
        assert_eq!(report.proof, proof, "{file}");
        let unproven = |code: &str| {
            report
                .findings
                .iter()
                .any(|it| it.code == code && it.blocks())
        };
        assert_eq!(unproven(BACKUP_UNPROVEN), proof == BackupProof::Unproven);
        let mut told = report.findings.iter();
        let told = told.rfind(|it| it.code == BACKUP_KEY_IN_DOUBT).unwrap();
        let said = format!("{} {}", told.evidence, told.cure);
        assert!(said.contains(file) && said.contains("cp-1"), "{said}");
        assert!(said.contains(words) && !told.blocks(), "{said}");
        let path = &report.artifacts[0].path;
        let manifest = Manifest::open(path, &[signing.public()]).unwrap();
        assert_eq!(manifest.proof, proof);
        assert_eq!(manifest.keys_match, proof == BackupProof::Proven);
        let doubt = manifest.keys_in_doubt.last().unwrap();
        assert_eq!((doubt.file.as_str(), doubt.key), (file, PrivateKey::Absent));
        assert_eq!(
            (doubt.nodes.as_slice(), doubt.elsewhere),
            (&["cp-1".to_owned()][..], false)
        );
    }
}
