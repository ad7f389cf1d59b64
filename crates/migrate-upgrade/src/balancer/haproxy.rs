//! HAProxy, through its runtime API.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use migrate_core::{Fence, Finding};

use super::configured::checked_path;
use super::examined::{Asks, Server, judge, one_each, read_checks, silent};
use super::{ApiServerBackend, Standing, refused};
use crate::{Error, NodeShell, Script};

/// The most that is read of an answer.
const LONGEST_ANSWER: u64 = 1 << 20;

/// The bits of `srv_admin_state` that keep a server out: maintenance and drain,
/// asked for, inherited or by name resolution. The others only tell history
/// (management guide, "show servers state").
const OUT: u32 = 0x3b;
/// `srv_op_state` of a server that takes connections.
const RUNNING: u32 = 2;

/// The HAProxy instances before the API servers.
///
/// Each needs a socket for its runtime API with the level `admin`:
///
/// ```text
/// stats socket /run/haproxy/admin.sock mode 600 level admin
/// ```
///
/// A server is drained first, for a moment in which short connections end by
/// themselves, then set to maintenance and its sessions are shut down. Put back
/// (`ready`), HAProxy takes it for up at once and its own checks go on.
///
/// What the runtime API changes is forgotten when HAProxy restarts: the server
/// is in again, unless a state file says otherwise.
#[derive(Clone)]
pub struct Haproxy {
    backend: String,
    doors: Vec<Door>,
    servers: BTreeMap<String, String>,
    configuration: Option<String>,
    drain: Duration,
    limit: Duration,
}

/// The way to the runtime API of one instance.
#[derive(Clone)]
enum Door {
    Socket(PathBuf),
    Tcp(String),
    Host {
        shell: Arc<dyn NodeShell>,
        host: String,
        socket: String,
    },
}

impl Haproxy {
    /// The servers of `backend`, at instances that are still to be named.
    pub fn new(backend: impl Into<String>) -> Self {
        Self {
            backend: backend.into(),
            doors: Vec::new(),
            servers: BTreeMap::new(),
            configuration: None,
            drain: Duration::from_secs(1),
            limit: Duration::from_secs(10),
        }
    }

    /// An instance whose socket is a file of this machine.
    #[must_use]
    pub fn with_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.doors.push(Door::Socket(path.into()));
        self
    }

    /// An instance whose runtime API listens on `HOST:PORT`. That gives
    /// everybody who reaches it all of it: keep it on a private address.
    #[must_use]
    pub fn with_tcp(mut self, address: impl Into<String>) -> Self {
        self.doors.push(Door::Tcp(address.into()));
        self
    }

    /// An instance on another machine, which `shell` knows as `host`; its
    /// socket is a file there, and `socat` has to be installed.
    #[must_use]
    pub fn with_host(
        mut self,
        shell: Arc<dyn NodeShell>,
        host: impl Into<String>,
        socket: impl Into<String>,
    ) -> Self {
        self.doors.push(Door::Host {
            shell,
            host: host.into(),
            socket: socket.into(),
        });
        self
    }

    /// The server of `member` has another name than its node.
    #[must_use]
    pub fn with_server(mut self, member: impl Into<String>, server: impl Into<String>) -> Self {
        self.servers.insert(member.into(), server.into());
        self
    }

    /// The file of HAProxy's configuration, the same on every machine, from which
    /// [`examine`](ApiServerBackend::examine) takes what HAProxy does not tell: the path
    /// that health checks ask for. Read, never changed, where an instance is named by
    /// its socket; not for one that is named by an address.
    #[must_use]
    pub fn with_configuration(mut self, path: impl Into<String>) -> Self {
        self.configuration = Some(path.into());
        self
    }

    /// How long short connections are left to end before all are shut down
    /// (default 1 s).
    #[must_use]
    pub fn with_drain_time(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// The longest wait for one answer of one instance (default 10 s).
    #[must_use]
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What the server of `member` is called within the backend.
    fn name<'a>(&'a self, member: &'a str) -> &'a str {
        self.servers.get(member).map_or(member, String::as_str)
    }

    /// The same, as commands name it.
    fn server(&self, member: &str) -> String {
        format!("{}/{}", self.backend, self.name(member))
    }

    async fn ask(&self, door: &Door, member: &str, command: &str) -> Result<String, Error> {
        if !is_one_line(command) {
            return Err(refused(
                member,
                format!("{command:?} is no command: name backend and servers as HAProxy does"),
            ));
        }
        let asked = tokio::time::timeout(self.limit, door.ask(command, self.limit)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no answer within {}s", self.limit.as_secs())))
            .map_err(|said| {
                refused(
                    member,
                    format!(
                        "{door}: {said}; see that HAProxy runs and that we may use that socket"
                    ),
                )
            })
    }

    /// Sends a command that answers nothing when it is obeyed.
    async fn tell(&self, door: &Door, member: &str, command: &str) -> Result<(), Error> {
        let answer = self.ask(door, member, command).await?;
        match answer.trim() {
            "" => Ok(()),
            said => Err(refused(
                member,
                format!(
                    "{door}: {command:?} is answered by {said:?}; give the socket the level admin, \
                     and the backend and its servers their names"
                ),
            )),
        }
    }

    /// The servers of the backend at an instance.
    async fn servers(&self, door: &Door, member: &str) -> Result<Vec<Server>, Error> {
        let command = format!("show servers state {}", self.backend);
        let answer = self.ask(door, member, &command).await?;
        read_servers(&answer).ok_or_else(|| {
            let said = answer.trim();
            refused(
                member,
                format!(
                    "{door}: it says {said:?} of the backend {}; correct its name",
                    self.backend
                ),
            )
        })
    }

    /// What health checks ask for at an instance, by its configuration.
    async fn asks(&self, door: &Door) -> Asks {
        let Some(path) = &self.configuration else {
            let why = "HAProxy does not tell it, and its configuration was not named";
            return Asks::Unknown(why.to_owned());
        };
        match door.read(path, self.limit).await {
            Ok(text) => match checked_path(&text, &self.backend) {
                Ok(Some(asked)) => Asks::Path(asked),
                Ok(None) => Asks::Unknown(format!("{path} does not tell it of {}", self.backend)),
                Err(unread) => Asks::Unknown(format!("{path}, {unread}")),
            },
            Err(said) => Asks::Unknown(format!("{path}: {said}")),
        }
    }

    /// Whether the member's server is in at an instance, and may be taken out.
    async fn look(&self, door: &Door, member: &str) -> Result<Standing, Error> {
        let servers = self.servers(door, member).await?;
        let name = self.name(member);
        let Some(own) = servers.iter().find(|server| server.name == name) else {
            let known: Vec<&str> = servers.iter().map(|server| &*server.name).collect();
            return Err(refused(
                member,
                format!(
                    "{door}: the backend {} has no server {name}, but {}; say which one is {member}'s",
                    self.backend,
                    known.join(", ")
                ),
            ));
        };
        if own.is_out {
            return Ok(Standing::WasOut);
        }
        let mut others = servers.iter().filter(|server| server.name != name);
        if !others.any(|server| server.takes_connections) {
            return Err(refused(
                member,
                format!(
                    "{door}: no other server of the backend {} is up; bring one back before \
                     {member} is touched",
                    self.backend
                ),
            ));
        }
        Ok(Standing::WasIn)
    }
}

#[async_trait]
impl ApiServerBackend for Haproxy {
    async fn quiesce(&self, member: &str, _: &Fence) -> Result<Standing, Error> {
        let mut inside = Vec::new();
        // All are looked at before one is changed.
        for door in &self.doors {
            if self.look(door, member).await? == Standing::WasIn {
                inside.push(door);
            }
        }
        let server = self.server(member);
        for door in &inside {
            let drain = format!("set server {server} state drain");
            self.tell(door, member, &drain).await?;
        }
        if !inside.is_empty() {
            tokio::time::sleep(self.drain).await;
        }
        for door in &inside {
            let maintenance = format!("set server {server} state maint");
            self.tell(door, member, &maintenance).await?;
        }
        // Also where it is out already: an earlier call may have been broken off.
        for door in &self.doors {
            let sessions = format!("shutdown sessions server {server}");
            self.tell(door, member, &sessions).await?;
        }
        let was_out = inside.is_empty() && !self.doors.is_empty();
        Ok(if was_out {
            Standing::WasOut
        } else {
            Standing::WasIn
        })
    }

    async fn restore(&self, member: &str, _: &Fence) -> Result<(), Error> {
        let command = format!("set server {} state ready", self.server(member));
        let mut restored = Ok(());
        // One instance that cannot be reached keeps no other from it.
        for door in &self.doors {
            restored = restored.and(self.tell(door, member, &command).await);
        }
        restored
    }

    async fn examine(&self, members: &[String]) -> Vec<Finding> {
        let Some(first) = members.first() else {
            return Vec::new();
        };
        let named: Vec<(&str, &str)> = members
            .iter()
            .map(|member| (member.as_str(), self.name(member)))
            .collect();
        let mut found = Vec::new();
        for door in &self.doors {
            let servers = match self.servers(door, first).await {
                Ok(servers) => servers,
                Err(error) => {
                    found.push(silent(&self.backend, error.to_string()));
                    continue;
                }
            };
            let checks = self.ask(door, first, "show stat").await;
            let checks = checks
                .ok()
                .and_then(|text| read_checks(&text, &self.backend));
            let place = door.to_string();
            let asks = self.asks(door).await;
            let checks = checks.as_ref();
            let judged = judge(&place, &self.backend, &servers, checks, &asks, &named);
            found.extend(judged);
        }
        one_each(found)
    }
}

impl fmt::Debug for Haproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doors: Vec<String> = self.doors.iter().map(Door::to_string).collect();
        f.debug_struct("Haproxy")
            .field("backend", &self.backend)
            .field("doors", &doors)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Door {
    async fn ask(&self, command: &str, limit: Duration) -> Result<String, String> {
        let said = |error: io::Error| error.to_string();
        match self {
            Self::Socket(path) => talk(UnixStream::connect(path).await.map_err(said)?, command)
                .await
                .map_err(said),
            Self::Tcp(address) => talk(TcpStream::connect(address).await.map_err(said)?, command)
                .await
                .map_err(said),
            Self::Host {
                shell,
                host,
                socket,
            } => {
                let script =
                    Script::new("printf '%s\\n' \"$2\" | socat -t 5 - \"UNIX-CONNECT:$1\"");
                let script = script.args([socket.as_str(), command]);
                let output = shell.run(host, &script, limit).await;
                let output = output.map_err(|error| error.to_string())?;
                match output.code {
                    0 => Ok(output.stdout),
                    127 => Err("socat is missing there; install it".to_owned()),
                    _ => Err(output.stderr.trim().to_owned()),
                }
            }
        }
    }

    /// A file of the machine that the instance runs on.
    async fn read(&self, path: &str, limit: Duration) -> Result<String, String> {
        match self {
            Self::Socket(_) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
            Self::Tcp(_) => Err("its machine is not known, only its address".to_owned()),
            Self::Host { shell, host, .. } => {
                let script = Script::new("cat -- \"$1\"").arg(path);
                let output = shell.run(host, &script, limit).await;
                let output = output.map_err(|error| error.to_string())?;
                match output.code {
                    0 => Ok(output.stdout),
                    _ => Err(output.stderr.trim().to_owned()),
                }
            }
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "HAProxy at {}", path.display()),
            Self::Tcp(address) => write!(f, "HAProxy at {address}"),
            Self::Host { host, socket, .. } => write!(f, "HAProxy of {host} at {socket}"),
        }
    }
}

/// One command on a connection of its own, which HAProxy closes after it.
async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    command: &str,
) -> io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Nothing in a name may begin a second command.
fn is_one_line(command: &str) -> bool {
    !command.contains([';', '\n', '\r', '\\'])
}

/// The columns are told by the line of their names; `None` without it.
fn read_servers(text: &str) -> Option<Vec<Server>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines
        .find_map(|line| line.strip_prefix("# "))?
        .split_whitespace()
        .collect();
    let column = |name: &str| names.iter().position(|column| *column == name);
    let (name, op, admin) = (
        column("srv_name")?,
        column("srv_op_state")?,
        column("srv_admin_state")?,
    );
    let servers = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u32>().ok();
        let is_out = number(admin)? & OUT != 0;
        Some(Server {
            name: (*words.get(name)?).to_owned(),
            is_out,
            takes_connections: !is_out && number(op)? == RUNNING,
        })
    });
    Some(servers.collect())
}
