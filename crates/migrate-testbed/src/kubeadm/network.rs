//! The network of a cluster: one namespace with a bridge, to which every node
//! is tied by a cable, and doors to it from this process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::command::run;
use super::process;
use crate::Error;
use crate::process::Component;

/// The bridge's own address: the nodes' way out, which ends there.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// All pods of all nodes.
pub(super) const CLUSTER_CIDR: &str = "10.244.0.0/16";

/// Address of the node with a number from 1.
pub(super) fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + number)
}

/// Pods of the node with a number from 1.
pub(super) fn pod_subnet(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// A network namespace of its own; what is in it ends with it.
pub(super) struct Network {
    pid: u32,
    _holder: Component,
}

impl Network {
    pub(super) async fn create(logs: &Path) -> Result<Self, Error> {
        let file = logs.join("network.pid");
        let script = process::announced(&file, "exec unshare --net -- sleep infinity");
        let arguments = ["-c", &script];
        let holder = Component::start("network", Path::new("/bin/sh"), arguments, logs)?;
        let pid = process::announced_pid(&file).await?;
        process::own_network(pid).await?;
        let network = Self {
            pid,
            _holder: holder,
        };
        network.ip(&["link", "set", "lo", "up"])?;
        network.ip(&["link", "add", "br0", "type", "bridge"])?;
        network.ip(&["addr", "add", &format!("{GATEWAY}/24"), "dev", "br0"])?;
        network.ip(&["link", "set", "br0", "up"])?;
        Ok(network)
    }

    /// Ties the network namespace of a process to the bridge, as its `eth0`.
    pub(super) fn connect(&self, number: u8, pid: u32) -> Result<(), Error> {
        self.tie(&device(number), pid)?;
        // Pods keep their address when they talk to what is beside the nodes.
        let (pods, node) = (pod_subnet(number), node_address(number).to_string());
        self.ip(&["route", "replace", &pods, "via", &node])
    }

    /// The same under the name of a `device` at the bridge.
    pub(super) fn tie(&self, device: &str, pid: u32) -> Result<(), Error> {
        // The kernel takes its time to remove that of an earlier boot.
        self.ip(&["link", "delete", device]).ok();
        let pid = pid.to_string();
        let add = [
            "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ];
        self.ip(&add)?;
        self.ip(&["link", "set", device, "master", "br0", "up"])
    }

    /// Cuts a node off, or ties it again.
    pub(super) fn set_connected(&self, number: u8, connected: bool) -> Result<(), Error> {
        let state = if connected { "up" } else { "down" };
        self.ip(&["link", "set", &device(number), state])
    }

    /// Sends a node no more than so many kilobits a second; `None` ends that.
    pub(super) fn set_rate(&self, number: u8, kilobits: Option<u32>) -> Result<(), Error> {
        let device = device(number);
        let replace = ["tc", "qdisc", "replace", "dev", &device, "root"];
        let Some(kilobits) = kilobits else {
            return self.run(&[&replace[..], &["noqueue"]].concat());
        };
        // Not netem, which many kernels are built without. What has to wait is
        // kept, not dropped: a slow link, not a bad one.
        let rate = format!("{kilobits}kbit");
        let bucket = ["tbf", "rate", &rate, "burst", "4kb", "limit", "4mb"];
        self.run(&[&replace[..], &bucket].concat())
    }

    /// The words that run a program inside, to be put before it.
    pub(super) fn prefix(&self) -> Vec<String> {
        let target = format!("--target={}", self.pid);
        ["nsenter", &target, "--net", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), Error> {
        self.run(&[&["ip"], arguments].concat())
    }

    fn run(&self, words: &[&str]) -> Result<(), Error> {
        let prefix = self.prefix();
        let mut all = prefix
            .iter()
            .map(String::as_str)
            .chain(words.iter().copied());
        let mut command = Command::new(all.next().unwrap_or_default());
        command.args(all);
        run(&words.join(" "), &mut command).map(drop)
    }

    /// Opens a port of 127.0.0.1 that leads to an address inside.
    pub(super) fn forward(&self, to: SocketAddrV4) -> Result<Forward, Error> {
        let opening = || format!("opening a way to {to}");
        let namespace =
            File::open(format!("/proc/{}/ns/net", self.pid)).map_err(Error::io(opening()))?;
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io(opening()))?;
        listener
            .set_nonblocking(true)
            .map_err(Error::io(opening()))?;
        let port = listener.local_addr().map_err(Error::io(opening()))?.port();
        let (stop, stopped) = oneshot::channel();
        // A thread of its own: only its sockets belong to the other namespace.
        std::thread::Builder::new()
            .name(format!("forward-{to}"))
            .spawn(move || {
                if let Err(error) = serve(&namespace, listener, to, stopped) {
                    eprintln!("testbed: the way to {to} is closed: {error}");
                }
            })
            .map_err(Error::io(opening()))?;
        Ok(Forward { port, _stop: stop })
    }
}

/// An open way into the network; closed when dropped.
pub(super) struct Forward {
    port: u16,
    _stop: oneshot::Sender<()>,
}

impl Forward {
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn serve(
    namespace: &File,
    listener: std::net::TcpListener,
    to: SocketAddrV4,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let accept = async {
            loop {
                let (mut from, _) = listener.accept().await?;
                tokio::spawn(async move {
                    // A refusal inside is a closed connection outside.
                    if let Ok(mut inside) = TcpStream::connect(to).await {
                        copy_bidirectional(&mut from, &mut inside).await.ok();
                    }
                });
            }
        };
        tokio::select! {
            failed = accept => failed,
            _ = stopped => Ok(()),
        }
    })
}

fn device(number: u8) -> String {
    format!("node{number}")
}
