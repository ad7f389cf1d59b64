use std::sync::Arc;

use migrate_core::steps::{BaselineNode, BaselineWorkload, StepInput, Verdict, VerifyScope};
use migrate_core::{ClusterId, ClusterModel, KubeVersion, Moment, Node, Policy, Role};

use super::*;
use crate::compare;

/// What a test changes in the observation before and in the one after.
type Change = fn(&mut Baseline, &mut Baseline);

fn at(second: u64) -> Moment {
    Moment::from_millis(1_795_000_000_000 + second * 1000)
}

fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

fn proxy() -> WorkloadId {
    WorkloadId::new("DaemonSet", SYSTEM, "kube-proxy")
}

fn dns() -> WorkloadId {
    WorkloadId::new("Deployment", SYSTEM, "coredns")
}

/// A settled cluster at `second`: one control-plane node and two workers whose
/// kubelets renewed 4 s ago, the leaders 1 s ago; up since `since`.
fn cluster(kubernetes: &str, second: u64, since: u64) -> Baseline {
    let mut state = Baseline::default();
    state.server_time = Some(at(second));
    state.control_plane_since = Some(at(since));
    state.control_plane_ready = true;
    state
        .control_plane
        .insert("cp".to_owned(), version(kubernetes));
    for leader in ["kube-controller-manager", "kube-scheduler"] {
        let lease = BaselineLease::new("cp_1", at(second - 1), 15);
        state.leaders.insert(leader.to_owned(), lease);
    }
    for name in ["cp", "w1", "w2"] {
        let mut node = BaselineNode::new(true, version(kubernetes));
        node.daemons = vec![format!("{SYSTEM}/kube-proxy"), "shop/agent".to_owned()];
        node.lease = Some(BaselineLease::new(name, at(second - 4), 40));
        state.nodes.insert(name.to_owned(), node);
    }
    let agent = WorkloadId::new("DaemonSet", "shop", "agent");
    state.workloads = vec![
        BaselineWorkload::new(proxy(), 3, 3),
        BaselineWorkload::new(agent, 3, 3),
        BaselineWorkload::new(dns(), 2, 2),
    ];
    state.rollouts = vec![
        BaselineRollout::done(proxy(), 3),
        BaselineRollout::done(dns(), 2),
    ];
    state
}

fn node<'a>(state: &'a mut Baseline, name: &str) -> &'a mut BaselineNode {
    state.nodes.get_mut(name).unwrap()
}

fn verdict(scope: &VerifyScope, change: Change) -> Verdict {
    let mut before = cluster("v1.36.3", 100, 50);
    let mut now = cluster("v1.37.2", 1000, 900);
    change(&mut before, &mut now);
    judged(scope, &before, &now)
}

fn judged(scope: &VerifyScope, before: &Baseline, now: &Baseline) -> Verdict {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    model.nodes = vec![Node::new("cp", version("v1.36.3"))];
    model.nodes[0].role = Role::ControlPlane;
    let input = StepInput::new(
        Arc::new(model),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    compare(&input, scope, before, now)
}

/// Code and object of everything that is waited for.
fn waits(scope: &VerifyScope, change: Change) -> Vec<String> {
    named(verdict(scope, change))
}

fn named(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Pending { missing, .. } => missing
            .into_iter()
            .map(|finding| format!("{} {}", finding.code, finding.object))
            .collect(),
        Verdict::Pass { .. } => Vec::new(),
        verdict => panic!("{verdict:?}"),
    }
}

fn member() -> VerifyScope {
    VerifyScope::ControlPlane {
        member: "cp".into(),
    }
}

fn kubelet_of(node: &str) -> VerifyScope {
    VerifyScope::Node { node: node.into() }
}

#[test]
fn where_only_the_quiet_is_missing_the_next_look_is_at_its_end() {
    let after = |change: Change| match verdict(&member(), change) {
        Verdict::Pending { retry_after, .. } => retry_after.as_secs(),
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(after(|_, now| now.control_plane_since = Some(at(970))), 30);
    let also_a_rollout: Change = |_, now| {
        now.control_plane_since = Some(at(970));
        now.rollouts[0].available = 2;
    };
    assert_eq!(after(also_a_rollout), 2);
}

#[test]
fn each_thing_that_has_not_settled_is_named() {
    let table: &[(&str, Change, &[&str])] = &[
        ("settled", |_, _| {}, &[]),
        (
            "the leader was ended; its Lease is still good",
            |_, now| {
                now.server_time = Some(at(970));
                now.leaders.get_mut("kube-scheduler").unwrap().renewed = at(899);
                now.leaders
                    .get_mut("kube-scheduler")
                    .unwrap()
                    .duration_seconds = 90;
            },
            &["KM-VERIFY-009 Lease kube-system/kube-scheduler"],
        ),
        (
            "the leader stopped renewing after the return",
            |_, now| {
                now.leaders
                    .get_mut("kube-controller-manager")
                    .unwrap()
                    .renewed = at(984);
            },
            &["KM-VERIFY-009 Lease kube-system/kube-controller-manager"],
        ),
        (
            "the leader's Lease is gone",
            |_, now| now.leaders.clear(),
            &[
                "KM-VERIFY-009 Lease kube-system/kube-controller-manager",
                "KM-VERIFY-009 Lease kube-system/kube-scheduler",
            ],
        ),
        (
            "a rollout is not seen by its controller",
            |_, now| now.rollouts[0].observed = false,
            &["KM-VERIFY-010 DaemonSet kube-system/kube-proxy"],
        ),
        (
            "a DaemonSet has pods of the old template",
            |_, now| now.rollouts[0].updated = 2,
            &["KM-VERIFY-010 DaemonSet kube-system/kube-proxy"],
        ),
        (
            "a DaemonSet has a pod that is not available",
            |_, now| now.rollouts[0].available = 2,
            &["KM-VERIFY-010 DaemonSet kube-system/kube-proxy"],
        ),
        (
            "DNS has a pod that is not available",
            |_, now| now.rollouts[1].available = 1,
            &["KM-VERIFY-010 Deployment kube-system/coredns"],
        ),
        (
            "a worker is without kube-proxy while the counts read zero",
            |_, now| {
                now.rollouts[0].desired = 0;
                node(now, "w2").daemons.remove(0);
            },
            &["KM-VERIFY-003 Node w2"],
        ),
        (
            "a kubelet has not renewed since the return",
            |_, now| {
                now.server_time = Some(at(961));
                for lease in now.leaders.values_mut() {
                    lease.renewed = at(960);
                }
                node(now, "w1").lease.as_mut().unwrap().duration_seconds = 90;
                node(now, "w1").lease.as_mut().unwrap().renewed = at(900);
            },
            &["KM-VERIFY-011 Lease kube-node-lease/w1"],
        ),
        (
            "a kubelet stopped renewing after the return",
            |_, now| node(now, "w1").lease.as_mut().unwrap().renewed = at(959),
            &["KM-VERIFY-011 Lease kube-node-lease/w1"],
        ),
        (
            "a kubelet's Lease cannot be seen",
            |_, now| node(now, "w2").lease = None,
            &["KM-VERIFY-011 Lease kube-node-lease/w2"],
        ),
        (
            "no API server shows, and the kubelet has not renewed since the baseline",
            |before, now| {
                now.control_plane_since = None;
                before.server_time = Some(at(1000));
                node(before, "w1").lease.as_mut().unwrap().renewed = at(996);
            },
            &["KM-VERIFY-011 Lease kube-node-lease/w1"],
        ),
        (
            "the control plane came back just now",
            |_, now| now.control_plane_since = Some(at(941)),
            &["KM-VERIFY-012 ControlPlane all members"],
        ),
        (
            "its API server is not Ready",
            |_, now| {
                now.unready_members.insert("cp".to_owned());
            },
            &["KM-VERIFY-006 ControlPlane cp"],
        ),
        (
            "/readyz does not answer ok",
            |_, now| now.control_plane_ready = false,
            &["KM-VERIFY-006 ControlPlane cp"],
        ),
    ];
    for (name, change, expected) in table {
        assert_eq!(&waits(&member(), *change), expected, "{name}");
        assert_eq!(&waits(&kubelet_of("cp"), *change), expected, "{name}");
    }
}

#[test]
fn a_worker_is_judged_without_the_rest_of_the_cluster() {
    let shaken: Change = |_, now| {
        now.control_plane_since = Some(at(999));
        now.leaders.clear();
        now.rollouts[0].available = 1;
        node(now, "w1").lease = None;
        node(now, "w1").daemons.clear();
    };
    assert!(waits(&kubelet_of("w2"), shaken).is_empty());
    assert!(waits(&kubelet_of("cp"), shaken).len() > 4);
}

#[test]
fn what_was_not_so_before_is_not_asked_for() {
    let table: &[(&str, Change)] = &[
        ("no leader election", |before, now| {
            before.leaders.clear();
            now.leaders.clear();
        }),
        ("a Lease left over from before", |before, now| {
            before.leaders.get_mut("kube-scheduler").unwrap().renewed = at(10);
            now.leaders.get_mut("kube-scheduler").unwrap().renewed = at(10);
        }),
        ("no right to read Leases", |before, now| {
            before.leaders.clear();
            now.leaders.clear();
            for state in [before, now] {
                for node in state.nodes.values_mut() {
                    node.lease = None;
                }
            }
        }),
        ("a kubelet whose clock is far behind", |before, now| {
            node(before, "w1").lease.as_mut().unwrap().renewed = at(3);
            node(now, "w1").lease.as_mut().unwrap().renewed = at(700);
        }),
        ("an API that does not tell its time", |before, now| {
            before.server_time = None;
            now.server_time = None;
            now.control_plane_since = Some(at(999));
            for node in now.nodes.values_mut() {
                node.lease = None;
            }
        }),
        ("a node that is not Ready", |before, now| {
            node(before, "w1").ready = false;
            node(now, "w1").ready = false;
            node(now, "w1").lease.as_mut().unwrap().renewed = at(60);
        }),
        ("a node that is gone", |_, now| {
            now.nodes.remove("w1");
        }),
        (
            "a rollout that was as far as now, with a node down",
            |before, now| {
                before.rollouts[0].available = 2;
                before.rollouts[0].updated = 2;
                now.rollouts[0].available = 2;
                now.rollouts[0].updated = 2;
            },
        ),
        (
            "a pod of the old template on a node that is down since before",
            |before, now| {
                for state in [&mut *before, &mut *now] {
                    node(state, "w2").ready = false;
                    state.rollouts[0].available = 2;
                }
                now.rollouts[0].updated = 2;
            },
        ),
        (
            "a rollout that a pod that was not available holds up",
            |before, now| {
                for state in [&mut *before, &mut *now] {
                    state.rollouts[0].available = 2;
                    state.rollouts[0].at_once = Some(1);
                }
                now.rollouts[0].updated = 0;
            },
        ),
        ("a DaemonSet that was deleted", |_, now| {
            now.rollouts.remove(0);
            now.workloads.remove(0);
            for node in now.nodes.values_mut() {
                node.daemons.remove(0);
            }
        }),
        ("an agent that is not the cluster's own", |_, now| {
            node(now, "w1").daemons.pop();
        }),
        ("a node that someone else works on", |_, now| {
            node(now, "w1").unschedulable = true;
            node(now, "w1").daemons.clear();
            now.rollouts[0].available = 2;
        }),
        ("DNS scaled down", |_, now| {
            now.rollouts[1] = BaselineRollout::done(dns(), 1);
        }),
    ];
    for (name, change) in table {
        let passed = verdict(&member(), *change);
        assert!(matches!(passed, Verdict::Pass { .. }), "{name}: {passed:?}");
    }
}

#[test]
fn a_rollout_that_is_held_up_passes_with_a_note() {
    let held_up: Change = |before, now| {
        before.rollouts[0].available = 2;
        now.rollouts[0].available = 2;
        now.rollouts[0].at_once = Some(1);
        now.rollouts[0].updated = 0;
    };
    match verdict(&member(), held_up) {
        Verdict::Pass { notes } => assert_eq!(notes[0].code, "KM-VERIFY-018"),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn what_holds_up_a_rollout_excuses_it_only_while_it_is_so() {
    let proxy = ["KM-VERIFY-010 DaemonSet kube-system/kube-proxy"];
    let table: &[(&str, Change)] = &[
        ("it is available again", |before, now| {
            before.rollouts[0].available = 2;
            now.rollouts[0].at_once = Some(1);
        }),
        ("more may be taken at once", |before, now| {
            before.rollouts[0].available = 2;
            now.rollouts[0].available = 2;
            now.rollouts[0].at_once = Some(2);
        }),
        ("it was available before", |_, now| {
            now.rollouts[0].available = 2;
            now.rollouts[0].at_once = Some(1);
        }),
        ("the node is Ready again", |before, _| {
            node(before, "w2").ready = false;
        }),
    ];
    for (name, change) in table {
        let mut before = cluster("v1.36.3", 100, 50);
        let mut now = cluster("v1.37.2", 1000, 900);
        now.rollouts[0].updated = 2;
        change(&mut before, &mut now);
        assert_eq!(named(judged(&member(), &before, &now)), proxy, "{name}");
    }
}

#[test]
fn a_rollout_that_gets_on_is_progress_and_its_end_is_not_less() {
    let progress = |change: Change| match verdict(&member(), change) {
        Verdict::Pending { progress, .. } => progress,
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(progress(|_, now| now.rollouts[0].updated = 1), 1 + 2);
    assert_eq!(progress(|_, now| now.rollouts[0].updated = 2), 2 + 2);
    let unseen: Change = |_, now| now.rollouts[0].observed = false;
    assert_eq!(progress(unseen), 2, "its count is of the spec before");
    assert_eq!(
        progress(|_, now| now.leaders.clear()),
        0,
        "none is waited for"
    );
}

#[test]
fn a_node_in_flight_excuses_only_its_own_pod() {
    let waited = waits(&member(), |_, now| {
        node(now, "w1").unschedulable = true;
        now.rollouts[0].available = 1;
    });
    assert_eq!(waited, ["KM-VERIFY-010 DaemonSet kube-system/kube-proxy"]);
}

#[test]
fn a_baseline_of_an_older_journal_is_read_and_asks_for_what_it_knew() {
    let old = r#"{
        "takenAt": "2026-11-22T22:00:00.000Z",
        "controlPlane": { "cp": "v1.36.3" }, "controlPlaneReady": true,
        "nodes": { "cp": { "ready": true, "unschedulable": false,
                           "kubeletVersion": "v1.36.3",
                           "daemons": ["kube-system/kube-proxy"] } },
        "workloads": [] }"#;
    let old: Baseline = serde_json::from_str(old).unwrap();
    let mut now = cluster("v1.37.2", 1000, 900);
    now.leaders.clear();
    let input = StepInput::new(
        Arc::new(ClusterModel::new(ClusterId::new("c"), Moment::EPOCH)),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    assert_eq!(compare(&input, &member(), &old, &now), Verdict::passed());
    assert_eq!(
        compare(&input, &kubelet_of("cp"), &old, &now),
        Verdict::passed()
    );
    let whole = cluster("v1.36.3", 100, 50);
    let text = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), whole);
}
