//! What no order can beat, what would help, and what a change would do.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::{BoundKind, Bounds};
use migrate_core::policy::ZonePolicy;
use migrate_core::{BudgetKey, ClusterModel, IntOrPercent, Node, Plan, Policy, ZONE_LABEL};
use migrate_plan::{Change, Error, PlanTable, Planner};
use proptest::prelude::*;

use crate::support::{Cluster, NEW, linted, version};
use crate::{plan, small};

/// Pools with their widths, and workloads: where their pods are, and how many
/// may go at once.
#[derive(Clone, Debug)]
struct Shape {
    pools: Vec<(usize, u32)>,
    workloads: Vec<(Vec<usize>, Option<i32>)>,
    canary: bool,
    soak: u64,
    ramp: Vec<u32>,
    one_zone: bool,
    reserve: u32,
    pace: u32,
}

fn shape() -> impl Strategy<Value = Shape> {
    let workload = (
        prop::collection::vec(0..100usize, 2..9),
        prop::option::of(1..4i32),
    );
    let shape = (
        prop::collection::vec((1..9usize, 1..5u32), 1..4),
        prop::collection::vec(workload, 0..7),
        any::<bool>(),
        prop::sample::select(vec![0u64, 0, 600]),
        prop::sample::select(vec![vec![], vec![], vec![1, 3], vec![2, 3], vec![1, 2, 4]]),
        prop::sample::select(vec![false, false, true]),
        prop::sample::select(vec![0u32, 0, 1]),
        prop::sample::select(vec![0u32, 0, 1, 10]),
    );
    shape.prop_map(
        |(pools, workloads, canary, soak, ramp, one_zone, reserve, pace)| Shape {
            pools,
            workloads,
            canary,
            soak,
            ramp,
            one_zone,
            reserve,
            pace,
        },
    )
}

impl Shape {
    /// With `wider` for each pool. Names begin with `prefix` and are counted
    /// backwards if they are `turned`. With `spare`, each workload has one pod
    /// more, on a node that has nothing before it.
    fn plan(&self, wider: u32, turned: bool, spare: bool) -> Plan {
        let mut policy = Policy::default();
        policy.pools.canary = self.canary;
        policy.rollout.canary_soak = Duration::from_secs(self.soak);
        policy.pools.ramp.clone_from(&self.ramp);
        policy.pools.failure_reserve = IntOrPercent::Int(self.reserve);
        policy.rollout.displaced_per_minute = self.pace;
        if self.one_zone {
            policy.pools.zones = ZonePolicy::OneAtATime;
        }
        let mut cluster = Cluster::new().member("m");
        let mut names = Vec::new();
        let mut zones = BTreeMap::new();
        for (number, (nodes, width)) in self.pools.iter().enumerate() {
            let label = if turned { 9 - number } else { number };
            let pool = format!("pool-{label}");
            cluster = cluster.pool(&pool, *nodes);
            let name = |node: usize| {
                let node = if turned { *nodes - node } else { node + 1 };
                format!("{pool}-{node}")
            };
            for node in 0..*nodes {
                zones.insert(name(node), ["a", "b", "c"][node % 3]);
                names.push(name(node));
            }
            let width = IntOrPercent::Int(width + wider + self.reserve);
            policy.pools.max_unavailable_of.insert(pool, width);
        }
        for (number, (places, allowed)) in self.workloads.iter().enumerate() {
            let label = if turned { 50 - number } else { number };
            let name = format!("w{label}");
            let mut nodes: Vec<&str> = places
                .iter()
                .map(|place| names[place % names.len()].as_str())
                .collect();
            if spare {
                nodes.push("spare");
            }
            cluster = cluster.deployment(&name, &nodes);
            if let Some(allowed) = allowed {
                let allowed = (*allowed).min(places.len() as i32);
                cluster = cluster.budget(&name, allowed + i32::from(spare));
            }
        }
        let cluster = cluster.change(|model| {
            for node in &mut model.nodes {
                let zone = zones.get(&node.name).map(|zone| (*zone).to_owned());
                let label = zone.map(|zone| (ZONE_LABEL.to_owned(), zone));
                node.labels.extend(label);
            }
            model.nodes.push(Node::new("spare", version(NEW)));
        });
        let model = cluster.build();
        let planner = Planner::new(&model, &policy, version(NEW));
        linted(planner.plan().unwrap(), &model, &policy)
    }
}

fn best(plan: &Plan) -> Duration {
    plan.bounds.as_ref().unwrap().best().unwrap().time
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_plan_beats_its_bounds_and_more_of_anything_lengthens_none(shape in shape()) {
        let plan = shape.plan(0, false, false);
        prop_assert!(best(&plan) <= plan.makespan(), "{:?}", plan.bounds);
        prop_assert!(best(&shape.plan(1, false, false)) <= best(&plan));
        prop_assert!(best(&shape.plan(0, false, true)) <= best(&plan));
    }

    #[test]
    fn names_do_not_matter_to_bounds(shape in shape()) {
        let times = |plan: &Plan| {
            let limits = &plan.bounds.as_ref().unwrap().limits;
            limits.iter().map(|limit| limit.time).collect::<Vec<_>>()
        };
        prop_assert_eq!(times(&shape.plan(0, false, false)), times(&shape.plan(0, true, false)));
    }

    /// What is said to be saved is saved: by the bound, never less than said.
    #[test]
    fn relief_is_no_promise_too_much(shape in shape()) {
        let plan = shape.plan(0, false, false);
        let relief = plan.bounds.as_ref().and_then(|bounds| bounds.relief.clone());
        let of_pool = |kind: &BoundKind| {
            matches!(kind, BoundKind::Slots { .. } | BoundKind::Zones { .. })
        };
        let pool = relief.as_ref().is_some_and(|r| of_pool(&r.of));
        if let Some(relief) = relief {
            let then = if pool { shape.plan(1, false, false) } else { shape.plan(0, false, true) };
            // A pod more on another node changes nothing but what a real budget allows.
            let is_real = shape.workloads.iter().all(|(_, allowed)| allowed.is_some());
            if pool || is_real {
                prop_assert!(best(&then) + relief.saves <= best(&plan));
            }
        }
    }
}

/// Twelve nodes of `width`, each with a pod of one budget that lets one go.
fn twelve(width: &str) -> (ClusterModel, Policy) {
    let nodes: Vec<String> = (1..=12).map(|n| format!("general-{n}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let model = Cluster::new()
        .member("m")
        .pool("general", 12)
        .deployment("web", &nodes)
        .budget("web", 1)
        .build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = width.parse().unwrap();
    (model, policy)
}

fn bounds_of(width: &str) -> Bounds {
    let (model, policy) = twelve(width);
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    plan.bounds.unwrap()
}

#[test]
fn the_bottleneck_is_named_and_so_is_the_width_that_suffices() {
    let narrow = bounds_of("1");
    let slots = BoundKind::Slots {
        pool: "general".into(),
    };
    assert_eq!(narrow.best().unwrap().kind, slots);
    assert_eq!(narrow.relief.as_ref().unwrap().of, slots);
    // One by one there is nothing to lose.
    assert_eq!(narrow.gap_permille, 0);
    let wide = bounds_of("12");
    let best = wide.best().unwrap();
    assert!(best.kind.to_string().contains("shop/web"), "{best:?}");
    assert!(wide.relief.as_ref().unwrap().saves > Duration::ZERO);
    // The budget is the limit from some width on, and it is the same one.
    let useful = |bounds: &Bounds| bounds.widths[0].useful;
    assert_eq!(useful(&wide), useful(&narrow));
    assert!((2..12).contains(&useful(&wide)));
    let wide_enough = bounds_of(&useful(&wide).to_string());
    assert!(wide_enough.best().unwrap().time <= best.time * 102 / 100);
    let too_narrow = bounds_of(&(useful(&wide) - 1).to_string());
    assert!(too_narrow.best().unwrap().time > best.time * 102 / 100);
}

#[test]
fn windows_stretch_bounds() {
    let (model, mut policy) = twelve("1");
    let planner = Planner::new(&model, &policy, version(NEW));
    let always = best(&planner.plan().unwrap());
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "10:00"}]"#).unwrap();
    let windowed = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert!(best(&windowed) > always + Duration::from_secs(22 * 3600));
    assert!(best(&windowed) <= windowed.makespan());
}

/// The look at a node once more goes on while windows are closed.
#[test]
fn the_last_look_at_the_runners_node_is_stretched_by_no_window() {
    let model = Cluster::new().member("m").pool("general", 1).build();
    let mut policy = Policy::default();
    policy.rollout.canary_soak = Duration::from_secs(60);
    let mut looked_at = 0;
    for minutes in 5..60 {
        let window = format!(r#"[{{"from": "00:00", "to": "00:{minutes:02}"}}]"#);
        policy.rollout.windows = serde_json::from_str(&window).unwrap();
        let planner = Planner::new(&model, &policy, version(NEW)).with_runner_on("general-1");
        let plan = planner.plan().unwrap();
        if plan.bounds.is_none() {
            continue;
        }
        looked_at += 1;
        assert!(
            best(&plan) <= plan.makespan(),
            "{minutes} minutes: {:?} of {:?}",
            best(&plan),
            plan.makespan()
        );
    }
    assert!(looked_at > 20, "{looked_at}");
}

#[test]
fn what_cannot_begin_lengthens_no_bound() {
    let model = small().node("general-2", |node| node.ready = false).build();
    let plan = plan(&model);
    assert!(best(&plan) <= plan.makespan());
    // A node that is away leaves a pool of width one without any: what is left
    // is bounded as if there were one.
    assert!(
        plan.bounds
            .unwrap()
            .limits
            .iter()
            .all(|limit| limit.time > Duration::ZERO)
    );
}

#[test]
fn table_and_json_have_bounds_and_older_plans_have_none() {
    let plan = plan(&small().build());
    let table = PlanTable::new(&plan).to_string();
    assert!(table.contains("no order is faster than"), "{table}");
    let json = migrate_plan::plan_to_json(&plan).unwrap();
    assert_eq!(migrate_plan::plan_from_json(&json).unwrap(), plan);
    let mut old: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(old["bounds"]["limits"][0]["time"].is_u64(), "{json}");
    old.as_object_mut().unwrap().remove("bounds");
    let old = migrate_plan::plan_from_json(&old.to_string()).unwrap();
    assert_eq!(old.bounds, None);
    assert!(!PlanTable::new(&old).to_string().contains("no order"));
}

#[test]
fn what_if_plans_the_change() {
    let (model, policy) = twelve("12");
    let planner = Planner::new(&model, &policy, version(NEW));
    let budget = BudgetKey::real("shop", "web");
    let more = Change::Replicas { budget, more: 1 };
    let changed = planner.what_if(&more).unwrap();
    assert!(changed.after < changed.before, "{changed:?}");
    assert_eq!(changed.plan.makespan(), changed.after);
    let plan = planner.plan().unwrap();
    let beside = planner.what_if_beside(&plan, &more).unwrap();
    assert_eq!(beside.before, changed.before);
    assert_eq!(beside.plan, changed.plan);
    let narrow = Change::Width {
        pool: "general".into(),
        width: 1,
    };
    let narrow = planner.what_if(&narrow).unwrap();
    assert!(narrow.after > narrow.before);
    let mut other = policy.clone();
    other.pools.max_unavailable = "1".parse().unwrap();
    let other = planner.what_if(&Change::Policy(Box::new(other))).unwrap();
    assert_eq!(other.after, narrow.after);
    let mut fewer = model.clone();
    fewer.nodes.truncate(6);
    let fewer = planner.what_if(&Change::Model(Box::new(fewer))).unwrap();
    assert!(fewer.after < fewer.before);
    let unknown = Change::Replicas {
        budget: BudgetKey::real("shop", "none"),
        more: 1,
    };
    let error = planner.what_if(&unknown).unwrap_err();
    assert!(matches!(error, Error::NoSuchThing { .. }), "{error}");
    assert!(error.to_string().contains("shop/none"), "{error}");
}

/// A percentage takes its share of a further replica; an assumed budget of one
/// gains nothing from it.
#[test]
fn what_if_knows_what_a_replica_is_worth() {
    let (mut model, policy) = twelve("12");
    model.budgets.clear();
    let planner = Planner::new(&model, &policy, version(NEW));
    let budget = BudgetKey::assumed(&model.workloads[0].id);
    let more = Change::Replicas { budget, more: 1 };
    let changed = planner.what_if(&more).unwrap();
    assert_eq!(changed.after, changed.before);
    let mut relaxed = policy.clone();
    relaxed.assumed_budgets.max_unavailable = "50%".parse().unwrap();
    let relaxed = planner.what_if(&Change::Policy(Box::new(relaxed))).unwrap();
    assert!(relaxed.after < relaxed.before);
}

/// Where a budget that policy assumes is the bottleneck, its relief is a key of the policy.
#[test]
fn what_if_knows_what_a_larger_assumption_is_worth() {
    let (mut model, mut policy) = twelve("12");
    model.budgets.clear();
    for (from, to) in [("1", "2"), ("8%", "9%")] {
        policy.assumed_budgets.max_unavailable = from.parse().unwrap();
        let planner = Planner::new(&model, &policy, version(NEW));
        let plan = planner.plan().unwrap();
        let bounds = plan.bounds.as_ref().unwrap();
        let (of, relief) = (
            &bounds.best().unwrap().kind,
            bounds.relief.as_ref().unwrap(),
        );
        let key = BudgetKey::assumed(&model.workloads[0].id);
        assert_eq!((of, of.to_string()), (&relief.of, key.to_string()));
        assert_eq!(BudgetKey::from_shown(&of.to_string()), Some(key));
        let table = PlanTable::new(&plan).to_string();
        let words = "lets go at once (by assumed-budgets.max-unavailable of the policy, which is \
                     of all assumed budgets) would lower that by";
        assert!(table.contains(words), "{table}");
        let max_unavailable = policy.assumed_budgets.raised(12, 1);
        assert_eq!(max_unavailable.to_string(), to);
        let raised = Change::Assumed { max_unavailable };
        let changed = planner.what_if_beside(&plan, &raised).unwrap();
        assert!(changed.after < changed.before, "{changed:?}");
        assert!(best(&changed.plan) + relief.saves <= best(&plan));
        // A real budget's needs a replica, or another spec.
        let real = Planner::new(&twelve("12").0, &policy, version(NEW)).plan();
        let table = PlanTable::new(&real.unwrap()).to_string();
        assert!(
            table.contains("lets go at once would lower that"),
            "{table}"
        );
    }
}
