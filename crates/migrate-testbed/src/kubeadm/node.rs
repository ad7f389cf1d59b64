//! One node: a tree of processes in namespaces of its own, systemd first.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::command::succeeded;
use super::machine::{Groups, Machine};
use super::network::{GATEWAY, Network, node_address, pod_subnet};
use super::{VOLUMES, process};
use crate::process::Component;
use crate::text::last_lines;
use crate::{Error, eventually};

const INIT: &str = concat!(
    include_str!("files/network.sh"),
    include_str!("files/node-init.sh")
);

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine of a [`KubeadmCluster`](super::KubeadmCluster), as far as one
/// process tree can be a machine: it has its own init system, network, process
/// ids, mounts and control groups, and shares the kernel and the clock.
pub struct Node {
    name: String,
    number: u8,
    control_plane: bool,
    state: PathBuf,
    script: String,
    environment: Vec<(&'static str, String)>,
    groups: Arc<Groups>,
    network: Arc<Network>,
    running: Mutex<Option<Running>>,
}

struct Running {
    tree: Component,
    init: u32,
}

/// What every node of a cluster has in common.
pub(super) struct Shared<'a> {
    pub(super) machine: &'a Machine,
    pub(super) network: &'a Arc<Network>,
    pub(super) folder: &'a Path,
    pub(super) rootfs: &'a Path,
    pub(super) nodes: u8,
    /// Whether etcd has a disk of memory.
    pub(super) etcd_in_memory: bool,
}

impl Shared<'_> {
    /// Lines of "address name pod-subnet" for every node.
    fn peers(&self) -> String {
        let lines = (1..=self.nodes).map(|number| {
            let (address, subnet) = (node_address(number), pod_subnet(number));
            format!("{address} {} {subnet}", node_name(number))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Name of the node with a number from 1.
pub(super) fn node_name(number: u8) -> String {
    format!("node{number}")
}

impl Node {
    pub(super) fn create(
        number: u8,
        control_plane: bool,
        shared: &Shared<'_>,
    ) -> Result<Self, Error> {
        let name = node_name(number);
        let state = shared.folder.join("nodes").join(&name);
        let creating = || format!("creating {name}");
        fs::create_dir_all(&state).map_err(Error::io(creating()))?;
        let groups = shared.machine.create(&name)?;
        let script = state.join("init.sh");
        fs::write(&script, INIT).map_err(Error::io(creating()))?;
        let environment = vec![
            ("NODE", number.to_string()),
            ("NAME", name.clone()),
            ("ADDRESS", node_address(number).to_string()),
            ("GATEWAY", GATEWAY.to_string()),
            ("PEERS", shared.peers()),
            ("STATE", state.display().to_string()),
            ("ROOTFS", shared.rootfs.display().to_string()),
            ("SHARED", shared.folder.join("shared").display().to_string()),
            ("VOLUMES", shared.folder.join(VOLUMES).display().to_string()),
            ("CGROUP_CONTROLLERS", shared.machine.controllers()),
            ("ETCD_IN_MEMORY", shared.etcd_in_memory.to_string()),
        ];
        Ok(Self {
            script: script.display().to_string(),
            name,
            number,
            control_plane,
            state,
            environment,
            groups: Arc::new(groups),
            network: Arc::clone(shared.network),
            running: Mutex::new(None),
        })
    }

    /// Its name, `node1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the cluster's network.
    pub fn address(&self) -> Ipv4Addr {
        node_address(self.number)
    }

    /// Whether it runs a control plane.
    pub fn is_control_plane(&self) -> bool {
        self.control_plane
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// Powers the node on and waits until its systemd has started everything.
    pub(super) async fn boot(&self) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        let file = self.state.join("pid");
        fs::remove_file(&file).ok();
        let groups = Arc::clone(&self.groups);
        // It waits for what is left of an earlier boot to end.
        tokio::task::spawn_blocking(move || groups.renew())
            .await
            .map_err(|stopped| Error::Io {
                what: format!("renewing the control groups of {}", self.name),
                source: std::io::Error::other(stopped),
            })??;
        let script = process::announced(&file, r#"exec "$@""#);
        // The process that waits for the tree stays outside of its groups: with
        // v2 none but the first may be there, and that only for a moment.
        let isolate = [
            "unshare",
            "--mount",
            "--net",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
        ];
        let mut arguments = vec!["-c".to_owned(), script, self.name.clone(), "env".to_owned()];
        arguments.extend(
            self.environment
                .iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        arguments.extend(isolate.map(str::to_owned));
        let begin = self.groups.begin();
        let inside = ["/bin/sh", "-c", &begin, "begin", "unshare", "--cgroup"];
        arguments.extend(inside.map(str::to_owned));
        arguments.extend(["bash".to_owned(), self.script.clone()]);
        let tree = Component::start(&self.name, Path::new("/bin/sh"), arguments, &self.state)?;
        let unshare = process::announced_pid(&file).await?;
        let init = process::child_of(unshare).await?;
        self.network.connect(self.number, init)?;
        let running = running.insert(Running { tree, init });
        let what = format!("{} to have booted", self.name);
        eventually(&what, PATIENCE, || {
            let ended = running.tree.check();
            let asked = ended.and_then(|()| {
                self.command(init, &["systemctl", "is-system-running"])
                    .output()
                    .map_err(Error::io("asking systemd"))
            });
            async move {
                let said = String::from_utf8_lossy(&asked?.stdout).trim().to_owned();
                // One failed unit does not stop a node, here or anywhere.
                match said.as_str() {
                    "running" | "degraded" => Ok(true),
                    _ => Err(Error::Command {
                        what: "systemctl is-system-running".to_owned(),
                        status: said,
                        said: String::new(),
                    }),
                }
            }
        })
        .await
    }

    /// Runs a program on the node as root and waits for it.
    ///
    /// # Errors
    /// [`Error::Command`] with what it said if it fails.
    pub async fn run(&self, words: &[&str]) -> Result<Output, Error> {
        let output = self.output(words).await?;
        succeeded(&format!("{} on {}", words.join(" "), self.name), output)
    }

    /// Runs a program on the node as root; its status is the caller's to judge.
    ///
    /// # Errors
    /// [`Error::Io`] if the node is off or the program cannot be started.
    pub async fn output(&self, words: &[&str]) -> Result<Output, Error> {
        let what = format!("running {} on {}", words.join(" "), self.name);
        let mut command = self.command_here(words).await?;
        command.stdin(Stdio::null());
        command.output().await.map_err(Error::io(what))
    }

    /// Reads a file of the node, without a program there.
    ///
    /// # Errors
    /// [`Error::Io`] if the node is off or has no such file.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let from_here = format!("/proc/{}/root{path}", self.init().await?);
        let what = format!("reading {path} of {}", self.name);
        fs::read(from_here).map_err(Error::io(what))
    }

    /// The command that runs a program on the node as root; it is killed when
    /// dropped, which what it has started does not feel.
    pub(super) async fn command_here(
        &self,
        words: &[&str],
    ) -> Result<tokio::process::Command, Error> {
        let command = self.command(self.init().await?, words);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Runs a script of bash on the node, ended by the first failure in it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn script(&self, script: &str) -> Result<Output, Error> {
        self.run(&["bash", "-euo", "pipefail", "-c", script]).await
    }

    /// The words that run a program on the node, for a command of one's own.
    pub(super) fn command(&self, init: u32, words: &[&str]) -> Command {
        let target = format!("--target={init}");
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            &self.groups.enter(),
            "enter",
            "nsenter",
            &target,
            "--all",
            "--",
        ]);
        command.args([
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]);
        command.args(["HOME=/root"]).args(words);
        command
    }

    /// Switches the node off without a word to anybody.
    pub async fn power_off(&self) {
        self.running.lock().await.take();
    }

    /// Switches the node off and on again; returns when it has booted.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::ComponentEnded`].
    pub async fn reboot(&self) -> Result<(), Error> {
        self.power_off().await;
        self.boot().await
    }

    /// Cuts the node's network, or ties it again.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn set_connected(&self, connected: bool) -> Result<(), Error> {
        self.network.set_connected(self.number, connected)
    }

    /// Makes the node's network slow: it is sent no more than so many kilobits
    /// a second, and what has to wait waits. `None` or a reboot ends that.
    ///
    /// # Errors
    /// [`Error::Command`].
    pub fn set_rate(&self, kilobits: Option<u32>) -> Result<(), Error> {
        self.network.set_rate(self.number, kilobits)
    }

    /// The words that run a program of this machine with the node's network,
    /// to be put before it.
    ///
    /// # Errors
    /// [`Error::Io`] if the node is off.
    pub async fn network(&self) -> Result<Vec<String>, Error> {
        let target = format!("--target={}", self.init().await?);
        Ok(["nsenter", &target, "--net", "--"]
            .map(str::to_owned)
            .to_vec())
    }

    /// Process id of the node's systemd as this machine sees it.
    async fn init(&self) -> Result<u32, Error> {
        let mut running = self.running.lock().await;
        match running.as_mut() {
            Some(running) => {
                running.tree.check()?;
                Ok(running.init)
            }
            None => Err(Error::Io {
                what: format!("{} is switched off", self.name),
                source: std::io::ErrorKind::NotConnected.into(),
            }),
        }
    }

    /// The end of what its systemd has said on the console.
    pub(super) fn console_tail(&self, lines: usize) -> String {
        let text = fs::read(self.state.join("console.log")).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text), lines)
    }
}
