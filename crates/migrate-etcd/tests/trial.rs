//! Test-restores, with a real server and without.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::Cancellation;
use migrate_etcd::{Error, EtcdVersion, Membership, Restore, RestoreLevel, TestRestore};
use server::{Server, V34, V35, V36, V37, etcd};
use tempfile::TempDir;

struct Saved {
    folder: TempDir,
    path: PathBuf,
    sha256: String,
    revision: i64,
    hash: u32,
}

/// A snapshot of 300 keys with this value, 20 of them deleted.
async fn saved(etcd: &Path, value: &str) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::alone(etcd, &folder.path().join("old"));
    let mut client = server.client().await;
    for i in 0..300 {
        client.put(format!("key-{i}"), value, None).await.unwrap();
    }
    client.compact(150, None).await.unwrap();
    let mut revision = 0;
    for i in 0..20 {
        let deleted = client.delete(format!("key-{i}"), None).await.unwrap();
        revision = deleted.header().unwrap().revision();
    }
    let hash = client.hash_kv(revision).await.unwrap().hash();
    let saved = server.save(folder.path(), "etcd.db").await;
    Saved {
        path: saved.path,
        sha256: saved.sha256,
        folder,
        revision,
        hash,
    }
}

impl Saved {
    fn trial(&self) -> TestRestore {
        TestRestore::new(&self.path, self.folder.path())
    }

    fn assert_nothing_left(&self) {
        assert!(!self.folder.path().join("trial.kube-migrate").exists());
    }
}

async fn tried(version: &'static str) {
    let Some(etcd) = etcd(version) else { return };
    let saved = saved(&etcd, "MARKER").await;
    let cancel = Cancellation::new();
    let read = saved.trial().run(&cancel).await.unwrap();
    assert_eq!(read.level, RestoreLevel::ReRead);
    assert_eq!((read.revision, read.keys), (saved.revision, 280));
    assert_eq!(read.sha256, saved.sha256);
    saved.assert_nothing_left();

    // What a killed one has left is in nobody's way.
    fs::create_dir_all(saved.folder.path().join("trial.kube-migrate/data/member")).unwrap();
    let booted = saved.trial().with_etcd(&etcd).run(&cancel).await.unwrap();
    let version = version.to_owned();
    assert_eq!(booted.level, RestoreLevel::BootedWithHash { version });
    assert_eq!(booted.hash, Some(saved.hash), "what the live member said");
    assert!(booted.level > read.level);
    let known = saved.trial().with_etcd(&etcd).with_sha256(&saved.sha256);
    assert_eq!(known.run(&cancel).await.unwrap(), booted);
    saved.assert_nothing_left();
}

#[tokio::test]
async fn a_snapshot_of_3_6_boots_and_has_the_hash_of_the_live_member() {
    tried(V36).await;
}

#[tokio::test]
async fn a_snapshot_of_3_7_boots_and_has_the_hash_of_the_live_member() {
    tried(V37).await;
}

#[tokio::test]
#[ignore = "older etcd"]
async fn a_snapshot_of_3_4_and_3_5_boots_and_has_the_hash_of_the_live_member() {
    tried(V34).await;
    tried(V35).await;
}

/// A server that has as many keys at the same revision, and other values.
#[tokio::test]
async fn a_server_with_other_values_is_refused() {
    let Some(etcd) = etcd(V36) else { return };
    let [ours, theirs] = [saved(&etcd, "ours").await, saved(&etcd, "MARKER").await];
    assert_eq!(ours.revision, theirs.revision);
    let data = theirs.folder.path().join("data");
    let members = Membership::parse("trial=http://127.0.0.1:1", "trial").unwrap();
    let target = EtcdVersion::new(3, 6);
    let restore = Restore::new(&theirs.path, &data, members, "trial", target);
    restore.keeping_revision().run().unwrap();
    let (data, program) = (data.display(), etcd.display());
    let text = format!(
        "[ $1 = --version ] || {{ rm -r data && cp -r {data} data || exit 7; }}\n\
         exec {program} \"$@\""
    );
    let path = ours.folder.path().join("etcd.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let trial = ours.trial().with_etcd(&path);
    let error = trial.run(&Cancellation::new()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Differs { what, .. } if what == "hash"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("MARKER"));
    ours.assert_nothing_left();
}

#[tokio::test]
async fn a_server_that_does_not_do_never_lowers_the_level() {
    let Some(etcd) = etcd(V36) else { return };
    let saved = saved(&etcd, "MARKER").await;
    let cancel = Cancellation::new();
    let script = |text: &str| {
        let path = saved.folder.path().join("etcd.sh");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    };
    let version = "[ $1 = --version ] && echo 'etcd Version: 3.6.16' && exit";
    for (text, reason) in [
        ("echo no etcd", "does not say its version"),
        (&format!("{version}; exit 7"), "ended, exit status: 7"),
        (&format!("{version}; exec sleep 600"), "is not ready after"),
    ] {
        let patience = Duration::from_secs(2);
        let trial = saved
            .trial()
            .with_etcd(script(text))
            .with_patience(patience);
        let error = trial.run(&cancel).await.unwrap_err().to_string();
        assert!(
            error.contains(reason) && error.contains("etcd.sh"),
            "{error}"
        );
        saved.assert_nothing_left();
    }

    cancel.cancel();
    let error = saved
        .trial()
        .with_etcd(&etcd)
        .run(&cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

/// Nobody but its owner reaches the server: no port is open, and the folder of
/// its sockets is closed to others.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_on_trial_has_no_network() {
    let Some(etcd) = etcd(V37) else { return };
    let saved = saved(&etcd, "MARKER").await;
    let trial = saved.trial().with_etcd(&etcd);
    let running = tokio::spawn(async move { trial.run(&Cancellation::new()).await });
    let scratch = saved.folder.path().join("trial.kube-migrate");
    while !scratch.join("c:1").exists() {
        assert!(!running.is_finished(), "{:?}", running.await);
        tokio::task::yield_now().await;
    }
    let mode = fs::metadata(&scratch).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let pid = server_below(&scratch).expect("the server runs there");
    assert_eq!(listening(pid), 0, "ports of the server");
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(listening(std::process::id()) > 0, "{own:?} is seen");
    let _ = running.await.unwrap().unwrap();
}

/// The process whose working folder is `folder`.
fn server_below(folder: &Path) -> Option<u32> {
    let folder = folder.canonicalize().ok()?;
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
}

/// TCP sockets of a process that listen.
fn listening(pid: u32) -> usize {
    let inodes: Vec<_> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let table = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
            let rows = table
                .lines()
                .skip(1)
                .map(|line| line.split_whitespace().map(str::to_owned).collect());
            rows.collect::<Vec<Vec<String>>>()
        })
        .filter(|row| row.get(3).is_some_and(|state| state == "0A"))
        .filter_map(|row| Some(format!("socket:[{}]", row.get(9)?)))
        .collect();
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets = sockets.filter_map(|entry| fs::read_link(entry.path()).ok());
    sockets
        .filter(|socket| inodes.iter().any(|inode| Path::new(inode) == socket))
        .count()
}
