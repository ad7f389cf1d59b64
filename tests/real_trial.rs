//! An API server on a restored store serves what the snapshot has, and reaches nobody.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::Client;
use migrate_core::Cancellation;
use migrate_etcd::{
    ApiServer, Error, Member, RestoreLevel, SnapshotBackup, TestRestore, TestRestored, inspect,
};
use migrate_testbed::{Binaries, ControlPlane, skip_or_fail};
use serde_json::json;

use real::cluster::apply;
use real::figure;
use real::kinds::of_every_kind;

const SECRET: &str = "planted-and-encrypted";

/// A snapshot of a live cluster, and what it is tried with.
struct Saved {
    folder: tempfile::TempDir,
    path: PathBuf,
    binaries: Binaries,
}

impl Saved {
    async fn of(plane: &ControlPlane) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let member = Member::new(plane.etcd_endpoint());
        let snapshots = SnapshotBackup::new(member, folder.path());
        let cancel = Cancellation::new();
        let saved = snapshots.save("etcd.db", &cancel, |_, _| {}).await;
        Self {
            path: saved.unwrap().path,
            binaries: plane.binaries().await,
            folder,
        }
    }

    fn api_server(&self) -> ApiServer {
        ApiServer::new(&self.binaries.kube_apiserver, &self.binaries.kubectl)
    }

    fn trial(&self, server: ApiServer) -> TestRestore {
        let trial = TestRestore::new(&self.path, self.folder.path());
        trial.with_etcd(&self.binaries.etcd).with_api_server(server)
    }

    async fn tried(&self, server: ApiServer) -> Result<TestRestored, Error> {
        let trial = self.trial(server);
        let cancel = Cancellation::new();
        let mut seen = BTreeSet::new();
        let watching = async {
            loop {
                seen.extend(networks_of(self.folder.path(), "kube-apiserver"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let tried = tokio::select! {
            tried = trial.run(&cancel) => tried,
            () = watching => unreachable!(),
        };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert!(!seen.is_empty() && !seen.contains(&own), "{seen:?}");
        assert!(!self.folder.path().join("trial.kube-migrate").exists());
        // The kernel ends what is left of the namespace right after its first process.
        let ended = async {
            while !processes_in(self.folder.path()).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        ended.unwrap_or_else(|_| panic!("left: {:?}", processes_in(self.folder.path())));
        tried
    }
}

/// Programs that work in a folder below `folder`, also in one that is gone, and where they
/// are in `/proc`.
fn processes_in(folder: &Path) -> Vec<(String, PathBuf)> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let within = processes.filter_map(|process| {
        let place = std::fs::read_link(process.path().join("cwd")).ok()?;
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        let found = (name.trim().to_owned(), process.path());
        Some(found).filter(|_| place.to_string_lossy().starts_with(folder))
    });
    within.collect()
}

/// Namespaces of the network that `program` is in.
fn networks_of(folder: &Path, program: &str) -> Vec<PathBuf> {
    let ours = processes_in(folder).into_iter();
    let ours = ours.filter(|(name, _)| name == program);
    ours.filter_map(|(_, place)| std::fs::read_link(place.join("ns/net")).ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_of_1_36_on_trial_serves_what_the_snapshot_has() {
    serves_what_the_snapshot_has(36).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_of_1_37_on_trial_serves_what_the_snapshot_has() {
    serves_what_the_snapshot_has(37).await;
}

async fn serves_what_the_snapshot_has(minor: u32) {
    let Some(plane) = skip_or_fail(ControlPlane::builder().minor(minor).start().await) else {
        return;
    };
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    apply(&plane, &[shop]).await;
    apply(&plane, &of_every_kind()).await;
    // From then on nothing is written any more: an API server that asked it, as it begins
    // with writes of its own, would never be ready.
    apply(&plane, &[refuses_everything()]).await;
    let saved = Saved::of(&plane).await;
    let since = tokio::time::Instant::now();
    let tried = saved.tried(saved.api_server()).await.unwrap();
    let took = since.elapsed();
    let RestoreLevel::Served { api_server, .. } = &tried.level else {
        panic!("{:?}", tried.level);
    };
    assert!(
        api_server.starts_with(&format!("v1.{minor}.")),
        "{api_server}"
    );
    let held = inspect(&saved.path).unwrap().kubernetes.resources;
    let held: u64 = held.iter().map(|resource| resource.objects).sum();
    let served = tried.served.unwrap();
    assert!(held > 200 && served >= held - 20, "{served} of {held}");
    let name = |what: &str| format!("trial.1-{minor}.{what}");
    figure(&name("snapshot"), held, "objects");
    figure(&name("served"), served, "objects");
    figure(&name("took"), took.as_secs_f64(), "s");

    // What nobody serves is told.
    let key = "/registry/example.org/gadgets/shop/one";
    let value =
        json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "one"}});
    let mut etcd = Client::connect([plane.etcd_endpoint()], None)
        .await
        .unwrap();
    etcd.put(key, value.to_string(), None).await.unwrap();
    let saved = Saved::of(&plane).await;
    let error = saved.tried(saved.api_server()).await.unwrap_err();
    let is_told = matches!(&error, Error::Differs { what, snapshot: 1, restored: 0, .. }
        if what == "number of gadgets.example.org");
    assert!(is_told, "{error}");
}

/// A webhook that is away and has to be asked.
fn refuses_everything() -> serde_json::Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "refuses-everything"},
        "webhooks": [{
            "name": "everything.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "timeoutSeconds": 1,
            "clientConfig": {"service": {"name": "none", "namespace": "shop", "port": 443}},
            "rules": [{
                "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"],
                "resources": ["*"], "scope": "*",
            }],
        }],
    })
}

/// What cannot be decrypted is not there, however well the store starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_server_cannot_decrypt_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str, key: &str| {
        let text = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{
                "resources": ["secrets"],
                "providers": [{"secretbox": {"keys": [{"name": "one", "secret": key}]}}],
            }],
        });
        let path = folder.path().join(name);
        std::fs::write(&path, text.to_string()).unwrap();
        path
    };
    let right = config("right", "a3ViZS1taWdyYXRlLWt1YmUtbWlncmF0ZS1rdWJlLTE=");
    let wrong = config("wrong", "a3ViZS1taWdyYXRlLWt1YmUtbWlncmF0ZS1rdWJlLTI=");
    let flag = format!("--encryption-provider-config={}", right.display());
    let plane = ControlPlane::builder().minor(37).api_server_flag(flag);
    let Some(plane) = skip_or_fail(plane.start().await) else {
        return;
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "planted", "namespace": "default"},
        "stringData": {"planted": SECRET},
    });
    apply(&plane, &[secret]).await;
    let saved = Saved::of(&plane).await;
    let trial = saved.trial(saved.api_server());
    let error = trial.run(&Cancellation::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("secrets are encrypted with secretbox:one"),
        "{text}"
    );
    let wrong = saved.api_server().with_encryption_config(&wrong);
    let impatient = saved.trial(wrong).with_patience(Duration::from_secs(20));
    let error = impatient.run(&Cancellation::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::TrialServer { .. }), "{text}");
    assert!(
        text.contains("is not ready") && !text.contains(SECRET),
        "{text}"
    );
    let right = saved.api_server().with_encryption_config(&right);
    let tried = saved.tried(right).await.unwrap();
    assert!(matches!(tried.level, RestoreLevel::Served { .. }));
}
