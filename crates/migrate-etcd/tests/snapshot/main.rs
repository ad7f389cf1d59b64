//! What a snapshot backup leaves in its folder, whatever the member does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod asked;
mod defragmented;
#[path = "../folder/mod.rs"]
mod folder;
#[path = "../member/mod.rs"]
mod member;
mod slow;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use folder::names;
use member::{Act, Answers, FakeMember};
use migrate_core::steps::{BackupArtifact, BackupProof};
use migrate_core::{
    BackUpData, Cancellation, ClusterId, ClusterModel, Event, EventKind, Fence, KubeVersion,
    Moment, Policy, StepContext, StepErrorKind, StepInput, hex,
};
use migrate_etcd::{BACKUP_PLAIN, Error, Member, SnapshotBackup};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const PIECE: usize = 16 << 10;
const STALL: Duration = Duration::from_secs(30);

/// A database and its trailer.
fn database() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..40_960u32).map(|i| (i % 251) as u8).collect();
    let trailer = Sha256::digest(&bytes);
    bytes.extend_from_slice(trailer.as_slice());
    bytes
}

/// `stream` as etcd sends it: in pieces, the trailer of its own and not counted.
fn sent(stream: &[u8]) -> Vec<Act> {
    let (data, trailer) = stream.split_at(stream.len() - 32);
    let mut remaining = data.len();
    let send = |blob: &[u8]| {
        remaining = remaining.saturating_sub(blob.len());
        Act::Send {
            blob: blob.to_vec(),
            remaining: remaining as u64,
        }
    };
    data.chunks(PIECE).chain([trailer]).map(send).collect()
}

/// The first piece of a good snapshot, and then `act`.
fn first_and(act: Act) -> Vec<Act> {
    let mut acts = sent(&database());
    acts.truncate(1);
    acts.push(act);
    acts
}

/// What a step is run with.
fn environment() -> (StepContext, StepInput) {
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new("run-1", 1));
    let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let target = KubeVersion::new(1, 37, 0);
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    (cx, input)
}

/// A member and a folder to back it up into.
struct Bench {
    member: FakeMember,
    folder: TempDir,
}

impl Bench {
    async fn with(answers: Answers) -> Self {
        Self {
            member: FakeMember::start(answers).await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn sending(acts: Vec<Act>) -> Self {
        Self::with(Answers::of(acts)).await
    }

    fn backup(&self) -> SnapshotBackup {
        let member = Member::new(&self.member.endpoint);
        SnapshotBackup::new(member, self.folder.path()).with_stall(STALL)
    }

    async fn save(&self) -> Result<BackupArtifact, Error> {
        self.save_and(&Cancellation::new(), || {}).await
    }

    /// Saves, and calls `at_first` when the first bytes have come.
    async fn save_and(
        &self,
        cancel: &Cancellation,
        at_first: impl FnOnce() + Send,
    ) -> Result<BackupArtifact, Error> {
        let mut at_first = Some(at_first);
        let told = |_, _| {
            if let Some(at_first) = at_first.take() {
                // Half of it never has a name by which a backup is looked for.
                assert_eq!(self.names(), ["a.db.kube-migrate.part"]);
                at_first();
            }
        };
        self.backup().save("a.db", cancel, told).await
    }

    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

#[tokio::test]
async fn a_whole_snapshot_gets_its_name_and_is_for_its_owner_only() {
    let stream = database();
    let bench = Bench::sending(sent(&stream)).await;
    let mut told = Vec::new();
    let progress = |done, of| told.push((done, of));
    let (backup, cancel) = (bench.backup(), Cancellation::new());
    let artifact = backup.save("a.db", &cancel, progress).await.unwrap();
    let size = stream.len() as u64;
    assert_eq!(
        told,
        [(16_384, size), (32_768, size), (40_960, size), (size, size)]
    );
    assert_eq!(bench.names(), ["a.db"]);
    assert_eq!(artifact.path, bench.folder.path().join("a.db"));
    assert_eq!(artifact.bytes, size);
    assert_eq!(artifact.sha256, hex(Sha256::digest(&stream)));
    assert_eq!(std::fs::read(&artifact.path).unwrap(), stream);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&artifact.path).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_stream_that_is_no_whole_snapshot_is_refused() {
    let good = database();
    let changed = |at: usize| {
        let mut stream = good.clone();
        stream[at] ^= 1;
        sent(&stream)
    };
    let announcing = |remaining: u64| {
        let mut acts = sent(&good);
        if let Act::Send {
            remaining: said, ..
        } = &mut acts[0]
        {
            *said = remaining;
        }
        acts
    };
    let mut without_trailer = sent(&good);
    without_trailer.pop();
    let mut too_long = sent(&good);
    // Sent on for ever: it must not be waited for, nor written.
    too_long.extend([too_long[0].clone(), Act::Stall]);
    let failing = |code| {
        first_and(Act::Fail {
            code,
            message: "as told",
        })
    };
    let short = sent(&good[good.len() - 40..]);
    let cases = [
        ("ends early", sent(&good)[..2].to_vec(), "Truncated"),
        ("ends before the trailer", without_trailer, "Truncated"),
        ("is empty", Vec::new(), "Truncated"),
        ("is tiny", short, "Truncated"),
        ("is too long", too_long, "Truncated"),
        ("announces too little", announcing(100), "Truncated"),
        ("announces too much", announcing(1 << 20), "Truncated"),
        ("announces nonsense", announcing(u64::MAX), "Truncated"),
        ("flips a bit", changed(5_000), "ChecksumMismatch"),
        (
            "flips a bit of the trailer",
            changed(40_960),
            "ChecksumMismatch",
        ),
        ("cancels in the middle", failing(1), "Interrupted"),
        ("goes away in the middle", failing(14), "Interrupted"),
        ("loses its mind in the middle", failing(13), "Interrupted"),
        ("refuses in the middle", failing(16), "PermissionDenied"),
    ];
    for (what, acts, variant) in cases {
        let bench = Bench::sending(acts).await;
        let error = bench.save().await.expect_err(what);
        let told = format!("{error:?}");
        assert!(told.starts_with(variant), "{what}: {told}");
        assert!(told.contains(&bench.member.endpoint), "{what}: {told}");
        assert!(bench.names().is_empty(), "{what}: {:?}", bench.names());
    }
}

#[tokio::test]
async fn a_member_that_is_killed_in_the_middle_leaves_nothing() {
    let bench = Bench::sending(first_and(Act::Stall)).await;
    let cut = || bench.member.cut();
    let error = bench.save_and(&Cancellation::new(), cut).await.unwrap_err();
    let is_interrupted = matches!(error, Error::Interrupted { bytes: 16_384, .. });
    assert!(is_interrupted, "{error:?}");
    assert!(bench.names().is_empty());
}

/// The socket is real and the clock is not: it stops once the first piece is
/// there, and from then on jumps to whatever is waited for.
#[tokio::test]
async fn a_member_that_does_not_get_on_is_given_up_at_the_limit() {
    let nothing = Act::SendNothing { times: 100 };
    for act in [Act::Stall, nothing] {
        let what = format!("{act:?}");
        let bench = Bench::sending(first_and(act)).await;
        let mut since = None;
        let pause = || {
            tokio::time::pause();
            since = Some(tokio::time::Instant::now());
        };
        let saved = bench.save_and(&Cancellation::new(), pause).await;
        let waited = since.unwrap().elapsed();
        tokio::time::resume();
        let error = saved.expect_err(&what);
        let is_stalled =
            matches!(error, Error::Stalled { bytes: 16_384, stall, .. } if stall == STALL);
        assert!(is_stalled, "{what}: {error:?}");
        let limit = STALL..STALL + Duration::from_secs(1);
        assert!(limit.contains(&waited), "{what}: {waited:?}");
        assert!(bench.names().is_empty());
        // Only now can the member write again.
        bench.member.stream_has_ended().await;
    }
}

/// etcd does this when it cannot read its database. Nothing here ever waits,
/// so the clock has to be the real one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_empty_messages_is_given_up() {
    let stall = Duration::from_millis(200);
    let flood = Act::Flood { frames: 20_000 };
    let bench = Bench::sending(first_and(flood)).await;
    let backup = bench.backup().with_stall(stall);
    let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    assert!(matches!(saved, Err(Error::Stalled { .. })), "{saved:?}");
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn a_cancelled_backup_leaves_nothing_and_frees_the_member() {
    // In the middle, and when only the end of the stream is still to come.
    for acts in [first_and(Act::Stall), sent(&database())] {
        let pieces = acts.len();
        let bench = Bench::sending(acts).await;
        let cancel = Cancellation::new();
        let stop = |done, of| {
            if pieces == 2 || done == of {
                cancel.cancel();
            }
        };
        let saved = bench.backup().save("a.db", &cancel, stop).await;
        assert!(matches!(saved, Err(Error::Cancelled)), "{saved:?}");
        assert!(bench.names().is_empty());
        bench.member.stream_has_ended().await;
    }
}

#[tokio::test]
async fn a_backup_cancelled_before_it_begins_touches_nothing() {
    let bench = Bench::sending(sent(&database())).await;
    let folder = bench.folder.path().join("new");
    let backup = SnapshotBackup::new(Member::new(&bench.member.endpoint), &folder);
    let cancel = Cancellation::new();
    cancel.cancel();
    let saved = backup.save("a.db", &cancel, |_, _| {}).await;
    assert!(matches!(saved, Err(Error::Cancelled)), "{saved:?}");
    assert!(bench.names().is_empty());
    assert_eq!(bench.member.connections(), 0);
}

#[tokio::test]
async fn a_name_that_is_taken_costs_the_member_nothing() {
    let bench = Bench::sending(sent(&database())).await;
    let path = bench.folder.path().join("a.db");
    std::fs::write(&path, "older").unwrap();
    let saved = bench.save().await;
    let is_refused = matches!(&saved, Err(Error::Exists { path: it }) if *it == path);
    assert!(is_refused, "{saved:?}");
    assert_eq!(bench.names(), ["a.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"older");
    assert_eq!(bench.member.connections(), 0);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_the_member_nothing() {
    let bench = Bench::sending(sent(&database())).await;
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let member = Member::new(&bench.member.endpoint);
    let backup = SnapshotBackup::new(member, file.join("backups"));
    let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
    assert!(matches!(saved, Err(Error::File { .. })), "{saved:?}");
    assert_eq!(bench.member.connections(), 0);
}

#[tokio::test]
async fn a_disk_that_has_not_got_the_room_is_told_before_a_snapshot_is_asked_for() {
    for (size, fits) in [(40_960, true), (1 << 60, false), (i64::MAX as u64, false)] {
        let mut answers = Answers::of(sent(&database()));
        answers.size = size;
        let bench = Bench::with(answers).await;
        let saved = bench.save().await;
        assert_eq!(bench.member.snapshots(), usize::from(fits));
        if fits {
            saved.unwrap();
            continue;
        }
        let error = saved.unwrap_err();
        let text = error.to_string();
        let Error::NoRoom {
            folder,
            needed,
            available,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(folder, bench.folder.path());
        assert!(needed > size && available < size, "{needed} {available}");
        for words in [&needed.to_string(), &available.to_string(), "free some"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(bench.names().is_empty());
    }
}

#[tokio::test]
async fn of_two_backups_of_one_name_the_second_is_refused() {
    let bench = Bench::sending(sent(&database())).await;
    let (first, second) = futures::future::join(bench.save(), bench.save()).await;
    assert_eq!(bench.names(), ["a.db"]);
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let refused = first.err().or_else(|| second.err());
    assert!(matches!(refused, Some(Error::Exists { .. })), "{refused:?}");
}

#[tokio::test]
async fn as_a_step_it_reports_what_it_made_and_how_far_that_is_proven() {
    let stream = database();
    let bench = Bench::sending(sent(&stream)).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let events = {
        let heard = Arc::clone(&heard);
        move |event: &Event| heard.lock().unwrap().push(event.clone())
    };
    let (cx, input) = environment();
    let cx = cx.with_events(Arc::new(events));
    let report = bench.backup().run(&cx, &input).await.unwrap();
    assert_eq!(report.proof, BackupProof::Unproven);
    assert_eq!(report.findings[0].code, "KM-BACKUP-001");
    let plain = report.findings.iter().find(|it| it.code == BACKUP_PLAIN);
    assert!(
        plain.is_some_and(|it| !it.blocks()),
        "{:?}",
        report.findings
    );
    assert_eq!(bench.names(), ["etcd-c-run-1-0.db"]);
    assert_eq!(report.artifacts[0].bytes, stream.len() as u64);
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    let size = stream.len() as u64;
    assert!(heard.iter().any(|event| matches!(
        &event.kind,
        EventKind::Progress { done, of, .. } if *done == size && *of == Some(size)
    )));

    // The same run at the same moment: what is there is not touched.
    let error = bench.backup().run(&cx, &input).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Invalid);
    assert_eq!(bench.names(), ["etcd-c-run-1-0.db"]);
}
