//! Real etcd members, on this machine only.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::Client;
use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use migrate_etcd::{Error, Member, SnapshotBackup};
use migrate_testbed::{Binaries, skip_or_fail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The releases that the tests run: of each minor version the newest there is. Those
/// below 3.6 in the extended run only; 3.4 was never published as modules, so that its
/// program is a distribution's.
pub(crate) const V34: &str = "3.4.23";
pub(crate) const V35: &str = "3.5.35";
pub(crate) const V36: &str = "3.6.16";
pub(crate) const V37: &str = "3.7.0";

/// Names the release of [`usual`].
const USUAL: &str = "KUBE_MIGRATE_TEST_ETCD";

/// The release of the tests that are of none in particular: 3.6, or the one of those
/// above that the environment names. The extended run does so for each.
pub(crate) fn usual() -> &'static str {
    let Some(named) = std::env::var_os(USUAL) else {
        return V36;
    };
    let known = [V34, V35, V36, V37].into_iter().find(|it| *it == named);
    known.unwrap_or_else(|| panic!("{USUAL}: no release of these tests is called {named:?}"))
}

/// The program, or `None` where a test may be skipped for want of it.
pub(crate) fn etcd(version: &'static str) -> Option<PathBuf> {
    skip_or_fail(match version {
        V34 => Binaries::find_or_unpack_etcd_3_4(&|_| {}),
        version => Binaries::find_or_build_etcd(version, &|_| {}),
    })
}

/// Ports that nobody has right now, and that were given to nobody here: who was given one
/// may be about to listen.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    [(); N].map(|()| {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            if GIVEN.lock().unwrap().insert(port) {
                return port;
            }
        }
    })
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A member that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    client: u16,
    log: PathBuf,
}

impl Server {
    /// Starts a member on `data_dir`, whose log goes beside it.
    pub(crate) fn start(
        etcd: &Path,
        data_dir: &Path,
        name: &str,
        [client, peer]: [u16; 2],
        more: &[&str],
    ) -> Self {
        let log = data_dir.with_extension("log");
        let child = Command::new(etcd)
            .args(["--name", name, "--log-level", "warn"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen-client-urls", &url(client)])
            .args(["--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, client, log }
    }

    /// A new cluster of one.
    pub(crate) fn alone(etcd: &Path, data_dir: &Path) -> Self {
        let [client, peer] = ports();
        let cluster = format!("old={}", url(peer));
        Self::start(
            etcd,
            data_dir,
            "old",
            [client, peer],
            &["--initial-cluster", &cluster],
        )
    }

    /// A new cluster of `m0`, `m1` and `m2`, with their data below `folder`.
    pub(crate) fn three(etcd: &Path, folder: &Path) -> Vec<Self> {
        let addresses: [[u16; 2]; 3] = [ports(), ports(), ports()];
        let member = |(i, [_, peer]): (usize, &[u16; 2])| format!("m{i}={}", url(*peer));
        let cluster: Vec<_> = addresses.iter().enumerate().map(member).collect();
        let more = ["--initial-cluster", &cluster.join(",")];
        let start = |(i, address): (usize, &[u16; 2])| {
            let name = format!("m{i}");
            Self::start(etcd, &folder.join(&name), &name, *address, &more)
        };
        addresses.iter().enumerate().map(start).collect()
    }

    pub(crate) fn endpoint(&self) -> String {
        url(self.client)
    }

    pub(crate) fn port(&self) -> u16 {
        self.client
    }

    /// Sends it a signal: `STOP`, `CONT`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.child.id().to_string()]);
        assert!(kill.status().unwrap().success(), "{name}");
    }

    /// Saves a snapshot as `name` in `folder`.
    pub(crate) async fn save(&self, folder: &Path, name: &str) -> BackupArtifact {
        let backup = SnapshotBackup::new(Member::new(self.endpoint()), folder);
        let saved = backup.save(name, &Cancellation::new(), |_, _| {}).await;
        saved.unwrap()
    }

    /// A client, once the member has a leader.
    pub(crate) async fn client(&mut self) -> Client {
        let endpoint = self.endpoint();
        let ready = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("etcd ended, {status}: {}", self.log());
                }
                if let Ok(mut client) = Client::connect([&endpoint], None).await
                    && let Ok(status) = client.status().await
                    && status.leader() != 0
                    && client.get("ready?", None).await.is_ok()
                {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = tokio::time::timeout(Duration::from_secs(60), ready).await;
        ready.unwrap_or_else(|_| panic!("etcd does not get ready: {}", self.log()))
    }

    /// The address of a way to it by which 32 KiB take a second: of gRPC, and not of the
    /// metrics, which are HTTP/1 and larger than a small database.
    pub(crate) async fn slow_way(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = url(listener.local_addr().unwrap().port());
        let to = self.client;
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let there = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::spawn(slowly(here, there));
            }
        });
        endpoint
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

async fn slowly(here: TcpStream, there: TcpStream) {
    let mut first = [0; 3];
    let is_grpc = here.peek(&mut first).await.is_ok() && first == *b"PRI";
    let (mut from_here, mut to_here) = here.into_split();
    let (mut from_there, mut to_there) = there.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_here, &mut to_there).await });
    let mut piece = [0; 2048];
    while let Ok(count @ 1..) = from_there.read(&mut piece).await {
        if is_grpc {
            tokio::time::sleep(Duration::from_millis(62)).await;
        }
        if to_here.write_all(&piece[..count]).await.is_err() {
            break;
        }
    }
    up.abort();
}

/// Has the member that `client` asks defragmented, holds that up as a reader of its database,
/// and saves by `backup` as `name` until that is told; of which member. Nothing of it goes on.
pub(crate) async fn told_of_a_held_defragmentation(
    client: &Client,
    backup: &SnapshotBackup,
    name: &str,
) -> String {
    let (mut reader, mut writer) = (client.clone(), client.clone());
    let mut reading = reader.snapshot().await.unwrap();
    reading.message().await.unwrap();
    let held = tokio::spawn(async move { writer.defragment().await });
    let (impatient, cancel) = (
        backup.clone().with_patience(Duration::from_millis(100)),
        Cancellation::new(),
    );
    // It may not have begun at the first time.
    let told = async {
        loop {
            match impatient.save(name, &cancel, |_, _| {}).await {
                Err(Error::Defragmenting { endpoint }) => return endpoint,
                other => std::fs::remove_file(other.unwrap().path).unwrap(),
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    drop(reading);
    held.await.unwrap().unwrap();
    told.expect("it does not say that it is defragmented")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
