//! The load balancer before several API servers: Debian's HAProxy, in
//! namespaces of its own beside the nodes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::network::Network;
use super::node::Node;
use super::process;
use crate::process::Component;
use crate::{Error, eventually};

const CONFIGURATION: &str = include_str!("files/haproxy.cfg");
const INIT: &str = concat!(
    include_str!("files/network.sh"),
    include_str!("files/balancer-init.sh")
);

/// Where the cluster's clients find its API.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
const BACKEND: &str = "kube-api-servers";
const FILE: &str = "haproxy.cfg";

/// What is before the API servers of a cluster with several control planes.
pub struct Balancer {
    folder: PathBuf,
    _haproxy: Component,
}

impl Balancer {
    /// Starts it before the API servers of `nodes`, some of which need not be
    /// there yet.
    pub(super) async fn start(
        nodes: &[Node],
        network: &Network,
        rootfs: &Path,
        folder: PathBuf,
    ) -> Result<Self, Error> {
        let writing = || "writing the configuration of the load balancer".to_owned();
        fs::create_dir_all(&folder).map_err(Error::io(writing()))?;
        let mut configuration = CONFIGURATION
            .replace("@ADDRESS@", &ADDRESS.to_string())
            .replace("@BACKEND@", BACKEND);
        for node in nodes {
            // Writing to a string does not fail.
            writeln!(
                configuration,
                "    server {} {}:6443",
                node.name(),
                node.address()
            )
            .ok();
        }
        fs::write(folder.join(FILE), configuration).map_err(Error::io(writing()))?;
        let script = folder.join("init.sh");
        fs::write(&script, INIT).map_err(Error::io(writing()))?;

        let file = folder.join("pid");
        let announced = process::announced(&file, r#"exec unshare --net --mount bash "$@""#);
        let arguments = [
            "STATE=".to_owned() + &folder.display().to_string(),
            "ROOTFS=".to_owned() + &rootfs.display().to_string(),
            format!("ADDRESS={ADDRESS}"),
            "sh".to_owned(),
            "-c".to_owned(),
            announced,
            "balancer".to_owned(),
            script.display().to_string(),
        ];
        let haproxy = Component::start("balancer", Path::new("/usr/bin/env"), arguments, &folder)?;
        let pid = process::announced_pid(&file).await?;
        process::own_network(pid).await?;
        network.tie("balancer", pid)?;
        let balancer = Self {
            folder,
            _haproxy: haproxy,
        };
        let patience = Duration::from_secs(20);
        eventually("the load balancer to start", patience, || async {
            Ok::<_, String>(balancer.socket().exists())
        })
        .await?;
        Ok(balancer)
    }

    /// The socket of HAProxy's runtime API.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// The backend whose servers are the control planes, by their names.
    pub fn backend(&self) -> &'static str {
        BACKEND
    }

    /// The file of HAProxy's configuration.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What HAProxy says of each server, by its name: `UP`, `DOWN`, `DRAIN`, `MAINT`,
    /// or that it is on its way (`UP 1/3`).
    ///
    /// # Errors
    /// [`Error::Io`] if it does not answer, or with something else than its statistics.
    pub async fn servers(&self) -> Result<BTreeMap<String, String>, Error> {
        let asked = async {
            let mut stream = UnixStream::connect(self.socket()).await?;
            stream.write_all(b"show stat\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            read_servers(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
        };
        asked
            .await
            .map_err(Error::io("asking the load balancer for its servers"))
    }
}

/// The servers of [`BACKEND`] in HAProxy's statistics; `None` if it is something else.
fn read_servers(text: &str) -> Option<BTreeMap<String, String>> {
    let mut lines = text.lines();
    let names = lines.find_map(|line| line.strip_prefix("# "))?;
    let column = |name: &str| names.split(',').position(|column| column == name);
    let (of, server, status) = (column("pxname")?, column("svname")?, column("status")?);
    let servers = lines.filter_map(|line| {
        let words: Vec<&str> = line.split(',').collect();
        let name = *words.get(server)?;
        // The backend as a whole has a line too.
        let is_server = *words.get(of)? == BACKEND && name != "BACKEND";
        is_server.then_some((name.to_owned(), (*words.get(status)?).to_owned()))
    });
    Some(servers.collect())
}

#[test]
fn servers_are_told_from_the_backend_and_from_the_front_end() {
    let text = "# pxname,svname,qcur,status,weight,\nkube-api,FRONTEND,,OPEN,,\n\
                kube-api-servers,node1,0,MAINT,1,\nkube-api-servers,node2,0,UP 1/3,1,\n\
                kube-api-servers,BACKEND,0,UP,2,\n\n";
    let servers = read_servers(text).unwrap();
    let expected = [("node1", "MAINT"), ("node2", "UP 1/3")];
    let expected = expected.map(|(name, status)| (name.to_owned(), status.to_owned()));
    assert_eq!(servers, BTreeMap::from(expected));
    assert_eq!(read_servers("Unknown command\n"), None);
}
