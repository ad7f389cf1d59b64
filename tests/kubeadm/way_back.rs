//! Runs that are ended for good in the middle, and nodes that go back, each by
//! the program.

use migrate_core::Phase;
use migrate_testbed::Node;
use tokio::time::Instant;

use crate::kills::{API_SERVER_SWAPPED, KUBELET_CHANGED};
use crate::lane::has_kubeadm;
use crate::real::program::Ended;
use crate::rig::{Place, Rig, Sign};
use crate::{BEFORE, TARGET, figure};

const CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The kubelet's configuration of every node.
pub(crate) async fn configs(rig: &Rig) -> Vec<String> {
    let mut found = Vec::new();
    for index in 0..rig.cluster.nodes().len() {
        found.push(config(rig, index).await);
    }
    found
}

/// After a whole run: a worker, another one while the first is old again, and
/// the kubelet of the control plane's node, of which the rest stays.
pub(crate) async fn nodes_go_back(rig: &mut Rig, configs: &[String]) {
    take_back(rig, 2, &configs[2]).await;
    assert_eq!(rig.kubelets().await, [TARGET, TARGET, BEFORE]);
    take_back(rig, 1, &configs[1]).await;
    assert_eq!(rig.kubelets().await, [TARGET, BEFORE, BEFORE]);
    take_back(rig, 0, &configs[0]).await;
    assert_eq!(rig.kubelets().await, [BEFORE; 3]);
    let version = rig.cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);
    nothing_but_versions_went_back(rig).await;
}

/// In the step of the control plane: it is brought to its end, and that is all.
pub(crate) async fn abort_in_the_control_plane(rig: &mut Rig) {
    let sign = Sign::Step(Place::Member(0), API_SERVER_SWAPPED);
    rig.comes_to("the swap of the API server", sign).await;
    abort(rig, "member").await;
    assert_eq!(rig.kubelets().await, [BEFORE; 3]);
    let version = rig.cluster.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);
}

/// In the drain of a worker, with the control plane and its node done: it is
/// given back as it was.
pub(crate) async fn abort_in_a_drain(rig: &mut Rig) {
    rig.goes().await;
    let sign = Sign::Leaving(Place::Worker(0));
    rig.comes_to("the drain of a worker", sign).await;
    abort(rig, "drain").await;
    assert_eq!(rig.kubelets().await, [TARGET, BEFORE, BEFORE]);
}

/// In the step of the run's first worker: it is brought to its end and given
/// back. It may go back itself then, for no run is open.
pub(crate) async fn abort_in_a_kubelet(rig: &mut Rig, configs: &[String]) {
    rig.goes().await;
    let place = Place::Worker(0);
    let sign = Sign::Step(place, KUBELET_CHANGED);
    rig.comes_to("the kubelet of a worker", sign).await;
    let name = rig.node(place).unwrap().name().to_owned();
    abort(rig, "kubelet").await;
    let nodes = rig.cluster.nodes().iter();
    let is_done = |node: &Node| node.is_control_plane() || node.name() == name;
    let expected = nodes.map(|node| if is_done(node) { TARGET } else { BEFORE });
    assert_eq!(rig.kubelets().await, expected.collect::<Vec<_>>());
    let index = rig.cluster.nodes().iter().position(|it| it.name() == name);
    let index = index.unwrap();
    take_back(rig, index, &configs[index]).await;
    assert_eq!(rig.kubelets().await, [TARGET, BEFORE, BEFORE]);
    nothing_but_versions_went_back(rig).await;
}

/// Ends the runner under way and aborts its run.
async fn abort(rig: &mut Rig, name: &str) {
    rig.kill().await;
    let began = Instant::now();
    let ended = rig.run(&["abort"]).await;
    figure(
        &format!("way-back.abort-{name}"),
        began.elapsed().as_secs_f64(),
        "s",
    );
    is_well(rig, &ended).await;
    let said = ended.said();
    assert!(said.contains("outcome    aborted"), "{said}");
    let go_on = format!("To go on with all of it: upgrade --to {TARGET}");
    assert!(said.contains(&go_on), "{said}");
    rig.journal.read();
    let was_verified = rig.has_begun(Phase::Verify, Place::Worker(0));
    assert_eq!(was_verified, name == "kubelet", "{said}");
}

/// Takes the node of an index back, with the packages and the configuration
/// that it had.
async fn take_back(rig: &Rig, index: usize, config_before: &str) {
    let node = &rig.cluster.nodes()[index];
    let began = Instant::now();
    let ended = rig.run(&["rollback", node.name(), "--to", BEFORE]).await;
    figure(
        &format!("way-back.rollback-{}", node.name()),
        began.elapsed().as_secs_f64(),
        "s",
    );
    is_well(rig, &ended).await;
    assert_eq!(config(rig, index).await, config_before);
    let expected = if node.is_control_plane() {
        TARGET
    } else {
        BEFORE
    };
    has_kubeadm(node, expected).await;
}

/// That versions went back is all there is to be seen.
async fn nothing_but_versions_went_back(rig: &mut Rig) {
    let broken = rig.broken_rules().await;
    println!("{broken:#?}");
    assert!(broken.iter().all(|rule| rule.starts_with("I6")));
}

/// Ended well, and nothing is left of it in the cluster.
async fn is_well(rig: &Rig, ended: &Ended) {
    println!("{}", ended.said());
    assert!(ended.status.success(), "{}\n{}", ended.said(), rig.log());
    rig.is_given_back().await;
}

async fn config(rig: &Rig, index: usize) -> String {
    let output = rig.cluster.nodes()[index].run(&["cat", CONFIG]).await;
    String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
}
