//! What the upgrade of the members makes anew has left their nodes before they are drained.

use std::time::Duration;

use migrate_core::cost::PhaseDurations;
use migrate_core::{ClusterModel, Phase, Policy, Taint, TaintEffect, WorkloadId};
use migrate_plan::Planner;

use crate::support::{Cluster, NEW, linted, version};
use crate::took;

const DNS: &str = "dns";
/// A node without pods is marked and looked at: 2 s. A pod waits 1 s, stops in 7, and
/// its replacement is ready after 13.
const EMPTY: Duration = Duration::from_secs(2);
const ONE: Duration = Duration::from_secs(2 + 1 + 20);
const TWO_IN_TURN: Duration = Duration::from_secs(2 + 1 + 2 * 20);

/// Two pods of a Deployment without a budget of its own, as kubeadm leaves `CoreDNS`: both
/// on the first node there was.
fn kubeadm(workers: usize) -> Cluster {
    let dns = ["control-plane-1"; 2];
    Cluster::new()
        .member("control-plane-1")
        .pool("control-plane", 1)
        .pool("general", workers)
        .deployment(DNS, &dns)
}

/// Predicted drains of the nodes, without and with that knowledge, in whole seconds.
fn drains<const N: usize>(model: &ClusterModel, nodes: [&str; N]) -> [(Duration, Duration); N] {
    let policy = Policy::default();
    let planner =
        Planner::new(model, &policy, version(NEW)).with_durations(PhaseDurations::kubeadm());
    let plain = planner.plan().unwrap();
    let dns = WorkloadId::new("Deployment", "shop", DNS);
    let told = planner.with_renewed([dns]).plan().unwrap();
    assert_eq!(told.id, plain.id, "only times differ");
    let (plain, told) = (linted(plain, model, &policy), linted(told, model, &policy));
    let whole = |plan, node| Duration::from_secs(took(plan, node, Phase::Drain).as_secs());
    nodes.map(|node| (whole(&plain, node), whole(&told, node)))
}

#[test]
fn what_is_made_anew_with_the_member_is_not_waited_for_on_its_node() {
    let found = drains(&kubeadm(2).build(), ["control-plane-1", "general-1"]);
    assert_eq!(found, [(TWO_IN_TURN, EMPTY), (EMPTY, EMPTY)]);
}

#[test]
fn everything_else_on_a_node_is_waited_for() {
    let other = kubeadm(2).deployment("web", &["control-plane-1", "general-1"]);
    let other = other.deployment("api", &["general-2"; 2]);
    let nodes = ["control-plane-1", "general-1", "general-2"];
    let expected = [(TWO_IN_TURN, ONE), (ONE, ONE), (TWO_IN_TURN, TWO_IN_TURN)];
    assert_eq!(drains(&other.build(), nodes), expected);
}

#[test]
fn without_a_member_to_upgrade_pods_stay_where_they_are() {
    let done = kubeadm(2).change(|model| model.control_plane[0].version = version(NEW));
    let found = drains(&done.build(), ["control-plane-1"]);
    assert_eq!(found, [(TWO_IN_TURN, TWO_IN_TURN)]);
}

#[test]
fn some_stay_where_there_are_fewer_workers_than_pods() {
    let cordoned = kubeadm(2).node("general-1", |node| node.unschedulable = true);
    let tainted = kubeadm(2).node("general-1", |node| {
        node.taints.push(Taint {
            key: "dedicated".to_owned(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        });
    });
    for cluster in [kubeadm(1), cordoned, tainted] {
        let found = drains(&cluster.build(), ["control-plane-1"]);
        assert_eq!(found, [(TWO_IN_TURN, TWO_IN_TURN)]);
    }
}

#[test]
fn pods_on_workers_are_waited_for_there() {
    let cluster = Cluster::new()
        .member("control-plane-1")
        .pool("control-plane", 1)
        .pool("general", 2)
        .deployment(DNS, &["general-1"; 2]);
    let found = drains(&cluster.build(), ["control-plane-1", "general-1"]);
    assert_eq!(found, [(EMPTY, EMPTY), (TWO_IN_TURN, TWO_IN_TURN)]);
}
