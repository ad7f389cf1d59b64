//! kubeadm gives up in the middle and moves its manifests back by itself, because
//! somebody's patch breaks the new API server: the run names that, and goes on by
//! itself once the patch is mended. Nodes are reached as in many a company: through
//! a bastion, by a certificate whose key only an agent has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::Target;
use migrate_executor::{Entry, Record};
use migrate_plan::{ActionResult, Input};
use migrate_testbed::{Node, eventually};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::lane::is_at_the_target;
use crate::rig::{Rig, Sign, intents};
use crate::{BEFORE, TARGET, figure};

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
/// What kubeadm has moved away in the first attempt, as its own log says, and is not
/// where it was moved to any more.
const MOVED_BACK: &str = r#"
    cat /var/lib/kube-migrate/*/*.cp.*/1/log \
        | sed -n 's/.*backing up .* manifest to "\(.*\)"$/\1/p' \
        | while read -r backup; do
            if [ ! -e "$backup" ]; then basename "$backup" .yaml; fi
        done
"#;
/// The components that have the version of Kubernetes.
const COMPONENTS: [&str; 3] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];
/// How `kubeadm` ended badly, as the exit code of a step tells the driver.
const KUBEADM_FAILED: &str = "70";
/// How long an API server that comes back is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

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
    let step = is_as_told(&rig).await;

    let (well, said) = rig.ends().await;
    let ended = rig.attempts().await;
    println!("{said}\n{ended:#?}");
    assert!(well, "{said}");
    figure("rolled-back", began.elapsed().as_secs_f64(), "s");
    assert_eq!(ended.len(), 1 + rig.cluster.nodes().len());
    for (action, codes) in &ended {
        let expected: &[&str] = if *action == step {
            &[KUBEADM_FAILED, "0"]
        } else {
            &["0"]
        };
        assert_eq!(codes, expected, "{action}");
    }
    nothing_else_began(rig.entries());
    is_at_the_target(&rig.cluster).await;
    are_patched(rig.cluster.nodes()).await;
    rig.is_given_back().await;
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}

/// What the driver says of it, and of nothing else.
fn is_rollback(reason: &str) -> bool {
    reason.contains("kube-apiserver") && reason.contains("automatic rollback")
}

/// What was told of kubeadm's rollback is so on the node, which is mended right after
/// that; gives the step.
///
/// The next attempt begins ten seconds after the first one has failed, and changes a
/// manifest long after that: until then everything is as kubeadm has left it.
async fn is_as_told(rig: &Rig) -> String {
    let failures = rig.failures();
    println!("{failures:#?}");
    let member = &rig.cluster.nodes()[0];
    let moved = member.script(MOVED_BACK).await.unwrap().stdout;
    is_of_before(member).await;
    member.script(MEND).await.unwrap();
    assert_eq!(version_that_answers(rig).await, BEFORE);

    let [failure] = failures.as_slice() else {
        panic!("one failure: {failures:#?}");
    };
    let moved = String::from_utf8_lossy(&moved).into_owned();
    let moved: Vec<&str> = moved.lines().collect();
    assert_eq!(moved, named(failure));
    assert_eq!(moved, ["kube-apiserver"]);
    for component in COMPONENTS {
        let (_, rest) = failure.split_once(&format!("{component} is ")).unwrap();
        let image = rest.split([',', ';']).next().unwrap();
        assert!(
            image.ends_with(&format!("/{component}:{BEFORE}")),
            "{failure}"
        );
    }
    let attempts = Vec::from_iter(rig.attempts().await);
    println!("{attempts:#?}");
    let [(step, codes)] = &attempts[..] else {
        panic!("begun nowhere else: {attempts:#?}");
    };
    assert!(step.contains(".cp.") && codes[0] == KUBEADM_FAILED);
    step.clone()
}

/// The components whose manifests were moved back, in the words of the driver.
fn named(reason: &str) -> Vec<&str> {
    let rest = reason.strip_prefix("kubeadm moved the old manifests of ");
    let rest = rest.unwrap_or_else(|| panic!("{reason}"));
    let found = rest.split_once(" back by itself (automatic rollback), so that ");
    let (names, _) = found.unwrap_or_else(|| panic!("{reason}"));
    names.split(", ").collect()
}

/// No component of a member is at the target: their manifests have the old version.
async fn is_of_before(member: &Node) {
    for component in COMPONENTS {
        let image = format!(
            "grep -q '^ *image: .*/{component}:{BEFORE}$' \
             /etc/kubernetes/manifests/{component}.yaml"
        );
        member.script(&image).await.unwrap();
    }
}

/// The version of the API server that answers first.
async fn version_that_answers(rig: &Rig) -> String {
    let client = rig.cluster.client();
    let asks = async {
        loop {
            if let Ok(version) = client.apiserver_version().await {
                return version.git_version;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, asks).await.expect("an API server")
}

/// Between the failure of the member's step and its good end nothing else was begun.
fn nothing_else_began(entries: &[Entry]) {
    let has_ended = |entry: &Entry, well: bool| match &entry.record {
        Record::Input {
            input: Input::ActionEnded { id, result },
        } => id.as_str().contains(".cp.") && matches!(result, ActionResult::Succeeded(_)) == well,
        _ => false,
    };
    let failed = entries.iter().position(|entry| has_ended(entry, false));
    let from = failed.expect("a failure of the member");
    let rest = &entries[from..];
    let ended = rest.iter().position(|entry| has_ended(entry, true));
    let until = ended.expect("the end of the member's step");
    for (phase, target) in intents(&rest[..until]) {
        assert!(
            matches!(target, Target::ControlPlane { .. }),
            "{phase} of {target}"
        );
    }
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

/// An agent that alone has the key and its certificate, and a configuration that asks
/// it, by which workers are reached through the control plane's node.
struct Agent {
    config: PathBuf,
    _program: Child,
}

impl Agent {
    async fn start(rig: &Rig) -> Self {
        let text = std::fs::read_to_string(rig.cluster.ssh_config()).unwrap();
        let word = |before| {
            let mut lines = text.lines();
            lines.find_map(|line| line.trim().strip_prefix(before))
        };
        let key = word("IdentityFile ").unwrap();
        certify(rig, key, word("User ").unwrap()).await;
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

/// From now on nodes admit whom an authority has signed, and no key by itself.
async fn certify(rig: &Rig, key: &str, user: &str) {
    let authority = rig.cluster.dir().join("user-ca");
    let authority = authority.to_str().unwrap();
    let keygen = async |arguments: &[&str]| {
        let mut keygen = Command::new("ssh-keygen");
        let status = keygen.arg("-q").args(arguments).status().await;
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    keygen(&["-t", "ed25519", "-N", "", "-f", authority]).await;
    // Beside the key, where an agent looks for it.
    let public = format!("{key}.pub");
    keygen(&["-s", authority, "-I", "runner", "-n", user, &public]).await;
    let authority = std::fs::read_to_string(format!("{authority}.pub")).unwrap();
    let script = format!(
        "echo '{}' > /etc/ssh/user-ca.pub
         echo TrustedUserCAKeys /etc/ssh/user-ca.pub > /etc/ssh/sshd_config.d/user-ca.conf
         rm /home/{user}/.ssh/authorized_keys
         systemctl restart ssh",
        authority.trim()
    );
    for node in rig.cluster.nodes() {
        node.script(&script).await.unwrap();
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
