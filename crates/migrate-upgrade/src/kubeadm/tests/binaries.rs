//! Nodes without packages.

use super::way_back::node_back;
use super::*;

const NEW_KUBELET: &str = "#!/bin/bash\necho 'Kubernetes v1.37.2'\n";
const NEW_KUBEADM: &str = "#!/bin/bash\nw=${0%/bin/*}\ncase $1 in version) echo v1.37.2 ;; \
                           *) echo \"$*\" >> \"$w/kubeadm-calls\" ;; esac\n";

/// A worker for which the programs of the target lie in `srv`, and where apt is
/// of no use.
fn worker() -> Node {
    let node = Node::new(false);
    let place = format!("{}/{{version}}/{{name}}", node.path("srv").display());
    let driver = node.driver.clone().with_binaries(place.parse().unwrap());
    node.write("apt-fails", "");
    node.write("cluster-version", "v1.37.2");
    node.offer("kubelet", NEW_KUBELET);
    node.offer("kubeadm", NEW_KUBEADM);
    Node { driver, ..node }
}

impl Node {
    fn offer(&self, name: &str, text: &str) {
        let name = format!("srv/1.37.2/{name}");
        self.write(&name, text);
        let sum = std::process::Command::new("sha256sum")
            .arg(self.path(&name))
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        self.write(&format!("{name}.sha256"), &sum);
    }

    async fn resolved(&self) -> Vec<(String, String)> {
        let target = "v1.37.2".parse().unwrap();
        let nodes = [CP.to_owned()];
        let findings = self.driver.resolve(&nodes, &target).await.findings;
        let findings = findings.into_iter();
        findings.map(|found| (found.code, found.evidence)).collect()
    }
}

#[tokio::test]
async fn programs_are_verified_put_in_place_and_taken_back() {
    let it = worker();
    let old = (it.read("bin/kubelet"), it.read("bin/kubeadm"));
    assert_eq!(it.resolved().await, []);
    assert_eq!(
        it.read("bin/kubelet"),
        old.0,
        "nothing that runs is changed"
    );
    // What was verified before the start is there when its source is not.
    std::fs::remove_dir_all(it.path("srv")).unwrap();
    assert_eq!(it.upgrade(&node()).await, DONE, "{}", it.log());
    assert_eq!(it.read("bin/kubelet"), NEW_KUBELET);
    assert_eq!(it.read("bin/kubeadm"), NEW_KUBEADM);
    assert_eq!(it.read("kubeadm-calls"), "upgrade node\n");
    assert_eq!(
        it.read("systemctl-calls"),
        "daemon-reload\nrestart kubelet\n"
    );
    assert_eq!(it.read("state/binaries/1.36.3/kubelet"), old.0);

    assert_eq!(it.upgrade(&node_back()).await, DONE, "{}", it.log());
    assert_eq!((it.read("bin/kubelet"), it.read("bin/kubeadm")), old);
}

#[tokio::test]
async fn a_program_without_its_checksum_is_not_used() {
    let it = worker();
    let old = it.read("bin/kubelet");
    it.write("srv/1.37.2/kubelet", &format!("{NEW_KUBELET}echo more\n"));
    let found = it.resolved().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "KM-KUBEADM-030");
    assert!(found[0].1.contains("has the checksum"), "{found:?}");
    let (_, reason) = it.failure(&node()).await;
    assert!(reason.contains("has the checksum"), "{reason}");
    assert_eq!(it.read("bin/kubelet"), old);
    assert_eq!(it.read("systemctl-calls"), "");

    std::fs::remove_file(it.path("srv/1.37.2/kubelet.sha256")).unwrap();
    let found = it.resolved().await;
    assert!(
        found[0].1.contains("kubelet.sha256 is missing"),
        "{found:?}"
    );
    // One that was verified, and is another now.
    let it = worker();
    assert_eq!(it.resolved().await, []);
    it.write("state/binaries/1.37.2/kubelet", "torn");
    std::fs::remove_dir_all(it.path("srv")).unwrap();
    assert_eq!(it.resolved().await.len(), 1);
}

#[tokio::test]
async fn packages_and_plain_programs_are_not_mixed() {
    let it = worker();
    let old = it.read("bin/kubelet");
    let place = it.path("bin/kubelet");
    it.write(&format!("installed/{}", place.display()), "kubelet");
    let found = it.resolved().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "KM-KUBEADM-031");
    assert_eq!(surveyed(&it).await, ["KM-KUBEADM-031"]);
    let (retryable, reason) = it.failure(&node()).await;
    assert!(
        !retryable && reason.contains("belongs to the package"),
        "{reason}"
    );
    assert_eq!(it.read("bin/kubelet"), old);

    let it = Node::new(false);
    assert_eq!(it.resolved().await, []);
    std::fs::remove_file(it.path("installed/kubelet")).unwrap();
    let found = it.resolved().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "KM-KUBEADM-031");
    assert_eq!(surveyed(&it).await, ["KM-KUBEADM-031"]);
}

/// The codes of what a look at the node finds.
async fn surveyed(node: &Node) -> Vec<String> {
    let (nodes, target) = ([CP.to_owned()], "v1.37.2".parse().unwrap());
    let found = node.driver.survey(&nodes, &target, &|| Moment::EPOCH).await;
    found.into_iter().map(|finding| finding.code).collect()
}
