//! A bucket of a real server that speaks S3: `KUBE_MIGRATE_S3` is its address, with
//! the bucket `backups` made, and `versions` with versions on. `cargo xtask s3` starts one: moto,
//! a Python package (`xtask/src/s3.py`).
//!
//! It does not know what S3 says of an upload that was ended (404 `NoSuchUpload`): moto fails
//! with 500. So that one is begun again is tested in memory only, as are removals that S3 denies.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::FutureExt;
use migrate_core::Cancellation;
use migrate_core::steps::BackupProof;
use migrate_etcd::{Error, Manifest, PublicKey, Retention, SigningKey, Store};
use object_store::aws::AmazonS3Builder;

fn endpoint() -> String {
    std::env::var("KUBE_MIGRATE_S3").expect("KUBE_MIGRATE_S3 names a server")
}

fn bucket(name: &str, prefix: &str) -> Store {
    bucket_at(&endpoint(), name, prefix)
}

fn bucket_at(endpoint: &str, name: &str, prefix: &str) -> Store {
    // Each test asks for it, and one is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(name)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .build();
    Store::s3(bucket.unwrap(), prefix).unwrap()
}

#[tokio::test]
#[ignore = "needs a server that speaks S3, see KUBE_MIGRATE_S3"]
async fn an_upload_to_s3_that_was_cut_off_goes_on_and_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::from_seed(&[5; 32]).unwrap();
    let trusted = [key.public()];
    let store = bucket("backups", "clusters/c");
    let mut bytes: Vec<u8> = (0..20_000_003_u32).map(|at| (at / 7 % 251) as u8).collect();
    let mut files = Vec::new();
    for (name, taken) in [
        ("a.db", "2026-11-28T00:00:00Z"),
        ("b.db", "2026-11-29T00:00:00Z"),
    ] {
        bytes.push(1);
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let mut manifest =
            Manifest::of(&path, taken.parse().unwrap(), BackupProof::Proven).unwrap();
        manifest.cluster = Some("c".to_owned());
        manifest.write(folder.path(), &key).await.unwrap();
        files.push(path);
    }
    let listed = async || {
        let catalogue = store.list(&trusted).await.unwrap();
        let names = catalogue.backups.into_iter().map(|backup| backup.file);
        names.collect::<Vec<_>>()
    };

    // Cancelled while the second of three parts is put: there is nothing to go on with.
    let stop = Cancellation::new();
    let stopping = stop.clone();
    let put = store.put(&files[0], &trusted, &stop, move |done, _| {
        if done >= 8 << 20 {
            stopping.cancel();
        }
    });
    let error = put.await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(told_in(folder.path()).len(), 0, "the server has ended it");
    // Dropped before the third of them, then begun again.
    let cancel = Cancellation::new();
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let (mut gone, mut told) = (Some(gone), Vec::new());
    let put = store.put(&files[0], &trusted, &cancel, |done, _| {
        told.push(done);
        if done >= 16 << 20 {
            gone.take().map(|gone| gone.send(()));
        }
    });
    tokio::select! {
        biased;
        _ = is_gone => {}
        put = put => panic!("{put:?}"),
    }
    assert_eq!(told.first(), Some(&0));
    assert!(told_in(folder.path()).len() == 1 && listed().await.is_empty());
    let mut told = Vec::new();
    for path in &files {
        let put = store.put(path, &trusted, &cancel, |done, _| told.push(done));
        put.await.unwrap();
    }
    assert_eq!(told.first(), Some(&(16 << 20)), "it went on where it was");
    assert_eq!(listed().await, ["a.db", "b.db"]);

    let to = folder.path().join("fetched");
    let fetched = store
        .fetch_newest(&trusted, |_| true, &to, &cancel, |_, _| {})
        .await;
    let (path, manifest, _) = fetched.unwrap();
    assert_eq!(manifest.file, "b.db");
    assert_eq!(fs::read(path).unwrap(), bytes);
    let pruned = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert_eq!(listed().await, ["b.db"]);
    assert_eq!(pruned.still_stored, [""; 0]);
    let all = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!((all.kept.len(), all.removed.len()), (1, 0));

    // The bucket that keeps versions.
    let store = bucket("versions", "clusters/c");
    for path in &files {
        store.put(path, &trusted, &cancel, |_, _| {}).await.unwrap();
    }
    let pruned = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept.len()), (1, 1));
    assert_eq!(pruned.still_stored, ["a.db"]);
}

/// What tells of uploads in a folder.
fn told_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(".upload.json"))
        .collect()
}

/// What the server lists of uploads that are not finished, for which the client has no call.
fn uploads() -> String {
    let endpoint = endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut server = TcpStream::connect(address).unwrap();
    let signed = "Authorization: AWS test:test\r\nConnection: close";
    let request = format!("GET /backups?uploads HTTP/1.1\r\nHost: {address}\r\n{signed}\r\n\r\n");
    server.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.split_whitespace().nth(1), Some("200"), "{answer}");
    answer
}

/// How many uploads below `prefix` are not finished.
fn unfinished(prefix: &str) -> usize {
    uploads().matches(&format!("<Key>{prefix}/")).count()
}

/// A folder with backups of three parts.
struct Backups {
    folder: tempfile::TempDir,
    key: SigningKey,
    cancel: Cancellation,
}

impl Backups {
    async fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(&[5; 32]).unwrap();
        for (at, name) in names.iter().enumerate() {
            let path = folder.path().join(name);
            fs::write(&path, vec![u8::try_from(at).unwrap(); 20_000_003]).unwrap();
            let taken = format!("2026-11-2{at}T00:00:00Z").parse().unwrap();
            let manifest = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
            manifest.write(folder.path(), &key).await.unwrap();
        }
        let cancel = Cancellation::new();
        Self {
            folder,
            key,
            cancel,
        }
    }

    fn trusted(&self) -> [PublicKey; 1] {
        [self.key.public()]
    }

    /// Puts a backup, and says at which byte that began.
    async fn put(&self, store: &Store, name: &str) -> Result<u64, Error> {
        let (path, trusted) = (self.folder.path().join(name), self.trusted());
        let mut told = Vec::new();
        let put = store.put(&path, &trusted, &self.cancel, |done, _| told.push(done));
        put.await?;
        Ok(told[0])
    }

    /// Begins to put `a.db` in a process of its own, which stops after the first part.
    fn stopped(&self, prefix: &str) -> Child {
        let mut putter = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_upload_that_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env(FOLDER, self.folder.path())
            .env(PREFIX, prefix)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(putter.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("half")));
        putter
    }
}

fn kill(mut putter: Child) {
    putter.kill().unwrap();
    putter.wait().unwrap();
}

const PART: u64 = 8 << 20;
/// Name the folder and the prefix that the process of its own puts from and to.
const FOLDER: &str = "KUBE_MIGRATE_TEST_FOLDER";
const PREFIX: &str = "KUBE_MIGRATE_TEST_PREFIX";

#[tokio::test]
#[ignore = "the process that is killed"]
async fn the_upload_that_is_killed() {
    let (Some(folder), Ok(prefix)) = (std::env::var_os(FOLDER), std::env::var(PREFIX)) else {
        return;
    };
    let store = bucket("backups", &prefix);
    let trusted = [SigningKey::from_seed(&[5; 32]).unwrap().public()];
    let cancel = Cancellation::new();
    let backup = PathBuf::from(folder).join("a.db");
    let put = store.put(&backup, &trusted, &cancel, |done, _| {
        if done >= PART {
            println!("half");
            loop {
                std::thread::park();
            }
        }
    });
    put.await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server that speaks S3, see KUBE_MIGRATE_S3"]
async fn of_two_processes_one_puts_and_the_other_goes_on_when_it_is_killed() {
    let prefix = "clusters/two";
    let world = Backups::new(&["a.db"]).await;
    let store = bucket("backups", prefix);
    let putter = world.stopped(prefix);
    assert_eq!(unfinished(prefix), 1);
    // Cancelled while it waits: the other one's upload is none of its business.
    let (stop, trusted) = (Cancellation::new(), world.trusted());
    let path = world.folder.path().join("a.db");
    let mut second = Box::pin(store.put(&path, &trusted, &stop, |_, _| {}));
    assert!(second.as_mut().now_or_never().is_none());
    stop.cancel();
    let error = second.await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(
        (unfinished(prefix), told_in(world.folder.path()).len()),
        (1, 1)
    );

    let mut third = Box::pin(world.put(&store, "a.db"));
    assert!(third.as_mut().now_or_never().is_none());
    kill(putter);
    assert_eq!(third.await.unwrap(), PART, "it went on where it was");
    assert_eq!(
        (unfinished(prefix), told_in(world.folder.path()).len()),
        (0, 0)
    );
}

#[tokio::test]
#[ignore = "needs a server that speaks S3, see KUBE_MIGRATE_S3"]
async fn an_upload_that_was_killed_is_ended_by_another_backup_an_hour_later() {
    let prefix = "clusters/stale";
    let world = Backups::new(&["a.db", "b.db"]).await;
    let store = bucket("backups", prefix);
    kill(world.stopped(prefix));
    world.put(&store, "b.db").await.unwrap();
    assert_eq!(unfinished(prefix), 1, "it may be another host's");
    let told = fs::File::options()
        .write(true)
        .open(&told_in(world.folder.path())[0])
        .unwrap();
    let heard = told.metadata().unwrap().modified().unwrap();
    told.set_modified(heard - Duration::from_secs(3700))
        .unwrap();
    world.put(&store, "b.db").await.unwrap();
    assert_eq!(
        (unfinished(prefix), told_in(world.folder.path()).len()),
        (0, 0)
    );
    assert_eq!(world.put(&store, "a.db").await.unwrap(), 0);
}

/// One server by two addresses, as two that have a bucket of one name.
#[tokio::test]
#[ignore = "needs a server that speaks S3, see KUBE_MIGRATE_S3"]
async fn an_upload_to_another_address_is_not_gone_on_with() {
    let prefix = "clusters/address";
    let world = Backups::new(&["a.db"]).await;
    kill(world.stopped(prefix));
    let elsewhere = endpoint().replace("127.0.0.1", "localhost");
    assert_ne!(elsewhere, endpoint());
    let other = bucket_at(&elsewhere, "backups", prefix);
    assert_eq!(world.put(&other, "a.db").await.unwrap(), 0);
    assert_eq!(
        (unfinished(prefix), told_in(world.folder.path()).len()),
        (1, 1)
    );
    // Whose it is finds the backup there, and ends what is left of it.
    world.put(&bucket("backups", prefix), "a.db").await.unwrap();
    assert_eq!(
        (unfinished(prefix), told_in(world.folder.path()).len()),
        (0, 0)
    );
}
