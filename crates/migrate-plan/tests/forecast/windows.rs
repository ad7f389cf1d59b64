//! Windows have to hold P95 of what begins in them.

use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{ClusterModel, Moment, Node, Phase, Plan, Policy, ZONE_LABEL};
use migrate_plan::{
    Beliefs, Change, End, Forecaster, History, Lasted, Measured, Planner, Waves, lint,
    plan_to_json, replay,
};

use super::support::{Cluster, NEW, linted, version};
use super::{general, secs};

const TODAY: &str = "2027-01-15T";
const TOMORROW: &str = "2027-01-16T";

fn at(day: &str, time: &str) -> Moment {
    serde_json::from_str(&format!("\"{day}{time}:00Z\"")).unwrap()
}

/// Of 2027-01-15T08:00Z.
fn control_plane(members: usize) -> Cluster {
    (1..=members).fold(Cluster::new(), |cluster, member| {
        cluster.member(&format!("m{member}"))
    })
}

fn model(members: usize) -> ClusterModel {
    control_plane(members)
        .pool("general", 4)
        .deployment("web", &["general-1", "general-2"])
        .build()
}

/// Open today from 9:00 to `until`, and tomorrow for eight hours.
fn policy(until: &str) -> Policy {
    let mut policy = Policy::default();
    policy.backup.after_control_plane = false;
    policy.pools.canary = false;
    let (opens, closes) = (at(TODAY, "09:00"), at(TODAY, until));
    let (next, last) = (at(TOMORROW, "09:00"), at(TOMORROW, "17:00"));
    let windows = format!(
        r#"[{{"from": "{opens}", "to": "{closes}"}}, {{"from": "{next}", "to": "{last}"}}]"#
    );
    policy.rollout.windows = serde_json::from_str(&windows).unwrap();
    policy
}

fn planner<'a>(model: &'a ClusterModel, policy: &'a Policy) -> Planner<'a> {
    Planner::new(model, policy, version(NEW))
}

fn begins(plan: &Plan, model: &ClusterModel, name: &str) -> Moment {
    let mut actions = plan.schedule.iter();
    let first = actions.find(|action| action.target.name() == name);
    model.taken_at + first.unwrap().start
}

fn lengths(plan: &Plan) -> Vec<(&str, Duration)> {
    let members = plan.control_plane.iter().map(|it| (&*it.name, it.length));
    let slots = plan.slots.iter().map(|it| (&*it.node, it.length));
    members.chain(slots).collect()
}

#[test]
fn what_fits_as_predicted_and_not_at_p95_waits_for_the_next_window() {
    // Six minutes are predicted for the member, and somewhat more than five for a node.
    for (until, day_of_member) in [("09:09", TOMORROW), ("09:19", TODAY)] {
        let (model, policy) = (model(1), policy(until));
        let planner = planner(&model, &policy);
        let certain = linted(planner.plan().unwrap(), &model, &policy);
        assert_eq!(begins(&certain, &model, "m1"), at(TODAY, "09:00"));
        let planner = planner.with_beliefs(&Beliefs::default());
        let plan = linted(planner.plan().unwrap(), &model, &policy);
        assert_eq!(begins(&plan, &model, "m1"), at(day_of_member, "09:00"));
        assert!(begins(&certain, &model, "general-1") < at(TOMORROW, "09:00") || until == "09:09");
        assert!(begins(&plan, &model, "general-1") >= at(TOMORROW, "09:00"));
        // The rules are those of a run, and of gates between waves.
        let trace = planner.trace().unwrap();
        let commands = replay(&plan, &model, &policy, &trace.inputs).unwrap();
        assert_eq!(commands, trace.commands);
        let waves = Waves::new(&plan, &model, &policy).as_plan(&plan);
        let waves = linted(waves, &model, &policy);
        assert_eq!(waves.schedule.len(), plan.schedule.len());
        // The control: what fits as predicted does not do.
        let mut early = plan.clone();
        early.schedule = certain.schedule;
        let found = lint(&early, &model, &policy);
        assert!(found.iter().any(|it| it.code == "KM-LINT-010"), "{found:?}");
        let bounds = plan.bounds.as_ref().unwrap();
        assert!(
            bounds
                .limits
                .iter()
                .all(|limit| limit.time <= plan.makespan())
        );
    }
}

#[test]
fn a_window_that_is_too_short_at_p95_is_a_blocker_that_says_so() {
    let model = model(2);
    let mut policy = Policy::default();
    let daily = r#"[{"from": "09:00", "to": "09:14"}]"#;
    policy.rollout.windows = serde_json::from_str(daily).unwrap();
    let found = |planner: Planner<'_>| {
        let plan = planner.plan().unwrap();
        let mut found = plan.findings.into_iter();
        found.find(|finding| finding.code == "KM-WINDOW-001")
    };
    // Twelve minutes are predicted for the control plane.
    assert_eq!(found(planner(&model, &policy)), None);
    let beliefs = Beliefs::default();
    let finding = found(planner(&model, &policy).with_beliefs(&beliefs)).unwrap();
    assert!(finding.blocks());
    let (minutes, of) = finding.evidence.split_once(" min at P95 (").unwrap();
    assert!(of.starts_with("the control plane"), "{finding}");
    let minutes: u64 = minutes.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((26..38).contains(&minutes), "{finding}");
    assert!(finding.cure.contains("measured in an earlier run"));
}

#[test]
fn certain_beliefs_and_no_windows_change_nothing() {
    let (model, windows) = (model(3), policy("10:00"));
    let mut none = windows.clone();
    none.rollout.windows.clear();
    let [certain, public] = [Beliefs::certain(), Beliefs::default()];
    for (policy, beliefs) in [(&windows, &certain), (&none, &public)] {
        let planner = planner(&model, policy);
        let plain = plan_to_json(&planner.plan().unwrap()).unwrap();
        let believed = planner.with_beliefs(beliefs).plan().unwrap();
        assert_eq!(plan_to_json(&believed).unwrap(), plain);
    }
    let plain = planner(&model, &windows).plan().unwrap();
    let believed = planner(&model, &windows).with_beliefs(&public);
    assert_ne!(believed.plan().unwrap().id, plain.id);
}

#[test]
fn plans_made_anew_and_changed_have_the_same_lengths() {
    let (before, policy) = (model(3), policy("12:00"));
    let beliefs = Beliefs::default();
    let planner_of = |model| planner(model, &policy).with_beliefs(&beliefs);
    let plan = planner_of(&before).plan().unwrap();
    let mut now = before.clone();
    now.control_plane[0].version = version(NEW);
    now.nodes[0].kubelet_version = version(NEW);
    let anew = planner_of(&now).replan(&plan).unwrap();
    assert!(anew.keeps_order);
    let left = lengths(&plan);
    let is_left = |(name, _): &(&str, Duration)| !["m1", "general-1"].contains(name);
    let left: Vec<_> = left.into_iter().filter(is_left).collect();
    assert_eq!(lengths(&anew.plan), left);
    let pool = "general".to_owned();
    let wider = Change::Width { pool, width: 2 };
    let what_if = planner_of(&before).what_if(&wider).unwrap();
    assert!(what_if.after < what_if.before);
    assert_eq!(lengths(&what_if.plan), lengths(&plan));
}

/// P95 of the makespan of a plan that has only so much to do.
fn forecast(model: &ClusterModel) -> Duration {
    let mut policy = policy("12:00");
    policy.rollout.windows.clear();
    let plan = planner(model, &policy).plan().unwrap();
    let forecaster = Forecaster::new(model, &policy, &plan, &Beliefs::default()).unwrap();
    forecaster.before_start(&Draws::new(7), 4_000).makespan.p95
}

#[test]
fn a_length_is_what_a_forecast_of_the_target_alone_says() {
    let is_near = |length: Duration, forecast: Duration| {
        let ratio = length.as_secs_f64() / forecast.as_secs_f64();
        assert!((0.88..1.12).contains(&ratio), "{length:?}, {forecast:?}");
    };
    let policy = policy("12:00");
    let beliefs = Beliefs::default();
    let done = |nodes: &mut [Node]| {
        for node in nodes {
            node.kubelet_version = version(NEW);
        }
    };
    let members = control_plane(3).build();
    let plan = planner(&members, &policy)
        .with_beliefs(&beliefs)
        .plan()
        .unwrap();
    let all = lengths(&plan).into_iter().map(|(_, length)| length).sum();
    is_near(all, forecast(&members));
    for has_zones in [false, true] {
        let mut node = model(1);
        node.control_plane[0].version = version(NEW);
        done(&mut node.nodes[1..]);
        if has_zones {
            for (node, zone) in node.nodes.iter_mut().zip(["a", "b", "a", "b"]) {
                node.labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
            }
        }
        let plan = planner(&node, &policy)
            .with_beliefs(&beliefs)
            .plan()
            .unwrap();
        is_near(plan.slots[0].length, forecast(&node));
    }
}

#[test]
fn what_is_measured_needs_less_and_never_less_than_predicted() {
    let (model, policy) = (model(1), policy("12:00"));
    let length = |beliefs: &Beliefs| {
        let plan = planner(&model, &policy)
            .with_beliefs(beliefs)
            .plan()
            .unwrap();
        lengths(&plan)[1].1
    };
    let public = length(&Beliefs::default());
    let phases = [Phase::Drain, Phase::Upgrade, Phase::Verify];
    let measured = phases.iter().fold(Measured::default(), |it, phase| {
        it.with_phase(general(), *phase, 10, secs(10 * 100))
    });
    assert!(length(&Beliefs::measured(&measured)) < public);
    // Five runs took a tenth of what is predicted.
    let mut history = History::default();
    for action in 0..500 {
        let (run, phase) = ((action / 100).to_string(), phases[action % 3]);
        let lasted = Lasted::new(run, general(), phase, secs(10), secs(100), End::Took);
        history.lines.push(lasted);
    }
    let fast = length(&Beliefs::learned(&history));
    assert_eq!(fast, length(&Beliefs::certain()));
}
