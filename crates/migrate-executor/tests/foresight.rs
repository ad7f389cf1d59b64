//! When a run ends, as it is forecast from where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::case::{Case, step_until};
use common::{clock, secs};
use migrate_core::cost::{BytesPerSecond, Draws};
use migrate_core::{Action, ActionId, Cancellation, Clock, Moment, OnDeadline};
use migrate_executor::{
    Entry, Error, Executor, Record, RecordedRun, Report, ReportPage, RunOpened, RunOutcome,
    Standpoint,
};
use migrate_plan::{
    ActionResult, Beliefs, Change, Forecast, Forecaster, Input, Quantiles, Rollout,
};

const DRAWS: Draws = Draws::new(1);

fn forecast(standpoint: &Standpoint, now: Moment) -> Option<Forecast> {
    standpoint
        .forecast(now, &Beliefs::default(), &DRAWS)
        .unwrap()
}

fn of_journal(case: &Case) -> Standpoint {
    let entries: Vec<Entry> = case.journal.entries();
    Standpoint::of("journal", entries).unwrap().unwrap()
}

fn ended(case: &Case) -> usize {
    let entries = case.journal.entries();
    let is_end = |entry: &&Entry| matches!(&entry.record, Record::Input { input } if format!("{input:?}").starts_with("ActionEnded"));
    entries.iter().filter(is_end).count()
}

#[tokio::test(start_paused = true)]
async fn it_is_the_same_from_the_journal_and_only_said_while_a_run_goes_on() {
    let clock = clock();
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    assert_eq!(
        forecast(&executor.standpoint(), clock.now()),
        None,
        "not begun"
    );
    let mut said = 0;
    loop {
        let now = clock.now();
        let standpoint = executor.standpoint();
        let forecast_now = forecast(&standpoint, now);
        assert_eq!(forecast_now, forecast(&of_journal(&case), now));
        if let Some(forecast) = &forecast_now {
            said += 1;
            assert!(
                forecast.start + forecast.makespan.p50 >= now,
                "{forecast:?}"
            );
        }
        // By a clock that is behind that of the run.
        let last = case.journal.entries().last().unwrap().at;
        let (of_journal_then, behind) = (of_journal(&case), Moment::from_millis(1));
        assert_eq!(of_journal_then.seen_at(behind), last);
        let by_it = forecast(&of_journal_then, behind);
        assert_eq!(by_it, forecast(&of_journal_then, last));
        let silence = now + secs(24 * 60 * 60);
        assert_eq!(
            forecast(&of_journal(&case), silence),
            None,
            "nobody goes on"
        );
        match executor.step().await.unwrap() {
            migrate_executor::StepOutcome::Done(_) => break,
            migrate_executor::StepOutcome::Stopped(stop) => panic!("{}", stop.report),
            _ => {}
        }
    }
    assert!(said > 10, "{said}");
    assert_eq!(forecast(&executor.standpoint(), clock.now()), None, "done");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forecast_of_a_run_that_is_paused() {
    let clock = clock();
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || ended(&case) > 2).await;
    executor.pause();
    for _ in 0..3 {
        let _ = executor.step().await.unwrap();
    }
    assert_eq!(forecast(&executor.standpoint(), clock.now()), None);
    executor.unpause();
    let before = ended(&case);
    step_until(&mut executor, || ended(&case) > before).await;
    let forecast = forecast(&executor.standpoint(), clock.now());
    assert!(forecast.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_report_compares_what_was_forecast_with_what_it_took() {
    let quantiles = |scale: u32| {
        let mut quantiles = Quantiles::default();
        quantiles.p50 = secs(60) * scale;
        quantiles.p80 = secs(70) * scale;
        quantiles.p95 = secs(80) * scale;
        quantiles
    };
    let run = async |scale| {
        let case = Case::new();
        let setup = case.setup().with_forecast(quantiles(scale));
        // A successor has it from the journal, whatever it would say itself.
        let mut executor = Executor::open(setup).await.unwrap();
        step_until(&mut executor, || ended(&case) > 2).await;
        let on_the_way = executor.report().to_string();
        assert!(on_the_way.contains("(P50)") && !on_the_way.contains("it took"));
        drop(executor);
        let setup = case.setup().with_forecast(quantiles(7));
        let mut executor = Executor::open(setup).await.unwrap();
        let report = executor.run(&Cancellation::new()).await.unwrap();
        assert_eq!(report.duration.forecast, Some(quantiles(scale)));
        report
    };
    let said = |report: &Report| {
        let text = report.to_string();
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with("forecast"));
        let line = line.unwrap_or_else(|| panic!("{text}")).to_owned();
        let told = line.trim_start_matches("forecast").trim();
        let page = ReportPage::new(report).to_string();
        assert!(page.contains(told), "{told}: {page}");
        line
    };
    let report = run(100).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(
        said(&report),
        "forecast   at the start 1h40m (P50), 1h56m (P80), 2h13m (P95); it took no longer than P50"
    );
    let line = said(&run(0).await);
    assert!(line.ends_with("it took longer than P95"), "{line}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);

    let without = Case::new().run().await;
    assert!(without.duration.forecast.is_none());
    assert!(!without.to_string().contains("forecast"), "{without}");
    assert!(without.duration.actual > Duration::ZERO);
}

/// Clones run ahead: the run and what is forecast of it stay as they are.
#[tokio::test(start_paused = true)]
async fn a_what_if_on_the_way_changes_nothing_and_says_what_would() {
    let clock = clock();
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let red = |width| Change::Width {
        pool: "red".to_owned(),
        width,
    };
    let ask = |standpoint: &Standpoint, change: &Change| {
        let asked = standpoint.what_if(clock.now(), change, &Beliefs::default(), &DRAWS);
        asked.map_err(Box::new)
    };
    assert_eq!(
        ask(&executor.standpoint(), &red(1)).unwrap(),
        None,
        "not begun"
    );
    step_until(&mut executor, || ended(&case) > 4).await;
    let standpoint = executor.standpoint();
    let entries = case.journal.entries().len();
    let before = forecast(&standpoint, clock.now());
    let what_if = ask(&standpoint, &red(1)).unwrap().unwrap();
    assert_eq!(Some(&what_if.before), before.as_ref());
    let ends = [&what_if.before, &what_if.after].map(|it| it.makespan.p50);
    assert!(ends[1] > ends[0], "{ends:?}");
    let same = ask(&standpoint, &red(2)).unwrap().unwrap();
    assert_eq!(same.before, same.after);
    assert_eq!(forecast(&standpoint, clock.now()), before);
    assert_eq!(ask(&of_journal(&case), &red(1)).unwrap().unwrap(), what_if);
    let (name, throughput) = ("registry".to_owned(), BytesPerSecond(1));
    let error = ask(&standpoint, &Change::Link { name, throughput }).unwrap_err();
    let is_refusal = matches!(*error, Error::WhatIf(migrate_plan::Error::NotLive { .. }));
    assert!(is_refusal, "{error}");

    assert_eq!(case.journal.entries().len(), entries);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(ask(&executor.standpoint(), &red(1)).unwrap(), None, "done");
    case.assert_unbroken();
}

/// What was given up says that it would have taken longer, and not that it took so long.
#[tokio::test(start_paused = true)]
async fn a_failure_counts_as_one_that_would_have_taken_longer() {
    let mut case = Case::new();
    case.policy.rollout.max_failed_nodes = 1;
    case.policy.deadlines.then = OnDeadline::Skip;
    case.policy.deadlines.upgrade = secs(1000);
    case.policy.pools.canary = false;
    case.world.lock().faults.stuck.insert("red-2".to_owned());
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let has_failed = || {
        let entries = case.journal.entries();
        let is_failure = |entry: &Entry| matches!(&entry.record, Record::Input { input: Input::ActionEnded { result, .. } } if matches!(result, ActionResult::Failed { .. }));
        entries.iter().any(is_failure)
    };
    // The others wait meanwhile.
    let begun = || {
        case.effects()
            .iter()
            .any(|it| it.starts_with("begin") && it.contains("red-2"))
    };
    step_until(&mut executor, begun).await;
    executor.pause();
    step_until(&mut executor, has_failed).await;
    let ends = ended(&case);
    executor.unpause();
    step_until(&mut executor, || ended(&case) > ends).await;
    let now = clock().now();
    let said = forecast(&executor.standpoint(), now).expect("it goes on");

    let entries = case.journal.entries();
    assert_eq!(said, by_hand(&entries, now, Some));
    assert_ne!(
        said,
        by_hand(&entries, now, |_| Some(true)),
        "it took so long"
    );
    let without = by_hand(&entries, now, |succeeded| succeeded.then_some(true));
    assert_ne!(said, without, "nothing of it");
}

/// The forecast by all that `entries` have, where an end counts as `told` says.
fn by_hand(entries: &[Entry], now: Moment, told: impl Fn(bool) -> Option<bool>) -> Forecast {
    let run = RecordedRun::all(entries.to_vec()).pop().unwrap();
    let RunOpened {
        plan,
        model,
        policy,
        ..
    } = &*run.opened;
    let mut rollout = Rollout::new(plan, model, policy).unwrap();
    let mut forecaster = Forecaster::new(model, policy, plan, &Beliefs::default()).unwrap();
    let mut open: BTreeMap<ActionId, (Moment, Action)> = BTreeMap::new();
    let mut spans = Vec::new();
    for entry in entries {
        match &entry.record {
            Record::Intent { action } => {
                open.insert(action.id.clone(), (entry.at, action.clone()));
            }
            Record::Input { input } => {
                rollout.handle(entry.at, input);
                if let Input::ActionEnded { id, result } = input
                    && let Some((begin, action)) = open.remove(id)
                {
                    let succeeded = matches!(result, ActionResult::Succeeded(_));
                    spans.extend(told(succeeded).map(|it| (begin, action, Some((entry.at, it)))));
                }
            }
            _ => {}
        }
    }
    while rollout.poll(now).is_some() {}
    spans.extend(
        open.into_values()
            .map(|(begin, action)| (begin, action, None)),
    );
    spans.sort_by_key(|(begin, action, _)| (*begin, action.target.clone()));
    for (begin, action, end) in &spans {
        forecaster.began(*begin, action);
        if let Some((at, succeeded)) = end {
            forecaster.ended(*at, action, *succeeded);
        }
    }
    forecaster.at(now, &rollout, &DRAWS, forecaster.samples())
}
