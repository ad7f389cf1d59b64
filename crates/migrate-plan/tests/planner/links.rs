//! Nodes that fetch over links which they share, in the prediction alone.

use std::time::Duration;

use migrate_core::cost::{
    BoundKind, Bytes, BytesPerSecond, Link, PhaseDurations, TermKind, transfer_time,
};
use migrate_core::{ClusterModel, Phase, Plan, Policy, Severity};
use migrate_plan::{Change, Error, Measured, PlanTable, Planner, TargetKind, lint, plan_to_json};
use proptest::prelude::*;

use crate::support::{Cluster, NEW, linted, version};
use crate::{holds_together, took};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// So many nodes, of which `width` may be away at once, and a control plane that is done.
fn nodes(count: usize, width: usize) -> (ClusterModel, Policy) {
    let cluster = Cluster::new().member("m").pool("general", count);
    let done = |model: &mut ClusterModel| model.control_plane[0].version = version(NEW);
    let mut policy = Policy::default();
    policy.pools.canary = false;
    policy.pools.max_unavailable = width.to_string().parse().unwrap();
    policy.backup.after_control_plane = false;
    (cluster.change(done).build(), policy)
}

/// Each node takes `bytes` over it.
fn link(bytes: u64, throughput: u64) -> Link {
    Link::new("registry", BytesPerSecond(throughput)).with_per_node(Bytes(bytes))
}

/// Nothing takes any time by itself.
fn nothing() -> PhaseDurations {
    let mut durations = PhaseDurations::default();
    for duration in [
        &mut durations.cordon,
        &mut durations.upgrade_node,
        &mut durations.boot,
        &mut durations.node_ready,
        &mut durations.verify,
        &mut durations.provision,
        &mut durations.remove,
    ] {
        *duration = Duration::ZERO;
    }
    durations
}

fn bandwidth(plan: &Plan) -> Option<Duration> {
    let mut limits = plan.bounds.iter().flat_map(|bounds| &bounds.limits);
    let is_link =
        |kind: &BoundKind| matches!(kind, BoundKind::Bandwidth { link } if link == "registry");
    let bound = limits.find(|limit| is_link(&limit.kind));
    bound.map(|bound| bound.time)
}

/// A twelve of nodes at once, two minutes of transfer each.
fn wide() -> (ClusterModel, Policy, Link) {
    let (model, policy) = nodes(12, 12);
    (model, policy, link(1200, 10))
}

#[test]
fn nodes_at_once_end_when_the_link_has_carried_what_they_fetch() {
    let (model, policy, link) = wide();
    let planner = Planner::new(&model, &policy, version(NEW)).with_link(link);
    let plan = linted(planner.plan().unwrap(), &model, &policy);
    let mut upgrades: Vec<u64> = (1..=12)
        .map(|node| took(&plan, &format!("general-{node}"), Phase::Upgrade).as_secs())
        .collect();
    upgrades.sort_unstable();
    // 240 s alone, behind as many transfers as there are nodes before.
    let expected: Vec<u64> = (1..=12).map(|node| 240 + 120 * node).collect();
    assert_eq!(upgrades, expected);
    // The cordon, all transfers, the rest of an upgrade, two looks.
    let law = SECONDS(1 + 1440 + 240 + 60);
    assert_eq!((bandwidth(&plan), plan.makespan()), (Some(law), law));
    let bounds = plan.bounds.as_ref().unwrap();
    let kind = BoundKind::Bandwidth {
        link: "registry".into(),
    };
    assert_eq!(
        (bounds.best().map(|it| &it.kind), bounds.gap_permille),
        (Some(&kind), 0)
    );
    let relief = bounds.relief.as_ref().unwrap();
    assert_eq!((&relief.of, relief.saves), (&kind, SECONDS(720)));
    let table = PlanTable::new(&plan).to_string();
    assert!(
        table.contains("the bottleneck is: what nodes and pods fetch over link registry"),
        "{table}"
    );
    let saves = "twice the throughput of link registry would lower that by 0:12:00 or more";
    assert!(table.contains(saves), "{table}");
    // What the estimate has of it is in the schedule.
    let mut terms = plan.estimate.terms.iter();
    let term = terms.find(|term| term.kind == TermKind::Bandwidth);
    assert_eq!(term.map(|term| term.duration), Some(SECONDS(1440)));
}

#[test]
fn twice_the_throughput_is_a_what_if() {
    let (model, policy, link) = wide();
    let planner = Planner::new(&model, &policy, version(NEW)).with_link(link);
    let faster = |name: &str, throughput: u64| {
        let throughput = BytesPerSecond(throughput);
        planner.what_if(&Change::Link {
            name: name.to_owned(),
            throughput,
        })
    };
    let what_if = faster("registry", 20).unwrap();
    assert_eq!(what_if.before - what_if.after, SECONDS(720));
    assert!(matches!(
        faster("mirror", 20),
        Err(Error::NoSuchThing { .. })
    ));
    assert!(matches!(faster("registry", 0), Err(Error::Estimate(_))));
    let none = planner
        .clone()
        .with_link(Link::new("registry", BytesPerSecond(0)));
    assert!(matches!(none.plan(), Err(Error::Estimate(_))));
}

/// The control: without a link, and over one that carries all in no time, nothing is another.
#[test]
fn a_link_over_which_nothing_comes_changes_no_time() {
    let (model, policy, _) = wide();
    let planner = Planner::new(&model, &policy, version(NEW));
    let none = planner.plan().unwrap();
    let json = plan_to_json(&none).unwrap();
    assert!(
        !json.contains("andwidth") && !json.contains("link"),
        "{json}"
    );
    let idle = planner.clone().with_link(link(0, 1)).plan().unwrap();
    assert_eq!(none.schedule, idle.schedule);
    assert_eq!(none.id, idle.id);
    // In whichever order links are told, the plan is the same; one of the same name replaces.
    let second = || Link::new("packages", BytesPerSecond(9)).with_per_node(Bytes(100));
    let both = planner.clone().with_link(second()).with_link(link(30, 1));
    let turned = planner
        .with_link(link(99, 1))
        .with_link(second())
        .with_link(link(30, 1));
    assert_eq!(both.plan().unwrap(), turned.plan().unwrap());
}

/// What nodes fetch that go one by one is counted there, and not once more.
#[test]
fn the_estimate_counts_each_transfer_once() {
    let cluster = Cluster::new().member("m").pool("control-plane", 3);
    let done = |model: &mut ClusterModel| model.control_plane[0].version = version(NEW);
    let (model, policy) = (cluster.pool("general", 4).change(done).build(), wide().1);
    let planner = Planner::new(&model, &policy, version(NEW)).with_durations(nothing());
    let plan = planner.with_link(link(1200, 10)).plan().unwrap();
    assert_eq!(plan.makespan(), SECONDS(7 * 120));
    assert_eq!(plan.estimate.total, SECONDS(7 * 120));
}

/// What was measured has the transfer in it: it is not counted twice.
#[test]
fn measured_upgrades_have_their_transfers_in_them() {
    let (model, policy) = nodes(4, 2);
    let upgrade_of = |mean: u64| {
        let kind = TargetKind::Nodes {
            pool: "general".into(),
        };
        let measured = Measured::default().with_phase(kind, Phase::Upgrade, 1, SECONDS(mean));
        let planner = Planner::new(&model, &policy, version(NEW)).with_measured(&measured);
        let plan = planner.with_link(link(1200, 10)).plan().unwrap();
        let plan = linted(plan, &model, &policy);
        let upgrades = plan.schedule.iter().filter(|it| it.phase == Phase::Upgrade);
        upgrades
            .map(|it| (it.end - it.start).as_secs())
            .take(2)
            .collect::<Vec<_>>()
    };
    assert_eq!(upgrade_of(500), [500, 620]);
    assert_eq!(upgrade_of(90), [120, 240]);
}

/// A machine that comes in place of another fetches when it is made.
#[test]
fn a_replacement_fetches_while_it_is_made() {
    let (model, mut policy) = nodes(3, 0);
    let surge = "2".parse().unwrap();
    policy.pools.max_surge_of.insert("general".into(), surge);
    let planner = Planner::new(&model, &policy, version(NEW)).with_replacements();
    let plan = linted(
        planner.with_link(link(1200, 10)).plan().unwrap(),
        &model,
        &policy,
    );
    let lengths = |phase| {
        let actions = plan.schedule.iter().filter(|it| it.phase == phase);
        actions
            .map(|it| (it.end - it.start).as_secs())
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(Phase::Provision), [270, 390, 270]);
    assert_eq!(lengths(Phase::Upgrade), [60, 60, 60]);
    assert!(bandwidth(&plan).unwrap() <= plan.makespan());
}

/// A run goes by its rules alone: it begins whether or not the link is busy, and only what the
/// node fetches by itself has to be left of the window.
#[test]
fn what_waits_for_the_link_may_be_late_for_its_window() {
    let (model, mut policy, link) = wide();
    let of = |minutes: u32| format!(r#"[{{"from": "08:00", "to": "08:{minutes:02}"}}]"#);
    let mut late = |minutes| {
        policy.rollout.windows = serde_json::from_str(&of(minutes)).unwrap();
        let planner = Planner::new(&model, &policy, version(NEW)).with_link(link.clone());
        let plan = planner.plan().unwrap();
        assert_eq!(plan.slots[0].length, SECONDS(1 + 120 + 240 + 60));
        let found = lint(&plan, &model, &policy);
        let of_window = found.iter().filter(|it| it.code == "KM-LINT-010");
        of_window.map(|it| it.severity).collect::<Vec<_>>()
    };
    let found = late(10);
    assert!(
        !found.is_empty() && found.iter().all(|it| *it == Severity::Warning),
        "{found:?}"
    );
    assert_eq!(late(59), []);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// T = N · D / S: nodes one by one, and nothing but their transfer takes time.
    #[test]
    fn nodes_one_by_one_take_the_transfer_law_to_the_millisecond(
        count in 1..30usize, bytes in 1..1u64 << 40, throughput in 1u64 << 10..1 << 34,
    ) {
        let (model, policy) = nodes(count, 1);
        let planner = Planner::new(&model, &policy, version(NEW)).with_durations(nothing());
        let plan = planner.with_link(link(bytes, throughput)).plan().unwrap();
        let plan = linted(plan, &model, &policy);
        let law = transfer_time(count as u64, Bytes(bytes), BytesPerSecond(throughput)).unwrap();
        let millis = u64::try_from(law.as_nanos().div_ceil(1_000_000)).unwrap();
        prop_assert_eq!(plan.makespan(), Duration::from_millis(millis));
        // So do nodes at once: the link is one.
        let (model, policy) = nodes(count, count);
        let planner = Planner::new(&model, &policy, version(NEW)).with_durations(nothing());
        let at_once = planner.with_link(link(bytes, throughput)).plan().unwrap();
        prop_assert_eq!(at_once.makespan(), plan.makespan());
        let bound = bandwidth(&at_once).unwrap();
        prop_assert!(bound <= at_once.makespan());
        prop_assert!(at_once.makespan() - bound <= Duration::from_millis(1));
    }

    /// From any upgrade on, no more has come than the throughput allows; what is begun follows
    /// from what actions took, as in a run; and forecasts expect it.
    #[test]
    fn no_upgrade_ends_before_what_it_fetches_may_have_come(
        count in 1..12usize,
        width in 1..12usize,
        bytes in prop::sample::select(vec![1u64, 70, 4_000, 90_000]),
        latency in prop::sample::select(vec![0u64, 30, 70_000]),
        canary in any::<bool>(),
    ) {
        let (model, mut policy) = nodes(count, width);
        policy.pools.canary = canary;
        let link = link(bytes, 7).with_latency(Duration::from_millis(latency));
        let planner = Planner::new(&model, &policy, version(NEW)).with_link(link.clone());
        let trace = planner.trace().unwrap();
        let plan = linted(trace.plan.clone(), &model, &policy);
        let upgrades = plan.schedule.iter().filter(|it| it.phase == Phase::Upgrade);
        let upgrades: Vec<_> = upgrades.map(|it| (it.start, it.end)).collect();
        for (at, (_, end)) in upgrades.iter().enumerate() {
            for from in 0..=at {
                // Less than the millisecond that a transfer may have begun before.
                let data = link.time((at - from + 1) as u64, 0).unwrap() + link.latency;
                let least = upgrades[from].0 + data + SECONDS(240);
                prop_assert!(least < *end + Duration::from_millis(1), "{:?}", upgrades);
            }
        }
        holds_together(&trace, &model, &policy)?;
    }

    /// More throughput never makes the bound longer, and what it saves of that is no promise
    /// too much.
    #[test]
    fn relief_of_a_link_is_no_promise_too_much(
        count in 1..12usize, width in 1..12usize, bytes in 1..9_000u64,
    ) {
        let (model, policy) = nodes(count, width);
        let of = |throughput| {
            let planner = Planner::new(&model, &policy, version(NEW));
            planner.with_link(link(bytes, throughput)).plan().unwrap()
        };
        let (plan, faster) = (of(7), of(14));
        prop_assert!(bandwidth(&faster) <= bandwidth(&plan));
        let bounds = plan.bounds.as_ref().unwrap();
        let best = |plan: &Plan| plan.bounds.as_ref().unwrap().best().unwrap().time;
        let relief = bounds.relief.as_ref();
        let of_link = relief.filter(|it| matches!(it.of, BoundKind::Bandwidth { .. }));
        if let Some(relief) = of_link {
            prop_assert!(best(&faster) + relief.saves <= best(&plan), "{:?}", bounds);
        }
    }
}
