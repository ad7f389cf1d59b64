//! The driver of clusters made by kubeadm, on nodes with apt and systemd.

mod backups;
mod binaries;
mod etcd;
mod image_pull;
mod installed;
mod judge;
mod member;
mod readiness;
mod survey;
mod told;
mod undo;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::{
    Action, ActionStatus, KubeVersion, Phase, StepContext, StepError, Target, UpgradeComponents,
};

pub use backups::Cleaned;
pub use binaries::Binaries;
pub use image_pull::ImagePull;
pub use readiness::Readiness;
pub use undo::Undo;

use crate::unit::{FILES, Heard, Layout, News, Seen, Step, Steps};
use crate::{ApiServerBackend, Error, NodeShell, Script};
use binaries::BINARIES;
use installed::Installed;
use member::MEMBER;
use told::Told;

const COMMON: &str = include_str!("common.sh");
const PACKAGES: &str = include_str!("packages.sh");
const CONTROL_PLANE: &str = include_str!("control_plane.sh");
const NODE: &str = include_str!("node.sh");
const SAVED: &str = include_str!("saved.sh");
const ROLL_BACK: &str = include_str!("roll_back.sh");
const LOOK: &str = include_str!("look.sh");

/// Upgrades the control planes and nodes of a kubeadm cluster in place.
///
/// # What it does
/// A control-plane member: the `kubeadm` package, then `kubeadm upgrade apply`
/// on the first one and `kubeadm upgrade node` on the others; which it is, the
/// node finds out from `kube-system/kubeadm-config` and the API servers there
/// are. A node, which the caller has drained: the `kubeadm` package and, on
/// workers, `kubeadm upgrade node`; then the `kubelet` and `kubectl` packages,
/// a restart of the kubelet, and its health endpoint.
///
/// # Guarantees
/// * `begin` returns once a detached unit of systemd runs on the node. No lost
///   connection and no end of this process ends it; a successor finds it.
/// * An action that runs or has succeeded is not begun again. One that failed
///   or was lost (a reboot, a kill) is, as a further attempt, when `begin` is
///   called again; the step goes on from what it finds.
/// * One step at a time on a node, whoever asks; an older epoch than the node
///   has seen is refused ([`Error::StaleEpoch`]).
/// * Success means looked at: static pod manifests at the target, or the
///   kubelet at the target, healthy, and the installed program itself.
/// * Packages keep their configuration files and their hold; a control-plane
///   step that would change kubelet or runtime, or remove anything, is refused.
/// * A node with a control plane is touched only when every etcd member is well
///   and caught up, no alarm is raised and the others are a quorum; if its own
///   member leads, another does before it is touched ([`Error::Etcd`]).
/// * Its API server is out of its load balancer first, if
///   [one is known](Self::with_api_server_backend), and in again before `probe`
///   says that the action has ended well. The node remembers that it is out, so
///   that a successor puts it back.
/// * `kubeadm upgrade plan` is never run. `probe` changes nothing else.
/// * What a step prints is told while it runs, as [`EventKind::Said`] with each
///   `probe`: 20 lines of 200 characters at most, without what looks like a
///   secret (tokens, keys, passwords). The log on the node has all of it.
///
/// [`EventKind::Said`]: migrate_core::EventKind::Said
///
/// # Errors
/// Those of [`NodeShell`], [`Error::StaleEpoch`], [`Error::NodeBusy`],
/// [`Error::StartFailed`], [`Error::BadAction`], [`Error::Etcd`],
/// [`Error::LoadBalancer`], [`Error::NotServing`]. What went wrong inside a step
/// is the reason of [`ActionStatus::Failed`].
#[derive(Clone)]
pub struct Kubeadm {
    shell: Arc<dyn NodeShell>,
    steps: Steps,
    layout: Layout,
    options: Options,
    balancer: Option<Arc<dyn ApiServerBackend>>,
    told: Told,
}

/// The operator's choices.
#[derive(Clone, Debug)]
struct Options {
    ignored: Vec<String>,
    /// Phases of `kubeadm upgrade` that are left out.
    skipped: Vec<String>,
    /// A folder on the nodes; empty for none.
    patches: String,
    revision: String,
    /// In the place of packages.
    binaries: Option<Binaries>,
    control_plane: Duration,
    node: Duration,
    answer: Duration,
    preparation: Duration,
    api: Duration,
    kubelet: Duration,
    quiet: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ignored: Vec::new(),
            skipped: Vec::new(),
            patches: String::new(),
            revision: String::new(),
            binaries: None,
            control_plane: Duration::from_secs(40 * 60),
            node: Duration::from_secs(20 * 60),
            answer: Duration::from_secs(45),
            preparation: Duration::from_secs(15 * 60),
            api: Duration::from_secs(5 * 60),
            kubelet: Duration::from_secs(3 * 60),
            quiet: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// What replaces the functions of packages, if anything does.
    fn programs(&self) -> &'static str {
        match self.binaries {
            Some(_) => BINARIES,
            None => "",
        }
    }

    /// What is said about where programs come from.
    fn source(&self) -> &str {
        let binaries = self.binaries.as_ref();
        binaries.map_or(&self.revision, Binaries::template)
    }
}

impl Kubeadm {
    /// A driver that reaches nodes, by their names in the cluster, through
    /// `shell`.
    pub fn new(shell: Arc<dyn NodeShell>) -> Self {
        Self::over(shell, Layout::default(), Options::default())
    }

    fn over(shell: Arc<dyn NodeShell>, layout: Layout, options: Options) -> Self {
        Self {
            steps: Steps::new(shell.clone(), layout.clone(), options.answer),
            shell,
            layout,
            options,
            balancer: None,
            told: Told::default(),
        }
    }

    /// Takes each API server out of its load balancer before its node's control
    /// plane or kubelet is touched, and puts it back when it serves again.
    #[must_use]
    pub fn with_api_server_backend(mut self, balancer: Arc<dyn ApiServerBackend>) -> Self {
        self.balancer = Some(balancer);
        self
    }

    /// Checks of kubeadm that may fail (`--ignore-preflight-errors`).
    #[must_use]
    pub fn with_ignored_preflight_errors(
        mut self,
        checks: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.options.ignored = checks.into_iter().map(Into::into).collect();
        self
    }

    /// Phases of `kubeadm upgrade` to leave out (`--skip-phases`), such as
    /// `addon/coredns`. On a node where `kubeadm upgrade node` runs, those that
    /// only `kubeadm upgrade apply` has (`upload-config`, `bootstrap-token` and
    /// what is in them) are not named. What is left out is the caller's to do:
    /// without `control-plane` or `kubelet-config` an upgrade that comes to its
    /// end may still count as failed.
    #[must_use]
    pub fn with_skipped_phases(
        mut self,
        phases: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.options.skipped = phases.into_iter().map(Into::into).collect();
        self
    }

    /// The folder of patches on every node (`--patches`), an absolute path: what
    /// `kubeadm init` and `join` were given, without which kubeadm writes
    /// manifests and the kubelet's configuration unpatched. A node without it is
    /// not upgraded.
    #[must_use]
    pub fn with_patches(mut self, folder: impl Into<String>) -> Self {
        self.options.patches = folder.into();
        self
    }

    /// The revision of packages, `1.1` of `1.37.2-1.1`; without it the newest
    /// that a node's apt knows of the version.
    #[must_use]
    pub fn with_package_revision(mut self, revision: impl Into<String>) -> Self {
        self.options.revision = revision.into();
        self
    }

    /// Plain programs in the place of packages. Each is verified and put beside the
    /// installed one by [`resolve`](Self::resolve), or by the step; then in its
    /// place, whole or not at all, and what it replaces is kept under
    /// `/var/lib/kube-migrate/binaries` for the way back. Nodes whose programs
    /// belong to packages are refused. A revision of packages counts no longer.
    #[must_use]
    pub fn with_binaries(mut self, binaries: Binaries) -> Self {
        self.options.binaries = Some(binaries);
        self
    }

    /// How long a control-plane step may run on its node (default 40 minutes:
    /// kubeadm itself waits five for each component and longer for etcd).
    #[must_use]
    pub fn with_control_plane_timeout(mut self, timeout: Duration) -> Self {
        self.options.control_plane = timeout;
        self
    }

    /// How long a node step may run on its node (default 20 minutes).
    #[must_use]
    pub fn with_node_timeout(mut self, timeout: Duration) -> Self {
        self.options.node = timeout;
        self
    }

    /// How long one call of `begin` or `probe` to a node may take (default
    /// 45 s); keep it below the time that the executor gives an answer.
    #[must_use]
    pub fn with_answer_timeout(mut self, timeout: Duration) -> Self {
        self.options.answer = timeout;
        self.steps = Steps::new(self.shell.clone(), self.layout.clone(), timeout);
        self
    }

    /// How long [`resolve`](Self::resolve), [`pre_pull`](Self::pre_pull) and
    /// [`survey`](Self::survey) may take on one node (default 15 minutes).
    #[must_use]
    pub fn with_preparation_timeout(mut self, timeout: Duration) -> Self {
        self.options.preparation = timeout;
        self
    }

    fn step(&self, action: &Action) -> Result<Step, Error> {
        let target = release(&action.to).ok_or_else(|| Error::BadAction {
            action: action.to_string(),
            reason: format!(
                "{} names no patch release; name one, such as v1.37.2",
                action.to
            ),
        })?;
        let options = &self.options;
        let common = |last: &str| {
            let record = backups::RECORD;
            let programs = options.programs();
            format!("{FILES}\n{COMMON}\n{PACKAGES}\n{SAVED}\n{record}\n{last}\n{programs}")
        };
        let on_member = format!("{}\n{CONTROL_PLANE}", etcd::SCRIPT);
        let on_node = format!("{}\n{MEMBER}\n{NODE}", etcd::SCRIPT);
        let seconds = |duration: Duration| duration.as_secs().to_string();
        let ignored = options.ignored.join(",");
        let skipped = options.skipped.join(",");
        let (script, limit) = match &action.target {
            Target::ControlPlane { .. } if action.is_way_back() => {
                return Err(Error::BadAction {
                    action: action.to_string(),
                    reason: "is a way back, and no API server goes back: restore the backup"
                        .to_owned(),
                });
            }
            Target::ControlPlane { member } => (
                Script::new(common(&on_member) + "\ncontrol_plane \"$@\"\n")
                    .args([&self.layout.root, &target, options.source()])
                    .args([member, &ignored, &skipped, &options.patches])
                    .arg(seconds(options.api)),
                options.control_plane,
            ),
            _ if action.is_way_back() => (
                Script::new(common(&format!("{on_node}\n{ROLL_BACK}")) + "\nroll_back \"$@\"\n")
                    .args([&self.layout.root, &target, &self.layout.state])
                    .args([options.kubelet, options.api, options.quiet].map(seconds)),
                options.node,
            ),
            _ => (
                Script::new(common(&on_node) + "\nnode \"$@\"\n")
                    .args([&self.layout.root, &target, options.source()])
                    .args([&ignored, &skipped, &options.patches])
                    .args([options.kubelet, options.api, options.quiet].map(seconds)),
                options.node,
            ),
        };
        Ok(Step {
            action: action.id.clone(),
            script,
            limit,
        })
    }

    /// What is on a node now.
    async fn look(&self, node: &str) -> Result<Installed, Error> {
        let script = Script::new(format!("{COMMON}\n{LOOK}\nlook \"$@\"\n"))
            .args([&self.layout.root, &self.layout.state]);
        let output = self.shell.run(node, &script, self.options.answer).await?;
        if output.code == 0 {
            Ok(Installed::read(&output.stdout))
        } else {
            Err(Error::StartFailed {
                node: node.to_owned(),
                said: format!("its versions cannot be read: {}", output.stderr.trim()),
            })
        }
    }

    /// Where `action` stands, with what its node knows of it and what is new in
    /// its log since `heard`.
    async fn status(
        &self,
        run: &str,
        action: &Action,
        heard: Heard,
    ) -> Result<(Seen, ActionStatus, News), Error> {
        let node = action.target.name();
        let (seen, news) = self.steps.look(node, run, &action.id, heard).await?;
        let status = match &seen {
            Seen::Absent => ActionStatus::Absent,
            Seen::Running { .. } => ActionStatus::Running,
            Seen::Ended { code, log, .. } => {
                judge::ended(action, *code, log, &self.look(node).await?)
            }
            Seen::Lost { rebooted, log, .. } => {
                // Whatever cannot be told now, the next attempt finds.
                let now = self.look(node).await.unwrap_or_default();
                judge::lost(action, *rebooted, log, &now)
            }
        };
        Ok((seen, status, news))
    }
}

#[async_trait]
impl UpgradeComponents for Kubeadm {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        if action.phase != Phase::Upgrade {
            return Err(Error::BadAction {
                action: action.to_string(),
                reason: "is no upgrade; give this driver only upgrades".to_owned(),
            }
            .into());
        }
        let step = self.step(action)?;
        let heard = Heard::default();
        let (seen, status, _) = self.status(&cx.fence.run, action, heard).await?;
        let runs = matches!(seen, Seen::Running { .. });
        let attempt = match (seen, status) {
            (_, ActionStatus::Succeeded(_)) => return Ok(()),
            (Seen::Absent, _) => 1,
            // Attaching stamps our epoch, and starts nothing.
            (Seen::Running { attempt }, _) => attempt,
            (Seen::Ended { attempt, .. } | Seen::Lost { attempt, .. }, _) => {
                attempt.saturating_add(1)
            }
        };
        let node = action.target.name();
        if !runs {
            self.clear_the_way(node, &cx.fence, attempt > 1).await?;
        }
        let started = self.steps.start(node, &cx.fence, &step, attempt).await;
        if !runs && matches!(started, Err(Error::StaleEpoch { .. })) {
            self.give_way(node, &cx.fence).await?;
        }
        Ok(started?)
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        let heard = self.told.of(&cx.fence.run, &action.id);
        let (_, status, news) = self.status(&cx.fence.run, action, heard).await?;
        let node = action.target.name();
        self.told.tell(cx, node, &action.id, news);
        Ok(self.put_back(node, &cx.fence, status).await?)
    }
}

impl fmt::Debug for Kubeadm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeadm")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A version as packages and kubeadm name it, without `v`.
fn release(version: &KubeVersion) -> Option<String> {
    version.patch()?;
    let text = version.to_string();
    let text = text.split('+').next().unwrap_or_default();
    Some(text.trim_start_matches('v').to_owned())
}

#[cfg(test)]
mod tests;
