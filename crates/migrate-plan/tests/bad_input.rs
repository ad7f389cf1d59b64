//! Input that nobody should hand in: it gives an error or a report, never a panic,
//! and it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use migrate_core::cost::PhaseDurations;
use migrate_core::policy::ZonePolicy;
use migrate_core::{
    ClusterModel, DisruptionBudget, Finding, IntOrPercent, LabelSelector, Moment, Node, OnDeadline,
    Policy, Resources, Role,
};
use migrate_plan::{Change, Error, Input, Planner, Rollout, lint};
use proptest::prelude::*;
use support::{Cluster, NEW, OLD, Random, version};

/// Numbers that hurt.
fn number() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![
        0u32,
        0,
        1,
        1,
        2,
        3,
        7,
        1000,
        i32::MAX as u32,
        u32::MAX,
    ])
}

fn signed() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![i32::MIN, -1, 0, 0, 1, 1, 2, 5, i32::MAX])
}

fn share() -> impl Strategy<Value = IntOrPercent> {
    let percent = number().prop_map(IntOrPercent::Percent);
    prop_oneof![number().prop_map(IntOrPercent::Int), percent]
}

fn time() -> impl Strategy<Value = Duration> {
    let year = 31_536_000_000;
    prop::sample::select(vec![0, 1, 999, 1000, 60_000, year, u64::MAX / 2, u64::MAX])
        .prop_map(Duration::from_millis)
}

fn policy() -> impl Strategy<Value = Policy> {
    let pools = (
        share(),
        share(),
        prop::collection::vec(number(), 0..4),
        any::<bool>(),
        any::<bool>(),
    );
    let rollout = (time(), number(), number(), any::<bool>(), 0..4usize);
    let own = (
        prop::sample::select(vec!["pool-0", "pool-1", "control-plane", "none"]),
        prop::sample::select(vec![
            "0.0",
            "v1.36.3",
            "v1.37.2",
            "v1.37.2+x",
            "9.4294967295.1",
        ]),
    );
    let own = prop::collection::vec(own, 0..3);
    let rest = (share(), any::<bool>(), time(), any::<bool>(), own);
    (pools, rollout, rest).prop_map(|(pools, rollout, rest)| {
        let mut policy = Policy::default();
        let zones;
        let of = &mut policy.pools;
        (
            of.max_unavailable,
            of.failure_reserve,
            of.ramp,
            of.canary,
            zones,
        ) = pools;
        if zones {
            of.zones = ZonePolicy::OneAtATime;
        }
        let windows;
        let of = &mut policy.rollout;
        (
            of.canary_soak,
            of.max_failed_nodes,
            of.displaced_per_minute,
            of.control_plane_nodes_first,
            windows,
        ) = rollout;
        let window = [
            "[]",
            r#"[{"from": "09:00", "to": "09:01"}]"#,
            r#"[{"from": "1970-01-01T00:00Z", "to": "1970-01-02T00:00Z"}]"#,
            r#"[{"from": "00:00", "to": "24:00"}]"#,
        ];
        of.windows = serde_json::from_str(window[windows]).unwrap();
        // Its only window is blacked out.
        if windows == 3 {
            of.blackouts = of.windows.clone();
        }
        let skip;
        let own;
        (
            policy.assumed_budgets.max_unavailable,
            policy.assumed_budgets.enabled,
            policy.deadlines.drain,
            skip,
            own,
        ) = rest;
        let own = own.into_iter().filter(|_| windows % 2 == 0);
        let own = own.map(|(pool, own)| (pool.to_owned(), version(own)));
        policy.pools.target_of = own.collect();
        if skip {
            policy.deadlines.then = OnDeadline::Skip;
        }
        policy
    })
}

/// A budget's numbers: status and spec say what they like.
type Numbers = ([i32; 4], Option<IntOrPercent>, Option<IntOrPercent>, bool);

fn model() -> impl Strategy<Value = ClusterModel> {
    let budget = (
        [signed(), signed(), signed(), signed()],
        prop::option::of(share()),
        prop::option::of(share()),
        any::<bool>(),
    );
    let shape = (0..3usize, 0..3usize, prop::collection::vec(0..6usize, 0..3));
    let rest = (
        prop::collection::vec(number(), 0..4),
        prop::collection::vec(budget, 0..5),
        any::<u64>(),
        prop::sample::select(vec![0u64, 1_800_000_000_000, u64::MAX - 1, u64::MAX]),
    );
    (shape, rest).prop_map(|(shape, rest)| {
        let (members, control_plane, pools) = shape;
        let (replicas, budgets, seed, taken_at) = rest;
        build(
            members,
            control_plane,
            &pools,
            &replicas,
            &budgets,
            seed,
            taken_at,
        )
    })
}

fn build(
    members: usize,
    control_plane: usize,
    pools: &[usize],
    replicas: &[u32],
    budgets: &[Numbers],
    seed: u64,
    taken_at: u64,
) -> ClusterModel {
    let mut random = Random(seed);
    let mut cluster = Cluster::new();
    for member in 0..members {
        cluster = cluster.member(&format!("m{member}"));
    }
    cluster = cluster.pool("control-plane", control_plane);
    let mut names = vec!["nowhere".to_owned(), String::new()];
    for (number, nodes) in pools.iter().enumerate() {
        let pool = format!("pool-{number}");
        cluster = cluster.pool(&pool, *nodes);
        names.extend((1..=*nodes).map(|node| format!("{pool}-{node}")));
    }
    for number in 0..replicas.len() {
        let place = |_| names[random.below(names.len() as u64) as usize].clone();
        let places: Vec<String> = (0..4).map(place).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        cluster = cluster.deployment(&format!("w{number}"), &places);
    }
    let cluster = cluster.change(|model| {
        model.taken_at = Moment::from_millis(taken_at);
        for (workload, replicas) in model.workloads.iter_mut().zip(replicas) {
            workload.replicas = *replicas;
            workload.ready = random.next() as u32;
        }
        for (number, (status, min, max, observed)) in budgets.iter().enumerate() {
            let selector = match number % 3 {
                0 => LabelSelector::new(),
                _ => LabelSelector::new().with_label("app", "w0"),
            };
            let mut budget = DisruptionBudget::new("shop", format!("b{number}"), selector);
            (budget.min_available, budget.max_unavailable) = (*min, *max);
            let of = &mut budget.status;
            of.observed = *observed;
            [
                of.expected_pods,
                of.current_healthy,
                of.desired_healthy,
                of.disruptions_allowed,
            ] = *status;
            model.budgets.push(budget);
        }
        for node in &mut model.nodes {
            node.ready = random.percent(80);
            node.unschedulable = random.percent(20);
            if random.percent(10) {
                node.role = Role::ControlPlane;
            }
            node.allocatable = Resources::new(random.next(), 0, 0);
        }
        for pod in &mut model.pods {
            pod.ready = random.percent(80);
            pod.grace_seconds = [0, 30, u64::from(u32::MAX), u64::MAX][random.below(4) as usize];
            pod.requests = Resources::new(u64::MAX, u64::MAX, u64::MAX);
        }
        // The same name twice.
        if random.percent(20)
            && let Some(node) = model.nodes.first().cloned()
        {
            model.nodes.push(node);
        }
        if random.percent(20)
            && let Some(budget) = model.budgets.first().cloned()
        {
            model.budgets.push(budget);
        }
    });
    cluster.build()
}

/// Everything that is made of a model: none of it panics.
fn all_of_it(model: &ClusterModel, policy: &Policy, durations: &PhaseDurations) {
    let planner = Planner::new(model, policy, version(NEW)).with_durations(durations.clone());
    let _ = planner.journey();
    let _ = planner.what_if(&Change::Width {
        pool: "pool-0".into(),
        width: u32::MAX,
    });
    let plan = match planner.plan() {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let _ = lint(&plan, model, policy);
    let _ = migrate_plan::PlanTable::new(&plan).to_string();
    let json = migrate_plan::plan_to_json(&plan).unwrap();
    assert!(migrate_plan::plan_from_json(&json).is_ok());
    if let Ok(mut rollout) = Rollout::new(&plan, model, policy) {
        rollout.handle(model.taken_at, &Input::Started);
        let _ = (rollout.waiting(), rollout.wake_at());
        // Nobody waits longer between two looks: each window in between is looked at.
        let later = model.taken_at + Duration::from_secs(3 * 24 * 60 * 60);
        for at in [Moment::EPOCH, later] {
            while rollout.poll(at).is_some() {}
        }
        rollout.handle(later, &Input::Aborted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        // What fails is small anyway.
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_panics(model in model(), mut policy in policy(), mut time in time()) {
        // Each window that passes is looked at: policies and measurements know no more
        // than a year, which is what there is to pass.
        if !policy.rollout.calendar().is_always_open() {
            let year = Duration::from_secs(31_536_000);
            policy.rollout.canary_soak = policy.rollout.canary_soak.min(year);
            policy.deadlines.drain = policy.deadlines.drain.min(year);
            time = time.min(year);
        }
        let mut durations = PhaseDurations::default();
        all_of_it(&model, &policy, &durations);
        durations.upgrade_node = time;
        durations.stop = time;
        durations.control_plane_member = time;
        all_of_it(&model, &policy, &durations);
    }

    /// No text is a model by which somebody plans something else.
    #[test]
    fn documents_that_were_damaged_are_refused_or_read(model in model(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&model).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(text) = String::from_utf8(text)
            && let Ok(model) = ClusterModel::from_json(&text)
        {
            let _ = Planner::new(&model, &Policy::default(), version(NEW)).plan();
        }
    }
}

#[test]
fn negative_quantities_and_what_is_no_number_are_refused() {
    let model = serde_json::to_string(&Cluster::new().member("m").pool("general", 1).build());
    let model = model.unwrap();
    for (from, to) in [
        (r#""cpuMilli":0"#, r#""cpuMilli":-1"#),
        (r#""cpuMilli":0"#, r#""cpuMilli":NaN"#),
        (r#""cpuMilli":0"#, r#""cpuMilli":1e400"#),
        (r#""memoryBytes":0"#, r#""memoryBytes":0.5"#),
    ] {
        assert!(model.contains(from), "{model}");
        let error = ClusterModel::from_json(&model.replacen(from, to, 1)).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    let read = |text: &str| serde_json::from_str::<Policy>(text);
    for text in [
        r#"{"pools": {"max-unavailable": -1}}"#,
        r#"{"pools": {"max-unavailable": "-5%"}}"#,
        r#"{"pools": {"failure-reserve": 0.5}}"#,
        r#"{"pools": {"ramp": [4, 1]}}"#,
        r#"{"rollout": {"displaced-per-minute": -3}}"#,
        r#"{"rollout": {"canary-soak": -1}}"#,
        r#"{"deadlines": {"drain": 0}}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

/// What contradicts itself is a blocker before the start.
#[test]
fn policies_that_let_nothing_begin_are_told() {
    let model = Cluster::new().member("m").pool("general", 3).build();
    let blocked = |change: fn(&mut Policy)| {
        let mut policy = Policy::default();
        change(&mut policy);
        let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        let found = plan.findings.iter().find(|finding| finding.blocks());
        found.map(|finding| finding.code.clone())
    };
    assert_eq!(blocked(|_| {}), None);
    let kept = |policy: &mut Policy| policy.pools.failure_reserve = IntOrPercent::Int(1);
    assert_eq!(blocked(kept).as_deref(), Some("KM-NODE-006"));
    let dark = |policy: &mut Policy| {
        policy.rollout.blackouts =
            serde_json::from_str(r#"[{"from": "00:00", "to": "24:00"}]"#).unwrap();
    };
    assert_eq!(blocked(dark).as_deref(), Some("KM-WINDOW-001"));
    let none = Cluster::new().pool("general", 3).build();
    let plan = Planner::new(&none, &Policy::default(), version(NEW)).plan();
    assert!(matches!(plan, Err(Error::NoPath(_))), "{plan:?}");
}

/// `count` budgets that all guard one pod.
fn guarded_by(count: usize) -> ClusterModel {
    let mut model = Cluster::new()
        .member("m")
        .pool("general", 2)
        .deployment("web", &["general-1", "general-2"])
        .build();
    model.budgets = (0..count)
        .map(|number| {
            let selector = LabelSelector::new().with_label("app", "web");
            let mut budget = DisruptionBudget::new("shop", format!("b{number:07}"), selector);
            budget.max_unavailable = Some(IntOrPercent::Int(1));
            budget
        })
        .collect();
    model.nodes.push(Node::new("spare", version(OLD)));
    model.sort();
    model
}

fn is_impossible(model: &ClusterModel) {
    let policy = Policy::default();
    let plan = Planner::new(model, &policy, version(NEW)).plan().unwrap();
    let doubly = plan.findings.iter().filter(|f| f.code == "KM-PDB-002");
    let doubly: Vec<&Finding> = doubly.collect();
    assert!(!doubly.is_empty() && doubly.len() <= 2, "{}", doubly.len());
    for finding in doubly {
        assert!(
            finding.blocks() && finding.to_string().len() < 1000,
            "{finding}"
        );
    }
}

#[test]
fn many_budgets_on_one_pod_are_told_once() {
    is_impossible(&guarded_by(3_000));
}

#[test]
#[ignore = "a million budgets take long where nothing is optimised"]
fn a_million_budgets_on_one_pod_are_told_once() {
    is_impossible(&guarded_by(1_000_000));
}
