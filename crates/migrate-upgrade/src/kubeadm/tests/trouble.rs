//! Steps on nodes where something else is at work, or is wrong.

use super::*;
use crate::kubeadm::etcd::tests::said;

#[tokio::test]
async fn somebody_else_at_work_with_packages_is_waited_for() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("unfinished", "iU  kubeadm\n");
    worker.write("dpkg-is-busy", "");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("slept"), "2\n".repeat(3));

    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("lists-are-busy", "");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("slept"), "2\n".repeat(3));
    assert!(!worker.log().contains("apt-get update failed"));
}

/// dpkg has it under the old version while it unpacks the new one, and finishes nothing of
/// that by `--configure`.
#[tokio::test]
async fn a_package_whose_unpack_was_cut_off_is_installed() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("cut-off-kubelet", "");
    worker.write("cut-off-kubectl", "");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    for name in ["kubelet", "kubectl"] {
        assert!(!worker.path(&format!("cut-off-{name}")).exists());
        assert_eq!(worker.read(&format!("installed/{name}")), "1.37.2-2.1\n");
    }
}

/// What is held here is held by this test; the five minutes pass with each sleep.
#[test]
fn who_holds_a_lock_too_long_is_named_without_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let text = format!(
        "set -euo pipefail\n{COMMON}\n{PACKAGES}\nPACKAGE_LOCKS=(/does/not/exist \"$1\")\n\
         sleep() {{ SECONDS=$((SECONDS + 200)); }}\n\
         busy() {{ echo 'E: Could not get lock /x' >&2; return 100; }}\n\
         once_unlocked busy || echo \"code $?\"\necho \"other$(lock_holders)\"\n\
         program_of $$\n"
    );
    let run = |text: &str| {
        let output = std::process::Command::new("bash")
            .args(["-c", text, "-"])
            .arg(&lock)
            .output()
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (said(&output.stdout), said(&output.stderr))
    };
    let (out, told) = run(&text);
    let by = format!(
        "; {} is held by process {}",
        lock.display(),
        std::process::id()
    );
    assert!(out.starts_with("code 100\nother; "), "{out} {told}");
    assert!(out.contains(&by), "{out} {told}");
    let waited = format!("kube-migrate: waited for five minutes{by} (");
    assert!(told.contains(&waited), "{told}");
    drop(held);
    let (out, _) = run(&text);
    // Of `bash -c TEXT` nothing behind its option.
    assert_eq!(out, "code 100\nother\nbash\n");
}

#[tokio::test]
async fn what_runs_below_the_pods_is_not_finished_before_the_drain() {
    for half in ["iF  containerd\n", "iU  kubeadm\niW  runc\n"] {
        let cp = Node::new(true);
        cp.write("unfinished", half);
        let (retryable, reason) = cp.failure(&member()).await;
        let name = half.split_whitespace().last().unwrap();
        let says = format!("has left {name} half done");
        assert!(!retryable && reason.contains(&says), "{reason}");
        assert!(reason.contains("dpkg --configure -a"), "{reason}");
        assert!(cp.path("unfinished").exists());
        assert_eq!(cp.read("kubeadm-calls"), "");
    }
    // Others are finished, and all of them on a node that is drained.
    let cp = Node::new(true);
    cp.write("unfinished", "ii  containerd\niU  kubeadm\n");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let worker = Node::new(false);
    worker.write("unfinished", "iF  containerd\n");
    worker.write("cluster-version", "v1.37.2");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    for it in [cp, worker] {
        assert!(!it.path("unfinished").exists());
    }
}

/// Half done is also what somebody is just at; the lock is this test's.
#[test]
fn who_is_at_work_with_what_runs_below_the_pods_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let text = format!(
        "set -euo pipefail\n{COMMON}\n{PACKAGES}\nPACKAGE_LOCKS=(\"$1\")\n\
         sleep() {{ SECONDS=$((SECONDS + 200)); }}\n\
         dpkg-query() {{ echo 'iF  containerd'; }}\n\
         finish_interrupted \"$BEFORE_DRAIN_UNTOUCHED\"\n"
    );
    let run = || {
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["-c", &text, "-"]).arg(&lock).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let (code, told) = run();
    let says = format!(
        "error: somebody else is at work with packages; {} is held",
        lock.display()
    );
    assert!(code == Some(75) && told.contains(&says), "{code:?} {told}");
    drop(held);
    let (code, told) = run();
    assert!(
        code == Some(78) && told.contains("left containerd half"),
        "{code:?} {told}"
    );
}

#[tokio::test]
async fn an_empty_manifest_of_a_power_cut_is_a_lost_one() {
    let cp = Node::new(true);
    cp.write("kubeadm-fails", "power cut");
    cp.failure(&member()).await;
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    cp.manifests("v1.36.3");
    let manifest = "root/etc/kubernetes/manifests/kube-apiserver.yaml";
    let whole = cp.read(manifest);
    cp.write(
        "root/etc/kubernetes/tmp/kubeadm-backup-manifests-1/kube-apiserver.yaml",
        &whole,
    );
    cp.write(manifest, "");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert!(cp.log().contains("the manifest of kube-apiserver was lost"));
}

#[tokio::test]
async fn a_kubelet_is_not_restarted_over_an_etcd_that_got_unwell_meanwhile() {
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.manifests("v1.37.2");
    cp.write("etcd-is-ill", "https://10.0.0.2:2379 is unhealthy\n");
    let (retryable, reason) = cp.failure(&node()).await;
    assert!(
        retryable && reason.contains("10.0.0.2:2379 is unhealthy"),
        "{reason}"
    );
    assert_eq!(cp.read("systemctl-calls"), "");
    std::fs::remove_file(cp.path("etcd-is-ill")).unwrap();

    // The lead has come back to it, and goes again, to the one that is furthest.
    let own = 11_400_714_819_323_198_485;
    cp.etcd_of(&[(own, own, 7), (4, own, 7), (own + 1, own, 8)]);
    assert_eq!(cp.upgrade(&node()).await, DONE, "{}", cp.log());
    assert_eq!(moved_to(&cp), ["9e3779b97f4a7c16"]);
    assert_eq!(
        cp.read("systemctl-calls"),
        "daemon-reload\nrestart kubelet\n"
    );
}

/// Whom the lead was handed to.
fn moved_to(cp: &Node) -> Vec<String> {
    let moves = cp.read("etcd-moves");
    let moves = moves
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    moves.map(str::to_owned).collect()
}

/// What etcdctl 3.7.0 printed of three members, of which this node's leads, and a
/// learner that has applied as much.
#[tokio::test]
async fn a_learner_never_leads_and_is_not_asked_whether_it_is_well() {
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.write("etcd-members", include_str!("../etcd/recorded/members.txt"));
    let fields = include_str!("../etcd/recorded/status.txt");
    let manifest = "root/etc/kubernetes/manifests/etcd.yaml";
    let here = cp.read(manifest);
    cp.write(
        manifest,
        &here.replace("https://10.0.0.1:2379", "http://127.0.0.1:33701"),
    );
    // It is ahead of everybody.
    cp.write("etcd-fields", &learner_ahead(fields));
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let moved = moved_to(&cp);
    let voters = ["b5cfb4b33a06ff1", "b6451a7c240d6712"];
    assert!(
        moved.len() == 1 && voters.contains(&moved[0].as_str()),
        "{moved:?}"
    );
}

fn learner_ahead(fields: &str) -> String {
    let mut records: Vec<String> = fields.split("\n\n").map(str::to_owned).collect();
    for record in &mut records {
        if record.contains("\"IsLearner\" : true") {
            *record = record.replace("\"RaftAppliedIndex\" : ", "\"RaftAppliedIndex\" : 9");
        }
    }
    records.join("\n\n")
}

#[tokio::test]
async fn kubeadm_changes_no_member_that_the_others_could_not_do_without() {
    let bound = 7 + 1_000;
    let well = [(1, 2, bound), (2, 2, bound), (3, 2, 7)];
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    // How far this node's own is behind is no matter; another may be that much.
    cp.etcd_of(&[(1, 2, 0), well[1], well[2]]);
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());

    let unstarted = "\n4, unstarted, , https://peer, , false";
    type Case<'a> = (&'a [(u64, u64, u64)], &'a str, &'a str, bool, &'a str);
    let cases: [Case<'_>; 7] = [
        (
            &[well[0], well[1], (3, 2, 6)],
            "",
            "",
            true,
            "3 of etcd is 1001 entries behind; 1000",
        ),
        (
            &[(1, 2, 7), (2, 2, 7)],
            "",
            "",
            false,
            "1 of 2 voting members",
        ),
        (
            &[(1, 2, 7), (2, 2, 7), (3, 3, 7)],
            "",
            "",
            true,
            "do not agree on a leader",
        ),
        (
            &[(1, 0, 7), (2, 0, 7), (3, 0, 7)],
            "",
            "",
            true,
            "do not agree on a leader",
        ),
        (&well, unstarted, "", true, "the member 4 has not started"),
        (
            &well,
            "",
            "memberID:3 alarm:NOSPACE",
            false,
            "alarm: memberID:3 alarm:NOSPACE: cure its cause (NOSPACE: compact, defragment",
        ),
        (&[], "", "", true, "has not started"),
    ];
    for (members, added, alarm, retryable, says) in cases {
        let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
        cp.etcd_of(members);
        let list = cp.read("etcd-members");
        cp.write("etcd-members", &format!("{}{added}", list.trim_end()));
        cp.write("etcd-alarms", alarm);
        let (again, reason) = cp.failure(&member()).await;
        assert!(
            again == retryable && reason.contains(says),
            "{says}: {reason}"
        );
        assert_eq!(cp.read("kubeadm-calls"), "");
        assert_eq!(moved_to(&cp), [""; 0]);
    }
    // The check of health calls members with an alarm ill too. One that did not say
    // is asked again, and who is ill is told first.
    for (alarm, ill, retryable, says) in [
        ("memberID:3 alarm:CORRUPT", "2 is ill", false, "disarm"),
        ("", "2 is ill", true, "not every member of etcd is well: 2"),
        (
            "fails",
            "2 is ill",
            true,
            "not every member of etcd is well",
        ),
        ("fails", "", true, "does not say whether an alarm"),
    ] {
        let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
        match alarm {
            "fails" => cp.write("etcd-alarms/none", ""),
            alarm => cp.write("etcd-alarms", alarm),
        }
        if !ill.is_empty() {
            cp.write("etcd-is-ill", ill);
        }
        let (again, reason) = cp.failure(&member()).await;
        assert!(
            again == retryable && reason.contains(says),
            "{says}: {reason}"
        );
        assert_eq!(cp.read("kubeadm-calls"), "");
    }
    // Without this node's own id all three would be others: two do not do.
    for own in ["", "\"MemberID\" : 4"] {
        let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
        cp.etcd_of(&[(1, 2, 7), (2, 2, 7)]);
        let fields = cp.read("etcd-fields");
        cp.write("etcd-fields", &fields.replacen("\"MemberID\" : 1", own, 1));
        let (again, reason) = cp.failure(&member()).await;
        let says = "does not say which of the members it is";
        assert!(again && reason.contains(says), "{own}: {reason}");
        assert_eq!(cp.read("kubeadm-calls"), "");
    }
    // The only member has nobody to wait for.
    let cp = Node::new(true).with_etcd(&said(1, 1, &[7]));
    cp.etcd_of(&[(1, 1, 7)]);
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert_eq!(moved_to(&cp), [""; 0]);
}

#[tokio::test]
async fn nothing_is_installed_that_was_not_there() {
    let worker = Node::new(false);
    std::fs::remove_file(worker.path("installed/kubectl")).unwrap();
    worker.write("cluster-version", "v1.37.2");
    worker.write("available", "1.36.3-1.1\n1.37.2-1.1\n");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert!(!worker.path("installed/kubectl").exists());
    // And its way back needs none.
    let back = way_back::node_back();
    assert_eq!(worker.upgrade(&back).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("installed/kubelet").trim(), "1.36.3-1.1");
}

/// Whatever it says of it.
#[tokio::test]
async fn kubeadms_own_rollback_is_seen_by_the_manifests() {
    let cp = Node::new(true);
    cp.write("kubeadm-rolls-back", "kube-apiserver kube-scheduler");
    cp.write("kubeadm-fails", "Ein Fehler");
    let (retryable, reason) = cp.failure(&member()).await;
    for says in [
        "the old manifests of kube-apiserver, kube-scheduler back by itself (automatic rollback)",
        "kube-scheduler is r.local/kube-scheduler:v1.36.3",
    ] {
        assert!(retryable && reason.contains(says), "{reason}");
    }
    // What failed before it moved anything is none, and says what it was.
    let cp = Node::new(true);
    let said = "kubeadm has tried to recover everything into the earlier state";
    cp.write("kubeadm-fails", said);
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(retryable && reason.contains(said), "{reason}");
    assert!(!reason.contains("automatic rollback"), "{reason}");
    // Nor is one that changed a manifest and keeps the old one beside it.
    let cp = Node::new(true);
    cp.write("kubeadm-loses", "kube-scheduler");
    cp.write("kubeadm-fails", "stopped");
    cp.failure(&member()).await;
    cp.write(
        "root/etc/kubernetes/manifests/kube-scheduler.yaml",
        "  - image: r.local/kube-scheduler:v1.37.2\n",
    );
    let status = cp.driver.probe(&cx(), &member()).await.unwrap();
    let ActionStatus::Failed { reason, .. } = status else {
        panic!("{status:?}");
    };
    assert!(!reason.contains("automatic rollback"), "{reason}");
}

#[tokio::test]
async fn a_manifest_that_is_lost_in_kubeadms_own_rollback_is_named_and_comes_back() {
    let cp = Node::new(true);
    cp.write("kubeadm-loses", "kube-scheduler");
    cp.write(
        "kubeadm-fails",
        "rolled the state back to pre-upgrade state",
    );
    let (retryable, reason) = cp.failure(&member()).await;
    let says = "node cp-1: the manifest of kube-scheduler is lost";
    assert!(retryable && reason.starts_with(says), "{reason}");
    let backup = "tmp/kubeadm-backup-manifests-9/kube-scheduler.yaml and goes on";
    assert!(reason.contains(backup), "{reason}");
    // Without its backup nothing here brings it back.
    let tmp = cp.path("root/etc/kubernetes/tmp");
    std::fs::rename(&tmp, cp.path("away")).unwrap();
    let status = cp.driver.probe(&cx(), &member()).await.unwrap();
    let ActionStatus::Failed { retryable, reason } = status else {
        panic!("{status:?}");
    };
    assert!(!retryable && reason.contains("has no backup"), "{reason}");
    std::fs::rename(cp.path("away"), &tmp).unwrap();
    for file in ["kubeadm-loses", "kubeadm-fails"] {
        std::fs::remove_file(cp.path(file)).unwrap();
    }
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let log = cp.log();
    assert!(
        log.contains("the manifest of kube-scheduler was lost"),
        "{log}"
    );
}
