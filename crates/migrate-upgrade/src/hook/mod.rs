//! The command hook: a program of the operator's per target.

mod addon;
mod child;
mod examine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::{
    Action, ActionId, ActionStatus, Outcome, StepContext, StepError, Target, UpgradeComponents,
};
use tokio::time::Instant;

use crate::Error;
pub use addon::AddonHook;
pub(crate) use child::{Child, Exit};

/// Upgrades nodes and control-plane members by running programs.
///
/// # The program's contract
/// It is run without arguments, standard input closed, with the caller's
/// environment and:
///
/// | variable | value |
/// |---|---|
/// | `KUBE_MIGRATE_PHASE` | `begin` or `probe` |
/// | `KUBE_MIGRATE_ACTION_ID` | identity of the action; the same after every crash |
/// | `KUBE_MIGRATE_TARGET` | `node` or `control-plane` |
/// | `KUBE_MIGRATE_NODE` | the node's or member's name |
/// | `KUBE_MIGRATE_POOL` | the node's pool, empty for a member |
/// | `KUBE_MIGRATE_FROM`, `KUBE_MIGRATE_TO` | versions, `v1.37.2` |
/// | `KUBE_MIGRATE_RUN`, `KUBE_MIGRATE_EPOCH` | who asks; refuse an older epoch than the target has seen |
///
/// `begin` does the work, or starts it and returns: 0 = done or accepted,
/// 75 = not now, try again later, anything else = failed for good. It must do
/// nothing when this action id is going on or done already. After 75 the probe
/// is asked, and as long as that says 20, `begin` again, until the timeout has
/// passed since it was first asked; then the action has failed.
///
/// `probe` looks at the target and says where the action stands: 0 =
/// succeeded, 10 = running, 20 = absent (never begun), 75 = failed, trying
/// again may help, anything else = failed for good. It changes nothing.
///
/// As a part of step 1 ([`PrepareEnvironment`](migrate_core::PrepareEnvironment))
/// it probes all targets once before anything starts; a probe that is asked of
/// an action nobody has begun, under an id no run uses, says 20, or 0 where the
/// target is at the version.
///
/// # Guarantees
/// `begin` of this driver returns at once; the program runs on beside it. One
/// that takes longer than the timeout is ended with everything in its process
/// group, and the action has failed. The last lines a failed program printed are
/// part of the reason.
///
/// Only the process that has started a program ends it: the program survives
/// that process, and who goes on after it only probes. So a program needs a
/// timeout of its own, or it may go on after the action was given up.
#[derive(Debug)]
pub struct CommandHook {
    node: PathBuf,
    control_plane: PathBuf,
    timeout: Duration,
    probe_timeout: Duration,
    attempts: Mutex<BTreeMap<ActionId, Attempt>>,
}

/// A `begin` of this process, since it was first asked for: the timeout is for
/// all of it, so that one that was put off for long ends in time too.
#[derive(Debug)]
enum Attempt {
    Running {
        child: Child,
        since: Instant,
        /// What it said when it was put off last, if it was.
        before: Option<String>,
    },
    /// The program has said 75.
    PutOff {
        since: Instant,
        /// Under which epoch: what a later one asks for is another attempt.
        epoch: u64,
        said: String,
    },
}

impl CommandHook {
    /// Runs `node` for nodes and `control_plane` for control-plane members.
    ///
    /// # Errors
    /// [`Error::BadHook`] when one of them is not an executable file.
    pub fn new(node: impl Into<PathBuf>, control_plane: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            node: executable(node.into())?,
            control_plane: executable(control_plane.into())?,
            timeout: Duration::from_secs(30 * 60),
            probe_timeout: Duration::from_secs(30),
            attempts: Mutex::default(),
        })
    }

    /// Ends a `begin` that takes longer than `timeout` (default 30 minutes), the
    /// time included for which it says 75.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ends a `probe` that takes longer than `timeout` (default 30 seconds).
    #[must_use]
    pub fn with_probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    fn program(&self, target: &Target) -> &Path {
        match target {
            Target::ControlPlane { .. } => &self.control_plane,
            _ => &self.node,
        }
    }

    fn environment(cx: &StepContext, action: &Action, phase: &str) -> [(&'static str, String); 9] {
        let (kind, pool) = match &action.target {
            Target::Addon { .. } => ("addon", ""),
            Target::Node { pool, .. } => ("node", pool.as_str()),
            _ => ("control-plane", ""),
        };
        [
            ("KUBE_MIGRATE_PHASE", phase.to_owned()),
            ("KUBE_MIGRATE_ACTION_ID", action.id.to_string()),
            ("KUBE_MIGRATE_TARGET", kind.to_owned()),
            ("KUBE_MIGRATE_NODE", action.target.name().to_owned()),
            ("KUBE_MIGRATE_POOL", pool.to_owned()),
            ("KUBE_MIGRATE_FROM", action.from.to_string()),
            ("KUBE_MIGRATE_TO", action.to.to_string()),
            ("KUBE_MIGRATE_RUN", cx.fence.run.clone()),
            ("KUBE_MIGRATE_EPOCH", cx.fence.epoch.to_string()),
        ]
    }

    fn start(&self, cx: &StepContext, action: &Action, phase: &str) -> Result<Child, Error> {
        let environment = Self::environment(cx, action, phase);
        // A probe changes nothing, so nobody misses one that is broken off.
        Child::start(self.program(&action.target), environment, phase == "begin")
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<ActionId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the `begin` that this process started has to say; `None` when
    /// there is none or it ended well, so that only the target knows.
    fn own_child(&self, cx: &StepContext, action: &Action) -> Result<Option<ActionStatus>, Error> {
        let mut attempts = self.attempts();
        let running = attempts.get_mut(&action.id);
        let Some(Attempt::Running {
            child,
            since,
            before,
        }) = running
        else {
            return Ok(None);
        };
        let since = *since;
        let left = self.timeout.saturating_sub(since.elapsed());
        let path = self.program(&action.target);
        let failed = |what: String| ActionStatus::Failed {
            retryable: false,
            reason: format!("hook {} {what}", path.display()),
        };
        let status = match child.poll(left) {
            Exit::Running => return Ok(Some(ActionStatus::Running)),
            Exit::Code(0, _) => None,
            Exit::Code(75, said) => {
                let put_off = Attempt::PutOff {
                    since,
                    epoch: cx.fence.epoch,
                    said: said.clone(),
                };
                attempts.insert(action.id.clone(), put_off);
                return Err(Error::HookPutsOff {
                    path: path.to_owned(),
                    said,
                });
            }
            Exit::Code(code, said) => Some(failed(format!("exited with {code}{said}"))),
            Exit::Killed(said) => Some(failed(format!("was ended by a signal{said}"))),
            Exit::TimedOut => Some(failed(format!(
                "did not end within {}s and was ended; make it end sooner, or give it more time \
                 ({}){}",
                self.timeout.as_secs(),
                match action.target {
                    Target::Addon { .. } => "its timeout in the policy",
                    _ => "deadlines.upgrade",
                },
                // The time may have gone by with that, and little been left to it.
                match before {
                    Some(said) => format!("; before it had said: try again later{said}"),
                    None => String::new(),
                }
            ))),
        };
        attempts.remove(&action.id);
        Ok(status)
    }
}

#[async_trait]
impl UpgradeComponents for CommandHook {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        let mut attempts = self.attempts();
        let (since, before) = match attempts.get(&action.id) {
            Some(Attempt::Running { .. }) => return Ok(()),
            Some(Attempt::PutOff { since, epoch, said }) if *epoch == cx.fence.epoch => {
                if since.elapsed() >= self.timeout {
                    let error = Error::HookNeverBegins {
                        path: self.program(&action.target).to_owned(),
                        limit: self.timeout,
                        said: said.clone(),
                    };
                    attempts.remove(&action.id);
                    return Err(error.into());
                }
                (*since, Some(said.clone()))
            }
            _ => (Instant::now(), None),
        };
        let child = self.start(cx, action, "begin")?;
        let running = Attempt::Running {
            child,
            since,
            before,
        };
        attempts.insert(action.id.clone(), running);
        Ok(())
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        if let Some(status) = self.own_child(cx, action)? {
            return Ok(status);
        }
        let mut child = self.start(cx, action, "probe")?;
        let exit = child.wait(self.probe_timeout).await;
        let program = self.program(&action.target);
        let failed = |retryable, what: String| ActionStatus::Failed {
            retryable,
            reason: format!("hook {}: its probe {what}", program.display()),
        };
        let status = match exit {
            Exit::Code(0, _) => ActionStatus::Succeeded(Outcome::SameNode),
            Exit::Code(10, _) => ActionStatus::Running,
            Exit::Code(20, _) => ActionStatus::Absent,
            Exit::Code(75, said) => failed(true, format!("says: failed{said}")),
            Exit::Code(code, said) => failed(false, format!("exited with {code}{said}")),
            Exit::Killed(said) => failed(true, format!("was ended by a signal{said}")),
            Exit::Running | Exit::TimedOut => {
                return Err(Error::ProbeHangs {
                    path: program.to_owned(),
                    limit: self.probe_timeout,
                }
                .into());
            }
        };
        if matches!(
            status,
            ActionStatus::Succeeded(_) | ActionStatus::Failed { .. }
        ) {
            // The attempt that was put off is over too.
            self.attempts().remove(&action.id);
        }
        Ok(status)
    }
}

/// The path as it can be run, whatever the working directory is later.
pub(crate) fn executable(path: PathBuf) -> Result<PathBuf, Error> {
    let bad = |reason: String| Error::BadHook {
        path: path.clone(),
        reason,
    };
    let unread = |error| bad(format!("cannot be read: {error}; name an executable file"));
    let whole = path.canonicalize().map_err(unread)?;
    let meta = whole.metadata().map_err(unread)?;
    if !meta.is_file() {
        return Err(bad("is not a file; name an executable file".to_owned()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(bad("is not executable; run chmod +x on it".to_owned()));
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
