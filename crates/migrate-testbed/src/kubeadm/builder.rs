//! Options of a cluster.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::try_join_all;

use super::access::Access;
use super::balancer::{self, Balancer};
use super::images::{self, Images};
use super::machine::Machine;
use super::network::{Forward, Network};
use super::node::{Node, Shared};
use super::setup::Setup;
use super::{KubeadmCluster, VOLUMES, packages, rootfs};
use crate::binaries::NodeBinaries;
use crate::process::RunDir;
use crate::releases::Release;
use crate::{Error, Progress};

type Report = dyn Fn(&Progress) + Send + Sync;

/// How a [`KubeadmCluster`] is to be.
#[must_use]
#[derive(Clone)]
pub struct KubeadmClusterBuilder {
    control_planes: u8,
    workers: u8,
    minor: u32,
    also: Vec<u32>,
    programs: Vec<(String, PathBuf, Vec<PathBuf>)>,
    shell: bool,
    etcd_in_memory: bool,
    external_etcd: bool,
    report: Arc<Report>,
}

impl Default for KubeadmClusterBuilder {
    fn default() -> Self {
        Self {
            control_planes: 1,
            workers: 2,
            minor: 36,
            also: Vec::new(),
            programs: Vec::new(),
            shell: false,
            etcd_in_memory: false,
            external_etcd: false,
            report: Arc::new(|progress| eprintln!("testbed: {progress}")),
        }
    }
}

impl KubeadmClusterBuilder {
    /// Number of control planes, each with its etcd; 1 unless set. Several are
    /// behind a [`Balancer`]: three, for of two none may be missing.
    pub fn control_planes(mut self, control_planes: u8) -> Self {
        self.control_planes = control_planes.max(1);
        self
    }

    /// Number of workers; 2 unless set.
    pub fn workers(mut self, workers: u8) -> Self {
        self.workers = workers;
        self
    }

    /// The minor version to start with; 36 unless set.
    pub fn minor(mut self, minor: u32) -> Self {
        self.minor = minor;
        self
    }

    /// A minor version to which the test will upgrade: its packages are in the
    /// nodes' repository and its images on the nodes from the start.
    pub fn also(mut self, minor: u32) -> Self {
        self.also.push(minor);
        self
    }

    /// A program of this machine that pods can run: every node gets an image
    /// `testbed.local/NAME:1` of it and of the libraries it loads.
    pub fn image(self, name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        self.image_calling(name, program, Vec::<PathBuf>::new())
    }

    /// The same with the programs that it calls, which are absolute paths, and a user
    /// `nonroot` (65532).
    pub fn image_calling(
        mut self,
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        calls: impl IntoIterator<Item = impl Into<PathBuf>>,
    ) -> Self {
        let calls = calls.into_iter().map(Into::into).collect();
        self.programs.push((name.into(), program.into(), calls));
        self
    }

    /// Every node gets an image `testbed.local/shell:1` with `sh` and a `nc` that
    /// knows `-z` and `-w`, for pods that try the network out.
    pub fn shell_image(mut self) -> Self {
        self.shell = true;
        self
    }

    /// etcd writes to memory: its members have disks of their own in a real cluster, and
    /// here packages and images of all nodes go to the one that they share. A node that is
    /// powered off loses what its etcd has.
    pub fn etcd_in_memory(mut self) -> Self {
        self.etcd_in_memory = true;
        self
    }

    /// Control planes use one etcd that is not kubeadm's: a unit `etcd` of the first node, of
    /// the version that kubeadm would take, with certificates of its own below `/etc/etcd/pki`.
    pub fn external_etcd(mut self) -> Self {
        self.external_etcd = true;
        self
    }

    /// Who is told about builds and steps; by default standard error.
    pub fn on_progress(mut self, report: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Finds or builds all programs, images and packages, boots the nodes,
    /// makes a cluster of them and waits until every node is Ready.
    ///
    /// # Errors
    /// [`Error::NoNamespaces`] where nodes cannot be made,
    /// [`Error::NoPrograms`] where the programs cannot be had, see
    /// [`skip_or_fail`](crate::skip_or_fail); [`Error::Command`] with the log
    /// of the step that failed.
    pub async fn start(self) -> Result<KubeadmCluster, Error> {
        let prepared = self.prepare().await?;
        let run_dir = RunDir::create()?;
        let network = Arc::new(Network::create(&run_dir.logs()).await?);
        self.share(&prepared, &run_dir)?;
        let volumes = run_dir.path().join(VOLUMES);
        fs::create_dir(&volumes).map_err(Error::io("making the folder of volumes"))?;
        let count = self.control_planes + self.workers;
        let shared = Shared {
            machine: &prepared.machine,
            network: &network,
            folder: run_dir.path(),
            rootfs: &prepared.rootfs,
            nodes: count,
            etcd_in_memory: self.etcd_in_memory,
        };
        let nodes = (1..=count)
            .map(|number| Node::create(number, number <= self.control_planes, &shared))
            .collect::<Result<Vec<_>, _>>()?;
        try_join_all(nodes.iter().map(Node::boot)).await?;

        let (members, _) = nodes.split_at(self.control_planes.into());
        let (balancer, endpoint) = match members {
            [only] => (None, only.address()),
            _ => {
                let folder = run_dir.path().join("balancer");
                let several = Balancer::start(members, &network, &prepared.rootfs, folder).await?;
                (Some(several), balancer::ADDRESS)
            }
        };
        let setup = Setup {
            nodes: &nodes,
            release: prepared.release,
            endpoint,
            external_etcd: self.external_etcd,
            systemd_driver: prepared.machine.uses_systemd_driver(),
            run_dir: run_dir.path(),
            report: &*self.report,
        };
        let admin = setup.make_cluster().await?;
        let (folder, external) = (run_dir.path(), self.external_etcd);
        let access = Access::open(&nodes, &network, endpoint, &admin, external, folder);
        let mut access = access.await?;
        let ssh = nodes
            .iter()
            .map(|node| network.forward(SocketAddrV4::new(node.address(), 22)))
            .collect::<Result<Vec<_>, _>>()?;
        let ports: Vec<u16> = ssh.iter().map(Forward::port).collect();
        setup.write_ssh_config(&ports).await?;
        access.keep(ssh);
        setup.await_ready(&access.client).await?;
        Ok(KubeadmCluster {
            nodes,
            balancer,
            access,
            network,
            run_dir,
        })
    }

    /// Finds or builds everything that [`start`](Self::start) needs and keeps,
    /// blocking for minutes where something is missing.
    ///
    /// # Errors
    /// As [`start`](Self::start), before anything runs.
    pub fn find_or_build(&self) -> Result<(), Error> {
        self.prepare_now().map(drop)
    }

    async fn prepare(&self) -> Result<Prepared, Error> {
        let builder = self.clone();
        let failed = |stopped| Error::Io {
            what: "preparing the nodes".to_owned(),
            source: std::io::Error::other(stopped),
        };
        tokio::task::spawn_blocking(move || builder.prepare_now())
            .await
            .map_err(failed)?
    }

    fn prepare_now(&self) -> Result<Prepared, Error> {
        let report = |progress: &Progress| (self.report)(progress);
        let machine = Machine::check()?;
        let rootfs = rootfs::find_or_build(&report)?;
        let mut binaries = Vec::new();
        let mut images: Vec<Images> = Vec::new();
        for &minor in [self.minor].iter().chain(&self.also) {
            let release = Release::of_minor(minor)?;
            let parts = release.kubeadm.ok_or(Error::UnknownMinor { minor })?;
            let programs = NodeBinaries::find_or_build(minor, &report)?;
            images.push(Images::find_or_build(&programs, &parts, &rootfs)?);
            binaries.push(programs);
        }
        if let Some(first) = images.first_mut() {
            for (name, program, calls) in &self.programs {
                let image = images::of_program(name, program, calls)?;
                first.everywhere.push(image);
            }
            if self.shell {
                first.everywhere.push(images::of_shell(&rootfs)?);
            }
        }
        Ok(Prepared {
            release: Release::of_minor(self.minor)?,
            machine,
            rootfs,
            binaries,
            images,
        })
    }

    /// Fills the folder that every node sees: packages and images.
    fn share(&self, prepared: &Prepared, run_dir: &RunDir) -> Result<(), Error> {
        let shared = run_dir.path().join("shared");
        packages::write(&prepared.binaries, &shared.join("packages"))?;
        if self.external_etcd
            && let Some(programs) = prepared.binaries.first()
        {
            let target = shared.join("etcd");
            fs::copy(&programs.etcd, target).map_err(Error::io("sharing etcd"))?;
        }
        for (index, images) in prepared.images.iter().enumerate() {
            let age = if index == 0 { "now" } else { "later" };
            for (role, archives) in [
                ("control-plane", &images.control_plane),
                ("everywhere", &images.everywhere),
            ] {
                let folder = shared.join("images").join(age).join(role);
                let sharing = || format!("sharing images in {}", folder.display());
                fs::create_dir_all(&folder).map_err(Error::io(sharing()))?;
                for archive in archives {
                    let name = archive.file_name().unwrap_or_default();
                    let target = folder.join(name);
                    fs::hard_link(archive, &target)
                        .or_else(|_| fs::copy(archive, &target).map(drop))
                        .map_err(Error::io(sharing()))?;
                }
            }
        }
        Ok(())
    }
}

struct Prepared {
    release: Release,
    machine: Machine,
    rootfs: PathBuf,
    binaries: Vec<NodeBinaries>,
    images: Vec<Images>,
}
