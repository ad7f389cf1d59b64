//! What a backup leaves when its process is killed, or its disk is full. Both
//! happen to a process of its own: this program once more, told by its
//! environment what to do.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod folder;
mod member;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use folder::names;
use member::{Act, Answers, FakeMember};
use migrate_core::Cancellation;
use migrate_etcd::{Error, Member, SnapshotBackup};
use sha2::{Digest, Sha256};

/// Names the folder that the process of its own backs up into.
const FOLDER: &str = "KUBE_MIGRATE_TEST_FOLDER";
const PIECE: usize = 16 << 10;

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
    let mut words: Vec<_> = around.iter().map(Into::into).collect();
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

/// Mounts a disk for two of the four pieces where only one process sees it.
#[tokio::test]
async fn a_disk_that_gets_full_keeps_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mount =
        "mount -t tmpfs -o size=32k none \"$KUBE_MIGRATE_TEST_FOLDER\" || exit 99; \"$0\" \"$@\"";
    // The way of root, else the way of anybody.
    let ways: [&[&str]; 2] = [
        &["unshare", "--mount", "sh", "-c", mount],
        &[
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
        ],
    ];
    for way in ways {
        let output = alone("a_backup_without_room", folder.path(), way).output();
        let Ok(output) = output else { continue };
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            assert!(text.contains("1 passed"), "{text}");
            return;
        }
        assert!(!text.contains("running"), "{text}");
    }
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(
        !is_ci,
        "no small file system can be mounted for one process"
    );
    eprintln!("skipped: no small file system can be mounted for one process");
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
