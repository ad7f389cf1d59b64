//! Where pods go, as plans tell it.

use migrate_core::model::Resources;
use migrate_core::{ClusterModel, Finding, ObjectName, Phase, Plan, Policy, Severity};
use migrate_plan::{PlanTable, Planner, plan_from_json, plan_to_json};

use crate::plan;
use crate::room::{plan_under, wide};
use crate::support::{Cluster, NEW, version};

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

pub(crate) fn found<'p>(plan: &'p Plan, code: &str) -> Option<&'p Finding> {
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
