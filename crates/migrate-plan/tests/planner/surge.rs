//! Pools with surge: nodes that go behind replacements.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::model::Resources;
use migrate_core::{ClusterModel, Phase, Plan, Policy, Severity};
use migrate_plan::{Beliefs, Forecaster, PlanTable, PlanTimeline, Planner, lint};

use crate::support::{Cluster, NEW, linted, version};
use crate::{drains, took};

/// So many nodes of `general` may be away and go behind replacements.
fn policy(unavailable: u32, surge: u32) -> Policy {
    let mut policy = Policy::default();
    let pools = &mut policy.pools;
    pools.max_unavailable = unavailable.to_string().parse().unwrap();
    pools.max_surge_of = BTreeMap::from([("general".into(), surge.to_string().parse().unwrap())]);
    pools.canary = false;
    policy
}

/// Four workers with a pod on each, which have room for two more.
fn cluster() -> Cluster {
    let names = ["general-1", "general-2", "general-3", "general-4"];
    let cluster = Cluster::new().member("m").pool("general", 4);
    let cluster = cluster.deployment("web", &names).budget("web", 4);
    cluster.change(|model| {
        for node in &mut model.nodes {
            node.allocatable = Resources::new(4000, 8 << 30, 110);
        }
        for pod in &mut model.pods {
            pod.requests = Resources::new(1000, 1 << 30, 1);
        }
    })
}

fn planned(model: &ClusterModel, policy: &Policy) -> Plan {
    let planner = Planner::new(model, policy, version(NEW)).with_replacements();
    linted(planner.plan().unwrap(), model, policy)
}

/// Begin and end of each phase of `node`.
fn phases(plan: &Plan, node: &str) -> Vec<(Phase, Duration, Duration)> {
    let actions = plan.schedule.iter().filter(|it| it.target.name() == node);
    actions.map(|it| (it.phase, it.start, it.end)).collect()
}

#[test]
fn a_node_goes_behind_a_replacement_that_is_ready() {
    let (model, policy) = (cluster().build(), policy(0, 1));
    let plan = planned(&model, &policy);
    let pool = &plan.pools[0];
    assert_eq!((pool.width, pool.surge, pool.slots()), (0, 1, 1));
    for slot in &plan.slots {
        let phases = phases(&plan, &slot.node);
        let order = phases.iter().map(|(phase, ..)| *phase);
        let all = [
            Phase::Provision,
            Phase::Drain,
            Phase::Upgrade,
            Phase::Verify,
        ];
        assert!(order.eq(all), "{phases:?}");
        assert!(phases.is_sorted_by(|a, b| a.2 == b.1), "{phases:?}");
        // A machine in 120 s and 30 s, and the old one away in 60 s.
        let seconds = |phase| took(&plan, &slot.node, phase).as_secs();
        assert_eq!(
            (seconds(Phase::Provision), seconds(Phase::Upgrade)),
            (150, 60)
        );
    }
    // One machine more at a time.
    let drains = drains(&plan);
    let rounds = drains.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let [first, ..] = plan.slots.as_slice() else {
        panic!()
    };
    let whole = phases(&plan, &first.node);
    let whole = whole[3].2 - whole[0].1;
    assert!(rounds.into_iter().all(|round| round == whole));
    let bounds = plan.bounds.as_ref().unwrap();
    assert!(bounds.best().unwrap().time <= plan.makespan());
}

#[test]
fn both_kinds_of_slots_are_used_and_take_as_long() {
    let (model, policy) = (cluster().build(), policy(1, 2));
    let plan = planned(&model, &policy);
    let of_nodes = || {
        let actions = plan.schedule.iter();
        actions.filter(|it| it.target.name().starts_with("general"))
    };
    let begin = of_nodes().map(|it| it.start).min();
    let first = of_nodes().filter(|it| Some(it.start) == begin);
    let first: Vec<Phase> = first.map(|it| it.phase).collect();
    assert_eq!(first, [Phase::Provision, Phase::Provision, Phase::Drain]);
    let ends = plan.slots.iter().map(|slot| phases(&plan, &slot.node));
    let lengths = ends.map(|it| it.last().unwrap().2 - it[0].1);
    let lengths: Vec<Duration> = lengths.collect();
    assert!(
        lengths.iter().all(|length| *length == lengths[0]),
        "{lengths:?}"
    );
}

/// The closed forms: 1 + b / N without surge, 1 where each goes behind a replacement.
#[test]
fn pods_move_once_behind_replacements() {
    let model = cluster().build();
    let moves = |policy: &Policy| planned(&model, policy).relocation.unwrap();
    let without = moves(&policy(1, 0));
    assert_eq!((without.pods, without.evictions), (4, 5));
    for surge in [1, 2, 4] {
        let with = moves(&policy(0, surge));
        assert_eq!(
            (with.pods, with.evictions, with.homeless),
            (4, 4, 0),
            "{surge}"
        );
    }
    // The one that is away goes first, to nodes that go later.
    let both = moves(&policy(1, 1));
    assert_eq!((both.pods, both.evictions), (4, 5));
}

#[test]
fn a_replacement_has_room_where_the_others_have_none() {
    let full = cluster().change(|model| {
        for pod in &mut model.pods {
            pod.requests = Resources::new(3000, 1 << 30, 1);
        }
    });
    let model = full.build();
    let homeless = |policy: &Policy| planned(&model, policy).relocation.unwrap().homeless;
    assert_eq!((homeless(&policy(1, 0)), homeless(&policy(0, 1))), (4, 0));
}

/// Budgets are held by drains alone: the second waits with its machine, and no longer.
#[test]
fn a_drain_waits_for_its_budget_with_its_replacement() {
    let model = cluster().change(|model| {
        let budget = &mut model.budgets[0];
        budget.min_available = Some("3".parse().unwrap());
        budget.status.desired_healthy = 3;
        budget.status.disruptions_allowed = 1;
    });
    let (model, policy) = (model.build(), policy(0, 2));
    let plan = planned(&model, &policy);
    let [a, b] = [0, 1].map(|at| phases(&plan, &plan.slots[at].node));
    assert_eq!((a[0].1, a[0].2), (b[0].1, b[0].2), "made at the same time");
    assert_eq!(
        (a[1].1, b[1].1),
        (a[0].2, a[1].2),
        "drained one after the other"
    );
}

#[test]
fn a_cordoned_node_takes_nothing_from_the_others() {
    let model = cluster()
        .node("general-3", |node| node.unschedulable = true)
        .build();
    let policy = policy(0, 1);
    let plan = planned(&model, &policy);
    let (first, last) = (&plan.slots[0], &plan.slots[3]);
    assert!(
        plan.slots
            .iter()
            .all(|slot| phases(&plan, &slot.node).len() == 4)
    );
    assert!(phases(&plan, &first.node)[0].1 < phases(&plan, &last.node)[0].1);
}

#[test]
fn windows_count_what_is_left_behind_a_replacement() {
    let (model, mut policy) = (cluster().build(), policy(0, 2));
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "09:10"}]"#).unwrap();
    let plan = planned(&model, &policy);
    assert_eq!(plan.pools[0].provision, Duration::from_secs(150));
    let whole = plan.slots[0].length;
    let seen = phases(&plan, &plan.slots[0].node);
    assert_eq!(whole, seen[3].2 - seen[0].1);
    assert!(
        plan.slots
            .iter()
            .all(|slot| phases(&plan, &slot.node).len() == 4)
    );
}

#[test]
fn nobody_who_makes_machines_is_a_blocker() {
    let (model, policy) = (cluster().build(), policy(0, 2));
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let found = plan
        .findings
        .iter()
        .find(|it| it.code == "KM-SURGE-001")
        .unwrap();
    assert!(found.blocks() && found.object.name == "general", "{found}");
    assert!(
        found.cure.contains("pools.max-surge-of.general = 0"),
        "{found}"
    );
    let plan = planned(&model, &policy);
    assert!(
        plan.findings
            .iter()
            .all(|it| !it.code.starts_with("KM-SURGE"))
    );
    // The node that goes back is changed in place.
    let back = Planner::new(&model, &policy, version("v1.36.2")).taking_back("general-1");
    let back = back.plan().unwrap();
    assert_eq!((back.pools[0].width, back.pools[0].surge), (1, 0));
    assert!(back.findings.iter().all(|it| it.code != "KM-SURGE-001"));
}

#[test]
fn a_pod_that_only_its_machine_admits_is_a_blocker() {
    let tied = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        let model = cluster().change(|model| {
            let placement = &mut model.pods[0].placement;
            let mut own = (**placement).clone();
            own.node_selector.insert(key.clone(), value);
            *placement = own.into();
            for node in &mut model.nodes {
                let name = node.name.clone();
                node.labels.insert("kubernetes.io/hostname".into(), name);
                node.labels.insert("disk".into(), "fast".into());
            }
        });
        let model = model.build();
        let policy = policy(0, 1);
        let planner = Planner::new(&model, &policy, version(NEW)).with_replacements();
        let found = planner.plan().unwrap().findings;
        found.into_iter().find(|it| it.code == "KM-SURGE-002")
    };
    let found = tied("kubernetes.io/hostname", "general-1").unwrap();
    assert!(
        found.severity == Severity::Blocker && found.evidence.contains("shop/web-0001"),
        "{found}"
    );
    // The replacement has that label.
    assert!(tied("disk", "fast").is_none());
}

/// Certain of every phase, a forecast is the plan; else making machines is a part of it.
#[test]
fn forecasts_have_what_replacements_take() {
    let (model, policy) = (cluster().build(), policy(1, 2));
    let plan = planned(&model, &policy);
    let of = |beliefs: &Beliefs| {
        let draws = Draws::new(1);
        let forecast = Forecaster::of_plan(&model, &policy, &plan, beliefs, &draws);
        forecast.unwrap().unwrap()
    };
    let certain = of(&Beliefs::certain());
    assert_eq!(certain.makespan.p95, plan.makespan());
    let believed = of(&Beliefs::default());
    assert!(believed.makespan.p95 > plan.makespan());
}

#[test]
fn views_tell_it() {
    let (model, policy) = (cluster().build(), policy(1, 2));
    let plan = planned(&model, &policy);
    let table = PlanTable::new(&plan).to_string();
    assert!(table.contains("1 + 2 replaced"), "{table}");
    assert!(table.contains("replacement made from "), "{table}");
    let timeline = PlanTimeline::new(&plan).to_string();
    assert!(
        timeline.contains("p replacement made") && timeline.contains("pp"),
        "{timeline}"
    );
}

/// What breaks a good plan is found, and nothing else.
#[test]
fn the_linter_judges_surge_by_itself() {
    let finds = |code: &str, change: &dyn Fn(&mut Plan, &mut Policy)| {
        let (model, mut policy) = (cluster().build(), policy(1, 2));
        let mut plan = planned(&model, &policy);
        change(&mut plan, &mut policy);
        plan.policy_hash = migrate_core::content_hash(&policy);
        let found = lint(&plan, &model, &policy);
        let codes: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
        let others = codes.iter().filter(|it| **it != "KM-LINT-002");
        assert!(codes.contains(&code), "{code}: {found:#?}");
        assert!(others.clone().all(|it| *it == code), "{code}: {found:#?}");
    };
    let replaced = |plan: &Plan| {
        let made = plan
            .schedule
            .iter()
            .filter(|it| it.phase == Phase::Provision);
        made.map(|it| it.target.clone()).collect::<Vec<_>>()
    };
    // More machines than policy allows: of two at once, one.
    finds("KM-LINT-022", &|plan, policy| {
        policy
            .pools
            .max_surge_of
            .insert("general".into(), "1".parse().unwrap());
        plan.pools[0].surge = 1;
    });
    finds("KM-LINT-003", &|plan, _| plan.pools[0].surge = 3);
    // Drained before its machine is there.
    finds("KM-LINT-005", &|plan, _| {
        let target = &replaced(plan)[0];
        let mut actions = plan.schedule.iter_mut();
        let made = actions.find(|it| it.phase == Phase::Provision && it.target == *target);
        made.unwrap().end += Duration::from_secs(1);
    });
    // Without its machine the node is away: three may not be.
    finds("KM-LINT-007", &|plan, _| {
        let target = &replaced(plan)[0];
        plan.schedule
            .retain(|it| it.phase != Phase::Provision || it.target != *target);
    });
}

/// The replacement has room for what no other node has.
#[test]
fn a_pod_too_large_for_all_but_its_own_node_goes_to_the_replacement() {
    let large = cluster().change(|model| {
        model.nodes[1].allocatable.cpu_milli = 8_000;
        model.pods[1].requests.cpu_milli = 5_000;
    });
    let model = large.build();
    let cannot = |plan: &Plan| {
        let mut found = plan.findings.iter();
        found.any(|finding| finding.code == "KM-CAPACITY-004")
    };
    assert!(!cannot(&planned(&model, &policy(0, 1))));
    assert!(cannot(&planned(&model, &policy(1, 0))));
}
