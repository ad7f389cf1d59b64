//! A real cluster of nodes in namespaces: what it offers, and that the machine
//! is afterwards what it was before.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{SOON, condition, get, text};
use migrate_testbed::{KubeadmCluster, Node, eventually, skip_or_fail};
use tokio::time::Instant;

/// Begins the names of the control groups of nodes; the id of their process follows.
const GROUPS: &str = "kube-migrate-testbed-";

/// Set for the process that has the cluster.
const HELPER: &str = "TESTBED_KUBEADM_HELPER";

#[tokio::test]
async fn real_nodes_and_nothing_left_of_them() {
    let before = Traces::look(None);
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_process", "--ignored", "--nocapture"])
        .env(HELPER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut folder = None;
    for line in BufReader::new(helper.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        println!("{line}");
        folder = line.strip_prefix("folder=").map(str::to_owned);
        if folder.is_some() || line == "skipped" {
            break;
        }
    }
    let Some(folder) = folder else {
        assert!(helper.wait().unwrap().success(), "the checks failed");
        return;
    };
    let during = Traces::look(Some(helper.id()));
    assert!(during.groups.len() >= 3, "{during:?}");
    assert_eq!(
        (&during.mounts, &during.devices, &during.settings),
        (&before.mounts, &before.devices, &before.settings),
        "nodes change nothing on the machine"
    );

    // SIGKILL: nothing in that process can tidy up.
    helper.kill().unwrap();
    helper.wait().unwrap();
    eventually("all of it to be gone", SOON, || async {
        if Path::new(&folder).exists() {
            return Err(format!("{folder} is there"));
        }
        match processes_of(&folder).as_slice() {
            [] => Ok(true),
            left => Err(format!("{left:?}")),
        }
    })
    .await
    .unwrap();
    // Empty control groups remain; whoever comes next removes them.
    KubeadmCluster::builder().find_or_build().unwrap();
    assert_eq!(Traces::look(None), before);
}

/// Not a test: what the one above runs in a process of its own.
#[tokio::test]
#[ignore = "the helper process of another test"]
async fn helper_process() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    let began = Instant::now();
    let builder = KubeadmCluster::builder().workers(2).minor(36).also(37);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        println!("skipped");
        return;
    };
    println!(
        "figure kubeadm.start {:.1} s",
        began.elapsed().as_secs_f64()
    );
    is_a_cluster(&cluster).await;
    is_reached_over_ssh(&cluster);
    can_be_broken(&cluster).await;
    println!("folder={}", cluster.dir().display());
    std::future::pending::<()>().await;
}

async fn is_a_cluster(cluster: &KubeadmCluster) {
    let version = cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, "v1.36.3");
    let nodes = get(&cluster.client(), "/api/v1/nodes").await.unwrap();
    for node in nodes["items"].as_array().unwrap() {
        assert_eq!(condition(node, "Ready"), "True");
        assert_eq!(
            text(&node["status"]["nodeInfo"]["kubeletVersion"]),
            "v1.36.3"
        );
    }
    // Through kube-proxy of a worker, its routes, and CoreDNS.
    let worker = cluster.node("node3").unwrap();
    let lookup = "busybox nslookup kubernetes.default.svc.cluster.local 10.96.0.10";
    let found = worker.script(lookup).await.unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("10.96.0.1\n"), "{found}");
    // Both versions can be installed, and only the older one is.
    let offered = worker.script("apt-cache madison kubeadm").await.unwrap();
    let offered = String::from_utf8_lossy(&offered.stdout).into_owned();
    assert!(
        offered.contains("1.36.3-1.1") && offered.contains("1.37.2-1.1"),
        "{offered}"
    );
    let held = worker.run(&["apt-mark", "showhold"]).await.unwrap();
    assert_eq!(held.stdout, b"kubeadm\nkubectl\nkubelet\n");
    // Nor newer network plugins, which an upgrade is to bring.
    let plugins = ["dpkg-query", "-W", "-f", "${Version}", "kubernetes-cni"];
    let plugins = worker.run(&plugins).await.unwrap().stdout;
    assert!(plugins.ends_with(b"+1.36.3-1.1"), "{plugins:?}");
}

fn is_reached_over_ssh(cluster: &KubeadmCluster) {
    let ssh = |name: &str, words: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(cluster.ssh_config())
            .arg(name)
            .args(words);
        let output = ssh.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for node in cluster.nodes() {
        let said = ssh(
            node.name(),
            &["sudo", "-n", "sh", "-c", "'id -u; hostname'"],
        );
        assert_eq!(said, format!("0\n{}", node.name()));
    }
}

async fn can_be_broken(cluster: &KubeadmCluster) {
    let (first, worker) = (&cluster.nodes()[0], cluster.node("node3").unwrap());
    let reaches = async || {
        let probe = format!(
            "busybox timeout 2 busybox nc {} 22 < /dev/null",
            worker.address()
        );
        first
            .output(&["sh", "-c", &probe])
            .await
            .unwrap()
            .status
            .success()
    };
    assert!(reaches().await);
    worker.set_connected(false).unwrap();
    assert!(!reaches().await, "the cable is out");
    worker.set_connected(true).unwrap();
    eventually("the cable to be in again", SOON, || async {
        Ok::<_, String>(reaches().await)
    })
    .await
    .unwrap();

    let before = boot_marker(worker).await;
    worker.reboot().await.unwrap();
    assert_ne!(
        boot_marker(worker).await,
        before,
        "systemd has started anew"
    );
    let client = cluster.client();
    eventually(
        "the node to be Ready after its reboot",
        SOON * 2,
        || async {
            let node = get(&client, "/api/v1/nodes/node3").await?;
            let agent =
                worker.output(&["busybox", "wget", "-qO-", "http://127.0.0.1:10248/healthz"]);
            let healthy = agent.await.is_ok_and(|answer| answer.stdout == b"ok");
            Ok::<_, kube::Error>(healthy && condition(&node, "Ready") == "True")
        },
    )
    .await
    .unwrap();
}

/// When the node's systemd began.
async fn boot_marker(node: &Node) -> Vec<u8> {
    let words = [
        "systemctl",
        "show",
        "--property=UserspaceTimestampMonotonic",
    ];
    node.run(&words).await.unwrap().stdout
}

/// What nodes could leave on, or change of, the machine.
#[derive(Debug, PartialEq)]
struct Traces {
    mounts: String,
    devices: BTreeSet<String>,
    groups: BTreeSet<String>,
    settings: Vec<String>,
    modules: BTreeSet<String>,
    /// Routes and rules of its network, as its own programs show them.
    network: Vec<String>,
}

impl Traces {
    /// Not the groups of clusters that live and are others' than this process's.
    fn look(of: Option<u32>) -> Self {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path().display().to_string())
                .collect()
        };
        let hierarchies = names("/sys/fs/cgroup");
        let mut groups = BTreeSet::new();
        for folder in hierarchies.iter().flat_map(|hierarchy| {
            let below = names(hierarchy);
            let deeper: Vec<_> = below.iter().flat_map(|folder| names(folder)).collect();
            below.into_iter().chain(deeper)
        }) {
            // A kubelet's, where its node has no group of its own.
            let is_of_a_node = ["/kubepods", GROUPS]
                .iter()
                .any(|name| folder.contains(name));
            if is_of_a_node && !is_of_another(&folder, of) {
                groups.insert(folder);
            }
        }
        let settings = [
            "vm/overcommit_memory",
            "vm/panic_on_oom",
            "kernel/panic",
            "kernel/panic_on_oops",
            "kernel/keys/root_maxkeys",
            "kernel/keys/root_maxbytes",
            "net/ipv4/ip_forward",
            "net/ipv4/conf/all/rp_filter",
            "net/ipv4/conf/all/route_localnet",
            "net/ipv4/conf/all/arp_ignore",
            "net/ipv4/vs/conntrack",
            "net/bridge/bridge-nf-call-iptables",
            "net/netfilter/nf_conntrack_max",
            "net/netfilter/nf_conntrack_tcp_timeout_established",
            "net/ipv6/conf/all/forwarding",
            "fs/inotify/max_user_instances",
            "fs/inotify/max_user_watches",
        ];
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        let modules = modules.lines().filter_map(|line| line.split(' ').next());
        let shows = |words: &[&str]| {
            let shown = Command::new(words[0]).args(&words[1..]).output();
            let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            // Lines with the time, and counters.
            let lines = shown.unwrap_or_default();
            let lines = lines.lines().filter(|line| !line.starts_with(['#', ':']));
            lines.collect::<Vec<_>>().join("\n")
        };
        let network = [
            &["ip", "route", "show", "table", "all"][..],
            &["ip", "rule"],
            &["iptables-save"],
            &["nft", "list", "ruleset"],
        ];
        Self {
            mounts: fs::read_to_string("/proc/self/mounts").unwrap(),
            devices: names("/sys/class/net"),
            groups,
            settings: settings
                .map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default())
                .to_vec(),
            modules: modules.map(str::to_owned).collect(),
            network: network.map(shows).to_vec(),
        }
    }
}

/// Whether a group of nodes is that of a process that lives, and is another than `own`.
fn is_of_another(folder: &str, own: Option<u32>) -> bool {
    let name = folder.split_once(GROUPS).map(|(_, name)| name);
    let owner: Option<u32> = name.and_then(|name| name.split('-').next()?.parse().ok());
    owner.is_some_and(|owner| Some(owner) != own && Path::new(&format!("/proc/{owner}")).exists())
}

/// Processes whose command line or root names a folder.
fn processes_of(folder: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(folder).then_some(line)
        })
        .collect()
}
