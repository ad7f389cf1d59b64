//! The load balancer before several API servers: Debian's HAProxy, in
//! namespaces of its own beside the nodes.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        fs::write(folder.join("haproxy.cfg"), configuration).map_err(Error::io(writing()))?;
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
}
