//! The way back of a node, and what cannot go back.

use migrate_core::{ClusterId, ClusterModel, Pod, PodId};

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

/// apt fetches nothing beside them, and a kubelet that is only unpacked is the new one.
#[tokio::test]
async fn packages_that_were_left_half_done_are_finished_before_it() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    worker.write("available", "1.36.3-1.1\n1.37.2-2.1\n");
    worker.write("unfinished", "iU  kubelet\n");
    assert_eq!(worker.upgrade(&node_back()).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("installed/kubelet"), "1.36.3-1.1\n");
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
    // It is known of, and cannot be had now.
    worker.write("available", "1.36.3-1.1\n1.37.2-2.1\n");
    worker.write("repository-is-away", "");
    let (retryable, reason) = worker.failure(&node_back()).await;
    assert!(
        retryable && reason.contains("could not fetch kubelet=1.36.3-1.1"),
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

/// A cluster in which these components show as static pods of the member.
fn cluster(components: &[&str]) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    for component in components {
        let id = PodId::new("kube-system", format!("{component}-{CP}"), *component);
        let mut pod = Pod::new(id, CP);
        pod.mirror = true;
        pod.labels.insert("component".into(), (*component).into());
        model.pods.push(pod);
    }
    model
}

#[test]
fn undo_names_the_point_of_no_return() {
    let stacked = cluster(&["kube-apiserver", "etcd"]);
    let text = |from: &str, to: &str, model: &ClusterModel| {
        let mut action = member();
        (action.from, action.to) = (from.parse().unwrap(), to.parse().unwrap());
        Kubeadm::undo(&action, model).to_string()
    };
    // Where nothing shows, the worse of the two counts.
    for model in [&stacked, &cluster(&[]), &cluster(&["etcd"])] {
        let crossing = text("v1.36.3", "v1.37.2", model);
        let lost = "POINT OF NO RETURN: etcd's storage goes from 3.6 to 3.7";
        assert!(crossing.starts_with(lost), "{crossing}");
    }
    assert!(text("v1.35.1", "v1.36.3", &stacked).starts_with("undo: "));
    assert!(text("v1.37.1", "v1.37.2", &stacked).starts_with("undo: "));
    assert!(text("v1.98.0", "v1.99.0", &stacked).starts_with("POINT OF NO RETURN"));
    assert!(
        Kubeadm::undo(&node(), &stacked)
            .to_string()
            .contains("1.36.3")
    );
    assert_eq!(
        Kubeadm::undo(&node_back(), &stacked).to_string(),
        "undo: upgrade cp-1 again"
    );
}

/// A kubelet that has just been restarted, or etcd is elsewhere: who cannot tell them
/// apart must not promise a way back.
#[test]
fn an_etcd_that_does_not_show_leaves_a_point_of_no_return_and_is_said() {
    let not_known = "not known: no etcd shows as a static pod now; look again";
    let told = |model: &ClusterModel| Kubeadm::undo(&member(), model).to_string();
    let lost = |model: &ClusterModel, is_unseen: bool| {
        let told = told(model);
        assert!(told.starts_with("POINT OF NO RETURN: etcd's"), "{told}");
        assert_eq!(told.contains(not_known), is_unseen, "{told}");
    };
    let mut model = cluster(&["kube-apiserver", "etcd"]);
    lost(&model, false);
    // That of another member is one too.
    model.pods[1].node = Some("cp-2".into());
    lost(&model, false);
    // A pod of somebody's own that calls itself so is none.
    model.pods[1].mirror = false;
    lost(&model, true);
    lost(&cluster(&["kube-apiserver"]), true);
    // Where etcd's storage stays there is a way back, whatever shows.
    let mut action = member();
    action.from = "v1.37.1".parse().unwrap();
    let told = Kubeadm::undo(&action, &cluster(&["kube-apiserver"])).to_string();
    assert!(told.starts_with("undo: on cp-1, move"), "{told}");
    assert!(
        told.ends_with("one that is external is not touched"),
        "{told}"
    );
}
