//! What a backup or a restore leaves when its process is killed, or its disk is full,
//! read-only or somebody else's. Each happens to a process of its own: this program
//! once more, told by its environment what to do.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bolt;
mod folder;
mod member;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bolt::build;
use folder::names;
use member::{Act, Answers, FakeMember};
use migrate_core::Cancellation;
use migrate_etcd::{Error, EtcdVersion, Member, Membership, Restore, SnapshotBackup};
use sha2::{Digest, Sha256};

/// Names the folder that the process of its own backs up into.
const FOLDER: &str = "KUBE_MIGRATE_TEST_FOLDER";
/// Names the member that it saves.
const ENDPOINT: &str = "KUBE_MIGRATE_TEST_ENDPOINT";
const PIECE: usize = 16 << 10;
const NOT_HERE: &str = "this machine has no such surroundings";

/// A snapshot in pieces, its trailer as the last.
fn pieces() -> Vec<Act> {
    let data: Vec<u8> = (0..4 * PIECE).map(|i| (i % 251) as u8).collect();
    let trailer = Sha256::digest(&data);
    let left = |at: usize| (data.len() - (at + 1) * PIECE) as u64;
    let send = |(at, blob): (usize, &[u8])| Act::Send {
        blob: blob.to_vec(),
        remaining: left(at),
    };
    let mut acts: Vec<_> = data.chunks(PIECE).enumerate().map(send).collect();
    acts.push(Act::Send {
        blob: trailer.to_vec(),
        remaining: 0,
    });
    acts
}

async fn save(
    folder: &Path,
    acts: Vec<Act>,
    progress: impl FnMut(u64, u64) + Send,
) -> Result<(), Error> {
    let member = FakeMember::start(Answers::of(acts)).await;
    let backup = SnapshotBackup::new(Member::new(&member.endpoint), folder);
    let saved = backup.save("a.db", &Cancellation::new(), progress).await;
    saved.map(|_| ())
}

/// `test` of this program in a process of its own, for `folder`.
fn alone(test: &str, folder: &Path, around: &[&str]) -> Command {
    let mut words: Vec<OsString> = around.iter().map(Into::into).collect();
    words.push(std::env::current_exe().unwrap().into_os_string());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null());
    command
}

#[tokio::test]
async fn what_a_killed_backup_left_goes_with_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = alone("half_a_backup", folder.path(), &[])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("half")));
    // While it is written, the next one is refused and takes nothing away.
    let refused = save(folder.path(), pieces(), |_, _| {}).await;
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
    assert_eq!(names(folder.path()), ["a.db.kube-migrate.part"]);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(folder.path()), ["a.db.kube-migrate.part"]);
    save(folder.path(), pieces(), |_, _| {}).await.unwrap();
    assert_eq!(names(folder.path()), ["a.db"]);
}

/// Two programs would hold the member up twice, wherever each saves to; the lock of one
/// that is killed is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_saved_by_one_program_at_a_time() {
    let mut acts = pieces();
    acts.truncate(2);
    acts.push(Act::Stall);
    let member = FakeMember::start(Answers::of(acts)).await;
    let [there, here] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut child = alone("half_a_backup_of_a_member", there.path(), &[])
        .env(ENDPOINT, &member.endpoint)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("half")));
    let stall = std::time::Duration::from_secs(2);
    let backup = SnapshotBackup::new(Member::new(&member.endpoint), here.path());
    let save = async || {
        let backup = backup.clone().with_stall(stall);
        backup.save("a.db", &Cancellation::new(), |_, _| {}).await
    };
    let error = save().await.unwrap_err();
    let Error::AlreadySaving { holder, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(holder.contains(&child.id().to_string()), "{error}");
    assert_eq!(member.snapshots(), 1);
    assert!(names(here.path()).is_empty());

    child.kill().unwrap();
    child.wait().unwrap();
    // It begins, and is given up as it should.
    let error = save().await.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error:?}");
    assert_eq!(member.snapshots(), 2);
}

/// Runs `test`, around which the first of `ways` that can puts what it needs.
fn run(test: &str, folder: &Path, ways: &[&[&str]]) {
    for way in ways {
        let output = alone(test, folder, way).output();
        let Ok(output) = output else { continue };
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains(NOT_HERE) {
            continue;
        }
        if output.status.success() {
            assert!(text.contains("1 passed"), "{text}");
            return;
        }
        assert!(!text.contains("running"), "{text}");
    }
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!is_ci, "{test}: {NOT_HERE}");
    eprintln!("skipped: {test}: {NOT_HERE}");
}

/// As [`run`], in a file system that only that process sees, mounted with `options`.
fn run_on_a_disk(test: &str, folder: &Path, options: &str) {
    let mount = format!(
        "mount -t tmpfs -o {options} none \"$KUBE_MIGRATE_TEST_FOLDER\" || exit 99; \"$0\" \"$@\""
    );
    let sh = ["sh", "-c", mount.as_str()];
    // The way of root, else the way of anybody.
    let root = [&["unshare", "--mount"][..], &sh].concat();
    let anybody = ["unshare", "--user", "--map-root-user", "--mount"];
    let anybody = [&anybody[..], &sh].concat();
    run(test, folder, &[&root, &anybody]);
}

/// For two of the four pieces, and for less than a database.
#[tokio::test]
async fn a_disk_that_gets_full_keeps_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    run_on_a_disk("a_backup_without_room", folder.path(), "size=32k");
    run_on_a_disk("a_restore_without_room", folder.path(), "size=400k");
}

#[tokio::test]
async fn a_folder_that_nobody_or_only_others_may_write_costs_the_member_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    run_on_a_disk("a_backup_into_what_is_closed", folder.path(), "ro");
    let closed = std::fs::Permissions::from_mode(0o500);
    std::fs::set_permissions(folder.path(), closed).unwrap();
    // Without a name in its namespace root is like anybody else.
    let ways: [&[&str]; 2] = [&["unshare", "--user"], &[]];
    run("a_backup_into_what_is_closed", folder.path(), &ways);
}

#[tokio::test]
#[ignore = "the process that is killed"]
async fn half_a_backup() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let mut acts = pieces();
    acts.truncate(2);
    acts.push(Act::Stall);
    let progress = |_, _| println!("half");
    save(Path::new(&folder), acts, progress).await.unwrap();
}

#[tokio::test]
#[ignore = "the process that is killed"]
async fn half_a_backup_of_a_member() {
    let (Some(folder), Ok(endpoint)) = (std::env::var_os(FOLDER), std::env::var(ENDPOINT)) else {
        return;
    };
    let backup = SnapshotBackup::new(Member::new(endpoint), Path::new(&folder));
    let progress = |_, _| println!("half");
    let saved = backup.save("a.db", &Cancellation::new(), progress).await;
    saved.unwrap();
}

#[tokio::test]
#[ignore = "the process with the small disk"]
async fn a_backup_without_room() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let mut told = 0;
    let error = save(folder, pieces(), |done, _| told = done)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(told >= PIECE as u64, "it was full from the start");
    let text = error.to_string();
    assert!(
        text.contains(&*folder.join("a.db").to_string_lossy()),
        "{text}"
    );
    assert!(
        text.contains("free some or choose another folder"),
        "{text}"
    );
    assert!(names(folder).is_empty());
}

#[test]
#[ignore = "the process with the small disk"]
fn a_restore_without_room() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let keys: build::Entries = (2..400).map(record).collect();
    let bytes = build::snapshot(
        4096,
        build::Free::Unlisted,
        &[("key", keys), ("meta", vec![])],
    );
    // Not on the small disk.
    let here = tempfile::tempdir().unwrap();
    let snapshot = here.path().join("a.db");
    std::fs::write(&snapshot, bytes).unwrap();
    let folder = Path::new(&folder);
    let restore = |to: &Path| {
        let members = Membership::parse("a=http://127.0.0.1:2380", "new").unwrap();
        Restore::new(&snapshot, to, members, "a", EtcdVersion::new(3, 6)).run()
    };
    // The control: it is the disk that is in the way.
    restore(&here.path().join("data")).unwrap();
    for to in [folder.to_owned(), folder.join("data")] {
        let error = restore(&to).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert!(names(folder).is_empty(), "{:?}", names(folder));
    }
}

/// A key with a value of 2 KiB, as its bucket has it.
fn record(main: i64) -> (Vec<u8>, Vec<u8>) {
    let revision = [&main.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let mut record = vec![0x0A, 8];
    record.extend(format!("key-{main:04}").bytes());
    // Created and changed at that revision, once: numbers below 2¹⁴ in two bytes.
    let number = [main as u8 & 0x7f | 0x80, (main >> 7) as u8];
    for (field, number) in [(0x10, &number[..]), (0x18, &number[..]), (0x20, &[1])] {
        record.push(field);
        record.extend(number);
    }
    record.extend([0x2A, 0x80, 0x10]);
    record.resize(record.len() + 2048, b'v');
    (revision, record)
}

#[tokio::test]
#[ignore = "the process that may not write"]
async fn a_backup_into_what_is_closed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    if std::fs::write(folder.join("probe"), "").is_ok() {
        println!("{NOT_HERE}");
        return;
    }
    for into in [folder.to_owned(), folder.join("backups")] {
        let member = FakeMember::start(Answers::of(pieces())).await;
        let backup = SnapshotBackup::new(Member::new(&member.endpoint), &into);
        let saved = backup.save("a.db", &Cancellation::new(), |_, _| {}).await;
        let error = saved.unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&*folder.to_string_lossy()), "{text}");
        assert_eq!(member.connections(), 0);
    }
}
