//! A server that nobody else can reach.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use etcd_client::{Channel, Client, GetOptions};
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;

use crate::Error;

/// The data folder's name.
pub(super) const DATA: &str = "data";

/// The clients' socket. etcd makes a file of what looks like a host and a port.
pub(super) const CLIENTS: &str = "c:1";
const PEERS: &str = "p:1";

/// Time between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(50);

/// What a program says of its version.
pub(super) async fn says(program: &Path, patience: Duration) -> Result<String, Error> {
    let asked = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(patience, asked).await {
        Ok(output) => output.map_err(|error| failed(program, &error.to_string()))?,
        Err(_) => return Err(failed(program, "does not say its version")),
    };
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version that an etcd says it has.
pub(super) async fn version(etcd: &Path, patience: Duration) -> Result<String, Error> {
    let text = says(etcd, patience).await?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| failed(etcd, "does not say its version, so it is no etcd"))
}

/// A running server, killed when it is dropped.
pub(super) struct Server {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    patience: Duration,
}

/// What a server says of its data.
pub(super) struct Seen {
    pub(super) revision: i64,
    pub(super) keys: u64,
    pub(super) hash: u32,
    /// The compaction that the hash is at; -1 is none.
    pub(super) compact_revision: i64,
}

impl Server {
    /// Starts `etcd` on the data folder in `folder`.
    pub(super) fn start(etcd: &Path, folder: &Path, patience: Duration) -> Result<Self, Error> {
        let started = Command::new(etcd)
            .args([
                "--name",
                super::MEMBER,
                "--data-dir",
                DATA,
                "--log-level",
                "error",
            ])
            .args(["--listen-client-urls", &format!("unix://{CLIENTS}")])
            .args(["--advertise-client-urls", &format!("unix://{CLIENTS}")])
            .args(["--listen-peer-urls", &format!("unix://{PEERS}")])
            .args(["--initial-advertise-peer-urls", "http://127.0.0.1:1"])
            .args([
                "--initial-cluster",
                &format!("{}=http://127.0.0.1:1", super::MEMBER),
            ])
            // It is thrown away.
            .arg("--unsafe-no-fsync")
            .current_dir(folder)
            .env_clear()
            .stdin(Stdio::null())
            // etcd logs keys of slow requests.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Ok(Self {
            child: started.map_err(|error| failed(etcd, &error.to_string()))?,
            program: etcd.to_owned(),
            socket: folder.join(CLIENTS),
            patience,
        })
    }

    /// Waits until it answers, and asks it about its data.
    pub(super) async fn look(&mut self, revision: i64) -> Result<Seen, Error> {
        let program = self.program.clone();
        let patience = self.patience;
        match tokio::time::timeout(patience, self.ready(revision)).await {
            Ok(seen) => seen,
            Err(_) => Err(failed(
                &program,
                &format!("is not ready after {patience:?}"),
            )),
        }
    }

    async fn ready(&mut self, revision: i64) -> Result<Seen, Error> {
        loop {
            let ended = self.child.try_wait();
            if let Some(status) = ended.map_err(|error| self.failed(&error.to_string()))? {
                return Err(self.failed(&format!("ended, {status}")));
            }
            match self.ask(revision).await {
                Ok(seen) => return Ok(seen),
                // What it answers is final; what keeps it from answering is not.
                Err(etcd_client::Error::GRpcStatus(status)) if is_final(status.code() as i32) => {
                    return Err(self.failed(&format!("answered {:?}", status.code())));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask(&self, revision: i64) -> Result<Seen, etcd_client::Error> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display()))?;
        let channel = endpoint.connect().await?;
        let mut client = Client::from_channel(Channel::Tonic(channel), None).await?;
        let all = GetOptions::new().with_from_key().with_count_only();
        let counted = client.get([0], Some(all)).await?;
        let hash = client.hash_kv(revision).await?;
        Ok(Seen {
            revision: counted.header().map_or(0, |header| header.revision()),
            keys: counted.count().try_into().unwrap_or(0),
            hash: hash.hash(),
            compact_revision: hash.compact_version(),
        })
    }

    /// Ends it, and waits until it has.
    pub(super) async fn stop(mut self) {
        // It is killed when it is dropped all the same.
        let _ = self.child.kill().await;
    }

    fn failed(&self, reason: &str) -> Error {
        failed(&self.program, reason)
    }
}

/// Codes of gRPC with which a server that has started refuses: anything but
/// UNKNOWN, DEADLINE_EXCEEDED and UNAVAILABLE.
fn is_final(code: i32) -> bool {
    !matches!(code, 2 | 4 | 14)
}

fn failed(program: &Path, reason: &str) -> Error {
    Error::TrialServer {
        path: program.to_owned(),
        reason: reason.to_owned(),
    }
}
