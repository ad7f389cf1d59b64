//! What kubeadm has put aside on the nodes, and what `upgrade clean` removes of it; part
//! of `plain.rs`.

use std::collections::BTreeSet;

use migrate_testbed::Node;

use crate::figure;
use crate::real::program::Ended;
use crate::rig::Rig;

/// Where kubeadm keeps it.
const ASIDE: &str = "/etc/kubernetes/tmp";
/// Of an upgrade before the one that is tried, one of each kind.
const OLDER: [&str; 3] = [
    "kubeadm-backup-etcd-2025-01-01-10-00-00",
    "kubeadm-backup-manifests-2025-01-01-10-00-00",
    "kubeadm-kubelet-config-2025-01-01-10-00-00",
];
/// And of one after all.
const NEWER: [&str; 2] = [
    "kubeadm-backup-etcd-2099-01-01-10-00-00",
    "kubeadm-backup-manifests-2099-01-01-10-00-00",
];

/// Somebody has upgraded these nodes before.
pub(crate) async fn put_older_aside(rig: &Rig) {
    for node in rig.cluster.nodes() {
        put_aside(node, &OLDER).await;
    }
}

/// A run that has not come to its end.
pub(crate) async fn is_refused_of_an_unfinished_run(rig: &Rig) {
    let before = all_aside(rig).await;
    let ended = rig.run(&["clean", "--keep", "0s"]).await;
    assert!(!ended.status.success(), "{}", ended.said());
    assert!(ended.err.contains("is not over"), "{}", ended.said());
    assert_eq!(all_aside(rig).await, before);
}

/// The first run has upgraded all nodes, and the last one the worker of an index once
/// more, after it had gone back. What they have put aside goes, but for the newest.
pub(crate) async fn only_its_own_but_the_newest_go(rig: &Rig, index: usize) {
    let found = all_aside(rig).await;
    println!("put aside: {found:#?}");
    let keep = async |keep: &str| {
        let ended = rig.run(&["clean", "--keep", keep]).await;
        println!("clean --keep {keep}: {}", ended.said());
        ended
    };
    let rehearsed = rig.run(&["clean", "--dry-run"]).await;
    assert!(!rehearsed.status.success(), "{}", rehearsed.said());
    // It says from when on they may go.
    let young = keep("24h").await;
    assert!(young.status.success(), "{}", young.said());
    let kept = "and --keep lets its folders go from ";
    assert_eq!(young.out.matches(kept).count(), 3, "{}", young.said());
    assert!(young.out.contains("no run in"), "{}", young.said());
    assert_eq!(all_aside(rig).await, found);

    // Only the worker has something newer than what the first run put aside there.
    let worker = &rig.cluster.nodes()[index];
    let is_of_kubelet = |name: &&String| name.starts_with("kubeadm-kubelet-config-");
    let of_kubelet: Vec<&String> = found[index].iter().filter(is_of_kubelet).collect();
    let [older, first, .., newest] = of_kubelet[..] else {
        panic!("two upgrades have put the kubelet's configuration aside: {of_kubelet:?}");
    };
    assert_eq!(older, OLDER[2]);
    // By the worker's own clock it was a moment ago, whatever the journal says.
    set_recorded(worker, "1 hour").await;
    let ended = keep("0s").await;
    assert_eq!(removed(&ended), BTreeSet::new(), "{}", ended.said());
    assert!(ended.out.contains("it is too young"), "{}", ended.said());
    assert_eq!(all_aside(rig).await, found);
    set_recorded(worker, "1 second ago").await;

    let ended = keep("0s").await;
    assert!(ended.status.success(), "{}", ended.said());
    let expected = [(worker.name().to_owned(), first.clone())];
    assert_eq!(removed(&ended), BTreeSet::from(expected));
    assert!(ended.out.contains(&format!("{newest}: it is the newest")));
    let mut left = found.clone();
    left[index].remove(first);
    assert_eq!(all_aside(rig).await, left);

    // With what a later upgrade has put aside, the member's may go too.
    let member = &rig.cluster.nodes()[0];
    put_aside(member, &NEWER).await;
    let ended = keep("0s").await;
    assert!(ended.status.success(), "{}", ended.said());
    let is_of_member =
        |name: &&String| name.starts_with("kubeadm-backup-") && !OLDER.contains(&name.as_str());
    let of_member: BTreeSet<String> = left[0].iter().filter(is_of_member).cloned().collect();
    assert_eq!(of_member.len(), 2, "{of_member:?}");
    let node = || member.name().to_owned();
    let expected = of_member.iter().map(|name| (node(), name.clone()));
    assert_eq!(removed(&ended), expected.collect::<BTreeSet<_>>());
    left[0].retain(|name| !of_member.contains(name));
    left[0].extend(NEWER.map(str::to_owned));
    assert_eq!(all_aside(rig).await, left);
    figure("cleaned.folders", (1 + of_member.len()) as f64, "1");

    // There is nothing more to be done, and the cluster is none the worse.
    assert_eq!(removed(&keep("0s").await), BTreeSet::new());
    assert_eq!(all_aside(rig).await, left);
    rig.is_given_back().await;
}

async fn put_aside(node: &Node, names: &[&str]) {
    for name in names {
        let file = format!("{ASIDE}/{name}/kept");
        let script = format!("mkdir -p \"{ASIDE}/{name}\"\necho kept > \"{file}\"");
        node.script(&script).await.unwrap();
    }
}

/// What lies aside, by the order of the nodes.
async fn all_aside(rig: &Rig) -> Vec<BTreeSet<String>> {
    let mut found = Vec::new();
    for node in rig.cluster.nodes() {
        let said = node.run(&["ls", ASIDE]).await.unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        found.push(said.lines().map(str::to_owned).collect());
    }
    found
}

/// When the steps of a node have recorded what they had put aside, as `date` reads it.
async fn set_recorded(node: &Node, when: &str) {
    let script = format!("touch -d '{when}' /var/lib/kube-migrate/*/*/backups");
    node.script(&script).await.unwrap();
}

/// Node and name of what is said to be gone.
fn removed(ended: &Ended) -> BTreeSet<(String, String)> {
    let words = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let is_removed = words.next().as_deref() == Some("removed");
        is_removed.then_some((words.next()?, words.next()?))
    };
    ended.out.lines().filter_map(words).collect()
}
