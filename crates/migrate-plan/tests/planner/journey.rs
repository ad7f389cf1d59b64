//! The whole way, hop by hop.

use migrate_core::preconditions::check_skew;
use migrate_core::skew::PathError;
use migrate_core::{ClusterModel, Finding, KubeVersion, Node, Policy, Role};
use migrate_plan::{Error, Journey, Planner, lint};
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
fn travel(model: ClusterModel, journey: &Journey) -> ClusterModel {
    travel_under(&Policy::default(), model, journey)
}

fn travel_under(policy: &Policy, mut model: ClusterModel, journey: &Journey) -> ClusterModel {
    for (plan, stop) in journey.plans.iter().zip(&journey.path.stops) {
        assert_eq!(check_skew(&model, Some(stop.minor)), [], "{stop:?}");
        let mut broken = lint(plan, &model, policy);
        broken.retain(Finding::blocks);
        assert_eq!(broken, [], "{stop:?}");
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
            node.kubelet_version = plan.to_of_pool(&slot.pool).clone();
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
fn a_pool_that_is_held_back_ends_the_way_with_its_name_and_a_cure() {
    let mut model = cluster(&[36], &[36, 36]);
    let mut policy = Policy::default();
    let label = policy.pools.label.clone();
    let node = model.nodes.iter_mut().find(|node| node.name == "w-0");
    node.unwrap().labels.insert(label, "gpu".to_owned());
    policy
        .pools
        .target_of
        .insert("gpu".to_owned(), version("v1.36.5"));
    let journey = |target: &str| Planner::new(&model, &policy, version(target)).journey();
    // Three minors on, it may still be there: its own patch comes with the last hop.
    let far = journey("v1.39.1").unwrap();
    let to: Vec<String> = far.plans.iter().map(|plan| plan.to.to_string()).collect();
    assert_eq!(to, ["v1.37", "v1.38", "v1.39.1"]);
    let slots: Vec<_> = far.plans.iter().map(|plan| plan.slots.len()).collect();
    // The nodes of members are brought along with their own.
    assert_eq!(slots[2], 1 + 1 + 1, "{slots:?}");
    assert_eq!(*far.plans[2].to_of_pool("gpu"), version("v1.36.5"));
    let error = journey("v1.40.1").unwrap_err().to_string();
    for said in [
        "pool gpu",
        "v1.36.5",
        "1.39 to 1.40",
        "1.37 or newer",
        "not newer than 1.39",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn what_has_no_way_is_refused_with_the_reason() {
    let model = cluster(&[36], &[36]);
    let refused = |target: &str| journey(&model, target).unwrap_err().to_string();
    assert!(refused("v1.35.0").contains("cannot go back"));
    assert!(refused("v2.0.0").contains("major"));
    assert!(refused("v1.37.0-beta.0").contains("pre-release"));
    assert!(refused("v1.190.0").contains("minors ahead"));
}

/// Its first hop ends what is broken, and says so.
#[test]
fn the_control_plane_comes_to_workers_that_are_ahead_of_it() {
    let mut model = cluster(&[36], &[37]);
    model.nodes.retain(|node| node.role == Role::Worker);
    let journey = journey(&model, "v1.38.0").unwrap();
    let skews = journey.plans.iter().map(|plan| {
        let of_skew = plan.findings.iter().filter(|f| f.code == "KM-SKEW-001");
        of_skew.map(Finding::blocks).collect::<Vec<_>>()
    });
    assert_eq!(skews.collect::<Vec<_>>(), [vec![false], vec![]]);
    assert_eq!(
        journey.plans[0].slots.len(),
        0,
        "no worker has to stop there"
    );
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

    /// With pools that go to versions of their own: refused for a reason that plain
    /// numbers give, too, or no instant breaks the skew policy and everything arrives
    /// where it is to.
    #[test]
    fn pools_of_their_own_are_refused_with_reason_or_arrive(
        lowest in 30..33u32,
        ahead in prop::collection::vec(0..2u32, 1..4),
        behind in prop::collection::vec((0..4u32, 0..3usize), 1..6),
        minors in 0..8u32,
        own in prop::collection::vec((0..10u32, 2..6u32), 3),
        held in any::<[bool; 3]>(),
    ) {
        let members: Vec<u32> = ahead.iter().map(|ahead| lowest + ahead).collect();
        let newest = *members.iter().max().unwrap();
        let workers: Vec<u32> = behind.iter().map(|(behind, _)| lowest - behind).collect();
        let mut model = cluster(&members, &workers);
        let mut policy = Policy::default();
        for (number, (_, pool)) in behind.iter().enumerate() {
            let name = format!("w-{number}");
            let node = model.nodes.iter_mut().find(|node| node.name == name).unwrap();
            node.labels.insert(policy.pools.label.clone(), format!("p{pool}"));
        }
        prop_assume!(check_skew(&model, None).is_empty());
        let last = newest + minors;
        let target = version(&format!("v1.{last}.4"));
        let mut expected_refusal = false;
        for (pool, (of_lowest, patch)) in own.iter().enumerate().filter(|(pool, _)| held[*pool]) {
            // From the oldest kubelet there may be on.
            let minor = lowest - 3 + of_lowest;
            let own = (minor, *patch);
            let of_pool = behind.iter().filter(|(_, of)| *of == pool);
            let newest_of_pool = of_pool.map(|(behind, _)| lowest - behind).max();
            expected_refusal |= match newest_of_pool {
                None => true,
                // Nodes are at the third patch, the target is the fourth of its minor.
                Some(newest) => own < (newest, 3) || own > (last, 4) || minor + 3 < last,
            };
            let own = version(&format!("v1.{minor}.{patch}"));
            policy.pools.target_of.insert(format!("p{pool}"), own);
        }
        let journey = match Planner::new(&model, &policy, target.clone()).journey() {
            Ok(journey) => journey,
            Err(Error::NoPath(error)) => {
                use PathError::{PoolAhead, PoolDowngrade, PoolLeftBehind, UnknownPool};
                let is_of_a_pool = matches!(
                    &error,
                    PoolAhead { .. }
                        | PoolDowngrade { .. }
                        | PoolLeftBehind { .. }
                        | UnknownPool { .. }
                );
                prop_assert!(expected_refusal && is_of_a_pool, "{}", error);
                prop_assert!(error.to_string().contains("pools.target-of"), "{}", error);
                return Ok(());
            }
            Err(error) => panic!("{error}"),
        };
        prop_assert!(!expected_refusal, "{:?}", policy.pools.target_of);
        let end = travel_under(&policy, model, &journey);
        prop_assert!(end.control_plane.iter().all(|m| m.version == target));
        for node in &end.nodes {
            let goal = policy.pools.target_of.get(policy.pools.pool_of(node));
            prop_assert_eq!(&node.kubelet_version, goal.unwrap_or(&target), "{}", node.name);
        }
    }
}
