//! One control plane: starting it, what it offers, swapping its version.

mod builder;
mod flags;
mod inner;
mod pki;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use builder::ControlPlaneBuilder;
pub(crate) use inner::{Inner, client, config};
pub use pki::Identity;

use crate::hooks::HookServer;
use crate::objects::{self, Applied};
use crate::wait::eventually;
use crate::{AuditLog, Binaries, Error};

/// A running control plane with simulated nodes; dropping it ends all of it.
///
/// Its [`client`](Self::client) belongs to the tokio runtime in which it was
/// started.
pub struct ControlPlane {
    client: kube::Client,
    kubeconfig: PathBuf,
    hooks: HookServer,
    inner: Arc<Inner>,
}

/// How a change of the control plane's version went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Swap {
    /// Version before, without `v`.
    pub from: String,
    /// Version after, without `v`.
    pub to: String,
    /// From the first component asked to stop to `/readyz` of the new API
    /// server: how long the API was away.
    pub api_away: Duration,
    /// The same until all components had been started.
    pub total: Duration,
}

impl ControlPlane {
    /// Options, then [`start`](ControlPlaneBuilder::start).
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// A client that may do everything and never retries by itself, as user
    /// `testbed:admin`.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A kubeconfig for the same user as [`client`](Self::client).
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes a kubeconfig for another user: one without rights, one whose
    /// certificate has expired.
    ///
    /// # Errors
    /// [`Error::Certificate`], [`Error::Io`].
    pub fn kubeconfig_for(&self, identity: &Identity) -> Result<PathBuf, Error> {
        self.inner.pki().kubeconfig(identity)
    }

    /// A client for another user; it never retries by itself.
    ///
    /// # Errors
    /// As [`kubeconfig_for`](Self::kubeconfig_for).
    pub async fn client_for(&self, identity: &Identity) -> Result<kube::Client, Error> {
        client(&self.kubeconfig_for(identity)?).await
    }

    /// A new reader of the audit log, which begins at its start.
    ///
    /// # Errors
    /// [`Error::AuditOff`] unless built with
    /// [`audit(true)`](ControlPlaneBuilder::audit).
    pub fn audit(&self) -> Result<AuditLog, Error> {
        self.inner.audit_log().map(AuditLog::new)
    }

    /// The folder of this control plane: logs, certificates, etcd's data. It
    /// goes away with the control plane.
    pub fn dir(&self) -> &Path {
        self.inner.dir()
    }

    /// Where etcd serves its clients, `http://127.0.0.1:PORT`.
    pub fn etcd_endpoint(&self) -> String {
        self.inner.etcd_endpoint()
    }

    /// The programs in use now; another set after a swap.
    pub async fn binaries(&self) -> Binaries {
        self.inner.binaries().await
    }

    /// Program for the tool's command hook: it upgrades nodes and the control
    /// plane by asking this process. See `docs/testbed.md` for its contract.
    pub fn hook_program(&self) -> &Path {
        self.hooks.program()
    }

    /// Creates objects: nodes, namespaces and definitions first, then what may
    /// refer to them, then workloads, with a bounded number of requests in
    /// flight. What exists already is updated by a server-side apply.
    /// Identity, resource version and other facts of the server are taken out.
    ///
    /// # Errors
    /// [`Error::MalformedObject`], [`Error::Api`] for the first refusal.
    pub async fn apply(&self, objects: Vec<Value>) -> Result<Applied, Error> {
        objects::apply(&self.client, objects).await
    }

    /// Waits until `check` says `Ok(true)`, like [`eventually`], and fails at
    /// once when a component has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ComponentEnded`].
    pub async fn wait_until<C, F, E>(
        &self,
        what: &str,
        within: Duration,
        check: C,
    ) -> Result<(), Error>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<bool, E>>,
        E: std::fmt::Display,
    {
        tokio::select! {
            waited = eventually(what, within, check) => waited,
            ended = self.inner.watch_components() => Err(ended),
        }
    }

    /// Replaces API server, controller manager and scheduler by those of
    /// another minor version, on the same etcd, ports and certificates; kwok
    /// keeps running. Returns when the new ones serve. Calls queue up; nothing
    /// happens if the version already runs.
    ///
    /// # Errors
    /// Those of [`Binaries::find_or_build`], before anything is stopped; then
    /// [`Error::ComponentEnded`] or [`Error::Timeout`], after which the
    /// control plane is down.
    pub async fn swap_to(&self, minor: u32) -> Result<Swap, Error> {
        let target = self.inner.find(minor).await?;
        self.inner.swap_to(target).await
    }

    /// Kills etcd and removes its data; `restore` makes other data in that folder,
    /// which is not there any more. Then etcd and API server of a minor version are started on it.
    ///
    /// Controller manager and scheduler live on, as do kwok and all clients; where another version
    /// runs they are replaced too. Calls queue up behind [`swap_to`](Self::swap_to).
    ///
    /// # Errors
    /// As [`swap_to`](Self::swap_to), and [`Error::Io`] if there was nothing to
    /// remove or `restore` fails, after which the control plane is down.
    pub async fn lose_etcd<E: std::fmt::Display>(
        &self,
        minor: u32,
        restore: impl AsyncFnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), Error> {
        let target = self.inner.find(minor).await?;
        self.inner.lose_etcd(target, restore).await
    }

    /// Freezes all kubelets: heartbeats stop, and after the controller
    /// manager's grace period the nodes are NotReady.
    ///
    /// # Errors
    /// [`Error::Io`] if kwok has ended.
    pub async fn freeze_nodes(&self) -> Result<(), Error> {
        self.inner.signal_kwok(crate::process::Signal::Stop).await
    }

    /// Lets frozen kubelets go on.
    ///
    /// # Errors
    /// [`Error::Io`] if kwok has ended.
    pub async fn thaw_nodes(&self) -> Result<(), Error> {
        self.inner
            .signal_kwok(crate::process::Signal::Continue)
            .await
    }

    /// Ends everything and waits for it, which dropping does too; a component
    /// that had ended by itself is an error here.
    ///
    /// # Errors
    /// [`Error::ComponentEnded`].
    pub async fn stop(self) -> Result<(), Error> {
        self.inner.check_components().await
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.hooks.stop();
        if std::thread::panicking() {
            self.inner.print_logs();
        }
    }
}
