//! The system's OpenSSH.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::tunnel::Tunnel;
use super::{NodeShell, Script, ScriptOutput, outcome, process};
use crate::Error;

/// Reaches nodes with the `ssh` program of this machine, so that bastions,
/// certificates, agents and known hosts work as they do by hand.
///
/// A node's name is handed to ssh as it is: aliases, users, ports and jump
/// hosts belong into an ssh configuration. Nobody is asked anything
/// (`BatchMode`), host keys must be known (`StrictHostKeyChecking=yes`), and
/// every call is a connection of its own unless
/// [`with_multiplexing`](Self::with_multiplexing) says otherwise. On the node
/// the script is run by `sudo -n bash`.
///
/// Arguments cross the login shell of the remote user in single quotes, as any
/// POSIX shell reads them.
#[derive(Clone, Debug)]
pub struct Ssh {
    program: PathBuf,
    config: Option<PathBuf>,
    user: Option<String>,
    extra: Vec<String>,
    connect_timeout: Duration,
    control_path: Option<PathBuf>,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            program: "ssh".into(),
            config: None,
            user: None,
            extra: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            control_path: None,
        }
    }
}

impl Ssh {
    /// `ssh` with its own configuration and the current user.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another program than `ssh` that takes the same words.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Reads this configuration only (`-F`).
    #[must_use]
    pub fn with_config(mut self, config: impl Into<PathBuf>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// Logs in as `user` (`-l`).
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Adds a word before all options of ours. OpenSSH takes the first value
    /// it meets, so these win.
    #[must_use]
    pub fn with_arg(mut self, word: impl Into<String>) -> Self {
        self.extra.push(word.into());
        self
    }

    /// How long a connection may take to come about (default 10 s).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Shares connections through sockets in `folder`, which only this user
    /// should be able to enter; an idle one is closed after a minute.
    #[must_use]
    pub fn with_multiplexing(mut self, folder: impl Into<PathBuf>) -> Self {
        self.control_path = Some(folder.into().join("%C"));
        self
    }

    fn command(&self, node: &str, script: &Script) -> Command {
        let mut ssh = self.options();
        let words = ["sudo", "-n"].into_iter().chain(Script::BASH);
        let words = words.map(str::to_owned);
        let args = script.arguments().iter().map(|arg| quoted(arg));
        let remote: Vec<String> = words.chain(args).collect();
        ssh.arg("-T").arg("--").arg(node).arg(remote.join(" "));
        ssh
    }

    /// Opens a way from a port of 127.0.0.1 to `address` (`HOST:PORT`), as `node`
    /// reaches it, until what is given back is dropped. Each connection is an ssh of
    /// its own (`-W`), which needs no `sudo`, but a server that forwards
    /// (`AllowTcpForwarding`). Every user of this machine can connect to the port: only
    /// for what asks who is there by itself, as etcd does.
    ///
    /// That `node` is in reach is seen by the first connection only.
    ///
    /// # Errors
    /// [`Error::UnknownNode`] for a name that is none, [`Error::NoProgram`] if this
    /// machine gives no port.
    pub async fn tunnel(&self, node: &str, address: &str) -> Result<Tunnel, Error> {
        refuse_words(node)?;
        let (mut ssh, node, address) = (self.clone(), node.to_owned(), address.to_owned());
        // A shared connection would outlive the tunnel.
        ssh.control_path = None;
        let connect = move || {
            let mut command = ssh.options();
            command.arg("-W").arg(&address).arg("--").arg(&node);
            command
        };
        let opened = Tunnel::open(connect).await;
        opened.map_err(|source| Error::NoProgram {
            program: self.program.clone(),
            source,
        })
    }

    /// The program with its options, before the name of a node.
    fn options(&self) -> Command {
        let mut ssh = Command::new(&self.program);
        ssh.args(&self.extra);
        if let Some(config) = &self.config {
            ssh.arg("-F").arg(config);
        }
        if let Some(user) = &self.user {
            ssh.arg("-l").arg(user);
        }
        let mut option = |name: &str, value: &str| {
            ssh.arg("-o").arg(format!("{name}={value}"));
        };
        option("BatchMode", "yes");
        option("StrictHostKeyChecking", "yes");
        let seconds = self.connect_timeout.as_secs().max(1).to_string();
        option("ConnectTimeout", &seconds);
        option("ServerAliveInterval", "5");
        option("ServerAliveCountMax", "3");
        match &self.control_path {
            Some(path) => {
                option("ControlMaster", "auto");
                option("ControlPath", &path.display().to_string());
                option("ControlPersist", "60");
            }
            None => {
                option("ControlMaster", "no");
                option("ControlPath", "none");
            }
        }
        ssh
    }
}

/// A name that ssh would take for an option.
fn refuse_words(node: &str) -> Result<(), Error> {
    match node.is_empty() || node.starts_with('-') {
        false => Ok(()),
        true => Err(Error::UnknownNode {
            node: node.to_owned(),
            reason: "is no name that ssh takes for a host; give it a way of its own".to_owned(),
        }),
    }
}

#[async_trait]
impl NodeShell for Ssh {
    async fn run(
        &self,
        node: &str,
        script: &Script,
        limit: Duration,
    ) -> Result<ScriptOutput, Error> {
        refuse_words(node)?;
        let exit = process::run(&mut self.command(node, script), script.stdin(), limit)
            .await
            .map_err(|source| Error::NoProgram {
                program: self.program.clone(),
                source,
            })?;
        let exit = exit.ok_or_else(|| Error::NodeTimeout {
            node: node.to_owned(),
            limit,
        })?;
        outcome(node, exit)
    }
}

/// One word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
