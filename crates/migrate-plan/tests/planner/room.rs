//! Room: how wide pools may be with it, what it bounds, and what the linter says of it.

use std::time::Duration;

use migrate_core::cost::BoundKind;
use migrate_core::model::Resources;
use migrate_core::{ClusterModel, IntOrPercent, Node, Phase, Plan, Policy, Severity, ZONE_LABEL};
use migrate_plan::{PlanTable, Planner, lint, plan_from_json, plan_to_json};
use proptest::prelude::*;

use crate::placement::{found, workers};
use crate::support::{Cluster, NEW, linted, version};

/// `width` nodes of each pool at once, if there is room.
pub(crate) fn wide(width: u32) -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    policy
}

pub(crate) fn plan_under(model: &ClusterModel, policy: &Policy) -> Plan {
    let planner = Planner::new(model, policy, version(NEW));
    linted(planner.plan().unwrap(), model, policy)
}

#[test]
fn capacity_limits_the_width_and_the_plan_says_why() {
    // Forty CPUs, of which 27 are asked for: three nodes may be away.
    let model = workers(10, 2_700);
    let plan = plan_under(&model, &wide(5));
    assert_eq!((plan.pools[0].width, most_away(&plan)), (5, 3));
    let [room] = &plan.rooms[..] else {
        panic!("{:?}", plan.rooms)
    };
    assert_eq!((room.resource.as_str(), room.spare), ("cpu", 13_000));
    assert_eq!(room.offers.len(), 10);
    assert!(room.offers.values().all(|offer| *offer == 4_000));
    let finding = found(&plan, "KM-CAPACITY-003").unwrap();
    let words = "capacity may keep fewer of its nodes away at once than the 5 that policy lets be";
    assert!(finding.evidence.starts_with(words), "{finding}");
    assert_eq!(plan.id, plan.identity());
    // As narrow by policy it is the same plan, and nothing is said.
    let narrow = plan_under(&model, &wide(3));
    assert_eq!(narrow.makespan(), plan.makespan());
    assert_eq!(narrow.rooms, []);
    assert!(found(&narrow, "KM-CAPACITY-003").is_none());
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
    let table = PlanTable::new(&plan).to_string();
    assert!(table.contains("5 (room: cpu)"), "{table}");
}

/// One after the other, which nothing but room is the reason for.
#[test]
fn no_room_at_all_is_the_bottleneck() {
    let [none, some] = [4_000, 3_999].map(|cpu| plan_under(&workers(10, cpu), &wide(5)));
    for (plan, spare) in [(&none, 0), (&some, 10)] {
        let bounds = plan.bounds.as_ref().unwrap();
        assert_eq!((plan.rooms[0].spare, most_away(plan)), (spare, 1));
        let best = bounds.best().unwrap();
        assert!(matches!(best.kind, BoundKind::Capacity { .. }), "{best:?}");
    }
    let best = |plan: &Plan| plan.bounds.as_ref().unwrap().best().unwrap().time;
    assert!(best(&some) <= best(&none));
}

/// Most of them go three at a time, as there is room for, though one of them is so large that
/// it goes alone.
#[test]
fn a_large_node_does_not_hold_small_ones_back() {
    let model = with_large(10, &[4], 2_700, 12_000);
    let plan = plan_under(&model, &wide(5));
    assert_eq!(plan.rooms[0].spare, 13_000);
    assert_eq!(most_away(&plan), 3);
    let of_large = span(&plan, &model.nodes[4].name).unwrap();
    for node in &model.nodes[..4] {
        let other = span(&plan, &node.name).unwrap();
        assert!(other.1 <= of_large.0 || of_large.1 <= other.0);
    }
}

/// Workers of four CPUs, of which `cpu` are asked for; `more` of both on those at `large`.
fn with_large(nodes: usize, large: &[usize], cpu: u64, more: u64) -> ClusterModel {
    let mut model = workers(nodes, cpu);
    for large in large {
        model.nodes[*large].allocatable.cpu_milli += more;
        for pod in &mut model.pods {
            if pod.node.as_deref() == Some(model.nodes[*large].name.as_str()) {
                pod.requests.cpu_milli += more;
            }
        }
    }
    model
}

/// However many large nodes wait before them.
#[test]
fn small_nodes_fill_what_large_ones_leave() {
    let large: Vec<usize> = (20..40).collect();
    let model = with_large(41, &large, 3_700, 4_000);
    let mut policy = wide(9);
    policy.pools.canary = false;
    let plan = plan_under(&model, &policy);
    // One large node and one small one, or three small ones.
    assert_eq!(plan.rooms[0].spare, 12_300);
    let large: Vec<&str> = large
        .iter()
        .map(|at| model.nodes[*at].name.as_str())
        .collect();
    let begins = |is_large: bool| {
        let slots = plan.slots.iter().filter(|slot| slot.pool == "general");
        let slots = slots.filter(|slot| large.contains(&slot.node.as_str()) == is_large);
        let begins = slots.map(|slot| span(&plan, &slot.node).unwrap().0);
        std::collections::BTreeSet::from_iter(begins).into_iter()
    };
    let last = begins(true).next_back();
    let beside = begins(false).filter(|begin| Some(*begin) < last);
    assert!(beside.count() > 18);
}

/// Those that go one by one for their size take longer than all others beside each other: they
/// begin, and small ones fill what they leave.
#[test]
fn large_nodes_go_first_where_room_is_scarce() {
    let model = with_large(10, &[5, 6, 7, 8], 2_700, 4_000);
    let mut policy = wide(5);
    policy.pools.canary = false;
    let plan = plan_under(&model, &policy);
    assert_eq!(plan.rooms[0].spare, 13_000);
    let workers = plan.slots.iter().filter(|slot| slot.pool == "general");
    let first: Vec<_> = workers.take(4).map(|slot| slot.node.as_str()).collect();
    let large = [5, 6, 7, 8].map(|at: usize| model.nodes[at].name.as_str());
    assert_eq!(first, large);
}

/// Pools that share too little room take of it in turns, and one that has nothing left to do
/// leaves all of it to the other.
#[test]
fn pools_share_room_as_it_comes() {
    let model = two_pools();
    let plan = plan_under(&model, &wide(4));
    assert_eq!(plan.rooms.len(), 1);
    assert_eq!(plan.rooms[0].spare, 16_000);
    let narrow = plan_under(&model, &wide(2));
    assert_eq!(narrow.rooms, []);
    assert!(plan.makespan() < narrow.makespan());
}

/// Two nodes of one pool and eight of another, which have room for four to be away.
fn two_pools() -> ClusterModel {
    let small = ["small-1", "small-2"];
    let large: Vec<String> = (1..=8).map(|node| format!("large-{node}")).collect();
    let all = small
        .iter()
        .copied()
        .chain(large.iter().map(String::as_str));
    let all: Vec<&str> = all.collect();
    let cluster = Cluster::new().member("m").pool("large", 8).pool("small", 2);
    let cluster = cluster.deployment("web", &all).change(|model| {
        for node in &mut model.nodes {
            node.allocatable = Resources::new(4_000, 16 << 30, 110);
        }
        for pod in &mut model.pods {
            pod.requests = Resources::new(2_400, 1 << 30, 1);
        }
    });
    cluster.build()
}

/// From the begin of its drain to the end of its verification.
fn span(plan: &Plan, node: &str) -> Option<(Duration, Duration)> {
    let of_node = plan.schedule.iter().filter(|it| it.target.name() == node);
    let of_node: Vec<_> = of_node.filter(|it| it.phase != Phase::Confirm).collect();
    let begins = of_node.iter().map(|it| it.start).min()?;
    Some((begins, of_node.iter().map(|it| it.end).max()?))
}

/// How many nodes are away at once at the most.
pub(crate) fn most_away(plan: &Plan) -> usize {
    let spans = plan.slots.iter().filter_map(|slot| span(plan, &slot.node));
    let spans: Vec<_> = spans.collect();
    let at = |moment: Duration| {
        let away = spans
            .iter()
            .filter(|(from, to)| *from <= moment && moment < *to);
        away.count()
    };
    spans.iter().map(|(from, _)| at(*from)).max().unwrap_or(0)
}

#[test]
fn room_is_a_bound_of_a_tight_cluster() {
    let plan = plan_under(&workers(10, 2_700), &wide(5));
    let bounds = plan.bounds.unwrap();
    let of_room = bounds.limits.iter().find(|limit| {
        limit.kind
            == BoundKind::Capacity {
                resource: "cpu".into(),
                nodes: 10,
            }
    });
    let rest: Duration = plan
        .schedule
        .iter()
        .filter(|action| action.target.name().starts_with("general"))
        .map(|action| action.end - action.start)
        .sum();
    let members = bounds
        .limits
        .iter()
        .find(|limit| limit.kind == BoundKind::ControlPlane);
    // Σ d / k: of ten nodes of 4 CPUs three fit into the 13 there are to spare.
    let expected = members.unwrap().time.as_millis() + rest.as_millis().div_ceil(3);
    assert_eq!(of_room.unwrap().time.as_millis(), expected);
}

#[test]
fn too_little_room_for_a_single_node_is_found() {
    let model = workers(3, 2_700);
    let plan = plan_under(&model, &wide(2));
    assert_eq!(most_away(&plan), 1);
    let finding = found(&plan, "KM-CAPACITY-002").unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    // It is planned all the same, one after the other.
    let bounds = plan.bounds.unwrap();
    let is_of_cpu = |kind: &BoundKind| matches!(kind, BoundKind::Capacity { resource, .. } if resource == "cpu");
    assert!(is_of_cpu(&bounds.best().unwrap().kind));
    assert_eq!(bounds.gap_permille, 0);
}

#[test]
fn nodes_that_are_away_already_do_not_keep_a_narrowed_pool_from_beginning() {
    let mut model = workers(10, 2_700);
    for node in &mut model.nodes[..4] {
        node.unschedulable = true;
    }
    let plan = plan_under(&model, &wide(5));
    assert_eq!(
        plan.schedule
            .iter()
            .filter(|a| a.phase == Phase::Verify)
            .count(),
        11
    );
    let mut model = workers(10, 2_000);
    model.nodes[0].ready = false;
    let plan = plan_under(&model, &wide(9));
    // 36 CPUs on nine nodes, 18 asked for: four, and the one that is away.
    assert_eq!(most_away(&plan), 4);
}

/// Where room makes a pool narrow nobody is told that one more node of it would help.
#[test]
fn a_pool_without_room_is_not_to_be_wider() {
    let model = workers(4, 1_100);
    let relief_of = |width| {
        let plan = plan_under(&model, &wide(width));
        let bounds = plan.bounds.unwrap();
        let is_of_slots = matches!(bounds.best().unwrap().kind, BoundKind::Slots { .. });
        (is_of_slots, bounds.relief.is_some())
    };
    assert_eq!(relief_of(1), (true, true));
    // As wide as there is room for, though no wider was asked for.
    assert_eq!(relief_of(2), (true, false));
    // One more node would help.
    assert_eq!(relief_of(3), (false, true));
}

/// Room for what is kept for failures is never begun into, but for one that goes alone.
#[test]
fn room_is_kept_for_failures() {
    let model = workers(10, 2_700);
    let with = |reserve| {
        let mut policy = wide(6);
        policy.pools.failure_reserve = IntOrPercent::Int(reserve);
        let plan = plan_under(&model, &policy);
        let verified = plan.schedule.iter().filter(|a| a.phase == Phase::Verify);
        assert_eq!(verified.count(), 11);
        most_away(&plan)
    };
    assert_eq!((with(0), with(1), with(4)), (3, 2, 1));
}

/// Another order never makes it longer, also where room and not policy limits pools.
#[test]
fn a_better_order_is_looked_for_within_the_room_there_is() {
    let model = workers(10, 2_700);
    let policy = wide(5);
    let planner = || Planner::new(&model, &policy, version(NEW));
    let plan = planner().plan().unwrap();
    let better = linted(
        planner().with_improvement(50).plan().unwrap(),
        &model,
        &policy,
    );
    assert!(better.makespan() <= plan.makespan());
    assert_eq!(better.rooms, plan.rooms);
    // Planned anew without a change it stays as it is.
    let again = planner().replan(&plan).unwrap();
    assert!(again.keeps_order);
    assert_eq!(again.plan.rooms, plan.rooms);
    assert_eq!(again.plan.schedule, plan.schedule);
}

/// Negative control: a schedule that was made without regard to requests.
#[test]
fn a_schedule_that_leaves_no_room_is_found() {
    let (light, heavy) = (workers(10, 100), workers(10, 2_700));
    let policy = wide(5);
    let plan = plan_under(&light, &policy);
    assert_eq!(plan.pools[0].width, 5);
    let codes = |model| {
        let found = lint(&plan, model, &policy).into_iter();
        let codes: std::collections::BTreeSet<String> = found.map(|f| f.code).collect();
        codes
    };
    assert!(!codes(&light).contains("KM-LINT-014"));
    assert!(codes(&heavy).contains("KM-LINT-014"));
}

/// The same of pods that may not leave their zone, as those with a volume there: the pool
/// has room for all of them, one zone of it has not.
#[test]
fn a_schedule_that_leaves_no_room_in_a_zone_is_found() {
    let zoned = |tied: bool| {
        let mut model = workers(8, 1_500);
        let mut zones = std::collections::BTreeMap::new();
        for (number, node) in model.nodes.iter_mut().enumerate() {
            // The first is the canary, and goes alone.
            let zone = if matches!(number, 1 | 2) { "a" } else { "b" };
            node.labels.insert(ZONE_LABEL.into(), zone.into());
            zones.insert(node.name.clone(), zone.to_owned());
        }
        for pod in &mut model.pods {
            let zone = pod.node.as_ref().and_then(|node| zones.get(node)).cloned();
            if let Some(zone) = zone.filter(|_| tied) {
                let selector = &mut pod.placement.node_selector;
                selector.insert(ZONE_LABEL.into(), zone);
            }
        }
        model
    };
    let policy = wide(4);
    let (free, tied) = (zoned(false), zoned(true));
    let plan = plan_under(&free, &policy);
    assert_eq!(plan.pools[0].width, 4);
    let found = lint(&plan, &tied, &policy);
    let found: Vec<_> = found.iter().filter(|f| f.code == "KM-LINT-014").collect();
    assert!(!found.is_empty());
    for finding in found {
        assert!(finding.evidence.contains("general (in a)"), "{finding}");
    }
    let rooms = plan_under(&tied, &policy).rooms;
    assert!(rooms.iter().any(|room| room.offers.len() == 2), "{rooms:?}");
}

/// Nodes by pool with their CPUs; pods with what they ask for, and whether they are tied to
/// their pool (1), or to their zone (2).
type Tight = (Vec<(usize, u64)>, Vec<(usize, u64, u8)>, u32);

fn tight() -> impl Strategy<Value = Tight> {
    let pools = prop::collection::vec((1..7usize, 2..9u64), 1..4);
    let pods = prop::collection::vec((0..50usize, 0..5u64, 0..3u8), 0..40);
    (pools, pods, 1..5u32)
}

/// The zone of a node whose name ends with a number.
fn zone_of(node: &str) -> &'static str {
    match node.ends_with(['1', '3', '5']) {
        true => "a",
        false => "b",
    }
}

fn tight_model((pools, pods, _): &Tight) -> ClusterModel {
    let mut cluster = Cluster::new().member("m");
    let mut places = Vec::new();
    for (number, (nodes, _)) in pools.iter().enumerate() {
        let pool = format!("pool-{number}");
        cluster = cluster.pool(&pool, *nodes);
        places.extend((1..=*nodes).map(|node| (number, format!("{pool}-{node}"))));
    }
    for (number, (place, ..)) in pods.iter().enumerate() {
        let node = &places[place % places.len()].1;
        cluster = cluster.deployment(&format!("w{number}"), &[node]);
    }
    let cluster = cluster.change(|model| {
        for node in &mut model.nodes {
            let (pool, _) = node.name.rsplit_once('-').unwrap();
            let pool: usize = pool.trim_start_matches("pool-").parse().unwrap();
            node.allocatable = Resources::new(pools[pool].1 * 1_000, 1 << 34, 110);
            let zone = zone_of(&node.name);
            node.labels.insert(ZONE_LABEL.into(), zone.into());
        }
        for (pod, (place, cpu, tied)) in model.pods.iter_mut().zip(pods) {
            pod.requests = Resources::new(cpu * 500, 1 << 28, 1);
            let (pool, node) = &places[place % places.len()];
            let selector = &mut pod.placement.node_selector;
            match tied {
                1 => {
                    let pool = format!("pool-{pool}");
                    selector.insert("node.kubernetes.io/pool".into(), pool);
                }
                2 => {
                    selector.insert(ZONE_LABEL.into(), zone_of(node).into());
                }
                _ => {}
            }
        }
    });
    cluster.build()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The linter finds nothing, no schedule beats a bound, and a node more lengthens
    /// none and makes no move necessary.
    #[test]
    fn room_narrows_bounds_and_more_of_it_helps(tight in tight()) {
        let model = tight_model(&tight);
        let policy = wide(tight.2);
        let plan = plan_under(&model, &policy);
        let mut larger = model;
        let mut spare = Node::new("spare", version(NEW));
        spare.allocatable = Resources::new(200_000, 1 << 40, 500);
        larger.nodes.push(spare);
        larger.sort();
        let then = plan_under(&larger, &policy);
        for limit in plan.bounds.iter().flat_map(|bounds| &bounds.limits) {
            prop_assert!(limit.time <= plan.makespan(), "{:?} of {:?}", limit, plan.makespan());
        }
        let best = |plan: &Plan| plan.bounds.as_ref().unwrap().best().unwrap().time;
        let has_room = |plan: &Plan| plan.findings.iter().all(|f| f.code != "KM-CAPACITY-002");
        if has_room(&plan) {
            prop_assert!(best(&then) <= best(&plan));
        }
        let homeless = |plan: &Plan| plan.relocation.as_ref().unwrap().homeless;
        if tight.1.iter().all(|(.., tied)| *tied == 0) {
            prop_assert_eq!(homeless(&then), 0);
        }
    }
}
