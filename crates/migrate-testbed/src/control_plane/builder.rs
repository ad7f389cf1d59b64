//! Options of a control plane.

use std::sync::Arc;
use std::time::Duration;

use super::{ControlPlane, Identity, Inner, inner};
use crate::hooks::HookServer;
use crate::{Error, Progress};

type Report = dyn Fn(&Progress) + Send + Sync;

/// How a [`ControlPlane`] is to be.
#[must_use]
#[derive(Clone)]
pub struct ControlPlaneBuilder {
    minor: u32,
    pub(super) also: Vec<u32>,
    pub(super) audit: bool,
    pub(super) pod_ready_after: Duration,
    pub(super) node_upgrade_time: Duration,
    pub(super) api_server_flags: Vec<String>,
    pub(super) controller_manager_flags: Vec<String>,
    report: Arc<Report>,
}

impl Default for ControlPlaneBuilder {
    fn default() -> Self {
        Self {
            minor: 36,
            also: Vec::new(),
            audit: false,
            pod_ready_after: Duration::from_millis(500),
            node_upgrade_time: Duration::from_millis(500),
            api_server_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
            report: Arc::new(|progress| eprintln!("testbed: {progress}")),
        }
    }
}

impl ControlPlaneBuilder {
    /// The minor version to start with; 36 unless set.
    pub fn minor(mut self, minor: u32) -> Self {
        self.minor = minor;
        self
    }

    /// A minor version that the test will swap to: its programs are found or
    /// built before the start, so that a test without them is skipped whole.
    pub fn also(mut self, minor: u32) -> Self {
        self.also.push(minor);
        self
    }

    /// Whether to keep an audit log; off unless set.
    pub fn audit(mut self, audit: bool) -> Self {
        self.audit = audit;
        self
    }

    /// Time from a pod running to Ready where the pod does not say it; half a
    /// second unless set. Also the time to Ready after its node was away.
    pub fn pod_ready_after(mut self, time: Duration) -> Self {
        self.pod_ready_after = time;
        self
    }

    /// Time for which a node upgraded through the hook is NotReady; half a
    /// second unless set.
    pub fn node_upgrade_time(mut self, time: Duration) -> Self {
        self.node_upgrade_time = time;
        self
    }

    /// A further flag of kube-apiserver, such as `--runtime-config=api/beta=true`.
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// A further flag of kube-controller-manager.
    pub fn controller_manager_flag(mut self, flag: impl Into<String>) -> Self {
        self.controller_manager_flags.push(flag.into());
        self
    }

    /// Who is told about builds of missing programs; by default standard error.
    pub fn on_progress(mut self, report: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Finds or builds the programs, starts them, and waits until the API
    /// server is ready and pods can be created.
    ///
    /// # Errors
    /// Those of [`Binaries::find_or_build`](crate::Binaries::find_or_build),
    /// see [`skip_or_fail`](crate::skip_or_fail); [`Error::ComponentEnded`]
    /// with the log of what did not start; [`Error::Timeout`] after a minute.
    pub async fn start(self) -> Result<ControlPlane, Error> {
        for &minor in &self.also {
            inner::find_or_build(minor, &self.report).await?;
        }
        let binaries = inner::find_or_build(self.minor, &self.report).await?;
        let node_upgrade_time = self.node_upgrade_time;
        let report = Arc::clone(&self.report);
        let inner = Arc::new(Inner::start(&self, binaries, report).await?);
        let kubeconfig = inner.pki().kubeconfig(&Identity::master("testbed:admin"))?;
        let client = inner::client(&kubeconfig).await?;
        let hooks = HookServer::start(Arc::clone(&inner), node_upgrade_time)?;
        Ok(ControlPlane {
            client,
            kubeconfig,
            hooks,
            inner,
        })
    }
}
