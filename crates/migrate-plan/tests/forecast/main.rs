//! Forecasts: quantiles, what earlier runs teach, and the correction on the way.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;
mod what_if;
mod windows;

use std::time::Duration;

use migrate_core::cost::{Bytes, BytesPerSecond, Draws, PhaseDurations, transfer_time};
use migrate_core::{
    Action, ClusterModel, DocumentError, IntOrPercent, Moment, Outcome, Phase, Plan, Policy,
    Target, ZONE_LABEL,
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

/// Runs the plan of [`cluster`] with actions that last `ratio` times what is planned, and
/// gives its makespan and the forecast after so many ends.
fn run(ratio: impl Fn(&Action) -> f64, ends: usize) -> (Duration, Forecast) {
    run_in(&cluster().0, ratio, ends)
}

/// The same of `model`, under the policy of [`cluster`].
fn run_in(
    model: &ClusterModel,
    ratio: impl Fn(&Action) -> f64,
    ends: usize,
) -> (Duration, Forecast) {
    let policy = cluster().1;
    let plan = plan_of(model, &policy);
    let mut rollout = Rollout::new(&plan, model, &policy).unwrap();
    let mut forecaster = Forecaster::new(model, &policy, &plan, &Beliefs::default()).unwrap();
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

/// On one thread and on four, before the start and on the way.
#[test]
fn it_is_the_same_on_any_number_of_threads() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
    let before_start = || forecaster.before_start(&Draws::new(1), 50);
    let on_the_way = || run(|_| 1.5, 20).1;
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| (before_start(), on_the_way()))
    };
    assert_eq!(on(1), on(4));
    assert_eq!(on(4), (before_start(), on_the_way()));
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

/// How far P95 lies above P50.
fn width(forecast: &Forecast) -> f64 {
    let quantiles = forecast.makespan;
    quantiles.p95.as_secs_f64() / quantiles.p50.as_secs_f64()
}

/// One node in eight takes eight times as long: those who saw some expect more.
#[test]
fn a_run_with_outliers_is_expected_to_have_more() {
    let is_late = |action: &Action| {
        let name = action.target.name();
        let number: Option<u32> = name.strip_prefix("general-").and_then(|it| it.parse().ok());
        number.is_some_and(|it| it % 8 == 3)
    };
    let spiky = |action: &Action| if is_late(action) { 8.0 } else { 1.0 };
    let (took, forecast) = run(spiky, 60);
    let (_, calm) = run(|_| 1.0, 60);
    let quantiles = forecast.makespan;
    let error = (quantiles.p50.as_secs_f64() / took.as_secs_f64() - 1.0).abs();
    assert!(
        error < 0.15 && took < quantiles.p95,
        "{quantiles:?} {took:?}"
    );
    let (wide, calm) = (width(&forecast), width(&calm));
    // 1.35 if all tails stayed as likely as they were.
    assert!(wide > 1.4 && calm < 1.1, "{wide} {calm}");
}

/// All that is left is in a zone of which few nodes were done, slower than the others.
#[test]
fn what_is_left_in_a_slow_zone_is_expected_to_be_slow() {
    let (mut model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let order = plan.slots.iter().map(|slot| slot.node.clone());
    let order: Vec<String> = order.collect();
    let is_slow = |name: &str| {
        let at = order.iter().position(|it| it == name);
        at.is_some_and(|at| at >= 20 || at % 4 == 1)
    };
    for node in &mut model.nodes {
        let zone = if is_slow(&node.name) { "a" } else { "b" };
        node.labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
    }
    let ratio = |action: &Action| {
        if is_slow(action.target.name()) {
            2.0
        } else {
            1.0
        }
    };
    let of = |model: &ClusterModel| {
        let (took, forecast) = run_in(model, ratio, 60);
        forecast.makespan.p50.as_secs_f64() / took.as_secs_f64()
    };
    let told = of(&model);
    assert!((told - 1.0).abs() < 0.05, "{told}");
    for node in &mut model.nodes {
        node.labels.remove(ZONE_LABEL);
    }
    let untold = of(&model);
    assert!(untold < 0.9, "{untold}");
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

#[test]
fn an_earlier_run_narrows_what_is_believed_around_what_it_predicts() {
    let (model, policy) = cluster();
    let plain = plan_of(&model, &policy);
    let rows = [Phase::Drain, Phase::Upgrade, Phase::Verify];
    let rows = rows.map(|phase| (phase, 10, secs(10 * 200)));
    let measured = rows
        .into_iter()
        .fold(Measured::default(), |it, (phase, of, total)| {
            it.with_phase(general(), phase, of, total)
        });
    let planner = Planner::new(&model, &policy, version(NEW)).with_measured(&measured);
    let plan = planner.plan().unwrap();
    assert!(plan.makespan() > plain.makespan());
    let forecast = |plan: &Plan, beliefs: &Beliefs| {
        let forecaster = Forecaster::new(&model, &policy, plan, beliefs).unwrap();
        forecaster.before_start(&Draws::new(1), forecaster.samples())
    };
    let (before, after) = (
        forecast(&plan, &Beliefs::default()),
        forecast(&plan, &Beliefs::measured(&measured)),
    );
    let width = |it: &Forecast| it.makespan.p95 - it.makespan.p50;
    assert!(width(&after) < width(&before), "{after:?} {before:?}");
    // It is what the plan predicts already, and not counted twice.
    let belief = Beliefs::measured(&measured).of(&general(), Phase::Upgrade);
    assert_eq!(belief.mean, 0.0);
    // Means tell nothing of how single actions differ.
    let before = Beliefs::default().of(&general(), Phase::Upgrade);
    assert_eq!(belief.sigma, before.sigma);
    assert!(belief.sd < before.sd, "{belief:?} {before:?}");
    let none = Measured::default();
    let belief = |beliefs: Beliefs| beliefs.of(&general(), Phase::Upgrade);
    assert_eq!(belief(Beliefs::measured(&none)), belief(Beliefs::default()));
}

#[test]
fn a_forecast_has_as_many_samples_as_its_size_allows() {
    let samples = |workers: usize| {
        let model = Cluster::new()
            .member("cp-1")
            .pool("general", workers)
            .build();
        let policy = Policy::default();
        let plan = plan_of(&model, &policy);
        let forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
        forecaster.samples()
    };
    // Besides the workers a member and the second backup.
    assert_eq!([samples(3), samples(1998), samples(9998)], [200, 100, 20]);
}

/// What watches show of a node in work, and of the budget of its pods, lags behind: none
/// of it keeps a forecast from coming to the end.
#[test]
fn what_is_seen_on_the_way_does_not_end_a_forecast_and_a_pause_does() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let mut rollout = Rollout::new(&plan, &model, &policy).unwrap();
    let mut forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
    let mut now = model.taken_at;
    let seen = |name: &str, is_away: bool| Input::NodeSeen {
        node: name.to_owned(),
        ready: !is_away,
        unschedulable: is_away,
        kubelet_version: version(support::OLD),
        uid: None,
    };
    rollout.handle(now, &Input::Started);
    let (mut steps, mut told) = (0, 0);
    while let Some(command) = rollout.poll(now) {
        let Command::Begin { action } = command else {
            continue;
        };
        forecaster.began(now, &action);
        let name = action.target.name().to_owned();
        if let Target::Node { .. } = action.target {
            rollout.handle(now, &seen(&name, true));
            told += 1;
            for workload in &model.workloads {
                let key = migrate_core::BudgetKey::assumed(&workload.id);
                rollout.handle(now, &Input::BudgetSeen { key, allowed: 0 });
            }
        }
        let forecast = forecaster.at(now, &rollout, &Draws::new(1), 20);
        assert_eq!(forecast.unended, 0, "after {steps} steps");
        assert!(
            forecast.start + forecast.makespan.p50 >= now,
            "{forecast:?}"
        );
        let mut paused = rollout.clone();
        paused.handle(now, &Input::Paused { paused: true });
        assert_eq!(forecaster.at(now, &paused, &Draws::new(1), 20).unended, 20);
        now = now + secs(100);
        forecaster.ended(now, &action, true);
        let is_given_back = action.phase == Phase::Verify;
        let id = action.id;
        let result = ActionResult::Succeeded(Outcome::SameNode);
        rollout.handle(now, &Input::ActionEnded { id, result });
        if is_given_back && told > 0 {
            rollout.handle(now, &seen(&name, false));
        }
        steps += 1;
        if steps == 12 {
            break;
        }
    }
    assert!(told >= 6, "{told}");
}

/// A look that takes a hundredth of the seconds that were expected of it says nothing
/// of nodes, and a backup of nothing not that all will be over at once.
#[test]
fn what_takes_next_to_nothing_does_not_shorten_everything_else() {
    let (model, policy) = cluster();
    let mut durations = PhaseDurations::default();
    durations.verify = secs(2);
    let planner = Planner::new(&model, &policy, version(NEW)).with_durations(durations);
    let plan = planner.plan().unwrap();
    let mut rollout = Rollout::new(&plan, &model, &policy).unwrap();
    let mut forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
    let mut now = model.taken_at;
    rollout.handle(now, &Input::Started);
    // The member and its verification, and the backup after it.
    for _ in 0..3 {
        let Some(Command::Begin { action }) = rollout.poll(now) else {
            panic!("nothing begins");
        };
        forecaster.began(now, &action);
        let is_member = action.phase == Phase::Upgrade;
        now = now
            + if is_member {
                secs(300)
            } else {
                Duration::from_millis(8)
            };
        forecaster.ended(now, &action, true);
        let result = ActionResult::Succeeded(Outcome::SameNode);
        let id = action.id;
        rollout.handle(now, &Input::ActionEnded { id, result });
    }
    let forecast = forecaster.at(now, &rollout, &Draws::new(1), 200);
    let (p50, p95) = (forecast.makespan.p50, forecast.makespan.p95);
    let planned = plan.makespan();
    assert!(
        p50 > planned.mul_f64(0.75) && p95 > planned,
        "{p50:?} {p95:?} {planned:?}"
    );
}

/// An action whose beginning nobody has told of yet begins now.
#[test]
fn what_was_decided_and_not_begun_is_part_of_a_forecast() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let mut rollout = Rollout::new(&plan, &model, &policy).unwrap();
    let now = model.taken_at;
    rollout.handle(now, &Input::Started);
    assert!(rollout.poll(now).is_some());
    let forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::certain()).unwrap();
    let forecast = forecaster.at(now, &rollout, &Draws::new(1), 1);
    assert_eq!(
        (forecast.unended, forecast.makespan.p50),
        (0, plan.makespan())
    );
}

#[test]
fn what_a_run_took_has_its_place_among_the_quantiles() {
    let (model, policy) = cluster();
    let plan = plan_of(&model, &policy);
    let forecaster = Forecaster::new(&model, &policy, &plan, &Beliefs::default()).unwrap();
    let it = forecaster.before_start(&Draws::new(1), 100).makespan;
    let more = secs(1);
    for (took, rank) in [
        (it.p50, "no longer than P50"),
        (it.p50 + more, "longer than P50, no longer than P80"),
        (it.p95, "longer than P80, no longer than P95"),
        (it.p95 + more, "longer than P95"),
    ] {
        assert_eq!(it.rank(took), rank);
    }
    let json = serde_json::to_string(&it).unwrap();
    assert_eq!(
        serde_json::from_str::<migrate_plan::Quantiles>(&json).unwrap(),
        it
    );
}
