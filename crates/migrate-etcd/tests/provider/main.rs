//! Step 2 of a run with a real etcd: proven, tried, a set, stored, found again,
//! restored, and nothing of what is in it anywhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod external;
#[path = "../folder/mod.rs"]
mod folder;
mod full;
#[path = "../server/mod.rs"]
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use folder::names;
use migrate_core::steps::{BACKUP_UNPROVEN, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Cancellation, ClusterId, ClusterModel, ControlPlaneMember, Event, Fence,
    KubeVersion, Moment, Policy, StepContext, StepInput,
};
use migrate_etcd::{
    BACKUP_COMPARED, BACKUP_FORCED, BACKUP_NOT_COMPARED, BACKUP_PLAIN, BACKUP_UNSIGNED, BackupSet,
    FindMembers, FolderNode, KeyRing, KubeadmMembers, LiveKeys, Lock, Manifest, Member, Membership,
    NodeFiles, ProvenBackup, Restore, Seal, SigningKey, SnapshotBackup, Store, StoredBackup,
};
use server::{Server, etcd, usual};

const MARKERS: [&str; 3] = [
    "planted-key-5d0c",
    "planted-value-81ef",
    "planted-file-c3a9",
];

const CA: &str = include_str!("../../src/set/testdata/ca.crt");
const KID: &str = "GOAGGdsohpRJUKNLd0KEkvRVKwgmADw5MjpmqreYoWw";

fn environment(millis: u64) -> (StepContext, StepInput) {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let version = KubeVersion::new(1, 36, 2);
    model
        .control_plane
        .push(ControlPlaneMember::new("cp-1", version));
    let now = move || Moment::from_millis(millis);
    (
        StepContext::new(Arc::new(now), Fence::new("run", 1)),
        StepInput::new(
            Arc::new(model),
            Arc::new(Policy::default()),
            KubeVersion::new(1, 37, 0),
        ),
    )
}

/// A control-plane node's files.
fn node(root: &Path) -> Arc<dyn NodeFiles> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/set/testdata");
    let pki = root.join("etc/kubernetes/pki");
    fs::create_dir_all(&pki).unwrap();
    for name in ["ca.crt", "ca.key", "sa.key", "sa.pub"] {
        fs::copy(data.join(name), pki.join(name)).unwrap();
    }
    fs::write(root.join("etc/kubernetes/admin.conf"), MARKERS[2]).unwrap();
    Arc::new(FolderNode::new("cp-1", root))
}

/// The same, whose static pods say where etcd is.
fn node_with_etcd(root: &Path, endpoint: &str) -> Arc<dyn NodeFiles> {
    let node = node(root);
    let manifests = root.join("etc/kubernetes/manifests");
    fs::create_dir_all(&manifests).unwrap();
    let server = format!("    - --etcd-servers={endpoint}\n");
    fs::write(manifests.join("kube-apiserver.yaml"), server).unwrap();
    node
}

fn live() -> LiveKeys {
    LiveKeys::parse(CA, &format!(r#"{{"keys":[{{"kid":"{KID}"}}]}}"#)).unwrap()
}

/// What an API server stores of the namespace by which a cluster is known.
async fn belongs_to(server: &mut Server, cluster: &str) {
    let key = "/registry/namespaces/kube-system";
    let value = format!(r#"{{"kind":"Namespace","metadata":{{"uid":"{cluster}"}}}}"#);
    server.client().await.put(key, value, None).await.unwrap();
}

/// An etcd with one key, and what makes snapshots of it in `backups`.
async fn with_one_key(etcd: &Path, folder: &Path) -> (Server, Member, SnapshotBackup) {
    let mut server = Server::alone(etcd, &folder.join("old"));
    server.client().await.put("a", "b", None).await.unwrap();
    let member = Member::new(server.endpoint());
    let snapshots = SnapshotBackup::new(member.clone(), folder.join("backups"));
    (server, member, snapshots)
}

fn assert_no_marker(text: &str) {
    for marker in MARKERS {
        assert!(!text.contains(marker), "{marker} in {text}");
    }
}

#[tokio::test]
async fn a_backup_is_proven_tried_stored_found_again_and_restored() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut server = Server::alone(&etcd, &at("old"));
    belongs_to(&mut server, "c").await;
    let mut client = server.client().await;
    for i in 0..200 {
        let key = format!("/registry/secrets/ns/{}-{i}", MARKERS[0]);
        client.put(key, MARKERS[1], None).await.unwrap();
    }
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let (secret, public) = KeyRing::generate();
    let seal = Seal::new(Lock::for_keys([&public]).unwrap());
    let store = Store::folder(&at("store")).unwrap();
    let made = 1_764_400_000_000;
    let (cx, input) = environment(made);
    let told: Arc<Mutex<String>> = Arc::default();
    let telling = Arc::clone(&told);
    let cx = cx.with_events(Arc::new(move |event: &Event| {
        let text = format!("{event:?}");
        telling.lock().unwrap().push_str(&text);
    }));

    let nodes = vec![node_with_etcd(&at("root"), &server.endpoint())];
    let members = Arc::new(KubeadmMembers::new(nodes.clone()));
    let step = ProvenBackup::finding(members, at("backups"))
        .with_trial(folder.path(), Some(etcd.clone()))
        .as_set(seal.clone(), nodes, live())
        .stored(store.clone(), Arc::clone(&signing));
    let report = step.run(&cx, &input).await.unwrap();
    assert_eq!(report.proof, BackupProof::Restored);
    // By which the executor judges it.
    let of = (report.cluster.as_ref(), report.taken);
    assert_eq!(
        of,
        (Some(&input.model.cluster), Some(Moment::from_millis(made)))
    );
    assert!(!report.findings.iter().any(|finding| finding.blocks()));
    let file = format!("etcd-c-run-{made}.tar.age");
    assert_eq!(
        names(&at("backups")),
        [file.clone(), format!("{file}.manifest.json")]
    );

    // The gate of another run, later, and of a cluster that is another by then.
    let trusted = [signing.public()];
    let gate = |store: Store| StoredBackup::new(store, trusted, Duration::from_secs(600));
    let (later, input) = environment(made + 599_000);
    let found = gate(store.clone()).run(&later, &input).await.unwrap();
    assert_eq!(found.proof, BackupProof::Restored);
    assert_eq!(found.taken, report.taken);
    let (late, _) = environment(made + 601_000);
    let error = gate(store.clone()).run(&late, &input).await.unwrap_err();
    assert!(error.to_string().contains("minutes old"), "{error}");

    // What a person does who has lost the cluster.
    let cancel = Cancellation::new();
    let fetched = store
        .fetch_newest(&trusted, |_| true, &at("fetched"), &cancel, |_, _| {})
        .await;
    let (path, manifest, _) = fetched.unwrap();
    assert_eq!(manifest.kubernetes.as_deref(), Some("v1.36.2"));
    let trial = format!("bootedWithHash {}", usual());
    assert_eq!(manifest.trial.as_deref(), Some(trial.as_str()));
    assert_eq!(manifest.locked_for, [public]);
    assert_eq!(manifest.nodes.as_deref(), Some(&["cp-1".to_owned()][..]));
    assert_eq!((manifest.compared.len(), manifest.voters), (1, Some(1)));
    let only = report.findings.iter().find(|it| it.code == BACKUP_COMPARED);
    assert!(only.unwrap().evidence.contains("the only voting member"));
    let keys = Arc::new(KeyRing::parse(&secret).unwrap());
    let record = BackupSet::unpack(&path, keys, &at("unpacked"), &cancel).await;
    let record = record.unwrap();
    let membership = Membership::parse("new=http://127.0.0.1:1", "after").unwrap();
    let snapshot = at("unpacked").join("snapshot.db");
    let restore = Restore::new(
        &snapshot,
        at("new"),
        membership,
        "new",
        usual().parse().unwrap(),
    );
    let restored = restore.with_sha256(&record.snapshot.sha256).run().unwrap();
    assert_eq!(Some(restored.snapshot_revision), manifest.revision);

    // Nothing of it is in what is told, nor in what is not encrypted.
    let mut said = format!("{report:?} {found:?} {error:?} {manifest:?} {record:?} {seal:?}");
    let events = told.lock().unwrap().clone();
    assert!(events.contains("Progress"), "{events}");
    said.push_str(&events);
    for name in names(&at("store")) {
        let bytes = fs::read(at("store").join(name)).unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert_no_marker(&said);
    assert!(!said.contains("PRIVATE KEY") && !said.contains("AGE-SECRET-KEY"));
    // The control: they were there to be found.
    let bytes = fs::read(&snapshot).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains(MARKERS[1]));
}

#[tokio::test]
async fn without_keys_it_is_unproven_and_with_those_of_another_cluster_it_fails() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let (cx, input) = environment(1);

    let step = ProvenBackup::new(snapshots.clone(), vec![member.clone()]).signed(signing.clone());
    let report = step.run(&cx, &input).await.unwrap();
    assert_eq!(report.proof, BackupProof::Unproven);
    let codes: Vec<_> = report.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, [BACKUP_PLAIN, BACKUP_COMPARED, BACKUP_UNPROVEN]);
    let path = &report.artifacts[0].path;
    let manifest = Manifest::open(path, &[signing.public()]).unwrap();
    assert!(manifest.locked_for.is_empty() && !manifest.keys_match);

    let (cx, input) = environment(2);
    let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
    let other = LiveKeys::parse(
        &CA.replace("MII", "MIJ"),
        &format!(r#"{{"keys":[{{"kid":"{KID}"}}]}}"#),
    );
    let before = names(&at("backups"));
    let step = ProvenBackup::new(snapshots, vec![member]).as_set(
        seal,
        vec![node(&at("root"))],
        other.unwrap(),
    );
    let error = step.run(&cx, &input).await.unwrap_err();
    assert!(error.to_string().contains("ca.crt"), "{error}");
    assert_eq!(names(&at("backups")), before);
}

/// Whoever is killed while a backup is proven, tried or encrypted leaves no file that looks
/// like one: it has no name before it is kept.
#[tokio::test]
async fn a_plain_snapshot_has_no_name_before_it_is_kept() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let (backups, seen) = (at("backups"), at("seen"));
    let text = format!(
        "#!/bin/sh\n[ $1 = --version ] && echo 'etcd Version: {}' && exit\n\
         ls {} > {}\nexit 7\n",
        usual(),
        backups.display(),
        seen.display()
    );
    fs::write(at("etcd.sh"), text).unwrap();
    fs::set_permissions(at("etcd.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
    for (millis, sealed) in [(1, true), (2, false)] {
        let step = ProvenBackup::new(snapshots.clone(), vec![member.clone()])
            .with_trial(folder.path(), Some(at("etcd.sh")));
        let step = match sealed {
            true => step.sealed(seal.clone()),
            false => step,
        };
        let (cx, input) = environment(millis);
        let error = step.run(&cx, &input).await.unwrap_err();
        assert!(error.to_string().contains("ended"), "{error}");
        let seen = fs::read_to_string(&seen).unwrap();
        assert_eq!(seen, format!("etcd-c-run-{millis}.db.kube-migrate.part\n"));
        assert_eq!(names(&backups), [""; 0]);
    }
    // Encrypted, there is nothing else, and as it is it has its name.
    for (millis, file) in [(3, "etcd-c-run-3.db.age"), (4, "etcd-c-run-4.db")] {
        let step = ProvenBackup::new(snapshots.clone(), vec![member.clone()]);
        let step = match millis {
            3 => step.sealed(seal.clone()),
            _ => step,
        };
        let (cx, input) = environment(millis);
        let report = step.run(&cx, &input).await.unwrap();
        assert_eq!(report.artifacts[0].path, backups.join(file));
        assert_eq!(names(&backups), [file]);
        fs::remove_file(backups.join(file)).unwrap();
    }
}

/// Two of three members are enough, and one is not, by however many names it goes.
#[tokio::test]
async fn a_backup_is_proven_by_two_members_and_not_by_one_that_is_named_twice() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut servers = Server::three(&etcd, folder.path());
    let mut members = Vec::new();
    for server in &mut servers {
        server.client().await.put("a", "b", None).await.unwrap();
        members.push(Member::new(server.endpoint()));
    }
    let by_name = members[0].endpoint.replace("127.0.0.1", "localhost");
    let twice = vec![members[0].clone(), Member::new(by_name)];
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let run = async |millis: u64, compared: Vec<Member>| {
        let (cx, input) = environment(millis);
        let snapshots = SnapshotBackup::new(members[0].clone(), at("backups"));
        let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
        let step = ProvenBackup::new(snapshots, compared)
            .as_set(seal, vec![node(&at("root"))], live())
            .signed(Arc::clone(&signing));
        let report = step.run(&cx, &input).await.unwrap();
        let manifest = Manifest::open(&report.artifacts[0].path, &[signing.public()]).unwrap();
        (report, manifest)
    };

    for (millis, compared) in [(1, members[..1].to_vec()), (2, twice)] {
        let (report, manifest) = run(millis, compared).await;
        assert_eq!(report.proof, BackupProof::Unproven);
        assert_eq!(manifest.proof, BackupProof::Unproven);
        let unproven = report.findings.iter().find(|it| it.code == BACKUP_UNPROVEN);
        let unproven = unproven.expect("it is said");
        assert!(unproven.blocks() && unproven.evidence.contains("1 of the 3"));
        assert!(unproven.cure.contains("endpoints of the other members"));
        assert_eq!((manifest.compared.len(), manifest.voters), (1, Some(3)));
        assert_eq!(manifest.compared[0].name, "m0");
    }

    // One that is away is told, and is in nobody's way.
    drop(servers.pop());
    servers[0].client().await;
    let (report, manifest) = run(3, members.clone()).await;
    assert_eq!(report.proof, BackupProof::Proven);
    assert!(!report.findings.iter().any(|finding| finding.blocks()));
    let found = |code: &str| report.findings.iter().find(|it| it.code == code).cloned();
    let away = found(BACKUP_NOT_COMPARED).expect("who did not answer");
    assert!(away.evidence.contains(&members[2].endpoint));
    let told = found(BACKUP_COMPARED).expect("who did");
    assert!(told.evidence.contains("2 of the 3"), "{}", told.evidence);
    let names: Vec<_> = manifest
        .compared
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!((names, manifest.voters), (vec!["m0", "m1"], Some(3)));
    for member in &manifest.compared {
        assert!(told.evidence.contains(&member.id), "{}", told.evidence);
    }
}

/// Who relies on what was proven has to know that it is that still.
#[tokio::test]
async fn a_set_that_nobody_has_signed_is_a_blocker_and_says_so() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
    let run = async |millis: u64, is_set: bool, is_signed: bool| {
        let mut step = ProvenBackup::new(snapshots.clone(), vec![member.clone()]);
        if is_set {
            let node = node(&folder.path().join("root"));
            step = step.as_set(seal.clone(), vec![node], live());
        }
        if is_signed {
            step = step.signed(Arc::clone(&signing));
        }
        let (cx, input) = environment(millis);
        let report = step.run(&cx, &input).await.unwrap();
        let unsigned = report.findings.iter().find(|it| it.code == BACKUP_UNSIGNED);
        (report.proof, unsigned.cloned())
    };
    let (proof, unsigned) = run(1, true, false).await;
    assert_eq!(proof, BackupProof::Proven);
    let unsigned = unsigned.expect("it is said");
    assert!(unsigned.blocks() && unsigned.evidence.contains("NOBODY HAS SIGNED"));
    assert_eq!(run(2, true, true).await, (BackupProof::Proven, None));
    // What a person has to waive anyway is not waived twice.
    let (proof, unsigned) = run(3, false, false).await;
    assert_eq!(proof, BackupProof::Unproven);
    assert!(!unsigned.expect("it is said").blocks());
    // By its code, like any other.
    let mut policy = Policy::default();
    policy.waive.insert(BACKUP_UNSIGNED.to_owned());
    let (_, unsigned) = run(4, true, false).await;
    let mut findings: Vec<_> = unsigned.into_iter().collect();
    policy.mark_waived(&mut findings);
    assert!(!findings[0].blocks());
}

/// Whoever agrees with it: who forces a backup says that it may be old.
#[tokio::test]
async fn a_backup_that_was_forced_is_never_proven_and_says_so() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let run = async |millis: u64, snapshots: SnapshotBackup, member: Member| {
        let (cx, input) = environment(millis);
        let seal = Seal::new(Lock::for_keys([KeyRing::generate().1]).unwrap());
        let step = ProvenBackup::new(snapshots, vec![member])
            .as_set(seal, vec![node(&at("root"))], live())
            .signed(Arc::clone(&signing));
        let report = step.run(&cx, &input).await?;
        let manifest = Manifest::open(&report.artifacts[0].path, &[signing.public()]).unwrap();
        Ok::<_, migrate_core::StepError>((report, manifest))
    };
    let assert_forced = |report: &BackupReport, manifest: &Manifest| {
        assert_eq!(report.proof, BackupProof::Unproven);
        let forced = report.findings.iter().find(|it| it.code == BACKUP_FORCED);
        let forced = forced.expect("it is said");
        assert!(forced.blocks() && forced.evidence.contains("FORCED"));
        assert_eq!(
            (manifest.proof, manifest.forced),
            (BackupProof::Unproven, true)
        );
    };

    // The only member agrees with it, and has a leader: the control is without force.
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let (report, manifest) = run(1, snapshots.clone(), member.clone()).await.unwrap();
    assert_eq!(
        (report.proof, manifest.forced),
        (BackupProof::Proven, false)
    );
    let (report, manifest) = run(2, snapshots.forced(), member).await.unwrap();
    assert_forced(&report, &manifest);

    // Two of three are lost.
    let mut servers = Server::three(&etcd, folder.path());
    let mut client = servers[0].client().await;
    client.put("a", "b", None).await.unwrap();
    servers.truncate(1);
    let alone = async {
        while client.status().await.unwrap().leader() != 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let alone = tokio::time::timeout(Duration::from_secs(60), alone).await;
    alone.expect("it still has a leader");
    let member = Member::new(servers[0].endpoint());
    let snapshots = SnapshotBackup::new(member.clone(), at("backups"));
    let error = run(3, snapshots.clone(), member.clone()).await.unwrap_err();
    assert!(error.to_string().contains("knows no leader"), "{error}");
    let (report, manifest) = run(4, snapshots.forced(), member).await.unwrap();
    assert_forced(&report, &manifest);
    assert_eq!((manifest.compared.len(), manifest.voters), (1, Some(3)));

    // As one that looks for members does it.
    let nodes = vec![node_with_etcd(&at("root"), &servers[0].endpoint())];
    let members = KubeadmMembers::new(nodes);
    assert!(members.find().await.is_err());
    assert!(members.forced().find().await.unwrap().is_forced);
}

#[tokio::test]
async fn what_is_in_the_etcd_of_another_cluster_is_no_backup_of_this_one() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let mut server = Server::alone(&etcd, &folder.path().join("old"));
    let member = Member::new(server.endpoint());
    let step = ProvenBackup::new(
        SnapshotBackup::new(member.clone(), &backups),
        vec![member.clone()],
    );
    belongs_to(&mut server, "another").await;
    let (cx, input) = environment(1);
    let error = step.run(&cx, &input).await.unwrap_err();
    assert!(error.to_string().contains("cluster another"), "{error}");
    assert_eq!(names(&backups), [""; 0]);

    belongs_to(&mut server, "c").await;
    let report = step.run(&cx, &input).await.unwrap();
    assert_eq!(report.cluster, Some(input.model.cluster.clone()));
}

/// The step fails, and what was made is not lost.
#[tokio::test]
async fn where_the_store_is_down_the_local_copy_stays_and_is_said_to_be_the_only_one() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_server, member, snapshots) = with_one_key(&etcd, folder.path()).await;
    let store = Store::folder(&at("store")).unwrap();
    fs::remove_dir(at("store")).unwrap();
    fs::write(at("store"), "no folder any more").unwrap();
    let signing = Arc::new(SigningKey::from_seed(&[3; 32]).unwrap());
    let step = ProvenBackup::new(snapshots, vec![member]).stored(store, signing.clone());
    let (cx, input) = environment(1);
    let error = step.run(&cx, &input).await.unwrap_err().to_string();
    assert!(
        error.contains("local copy") && error.contains("is all there is"),
        "{error}"
    );
    let file = "etcd-c-run-1.db";
    let manifest = format!("{file}.manifest.json");
    assert_eq!(names(&at("backups")), [file.to_owned(), manifest]);
    Manifest::open(&at("backups").join(file), &[signing.public()]).unwrap();
}
