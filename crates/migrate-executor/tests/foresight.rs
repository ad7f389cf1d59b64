//! When a run ends, as it is forecast from where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::case::{Case, step_until};
use common::{clock, secs};
use migrate_core::cost::Draws;
use migrate_core::{Cancellation, Clock, Moment};
use migrate_executor::{Entry, Executor, Record, Report, ReportPage, RunOutcome, Standpoint};
use migrate_plan::{Beliefs, Forecast, Quantiles};

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
