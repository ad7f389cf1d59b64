//! One program of the control plane.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;
use crate::text::last_lines;

const GUARD: &str = include_str!("guard.sh");

/// Time between two looks at a program that is ending.
const PAUSE: Duration = Duration::from_millis(20);

/// A running program; dropping it kills it at once.
pub(crate) struct Component {
    name: String,
    guard: Child,
    /// Closed by `Drop`, which is the order to kill.
    pipe: Option<ChildStdin>,
    log: PathBuf,
}

/// What can be sent to a program.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Continue,
    Stop,
    Terminate,
}

impl Component {
    /// Starts `program`; its output is appended to `<name>.log` in `logs`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        logs: &Path,
    ) -> Result<Self, Error> {
        let starting = || format!("starting {name} ({})", program.display());
        let log = logs.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io(starting()))?;
        let errors = output.try_clone().map_err(Error::io(starting()))?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, name])
            .arg(program)
            .args(arguments)
            .current_dir(logs)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io(starting()))?;
        let pipe = guard.stdin.take();
        Ok(Self {
            name: name.to_owned(),
            guard,
            pipe,
            log,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal to the program, not to its guard.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let line = match signal {
            Signal::Continue => "CONT\n",
            Signal::Stop => "STOP\n",
            Signal::Terminate => "TERM\n",
        };
        match &mut self.pipe {
            Some(pipe) => pipe
                .write_all(line.as_bytes())
                .map_err(Error::io(format!("signalling {}", self.name))),
            None => Ok(()),
        }
    }

    /// An error if the program has ended although nobody stopped it.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.guard.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::ComponentEnded {
                component: self.name.clone(),
                status: status.to_string(),
                log: self.log_tail(30),
            }),
            Err(source) => Err(Error::Io {
                what: format!("looking at {}", self.name),
                source,
            }),
        }
    }

    /// Asks the program to end and waits; kills it after `patience`.
    pub(crate) async fn stop(mut self, patience: Duration) -> Result<(), Error> {
        self.check()?;
        self.signal(Signal::Terminate)?;
        let deadline = Instant::now() + patience;
        while matches!(self.guard.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The last lines the program wrote.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text), lines)
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Returns within milliseconds: the guard answers the closed pipe with
        // SIGKILL. Waiting here also frees the process's ports for the next.
        self.guard.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Component {
        Component::start("test", Path::new("/bin/sh"), ["-c", script], folder).unwrap()
    }

    async fn says(component: &Component, wanted: &str) {
        let within = Duration::from_secs(10);
        crate::eventually(wanted, within, || async {
            Ok::<_, String>(component.log_tail(10).contains(wanted))
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn an_early_end_is_seen_with_status_and_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut component = shell(folder.path(), "echo first; echo last; exit 7");
        component.guard.wait().unwrap();
        let error = component.check().unwrap_err().to_string();
        assert!(
            error.contains("exit status: 7") && error.contains("first\nlast"),
            "{error}"
        );
        assert_eq!(component.log_tail(1), "last");
    }

    #[tokio::test]
    async fn a_program_is_asked_to_end_and_may_tidy_up() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo tidy; exit' TERM; echo ready; while :; do sleep 0.05; done";
        let component = shell(folder.path(), script);
        says(&component, "ready").await;
        component.stop(Duration::from_secs(10)).await.unwrap();
        let log = fs::read_to_string(folder.path().join("test.log")).unwrap();
        assert!(log.contains("tidy"), "{log}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_listen_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo ready $$; while :; do sleep 0.05; done";
        let component = shell(folder.path(), script);
        says(&component, "ready").await;
        let pid = component.log_tail(1).replace("ready ", "");
        component.stop(Duration::from_millis(100)).await.unwrap();
        crate::eventually(
            "the program to be gone",
            Duration::from_secs(10),
            || async { Ok::<_, String>(!Path::new("/proc").join(&pid).exists()) },
        )
        .await
        .unwrap();
    }
}
