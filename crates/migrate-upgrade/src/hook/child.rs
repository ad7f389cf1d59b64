//! One run of a hook program.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::Error;
use crate::unit::bounded;

/// How much of a program's output is kept for the reason of a failure.
const TAIL: u64 = 2048;

/// A started program, alone in its process group, its output in an unnamed
/// file: it can go on writing when this process is gone.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    output: File,
    detached: bool,
}

/// How a run ended; the text is what it printed last, ready to be appended.
#[derive(Debug)]
pub(crate) enum Exit {
    Running,
    Code(i32, String),
    Killed(String),
    TimedOut,
}

impl Child {
    /// Starts `program`; one that is not `detached` ends when this is dropped, with
    /// all of its process group.
    pub(crate) fn start<const N: usize>(
        program: &Path,
        environment: [(&str, String); N],
        detached: bool,
    ) -> Result<Self, Error> {
        let failed = |source| Error::HookStart {
            path: program.to_owned(),
            source,
        };
        let output = tempfile::tempfile().map_err(failed)?;
        let stdout = output.try_clone().map_err(failed)?;
        let stderr = output.try_clone().map_err(failed)?;
        let process = Command::new(program)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(!detached)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            process,
            output,
            detached,
        })
    }

    /// Looks without waiting; a program with no time `left` is ended.
    pub(crate) fn poll(&mut self, left: Duration) -> Exit {
        match self.process.try_wait() {
            Ok(Some(status)) => self.exit(status),
            Ok(None) if left.is_zero() => {
                self.end();
                Exit::TimedOut
            }
            Ok(None) => Exit::Running,
            Err(error) => Exit::Killed(format!(": {error}")),
        }
    }

    /// Waits for the end, at most `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Exit {
        match tokio::time::timeout(limit, self.process.wait()).await {
            Ok(Ok(status)) => self.exit(status),
            Ok(Err(error)) => Exit::Killed(format!(": {error}")),
            Err(_) => {
                self.end();
                Exit::TimedOut
            }
        }
    }

    fn exit(&mut self, status: std::process::ExitStatus) -> Exit {
        let said = self.tail();
        match status.code() {
            Some(code) => Exit::Code(code, said),
            None => Exit::Killed(said),
        }
    }

    /// Ends the program and whatever it started in its process group.
    fn end(&mut self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself a moment ago.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }

    /// What it printed last, as `: …`, empty when it printed nothing: without what looks
    /// like a secret, for reasons are sent round.
    fn tail(&mut self) -> String {
        let mut read = || -> std::io::Result<Vec<u8>> {
            let length = self.output.seek(SeekFrom::End(0))?;
            self.output
                .seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            self.output.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        match bounded(&text).join("\n").trim() {
            "" => String::new(),
            text => format!(": {text}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing once its end was seen: the number may be another's by then.
        if !self.detached {
            self.end();
        }
    }
}
