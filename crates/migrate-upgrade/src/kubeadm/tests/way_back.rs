//! The way back of a node, and what cannot go back.

use super::*;

/// The older release again.
pub(super) fn node_back() -> Action {
    let mut action = node();
    std::mem::swap(&mut action.from, &mut action.to);
    action.id = migrate_core::ActionId::new("back", &action.target, Phase::Upgrade);
    action
}

#[tokio::test]
async fn what_a_way_back_needs_is_saved_before_anything_changes() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("root/var/lib/kubelet/kubeadm-flags.env", "FLAGS=old\n");
    worker.write("kubelet-is-down", "");
    assert!(worker.failure(&node()).await.0);
    // The next attempt finds it changed already; what was saved stays.
    worker.write(
        "root/var/lib/kubelet/config.yaml",
        "healthzPort: 0\nnew: 1\n",
    );
    std::fs::remove_file(worker.path("kubelet-is-down")).unwrap();
    assert!(matches!(
        worker.upgrade(&node()).await,
        ActionStatus::Succeeded(_)
    ));
    let saved = std::process::Command::new("bash")
        .args(["-c", "cd \"$1\"/*/*/before && head *", "-"])
        .arg(worker.path("state"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&saved.stdout),
        "==> config.yaml <==\nhealthzPort: 0\n\n==> kubeadm-flags.env <==\nFLAGS=old\n\n\
         ==> packages <==\nkubeadm 1.36.3-1.1\nkubelet 1.36.3-1.1\nkubectl 1.36.3-1.1\n"
    );
}

/// `kubeadm upgrade` of a member writes the kubelet's configuration.
#[tokio::test]
async fn of_a_control_plane_node_it_is_saved_before_its_member_changes() {
    let cp = Node::new(true);
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let config = "root/var/lib/kubelet/config.yaml";
    cp.write(config, "healthzPort: 0\nnew: 1\n");
    assert_eq!(cp.upgrade(&node()).await, DONE, "{}", cp.log());
    cp.write("available", "1.36.3-1.1\n1.37.2-2.1\n");
    assert_eq!(cp.upgrade(&node_back()).await, DONE, "{}", cp.log());
    assert_eq!(cp.read(config), "healthzPort: 0\n");
}

/// The member was upgraded in a run that then ended; its node is in the next one.
#[tokio::test]
async fn what_a_run_before_has_saved_counts_until_the_kubelet_is_changed() {
    let cp = Node::new(true);
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let config = "root/var/lib/kubelet/config.yaml";
    let written = "healthzPort: 0\nnew: 1\n";
    cp.write(config, written);
    let in_run = |run: &'static str, action: Action| {
        let cp = &cp;
        async move { cp.upgrade_in(&cx_of(run, 3), &action).await }
    };
    assert_eq!(in_run("run 'y'", node()).await, DONE, "{}", cp.log());
    cp.write("available", "1.36.3-1.1\n1.37.2-2.1\n");
    assert_eq!(in_run("run 'y'", node_back()).await, DONE, "{}", cp.log());
    assert_eq!(cp.read(config), "healthzPort: 0\n");

    // Its kubelet was changed: the next run finds what is there now.
    cp.write(config, "healthzPort: 0\nedited: 1\n");
    assert_eq!(in_run("run 'z'", node()).await, DONE, "{}", cp.log());
    cp.write(config, written);
    assert_eq!(in_run("run 'z'", node_back()).await, DONE, "{}", cp.log());
    assert_eq!(cp.read(config), "healthzPort: 0\nedited: 1\n");
}

#[tokio::test]
async fn nothing_goes_back_without_its_packages() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    let config = "root/var/lib/kubelet/config.yaml";
    worker.write(config, "healthzPort: 0\nnew: 1\n");
    // The repository of the old minor was replaced by that of the new one.
    worker.write("available", "1.37.2-2.1\n");
    let (retryable, reason) = worker.failure(&node_back()).await;
    assert!(
        !retryable && reason.contains("apt has no kubelet of version 1.36.3"),
        "{reason}"
    );
    assert_eq!(worker.read(config), "healthzPort: 0\nnew: 1\n");
    assert_eq!(worker.read("installed/kubelet").trim(), "1.37.2-2.1");
}

#[tokio::test]
async fn a_node_goes_back_to_what_was_saved() {
    for is_control_plane in [false, true] {
        let it = Node::new(is_control_plane);
        it.write("cluster-version", "v1.37.2");
        if is_control_plane {
            it.manifests("v1.37.2");
            it.write("installed/kubeadm", "1.37.2-1.1");
        }
        it.write("available", "1.36.3-1.1\n1.36.3-9.9\n1.37.2-1.1\n");
        assert_eq!(it.upgrade(&node()).await, DONE, "{}", it.log());
        let kubelet = "root/var/lib/kubelet";
        it.write(
            &format!("{kubelet}/config.yaml"),
            "healthzPort: 0\nnew: 1\n",
        );
        it.write(&format!("{kubelet}/kubeadm-flags.env"), "FLAGS=new\n");

        assert_eq!(it.upgrade(&node_back()).await, DONE, "{}", it.log());
        // The very revision, not the newest one.
        let kubeadm = if is_control_plane {
            "1.37.2-1.1"
        } else {
            "1.36.3-1.1"
        };
        for (package, version) in [
            ("kubeadm", kubeadm),
            ("kubelet", "1.36.3-1.1"),
            ("kubectl", "1.36.3-1.1"),
        ] {
            assert_eq!(it.read(&format!("installed/{package}")).trim(), version);
        }
        assert_eq!(
            it.read(&format!("{kubelet}/config.yaml")),
            "healthzPort: 0\n"
        );
        // There was none before.
        assert!(!it.path(&format!("{kubelet}/kubeadm-flags.env")).exists());
        assert_eq!(it.read("held"), "kubeadm\nkubelet\n");
        assert!(it.read("systemctl-calls").ends_with("restart kubelet\n"));
        // And forward again, in a run of its own.
        let mut again = node();
        again.id = migrate_core::ActionId::new("again", &again.target, Phase::Upgrade);
        assert_eq!(it.upgrade(&again).await, DONE, "{}", it.log());
    }
}

#[tokio::test]
async fn without_what_was_saved_nothing_is_touched() {
    let worker = Node::new(false);
    worker.write("installed/kubelet", "1.37.2-1.1");
    let (retryable, reason) = worker.failure(&node_back()).await;
    assert!(
        !retryable && reason.contains("nothing is saved"),
        "{reason}"
    );
    assert_eq!(worker.read("installed/kubelet").trim(), "1.37.2-1.1");

    let cp = Node::new(true);
    let mut back = member();
    std::mem::swap(&mut back.from, &mut back.to);
    let error = cp.driver.begin(&cx(), &back).await.unwrap_err();
    assert_eq!(error.kind, migrate_core::StepErrorKind::Invalid);
    assert!(error.to_string().contains("restore the backup"), "{error}");
}

#[test]
fn undo_names_the_point_of_no_return() {
    let text = |from: &str, to: &str| {
        let mut action = member();
        (action.from, action.to) = (from.parse().unwrap(), to.parse().unwrap());
        Kubeadm::undo(&action).to_string()
    };
    let crossing = text("v1.36.3", "v1.37.2");
    assert!(crossing.starts_with("POINT OF NO RETURN: etcd's storage goes from 3.6 to 3.7"));
    assert!(text("v1.35.1", "v1.36.3").starts_with("undo: "));
    assert!(text("v1.37.1", "v1.37.2").starts_with("undo: "));
    assert!(text("v1.98.0", "v1.99.0").starts_with("POINT OF NO RETURN"));
    assert!(Kubeadm::undo(&node()).to_string().contains("1.36.3"));
    assert_eq!(
        Kubeadm::undo(&node_back()).to_string(),
        "undo: upgrade cp-1 again"
    );
}
