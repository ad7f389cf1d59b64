//! An API server on a restored store: what it serves is what clients will get.
//!
//! It has a network of its own that leads nowhere, in a namespace of Linux: what it would
//! tell others (webhooks, aggregated APIs, other members) reaches nobody, and no one on
//! this machine reaches the Secrets in it. Who asks it goes through `kubectl proxy`, which
//! listens on a socket in the trial's folder and passes on no writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use migrate_core::{Cancellation, hex};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::server::{self, CLIENTS};
use crate::cancelled::unless_cancelled;
use crate::inspect::{Encrypted, ResourceUse, is_built_in};
use crate::{Error, http1};

/// The socket of who passes requests on.
const SOCKET: &str = "api";
/// Time between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(200);
/// Objects that are asked for at once.
const PAGE: usize = 500;
/// No page of names has as many bytes.
const LONGEST: u64 = 64 << 20;
/// Of lists, metadata alone: each object is read and converted all the same.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const JSON: &str = "application/json";
/// The flag for what decrypts.
const ENCRYPTION: &str = "--encryption-provider-config";

/// What starts in the namespace, as its first process: with it everything ends there.
/// A private key of its own, made at the start, signs tokens that nobody gets.
const SCRIPT: &str = r#"
    ip link set lo up || exit 90
    "$KUBECTL" proxy --kubeconfig=kubeconfig --unix-socket=api \
        --reject-methods='^(POST|PUT|PATCH|DELETE)$' > kubectl.log 2>&1 &
    exec "$API_SERVER" "$@" > api-server.log 2>&1
"#;
const FLAGS: [&str; 14] = [
    "--bind-address=127.0.0.1",
    "--secure-port=6443",
    // Documentation's own: it has to be one that could be reached, and nobody is told.
    "--advertise-address=192.0.2.1",
    "--endpoint-reconciler-type=none",
    "--cert-dir=certificates",
    "--service-account-issuer=https://trial.invalid",
    "--service-account-signing-key-file=certificates/apiserver.key",
    "--service-account-key-file=certificates/apiserver.key",
    "--service-cluster-ip-range=10.96.0.0/12",
    "--authorization-mode=RBAC",
    "--anonymous-auth=false",
    "--token-auth-file=tokens",
    "--profiling=false",
    "--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook,\
     MutatingAdmissionPolicy,ValidatingAdmissionPolicy",
];

/// What API servers add and take away by themselves, or what expires: it has to be served,
/// however many there are.
const RESTLESS: [&str; 5] = [
    "apiservices.apiregistration.k8s.io",
    "events",
    "ipaddresses",
    "leases",
    "servicecidrs",
];

/// A kube-apiserver for a [trial](super::TestRestore::with_api_server), of Linux. It needs
/// `unshare` and `ip` there, and root or user namespaces.
#[derive(Clone, Debug)]
pub struct ApiServer {
    program: PathBuf,
    kubectl: PathBuf,
    flags: Vec<String>,
}

impl ApiServer {
    /// This kube-apiserver, which should be of the version that the snapshot was taken at,
    /// asked through this kubectl.
    pub fn new(program: impl Into<PathBuf>, kubectl: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            kubectl: kubectl.into(),
            flags: Vec::new(),
        }
    }

    /// Reads what is encrypted at rest with the keys of this encryption configuration,
    /// whose path is an absolute one.
    #[must_use]
    pub fn with_encryption_config(self, file: impl AsRef<Path>) -> Self {
        let file = file.as_ref().display();
        self.with_flag(format!("{ENCRYPTION}={file}"))
    }

    /// Gives it a further flag, as `--runtime-config=…` where APIs are on that are off by
    /// default.
    #[must_use]
    pub fn with_flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// The version that it says it has.
    pub(super) async fn version(&self, patience: Duration) -> Result<String, Error> {
        let text = server::says(&self.program, patience).await?;
        let version = text.trim().strip_prefix("Kubernetes ");
        let version = version.map(str::to_owned);
        version.ok_or_else(|| self.failed("does not say its version, so it is no kube-apiserver"))
    }

    /// Refuses what it cannot read: an API server that cannot decrypt is never ready, and
    /// does not say why.
    pub(super) fn refuse_without_keys(&self, encrypted: &[Encrypted]) -> Result<(), Error> {
        let has_config = self.flags.iter().any(|flag| flag.starts_with(ENCRYPTION));
        match encrypted.first().filter(|_| !has_config) {
            None => Ok(()),
            Some(it) => Err(self.failed(&format!(
                "needs the encryption configuration: {} are encrypted with {}:{}",
                it.resource, it.provider, it.key
            ))),
        }
    }

    /// Starts it on the etcd whose clients' socket is in `folder`, and counts what it serves.
    ///
    /// # Errors
    /// [`Error::Differs`] where `wanted` has more of a resource than is served,
    /// [`Error::TrialServer`].
    pub(super) async fn look(
        &self,
        snapshot: &Path,
        folder: &Path,
        wanted: &[ResourceUse],
        patience: Duration,
        cancel: &Cancellation,
    ) -> Result<u64, Error> {
        let mut running = self.start(folder)?;
        let looked = self.serves(&mut running, snapshot, folder, wanted, patience);
        // It has to be gone before the folder goes.
        let looked = unless_cancelled(cancel, looked).await;
        // It is killed when it is dropped all the same.
        let _ = running.kill().await;
        looked
    }

    async fn serves(
        &self,
        running: &mut Child,
        snapshot: &Path,
        folder: &Path,
        wanted: &[ResourceUse],
        patience: Duration,
    ) -> Result<u64, Error> {
        let reader = Reader {
            server: self,
            socket: folder.join(SOCKET),
        };
        if let Ok(ready) = tokio::time::timeout(patience, reader.ready(running)).await {
            ready?;
        } else {
            let lacks = reader.lacks().await;
            return Err(self.failed(&format!("is not ready after {patience:?}{lacks}")));
        }
        let served = reader.count().await?;
        for ResourceUse {
            resource, objects, ..
        } in wanted
        {
            let found = served.get(resource);
            let is_enough = match (found, RESTLESS.contains(&resource.as_str())) {
                (found, true) => found.is_some(),
                (found, false) => found.is_some_and(|found| found >= objects),
            };
            if !is_enough {
                return Err(Error::Differs {
                    path: snapshot.to_owned(),
                    what: format!("number of {resource}"),
                    snapshot: *objects,
                    restored: found.copied().unwrap_or(0),
                });
            }
        }
        Ok(served.values().sum())
    }

    fn start(&self, folder: &Path) -> Result<Child, Error> {
        let token = token().ok_or_else(|| self.failed("gets no random numbers"))?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "trial", "cluster": {
                "server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "trial", "user": {"token": token}}],
            "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "trial"}}],
            "current-context": "trial",
        });
        for (name, text) in [
            ("tokens", format!("{token},trial,trial,system:masters\n")),
            ("kubeconfig", config.to_string()),
        ] {
            let path = folder.join(name);
            // The folder is for its owner alone.
            let written = std::fs::write(&path, text);
            written.map_err(|error| Error::file(path, error))?;
        }
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let started = command
            .args(["--net", "--pid", "--fork", "--kill-child=KILL", "--"])
            .args(["/bin/sh", "-c", SCRIPT, "sh"])
            .args(FLAGS)
            .arg(format!("--etcd-servers=unix://{CLIENTS}"))
            .args(&self.flags)
            .current_dir(folder)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", folder)
            .env("API_SERVER", &self.program)
            .env("KUBECTL", &self.kubectl)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        started.map_err(|error| self.failed(&format!("is not started by unshare: {error}")))
    }

    fn failed(&self, reason: &str) -> Error {
        Error::TrialServer {
            path: self.program.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// 256 bits that nobody knows.
fn token() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(bytes))
}

/// Asks it.
struct Reader<'a> {
    server: &'a ApiServer,
    socket: PathBuf,
}

impl Reader<'_> {
    async fn ready(&self, running: &mut Child) -> Result<(), Error> {
        loop {
            let ended = running.try_wait();
            if let Some(status) = ended.map_err(|error| self.server.failed(&error.to_string()))? {
                return Err(self.server.failed(&format!(
                    "ended, {status}; it needs ip and unshare, and root or user namespaces"
                )));
            }
            if let Ok((200, _)) = self.get("/readyz", JSON).await {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Which of its own checks say that it is not ready.
    async fn lacks(&self) -> String {
        let asked = tokio::time::timeout(PAUSE * 10, self.get("/readyz?verbose", "*/*")).await;
        let Ok(Ok((_, body))) = asked else {
            return String::new();
        };
        let text = String::from_utf8_lossy(&body);
        // `[-]informer-sync failed: reason withheld`
        let checks = text.lines().filter_map(|line| line.strip_prefix("[-]"));
        let names: Vec<&str> = checks.filter_map(|line| line.split(' ').next()).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!(" ({})", names.join(", ")),
        }
    }

    /// Objects of each resource, by the name that an inspection has for it.
    async fn count(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut counts = BTreeMap::new();
        let core: Resources = self.read("/api/v1").await?;
        let groups: Groups = self.read("/apis").await?;
        self.count_all("", "/api/v1", core, &mut counts).await?;
        for group in groups.groups {
            let preferred = &group.preferred_version.group_version;
            let others = group.versions.iter().map(|it| &it.group_version);
            let others = others.filter(|version| *version != preferred);
            for version in std::iter::once(preferred).chain(others) {
                let root = format!("/apis/{version}");
                // An aggregated one is answered for by a server that is not here.
                if let Some(resources) = self.try_read(&root).await {
                    let counted = self.count_all(&group.name, &root, resources, &mut counts);
                    counted.await?;
                }
            }
        }
        Ok(counts)
    }

    async fn count_all(
        &self,
        group: &str,
        root: &str,
        resources: Resources,
        counts: &mut BTreeMap<String, u64>,
    ) -> Result<(), Error> {
        for resource in resources.resources {
            let is_list = resource.verbs.iter().any(|verb| verb == "list");
            let name = match is_built_in(group) {
                true => resource.name.clone(),
                false => format!("{}.{group}", resource.name),
            };
            if !is_list || resource.name.contains('/') || counts.contains_key(&name) {
                continue;
            }
            let mut count = 0;
            let mut from = String::new();
            loop {
                let path = format!("{root}/{}?limit={PAGE}&continue={from}", resource.name);
                let page: Page = self.read_as(&path, METADATA).await?;
                count += page.items.map_or(0, |items| items.len() as u64);
                match page.metadata.continued.filter(|it| !it.is_empty()) {
                    Some(next) => from = next,
                    None => break,
                }
            }
            counts.insert(name, count);
        }
        Ok(())
    }

    async fn try_read<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.read(path).await.ok()
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read_as(path, JSON).await
    }

    async fn read_as<T: DeserializeOwned>(&self, path: &str, accept: &str) -> Result<T, Error> {
        // What is continued from may name an object.
        let shown = path.split('?').next().unwrap_or(path);
        let failed = |reason: String| self.server.failed(&format!("{reason} for {shown}"));
        let answer = self.get(path, accept).await;
        match answer.map_err(|error| failed(format!("answers nothing ({error})")))? {
            (200, body) => {
                let read = serde_json::from_slice(&body);
                read.map_err(|_| failed("answers what is none".to_owned()))
            }
            (status, _) => Err(failed(format!("answers {status}"))),
        }
    }

    async fn get(&self, path: &str, accept: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let connection = UnixStream::connect(&self.socket).await?;
        http1::get(connection, "localhost", path, accept, LONGEST).await
    }
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    versions: Vec<Version>,
    preferred_version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    /// Go writes `null` for none.
    #[serde(default)]
    items: Option<Vec<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    continued: Option<String>,
}
