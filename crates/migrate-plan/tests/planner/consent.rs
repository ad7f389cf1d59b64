//! Pods that somebody would have to agree to move, and has not.

use migrate_core::{ClusterModel, Finding, Moment, Outcome, Phase, Plan, Policy, impossible};
use migrate_plan::{
    ActionResult, Beliefs, Command, Forecaster, Input, Measured, PlanTable, Planner, Rollout,
    WaitingOn, plan_to_json, rehearse,
};

use crate::support::{Cluster, NEW, OLD, linted, version};
use crate::{holds_together, small};

/// Marks the first pod of a Deployment.
fn marked(app: &str, change: fn(&mut migrate_core::Pod)) -> ClusterModel {
    let change = |model: &mut ClusterModel| {
        let mut pods = model.pods.iter_mut();
        change(pods.find(|pod| pod.id.name.starts_with(app)).unwrap());
    };
    small().change(change).build()
}

fn asks(pod: &mut migrate_core::Pod) {
    pod.do_not_disrupt = Some("karpenter.sh/do-not-disrupt".into());
}

fn planned(model: &ClusterModel, policy: &Policy) -> Plan {
    let plan = Planner::new(model, policy, version(NEW)).plan().unwrap();
    linted(plan, model, policy)
}

fn drained(plan: &Plan) -> Vec<&str> {
    let drains = plan.schedule.iter();
    let drains = drains.filter(|action| action.phase == Phase::Drain);
    drains.map(|action| action.target.name()).collect()
}

fn of_pods(found: &[Finding]) -> Vec<Finding> {
    let found = found.iter().filter(|f| f.code.starts_with("KM-POD"));
    found.cloned().collect()
}

#[test]
fn a_node_whose_drain_needs_a_word_has_no_time_and_a_blocker_of_the_checks() {
    let policy = Policy::default();
    let bare = |pod: &mut migrate_core::Pod| (pod.controller, pod.workload) = (None, None);
    let mut keeps_data = Policy::default();
    keeps_data.consent.empty_dir = false;
    type Case<'c> = (&'c str, fn(&mut migrate_core::Pod), &'c Policy);
    let cases: [Case<'_>; 3] = [
        ("KM-POD-009", asks, &policy),
        ("KM-POD-001", bare, &policy),
        ("KM-POD-002", |pod| pod.empty_dir = true, &keeps_data),
    ];
    for (code, change, policy) in cases {
        let model = marked("api", change);
        let plan = planned(&model, policy);
        // The first pod of it is on general-3.
        let begun = drained(&plan);
        assert!(!begun.contains(&"general-3"), "{code}: {begun:?}");
        assert_eq!(begun.len(), 7, "{code}: {begun:?}");
        let found = of_pods(&plan.findings);
        assert_eq!(found.len(), 1, "{code}: {found:#?}");
        assert!(found[0].code == code && found[0].blocks(), "{found:?}");
        // Word for word what the checks before the start say, so that they are one.
        let checked = impossible::check(&model, policy);
        assert!(checked.contains(&found[0]), "{code}: {checked:#?}");
        let merged = Finding::merged(&plan.findings, checked);
        let told = merged.iter().filter(|f| f.code == code);
        assert_eq!(told.count(), 1, "{code}");
        let table = PlanTable::new(&plan).to_string();
        let mut lines = table.lines();
        let line = lines.find(|line| line.starts_with("node general-3"));
        assert!(line.unwrap().ends_with("cannot begin"), "{table}");
    }
}

#[test]
fn who_has_agreed_and_who_is_not_drained_changes_nothing() {
    let plain = planned(&small().build(), &Policy::default());
    let model = marked("api", asks);
    let mut policy = Policy::default();
    policy.consent.do_not_disrupt = true;
    let agreed = planned(&model, &policy);
    assert_eq!(of_pods(&agreed.findings), []);
    assert_eq!(agreed.schedule, plain.schedule);
    // On a node that is at the target already nothing moves.
    let done = |model: ClusterModel| {
        let change = |node: &mut migrate_core::Node| node.kubelet_version = version(NEW);
        let whole = |other: &mut ClusterModel| *other = model;
        Cluster::new()
            .change(whole)
            .node("general-3", change)
            .build()
    };
    let policy = Policy::default();
    let (asking, free) = (done(model), done(small().build()));
    let json = |model: &ClusterModel| plan_to_json(&planned(model, &policy)).unwrap();
    assert_eq!(json(&asking), json(&free));
}

#[test]
fn the_node_takes_no_place_and_is_no_canary() {
    let policy = Policy::default();
    // One of general may be away: the other three go one after the other.
    let model = marked("api", asks);
    let plan = planned(&model, &policy);
    let canary = |plan: &Plan| {
        let mut slots = plan.slots.iter();
        let canary = slots.find(|slot| slot.canary && slot.pool == "general");
        canary.unwrap().node.clone()
    };
    assert_ne!(canary(&plan), "general-3");
    let general = drained(&plan).into_iter();
    assert_eq!(general.filter(|n| n.starts_with("general")).count(), 3);
    // Nor is the one that was it before.
    let before = planned(&small().build(), &policy);
    let was = canary(&before);
    let model = small().change(|model| {
        let on_it = |pod: &&mut migrate_core::Pod| pod.node.as_ref() == Some(&was);
        model.pods.iter_mut().filter(on_it).for_each(asks);
    });
    let model = model.deployment("more", &[&was]).change(|model| {
        model
            .pods
            .iter_mut()
            .filter(|pod| pod.node.as_ref() == Some(&was))
            .for_each(asks);
    });
    assert_ne!(canary(&planned(&model.build(), &policy)), was);
}

#[test]
fn all_that_runs_the_machine_agrees_on_it() {
    let model = marked("api", asks);
    let policy = Policy::default();
    let trace = Planner::new(&model, &policy, version(NEW)).trace().unwrap();
    holds_together(&trace, &model, &policy).unwrap();
    let plan = &trace.plan;
    // A forecast of what never ends is none.
    let draws = migrate_core::cost::Draws::new(1);
    let forecast = Forecaster::of_plan(&model, &policy, plan, &Beliefs::default(), &draws);
    assert!(forecast.unwrap().is_none());
    // Whose drain was measured was agreed to.
    let run = |measured: &Measured| {
        let run = rehearse(&model, &policy, plan, measured).unwrap();
        let names = run
            .actions
            .iter()
            .map(|action| action.target.name().to_owned());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(!run(&Measured::default()).contains("general-3"));
    let drain = Plan::targets(plan).find(|(target, _)| target.name() == "general-3");
    let drain = (
        drain.unwrap().0,
        Phase::Drain,
        std::time::Duration::from_secs(9),
    );
    let measured = Measured::of_run(model.taken_at, [drain]);
    assert!(run(&measured).contains("general-3"));
}

#[test]
fn a_rollout_that_is_told_lets_the_node_wait_until_it_is_told_again() {
    let model = Cluster::new().member("m").pool("red", 2).build();
    let mut policy = Policy::default();
    policy.pools.canary = false;
    let plan = planned(&model, &policy);
    let mut rollout = Rollout::new(&plan, &model, &policy).unwrap();
    let start = model.taken_at;
    let told = |missing| Input::ConsentMissing {
        node: "red-1".into(),
        missing,
    };
    rollout.handle(start, &told(true));
    rollout.handle(start, &Input::Started);
    assert_eq!(finish(&mut rollout, start).last().unwrap(), "verify red-2");
    let waiting = rollout.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].on, WaitingOn::Consent);
    // Seen again, it still waits.
    let seen = Input::NodeSeen {
        node: "red-1".into(),
        ready: true,
        unschedulable: false,
        kubelet_version: version(OLD),
        uid: None,
    };
    rollout.handle(start, &seen);
    assert_eq!(finish(&mut rollout, start), [""; 0]);
    rollout.handle(start, &told(false));
    let begun = finish(&mut rollout, start);
    assert_eq!(begun, ["drain red-1", "upgrade red-1", "verify red-1"]);
}

/// Ends whatever `rollout` begins, and names it.
fn finish(rollout: &mut Rollout, now: Moment) -> Vec<String> {
    let mut begun = Vec::new();
    while let Some(Command::Begin { action }) = rollout.poll(now) {
        begun.push(format!("{} {}", action.phase, action.target.name()));
        let result = ActionResult::Succeeded(Outcome::SameNode);
        let ended = Input::ActionEnded {
            id: action.id,
            result,
        };
        rollout.handle(now, &ended);
    }
    begun
}
