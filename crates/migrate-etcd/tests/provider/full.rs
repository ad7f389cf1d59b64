//! A database that takes no more.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use migrate_etcd::BACKUP_FULL;

use super::server::{ports, url};
use super::*;

/// Its data have to be kept all the more; and nobody shall begin an upgrade that etcd refuses.
#[tokio::test]
async fn a_database_that_is_full_is_backed_up_and_told() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [client, peer] = ports();
    let cluster = format!("old={}", url(peer));
    let quota = ["--quota-backend-bytes", "400000"];
    let more = [&["--initial-cluster", &cluster][..], &quota].concat();
    let mut server = Server::start(&etcd, &at("old"), "old", [client, peer], &more);
    let mut client = server.client().await;
    let member = Member::new(server.endpoint());
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let is_full = |report: BackupReport| {
        let findings = report.findings;
        findings.into_iter().find(|it| it.code == BACKUP_FULL)
    };
    let run = async |millis: u64| {
        let snapshots = SnapshotBackup::new(member.clone(), at("backups"));
        let step = ProvenBackup::new(snapshots, vec![member.clone()]).signed(Arc::clone(&signing));
        let (cx, input) = environment(millis);
        let report = step.run(&cx, &input).await.unwrap();
        let manifest = Manifest::open(&report.artifacts[0].path, &[signing.public()]).unwrap();
        // Of the program; its cluster's has no patch.
        assert_eq!(manifest.etcd.as_deref(), Some(usual()));
        is_full(report)
    };
    assert_eq!(run(1).await, None);
    // It looks at its size only now and then.
    let mut refused = None;
    for _ in 0..1000 {
        refused = client.put("k", vec![7; 40_000], None).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert!(refused.unwrap().to_string().contains("space exceeded"));
    let full = run(2).await.expect("it is told");
    assert!(
        full.blocks() && full.evidence.contains("NOSPACE"),
        "{full:?}"
    );
    // A snapshot and no more tells it too.
    let (cx, input) = environment(4);
    let snapshots = SnapshotBackup::new(member.clone(), at("backups"));
    let report = snapshots.run(&cx, &input).await.unwrap();
    assert_eq!(is_full(report).map(|it| it.blocks()), Some(true));
    let id = client.status().await.unwrap().header().unwrap().member_id();
    let mut of = AlarmOptions::new();
    of.with_member(id);
    let disarm = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of));
    disarm.await.unwrap();
    let nearly = run(3).await.expect("it is told");
    assert!(
        !nearly.blocks() && nearly.evidence.contains("400000"),
        "{nearly:?}"
    );
}
