//! The other end of the tool's command hooks: a program upgrades nodes and the
//! control plane by asking the test process, which holds all of the state.
//! A tool that is killed between two calls therefore finds things as a real
//! machine would leave them.

mod actions;
mod call;
mod node;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use actions::Actions;
use call::{Answer, Call};

use crate::Error;
use crate::control_plane::Inner;

const PROGRAM: &str = include_str!("hook.bash");

/// Listens for the hook program of one control plane.
///
/// It has a thread and a runtime of its own, so that a test may block while it
/// waits for the tool to end.
pub(crate) struct HookServer {
    program: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HookServer {
    pub(crate) fn start(inner: Arc<Inner>, node_upgrade_time: Duration) -> Result<Self, Error> {
        let starting = || "starting the listener for hooks".to_owned();
        let listener =
            StdListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io(starting()))?;
        listener
            .set_nonblocking(true)
            .map_err(Error::io(starting()))?;
        let address = listener.local_addr().map_err(Error::io(starting()))?;
        let program = inner.dir().join("hook");
        let text = PROGRAM.replace("@PORT@", &address.port().to_string());
        fs::write(&program, text)
            .and_then(|()| fs::set_permissions(&program, Permissions::from_mode(0o755)))
            .map_err(Error::io(starting()))?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io(starting()))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("testbed-hooks".to_owned())
            .spawn(move || {
                run(
                    runtime,
                    listener,
                    Actions::new(inner, node_upgrade_time),
                    stopped,
                )
            })
            .map_err(Error::io(starting()))?;
        Ok(Self {
            program,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Ends the listener and whatever it was doing.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn run(runtime: Runtime, listener: StdListener, actions: Actions, stopped: oneshot::Receiver<()>) {
    let actions = Arc::new(actions);
    runtime.block_on(async {
        tokio::select! {
            () = serve(listener, actions) => {}
            _ = stopped => {}
        }
    });
    // A build that a hook started is left to finish; nothing waits for it.
    runtime.shutdown_background();
}

async fn serve(listener: StdListener, actions: Arc<Actions>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        let actions = Arc::clone(&actions);
        // A caller that goes away in the middle is its own affair.
        tokio::spawn(async move { answer(stream, &actions).await.ok() });
    }
}

async fn answer(mut stream: TcpStream, actions: &Arc<Actions>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut fields = Vec::new();
    while fields.len() < Call::FIELDS
        && let Some(line) = lines.next_line().await?
    {
        fields.push(line);
    }
    let answer = match Call::parse(fields) {
        Ok(call) => actions.handle(call).await,
        Err(problem) => Answer::Failed(problem),
    };
    writer.write_all(format!("{answer}\n").as_bytes()).await
}
