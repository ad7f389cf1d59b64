//! What goes wrong on real nodes before and while they are upgraded: each time
//! the run goes on by itself, or says what it is and what to do, and the same
//! command goes on after the cure.

use std::time::Duration;

use migrate_core::Phase;
use migrate_testbed::{HeldLock, Node, eventually};
use tokio::process::Command;
use tokio::time::Instant;

use crate::kills::{ETCD_SWAPPED, KUBELET_CHANGED};
use crate::real::cluster::condition;
use crate::real::program::Ended;
use crate::rig::{Place, Rig, Sign};
use crate::{TARGET, figure, shop};

const SUDOERS: &str = "/etc/sudoers.d/testbed";
/// Where dpkg writes down what it does.
const DPKG: &str = "/var/lib/dpkg";
/// What is free on a disk of some 300 MiB that is full to 95 %, in KiB.
const LITTLE: u64 = 15 * 1024;
/// A configuration file of the kubelet's package, and words of somebody's own.
const DEFAULTS: &str = "/etc/default/kubelet";
const EDIT: &str = "KUBELET_EXTRA_ARGS=--v=1";
/// What a slow node is sent, in kbit/s.
const SLOW: u32 = 512;
/// What it is sent to see that, in bytes, and how long that takes at least: a bucketful
/// of 4 kB, and what ssh itself sends, are left out of it.
const PARCEL: usize = 256 * 1024;
const PARCEL_TAKES: Duration = Duration::from_millis(3_900);
/// How long the runner does not reach the node.
const CUT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(180);
/// dpkg is at the programs of the kubelet's package.
const UNPACKING: &str = "[ -e /usr/bin/kubelet.dpkg-new ]";
/// What is said of a step whose node has lost its power.
const REBOOTED: &str = "was rebooted while the step ran";
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
/// there; the nodes reach each other. It goes on by itself, and no action has failed.
pub(crate) async fn cut_off(rig: &mut Rig) {
    rig.goes().await;
    let name = "the swap of etcd";
    rig.comes_to(name, Sign::Step(Place::Member(0), ETCD_SWAPPED))
        .await;
    let before = rig.failures();
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
    let runner_goes_on = Sign::Journal(|rig| rig.has_begun(Phase::Drain, Place::MemberNode(0)));
    rig.comes_to("the drain of its node", runner_goes_on).await;
    assert_eq!(rig.failures(), before);
}

fn has_told_of_a_reboot(rig: &Rig) -> bool {
    let reasons = rig.failures();
    reasons.iter().any(|reason| reason.contains(REBOOTED))
}

/// The only control plane's node loses its power while etcd is swapped there, and
/// the API with it: the same runner begins the step again when both are back.
pub(crate) async fn power_cut(rig: &mut Rig) {
    rig.goes().await;
    let name = "the swap of etcd";
    rig.comes_to(name, Sign::Step(Place::Member(0), ETCD_SWAPPED))
        .await;
    let began = Instant::now();
    rig.cluster.nodes()[0].reboot().await.unwrap();
    let told = Sign::Journal(has_told_of_a_reboot);
    rig.comes_to("word of the power cut", told).await;
    figure("trials.power.told", began.elapsed().as_secs_f64(), "s");
    let again = r#"[ "${folder##*/}" -gt 1 ]"#;
    rig.comes_to("the next attempt", Sign::Step(Place::Member(0), again))
        .await;
    figure("trials.power.again", began.elapsed().as_secs_f64(), "s");
}

/// That step is over and has brought the control plane to the target, with further
/// attempts of it alone: nothing was begun on another node.
pub(crate) async fn power_cut_took_attempts_alone(rig: &mut Rig) {
    let is_over = Sign::Journal(|rig| rig.has_begun(Phase::Drain, Place::MemberNode(0)));
    rig.comes_to("the drain of its node", is_over).await;
    let version = rig.cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);

    let attempts = Vec::from_iter(rig.attempts().await);
    println!("{attempts:#?}\n{:#?}", rig.failures());
    let [(step, codes)] = &attempts[..] else {
        panic!("the step of the member alone");
    };
    assert!(step.contains(".cp."), "{step}");
    // One that begins while the control plane still comes back may fail before it has
    // changed anything: kubeadm's own checks look at all of it.
    let [first, between @ .., last] = &codes[..] else {
        panic!("two attempts at least: {codes:?}");
    };
    assert_eq!([first, last], ["none", "0"], "{codes:?}");
    assert!(between.len() <= 1, "{codes:?}");
    assert!(between.iter().all(|code| code != "none"), "{codes:?}");
    let failures = rig.failures();
    assert!(failures[0].contains(REBOOTED), "{failures:#?}");
    assert_eq!(failures.len(), codes.len() - 1, "{failures:#?}");
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
}

/// The last worker is sent little at a time from now on, the others are not.
pub(crate) async fn slow(rig: &Rig) {
    let (node, others) = rig.cluster.nodes().split_last().unwrap();
    node.set_rate(Some(SLOW)).unwrap();
    println!("{} is slow", node.name());
    is_slow(rig, node).await;
    let other = others.last().unwrap();
    let took = sent(rig, other).await;
    assert!(took < PARCEL_TAKES, "{}: {took:?}", other.name());
}

/// It was slow to the end, unless a reboot has ended that.
pub(crate) async fn was_slow(rig: &Rig, is_rebooted: bool) {
    let node = rig.cluster.nodes().last().unwrap();
    let rebooted = rig.node(Place::Worker(0)).unwrap().name();
    if !is_rebooted || rebooted != node.name() {
        is_slow(rig, node).await;
    }
}

async fn is_slow(rig: &Rig, node: &Node) {
    let took = sent(rig, node).await;
    figure("trials.slow.parcel", took.as_secs_f64(), "s");
    assert!(took >= PARCEL_TAKES, "{}: {took:?}", node.name());
}

/// How long it takes to send a node a [`PARCEL`] the way the program does.
async fn sent(rig: &Rig, node: &Node) -> Duration {
    let file = rig.write("parcel", &"p".repeat(PARCEL));
    let began = Instant::now();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(rig.cluster.ssh_config());
    ssh.args(["-o", "Compression=no", node.name(), "cat > /dev/null"]);
    ssh.stdin(std::fs::File::open(file).unwrap());
    let ended = ssh.status().await.unwrap();
    assert!(ended.success(), "{}: {ended}", node.name());
    began.elapsed()
}

/// On the first of the workers somebody has written into a file that the next
/// release's package has otherwise too: a question of dpkg's.
pub(crate) async fn edited(rig: &Rig) {
    let node = &rig.cluster.nodes()[1];
    let write = format!("echo '{EDIT}' > {DEFAULTS}; systemctl restart kubelet");
    node.script(&write).await.unwrap();
    is_ready(rig, node, "True").await;
}

/// What somebody has written stands, and counts; the package's lies beside it.
/// Elsewhere the package's has taken the place of its predecessor.
pub(crate) async fn edits_are_kept(rig: &Rig) {
    let text = async |node: &Node, file: &str| {
        let said = node.run(&["cat", file]).await.unwrap().stdout;
        String::from_utf8_lossy(&said).into_owned()
    };
    let beside = format!("{DEFAULTS}.dpkg-dist");
    let new = format!("# As kubelet {}-", TARGET.trim_start_matches('v'));
    let [_, edited, other] = rig.cluster.nodes() else {
        panic!("three nodes");
    };
    assert_eq!(text(edited, DEFAULTS).await, format!("{EDIT}\n"));
    assert!(text(edited, &beside).await.starts_with(&new));
    let pid = kubelet_pid(edited).await;
    let words = text(edited, &format!("/proc/{pid}/cmdline")).await;
    assert!(words.contains("\0--v=1\0"), "{words}");

    assert!(text(other, DEFAULTS).await.starts_with(&new));
    let absent = ["test", "!", "-e", &beside];
    other.run(&absent).await.unwrap();
}

/// Somebody else is at work with packages when the step of a worker comes to them:
/// it waits for both locks, one after the other, and goes on by itself.
pub(crate) async fn packages_locked(rig: &mut Rig) {
    // Nothing but a step needs them, so that they can be taken before the start.
    let frontend = hold_on_workers(rig, "/var/lib/dpkg/lock-frontend").await;
    let inner = hold_on_workers(rig, "/var/lib/dpkg/lock").await;
    let archives = hold_on_workers(rig, "/var/cache/apt/archives/lock").await;
    let place = Place::Worker(0);
    rig.goes().await;
    // For this one apt does not wait, and so it is not begun before.
    let waits = r#"grep -q 'archives/lock is held by' "$log""#;
    rig.comes_to("the lock of apt's archives", Sign::Step(place, waits))
        .await;
    drop(archives);
    // apt tells nobody that it waits unless it has a terminal. While the first lock
    // is held it cannot get any further than this; and it has that one, but not the
    // second, as long as only the second is held.
    let waits = "pgrep -f 'apt-[g]et .*install' > /dev/null";
    rig.comes_to("a lock of apt", Sign::Step(place, waits))
        .await;
    drop(frontend);
    let waits = r#"grep -q ":$(stat -c %i /var/lib/dpkg/lock-frontend) " /proc/locks"#;
    rig.comes_to("a lock of dpkg", Sign::Step(place, waits))
        .await;
    drop(inner);
    let sign = Sign::Step(place, KUBELET_CHANGED);
    rig.comes_to("the kubelet of a worker", sign).await;
    let failures = rig.failures();
    let by_lock = |reason: &String| reason.contains("lock");
    assert!(!failures.iter().any(by_lock), "{failures:#?}");
    println!("{} has waited for locks", rig.node(place).unwrap().name());
}

async fn hold_on_workers(rig: &Rig, lock: &str) -> Vec<HeldLock> {
    let mut held = Vec::new();
    for node in rig.cluster.nodes() {
        if !node.is_control_plane() {
            held.push(node.hold_lock(lock).await.unwrap());
        }
    }
    held
}

/// The first worker loses its power in the middle of its step, and the run goes
/// on by itself.
pub(crate) async fn rebooted(rig: &mut Rig) {
    let place = Place::Worker(0);
    rig.goes().await;
    let sign = Sign::Step(place, KUBELET_CHANGED);
    rig.comes_to("the kubelet of a worker", sign).await;
    rig.node(place).unwrap().reboot().await.unwrap();
    let told = Sign::Journal(has_told_of_a_reboot);
    rig.comes_to("word of the reboot", told).await;
    println!("rebooted: {:#?}", rig.failures());
}

/// The second worker loses its power while dpkg unpacks its kubelet: from then on dpkg has
/// half of a package, under the old version, which no `--configure` finishes.
pub(crate) async fn unpack_cut_off(rig: &mut Rig) {
    let place = Place::Worker(1);
    rig.goes().await;
    let sign = Sign::Step(place, UNPACKING);
    rig.comes_to("the unpack of a worker's kubelet", sign).await;
    let node = rig.node(place).unwrap();
    node.reboot().await.unwrap();
    let state = "dpkg-query -W -f '${db:Status-Status}' kubelet | grep -x half-installed";
    node.script(state).await.unwrap();
}

/// The run under way ends without success and says these words.
async fn stops(rig: &mut Rig, words: &[&str]) {
    let (well, said) = rig.ends().await;
    println!("{said}\nfailures: {:#?}", rig.failures());
    assert!(!well, "{said}");
    says(&said, words);
}
