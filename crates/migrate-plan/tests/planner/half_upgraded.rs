//! Clusters that somebody has upgraded a part of: what the skew policy forbids today and
//! the plan ends is told, what it would not end or would make worse is a blocker.

use std::time::Duration;

use migrate_core::{
    ClusterModel, ControlPlaneMember, Finding, Node, Phase, Plan, Policy, Role, Severity, Target,
};
use migrate_plan::{Error, Planner, lint};
use proptest::prelude::*;

use crate::support::{Cluster, NEW, version};
use crate::{plan, small};

fn skews(plan: &Plan) -> Vec<&Finding> {
    let found = plan.findings.iter();
    found.filter(|f| f.code == "KM-SKEW-001").collect()
}

/// Who is at work, by the begin of it.
fn order(plan: &Plan) -> Vec<&str> {
    let upgrades = plan.schedule.iter().filter(|a| a.phase == Phase::Upgrade);
    let mut upgrades: Vec<_> = upgrades.collect();
    upgrades.sort_by_key(|action| action.start);
    upgrades.iter().map(|action| action.target.name()).collect()
}

/// kubeadm's own instructions take the kubelet of the first member right after it.
#[test]
fn the_rest_of_an_upgrade_by_hand_is_planned() {
    let model = small()
        .change(|model| model.control_plane[0].version = version(NEW))
        .node("control-plane-1", |node| {
            node.kubelet_version = version(NEW)
        })
        .node("general-1", |node| node.kubelet_version = version(NEW))
        .build();
    let plan = plan(&model);
    let found = skews(&plan);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Warning);
    for said in [
        "kubelet control-plane-1 runs v1.37.2",
        "control-plane-1, general-1",
        "this upgrade ends it: every API server goes to 1.37 before a node",
    ] {
        assert!(found[0].evidence.contains(said), "{said}: {}", found[0]);
    }
    assert!(!plan.findings.iter().any(Finding::blocks));
    let order = order(&plan);
    assert_eq!(order[..2], ["control-plane-2", "control-plane-2"]);
    assert_eq!(order.len(), 1 + 1 + 3 + 2, "{order:?}");
    let told = lint(&plan, &model, &Policy::default());
    let told: Vec<_> = told
        .iter()
        .map(|f| (f.code.as_str(), f.severity, f.object.name.as_str()))
        .collect();
    let expected = ["control-plane-1", "general-1"];
    assert_eq!(
        told,
        expected.map(|node| ("KM-LINT-020", Severity::Warning, node))
    );
}

/// As after packages of all nodes were upgraded and no `kubeadm upgrade` followed.
#[test]
fn kubelets_that_are_all_ahead_wait_for_their_api_server() {
    let mut model = small().build();
    model.control_plane.truncate(1);
    for node in &mut model.nodes {
        node.kubelet_version = version(NEW);
    }
    let plan = plan(&model);
    let severities: Vec<_> = skews(&plan).iter().map(|f| f.severity).collect();
    assert_eq!(severities, [Severity::Warning]);
    assert_eq!(order(&plan), ["control-plane-1"]);
}

/// They cannot stop at the minor that a part of the control plane has left.
#[test]
fn what_an_upgraded_member_has_left_behind_comes_with_the_others() {
    let model = small()
        .change(|model| model.control_plane[1].version = version(NEW))
        .node("general-1", |node| {
            node.kubelet_version = version("v1.33.9")
        })
        .build();
    let plan = plan(&model);
    let found = skews(&plan);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Warning);
    assert_eq!(found[0].object.name, "general-1");
    assert_eq!(order(&plan)[0], "control-plane-1");
    assert!(order(&plan).contains(&"general-1"));
}

/// A control plane at these minors, and nodes of all of them and workers at those.
fn cluster(members: &[u32], kubelets: &[u32]) -> ClusterModel {
    let at = |minor: u32| version(&format!("v1.{minor}.3"));
    let cluster = Cluster::new().change(|model| {
        for (number, minor) in members.iter().enumerate() {
            let member = ControlPlaneMember::new(format!("n-{number}"), at(*minor));
            model.control_plane.push(member);
        }
        for (number, minor) in kubelets.iter().enumerate() {
            let mut node = Node::new(format!("n-{number}"), at(*minor));
            if number < members.len() {
                node.role = Role::ControlPlane;
            }
            model.nodes.push(node);
        }
    });
    cluster.build()
}

/// By how many minors a kubelet is newer than an API server, and by how many it is
/// further behind another than the policy has it. In plain numbers.
fn apart(kubelet: u32, servers: &[u32]) -> (u32, u32) {
    let oldest = *servers.iter().min().unwrap();
    let newest = *servers.iter().max().unwrap();
    (
        kubelet.saturating_sub(oldest),
        newest.saturating_sub(kubelet + 3),
    )
}

/// What each kubelet breaks: before, at worst on the way, and at the end of the schedule.
fn carried_out(plan: &Plan, members: &[u32], kubelets: &[u32], to: u32) -> Vec<[(u32, u32); 3]> {
    let (mut servers, mut kubelets) = (members.to_vec(), kubelets.to_vec());
    let look = |servers: &[u32], kubelets: &[u32]| -> Vec<(u32, u32)> {
        kubelets
            .iter()
            .map(|kubelet| apart(*kubelet, servers))
            .collect()
    };
    let before = look(&servers, &kubelets);
    let mut worst = before.clone();
    // A member serves both versions from the begin of its upgrade to its end.
    let mut events: Vec<(Duration, bool, &Target)> = Vec::new();
    for action in plan.schedule.iter().filter(|a| a.phase == Phase::Upgrade) {
        events.push((action.start, true, &action.target));
        events.push((action.end, false, &action.target));
    }
    events.sort_by_key(|(at, begins, _)| (*at, *begins));
    for (_, begins, target) in events {
        let name = target.name().strip_prefix("n-");
        let number = name.and_then(|number| number.parse::<usize>().ok());
        match (target, number, begins) {
            (Target::ControlPlane { .. }, Some(_), true) => servers.push(to),
            (Target::ControlPlane { .. }, Some(number), false) => {
                servers.pop();
                servers[number] = to;
            }
            (Target::Node { .. }, Some(number), false) => kubelets[number] = to,
            _ => {}
        }
        for (worst, now) in worst.iter_mut().zip(look(&servers, &kubelets)) {
            *worst = (worst.0.max(now.0), worst.1.max(now.1));
        }
    }
    let after = look(&servers, &kubelets);
    let each = before.into_iter().zip(worst).zip(after);
    each.map(|((before, worst), after)| [before, worst, after])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever was upgraded by hand: what has no blocker gets no worse at any instant
    /// and is over at the end, what has one does not, and each kubelet that breaks the
    /// policy is told. The linter agrees.
    #[test]
    fn a_mix_is_planned_if_the_plan_ends_it_and_never_makes_it_worse(
        ahead in prop::collection::vec(0..2u32, 1..4),
        kubelets in prop::collection::vec(0..8u32, 4..9),
        hop in any::<bool>(),
    ) {
        let members: Vec<u32> = ahead.iter().map(|ahead| 36 + ahead).collect();
        let kubelets: Vec<u32> = kubelets.iter().map(|minor| 31 + minor).collect();
        let newest = *members.iter().max().unwrap();
        let to = newest.max(36 + u32::from(hop));
        let model = cluster(&members, &kubelets);
        let policy = Policy::default();
        let planner = Planner::new(&model, &policy, version(&format!("v1.{to}.4")));
        let plan = match planner.plan() {
            Ok(plan) => plan,
            Err(Error::SeveralHops { .. }) => {
                // Nobody is there yet, and somebody would be left behind.
                prop_assert!(to > newest && kubelets.iter().any(|at| at + 3 < to));
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let each = carried_out(&plan, &members, &kubelets, to);
        let none = (0, 0);
        let is_worse = |[before, worst, _]: &[(u32, u32); 3]| {
            worst.0 > before.0 || worst.1 > before.1
        };
        let stays = |[_, _, after]: &[(u32, u32); 3]| *after != none;
        let found = skews(&plan);
        let is_blocked = found.iter().any(|f| f.severity == Severity::Blocker);
        let is_bad = each.iter().any(|it| is_worse(it) || stays(it));
        prop_assert_eq!(is_blocked, is_bad, "{:?} {:?}", each, found);
        let broken = each.iter().zip(&kubelets).filter(|([before, ..], _)| *before != none);
        let mut broken: Vec<u32> = broken.map(|(_, minor)| *minor).collect();
        let told = lint(&plan, &model, &policy);
        let told: Vec<_> = told.iter().filter(|f| f.code == "KM-LINT-020").collect();
        prop_assert_eq!(told.iter().any(|f| f.blocks()), each.iter().any(is_worse));
        prop_assert!(told.len() >= broken.len(), "{:?}", told);
        broken.sort_unstable();
        broken.dedup();
        prop_assert!(found.len() >= broken.len(), "{:?} {:?}", broken, found);
        if !is_bad {
            // One for each version.
            prop_assert_eq!(found.len(), broken.len(), "{:?} {:?}", broken, found);
        }
    }
}
