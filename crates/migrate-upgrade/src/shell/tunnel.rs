//! A port of this machine that leads to one that a node reaches.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{copy_bidirectional, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::process::Group;

/// After a connection that could not be taken.
const AGAIN: Duration = Duration::from_millis(100);

/// An open way, see [`Ssh::tunnel`](crate::Ssh::tunnel). Dropping it ends all
/// connections through it, and the processes that carried them.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    task: AbortHandle,
}

impl Tunnel {
    /// Every connection goes through the input and output of a command of its own.
    pub(super) async fn open(command: impl Fn() -> Command + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                match listener.accept().await {
                    // What cannot be carried is closed, which its client tells.
                    Ok((stream, _)) => drop(open.spawn(carry(stream, command()))),
                    // That client was gone before, or there are too many files open for now.
                    Err(_) => sleep(AGAIN).await,
                }
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            task: task.abort_handle(),
        })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut stream: TcpStream, mut command: Command) -> io::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let _group = Group::of(&child);
    if let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) {
        copy_bidirectional(&mut stream, &mut join(output, input)).await?;
    }
    Ok(())
}
