//! What goes wrong on real nodes before and while they are upgraded: each time
//! the run goes on by itself, or says what it is and what to do, and the same
//! command goes on after the cure.

use std::time::Duration;

use migrate_testbed::{Node, eventually};
use tokio::process::Command;

use crate::kills::KUBELET_CHANGED;
use crate::real::cluster::condition;
use crate::real::program::Ended;
use crate::rig::{Place, Rig, Sign};
use crate::{TARGET, shop};

const SUDOERS: &str = "/etc/sudoers.d/testbed";
/// Where dpkg writes down what it does.
const DPKG: &str = "/var/lib/dpkg";
/// What is free on a disk of some 300 MiB that is full to 95 %, in KiB.
const LITTLE: u64 = 15 * 1024;
/// How long the runner does not reach the node.
const CUT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(180);
/// What comes from outside the cluster's nodes, as the runner's packets do.
const OUTSIDE: &str = "10.77.0.1";

/// Before a run: refused, and nothing was changed.
pub(crate) async fn before(rig: &Rig) {
    wrong_key(rig).await;
    no_sudo(rig).await;
    no_image(rig).await;
    little_disk(rig).await;
}

/// Refused before anything was changed, and these words are among its reasons.
async fn is_refused(rig: &Rig, ended: Ended, words: &[&str]) {
    let said = ended.said();
    println!("{said}");
    assert!(!ended.status.success(), "{said}");
    says(&said, words);
    rig.is_untouched().await;
}

fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

async fn wrong_key(rig: &Rig) {
    let config = std::fs::read_to_string(rig.cluster.ssh_config()).unwrap();
    let key = rig.write("other", "");
    std::fs::remove_file(&key).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    assert!(keygen.status().await.unwrap().success());
    let other = |line: &str| match line.trim_start().starts_with("IdentityFile ") {
        true => format!("  IdentityFile {}\n", key.display()),
        false => format!("{line}\n"),
    };
    let config: String = config.lines().map(other).collect();
    let config = rig.write("ssh", &config);
    let ended = rig.finish(rig.over(&config, &["--to", TARGET])).await;
    let cause = "node node1: ssh: ";
    let cure = "authorized_keys names our key";
    is_refused(
        rig,
        ended,
        &["KM-KUBEADM-003", cause, "Permission denied", cure],
    )
    .await;
}

async fn no_sudo(rig: &Rig) {
    let node = &rig.cluster.nodes()[1];
    withdraw(node).await;
    let ended = rig.run(&["--to", TARGET]).await;
    give(node).await;
    let cause = "node node2: sudo: ";
    let cure = "give the user a line in /etc/sudoers.d on the node";
    is_refused(rig, ended, &["KM-KUBEADM-003", cause, cure]).await;
}

async fn withdraw(node: &Node) {
    node.run(&["mv", SUDOERS, "/root/sudoers"]).await.unwrap();
}

async fn give(node: &Node) {
    node.run(&["mv", "/root/sudoers", SUDOERS]).await.unwrap();
}

async fn no_image(rig: &Rig) {
    let node = &rig.cluster.nodes()[2];
    let find = format!("ctr --namespace k8s.io images ls -q | grep '/kube-proxy:{TARGET}$'");
    let image = node.script(&find).await.unwrap();
    let image = String::from_utf8_lossy(&image.stdout).trim().to_owned();
    node.remove_image(&image).await.unwrap();
    let ended = rig.run(&["--to", TARGET]).await;
    let import = "for image in /srv/testbed/images/later/everywhere/*.tar; do\n\
                  ctr --namespace k8s.io images import \"$image\"; done";
    node.script(import).await.unwrap();
    let cause = format!("the image {image} is not on the node");
    let cure = "crictl installed, or import the image";
    is_refused(rig, ended, &["KM-KUBEADM-002", "node3", &cause, cure]).await;
}

/// A disk to which dpkg writes is full to 95 %.
async fn little_disk(rig: &Rig) {
    let node = &rig.cluster.nodes()[1];
    node.fill_disk(DPKG, LITTLE).await.unwrap();
    let ended = rig.run(&["--to", TARGET]).await;
    node.clear_disk(DPKG).await.unwrap();
    let cause = "little room for the programs of v1.37.2: /var/lib/dpkg has 15 MiB free";
    is_refused(
        rig,
        ended,
        &["KM-KUBEADM-033", "node2", cause, "make room there"],
    )
    .await;
}

/// The runner does not reach the node, nor the API on it, while etcd is swapped
/// there; the nodes reach each other.
pub(crate) async fn cut_off(rig: &mut Rig) {
    let in_swap = r#"grep -qF 'manifests/etcd.yaml" and backing up' "$log""#;
    let name = "the swap of etcd";
    rig.comes_to(name, Sign::Step(Place::Member, in_swap)).await;
    let node = &rig.cluster.nodes()[0];
    for verb in ["-I", "-D"] {
        let rule = ["iptables", verb, "INPUT", "-s", OUTSIDE, "-j", "DROP"];
        node.run(&rule).await.unwrap();
        if verb == "-I" {
            println!("cut off for {} s", CUT.as_secs());
            // The length of the fault.
            tokio::time::sleep(CUT).await;
        }
    }
    let api_server = r#"grep -qF 'manifests/kube-apiserver.yaml" and backing up' "$log""#;
    let sign = Sign::Step(Place::Member, api_server);
    rig.comes_to("the swap of the API server", sign).await;
    println!("failed so far: {:#?}", rig.failures());
}

/// In the drain of the first worker its kubelet is killed, and then frozen
/// until the node is given up: its pods do not end meanwhile.
pub(crate) async fn kubelet_killed_and_frozen(rig: &mut Rig) {
    let place = Place::Worker(0);
    rig.goes().await;
    let sign = Sign::Leaving(place);
    rig.comes_to("the drain of a worker", sign).await;
    let worker = rig.node(place).unwrap();
    let before = kubelet_pid(worker).await;
    worker.kill_kubelet().await.unwrap();
    eventually("another kubelet", PATIENCE, || async {
        let now = kubelet_pid(worker).await;
        Ok::<_, String>(now != before && now != "0")
    })
    .await
    .unwrap();
    worker.freeze_kubelet().await.unwrap();
    is_ready(rig, worker, "Unknown").await;
    worker.thaw_kubelet().await.unwrap();
    is_ready(rig, worker, "True").await;
    println!("the kubelet of {} was killed and frozen", worker.name());
}

async fn kubelet_pid(node: &Node) -> String {
    let words = [
        "systemctl",
        "show",
        "--property=MainPID",
        "--value",
        "kubelet",
    ];
    let said = node.run(&words).await.unwrap().stdout;
    String::from_utf8_lossy(&said).trim().to_owned()
}

async fn is_ready(rig: &Rig, node: &Node, status: &str) {
    let client = rig.cluster.client();
    let what = format!("{} to be Ready: {status}", node.name());
    eventually(&what, PATIENCE, || async {
        let nodes = shop::items(&client, "/api/v1/nodes").await;
        let mut nodes = nodes.iter();
        let found = nodes.find(|found| found["metadata"]["name"] == node.name());
        Ok::<_, String>(found.is_some_and(|found| condition(found, "Ready") == status))
    })
    .await
    .unwrap();
}

/// The first worker has no room for dpkg: the run stops, and the node stays
/// cordoned until the same command goes on.
pub(crate) async fn disk_full(rig: &mut Rig) {
    let place = Place::Worker(0);
    rig.goes().await;
    let sign = Sign::Journal(|rig| rig.node(Place::Worker(0)).is_some());
    rig.comes_to("a worker", sign).await;
    let name = rig.node(place).unwrap().name().to_owned();
    rig.cluster
        .node(&name)
        .unwrap()
        .fill_disk(DPKG, 0)
        .await
        .unwrap();
    let room = "/var/lib/dpkg has 0 MiB free, make room there";
    stops(rig, &[&name, room]).await;
    rig.cluster
        .node(&name)
        .unwrap()
        .clear_disk(DPKG)
        .await
        .unwrap();
    rig.begin();
}

/// The first worker lets the runner in no more when its step should begin.
pub(crate) async fn no_sudo_any_more(rig: &mut Rig) {
    let place = Place::Worker(0);
    rig.goes().await;
    rig.comes_to("the drain of a worker", Sign::Leaving(place))
        .await;
    let name = rig.node(place).unwrap().name().to_owned();
    withdraw(rig.cluster.node(&name).unwrap()).await;
    let cure = "give the user a line in /etc/sudoers.d on the node";
    stops(rig, &[&name, "sudo: ", cure]).await;
    give(rig.cluster.node(&name).unwrap()).await;
    rig.begin();
}

/// The first worker loses its power in the middle of its step, and the run goes
/// on by itself.
pub(crate) async fn rebooted(rig: &mut Rig) {
    let place = Place::Worker(0);
    rig.goes().await;
    let sign = Sign::Step(place, KUBELET_CHANGED);
    rig.comes_to("the kubelet of a worker", sign).await;
    rig.node(place).unwrap().reboot().await.unwrap();
    let told = |rig: &Rig| {
        let reasons = rig.failures();
        let word = "was rebooted while the step ran";
        reasons.iter().any(|reason| reason.contains(word))
    };
    rig.comes_to("word of the reboot", Sign::Journal(told))
        .await;
    println!("rebooted: {:#?}", rig.failures());
}

/// The run under way ends without success and says these words.
async fn stops(rig: &mut Rig, words: &[&str]) {
    let (well, said) = rig.ends().await;
    println!("{said}\nfailures: {:#?}", rig.failures());
    assert!(!well, "{said}");
    says(&said, words);
}
