//! What is handed on to kubeadm.

use super::*;

impl Node {
    fn with(self, change: impl FnOnce(Kubeadm) -> Kubeadm) -> Self {
        let driver = change(self.driver.clone());
        Self { driver, ..self }
    }
}

#[tokio::test]
async fn phases_and_patches_are_handed_on_as_they_are() {
    let phases = ["addon/coredns", "upload-config/kubeadm", "bootstrap-token"];
    let odd = "/etc/patches of $(touch pwned) `id`";
    let options = |driver: Kubeadm| driver.with_skipped_phases(phases).with_patches(odd);
    for (is_first, action, calls) in [
        (
            true,
            member(),
            "upgrade apply -y v1.37.2 --skip-phases=addon/coredns,upload-config/kubeadm,bootstrap-token",
        ),
        // kubeadm refuses a phase it does not have.
        (false, member(), "upgrade node --skip-phases=addon/coredns"),
        (false, node(), "upgrade node --skip-phases=addon/coredns"),
    ] {
        let is_member = matches!(action.target, Target::ControlPlane { .. });
        let it = Node::new(is_member).with(options);
        let folder = it.path(&format!("root{odd}"));
        std::fs::create_dir_all(&folder).unwrap();
        if !is_first {
            it.write("cluster-version", "v1.37.2");
        }
        assert_eq!(it.upgrade(&action).await, DONE, "{}", it.log());
        let patches = folder.display();
        assert_eq!(
            it.read("kubeadm-calls"),
            format!("{calls} --patches={patches}\n")
        );
    }
}

#[tokio::test]
async fn a_node_without_the_folder_of_patches_is_not_touched() {
    for (is_member, action) in [(true, member()), (false, node())] {
        let it = Node::new(is_member).with(|driver| driver.with_patches("/etc/patches"));
        let (retryable, reason) = it.failure(&action).await;
        assert!(
            !retryable && reason.contains("/etc/patches is not on"),
            "{reason}"
        );
        assert_eq!(it.read("kubeadm-calls"), "");
        assert_eq!(it.read("installed/kubeadm").trim(), "1.36.3-1.1");
        let target = "v1.37.2".parse().unwrap();
        let nodes = [CP.to_owned()];
        let found = it.driver.survey(&nodes, &target, &|| Moment::EPOCH).await;
        assert!(
            found.iter().any(|f| f.code == "KM-KUBEADM-026"),
            "{found:?}"
        );
    }
}

#[test]
fn a_core_dns_of_another_release_is_made_anew_unless_its_phase_is_skipped() {
    let renews = |skipped: &[&str], from: &str, to: &str| {
        let node =
            Node::new(true).with(|driver| driver.with_skipped_phases(skipped.iter().copied()));
        let renewed = node
            .driver
            .renews(&from.parse().unwrap(), &to.parse().unwrap());
        renewed.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let dns = ["Deployment kube-system/coredns"];
    assert_eq!(renews(&[], "v1.36.3", "v1.37.2"), dns);
    assert_eq!(renews(&["bootstrap-token"], "v1.36.3", "v1.37.2"), dns);
    for (skipped, from, to) in [
        (&["addon/coredns"][..], "v1.36.3", "v1.37.2"),
        (&["addon"][..], "v1.36.3", "v1.37.2"),
        (&[][..], "v1.37.1", "v1.37.2"),
        // What it brings is not known.
        (&[][..], "v1.37.2", "v1.99.0"),
    ] {
        assert_eq!(
            renews(skipped, from, to),
            [""; 0],
            "{skipped:?} {from} {to}"
        );
    }
}
