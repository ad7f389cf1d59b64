//! One child process: fed, listened to within bounds, ended in time.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How much of standard output is kept, from its beginning.
const STDOUT: usize = 1 << 20;
/// How much of standard error is kept, from its end.
const STDERR: usize = 16 << 10;

/// How a process ended; no code when a signal ended it.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs `command` to its end; `None` when it did not end within `limit`. Then,
/// and when the future is dropped, it is ended with its process group.
pub(super) async fn run(
    command: &mut Command,
    stdin: String,
    limit: Duration,
) -> io::Result<Option<Exit>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group::of(&child);
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let all = async {
        let feed = async move {
            if let Some(mut input) = input {
                // A process that ends early closes its input; its exit code
                // says more than the broken pipe.
                let _ = input.write_all(stdin.as_bytes()).await;
            }
        };
        let ((), stdout, stderr, status) = tokio::join!(
            feed,
            keep(output, STDOUT, Keep::First),
            keep(errors, STDERR, Keep::Last),
            child.wait()
        );
        Ok::<_, io::Error>(Exit {
            code: status?.code(),
            stdout: stdout?,
            stderr: stderr?,
        })
    };
    let ended = tokio::time::timeout(limit, all).await;
    match ended {
        Ok(exit) => {
            group.0 = None;
            exit.map(Some)
        }
        Err(_) => Ok(None),
    }
}

/// The process group of a child that has not been waited for.
pub(super) struct Group(Option<i32>);

impl Group {
    /// Of a child that was given a group of its own; ended with this.
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(Pid::from_raw) {
            // It may have ended by itself a moment ago.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[derive(Clone, Copy)]
enum Keep {
    First,
    Last,
}

/// Reads to the end and keeps at most `most` bytes of it.
async fn keep(
    from: Option<impl AsyncRead + Unpin>,
    most: usize,
    which: Keep,
) -> io::Result<String> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let mut piece = vec![0; 8 << 10];
        loop {
            let read = from.read(&mut piece).await?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            match which {
                Keep::First => {
                    let room = most.saturating_sub(kept.len()).min(bytes.len());
                    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
                }
                Keep::Last => {
                    kept.extend_from_slice(bytes);
                    let surplus = kept.len().saturating_sub(most);
                    kept.drain(..surplus);
                }
            }
        }
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}
