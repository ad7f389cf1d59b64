//! Nodes without packages of Kubernetes: the program upgrades their plain
//! programs, takes one back and forward again, and mixes with nobody's packages. All of
//! that under a policy with more than the ordinary one has (`gates.rs`); in the end what
//! kubeadm has put aside is removed (`cleaned.rs`).

use migrate_testbed::Node;

use crate::gates::Gates;
use crate::rig::Rig;
use crate::run::POLICY;
use crate::{BEFORE, TARGET, cleaned};

/// Where the programs of a version lie on every node, with their checksums.
const PLACE: &str = "/srv/plain/{version}/{name}";

/// What the packages installed stays, and belongs to nobody any more: programs in
/// `/usr/local/bin`, a unit of the administrator's own. Beside it lies what the
/// packages of the newer release would bring. Arguments: its version.
const UNPACK: &str = r#"
    names=(kubeadm kubelet kubectl)
    for name in "${names[@]}"; do cp "/usr/bin/$name" "/usr/local/bin/$name"; done
    cp -r /usr/lib/systemd/system/kubelet.service* /etc/systemd/system/
    sed -i 's#/usr/bin/kubelet#/usr/local/bin/kubelet#' /etc/systemd/system/kubelet.service{,.d/*}
    dpkg --purge --force-depends --force-hold "${names[@]}"
    systemctl daemon-reload
    systemctl enable --quiet kubelet
    systemctl restart kubelet

    new=/srv/plain/$1
    mkdir -p "$new"
    for name in "${names[@]}"; do
        dpkg-deb -x "/srv/testbed/packages/${name}_$1-1.1_amd64.deb" /srv/plain/unpacked
        mv "/srv/plain/unpacked/usr/bin/$name" "$new/"
        sha256sum "$new/$name" | cut -d ' ' -f 1 > "$new/$name.sha256"
    done
    rm -r /srv/plain/unpacked
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twelve minutes; part of cargo xtask extended"]
async fn programs_without_packages_are_upgraded_and_go_back() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    // Packages are left alone by who was told to bring programs.
    let ended = rig
        .run(&["check", "--to", TARGET, "--binaries", PLACE])
        .await;
    let said = ended.said();
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains("KM-KUBEADM-031"), "{said}");

    for node in rig.cluster.nodes() {
        unpack(node).await;
    }
    rig.is_given_back().await;
    rig.broken_rules().await;

    cleaned::put_older_aside(&rig).await;
    let gates = Gates::set(&mut rig, &["--to", TARGET, "--binaries", PLACE]).await;
    let ended = gates.run(&mut rig).await;
    println!("{}", ended.said());
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    assert_eq!(rig.kubelets().await, [TARGET; 3]);
    let version = rig.cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);
    for node in rig.cluster.nodes() {
        assert_eq!(versions(node).await, [TARGET; 3], "{}", node.name());
    }
    rig.is_given_back().await;
    gates.were_kept(&rig, &ended).await;
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());

    rig.set_policy(POLICY);
    let worker = &rig.cluster.nodes()[2];
    let back = [
        "rollback",
        worker.name(),
        "--to",
        BEFORE,
        "--binaries",
        PLACE,
    ];
    let ended = rig.run(&back).await;
    println!("{}", ended.said());
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    assert_eq!(rig.kubelets().await, [TARGET, TARGET, BEFORE]);
    assert_eq!(versions(worker).await, [BEFORE; 3]);
    rig.is_given_back().await;

    let ended = rig.run(&["--to", TARGET, "--binaries", PLACE]).await;
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    assert_eq!(rig.kubelets().await, [TARGET; 3]);
    cleaned::only_its_own_but_the_newest_go(&rig, 2).await;
}

async fn unpack(node: &Node) {
    let script = ["bash", "-euo", "pipefail", "-c", UNPACK, "unpack"];
    let version = TARGET.trim_start_matches('v');
    node.run(&[&script[..], &[version]].concat()).await.unwrap();
}

/// What the programs say themselves: kubeadm, kubelet, kubectl.
async fn versions(node: &Node) -> Vec<String> {
    let script = "kubeadm version -o short\nkubelet --version | cut -d ' ' -f 2\n\
                  kubectl version --client | sed -n 's/^Client Version: //p'";
    let said = node.script(script).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.lines().map(str::to_owned).collect()
}
