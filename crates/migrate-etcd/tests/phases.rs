//! What a backup is busy with is told when it begins with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod member;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use member::{Act, Answers, FakeMember, HashAnswer};
use migrate_core::{
    BackUpData, ClusterId, ClusterModel, Event, EventKind, Fence, KubeVersion, Moment, Policy,
    StepContext, StepInput,
};
use migrate_etcd::{
    Database, KeyRing, Lock, Member, Membership, NewSnapshot, PartFile, ProvenBackup, Seal,
    SigningKey, SnapshotBackup, Store, inspect, prove_with,
};

/// What it takes to be told of more than the beginning and the end.
const MEBIBYTES: i64 = 20;

/// A member that sends a snapshot of its own, and has its hash.
async fn member(folder: &std::path::Path) -> (FakeMember, u64) {
    let members = Membership::parse("m=http://127.0.0.1:1", "t").unwrap();
    let mut snapshot = NewSnapshot::new(members);
    for i in 0..MEBIBYTES {
        snapshot.put(format!("key-{i}"), vec![b'v'; 1 << 20], 2 + i);
    }
    let file = PartFile::create(folder, "sent.db").await.unwrap();
    let path = snapshot.write(file).await.unwrap().path;
    let found = inspect(&path).unwrap();
    let hash = Database::open(&path).unwrap().hash_kv(found.revision, -1);
    let bytes = std::fs::read(&path).unwrap();
    let (data, trailer) = bytes.split_at(bytes.len() - 32);
    let send = |blob: &[u8], remaining: usize| Act::Send {
        blob: blob.to_vec(),
        remaining: remaining as u64,
    };
    let mut left = data.len();
    let mut acts = Vec::new();
    for piece in data.chunks(1 << 20) {
        left -= piece.len();
        acts.push(send(piece, left));
    }
    acts.push(send(trailer, 0));
    let mut answers = Answers::of(acts);
    answers.id = u64::from_str_radix(&found.members[0].id, 16).unwrap();
    answers.leader = answers.id;
    answers.revisions = vec![found.revision];
    answers.hashes = vec![HashAnswer::Hash(hash.unwrap(), -1)];
    (FakeMember::start(answers).await, bytes.len() as u64)
}

#[tokio::test]
async fn a_proof_tells_how_much_it_has_read() {
    let folder = tempfile::tempdir().unwrap();
    let (server, bytes) = member(folder.path()).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let told = move |done, of| hearing.lock().unwrap().push((done, of));
    let (path, stall) = (folder.path().join("sent.db"), Duration::from_secs(30));
    let members = [Member::new(&server.endpoint)];
    let proof = prove_with(&path, &members, stall, told).await.unwrap();
    assert!(proof.is_enough());
    let heard = heard.lock().unwrap();
    assert!(
        heard.len() as i64 > MEBIBYTES && heard.is_sorted(),
        "{heard:?}"
    );
    assert_eq!(heard.last(), Some(&(2 * bytes - 32, 2 * bytes - 32)));
}

#[tokio::test]
async fn each_phase_of_a_backup_is_told_when_it_begins_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (server, bytes) = member(folder.path()).await;
    let member = Member::new(&server.endpoint);
    let snapshots = SnapshotBackup::new(member.clone(), at("backups"));
    let lock = Lock::for_keys([KeyRing::generate().1]).unwrap();
    let signing = Arc::new(SigningKey::from_seed(&[1; 32]).unwrap());
    let store = Store::open_or_create(at("store").to_str().unwrap()).unwrap();
    let step = ProvenBackup::new(snapshots, vec![member])
        .with_trial(folder.path(), None)
        .sealed(Seal::new(lock))
        .stored(store, signing);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let between = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let counting = Arc::clone(&between);
    let events = move |event: &Event| {
        if let EventKind::Progress { done, of, unit, .. } = &event.kind {
            if *done > 0 && *done < of.unwrap() {
                *counting.lock().unwrap().entry(unit.clone()).or_default() += 1;
            }
            let edge = (unit.clone(), *done == of.unwrap());
            let mut heard = hearing.lock().unwrap();
            if heard.last() != Some(&edge) {
                heard.push(edge);
            }
            assert!(
                unit == "bytes stored" || *of == Some(bytes),
                "{unit} {of:?}"
            );
        }
    };
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("run-1", 1))
        .with_events(Arc::new(events));
    let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let target = KubeVersion::new(1, 37, 0);
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let report = step.run(&cx, &input).await.unwrap();
    assert_eq!(report.artifacts.len(), 1);
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    let phase = |unit: &str| [(unit.to_owned(), false), (unit.to_owned(), true)];
    let saved = phase("bytes");
    let rest = ["bytes proven", "bytes restored on trial", "bytes encrypted"];
    let rest: Vec<_> = rest.into_iter().flat_map(phase).collect();
    assert!(
        heard.starts_with(&saved[1..]) || heard.starts_with(&saved),
        "{heard:?}"
    );
    let after = heard.iter().position(|it| it.0 != "bytes").unwrap();
    assert_eq!(heard[after..after + rest.len()], rest);
    assert_eq!(heard.last(), Some(&("bytes stored".to_owned(), true)));
    // How far each is; nobody knows that of a comparison.
    let between = between.lock().unwrap();
    for unit in ["bytes", "bytes restored on trial", "bytes encrypted"] {
        assert_eq!(between.get(unit), Some(&2), "{between:?}");
    }
}
