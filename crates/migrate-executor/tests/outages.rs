//! An API server that does not answer: because the run upgrades it, or not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, step_until};
use common::law::assert_replay_law;
use common::secs;
use migrate_core::Cancellation;
use migrate_executor::{Executor, Report, RunOutcome, StepOutcome, StopCause};

fn set_away(case: &Case, away: bool) {
    let faults = &mut case.world.lock().faults;
    faults.unrenewable = away;
    faults.anchor_unreadable = if away { u32::MAX } else { 0 };
}

fn begun(case: &Case) -> usize {
    let begins = |effect: &&String| effect.starts_with("begin");
    case.effects().iter().filter(begins).count()
}

/// Steps until it waits for the API server, and gives what it says.
async fn waits_for_the_api(executor: &mut Executor) -> String {
    for _ in 0..1_000 {
        if let StepOutcome::Wait { reasons, .. } = executor.step().await.unwrap()
            && let Some(reason) = reasons.iter().find(|at| at.on.contains("the API server"))
        {
            return reason.on.clone();
        }
    }
    panic!("it never waits for the API server");
}

async fn finish(case: &Case, executor: &mut Executor) -> Report {
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
    report
}

fn is_told(report: &Report) -> bool {
    report.findings.iter().any(|at| at.code == "KM-RUN-009")
}

#[tokio::test(start_paused = true)]
async fn what_the_upgrade_of_a_member_takes_away_is_told_as_such() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || begun(&case) == 1).await;
    set_away(&case, true);
    let on = waits_for_the_api(&mut executor).await;
    assert!(on.contains("away while cp-1 is upgraded"), "{on}");
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    let [outage] = report.api_outages.as_slice() else {
        panic!("{report}");
    };
    assert_eq!(outage.during.as_deref(), Some("cp-1"));
    assert!(outage.length() >= secs(1), "{outage:?}");
    assert!(!is_told(&report));
    assert!(report.to_string().contains("API away"), "{report}");
}

/// Nothing is under way, since the run is paused when the API server goes.
async fn paused_between_two_nodes(case: &Case) -> Executor {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || begun(case) == 2).await;
    case.world.pause(true);
    for _ in 0..120 {
        let _ = executor.step().await.unwrap();
    }
    set_away(case, true);
    executor
}

#[tokio::test(start_paused = true)]
async fn one_that_nothing_explains_is_a_finding_and_nothing_begins_meanwhile() {
    let case = Case::new();
    let mut executor = paused_between_two_nodes(&case).await;
    let on = waits_for_the_api(&mut executor).await;
    assert!(on.contains("nothing of this run explains it"), "{on}");
    case.world.pause(false);
    for _ in 0..60 {
        let _ = executor.step().await.unwrap();
    }
    assert_eq!(begun(&case), 2);
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    assert_eq!(report.api_outages.len(), 1, "{report}");
    assert_eq!(report.api_outages[0].during, None);
    assert!(report.api_outages[0].length() >= secs(60), "{report}");
    assert!(is_told(&report), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_runner_with_nothing_under_way_leaves_after_the_deadline_and_the_next_goes_on() {
    let mut case = Case::new();
    case.policy.deadlines.api = secs(90);
    let mut executor = paused_between_two_nodes(&case).await;
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let RunOutcome::Interrupted { cause } = &report.outcome else {
        panic!("{report}");
    };
    assert!(
        matches!(cause, StopCause::ApiAway { for_seconds, .. } if (90..100).contains(for_seconds)),
        "{cause}"
    );
    drop(executor);
    set_away(&case, false);
    case.world.pause(false);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let _ = finish(&case, &mut executor).await;
}

/// One member, whose first attempt fails and leaves no API server.
async fn alone_and_dead(case: &Case) -> Executor {
    {
        let mut world = case.world.lock();
        world.members.remove("cp-2");
        world.nodes.remove("cp-2");
        world.faults.fails.insert("cp-1".to_owned(), (1, true));
    }
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || begun(case) == 1).await;
    set_away(case, true);
    executor
}

async fn step_for(executor: &mut Executor, steps: u32) {
    for _ in 0..steps {
        let _ = executor.step().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_that_brings_the_only_api_server_back_does_not_wait_for_it() {
    let case = Case::new();
    let mut executor = alone_and_dead(&case).await;
    step_until(&mut executor, || begun(&case) == 2).await;
    assert!(
        case.effects()[1..]
            .iter()
            .all(|effect| effect.contains("begin"))
    );
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    assert_eq!(report.api_outages.len(), 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn it_does_wait_where_the_run_is_paused_or_superseded_or_other_members_should_answer() {
    let case = Case::new();
    let mut executor = alone_and_dead(&case).await;
    executor.pause();
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);

    let case = Case::new();
    let mut executor = alone_and_dead(&case).await;
    case.world.lock().members.get_mut("cp-1").unwrap().fence = 9;
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);

    let case = Case::new();
    let fails = ("cp-1".to_owned(), (1, true));
    case.world.lock().faults.fails.extend([fails]);
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || begun(&case) == 1).await;
    set_away(&case, true);
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);
}

/// One call that fails says little: somebody may have paused the run.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_unseen_before_the_api_server_was_away_for_long() {
    let case = Case::new();
    let mut executor = alone_and_dead(&case).await;
    set_away(&case, false);
    step_for(&mut executor, 25).await;
    case.world.pause(true);
    set_away(&case, true);
    step_for(&mut executor, 20).await;
    assert_eq!(begun(&case), 1);
    set_away(&case, false);
    step_for(&mut executor, 60).await;
    assert_eq!(begun(&case), 1);
    case.world.pause(false);
    let _ = finish(&case, &mut executor).await;
}
