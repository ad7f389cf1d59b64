//! A step on a node: a detached unit that a lost connection does not end.
//!
//! Everything about it lies on the node, under `/var/lib/kube-migrate`:
//!
//! ```text
//! lock                      held while a step is started, or the mark
//!                           out-of-balancer is set or removed
//! step.lock                 held by the running step and all it started
//! fence                     "EPOCH RUN": the last holder that held `lock`
//! current                   "UNIT FOLDER" of the last step
//! RUN/ACTION/ATTEMPT/       step.sh, args, unit, epoch, boot, log, exit
//! ```
//!
//! Beside that, steps and their driver keep files of their own there:
//!
//! ```text
//! out-of-balancer           "EPOCH RUN" of who took the API server out
//! kubeadm                   "MODE TARGET" of a `kubeadm upgrade` that has not
//!                           ended well
//! binaries/VERSION/         plain programs, each with its checksum
//! RUN/ACTION/before/        what a way back needs
//! RUN/ACTION/held           the packages that were held before
//! RUN/ACTION/backups        what it has made kubeadm put aside, once it has
//!                           succeeded; backups-before, what was there before
//! ```
//!
//! Files are written beside their place, synced and moved; `exit` is the last.

mod news;

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{ActionId, Fence, content_hash};

use crate::{Error, NodeShell, Script, ScriptOutput};
pub(crate) use news::{Heard, News, bounded, redacted};

/// Shell functions for files under the state folder; steps use them too.
pub(crate) const FILES: &str = include_str!("files.sh");
const SYSTEMD: &str = include_str!("systemd.sh");
/// The shell function `lock_node`; needs [`FILES`].
pub(crate) const FENCE: &str = include_str!("fence.sh");
const START: &str = include_str!("start.sh");
const RUN: &str = include_str!("run.sh");
const PROBE: &str = include_str!("probe.sh");

/// A line that ends an embedded file; no script of ours contains it.
const END: &str = "KUBE_MIGRATE_END_OF_FILE";

/// Where things are on a node, and what runs a step there.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The folder of our own state.
    pub(crate) state: String,
    /// Put before `/etc` and `/var`; empty on a real node.
    pub(crate) root: String,
    /// The shell functions `launch` and `unit_is_active`.
    launcher: &'static str,
    /// How long is waited for another one to let go of the node's lock.
    patience: Duration,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            state: "/var/lib/kube-migrate".to_owned(),
            root: String::new(),
            launcher: SYSTEMD,
            patience: Duration::from_secs(15),
        }
    }
}

/// What is to be run on a node, and as whose action.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) action: ActionId,
    pub(crate) script: Script,
    pub(crate) limit: Duration,
}

/// Where the latest attempt of an action stands on its node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// None was made.
    Absent,
    /// It is going on.
    Running { attempt: u32 },
    /// It ended and left its code.
    Ended {
        attempt: u32,
        code: i32,
        log: String,
    },
    /// It is gone and left no code: killed, or the node was rebooted.
    Lost {
        attempt: u32,
        rebooted: bool,
        log: String,
    },
}

/// The steps on the nodes behind a shell.
#[derive(Clone)]
pub(crate) struct Steps {
    shell: Arc<dyn NodeShell>,
    layout: Layout,
    answer: Duration,
}

impl Steps {
    pub(crate) fn new(shell: Arc<dyn NodeShell>, layout: Layout, answer: Duration) -> Self {
        Self {
            shell,
            layout,
            answer,
        }
    }

    /// The folder of an action on its node: `KUBE_MIGRATE_ACTION` of its steps.
    pub(crate) fn folder(&self, run: &str, action: &ActionId) -> String {
        let state = &self.layout.state;
        format!("{state}/{}/{}", token(run), token(action.as_str()))
    }

    /// Starts an attempt of a step, or attaches to it when this attempt or a
    /// later one has been started already: then nothing happens.
    pub(crate) async fn start(
        &self,
        node: &str,
        fence: &Fence,
        step: &Step,
        attempt: u32,
    ) -> Result<(), Error> {
        let unit = format!(
            "kube-migrate-{}-{attempt}",
            token(&format!("{}.{}", fence.run, step.action))
        );
        let script = Script::new(self.start_script(step.script.text()))
            .arg(token(step.action.as_str()))
            .arg(attempt.to_string())
            .arg(unit)
            .arg(step.limit.as_secs().max(1).to_string())
            .args(step.script.arguments());
        let output = self.fenced(node, fence, &script).await?;
        match output.code {
            0 => Ok(()),
            code => Err(Error::StartFailed {
                node: node.to_owned(),
                said: format!("exit code {code}: {}", output.stderr.trim()),
            }),
        }
    }

    /// Runs a script that calls `lock_node` of [`FENCE`]: STATE RUN EPOCH
    /// PATIENCE come before its own arguments. That it was not let in is an
    /// error, any other exit code is for the caller.
    pub(crate) async fn fenced(
        &self,
        node: &str,
        fence: &Fence,
        script: &Script,
    ) -> Result<ScriptOutput, Error> {
        let script = Script::new(script.text().to_owned())
            .arg(&self.layout.state)
            .arg(token(&fence.run))
            .arg(fence.epoch.to_string())
            .arg(self.layout.patience.as_secs().to_string())
            .args(script.arguments());
        let output = self.shell.run(node, &script, self.answer).await?;
        let node = node.to_owned();
        let said = output.stdout.trim().to_owned();
        match output.code {
            10 => Err(Error::StaleEpoch {
                node,
                epoch: fence.epoch,
                held: said,
            }),
            11 | 12 => Err(Error::NodeBusy { node, by: said }),
            _ => Ok(output),
        }
    }

    /// Looks at the latest attempt of an action, and at what is new in its log
    /// since `heard`: of a step that runs at most 4 KiB.
    pub(crate) async fn look(
        &self,
        node: &str,
        run: &str,
        action: &ActionId,
        heard: Heard,
    ) -> Result<(Seen, News), Error> {
        let text = format!("{}\n{FILES}\n{PROBE}\nprobe \"$@\"\n", self.layout.launcher);
        let script = Script::new(text)
            .arg(&self.layout.state)
            .arg(token(run))
            .arg(token(action.as_str()))
            .args([heard.attempt.to_string(), heard.bytes.to_string()]);
        let output = self.shell.run(node, &script, self.answer).await?;
        read_probe(&output, heard)
            .ok_or_else(|| unreadable(node, "its probe cannot be read", &output))
    }

    fn start_script(&self, step: &str) -> String {
        let launcher = self.layout.launcher;
        let runner = format!("{FILES}\n{RUN}");
        let step = file("step_text", step);
        let runner = file("runner_text", &runner);
        format!("{launcher}\n{FILES}\n{step}\n{runner}\n{FENCE}\n{START}\nstart \"$@\"\n")
    }
}

/// A shell function that prints `text`.
fn file(function: &str, text: &str) -> String {
    format!("{function}() {{\ncat <<'{END}'\n{text}\n{END}\n}}")
}

fn read_probe(output: &ScriptOutput, heard: Heard) -> Option<(Seen, News)> {
    if output.code != 0 {
        return None;
    }
    let (head, log) = match output.stdout.split_once("log\n") {
        Some((head, log)) => (head, log.to_owned()),
        None => (output.stdout.as_str(), String::new()),
    };
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let attempt = || field("attempt")?.parse().ok();
    let news = |has_ended| {
        let from = field("from").and_then(|from| from.parse().ok());
        let read = |attempt| News::read(heard, attempt, from.unwrap_or(0), &log, has_ended);
        attempt().map(read).unwrap_or_default()
    };
    let seen = match field("state")? {
        "absent" => Seen::Absent,
        "running" => {
            let attempt = attempt()?;
            return Some((Seen::Running { attempt }, news(false)));
        }
        "ended" => Seen::Ended {
            attempt: attempt()?,
            code: field("code")?.parse().ok()?,
            log: log.clone(),
        },
        "lost" => Seen::Lost {
            attempt: attempt()?,
            rebooted: field("boot") == Some("other"),
            log: log.clone(),
        },
        _ => return None,
    };
    Some((seen, news(true)))
}

/// `problem` is what could not be learnt from what a script said.
pub(crate) fn unreadable(node: &str, problem: &str, output: &ScriptOutput) -> Error {
    Error::StartFailed {
        node: node.to_owned(),
        said: format!(
            "{problem}, exit code {}: {} {}",
            output.code,
            output.stdout.trim(),
            output.stderr.trim()
        ),
    }
}

/// `text` as a word that is safe in file and unit names, different for
/// different texts.
pub(crate) fn token(text: &str) -> String {
    const LONGEST: usize = 150;
    let mut token = String::new();
    for byte in text.bytes() {
        // A leading dot would hide the folder, or leave it.
        let plain =
            byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'.' && !token.is_empty());
        if plain {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("_{byte:02x}"));
        }
    }
    if token.is_empty() {
        return "_".to_owned();
    }
    if token.len() > LONGEST {
        let hash = content_hash(&text);
        token.truncate(LONGEST - hash.len() - 1);
        token.push('_');
        token.push_str(&hash);
    }
    token
}

#[cfg(test)]
pub(crate) mod tests;
