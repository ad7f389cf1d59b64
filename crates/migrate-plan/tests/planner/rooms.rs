//! Which rooms a plan has, and how much of each there is to spare.

use migrate_core::cost::BoundKind;
use migrate_core::model::Resources;
use migrate_core::{ClusterModel, IntOrPercent, Plan, Pod, ZONE_LABEL};
use migrate_plan::lint;

use crate::placement::workers;
use crate::room::{most_away, plan_under, wide};
use crate::support::{Cluster, NEW, version};

const POOL: &str = "node.kubernetes.io/pool";

/// What each pod is on is all that it may be on, of the labels that `keys` names.
fn tie(model: &mut ClusterModel, keys: &[&str]) {
    let nodes = model.nodes.clone();
    for pod in &mut model.pods {
        let is_its_own = |node: &&migrate_core::Node| Some(&node.name) == pod.node.as_ref();
        let node = nodes.iter().find(is_its_own).unwrap();
        for key in keys {
            let value = node.labels[*key].clone();
            pod.placement.node_selector.insert((*key).into(), value);
        }
    }
}

/// Every `zones`-th node is in the same zone.
fn spread(model: &mut ClusterModel, zones: usize) {
    for (number, node) in model.nodes.iter_mut().enumerate() {
        let zone = format!("zone-{}", number % zones);
        node.labels.insert(ZONE_LABEL.into(), zone);
    }
}

/// 22 pools in three zones each, of which only the room of some is looked at.
#[test]
fn pods_of_sets_that_are_not_looked_at_take_room_in_those_that_are() {
    let mut cluster = Cluster::new().member("m");
    for pool in 0..22 {
        let nodes: Vec<String> = (1..=12).map(|node| format!("p{pool:02}-{node}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let pool = format!("p{pool:02}");
        cluster = cluster.pool(&pool, 12).deployment(&pool, &nodes);
    }
    let mut model = cluster.build();
    spread(&mut model, 3);
    for node in &mut model.nodes {
        node.allocatable = Resources::new(4_000, 16 << 30, 110);
    }
    tie(&mut model, &[POOL, ZONE_LABEL]);
    for pod in &mut model.pods {
        pod.requests = Resources::new(3_000, 1 << 30, 1);
    }
    // In which the linter, which looks at more of them, finds nothing either.
    let plan = plan_under(&model, &wide(6));
    let of_pools = plan.rooms.iter().filter(|room| room.offers.len() == 12);
    let spare: Vec<u64> = of_pools.map(|room| room.spare).collect();
    assert_eq!(spare, [12_000; 22]);
}

/// As those of nodes that were drained before a plan is made anew.
#[test]
fn pods_without_a_node_need_room() {
    let mut model = workers(10, 2_700);
    for node in &mut model.nodes[..3] {
        node.unschedulable = true;
        for pod in &mut model.pods {
            pod.node.take_if(|on| *on == node.name);
        }
    }
    assert_eq!(
        model.pods.iter().filter(|pod| pod.node.is_none()).count(),
        3
    );
    let policy = wide(5);
    let plan = plan_under(&model, &policy);
    assert_eq!(plan.rooms[0].spare, 13_000);
    // One that no node could hold waits for something else.
    let mut large = model.clone();
    let waiting = large.pods.iter_mut().find(|pod| pod.node.is_none());
    waiting.unwrap().requests.cpu_milli = 4_001;
    assert_eq!(plan_under(&large, &policy).rooms[0].spare, 15_700);
    // Negative control of the linter: a plan that leaves them out.
    let mut without = model.clone();
    without.pods.retain(|pod| pod.node.is_some());
    let plan = plan_under(&without, &policy);
    assert_eq!(plan.rooms, []);
    let codes = |model| lint(&plan, model, &policy).into_iter().map(|it| it.code);
    assert!(!codes(&without).any(|code| code == "KM-LINT-014"));
    assert!(codes(&model).any(|code| code == "KM-LINT-014"));
}

/// They make way where their own node is drained, and nowhere else.
#[test]
fn pods_that_end_keep_their_room_on_nodes_that_stay() {
    let mut model = workers(4, 3_000);
    for node in &mut model.nodes[2..] {
        node.kubelet_version = version(NEW);
        let is_on_it = |pod: &&mut Pod| pod.node.as_ref() == Some(&node.name);
        for pod in model.pods.iter_mut().filter(is_on_it) {
            pod.requests.cpu_milli = 4_000;
            let mut job = pod.controller.as_deref().unwrap().clone();
            job.kind = "Job".into();
            pod.controller = Some(job.into());
        }
    }
    let policy = wide(2);
    let plan = plan_under(&model, &policy);
    assert_eq!((plan.rooms[0].spare, most_away(&plan)), (2_000, 1));
}

/// Also one that is upgraded already.
#[test]
fn any_node_of_a_pool_may_be_the_one_that_fails() {
    let mut model = workers(6, 2_000);
    model.nodes[0].allocatable.cpu_milli = 8_000;
    model.nodes[0].kubelet_version = version(NEW);
    for pod in &mut model.pods {
        if pod.node.as_ref() == Some(&model.nodes[0].name) {
            pod.requests.cpu_milli = 6_000;
        }
    }
    let mut policy = wide(3);
    policy.pools.failure_reserve = IntOrPercent::Int(1);
    let plan = plan_under(&model, &policy);
    // 28 CPUs, of which 16 are asked for, and eight are kept.
    assert_eq!((plan.rooms[0].spare, most_away(&plan)), (4_000, 1));
}

/// A node is in one zone, and the other needs as long as before.
#[test]
fn one_more_node_helps_no_other_zone() {
    let relief = |zones: usize| {
        let mut model = workers(20, 2_700);
        spread(&mut model, zones);
        tie(&mut model, &[ZONE_LABEL]);
        let mut policy = wide(12);
        policy.pools.canary = false;
        policy.assumed_budgets.enabled = false;
        let bounds = plan_under(&model, &policy).bounds.unwrap();
        let best = bounds.best().unwrap();
        assert!(matches!(best.kind, BoundKind::Capacity { .. }), "{best:?}");
        bounds.relief
    };
    assert!(relief(1).is_some());
    assert_eq!(relief(2), None);
}

/// More bytes than fit into the numbers of a schedule.
#[test]
fn amounts_are_rounded_so_that_no_node_waits_for_it() {
    let most_away_of = |bytes: u64| {
        let mut model = workers(6, 100);
        for node in &mut model.nodes {
            node.allocatable.memory_bytes = bytes;
        }
        for pod in &mut model.pods {
            pod.requests.memory_bytes = bytes / 2;
        }
        let plan: Plan = plan_under(&model, &wide(5));
        assert_eq!(plan.rooms[0].spare, 3 * bytes);
        most_away(&plan)
    };
    assert_eq!(
        [1 << 40, (1 << 40) + 1024, (1 << 40) + 6].map(most_away_of),
        [3; 3]
    );
}
