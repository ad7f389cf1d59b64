//! Cleaning up what kubeadm has put aside.

use super::*;
use crate::Cleaned;

const RUN: &str = "run 'x'";
const TMP: &str = "root/etc/kubernetes/tmp";
const LATER: &str = "99999999999";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A control plane that was upgraded at ten o'clock, and the time is much later.
async fn upgraded() -> Node {
    let cp = Node::new(true);
    for kind in ["backup-manifests", "backup-etcd"] {
        cp.write(&format!("{TMP}/kubeadm-{kind}-2025-01-01-10-00-00/x"), "");
    }
    cp.write(&format!("{TMP}/kubeadm-upgraded-manifests123/x"), "");
    cp.write("kubeadm-backs-up", "2026-11-28-10-00-00");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    cp.write("clock", LATER);
    cp
}

/// Somebody else's upgrade after it.
fn upgrade_again(cp: &Node) {
    cp.write(
        &format!("{TMP}/kubeadm-backup-manifests-2026-12-01-10-00-00/x"),
        "",
    );
}

async fn clean(cp: &Node, run: &str, epoch: u64) -> Cleaned {
    let fence = Fence::new("cleaner", epoch);
    let runs = [run.to_owned()];
    cp.driver
        .clean_backups(&[CP.to_owned()], &fence, &runs, DAY)
        .await
}

fn left(cp: &Node) -> usize {
    std::fs::read_dir(cp.path(TMP)).unwrap().count()
}

#[tokio::test]
async fn only_a_run_s_own_go_and_never_the_newest() {
    let cp = upgraded().await;
    let cleaned = clean(&cp, RUN, 3).await;
    assert_eq!(cleaned.findings, []);
    assert!(cleaned.removed.is_empty(), "{cleaned:?}");
    let kept: Vec<&str> = cleaned.kept[CP]
        .iter()
        .map(|(_, why)| why.as_str())
        .collect();
    assert_eq!(kept, ["it is the newest, the only way back here"; 2]);

    upgrade_again(&cp);
    let cleaned = clean(&cp, RUN, 3).await;
    assert_eq!(
        cleaned.removed[CP],
        ["kubeadm-backup-manifests-2026-11-28-10-00-00"]
    );
    // Of etcd there is no newer one; what others made is theirs.
    assert_eq!(
        cleaned.kept[CP][0].0,
        "kubeadm-backup-etcd-2026-11-28-10-00-00"
    );
    assert_eq!(left(&cp), 5);
    // A second time there is nothing to do.
    assert!(clean(&cp, RUN, 3).await.removed.is_empty());
}

#[tokio::test]
async fn young_ones_and_those_of_other_runs_stay() {
    let cp = upgraded().await;
    upgrade_again(&cp);
    let cleaned = clean(&cp, "another", 3).await;
    assert_eq!(cleaned, Cleaned::default());
    cp.write("clock", "0");
    let cleaned = clean(&cp, RUN, 3).await;
    assert!(cleaned.removed.is_empty(), "{cleaned:?}");
    assert_eq!(cleaned.kept[CP][0].1, "it is too young");
}

#[tokio::test]
async fn what_a_failed_step_has_put_aside_stays() {
    let cp = Node::new(true);
    cp.write("kubeadm-backs-up", "2026-11-28-10-00-00");
    cp.write("kubeadm-fails", "power cut");
    cp.failure(&member()).await;
    upgrade_again(&cp);
    cp.write("clock", LATER);
    assert_eq!(clean(&cp, RUN, 3).await, Cleaned::default());
    assert_eq!(left(&cp), 3);
    // Done at last, its first attempt's are its own too.
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    cp.write("kubeadm-backs-up", "2026-11-28-11-00-00");
    std::fs::remove_dir_all(cp.path(&format!(
        "{TMP}/kubeadm-backup-manifests-2026-12-01-10-00-00"
    )))
    .unwrap();
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let cleaned = clean(&cp, RUN, 3).await;
    let first = ["kubeadm-backup-etcd", "kubeadm-backup-manifests"];
    let expected = first.map(|kind| format!("{kind}-2026-11-28-10-00-00"));
    assert_eq!(cleaned.removed[CP], expected);
}

#[tokio::test]
async fn names_that_are_none_of_kubeadm_s_lead_nowhere() {
    let cp = upgraded().await;
    upgrade_again(&cp);
    std::fs::write(record_of(&cp), "../manifests\n..\n/\n\nkubeadm-*\n*\n").unwrap();
    assert_eq!(clean(&cp, RUN, 3).await, Cleaned::default());
    assert_eq!(left(&cp), 6);
    assert!(cp.path("root/etc/kubernetes/manifests").exists());
}

/// An action may have put nothing aside, and who cleans by hand may have left nothing that
/// has its time in its name.
#[tokio::test]
async fn no_name_is_not_the_name_of_their_folder() {
    let cp = upgraded().await;
    let record = record_of(&cp);
    assert_eq!(cp.upgrade(&node()).await, DONE, "{}", cp.log());
    assert_eq!(
        record_of(&cp),
        record,
        "the second one has put nothing aside"
    );
    for entry in std::fs::read_dir(cp.path(TMP)).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("kubeadm-upgraded-manifests123") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    std::fs::write(&record, "\n").unwrap();
    assert_eq!(clean(&cp, RUN, 3).await, Cleaned::default());
    assert_eq!(left(&cp), 1);
}

/// The only record of what an action has put aside.
fn record_of(cp: &Node) -> String {
    let record = std::process::Command::new("bash")
        .args(["-c", "ls \"$1\"/*/*/backups", "-"])
        .arg(cp.path("state"))
        .output()
        .unwrap();
    String::from_utf8(record.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_superseded_cleaner_and_one_beside_a_step_do_nothing() {
    let cp = upgraded().await;
    upgrade_again(&cp);
    let old = clean(&cp, RUN, 2).await;
    assert_eq!(old.findings[0].code, "KM-KUBEADM-027");
    assert!(old.findings[0].evidence.contains("epoch 2"), "{old:?}");
    let held = std::fs::File::create(cp.path("state/step.lock")).unwrap();
    held.lock().unwrap();
    let busy = clean(&cp, RUN, 3).await;
    assert!(busy.findings[0].evidence.contains("going on"), "{busy:?}");
    assert_eq!(left(&cp), 6);
}
