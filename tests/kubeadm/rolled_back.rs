//! kubeadm gives up in the middle and moves its manifests back by itself, because
//! somebody's patch breaks the new API server: the run names that, and goes on by
//! itself once the patch is mended. Nodes are reached as in many a company: through
//! a bastion, with a key that only an agent has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_testbed::{Node, eventually};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::lane::is_at_the_target;
use crate::rig::{Rig, Sign};
use crate::{TARGET, figure};

const FOLDER: &str = "/etc/kubernetes/patches";
/// Patches that are somebody's on every node, and have to be there afterwards too.
const PATCHES: &str = r#"
    mkdir -p /etc/kubernetes/patches
    cd /etc/kubernetes/patches
    echo '{"metadata":{"annotations":{"example.org/patched":"yes"}}}' > kube-scheduler+strategic.json
    echo '{"maxPods":97}' > kubeletconfiguration+strategic.json
"#;
/// One with which no API server starts.
const BREAK: &str = r#"
    echo '[{"op":"add","path":"/spec/containers/0/command/-","value":"--no-such-flag=1"}]' \
        > /etc/kubernetes/patches/kube-apiserver0+json.json
"#;
const MEND: &str = "rm /etc/kubernetes/patches/kube-apiserver0+json.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fifteen minutes; part of cargo xtask extended"]
async fn what_kubeadm_moves_back_is_named_and_goes_on_after_the_cure() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let agent = Agent::start(&rig).await;
    for node in rig.cluster.nodes() {
        node.script(PATCHES).await.unwrap();
    }
    rig.cluster.nodes()[0].script(BREAK).await.unwrap();

    let began = Instant::now();
    let words = ["--to", TARGET, "--kubeadm-patches", FOLDER];
    let command = rig.over(&agent.config, &words);
    rig.begin_by(command);
    let told = |rig: &Rig| rig.failures().iter().any(|reason| is_rollback(reason));
    let name = "kubeadm's own rollback";
    rig.comes_to(name, Sign::Journal(told)).await;
    figure("rolled-back.named", began.elapsed().as_secs_f64(), "s");
    println!("{:#?}", rig.failures());
    rig.cluster.nodes()[0].script(MEND).await.unwrap();

    let (well, said) = rig.ends().await;
    println!("{said}\n{:#?}", rig.attempts().await);
    assert!(well, "{said}");
    figure("rolled-back", began.elapsed().as_secs_f64(), "s");
    is_at_the_target(&rig.cluster).await;
    are_patched(rig.cluster.nodes()).await;
    rig.is_given_back().await;
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}

/// What the driver says of it, and of nothing else.
fn is_rollback(reason: &str) -> bool {
    reason.contains("kube-apiserver") && reason.contains("automatic rollback")
}

async fn are_patched(nodes: &[Node]) {
    for node in nodes {
        let kubelet = "grep -qx 'maxPods: 97' /var/lib/kubelet/config.yaml";
        node.script(kubelet).await.unwrap();
        if node.is_control_plane() {
            let scheduler = "grep -q 'example.org/patched: \"yes\"' \
                             /etc/kubernetes/manifests/kube-scheduler.yaml";
            node.script(scheduler).await.unwrap();
        }
    }
}

/// An agent that alone has the key, and a configuration that asks it, by which
/// workers are reached through the control plane's node.
struct Agent {
    config: PathBuf,
    _program: Child,
}

impl Agent {
    async fn start(rig: &Rig) -> Self {
        let text = std::fs::read_to_string(rig.cluster.ssh_config()).unwrap();
        let key = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("IdentityFile "))
            .unwrap();
        let socket = rig.cluster.dir().join("agent");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).kill_on_drop(true);
        let program = agent.stdout(std::process::Stdio::null()).spawn().unwrap();
        eventually("the agent", Duration::from_secs(10), || async {
            Ok::<_, String>(socket.exists())
        })
        .await
        .unwrap();
        let mut add = Command::new("ssh-add");
        add.args(["-q", key]).env("SSH_AUTH_SOCK", &socket);
        assert!(add.status().await.unwrap().success());
        let config = rig.write("bastion", &through(&text, rig.cluster.nodes(), &socket));
        Self {
            config,
            _program: program,
        }
    }
}

/// The same configuration, but for the key and the way to workers.
fn through(text: &str, nodes: &[Node], socket: &Path) -> String {
    let [bastion, workers @ ..] = nodes else {
        panic!("no nodes");
    };
    let mut config = String::new();
    for worker in workers {
        config += &format!(
            "Host {name}\n  HostName {address}\n  Port 22\n  ProxyJump {jump}\n",
            name = worker.name(),
            address = worker.address(),
            jump = bastion.name(),
        );
    }
    // ssh takes the first value it meets: those above, and the host key's name below.
    let rest = text.lines().filter(|line| {
        let word = line.trim_start();
        !word.starts_with("IdentityFile ") && !word.starts_with("IdentitiesOnly ")
    });
    for line in rest {
        config += line;
        config += "\n";
    }
    config + &format!("  IdentityAgent {}\n", socket.display())
}
