//! Forecasts: quantiles, what earlier runs teach, and the correction on the way.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use migrate_core::cost::{Bytes, BytesPerSecond, Draws, PhaseDurations, transfer_time};
use migrate_core::{
    Action, ClusterModel, DocumentError, IntOrPercent, Moment, Outcome, Phase, Plan, Policy, Target,
};
use migrate_plan::{
    ActionResult, Beliefs, Command, End, Forecast, Forecaster, History, Input, Lasted, Measured,
    Outlook, Planner, Rollout, TargetKind,
};
use support::{Cluster, NEW, version};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn general() -> TargetKind {
    let pool = "general".to_owned();
    TargetKind::Nodes { pool }
}

fn cluster() -> (ClusterModel, Policy) {
    let model = Cluster::new()
        .member("cp-1")
        .pool("general", 40)
        .deployment("web", &["general-1", "general-2", "general-3"]);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(3);
    (model.build(), policy)
}

fn plan_of(model: &ClusterModel, policy: &Policy) -> Plan {
    Planner::new(model, policy, version(NEW)).plan().unwrap()
}

/// Runs `plan` with actions that last `ratio` times what is planned, and gives its
/// makespan and the forecast after so many ends.
fn run(ratio: impl Fn(&Action) -> f64, ends: usize) -> (Duration, Forecast) {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let mut rollout = Rollout::new(&plan, &model, &policy).unwrap();
    let mut forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
    let (mut now, mut ended, mut forecast) = (model.taken_at, 0, None);
    let mut running: Vec<(Moment, Action)> = Vec::new();
    rollout.handle(now, &Input::Started);
    loop {
        while let Some(command) = rollout.poll(now) {
            let Command::Begin { action } = command else {
                continue;
            };
            let planned = plan.schedule.iter();
            let mut planned = planned.filter(|it| it.target == action.target);
            let planned = planned.find(|it| it.phase == action.phase).unwrap();
            let took = (planned.end - planned.start).mul_f64(ratio(&action));
            forecaster.began(now, &action);
            running.push((now + took, action));
        }
        if ended == ends {
            let of_now = forecaster.at(now, &rollout, &Draws::new(1), 100);
            let again = forecaster.at(now, &rollout, &Draws::new(1), 100);
            assert_eq!(of_now, again, "it changes nothing");
            forecast = Some(of_now);
        }
        running.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        let Some((end, action)) = running.pop() else {
            return (now.since(model.taken_at), forecast.unwrap());
        };
        now = end;
        ended += 1;
        forecaster.ended(now, &action, true);
        let id = action.id;
        let result = ActionResult::Succeeded(Outcome::SameNode);
        rollout.handle(now, &Input::ActionEnded { id, result });
    }
}

#[test]
fn certain_durations_give_the_plan_and_uncertain_ones_an_interval() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let of = |beliefs: &Beliefs, seed| {
        let forecaster = Forecaster::new(&model, &policy, &plan, beliefs).unwrap();
        forecaster.before_start(&Draws::new(seed), 200)
    };
    let certain = of(&Beliefs::certain(), 1);
    let quantiles = certain.makespan;
    let makespan = plan.makespan();
    assert_eq!([quantiles.p50, quantiles.p80, quantiles.p95], [makespan; 3]);
    assert_eq!(certain.outlook(), Outlook::OnTrack);
    let forecast = of(&Beliefs::default(), 1);
    let quantiles = forecast.makespan;
    assert!(quantiles.p50 < quantiles.p80 && quantiles.p80 < quantiles.p95);
    assert!(quantiles.p95 > makespan && quantiles.p50 < makespan * 3 / 2);
    assert_eq!(of(&Beliefs::default(), 1), forecast);
    assert_ne!(of(&Beliefs::default(), 2), forecast);
    let members = &forecast
        .ends
        .iter()
        .find(|(kind, _)| *kind == TargetKind::Members);
    assert!(members.unwrap().1.p95 < quantiles.p50);
}

/// One node after the other, each as long as its bytes take: T = N · D / S.
#[test]
fn the_transfer_law_is_the_special_case() {
    let (nodes, bytes, rate) = (7, Bytes::gib(2), BytesPerSecond::mib(128));
    let cluster = Cluster::new().member("cp-1").pool("general", nodes);
    let done = |model: &mut ClusterModel| model.control_plane[0].version = version(NEW);
    let (model, mut policy) = (cluster.change(done).build(), Policy::default());
    policy.backup.after_control_plane = false;
    let mut durations = PhaseDurations::default();
    durations.cordon = Duration::ZERO;
    durations.boot = Duration::ZERO;
    durations.node_ready = Duration::ZERO;
    durations.verify = Duration::ZERO;
    durations.upgrade_node = transfer_time(1, bytes, rate).unwrap();
    let planner = Planner::new(&model, &policy, version(NEW)).with_durations(durations);
    let plan = planner.plan().unwrap();
    let forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::certain()).unwrap();
    let law = transfer_time(nodes as u64, bytes, rate).unwrap();
    let forecast = forecaster.before_start(&Draws::new(1), 3).makespan;
    assert_eq!([forecast.p50, forecast.p80, forecast.p95], [law; 3]);
}

#[test]
fn a_slow_phase_is_found_while_it_runs_and_named() {
    let slow = |action: &Action| match (&action.target, action.phase) {
        (Target::Node { .. }, Phase::Upgrade) => 2.0,
        _ => 1.0,
    };
    let (took, forecast) = run(slow, 40);
    let p50 = forecast.makespan.p50.as_secs_f64();
    let error = (p50 / took.as_secs_f64() - 1.0).abs();
    assert!(error < 0.1, "{p50} for {took:?}");
    let outlook = forecast.outlook();
    let Outlook::Late {
        because: Some((kind, phase, ratio)),
        ..
    } = &outlook
    else {
        panic!("{outlook:?}");
    };
    assert_eq!((kind, *phase), (&general(), Phase::Upgrade));
    assert!(*ratio > 1.7 && *ratio < 2.1, "{ratio}");
    let words = outlook.to_string();
    assert!(words.starts_with("late by "), "{words}");
    let end = " × what was expected";
    assert!(
        words.contains("because upgrade of nodes of pool general takes") && words.ends_with(end)
    );
    let (took, forecast) = run(|_| 1.0, 40);
    assert_eq!(forecast.outlook(), Outlook::OnTrack, "{took:?}");
}

#[test]
fn earlier_runs_move_a_belief_and_other_workers_lend_theirs() {
    let line = |run: &str, millis, end| {
        let (took, expected) = (Duration::from_millis(millis), secs(100));
        Lasted::new(run, general(), Phase::Upgrade, took, expected, end)
    };
    let runs = |count: u32| {
        let mut history = History::default();
        for run in 0..count {
            for more in 0..10 {
                let took = 150_000 + 1000 * more;
                history.lines.push(line(&run.to_string(), took, End::Took));
            }
        }
        Beliefs::learned(&history).of(&general(), Phase::Upgrade)
    };
    let (none, one, many) = (runs(0), runs(1), runs(20));
    assert_eq!(none.mean, 0.0);
    assert!(
        one.mean > 0.2 && one.mean < many.mean && many.mean < 0.5,
        "{one:?} {many:?}"
    );
    assert!(
        many.sd < one.sd && one.sd < none.sd && many.sd > 0.2,
        "{many:?}"
    );
    let mut history = History::default();
    history.lines = vec![line("a", 200_000, End::Took), line("a", 1, End::Stuck)];
    let beliefs = Beliefs::learned(&history);
    let pool = "other".to_owned();
    let other = beliefs.of(&TargetKind::Nodes { pool }, Phase::Upgrade).mean;
    assert!(other > 0.0 && other < beliefs.of(&general(), Phase::Upgrade).mean);
    assert_eq!(beliefs.of(&TargetKind::Members, Phase::Upgrade).mean, 0.0);
    assert!(beliefs.stuck(&general(), Phase::Upgrade) > beliefs.stuck(&general(), Phase::Drain));
    history.lines.pop();
    let without = Beliefs::learned(&history).of(&general(), Phase::Upgrade);
    assert_eq!(
        without,
        beliefs.of(&general(), Phase::Upgrade),
        "stuck is no duration"
    );
}

#[test]
fn a_history_grows_by_runs_and_a_torn_line_is_left_out() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let actions = plan
        .schedule
        .iter()
        .map(|it| (it.target.clone(), it.phase, secs(50)));
    let measured = Measured::of_run(model.taken_at, actions);
    let history = History::of_run(&plan, &measured);
    assert_eq!(history.lines.len(), plan.schedule.len());
    let text = history.to_text().unwrap();
    assert_eq!(History::from_text(&text).unwrap(), history);
    let twice = History::from_text(&text.repeat(2)).unwrap();
    assert_eq!(twice.lines.len(), 2 * history.lines.len());
    let torn = History::from_text(&text[..text.len() - 9]).unwrap();
    assert_eq!(torn.lines, history.lines[..history.lines.len() - 1]);
    let broken = text.replacen("\"phase\"", "\"face\"", 1);
    let error = History::from_text(&broken).unwrap_err();
    assert!(matches!(error, DocumentError::Invalid { .. }), "{error}");
    let error = History::from_text(&text.replacen("\"schema\":1", "\"schema\":2", 1)).unwrap_err();
    assert!(matches!(error, DocumentError::Newer { .. }), "{error}");
}
