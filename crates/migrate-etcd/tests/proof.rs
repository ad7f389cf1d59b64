//! Snapshots of real members, read and compared.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod damage;
mod folder;
mod member;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use damage::Damages;
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, PutOptions};
use folder::names;
use member::{Act, Answers, FakeMember, HashAnswer};
use migrate_core::Cancellation;
use migrate_etcd::{
    Database, Error, EtcdVersion, Inspection, Member, Membership, Proven, Restore, SnapshotBackup,
    inspect, prove,
};
use server::{Server, V34, V35, V36, V37, etcd, usual};
use tempfile::TempDir;

const STALL: Duration = Duration::from_secs(30);

async fn save_proven(
    backup: &SnapshotBackup,
    name: &str,
    members: &[Member],
) -> Result<Proven, Error> {
    backup
        .save_proven(name, members, &Cancellation::new(), |_, _| {})
        .await
}

/// Keys that are put, changed and deleted, and some that belong to a lease.
async fn fill(client: &mut Client, salt: &str) {
    let lease = client.lease_grant(3600, None).await.unwrap().id();
    for round in 0..3 {
        for i in 0..60 {
            let key = format!("/registry/pods/default/web-{i}");
            let value = format!("{salt} {round} {}", "v".repeat(i * 20));
            let options = (i == 7).then(|| PutOptions::new().with_lease(lease));
            client.put(key, value, options).await.unwrap();
        }
        client
            .delete(format!("/registry/pods/default/web-{round}"), None)
            .await
            .unwrap();
    }
}

/// A snapshot, `first.db`, of a member that has set its versions: each does so some seconds
/// after its start, that of its storage from 3.6 on.
async fn with_versions(server: &Server, folder: &Path, has_storage: bool) -> PathBuf {
    let saved = async {
        loop {
            let path = server.save(folder, "first.db").await.path;
            let told = inspect(&path).unwrap();
            let is_stored = told.storage_version.is_some() || !has_storage;
            if told.cluster_version.is_some() && is_stored {
                return path;
            }
            std::fs::remove_file(path).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let saved = tokio::time::timeout(Duration::from_secs(60), saved).await;
    saved.unwrap_or_else(|_| panic!("it never sets its versions: {}", server.log()))
}

/// Whether the file has the hash that the member gives; what it was compacted at.
async fn same_hash(client: &mut Client, path: &Path) -> i64 {
    let database = Database::open(path).unwrap();
    let revision = database.inspect().unwrap().revision;
    let live = client.hash_kv(revision).await.unwrap();
    let compacted = live.compact_version();
    assert_eq!(database.hash_kv(revision, compacted).unwrap(), live.hash());
    compacted
}

async fn hashes_are_equal(version: &'static str) {
    let Some(etcd) = etcd(version) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    let mut client = server.client().await;
    fill(&mut client, "a").await;
    let has_storage = ![V34, V35].contains(&version);
    let first = with_versions(&server, folder.path(), has_storage).await;
    assert_eq!(same_hash(&mut client, &first).await, -1);
    let told = inspect(&first).unwrap();
    let status = client.status().await.unwrap();
    let minor = version.rsplit_once('.').unwrap().0;
    assert_eq!(told.revision, status.header().unwrap().revision());
    let count = client
        .get("", Some(etcd_client::GetOptions::new().with_all_keys()))
        .await;
    assert_eq!(told.keys.alive, count.unwrap().count() as u64);
    assert_eq!((told.keys.revisions, told.keys.tombstones), (183, 3));
    assert_eq!(told.leases, 1);
    let is_minor = |found: &Option<String>| {
        let found = found.as_deref().and_then(|it| it.rsplit_once('.'));
        found.is_some_and(|(found, _)| found == minor)
    };
    assert!(is_minor(&told.cluster_version), "{told:?}");
    match has_storage {
        true => assert!(is_minor(&told.storage_version), "{told:?}"),
        false => assert_eq!(told.storage_version, None),
    }
    assert_eq!(told.members.len(), 1);
    assert_eq!(told.members[0].name, "old");
    assert_eq!(told.kubernetes.resources[0].resource, "pods");
    assert_eq!(told.kubernetes.resources[0].objects, told.keys.alive);
    assert!(!told.auth.enabled && told.trailer.is_some());

    // A compaction after the save, right at a tombstone, is not in the file.
    let tombstone = 1 + 61;
    for (compact, name) in [(tombstone, "second.db"), (tombstone + 70, "third.db")] {
        client.compact(compact, None).await.unwrap();
        assert_eq!(same_hash(&mut client, &first).await, compact);
        let next = server.save(folder.path(), name).await.path;
        assert_eq!(same_hash(&mut client, &next).await, compact);
        client.put("more", name, None).await.unwrap();
        let later = server
            .save(folder.path(), &format!("later-{name}"))
            .await
            .path;
        assert_eq!(same_hash(&mut client, &later).await, compact);
        let database = Database::open(&later).unwrap();
        let told = database.inspect().unwrap();
        assert_eq!(told.compaction.scheduled, Some(compact));
        // The test can fail: without the compaction it is another hash.
        let without = database.hash_kv(told.revision, -1).unwrap();
        assert_ne!(without, client.hash_kv(told.revision).await.unwrap().hash());
    }
    client.defragment().await.unwrap();
    let last = server.save(folder.path(), "defragmented.db").await.path;
    same_hash(&mut client, &last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_3_6_gives_the_hash_of_the_file() {
    hashes_are_equal(V36).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_3_7_gives_the_hash_of_the_file() {
    hashes_are_equal(V37).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "older etcd"]
async fn real_etcd_3_4_and_3_5_give_the_hash_of_the_file() {
    hashes_are_equal(V34).await;
    hashes_are_equal(V35).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_members_prove_a_file_and_another_cluster_does_not() {
    let Some(etcd) = etcd(usual()) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut servers = Server::three(&etcd, folder.path());
    let mut client = servers[0].client().await;
    for server in &mut servers {
        server.client().await;
    }
    fill(&mut client, "ours").await;
    let members: Vec<_> = servers.iter().map(|s| Member::new(s.endpoint())).collect();
    let backup = SnapshotBackup::new(members[1].clone(), folder.path());
    let proven = save_proven(&backup, "proven.db", &members).await.unwrap();
    assert_eq!((proven.snapshots, proven.proof.members.len()), (1, 3));
    assert_eq!(proven.proof.inspection.members.len(), 3);
    let path = proven.artifact.path;

    // The same member by its name is no second one.
    let by_name = members[0].endpoint.replace("127.0.0.1", "localhost");
    let mut named = vec![members[0].clone(), Member::new(by_name)];
    let result = prove(&path, &named, STALL).await;
    let is_one_of_three = |error: Error| match error {
        Error::TooFewMembers {
            answered, voters, ..
        } => (answered, voters) == (1, 3),
        other => panic!("{other:?}"),
    };
    assert!(is_one_of_three(result.unwrap_err()));
    let result = save_proven(&backup, "one.db", &named).await;
    assert!(is_one_of_three(result.unwrap_err()));
    assert!(!at("one.db").exists());
    named.push(members[2].clone());
    let proof = prove(&path, &named, STALL).await.unwrap();
    let names: Vec<_> = proof.compared.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["m0", "m2"]);
    assert_eq!(
        proof.members,
        [members[0].endpoint.as_str(), &members[2].endpoint]
    );

    // One that is away is named; two of three are enough, one is not.
    drop(servers.pop());
    let quick = Duration::from_secs(3);
    let proof = prove(&path, &members, quick).await.unwrap();
    assert_eq!((proof.members.len(), proof.silent.len()), (2, 1));
    let away = [members[0].clone(), members[2].clone()];
    let result = prove(&path, &away, quick).await;
    assert!(matches!(
        result,
        Err(Error::TooFewMembers {
            answered: 1,
            voters: 3,
            ..
        })
    ));
    let result = prove(&path, &[], quick).await;
    assert!(matches!(
        result,
        Err(Error::TooFewMembers { answered: 0, .. })
    ));

    // The same revisions with other values.
    let mut other = Server::alone(&etcd, &at("other"));
    let mut theirs = other.client().await;
    fill(&mut theirs, "theirs").await;
    let them = Member::new(other.endpoint());
    let result = prove(&path, std::slice::from_ref(&them), STALL).await;
    assert!(matches!(result, Err(Error::NotEqual { .. })), "{result:?}");
    let both = [members[0].clone(), them];
    // The member that went may have led: without a leader nothing is saved.
    servers[1].client().await;
    let unproven = save_proven(&backup, "other.db", &both).await;
    assert!(
        matches!(unproven, Err(Error::NotEqual { .. })),
        "{unproven:?}"
    );
    assert!(!at("other.db").exists());

    // What is compacted away cannot be proven any more.
    client.put("later", "", None).await.unwrap();
    let revision = client.put("later", "", None).await.unwrap();
    let revision = revision.header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
    let result = prove(&path, &members[..1], STALL).await;
    assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_snapshots_are_taken_again_where_a_member_is_compacted_meanwhile() {
    let Some(etcd) = etcd(V37) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    let mut client = server.client().await;
    fill(&mut client, "a").await;
    let real = std::fs::read(server.save(folder.path(), "real.db").await.path).unwrap();
    let (hash, id) = {
        let database = Database::from_bytes(real.clone()).unwrap();
        let told = database.inspect().unwrap();
        let hash = database.hash_kv(told.revision, -1).unwrap();
        let id = u64::from_str_radix(&told.members[0].id, 16).unwrap();
        (HashAnswer::Hash(hash, -1), id)
    };
    let compacted = HashAnswer::Refuse("etcdserver: mvcc: required revision has been compacted");
    let behind = HashAnswer::Refuse("etcdserver: mvcc: required revision is a future revision");
    let (data, trailer) = real.split_at(real.len() - 32);
    let blob = |blob: &[u8], remaining: usize| Act::Send {
        blob: blob.to_vec(),
        remaining: remaining as u64,
    };
    let acts = vec![blob(data, 0), blob(trailer, 0)];
    for (answers, expected) in [
        (vec![behind, behind, hash], Some(1)),
        (vec![compacted, hash], Some(2)),
        (vec![compacted, compacted, hash], Some(3)),
        (vec![compacted], None),
    ] {
        let mut member = Answers::of(acts.clone());
        member.hashes = answers;
        member.id = id;
        let member = FakeMember::start(member).await;
        let ours = Member::new(member.endpoint.clone());
        let backup = SnapshotBackup::new(ours.clone(), folder.path());
        let path = folder.path().join("again.db");
        match save_proven(&backup, "again.db", &[ours]).await {
            Ok(proven) => {
                assert_eq!(Some(proven.snapshots), expected);
                assert_eq!(proven.snapshots, member.snapshots());
                std::fs::remove_file(path).unwrap();
            }
            Err(error) => {
                assert!(
                    expected.is_none() && matches!(error, Error::Compacted { took: Some(_), .. }),
                    "{error}"
                );
                let text = error.to_string();
                // Each took no time: it is not the link's fault.
                assert!(text.contains("see who compacts oftener"), "{text}");
                assert_eq!(member.snapshots(), 3);
                assert!(!path.exists());
            }
        }
    }
}

/// Until it is proven it is no backup: a process that is killed leaves what is told from
/// one by its name, and by nobody having locked it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_no_name_while_it_is_compared() {
    let Some(etcd) = etcd(usual()) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    fill(&mut server.client().await, "a").await;
    let ours = Member::new(server.endpoint());
    let mut answers = Answers::of(Vec::new());
    answers.hashes = vec![HashAnswer::Refuse(
        "etcdserver: mvcc: required revision is a future revision",
    )];
    let other = FakeMember::start(answers).await;
    let backups = folder.path().join("backups");
    let backup = SnapshotBackup::new(ours, &backups);
    let members = [Member::new(other.endpoint.clone())];
    let cancel = Cancellation::new();
    let saving = std::pin::pin!(backup.save_proven("a.db", &members, &cancel, |_, _| {}));
    let asked = std::pin::pin!(async {
        while other.hashed() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(names(&backups), ["a.db.kube-migrate.part"]);
    });
    let first = futures::future::select(saving, asked).await;
    let futures::future::Either::Right(((), saving)) = first else {
        panic!("it was compared with whom nothing is known of");
    };
    // Members that do not answer are not waited for by who wants no backup any more.
    cancel.cancel();
    let saved = saving.await;
    assert!(matches!(saved, Err(Error::Cancelled)), "{saved:?}");
    assert_eq!(names(&backups), [""; 0]);
}

/// A follower that was cut off serves what it had, and others agree with that: they
/// had it as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_member_that_is_behind_is_waited_for_or_refused() {
    let Some(etcd) = etcd(usual()) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    fill(&mut server.client().await, "a").await;
    let real = std::fs::read(server.save(folder.path(), "real.db").await.path).unwrap();
    let database = Database::from_bytes(real.clone()).unwrap();
    let told = database.inspect().unwrap();
    let has = told.revision;
    let cluster = Answers::of(Vec::new()).cluster;
    let (data, trailer) = real.split_at(real.len() - 32);
    let blob = |blob: &[u8], remaining: usize| Act::Send {
        blob: blob.to_vec(),
        remaining: remaining as u64,
    };
    let of = |revisions: Vec<i64>| {
        let mut answers = Answers::of(vec![blob(data, 0), blob(trailer, 0)]);
        answers.id = u64::from_str_radix(&told.members[0].id, 16).unwrap();
        answers.hashes = vec![HashAnswer::Hash(database.hash_kv(has, -1).unwrap(), -1)];
        answers.revisions = revisions;
        answers.cluster = cluster;
        answers
    };
    for (source, other, snapshots) in [
        // As far as the other, or further; not yet, and then as far.
        (vec![has], has, Ok(1)),
        (vec![has], has - 1, Ok(1)),
        (vec![has - 2, has - 1, has], has, Ok(1)),
        // Never: it is not even asked. And what it says is not what is in the file.
        (vec![has], has + 1, Err(0)),
        (vec![has + 1], has + 1, Err(1)),
    ] {
        let source = FakeMember::start(of(source)).await;
        let other = FakeMember::start(of(vec![other])).await;
        let [ours, theirs] = [&source, &other].map(|it| Member::new(it.endpoint.clone()));
        let stall = Duration::from_secs(1);
        let backup = SnapshotBackup::new(ours.clone(), folder.path()).with_stall(stall);
        let saved = save_proven(&backup, "a.db", std::slice::from_ref(&theirs)).await;
        match (saved, snapshots) {
            (Ok(proven), Ok(taken)) => {
                assert_eq!(source.snapshots(), taken);
                std::fs::remove_file(proven.artifact.path).unwrap();
            }
            (
                Err(Error::Behind {
                    endpoint, ahead, ..
                }),
                Err(taken),
            ) => {
                assert_eq!((endpoint, ahead), (ours.endpoint, theirs.endpoint));
                assert_eq!(source.snapshots(), taken);
                assert!(!folder.path().join("a.db").exists());
            }
            (saved, _) => panic!("{saved:?}"),
        }
    }
}

/// Alarms as real members list them, each those of all.
async fn alarms_are_told_apart(version: &'static str) {
    let Some(etcd) = etcd(version) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut server = Server::alone(&etcd, &folder.path().join("data"));
    let mut client = server.client().await;
    client.put("a", "b", None).await.unwrap();
    let id = client.status().await.unwrap().header().unwrap().member_id();
    let backup = SnapshotBackup::new(Member::new(server.endpoint()), folder.path());
    let cancel = Cancellation::new();
    for (whose, is_ours) in [(id ^ 1, false), (id, true)] {
        let mut of = AlarmOptions::new();
        of.with_member(whose);
        let raised = client.alarm(AlarmAction::Activate, AlarmType::Corrupt, Some(of));
        raised.await.unwrap();
        let listed = client.status().await.unwrap().errors().to_vec();
        assert!(listed.iter().any(|it| it.contains("CORRUPT")), "{listed:?}");
        let name = format!("{whose}.db");
        match backup.save(&name, &cancel, |_, _| {}).await {
            Ok(_) => assert!(!is_ours, "{listed:?}"),
            Err(Error::MemberUnfit { reason, .. }) => {
                assert!(is_ours && reason.contains("CORRUPT"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_3_6_is_corrupt_only_where_the_alarm_is_its_own() {
    alarms_are_told_apart(V36).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_etcd_3_7_is_corrupt_only_where_the_alarm_is_its_own() {
    alarms_are_told_apart(V37).await;
}

/// Of so many damaged files one is restored.
const RESTORED: u64 = 40;

async fn damage_is_seen(times: u64, step: usize) {
    for version in [V36, V37] {
        let Some(etcd) = etcd(version) else {
            return;
        };
        let folder = TempDir::new().unwrap();
        let mut server = Server::alone(&etcd, &folder.path().join("data"));
        let mut client = server.client().await;
        fill(&mut client, "a").await;
        let path = server.save(folder.path(), "real.db").await.path;
        let whole = std::fs::read(path).unwrap();
        let random = Damages::of(whole.clone(), RESTORED).at_random(times, 3);
        let fields = Damages::of(whole, RESTORED).in_every_field(step);
        println!("etcd {version}: random, fields\n{random}\n{fields}");
        let restored = [random.restored, fields.restored];
        println!("restored: {restored:?}");
        assert!(restored.iter().all(|it| it.refused > 0), "{restored:?}");
        assert!(random.all().by_inspection > times / 5, "{random}");
        let fields = fields.all();
        assert!(fields.by_inspection > fields.by_trailer / 2, "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_snapshots_that_are_damaged_are_refused() {
    damage_is_seen(1000, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "100,000 damages take minutes"]
async fn real_snapshots_that_are_damaged_100_000_times_are_refused() {
    damage_is_seen(50_000, 1).await;
}
