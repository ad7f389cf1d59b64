//! A program of the operator's before the API servers.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use migrate_core::{Fence, Finding};

use super::examined::behind;
use super::{ApiServerBackend, Standing, refused};
use crate::Error;
use crate::hook::{Child, Exit, executable};

const QUIESCE: &str = "quiesce";

/// Takes API servers out of any load balancer by running a program.
///
/// # The program's contract
/// It is run without arguments, standard input closed, with the caller's
/// environment and:
///
/// | variable | value |
/// |---|---|
/// | `KUBE_MIGRATE_PHASE` | `quiesce` or `restore` |
/// | `KUBE_MIGRATE_TARGET` | `api-server` |
/// | `KUBE_MIGRATE_NODE` | the member's name |
/// | `KUBE_MIGRATE_RUN` | the run that asks |
/// | `KUBE_MIGRATE_EPOCH` | the epoch of its holder; grows with each holder |
///
/// Exit codes: 0 = it is out (or in again); of `quiesce` also 20 = somebody had
/// taken it out before, so that it must not be put back; anything else = could
/// not be done, what it printed says why. It has to return when no connection
/// to the member is left, must refuse to take the last one out, and may be run
/// again at any time. It may remember the newest epoch of each member and refuse
/// older ones, as nodes do.
///
/// For a virtual address that moves between members (kube-vip, keepalived),
/// `quiesce` makes the member give it up and returns when another one has it.
#[derive(Clone, Debug)]
pub struct ApiServerHook {
    program: PathBuf,
    timeout: Duration,
}

impl ApiServerHook {
    /// Runs `program`.
    ///
    /// # Errors
    /// [`Error::BadHook`] when it is not an executable file.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            program: executable(program.into())?,
            timeout: Duration::from_secs(30),
        })
    }

    /// Ends a program that takes longer than `timeout` (default 30 seconds).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(&self, phase: &str, member: &str, fence: &Fence) -> Result<Standing, Error> {
        let environment = [
            ("KUBE_MIGRATE_PHASE", phase.to_owned()),
            ("KUBE_MIGRATE_TARGET", "api-server".to_owned()),
            ("KUBE_MIGRATE_NODE", member.to_owned()),
            ("KUBE_MIGRATE_RUN", fence.run.clone()),
            ("KUBE_MIGRATE_EPOCH", fence.epoch.to_string()),
        ];
        let mut child = Child::start(&self.program, environment, false)?;
        let exit = child.wait(self.timeout).await;
        let program = self.program.display();
        match exit {
            Exit::Code(0, _) => Ok(Standing::WasIn),
            Exit::Code(20, _) if phase == QUIESCE => Ok(Standing::WasOut),
            Exit::Code(code, said) => Err(refused(
                member,
                format!(
                    "{phase} by {program} exited with {code}{said}; cure it and go on with the run"
                ),
            )),
            Exit::Killed(said) => Err(refused(
                member,
                format!(
                    "{phase} by {program} was ended by a signal{said}; cure it and go on with the run"
                ),
            )),
            Exit::Running | Exit::TimedOut => Err(refused(
                member,
                format!(
                    "{phase} by {program} did not end within {}s; make it end sooner, or allow more",
                    self.timeout.as_secs()
                ),
            )),
        }
    }
}

#[async_trait]
impl ApiServerBackend for ApiServerHook {
    async fn quiesce(&self, member: &str, fence: &Fence) -> Result<Standing, Error> {
        self.run(QUIESCE, member, fence).await
    }

    async fn examine(&self, _: &[String]) -> Vec<Finding> {
        vec![behind(&self.program.display().to_string())]
    }

    async fn restore(&self, member: &str, fence: &Fence) -> Result<(), Error> {
        self.run("restore", member, fence).await.map(drop)
    }
}
