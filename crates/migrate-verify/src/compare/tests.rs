use std::sync::Arc;

use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, Moment, Node, Pod, PodId, Policy,
    Role, Workload,
};
use proptest::prelude::*;

use super::*;
use crate::baseline;

fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

fn pod(kind: &str, workload: &str, name: &str, node: &str) -> Pod {
    let mut pod = Pod::new(PodId::new("shop", name, name), node);
    pod.workload = Some(WorkloadId::new(kind, "shop", workload).into());
    pod.controller = Some(
        ControllerRef {
            group: "apps".into(),
            kind: kind.into(),
            name: workload.into(),
            uid: "u".into(),
        }
        .into(),
    );
    pod
}

/// Two nodes with an agent each and three replicas of `web`.
fn cluster(at: &str) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    model.control_plane = vec![ControlPlaneMember::new("cp", version(at))];
    model.nodes = vec![Node::new("a", version(at)), Node::new("b", version(at))];
    model.workloads = vec![
        Workload::new(WorkloadId::new("DaemonSet", "shop", "agent"), 2),
        Workload::new(WorkloadId::new("Deployment", "shop", "web"), 3),
    ];
    model.pods = vec![
        pod("DaemonSet", "agent", "agent-a", "a"),
        pod("DaemonSet", "agent", "agent-b", "b"),
        pod("Deployment", "web", "web-1", "a"),
        pod("Deployment", "web", "web-2", "a"),
        pod("Deployment", "web", "web-3", "b"),
    ];
    model.sort();
    model
}

fn codes(scope: &VerifyScope, now: &ClusterModel, ready: bool) -> Vec<String> {
    let before = cluster("v1.36.3");
    let input = StepInput::new(
        Arc::new(before.clone()),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    let verdict = compare(
        &input,
        scope,
        &baseline(&before, true),
        &baseline(now, ready),
    );
    match verdict {
        Verdict::Pending { missing: found, .. } | Verdict::Fail { findings: found } => {
            found.into_iter().map(|finding| finding.code).collect()
        }
        _ => Vec::new(),
    }
}

/// [`codes`], and of what passes the notes.
fn said(scope: &VerifyScope, now: &ClusterModel, ready: bool) -> Vec<String> {
    let before = cluster("v1.36.3");
    let input = StepInput::new(
        Arc::new(before.clone()),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    let (before, seen) = (baseline(&before, true), baseline(now, ready));
    match compare(&input, scope, &before, &seen) {
        Verdict::Pass { notes } => {
            let notes = notes.into_iter();
            notes.map(|note| format!("note {}", note.code)).collect()
        }
        _ => codes(scope, now, ready),
    }
}

#[test]
fn a_cluster_that_arrived_whole_passes() {
    assert!(codes(&VerifyScope::cluster(), &cluster("v1.37.2"), true).is_empty());
    assert!(codes(&VerifyScope::cluster(), &cluster("v1.37.2+k3s1"), true).is_empty());
}

#[test]
fn each_loss_has_its_code() {
    let ask = |change: fn(&mut ClusterModel)| {
        let mut now = cluster("v1.37.2");
        change(&mut now);
        now.sort();
        codes(&VerifyScope::cluster(), &now, true)
    };
    assert_eq!(
        ask(|m| m.nodes[0].kubelet_version = version("v1.36.3")),
        ["KM-VERIFY-001"]
    );
    assert_eq!(ask(|m| m.nodes[0].ready = false), ["KM-VERIFY-002"]);
    assert_eq!(
        ask(|m| m.pods[0].ready = false),
        ["KM-VERIFY-003", "KM-VERIFY-004"],
        "the node misses its agent and the DaemonSet has one fewer"
    );
    assert_eq!(ask(|m| m.pods[4].ready = false), ["KM-VERIFY-004"]);
    assert_eq!(
        ask(|m| m.control_plane[0].version = version("v1.36.3")),
        ["KM-VERIFY-005"]
    );
    assert_eq!(ask(|m| m.nodes[1].unschedulable = true), ["KM-VERIFY-007"]);
    let whole = cluster("v1.37.2");
    assert_eq!(
        codes(&VerifyScope::cluster(), &whole, false),
        ["KM-VERIFY-006"]
    );
}

#[test]
fn a_node_is_judged_without_its_cordon_and_its_workloads_apart() {
    let node = VerifyScope::Node { node: "b".into() };
    let workloads = VerifyScope::workloads_of("b");
    let mut now = cluster("v1.37.2");
    now.nodes[1].unschedulable = true;
    now.pods.retain(|pod| pod.id.name != "web-3");
    assert!(codes(&node, &now, true).is_empty());
    assert_eq!(codes(&workloads, &now, true), ["KM-VERIFY-004"]);
    now.nodes.pop();
    assert_eq!(codes(&node, &now, true), ["KM-VERIFY-008"]);
}

#[test]
fn workloads_that_a_drain_displaced_are_judged_with_its_node() {
    let displaced = WorkloadId::new("Deployment", "shop", "web");
    let mut before = cluster("v1.36.3");
    // Nothing of it was on the node when the run was planned.
    before.pods.retain(|pod| pod.id.name != "web-3");
    let input = StepInput::new(Arc::new(before), Arc::default(), version("v1.37.2"));
    let mut now = cluster("v1.37.2");
    now.pods[4].ready = false;
    let whole = baseline(&cluster("v1.36.3"), true);
    let ask = |displaced: &[&WorkloadId]| {
        let scope = VerifyScope::WorkloadsOf {
            node: "b".into(),
            displaced: displaced.iter().map(|id| (*id).clone()).collect(),
        };
        compare(&input, &scope, &whole, &baseline(&now, true))
    };
    let Verdict::Pending { missing, .. } = ask(&[&displaced]) else {
        panic!("it misses a pod");
    };
    assert_eq!(missing[0].code, "KM-VERIFY-004");
    assert_eq!(
        ask(&[]),
        Verdict::passed(),
        "control: it was not asked about"
    );
    let later = WorkloadId::new("Deployment", "shop", "made-during-the-run");
    assert_eq!(ask(&[&later]), Verdict::passed());
}

/// What is said at the end of a cluster of `nodes`, in which these were
/// replaced by those, and these were given up in the middle.
fn at_the_end(nodes: &[&str], replaced: &[(&str, &[&str])], held: &[&str]) -> Vec<String> {
    let mut now = cluster("v1.37.2");
    now.nodes = nodes
        .iter()
        .map(|name| Node::new(*name, version("v1.37.2")))
        .collect();
    // Their pods found room elsewhere: only the node is asked for.
    for pod in &mut now.pods {
        let daemon = pod.is_daemon();
        pod.node = Some(nodes[usize::from(daemon && pod.id.name == "agent-b")].to_owned());
    }
    now.sort();
    let replaced = replaced
        .iter()
        .map(|(old, new)| {
            let new = new.iter().map(|&name| name.to_owned()).collect();
            ((*old).to_owned(), new)
        })
        .collect();
    let held = held.iter().map(|&name| name.to_owned()).collect();
    said(&VerifyScope::Cluster { replaced, held }, &now, true)
}

#[test]
fn a_node_that_is_gone_at_the_end_is_missed_unless_others_came_in_its_place() {
    let plainly = |nodes: &[&str], replaced: &[(&str, &[&str])]| at_the_end(nodes, replaced, &[]);
    assert_eq!(plainly(&["a", "c"], &[]), ["note KM-VERIFY-019"]);
    assert!(plainly(&["a", "c"], &[("b", &["c"])]).is_empty());
    assert!(plainly(&["a", "c", "d"], &[("b", &["c", "d"])]).is_empty());
    assert_eq!(
        plainly(&["a", "c"], &[("b", &["c", "d"])]),
        ["KM-VERIFY-008"],
        "of what came one is gone again"
    );
    assert_eq!(
        plainly(&["b", "c"], &[("b", &["c"])]),
        ["note KM-VERIFY-019"],
        "another one is gone"
    );
    assert!(
        plainly(&["a", "b", "c"], &[("b", &["c"])]).is_empty(),
        "not deleted yet"
    );
}

/// Nobody may believe that all is done: of one that a driver made, its upgrade failed.
#[test]
fn a_node_that_came_meanwhile_at_an_older_version_stops_the_run_and_is_told_as_such() {
    let before = cluster("v1.36.3");
    let mut now = cluster("v1.37.2");
    now.nodes.push(Node::new("c", version("v1.36.3")));
    now.nodes.push(Node::new("d", version("v1.37.2")));
    now.sort();
    let model = Arc::new(before.clone());
    let input = StepInput::new(model, Arc::new(Policy::default()), version("v1.37.2"));
    let (before, now) = (baseline(&before, true), baseline(&now, true));
    let said = |replaced: &[(&str, &str)]| {
        let replaced = replaced.iter();
        let replaced = replaced.map(|(old, new)| ((*old).to_owned(), [(*new).to_owned()].into()));
        let (replaced, held) = (replaced.collect(), BTreeSet::new());
        let scope = VerifyScope::Cluster { replaced, held };
        let verdict = compare(&input, &scope, &before, &now);
        let Verdict::Pending { missing, .. } = verdict else {
            panic!("{verdict:?}");
        };
        let [finding] = &missing[..] else {
            panic!("{missing:?}");
        };
        assert_eq!(
            (&*finding.code, finding.object.name.as_str()),
            ("KM-VERIFY-001", "c")
        );
        finding.to_string()
    };
    let came = said(&[]);
    let evidence = "it came after the plan was made, and its kubelet is v1.36.3, not v1.37.2";
    assert!(came.contains(evidence) && came.contains("abort"), "{came}");
    let made = said(&[("b", "c")]);
    assert!(
        !made.contains("came") && made.contains("kubelet's unit"),
        "{made}"
    );
}

#[test]
fn a_node_that_is_gone_stops_the_run_if_it_was_in_hand_or_of_the_control_plane() {
    assert_eq!(at_the_end(&["a", "c"], &[], &["b"]), ["KM-VERIFY-008"]);
    assert_eq!(
        at_the_end(&["a", "c"], &[], &["a"]),
        ["note KM-VERIFY-019"],
        "that is another one"
    );
    let mut before = cluster("v1.36.3");
    before.nodes[1].role = Role::ControlPlane;
    let mut now = cluster("v1.37.2");
    now.nodes.pop();
    now.pods.retain(|pod| pod.node.as_deref() == Some("a"));
    let model = Arc::new(before.clone());
    let input = StepInput::new(model, Arc::new(Policy::default()), version("v1.37.2"));
    let (before, now) = (baseline(&before, true), baseline(&now, true));
    let verdict = compare(&input, &VerifyScope::cluster(), &before, &now);
    let Verdict::Fail { findings } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(findings[0].code, "KM-VERIFY-008");
}

#[test]
fn who_scales_down_or_deletes_meanwhile_is_not_blamed_on_the_upgrade_and_told() {
    let noted = |scope: &VerifyScope, now: &ClusterModel| {
        let before = cluster("v1.36.3");
        let model = Arc::new(before.clone());
        let input = StepInput::new(model, Arc::new(Policy::default()), version("v1.37.2"));
        match compare(
            &input,
            scope,
            &baseline(&before, true),
            &baseline(now, true),
        ) {
            Verdict::Pass { notes } => {
                let notes = notes.iter();
                notes
                    .map(|note| format!("{} {}: {}", note.code, note.object, note.evidence))
                    .collect::<Vec<_>>()
            }
            verdict => panic!("{verdict:?}"),
        }
    };
    let all = VerifyScope::cluster();
    let of_node = VerifyScope::workloads_of("a");
    let mut now = cluster("v1.37.2");
    assert!(noted(&all, &now).is_empty());
    now.pods.retain(|pod| pod.id.name != "web-3");
    now.workloads[1].replicas = 2;
    let shrunk = ["KM-VERIFY-017 Deployment shop/web: it wants 2 pods, and wanted 3 before"];
    assert_eq!(noted(&all, &now), shrunk);
    assert_eq!(noted(&of_node, &now), shrunk);
    now.pods.retain(|pod| !pod.id.name.starts_with("web"));
    now.workloads[1].replicas = 0;
    let to_zero = ["KM-VERIFY-017 Deployment shop/web: it wants 0 pods, and wanted 3 before"];
    assert_eq!(noted(&all, &now), to_zero);
    now.workloads.remove(1);
    let gone = ["KM-VERIFY-016 Deployment shop/web: it is gone, and wanted 3 pods before"];
    assert_eq!(noted(&all, &now), gone);
}

#[test]
fn two_baselines_are_compared_whatever_their_versions() {
    let (old, new) = (cluster("v1.36.3"), cluster("v1.37.2"));
    let (old, new) = (baseline(&old, true), baseline(&new, true));
    assert_eq!(compare_baselines(&old, &new), Verdict::passed());
    assert_eq!(compare_baselines(&new, &old), Verdict::passed());
    let mut worse = new;
    worse.workloads[1].available -= 1;
    let verdict = compare_baselines(&old, &worse);
    assert!(matches!(verdict, Verdict::Pending { .. }), "{verdict:?}");
    // Of nodes only one that hosts the control plane is missed.
    let mut whole = old;
    whole.nodes.insert("cp".into(), whole.nodes["a"].clone());
    let verdict = compare_baselines(&whole, &worse);
    assert!(matches!(verdict, Verdict::Fail { .. }), "{verdict:?}");
}

/// What a status says of `web`, whose three pods are Ready, before and now.
fn of_status(before: Option<u32>, now: Option<u32>) -> Vec<String> {
    let seen = |at: &str, available| {
        let mut model = cluster(at);
        model.workloads[1].available = available;
        model
    };
    let input = StepInput::new(
        Arc::new(cluster("v1.36.3")),
        Arc::new(Policy::default()),
        version("v1.37.2"),
    );
    let before = baseline(&seen("v1.36.3", before), true);
    let now = baseline(&seen("v1.37.2", now), true);
    match compare(&input, &VerifyScope::cluster(), &before, &now) {
        Verdict::Pass { .. } => Vec::new(),
        Verdict::Pending { missing, .. } => missing.into_iter().map(|f| f.evidence).collect(),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_pod_that_is_ready_for_too_short_a_time_is_not_available() {
    assert_eq!(
        of_status(Some(3), Some(2)),
        ["2 pods are available, 3 were before"]
    );
    assert!(of_status(Some(3), Some(3)).is_empty());
    assert!(of_status(Some(2), Some(2)).is_empty(), "as bad as before");
    assert_eq!(
        of_status(Some(9), Some(2)),
        ["2 pods are available, 3 were before"],
        "a status says no more than there are healthy pods"
    );
}

#[test]
fn a_status_of_an_older_spec_passes_nothing() {
    let late = of_status(Some(3), None);
    assert!(late[0].contains("not known"), "{late:?}");
    // Pods count where the status said nothing before either.
    assert_eq!(
        of_status(None, Some(2)),
        ["2 pods are available, 3 were before"]
    );
    assert!(of_status(None, None).is_empty());
}

#[test]
fn devices_and_huge_pages_are_looked_at_and_ordinary_resources_are_not() {
    let mut model = cluster("v1.36.3");
    let offered = &mut model.nodes[0].allocatable.extended;
    for name in ["nvidia.com/gpu", "hugepages-2Mi", "ephemeral-storage"] {
        offered.insert(name.to_owned(), 1);
    }
    let seen = baseline(&model, true);
    let names: Vec<&String> = seen.nodes["a"].extended.keys().collect();
    assert_eq!(names, ["hugepages-2Mi", "nvidia.com/gpu"]);
    model.control_plane[0].ready = false;
    assert!(baseline(&model, true).unready_members.contains("cp"));
}

/// It wants the pods that it has.
#[test]
fn a_controller_that_is_not_read_is_judged_by_its_pods() {
    let with = |ready: &[bool]| {
        let mut model = cluster("v1.37.2");
        for (index, ready) in ready.iter().enumerate() {
            let mut pod = pod("CloneSet", "legacy", &format!("legacy-{index}"), "a");
            pod.ready = *ready;
            model.pods.push(pod);
        }
        model.workloads.extend(Workload::count(&model.pods));
        model.sort();
        model
    };
    let before = with(&[true, true]);
    let target = version("v1.37.2");
    let input = StepInput::new(Arc::new(before.clone()), Arc::default(), target);
    let passes = |ready: &[bool]| {
        let (before, now) = (baseline(&before, true), baseline(&with(ready), true));
        let scope = VerifyScope::workloads_of("a");
        let verdict = compare(&input, &scope, &before, &now);
        matches!(verdict, Verdict::Pass { .. })
    };
    assert!(passes(&[true, true]));
    assert!(!passes(&[true, false]), "a pod that is there is not ready");
    assert!(passes(&[true]), "scaled down");
}

proptest! {
    /// Losing any pods never passes, having more than before always does.
    #[test]
    fn fewer_available_pods_never_pass(lost in proptest::collection::vec(any::<bool>(), 5)) {
        let mut now = cluster("v1.37.2");
        for (pod, lost) in now.pods.iter_mut().zip(&lost) {
            pod.ready = !lost;
        }
        let found = codes(&VerifyScope::cluster(), &now, true);
        prop_assert_eq!(found.is_empty(), lost.iter().all(|lost| !lost));
    }
}
