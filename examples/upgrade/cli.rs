//! Flags. Which of them go together is in `together.rs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use migrate_upgrade::{Binaries, JobShell};

use crate::backup::BackupFlags;
use crate::links::LinkFlags;
use crate::patience;
use crate::what_if::Asked;

/// Upgrade a Kubernetes cluster with no downtime.
///
/// Without --kubeconfig, --context or --in-cluster everything happens on an embedded
/// cluster: 15 nodes with 3 of the control plane and a few hundred pods.
#[derive(Debug, Parser)]
#[command(name = "upgrade", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Path of a kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Upgrade the cluster of the pod that this runs in, as the pod's ServiceAccount.
    #[arg(long, global = true)]
    pub(crate) in_cluster: bool,
    /// Refuse to touch any other cluster than the one whose kube-system
    /// namespace has this uid.
    #[arg(long, global = true, value_name = "UID")]
    pub(crate) cluster_id: Option<String>,
    /// Version to reach, e.g. v1.37.2. The demo has a default.
    #[arg(long, global = true, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    /// Policy file, see docs/policy.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Accept a finding by its code, or of one object alone, such as
    /// 'KM-HOOK-002 guard'; may be repeated. Adds to the policy's.
    #[arg(long, global = true, value_name = "CODE [OBJECT]")]
    pub(crate) waive: Vec<String>,
    /// Program that upgrades a node.
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub(crate) node_hook: Option<PathBuf>,
    /// Program that upgrades a member of the control plane.
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub(crate) control_plane_hook: Option<PathBuf>,
    /// Upgrade nodes that kubeadm has made, over ssh: every node is a host by
    /// its name in the cluster. See docs/kubeadm.md.
    #[arg(long, global = true)]
    pub(crate) kubeadm: bool,
    /// Configuration file of ssh.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ssh_config: Option<PathBuf>,
    /// Reach nodes by privileged Jobs of this image, which has an nsenter, in
    /// the place of ssh: workers, for a control plane takes the API away with
    /// it. Their namespace is in docs/rbac-job.yaml.
    #[arg(long, global = true, value_name = "IMAGE")]
    pub(crate) job_image: Option<String>,
    /// Only these workers are reached by Jobs, the others over ssh.
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) job_nodes: Vec<String>,
    /// Where the Jobs are.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        default_value = JobShell::NAMESPACE,
    )]
    pub(crate) job_namespace: String,
    /// Checks of kubeadm that may fail, by name, separated by commas.
    #[arg(long, global = true, value_name = "CHECKS", value_delimiter = ',')]
    pub(crate) ignore_preflight_errors: Vec<String>,
    /// Plain programs in the place of apt's packages: an https address or a path on
    /// each node, with {name}, {version} and {arch}; the SHA-256 of each lies
    /// beside it as .sha256.
    #[arg(long, global = true, value_name = "PLACE")]
    pub(crate) binaries: Option<Binaries>,
    /// Folder of patches on every node, an absolute path: what `kubeadm init` and
    /// `join` were given as --patches.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) kubeadm_patches: Option<String>,
    /// Phases of `kubeadm upgrade` to leave out, separated by commas, such as
    /// addon/coredns.
    #[arg(long, global = true, value_name = "PHASES", value_delimiter = ',')]
    pub(crate) kubeadm_skip_phases: Vec<String>,
    /// Socket of an HAProxy before the API servers, from which each is taken
    /// while it is changed; once for each instance.
    #[arg(long, global = true, value_name = "SOCKET")]
    pub(crate) haproxy_socket: Vec<PathBuf>,
    /// The same for an instance whose runtime API listens on a TCP port.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    #[arg(value_parser = host_and_port)]
    pub(crate) haproxy_tcp: Vec<String>,
    /// The same for an instance on a machine that is reached over ssh, as the
    /// nodes are; its socket is a file there, and socat is installed.
    #[arg(long, global = true, value_name = "HOST:SOCKET")]
    #[arg(value_parser = host_and_socket)]
    pub(crate) haproxy_ssh: Vec<(String, String)>,
    /// The backend of the API servers in it.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) haproxy_backend: Option<String>,
    /// The file of its configuration, from which the checks before the start take
    /// which path health checks ask for; on each machine whose socket is named.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) haproxy_config: Option<String>,
    /// Program that does the same with another load balancer.
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub(crate) api_server_hook: Option<PathBuf>,
    /// Client URL of an etcd member to back up. The other voters of its cluster are asked
    /// where it says that they are; the snapshot is of the one that is best asked. With
    /// --kubeadm members are found by the static pods of the control-plane nodes, if none is
    /// named.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) etcd: Option<String>,
    /// Asks no member of etcd but the one that is named.
    #[arg(long, global = true)]
    pub(crate) etcd_only_named: bool,
    /// CA of etcd, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd, where it asks for one, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// Client key for etcd, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// User of etcd that has the root role, where it has users; the password is read from a
    /// file.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) etcd_user: Option<String>,
    /// File with the password.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) etcd_password_file: Option<PathBuf>,
    /// Folder for backups.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        default_value = ".kube-migrate/backups"
    )]
    pub(crate) backup_dir: PathBuf,
    #[command(flatten)]
    pub(crate) backup: BackupFlags,
    /// Journal file of the run. The default is one per cluster in
    /// .kube-migrate, in memory for the demo.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Go on although the journal of the unfinished run is lost: rebuild it
    /// from what the nodes say.
    #[arg(long, global = true)]
    pub(crate) adopt: bool,
    /// How long to wait for an API server that is out of reach, as it is while
    /// it is upgraded, if the journal holds an unfinished run; `0s` is not at
    /// all. Without an unfinished run nothing is waited for.
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "5m",
        value_parser = patience::duration
    )]
    pub(crate) wait: Duration,
    /// Check, plan and rehearse every eviction (dryRun=All); send nothing that
    /// changes anything.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Take the plan of this file as it is, edited by hand or not, in the place of a new one: what
    /// `plan --json` has printed, or the plan alone. It is refused where the linter finds a
    /// blocker, and needs the policy and waivers it was made with. An unfinished run goes on
    /// with its own.
    #[arg(long, global = true, value_name = "FILE.json")]
    pub(crate) plan: Option<PathBuf>,
    /// Do not ask before starting.
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// Also write the plan as a self-contained HTML page to this file; at the
    /// end of a run its report takes the place.
    #[arg(long, global = true, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    /// Print plan and report as JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Seed of the demo's cluster.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Predict from what an earlier run took: what it printed with --json, or
    /// the `measured` of that alone.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) durations: Option<PathBuf>,
    /// Forecast from what earlier runs took, and add this run to them once it is done:
    /// a file that only grows, and need not be there yet.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "durations")]
    pub(crate) history: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) links: LinkFlags,
}

/// What to do.
#[derive(Clone, Debug, Default, Eq, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Make the plan and show it.
    Plan,
    /// Make every check of a run, on nodes and load balancer too, and show what
    /// they find; change nothing. Exit code 1 says that a run would be refused.
    Check,
    /// Plan and run; the default.
    #[default]
    Run,
    /// Say where an unfinished run stands: what its journal tells, and what
    /// the cluster does.
    Status {
        /// Also when the run would end with a change from now on: width:POOL=NODES away at
        /// once, or replicas:NAMESPACE/BUDGET=MORE
        /// (replicas:NAMESPACE/KIND/WORKLOAD=MORE where nobody made a budget). May be
        /// repeated; changes nothing.
        #[arg(long, value_name = "CHANGE")]
        what_if: Vec<Asked>,
    },
    /// End the unfinished run for good: what it has begun is brought to its end,
    /// nodes that were not changed are given back, and the report says where
    /// everything stands. Needs the flags of its driver, as the run did.
    Abort,
    /// Remove from the nodes what kubeadm has put aside in runs of this journal
    /// that are over and verified, but never the newest: it is the only way back
    /// there. Needs --kubeadm and its flags.
    Clean {
        /// How long ago these runs must have ended.
        #[arg(long, value_name = "TIME", default_value = "168h", value_parser = patience::duration)]
        keep: Duration,
    },
    /// Take one node back to the older kubelet that --to names: drain it, put
    /// back what its upgrade has saved on it, verify, give it back. The control
    /// plane stays.
    Rollback {
        /// The node.
        node: String,
    },
}

impl Cli {
    pub(crate) fn command(&self) -> Command {
        self.command.clone().unwrap_or_default()
    }

    /// Whether something may be changed.
    pub(crate) fn changes_something(&self) -> bool {
        let changes = matches!(
            self.command(),
            Command::Run | Command::Abort | Command::Clean { .. } | Command::Rollback { .. }
        );
        changes && !self.dry_run
    }

    /// The node to take back, if that is what to do.
    pub(crate) fn way_back(&self) -> Option<&str> {
        match &self.command {
            Some(Command::Rollback { node }) => Some(node),
            _ => None,
        }
    }

    /// Whether something was said that only a real cluster has.
    pub(crate) fn names_a_cluster(&self) -> bool {
        self.cluster_id.is_some()
            || self.etcd.is_some()
            || self.backup.names_a_cluster()
            || self.kubeadm
            || self.links.measure_links
            || self.node_hook.is_some()
            || self.control_plane_hook.is_some()
            || self.adopt
            || self.way_back().is_some()
            || !self.needs_target()
    }

    /// Whether a version to reach has to be named: not for what only ends, or
    /// cleans up after, a run.
    pub(crate) fn needs_target(&self) -> bool {
        !matches!(self.command(), Command::Abort | Command::Clean { .. })
    }

    /// Whether a way to an HAProxy was named, not only its backend.
    pub(crate) fn names_an_haproxy(&self) -> bool {
        let ways = [
            self.haproxy_socket.is_empty(),
            self.haproxy_tcp.is_empty(),
            self.haproxy_ssh.is_empty(),
        ];
        ways.contains(&false)
    }

    /// Whether to use the embedded cluster.
    pub(crate) fn is_demo(&self) -> bool {
        self.kubeconfig.is_none() && self.context.is_none() && !self.in_cluster
    }
}

/// `HOST:PORT`, of which an IPv6 host is in brackets.
fn host_and_port(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let (host, port) = parts.ok_or("names no port; write HOST:PORT")?;
    let is_open_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || is_open_v6 {
        return Err("names no host; write HOST:PORT, an IPv6 address in brackets".to_owned());
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text.to_owned()),
        _ => Err(format!("{port} is no port; write HOST:PORT")),
    }
}

/// `HOST:/path/of/socket`, the host as ssh knows it.
fn host_and_socket(text: &str) -> Result<(String, String), String> {
    match text.split_once(":/") {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            Ok((host.to_owned(), format!("/{path}")))
        }
        _ => Err("names no socket of a host; write HOST:/path/of/socket".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(more: &[&str]) -> Result<Cli, clap::Error> {
        let first: &[&str] = &["upgrade", "--to", "v1.37.2", "--kubeadm"];
        Cli::read([first, more].concat())
    }

    #[test]
    fn every_way_to_an_haproxy_needs_its_backend_and_may_be_mixed_with_the_others() {
        <Cli as CommandFactory>::command().debug_assert();
        let ways: [&[&str]; 3] = [
            &["--haproxy-socket", "/run/a"],
            &["--haproxy-tcp", "[fd00::1]:9999"],
            &["--haproxy-ssh", "lb-1:/run/a.sock"],
        ];
        for way in ways {
            assert!(parsed(way).is_err(), "{way:?}");
            let named = [way, &["--haproxy-backend", "api"][..]].concat();
            assert!(parsed(&named).is_ok(), "{way:?}");
            let hook = [&*named, &["--api-server-hook", "x"]].concat();
            assert!(parsed(&hook).is_err(), "{way:?}");
        }
        let all = [&ways.concat()[..], &["--haproxy-backend", "api"]].concat();
        let host = ("lb-1".to_owned(), "/run/a.sock".to_owned());
        for command in [None, Some("check")] {
            let all = [&all[..], command.as_slice()].concat();
            let cli = parsed(&all).unwrap();
            assert_eq!(cli.haproxy_ssh, [host.clone()]);
            assert!(cli.names_an_haproxy());
        }
        let config: &[&str] = &["--haproxy-config", "/etc/haproxy/haproxy.cfg"];
        assert!(parsed(config).is_err());
        let cli = parsed(&[config, &["--haproxy-backend", "api"]].concat()).unwrap();
        assert!(!cli.names_an_haproxy());
    }

    #[test]
    fn an_address_of_an_haproxy_that_cannot_be_one_is_refused() {
        for wrong in ["lb-1", "lb-1:", "lb-1:0", ":9999", "fd00::1", "lb-1:70000"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
        for wrong in ["lb-1", "/run/a.sock", ":/run/a.sock", "lb-1:run", "lb-1:/"] {
            assert!(host_and_socket(wrong).is_err(), "{wrong}");
        }
    }
}
