//! An API server that does not answer: because the run upgrades it, or not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, step_until};
use common::law::assert_replay_law;
use common::secs;
use migrate_core::Cancellation;
use migrate_executor::{Error, Executor, Outage, Report, RunOutcome, StepOutcome, StopCause};
use tokio::time::sleep;

fn set_away(case: &Case, away: bool) {
    case.world.lock().faults.api_away = away;
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

fn only_outage(report: &Report) -> &Outage {
    let [outage] = report.api_outages.as_slice() else {
        panic!("{report}");
    };
    outage
}

fn with_one_member() -> Case {
    let case = Case::new();
    {
        let mut world = case.world.lock();
        world.members.remove("cp-2");
        world.nodes.remove("cp-2");
    }
    case
}

/// A run that upgrades its first member.
async fn in_the_first_member(case: &Case) -> Executor {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || begun(case) == 1).await;
    executor
}

/// The same, and the API server is gone.
async fn away_in_the_first_member(case: &Case) -> Executor {
    let executor = in_the_first_member(case).await;
    set_away(case, true);
    executor
}

#[tokio::test(start_paused = true)]
async fn what_the_upgrade_of_the_only_member_takes_away_is_told_as_such() {
    let case = with_one_member();
    let mut executor = away_in_the_first_member(&case).await;
    let on = waits_for_the_api(&mut executor).await;
    assert!(on.contains("away while cp-1 is upgraded"), "{on}");
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    let outage = only_outage(&report);
    assert_eq!(outage.during.as_deref(), Some("cp-1"));
    assert!(outage.length() >= secs(1), "{outage:?}");
    assert!(!is_told(&report));
    assert!(report.to_string().contains("API away"), "{report}");
}

/// Of several members the others should answer, so the one at work is no excuse.
#[tokio::test(start_paused = true)]
async fn one_while_a_member_of_several_is_upgraded_is_a_finding_that_names_it() {
    let case = Case::new();
    let mut executor = away_in_the_first_member(&case).await;
    let on = waits_for_the_api(&mut executor).await;
    assert!(on.contains("while cp-1 is upgraded, although"), "{on}");
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    let outage = only_outage(&report);
    assert_eq!(outage.during, None);
    assert_eq!(outage.beside.as_deref(), Some("cp-1"));
    let told = report.findings.iter().find(|at| at.code == "KM-RUN-009");
    let told = &told.expect("the finding").evidence;
    assert!(told.contains("began while cp-1 was upgraded"), "{told}");
    assert!(!told.contains("changed nothing"), "{told}");
    let text = report.to_string();
    assert!(text.contains("others should have answered"), "{text}");
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
    // Waited for once, whatever each call said.
    let rests = report
        .waits
        .iter()
        .filter(|at| at.on.contains("drains rest"));
    assert_eq!(rests.count(), 1, "{report}");
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
    let outage = only_outage(&report);
    assert!((secs(90)..secs(100)).contains(&outage.length()), "{report}");
    assert!(is_told(&report), "{report}");
    drop(executor);
    // How long it lasted after that nobody knows.
    set_away(&case, false);
    sleep(secs(3_600)).await;
    case.world.pause(false);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = finish(&case, &mut executor).await;
    assert_eq!(report.api_outages, std::slice::from_ref(outage), "{report}");
}

/// Opens the journal while the API server stays away for `time`.
async fn open_while_away(case: &Case, time: u64) -> Executor {
    let opening = Executor::open(case.resume().with_patience(secs(300)));
    let back = async {
        sleep(secs(time)).await;
        set_away(case, false);
    };
    let (opened, ()) = tokio::join!(opening, back);
    opened.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_that_a_runner_finds_when_it_begins_counts_from_its_first_call() {
    let case = with_one_member();
    let executor = in_the_first_member(&case).await;
    drop(executor);
    set_away(&case, true);
    sleep(secs(20)).await;
    let mut executor = open_while_away(&case, 40).await;
    let report = finish(&case, &mut executor).await;
    let outage = only_outage(&report);
    assert!((secs(40)..secs(50)).contains(&outage.length()), "{report}");
    assert_eq!(outage.during.as_deref(), Some("cp-1"));
}

#[tokio::test(start_paused = true)]
async fn one_that_outlasts_its_runner_began_when_that_runner_saw_it() {
    let case = with_one_member();
    let mut executor = away_in_the_first_member(&case).await;
    step_for_seconds(&mut executor, 30).await;
    drop(executor);
    sleep(secs(20)).await;
    // A runner that gives up in between changes nothing of that.
    let error = Executor::open(case.resume()).await.unwrap_err();
    assert!(matches!(&error, Error::ApiAway { member: Some(of), .. } if of == "cp-1"));
    let cure = "cp-1, the only control-plane member, was being upgraded";
    let error = error.to_string();
    assert!(
        error.contains(cure) && error.contains("A manifest that was lost"),
        "{error}"
    );
    let mut executor = open_while_away(&case, 20).await;
    let report = finish(&case, &mut executor).await;
    let outage = only_outage(&report);
    assert!((secs(60)..secs(75)).contains(&outage.length()), "{report}");
    assert_eq!(outage.during.as_deref(), Some("cp-1"));
}

#[tokio::test(start_paused = true)]
async fn one_that_ended_while_no_runner_was_there_counts_for_as_long_as_it_was_seen() {
    let case = Case::new();
    let mut executor = paused_between_two_nodes(&case).await;
    step_for_seconds(&mut executor, 30).await;
    drop(executor);
    set_away(&case, false);
    sleep(secs(3_600)).await;
    case.world.pause(false);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = finish(&case, &mut executor).await;
    let outage = only_outage(&report);
    assert!(outage.length() < secs(40), "{report}");
    assert!(is_told(&report), "{report}");
}

/// One member, whose first attempt fails and leaves no API server.
async fn alone_and_dead(case: &Case) -> Executor {
    let fails = ("cp-1".to_owned(), (1, true));
    case.world.lock().faults.fails.extend([fails]);
    away_in_the_first_member(case).await
}

async fn step_for(executor: &mut Executor, steps: u32) {
    for _ in 0..steps {
        let _ = executor.step().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_that_brings_the_only_api_server_back_does_not_wait_for_it() {
    let case = with_one_member();
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
    let case = with_one_member();
    let mut executor = alone_and_dead(&case).await;
    executor.pause();
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);

    let case = with_one_member();
    let mut executor = alone_and_dead(&case).await;
    case.world.lock().members.get_mut("cp-1").unwrap().fence = 9;
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);

    let case = Case::new();
    let fails = ("cp-1".to_owned(), (1, true));
    case.world.lock().faults.fails.extend([fails]);
    let mut executor = away_in_the_first_member(&case).await;
    step_for(&mut executor, 300).await;
    assert_eq!(begun(&case), 1);
}

/// One call that fails says little: somebody may have paused the run.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_unseen_before_the_api_server_was_away_for_long() {
    let case = with_one_member();
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

async fn step_for_seconds(executor: &mut Executor, seconds: u64) {
    let until = tokio::time::Instant::now() + secs(seconds);
    for _ in 0..10_000 {
        if tokio::time::Instant::now() >= until {
            return;
        }
        let _ = executor.step().await.unwrap();
    }
    panic!("it goes on without time");
}

/// What is under way may be what took it away: until its end nobody has waited in vain.
#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_end_of_what_was_under_way() {
    let mut case = Case::new();
    case.policy.deadlines.api = secs(90);
    let fails = ("cp-1".to_owned(), (1, true));
    case.world.lock().faults.fails.extend([fails]);
    let mut executor = in_the_first_member(&case).await;
    {
        let mut world = case.world.lock();
        let upgrade = world.members.get_mut("cp-1").unwrap().upgrade.as_mut();
        upgrade.unwrap().done_at += secs(200);
    }
    set_away(&case, true);
    step_for_seconds(&mut executor, 240).await;
    assert_eq!(begun(&case), 1);
    set_away(&case, false);
    let report = finish(&case, &mut executor).await;
    assert!(report.api_outages[0].length() >= secs(200), "{report}");
}

/// A call hangs while others are answered: a connection died, not the API server.
#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_beside_others_that_are_answered_is_no_outage() {
    let case = Case::new();
    let mut executor = paused_between_two_nodes(&case).await;
    set_away(&case, false);
    let hang = |hangs| {
        let faults = &mut case.world.lock().faults;
        (faults.unrenewable, faults.slow_renewals) = (hangs, hangs);
    };
    step_for_seconds(&mut executor, 60).await;
    hang(true);
    step_for_seconds(&mut executor, 120).await;
    hang(false);
    case.world.pause(false);
    let report = finish(&case, &mut executor).await;
    let long = |outage: &&Outage| outage.length() >= secs(10);
    assert_eq!(
        report.api_outages.iter().filter(long).count(),
        0,
        "{report}"
    );
}
