//! Where pods go, as plans tell it.

use migrate_core::cost::BoundKind;
use migrate_core::model::Resources;
use migrate_core::{
    ClusterModel, Finding, IntOrPercent, Node, ObjectName, Phase, Plan, Policy, Severity,
};
use migrate_plan::{PlanTable, Planner, lint, plan_from_json, plan_to_json};
use proptest::prelude::*;

use crate::plan;
use crate::support::{Cluster, NEW, linted, version};

/// One member, and `nodes` workers of four CPUs that each have a pod of `web`,
/// which asks for `cpu` thousandths.
pub(crate) fn workers(nodes: usize, cpu: u64) -> ClusterModel {
    let names: Vec<String> = (1..=nodes).map(|node| format!("general-{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Cluster::new()
        .member("m")
        .pool("general", nodes)
        .deployment("web", &names)
        .change(|model| {
            for node in &mut model.nodes {
                node.allocatable = Resources::new(4_000, 16 << 30, 110);
            }
            for pod in &mut model.pods {
                pod.requests = Resources::new(cpu, 1 << 30, 1);
            }
        })
        .build()
}

fn found<'p>(plan: &'p Plan, code: &str) -> Option<&'p Finding> {
    plan.findings.iter().find(|finding| finding.code == code)
}

#[test]
fn a_plan_counts_moves_and_tells_what_no_placement_is_below() {
    let plan = plan(&workers(4, 500));
    let relocation = plan.relocation.as_ref().unwrap();
    // The first goes twice, the last node ends empty.
    assert_eq!(relocation.pods, 4);
    assert_eq!((relocation.evictions, relocation.least), (5, 5));
    assert_eq!((relocation.homeless, relocation.waits.len()), (0, 0));
    assert!(relocation.destinations.is_empty());
    let table = PlanTable::new(&plan).to_string();
    let line = "4 pods move, 1.25 times each, and no placement has less than 1.25\n";
    assert!(table.contains(line), "{table}");
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
}

#[test]
fn nothing_is_predicted_where_no_node_says_what_it_offers() {
    let mut model = workers(4, 500);
    for node in &mut model.nodes {
        node.allocatable = Resources::default();
    }
    let plan = plan(&model);
    assert_eq!(plan.relocation, None);
    assert!(!plan_to_json(&plan).unwrap().contains("relocation"));
}

#[test]
fn destinations_are_kept_where_they_are_asked_for_and_change_no_id() {
    let model = workers(3, 500);
    let policy = Policy::default();
    let planner = Planner::new(&model, &policy, version(NEW));
    let (plain, full) = (
        planner.plan().unwrap(),
        planner.with_destinations().plan().unwrap(),
    );
    assert_eq!(plain.id, full.id);
    let relocation = full.relocation.unwrap();
    let hops = relocation.destinations.iter();
    let hops: Vec<_> = hops
        .map(|hop| {
            (
                hop.from.as_str(),
                hop.to.as_str(),
                hop.object.to_string(),
                hop.pods,
            )
        })
        .collect();
    let web = || "Deployment shop/web".to_owned();
    assert_eq!(hops[0].0, "general-1");
    assert_eq!(
        hops[1],
        (
            "general-2",
            "general-1",
            web(),
            1 + u32::from(hops[0].1 == "general-2")
        )
    );
    assert_eq!(relocation.evictions, 4);
}

#[test]
fn pods_without_room_are_found_with_the_nodes_that_would_help() {
    // The first needs a node of its own, and each of the others has one pod.
    let mut model = workers(3, 1_900);
    model.pods[0].requests.cpu_milli = 2_500;
    let plan = plan(&model);
    let relocation = plan.relocation.as_ref().unwrap();
    assert_eq!(relocation.homeless, 1);
    assert_eq!(
        relocation.waits[0].object,
        ObjectName::namespaced("Deployment", "shop", "web")
    );
    assert_eq!(relocation.waits[0].pods, 1);
    assert!(relocation.waits[0].longest.is_some());
    let finding = found(&plan, "KM-CAPACITY-001").unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.object, ObjectName::cluster("Pool", "general"));
    assert!(
        finding.evidence.contains("1 (Deployment shop/web: 1)"),
        "{finding}"
    );
    assert!(
        finding.cure.starts_with("one more node like general-"),
        "{finding}"
    );
    assert!(finding.cure.contains("(4.0 CPU, 16.0 GiB)"), "{finding}");
    // Were the others' on one node, there would be room: nothing is impossible.
    assert!(found(&plan, "KM-CAPACITY-004").is_none());
}

#[test]
fn a_node_whose_pod_is_larger_than_any_other_node_cannot_be_drained() {
    let mut model = workers(3, 500);
    model.nodes[1].allocatable.cpu_milli = 8_000;
    model.pods[1].requests.cpu_milli = 5_000;
    let plan = plan(&model);
    let finding = found(&plan, "KM-CAPACITY-004").unwrap();
    assert_eq!(finding.severity, Severity::Blocker);
    assert_eq!(finding.object, ObjectName::cluster("Pool", "general"));
    let words = "1 (general-2); Deployment shop/web: asks for 5 CPU, and no other node that admits \
                 it has more than 4 CPU for it";
    assert!(finding.evidence.contains(words), "{finding}");
    let words = "or one more node like general-2 (8.0 CPU, 16.0 GiB); or waive it";
    assert!(finding.cure.contains(words), "{finding}");
    // It is said once.
    assert!(found(&plan, "KM-CAPACITY-001").is_none());
    // Nobody knows what an away node would take, but as large as that it would.
    model.nodes[0].allocatable.cpu_milli = 8_000;
    model.nodes[0].ready = false;
    let plan = plan_under(&model, &wide(2));
    assert!(found(&plan, "KM-CAPACITY-004").is_none());
    assert!(found(&plan, "KM-CAPACITY-001").is_some());
}

#[test]
fn nodes_with_a_pod_of_more_than_half_each_cannot_be_drained() {
    let plan = plan(&workers(3, 2_500));
    let finding = found(&plan, "KM-CAPACITY-004").unwrap();
    let words = "3 (general-1, general-2, general-3); Deployment shop/web: 3 pods that are tied to \
                 the nodes which admit it ask for as much cpu, and the others of these have places \
                 for 2";
    assert!(finding.evidence.contains(words), "{finding}");
    // Each is in the schedule for all that, for who waives it.
    let verified = plan.schedule.iter().filter(|it| it.phase == Phase::Verify);
    assert_eq!(verified.count(), 4);
}

#[test]
fn a_pod_that_is_too_large_for_its_own_node_too_needs_a_larger_one() {
    let mut model = workers(3, 500);
    model.nodes[0].allocatable.cpu_milli = 3_000;
    model.pods[2].requests.cpu_milli = 5_000;
    let plan = plan(&model);
    let finding = found(&plan, "KM-CAPACITY-004").unwrap();
    assert!(finding.cure.contains("a larger node than"), "{finding}");
}

#[test]
fn workloads_that_end_on_one_node_are_told() {
    let plan_of_two = plan(&workers(2, 500));
    let crowded = &plan_of_two.relocation.as_ref().unwrap().crowded;
    assert_eq!(
        crowded,
        &[ObjectName::namespaced("Deployment", "shop", "web")]
    );
    let finding = found(&plan_of_two, "KM-SPREAD-003").unwrap();
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.evidence.contains("shop/web"), "{finding}");
    assert!(found(&plan(&workers(5, 500)), "KM-SPREAD-003").is_none());
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    let model = workers(5, 1_200);
    let mut turned = model.clone();
    turned.nodes.reverse();
    turned.pods.reverse();
    turned.sort();
    let policy = Policy::default();
    let plan = |model| {
        let planner = Planner::new(model, &policy, version(NEW)).with_destinations();
        planner.plan().unwrap()
    };
    assert_eq!(plan(&model), plan(&turned));
}

/// `width` nodes of each pool at once, if there is room.
fn wide(width: u32) -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    policy
}

fn plan_under(model: &ClusterModel, policy: &Policy) -> Plan {
    let planner = Planner::new(model, policy, version(NEW));
    linted(planner.plan().unwrap(), model, policy)
}

#[test]
fn capacity_limits_the_width_and_the_plan_says_why() {
    // Forty CPUs, of which 27 are asked for: three nodes may be away.
    let model = workers(10, 2_700);
    let plan = plan_under(&model, &wide(5));
    let pool = &plan.pools[0];
    assert_eq!((pool.width, pool.limit.as_ref().unwrap().asked), (3, 5));
    assert_eq!(pool.limit.as_ref().unwrap().resource, "cpu");
    let finding = found(&plan, "KM-CAPACITY-003").unwrap();
    let words = "capacity limits the width to 3 where policy asks for 5";
    assert!(finding.evidence.starts_with(words), "{finding}");
    assert_eq!(plan.id, plan.identity());
    // As narrow by policy it is the same plan, and nothing is said.
    let narrow = plan_under(&model, &wide(3));
    assert_eq!(narrow.makespan(), plan.makespan());
    assert_eq!(narrow.pools[0].limit, None);
    assert!(found(&narrow, "KM-CAPACITY-003").is_none());
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
    let table = PlanTable::new(&plan).to_string();
    assert!(table.contains("3 (cpu; 5 asked)"), "{table}");
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
    let rest: std::time::Duration = plan
        .schedule
        .iter()
        .filter(|action| action.target.name().starts_with("general"))
        .filter(|action| action.phase != Phase::Drain)
        .map(|action| action.end - action.start)
        .sum();
    let members = bounds
        .limits
        .iter()
        .find(|limit| limit.kind == BoundKind::ControlPlane);
    // Σ d · C / slack: ten nodes of 4 CPUs, 13 to spare.
    let expected = members.unwrap().time.as_millis() + (rest.as_millis() * 4).div_ceil(13);
    assert_eq!(of_room.unwrap().time.as_millis(), expected);
}

#[test]
fn too_little_room_for_a_single_node_is_found() {
    let model = workers(3, 2_700);
    let plan = plan_under(&model, &wide(2));
    assert_eq!(plan.pools[0].width, 1);
    let finding = found(&plan, "KM-CAPACITY-002").unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    // It is planned all the same, and bounds nothing.
    let is_of_cpu = |kind: &BoundKind| matches!(kind, BoundKind::Capacity { resource, .. } if resource == "cpu");
    let limits = plan.bounds.unwrap().limits;
    assert!(!limits.iter().any(|limit| is_of_cpu(&limit.kind)));
}

#[test]
fn nodes_that_are_away_already_do_not_keep_a_narrowed_pool_from_beginning() {
    let mut model = workers(10, 2_700);
    for node in &mut model.nodes[..4] {
        node.unschedulable = true;
    }
    let plan = plan_under(&model, &wide(5));
    assert_eq!(plan.pools[0].width, 4);
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
    assert_eq!(plan.pools[0].width, 5);
}

/// Where room makes a pool narrow nobody is told that one more node of it would help.
#[test]
fn a_narrowed_pool_is_not_to_be_wider() {
    let model = workers(4, 1_100);
    let relief_of = |width| {
        let plan = plan_under(&model, &wide(width));
        let bounds = plan.bounds.unwrap();
        let is_of_slots = matches!(bounds.best().unwrap().kind, BoundKind::Slots { .. });
        (is_of_slots, plan.pools[0].width, bounds.relief.is_some())
    };
    assert_eq!(relief_of(1), (true, 1, true));
    assert_eq!(relief_of(3), (true, 2, false));
}

/// What is kept for failures is never begun into, so a pool as narrow as that would
/// never begin.
#[test]
fn a_narrowed_pool_keeps_its_reserve_and_one_more() {
    let model = workers(10, 2_700);
    let with = |reserve| {
        let mut policy = wide(6);
        policy.pools.failure_reserve = IntOrPercent::Int(reserve);
        let plan = plan_under(&model, &policy);
        let verified = plan.schedule.iter().filter(|a| a.phase == Phase::Verify);
        assert_eq!(verified.count(), 11);
        plan.pools[0].width
    };
    assert_eq!((with(0), with(1), with(4)), (3, 3, 5));
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
    assert_eq!(better.pools, plan.pools);
    // Planned anew without a change it stays as it is.
    let again = planner().replan(&plan).unwrap();
    assert!(again.keeps_order);
    assert_eq!(again.plan.pools, plan.pools);
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

/// Nodes by pool with their CPUs; pods with what they ask for, and whether they may
/// leave their pool.
type Tight = (Vec<(usize, u64)>, Vec<(usize, u64, bool)>, u32);

fn tight() -> impl Strategy<Value = Tight> {
    let pools = prop::collection::vec((1..7usize, 2..9u64), 1..4);
    let pods = prop::collection::vec((0..50usize, 0..5u64, any::<bool>()), 0..40);
    (pools, pods, 1..5u32)
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
        }
        for (pod, (place, cpu, stays)) in model.pods.iter_mut().zip(pods) {
            pod.requests = Resources::new(cpu * 500, 1 << 28, 1);
            if *stays {
                let pool = format!("pool-{}", places[place % places.len()].0);
                let selector = &mut pod.placement.node_selector;
                selector.insert("node.kubernetes.io/pool".into(), pool);
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
    /// none, narrows no pool and makes no move necessary.
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
        for pool in &plan.pools {
            let wider = then.pools.iter().find(|other| other.name == pool.name).unwrap();
            prop_assert!(wider.width >= pool.width, "{:?} {:?}", pool, wider);
        }
        let homeless = |plan: &Plan| plan.relocation.as_ref().unwrap().homeless;
        if tight.1.iter().all(|(.., stays)| !stays) {
            prop_assert_eq!(homeless(&then), 0);
        }
    }
}
