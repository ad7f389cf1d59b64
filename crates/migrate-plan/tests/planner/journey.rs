//! The whole way, hop by hop.

use migrate_core::preconditions::check_skew;
use migrate_core::{ClusterModel, KubeVersion, Node, Policy, Role};
use migrate_plan::{Error, Journey, Planner};
use proptest::prelude::*;

use crate::support::{Cluster, version};

fn minor(minor: u32) -> KubeVersion {
    version(&format!("v1.{minor}.3"))
}

/// Members, their nodes and workers of these minors.
fn cluster(members: &[u32], workers: &[u32]) -> ClusterModel {
    let cluster = Cluster::new().change(|model| {
        for (number, of) in members.iter().enumerate() {
            let name = format!("cp-{number}");
            let member = migrate_core::ControlPlaneMember::new(&name, minor(*of));
            model.control_plane.push(member);
            // Behind the members until all of them are there.
            let mut node = Node::new(name, minor(*members.iter().min().unwrap()));
            node.role = Role::ControlPlane;
            model.nodes.push(node);
        }
        for (number, of) in workers.iter().enumerate() {
            model
                .nodes
                .push(Node::new(format!("w-{number}"), minor(*of)));
        }
    });
    cluster.build()
}

fn journey(model: &ClusterModel, target: &str) -> Result<Journey, Error> {
    Planner::new(model, &Policy::default(), version(target)).journey()
}

/// Carries each plan out, and looks at the skew policy before each.
fn travel(mut model: ClusterModel, journey: &Journey) -> ClusterModel {
    for (plan, stop) in journey.plans.iter().zip(&journey.path.stops) {
        assert_eq!(check_skew(&model, Some(stop.minor)), [], "{stop:?}");
        for member in &plan.control_plane {
            let mut members = model.control_plane.iter_mut();
            let known = members.find(|known| known.name == member.name).unwrap();
            assert_eq!(known.version, member.from);
            known.version = plan.to.clone();
        }
        for slot in &plan.slots {
            let node = model.nodes.iter_mut().find(|node| node.name == slot.node);
            let node = node.unwrap();
            assert_eq!(node.kubelet_version, slot.from);
            node.kubelet_version = plan.to.clone();
        }
        assert_eq!(check_skew(&model, None), [], "after {stop:?}");
    }
    model
}

#[test]
fn the_control_plane_takes_every_minor_and_workers_stop_as_seldom_as_they_may() {
    let model = cluster(&[33, 33, 33], &[33, 33]);
    let journey = journey(&model, "v1.38.1").unwrap();
    let hops: Vec<_> = journey
        .plans
        .iter()
        .map(|plan| plan.to.to_string())
        .collect();
    assert_eq!(hops.len(), 5);
    assert_eq!(hops[4], "v1.38.1");
    let workers = |at: usize| {
        let slots = journey.plans[at].slots.iter();
        slots.filter(|slot| slot.node.starts_with('w')).count()
    };
    // From 1.33 the control plane gets to 1.36 before they have to follow.
    assert_eq!([0, 1, 2, 3, 4].map(workers), [0, 0, 2, 0, 2]);
    let sum: std::time::Duration = journey.plans.iter().map(|plan| plan.makespan()).sum();
    assert_eq!(journey.makespan(), sum);
    // Each hop is the next revision, and begins where the last one ended.
    let revisions: Vec<u32> = journey.plans.iter().map(|plan| plan.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    assert!(journey.plans[0].at_target.is_empty());
    let end = travel(model, &journey);
    assert!(
        end.nodes
            .iter()
            .all(|node| node.kubelet_version == version("v1.38.1"))
    );
}

#[test]
fn one_hop_is_its_plan() {
    let model = cluster(&[36], &[36, 34]);
    let journey = journey(&model, "v1.37.2").unwrap();
    let policy = Policy::default();
    let plan = Planner::new(&model, &policy, version("v1.37.2"))
        .plan()
        .unwrap();
    assert_eq!(journey.plans, [plan]);
    let done = cluster(&[37], &[37]);
    assert!(self::journey(&done, "v1.37.3-rc.1").is_err());
    assert_eq!(self::journey(&done, "v1.37.3").unwrap().plans, []);
}

#[test]
fn what_has_no_way_is_refused_with_the_reason() {
    let model = cluster(&[36], &[36]);
    let refused = |target: &str| journey(&model, target).unwrap_err().to_string();
    assert!(refused("v1.35.0").contains("cannot go back"));
    assert!(refused("v2.0.0").contains("major"));
    assert!(refused("v1.37.0-beta.0").contains("pre-release"));
    assert!(refused("v1.190.0").contains("minors ahead"));
    let mut ahead = cluster(&[36], &[37]);
    ahead.nodes.retain(|node| node.role == Role::Worker);
    let error = journey(&ahead, "v1.38.0").unwrap_err().to_string();
    assert!(error.contains("bring the control plane"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// From any legal mix of versions, no instant breaks the skew policy, and
    /// everything arrives.
    #[test]
    fn no_hop_breaks_the_skew_policy(
        lowest in 30..33u32,
        ahead in prop::collection::vec(0..2u32, 1..4),
        behind in prop::collection::vec(0..4u32, 0..6),
        minors in 0..8u32,
    ) {
        let members: Vec<u32> = ahead.iter().map(|ahead| lowest + ahead).collect();
        let newest = *members.iter().max().unwrap();
        let workers: Vec<u32> = behind.iter().map(|behind| lowest - behind).collect();
        let model = cluster(&members, &workers);
        prop_assume!(check_skew(&model, None).is_empty());
        let target = format!("v1.{}.4", newest + minors);
        let journey = journey(&model, &target).unwrap();
        let end = travel(model, &journey);
        let target = version(&target);
        prop_assert!(end.control_plane.iter().all(|m| m.version == target));
        prop_assert!(end.nodes.iter().all(|n| n.kubelet_version == target));
    }
}
