//! The steps for real, on a node whose programs are small scripts.

use std::path::{Path, PathBuf};

use migrate_core::{Fence, Moment, Outcome};

use super::*;
use crate::Local;
use crate::unit::tests::check;

mod backups;
mod begun;
mod binaries;
mod lists;
mod options;
mod programs;
mod reached;
mod renewals;
mod room;
mod surveyed;
mod told;
mod trouble;
mod way_back;

pub(super) const CP: &str = "cp-1";

/// A node in a folder: files of its own, and programs that act on them.
pub(super) struct Node {
    pub(super) folder: tempfile::TempDir,
    pub(super) driver: Kubeadm,
}

impl Node {
    /// At v1.36.3, as the configuration of the cluster.
    pub(super) fn new(is_control_plane: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        programs::write(&folder.path().join("bin"));
        let path = format!(
            "{}:{}",
            folder.path().join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let options = Options {
            api: Duration::ZERO,
            kubelet: Duration::ZERO,
            quiet: Duration::ZERO,
            ..Options::default()
        };
        let shell = Arc::new(Local::new(CP).with_path(path));
        let driver = Kubeadm::over(shell, Layout::in_folder(folder.path()), options);
        let node = Self { folder, driver };
        for package in ["kubeadm", "kubelet", "kubectl"] {
            node.write(&format!("installed/{package}"), "1.36.3-1.1");
        }
        node.write("held", "kubeadm\nkubelet\n");
        node.write(
            "available",
            "1.36.3-1.1\n1.37.2-1.1\n1.37.2-2.1\n1.37.20-1.1\n",
        );
        node.write("cluster-version", "v1.36.3");
        node.write("root/var/lib/kubelet/config.yaml", "healthzPort: 0\n");
        if is_control_plane {
            node.write("root/etc/kubernetes/admin.conf", "");
            node.manifests("v1.36.3");
        }
        node
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) fn manifests(&self, version: &str) {
        for component in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
        ] {
            self.write(
                &format!("root/etc/kubernetes/manifests/{component}.yaml"),
                &format!(
                    "  containers:\n  - image: r.local/{component}:{version}\n    \
                     imagePullPolicy: Never\n"
                ),
            );
        }
    }

    /// With an etcd that says this.
    pub(super) fn with_etcd(self, said: &str) -> Self {
        self.write(
            "root/etc/kubernetes/manifests/etcd.yaml",
            "    - --advertise-client-urls=https://10.0.0.1:2379\n    \
             - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt\n",
        );
        self.write("etcd-container", "abc\n");
        self.says("etcd-says", said);
        self.etcd_of(&[(1, 2, 7), (2, 2, 7), (3, 2, 7)]);
        self
    }

    /// What the step itself hears of etcd: each voting member, whom it follows and
    /// what it has applied. The first one is of this node.
    pub(super) fn etcd_of(&self, members: &[(u64, u64, u64)]) {
        let (mut list, mut fields) = (String::new(), String::new());
        for (at, (id, leader, applied)) in members.iter().enumerate() {
            let address = format!("https://10.0.0.{}:2379", at + 1);
            list.push_str(&format!(
                "{id:x}, started, m, https://peer, {address}, false\n"
            ));
            fields.push_str(&format!(
                "\"MemberID\" : {id}\n\"Leader\" : {leader}\n\"IsLearner\" : false\n\
                 \"RaftAppliedIndex\" : {applied}\n\"Endpoint\" : \"{address}\"\n\n"
            ));
        }
        self.write("etcd-members", &list);
        self.write("etcd-fields", &fields);
    }

    /// An answer of etcd a line, in files of `folder`.
    pub(super) fn says(&self, folder: &str, text: &str) {
        for line in text.lines() {
            let (name, json) = line.split_once(' ').unwrap();
            self.write(&format!("{folder}/{name}"), json);
        }
    }

    /// Begins and waits for the end.
    pub(super) async fn upgrade(&self, action: &Action) -> ActionStatus {
        self.upgrade_in(&cx(), action).await
    }

    pub(super) async fn upgrade_in(&self, cx: &StepContext, action: &Action) -> ActionStatus {
        self.driver.begin(cx, action).await.unwrap();
        loop {
            let status = self.driver.probe(cx, action).await.unwrap();
            if status != ActionStatus::Running {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The same, for an upgrade that fails.
    pub(super) async fn failure(&self, action: &Action) -> (bool, String) {
        match self.upgrade(action).await {
            ActionStatus::Failed { retryable, reason } => (retryable, reason),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn log(&self) -> String {
        let output = std::process::Command::new("bash")
            .args(["-c", "cat \"$1\"/*/*/*/log", "-"])
            .arg(self.path("state"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

pub(super) fn cx() -> StepContext {
    cx_of("run 'x'", 3)
}

pub(super) fn cx_of(run: &str, epoch: u64) -> StepContext {
    StepContext::new(Arc::new(|| Moment::EPOCH), Fence::new(run, epoch))
}

fn action(target: Target) -> Action {
    let version = |text: &str| text.parse().unwrap();
    Action::new(
        "plan",
        target,
        Phase::Upgrade,
        version("v1.36.3"),
        version("v1.37.2"),
    )
}

pub(super) fn member() -> Action {
    action(Target::ControlPlane { member: CP.into() })
}

pub(super) fn node() -> Action {
    action(Target::Node {
        pool: "p".into(),
        node: CP.into(),
    })
}

pub(super) const DONE: ActionStatus = ActionStatus::Succeeded(Outcome::SameNode);

#[tokio::test]
async fn the_first_member_is_applied_once_and_its_holds_stay() {
    let cp = Node::new(true);
    assert_eq!(
        cp.driver.probe(&cx(), &member()).await.unwrap(),
        ActionStatus::Absent
    );
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert_eq!(cp.upgrade(&member()).await, DONE);
    assert_eq!(cp.read("kubeadm-calls"), "upgrade apply -y v1.37.2\n");
    // The newest revision of the very version, and nothing else.
    assert_eq!(cp.read("installed/kubeadm").trim(), "1.37.2-2.1");
    assert_eq!(cp.read("installed/kubelet").trim(), "1.36.3-1.1");
    assert_eq!(cp.read("held"), "kubeadm\nkubelet\n");
    assert_eq!(cp.read("state/kubeadm"), "");
    // Then its kubelet: kubeadm has nothing left to do.
    assert_eq!(cp.upgrade(&node()).await, DONE, "{}", cp.log());
    assert_eq!(cp.read("kubeadm-calls"), "upgrade apply -y v1.37.2\n");
    assert_eq!(cp.read("installed/kubelet").trim(), "1.37.2-2.1");
    assert_eq!(
        cp.read("systemctl-calls"),
        "daemon-reload\nrestart kubelet\n"
    );
}

#[tokio::test]
async fn a_further_member_and_a_worker_take_what_the_first_has_set() {
    for (is_control_plane, action) in [(true, member()), (false, node())] {
        let it = Node::new(is_control_plane);
        it.write("cluster-version", "v1.37.2");
        let driver = it.driver.clone();
        let it = Node {
            driver: driver.with_ignored_preflight_errors(["Swap", "Mem"]),
            ..it
        };
        assert_eq!(it.upgrade(&action).await, DONE, "{}", it.log());
        assert_eq!(
            it.read("kubeadm-calls"),
            "upgrade node --ignore-preflight-errors=Swap,Mem\n"
        );
    }
}

#[tokio::test]
async fn an_apply_that_was_interrupted_is_applied_again() {
    let cp = Node::new(true);
    cp.write(
        "kubeadm-fails",
        "killed after the configuration was uploaded",
    );
    cp.write("kubeadm-uploads", "");
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(retryable, "{reason}");
    assert_eq!(cp.read("cluster-version").trim(), "v1.37.2");
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert_eq!(
        cp.read("kubeadm-calls"),
        "upgrade apply -y v1.37.2\n".repeat(2)
    );
}

#[tokio::test]
async fn a_manifest_that_was_lost_between_two_moves_comes_back() {
    let cp = Node::new(true);
    cp.write("kubeadm-fails", "power cut");
    cp.failure(&member()).await;
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    cp.manifests("v1.36.3");
    let tmp = cp.path("root/etc/kubernetes/tmp/kubeadm-backup-manifests-1");
    std::fs::create_dir_all(&tmp).unwrap();
    let manifest = cp.path("root/etc/kubernetes/manifests/kube-apiserver.yaml");
    std::fs::rename(&manifest, tmp.join("kube-apiserver.yaml")).unwrap();
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert!(cp.log().contains("the manifest of kube-apiserver was lost"));
    // A folder of an upgrade before this one is none of ours.
    for begun in [false, true] {
        let other = Node::new(true);
        let tmp = other.path("root/etc/kubernetes/tmp/kubeadm-backup-manifests-1");
        std::fs::create_dir_all(&tmp).unwrap();
        let manifest = other.path("root/etc/kubernetes/manifests/kube-apiserver.yaml");
        std::fs::rename(&manifest, tmp.join("kube-apiserver.yaml")).unwrap();
        if begun {
            other.write("state/kubeadm", "apply 1.37.2\n");
        }
        let (retryable, reason) = other.failure(&member()).await;
        assert!(
            !retryable && reason.contains("no control plane"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn what_kubeadm_would_do_wrong_is_refused() {
    let cp = Node::new(true);
    cp.write(
        "servers",
        "cp-1 r.local/kube-apiserver:v1.36.3\ncp-2 r.local/kube-apiserver:v1.37.2\n",
    );
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(!retryable && reason.contains("on cp-2 first"), "{reason}");

    let cp = Node::new(true);
    cp.write("cluster-version", "v1.38.0");
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(!retryable && reason.contains("newer than"), "{reason}");

    // A kubelet never comes before its control plane.
    let cp = Node::new(true);
    let (retryable, reason) = cp.failure(&node()).await;
    assert!(
        !retryable && reason.contains("before its kubelet"),
        "{reason}"
    );
    assert_eq!(cp.read("kubeadm-calls"), "");
    assert_eq!(cp.read("installed/kubelet").trim(), "1.36.3-1.1");
}

#[tokio::test]
async fn packages_that_are_missing_or_drag_others_along_are_final() {
    let cp = Node::new(true);
    cp.write("available", "1.36.3-1.1\n1.37.20-1.1\n");
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(!retryable, "{reason}");
    assert!(reason.contains("apt-cache madison kubeadm"), "{reason}");
    assert!(reason.contains("1.36.3-1.1"), "{reason}");

    for drags in [
        "Inst kubelet [1.36.3-1.1] (1.37.2-2.1 x)",
        "Remv containerd [1.7]",
    ] {
        let cp = Node::new(true);
        cp.write("drags", drags);
        let (retryable, reason) = cp.failure(&member()).await;
        assert!(!retryable && reason.contains("would"), "{reason}");
        assert_eq!(cp.read("installed/kubeadm").trim(), "1.36.3-1.1");
    }
    // A worker is drained: what comes with the kubelet may change. And what a
    // reboot has left half done is finished first.
    let worker = Node::new(false);
    worker.write("unfinished", "iU  kubeadm\n");
    worker.write("drags", "Inst kubernetes-cni [1] (2 x)");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert!(!worker.path("unfinished").exists());

    let exact = Node::new(true);
    let driver = exact.driver.clone().with_package_revision("1.1");
    let exact = Node { driver, ..exact };
    assert_eq!(exact.upgrade(&member()).await, DONE, "{}", exact.log());
    assert_eq!(exact.read("installed/kubeadm").trim(), "1.37.2-1.1");
}

#[tokio::test]
async fn failures_of_kubeadm_say_what_they_are() {
    let cases = [
        (
            "[preflight] Some fatal errors occurred:\n\t[ERROR Swap]: running with swap on",
            false,
            "Swap]: running with swap on",
        ),
        (
            "[preflight] Some fatal errors occurred:\n\t[ERROR CreateJob]: timed out",
            true,
            "CreateJob",
        ),
        ("something else", true, "something else"),
    ];
    for (says, wanted, named) in cases {
        let cp = Node::new(true);
        cp.write("kubeadm-fails", says);
        let (retryable, reason) = cp.failure(&member()).await;
        assert_eq!(retryable, wanted, "{reason}");
        assert!(reason.contains(named), "{reason}");
    }
}

#[tokio::test]
async fn success_is_what_can_be_seen() {
    // kubeadm says that all is well, and a manifest says that it is not.
    let cp = Node::new(true);
    cp.write("kubeadm-forgets", "kube-scheduler");
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(
        retryable && reason.contains("kube-scheduler is"),
        "{reason}"
    );
    // The kubelet does not come back.
    let worker = Node::new(false);
    worker.write("kubelet-is-down", "");
    let (retryable, reason) = worker.failure(&node()).await;
    assert!(
        retryable && reason.contains("the kubelet is not well"),
        "{reason}"
    );
    // It is upgraded, its restart was all that was missing: resumed.
    std::fs::remove_file(worker.path("kubelet-is-down")).unwrap();
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
}

#[tokio::test]
async fn only_upgrades_to_a_release_are_taken() {
    let cp = Node::new(true);
    let mut drain = member();
    drain.phase = Phase::Drain;
    let mut vague = member();
    vague.to = "v1.37".parse().unwrap();
    for action in [drain, vague] {
        let error = cp.driver.begin(&cx(), &action).await.unwrap_err();
        assert_eq!(error.kind, migrate_core::StepErrorKind::Invalid);
    }
    assert!(!cp.path("state").exists());
}

#[tokio::test]
async fn packages_and_images_are_looked_for_before_the_start() {
    let cp = Node::new(true);
    let target = "v1.37.2".parse().unwrap();
    let nodes = [CP.to_owned(), "elsewhere".to_owned()];
    let found = cp.driver.resolve(&nodes, &target).await;
    assert_eq!(found.nodes[CP]["kubelet"], "1.37.2-2.1");
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!(found.findings[0].code, "KM-KUBEADM-003");
    let unknown = "v1.38.0".parse().unwrap();
    let missing = cp.driver.resolve(&nodes[..1], &unknown).await.findings;
    let codes: Vec<String> = missing.into_iter().map(|f| f.code).collect();
    assert_eq!(codes, ["KM-KUBEADM-001"; 3]);

    cp.write("images", "r.local/kube-proxy:v1.37.2\n");
    cp.write(
        "pullable",
        "r.local/etcd:3.7\nr.local/kube-apiserver:v1.37.2\n",
    );
    let pulled = cp.driver.pre_pull(&nodes[..1], &target).await;
    assert_eq!(pulled.nodes[CP]["r.local/kube-proxy:v1.37.2"], "present");
    assert_eq!(pulled.nodes[CP]["r.local/etcd:3.7"], "pulled");
    let missing: Vec<&str> = pulled
        .findings
        .iter()
        .map(|f| f.evidence.as_str())
        .collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("r.local/coredns:v9"), "{missing:?}");
    // Nothing was installed for that.
    assert_eq!(cp.read("installed/kubeadm").trim(), "1.36.3-1.1");

    let worker = Node::new(false);
    worker.write("images", "r.local/kube-proxy:v1.37.2\nr.local/coredns:v9\n");
    let pulled = worker.driver.pre_pull(&nodes[..1], &target).await;
    assert!(pulled.is_ready(), "{:?}", pulled.findings);
}

#[test]
fn the_shell_text_is_well_formed() {
    let cp = Node::new(true);
    for (name, text) in [
        ("common", COMMON),
        ("packages", PACKAGES),
        ("control_plane", CONTROL_PLANE),
        ("node", NODE),
        ("roll_back", ROLL_BACK),
        ("look", LOOK),
        ("binaries", BINARIES),
        ("resolve", include_str!("resolve.sh")),
        ("images", include_str!("images.sh")),
        ("survey", survey::SURVEY),
        ("member", MEMBER),
        ("record", super::backups::RECORD),
        ("clean", super::backups::CLEAN),
        ("etcd", &etcd::script()),
    ] {
        check(&cp.path(name), text);
        assert!(!text.contains("KUBE_MIGRATE_END_OF_FILE"));
    }
    for action in [member(), node(), way_back::node_back()] {
        check(
            &cp.path("step"),
            cp.driver.step(&action).unwrap().script.text(),
        );
    }
}
