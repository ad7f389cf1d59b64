//! Running scripts on nodes: the seam [`NodeShell`] and its backends.

mod job;
mod local;
mod per_node;
mod process;
mod ssh;
mod tunnel;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use migrate_core::StepError;

use crate::Error;

pub use job::JobShell;
pub use local::Local;
pub use per_node::PerNode;
pub use ssh::Ssh;
pub use tunnel::Tunnel;

/// Runs bash scripts as root on named nodes.
///
/// # Guarantees
/// * The script is run by `bash -euo pipefail` as root, with `LC_ALL=C` and an
///   empty standard input. Its arguments arrive as they are, whatever
///   characters they are made of; nothing is ever pasted into the script.
/// * A script that was cut off on its way does nothing at all.
/// * What it prints is kept up to a bound: the first MiB of standard output,
///   the last 16 KiB of standard error.
/// * Dropping the future gives up waiting. What the script started detached
///   (a unit of systemd) runs on.
///
/// # Errors
/// [`Error::Unreachable`]: try again; what was under way may have been done.
/// [`Error::NodeTimeout`]: the same. [`Error::SshRefused`],
/// [`Error::SudoRefused`], [`Error::JobRefused`]: final, with the cure. An exit
/// code of the script, whatever it is, is no error. Each backend names others of
/// its own.
///
/// # Caveats
/// A script must not exit with 255, which is how OpenSSH says that the
/// connection is gone.
#[async_trait]
pub trait NodeShell: Send + Sync {
    /// Runs `script` on `node`, for `limit` at the longest.
    async fn run(
        &self,
        node: &str,
        script: &Script,
        limit: Duration,
    ) -> Result<ScriptOutput, Error>;
}

/// A bash script and its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Script {
    text: Cow<'static, str>,
    args: Vec<String>,
}

impl Script {
    /// A script without arguments.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            args: Vec::new(),
        }
    }

    /// Adds an argument: `$1` first. NUL bytes, which no argument can have,
    /// are dropped.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        let mut arg = arg.into();
        arg.retain(|c| c != '\0');
        self.args.push(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// The script as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The arguments.
    pub fn arguments(&self) -> &[String] {
        &self.args
    }

    /// What a backend sends to the standard input of bash: one compound
    /// command, which bash reads to its end before it runs any of it.
    fn stdin(&self) -> String {
        format!(
            "{{\nexec < /dev/null\nexport LC_ALL=C\necho '{BEGUN}'\n{}\nexit\n}}\n",
            self.text
        )
    }

    /// The words to run, before the arguments of the script.
    const BASH: [&str; 5] = ["bash", "-euo", "pipefail", "-s", "--"];
}

/// How a script ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ScriptOutput {
    /// Its exit code.
    pub code: i32,
    /// What it printed; the first MiB.
    pub stdout: String,
    /// What it complained of; the last 16 KiB.
    pub stderr: String,
}

impl ScriptOutput {
    /// An end with `code`.
    pub fn new(code: i32, stdout: impl Into<String>, stderr: impl Into<String>) -> Self {
        Self {
            code,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }
}

/// What runs scripts on `node` by `shell`, each for `limit` at the longest, and gives
/// what it printed; for what knows no shell, as `ScriptNode` of `migrate-etcd`. The
/// errors are those of the shell; an exit code other than 0 is one too
/// ([`Error::BadAnswer`]), with the first line that the script complained of.
pub fn scripts_on(
    shell: Arc<dyn NodeShell>,
    node: impl Into<String>,
    limit: Duration,
) -> impl Fn(&'static str, Vec<String>) -> BoxFuture<'static, Result<String, StepError>>
+ Send
+ Sync
+ 'static {
    let node = node.into();
    move |text, args| {
        let (shell, node) = (Arc::clone(&shell), node.clone());
        async move {
            let script = Script::new(text).args(args);
            let output = shell.run(&node, &script, limit).await?;
            match output.code {
                0 => Ok(output.stdout),
                code => {
                    let complaint = output.stderr.trim().lines().next().unwrap_or_default();
                    let said = format!("exit code {code}: {complaint}");
                    Err(Error::BadAnswer { node, said }.into())
                }
            }
        }
        .boxed()
    }
}

/// The first line that every script prints: what comes before it was said by
/// the way there (login messages), and without it the script was not begun.
const BEGUN: &str = "kube-migrate: begun";

/// What the end of the process that should have run a script means.
fn outcome(node: &str, exit: process::Exit) -> Result<ScriptOutput, Error> {
    let node = node.to_owned();
    let process::Exit {
        code,
        stdout,
        stderr,
    } = exit;
    let said = stderr.trim().to_owned();
    let printed = stdout
        .split_once(&format!("{BEGUN}\n"))
        .map(|(_, after)| after.to_owned());
    match (printed, code) {
        (Some(_), Some(255) | None) => Err(Error::Unreachable {
            node,
            said: format!("the connection was lost on the way: {said}"),
        }),
        (Some(stdout), Some(code)) => Ok(ScriptOutput {
            code,
            stdout,
            stderr,
        }),
        (None, _) => Err(refusal(node, code, said)),
    }
}

/// Why a script was not even begun, from what ssh and sudo say.
fn refusal(node: String, code: Option<i32>, said: String) -> Error {
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let refused = |cure| Error::SshRefused {
        node: node.clone(),
        said: said.clone(),
        cure,
    };
    if says(&[
        "Host key verification failed",
        "HOST IDENTIFICATION HAS CHANGED",
        "host key is known for",
    ]) {
        refused(
            "compare the node's host key with the machine's own \
             (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and put it into known_hosts",
        )
    } else if says(&["Permission denied (", "Too many authentication failures"]) {
        refused(
            "see that the user exists on the node and its authorized_keys names our key, \
             and that the key needs no passphrase (or is in an agent)",
        )
    } else if says(&[
        "Bad configuration option",
        "Can't open user config file",
        "Bad owner or permissions on",
        "extra arguments at end of line",
    ]) {
        refused("correct the configuration of ssh")
    } else if code == Some(255) || code.is_none() {
        // sudo may have said something before: it complains of what does no harm, too.
        Error::Unreachable { node, said }
    } else if said.lines().any(|line| line.starts_with("sudo:"))
        || says(&[
            "sudo: command not found",
            "sudo: not found",
            "sudoers",
            "is not allowed to execute",
            "is not allowed to run sudo",
        ])
    {
        Error::SudoRefused { node, said }
    } else {
        let code = code.unwrap_or_default();
        Error::BadAnswer {
            node,
            said: format!("no script was begun, exit code {code}: {said}"),
        }
    }
}

#[cfg(test)]
mod tests;
