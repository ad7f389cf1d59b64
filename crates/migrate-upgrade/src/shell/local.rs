//! This machine.

use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::{NodeShell, Script, ScriptOutput, outcome, process};
use crate::Error;

/// Runs scripts on this machine, for a tool that runs on the node it changes.
///
/// It answers to one name only, so that a run over many nodes cannot by
/// mistake do all of its work here. A user other than root goes through
/// `sudo -n`.
#[derive(Clone, Debug)]
pub struct Local {
    node: String,
    path: Option<OsString>,
}

impl Local {
    /// This machine is `node`.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            path: None,
        }
    }

    /// Looks for programs in `path` (the value of `PATH`).
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
        self
    }
}

#[async_trait]
impl NodeShell for Local {
    async fn run(
        &self,
        node: &str,
        script: &Script,
        limit: Duration,
    ) -> Result<ScriptOutput, Error> {
        if node != self.node {
            return Err(Error::UnknownNode {
                node: node.to_owned(),
                reason: format!(
                    "is not this machine, which is {}; give it a way of its own, such as ssh",
                    self.node
                ),
            });
        }
        let sudo: &[&str] = match rustix::process::geteuid().is_root() {
            true => &[],
            false => &["sudo", "-n"],
        };
        let mut words = sudo.iter().copied().chain(Script::BASH);
        let program = words.next().unwrap_or("bash");
        let mut command = Command::new(program);
        command.args(words).args(script.arguments());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let exit = process::run(&mut command, script.stdin(), limit)
            .await
            .map_err(|source| Error::NoProgram {
                program: program.into(),
                source,
            })?;
        let exit = exit.ok_or_else(|| Error::NodeTimeout {
            node: node.to_owned(),
            limit,
        })?;
        outcome(node, exit)
    }
}
