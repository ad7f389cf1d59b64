//! Windows and blackouts.

use std::time::Duration;

use migrate_core::{ClusterModel, Moment, OnDeadline, Phase, Policy};
use migrate_plan::{ActionResult, Input, Planner, WaitingOn};

use crate::run::{Run, cluster, policy};
use crate::support::{NEW, version};

/// The model is of this time: a Friday.
const TODAY: &str = "2027-01-15T";
const TOMORROW: &str = "2027-01-16T";

fn at(day: &str, time: &str) -> Moment {
    let text = format!("\"{day}{time}:00Z\"");
    serde_json::from_str(&text).unwrap()
}

fn daily(from: &str, to: &str) -> Policy {
    let mut policy = policy("1", false, OnDeadline::Stop);
    let window = format!(r#"[{{"from": "{from}", "to": "{to}"}}]"#);
    policy.rollout.windows = serde_json::from_str(&window).unwrap();
    policy
}

fn model() -> ClusterModel {
    let model = cluster().build();
    assert_eq!(model.taken_at, at(TODAY, "08:00"));
    model
}

fn closed_until(day: &str, time: &str) -> WaitingOn {
    WaitingOn::Window {
        opens: Some(at(day, time)),
    }
}

#[test]
fn nothing_begins_outside_a_window_and_what_has_begun_goes_on() {
    let model = model();
    let mut run = Run::started(&model, &daily("09:00", "10:00"));
    assert_eq!(run.waiting_on("m1"), closed_until(TODAY, "09:00"));
    assert_eq!(run.wait(), ["upgrade m1"]);
    assert_eq!(run.now, at(TODAY, "09:00"));
    run.now = at(TODAY, "09:53");
    run.ok("upgrade m1");
    // Six minutes are predicted for a member, and five for a node.
    assert_eq!(run.ok("verify m1"), ["upgrade m2"]);
    run.now = at(TODAY, "09:56");
    assert!(run.through(&["upgrade", "verify"], "m2").is_empty());
    assert_eq!(run.waiting_on("general-1"), closed_until(TOMORROW, "09:00"));
    assert_eq!(run.wait(), ["drain general-1"]);
    assert_eq!(run.now, at(TOMORROW, "09:00"));
    // Late is late: half a node is worse than a whole one.
    run.now = at(TOMORROW, "10:30");
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert!(run.through(&["upgrade", "verify"], "general-1").is_empty());
    assert_eq!(run.rollout.progress().done, 3);
    // Without a window none of this is so.
    let always = policy("1", false, OnDeadline::Stop);
    assert_eq!(Run::started(&model, &always).members_done().len(), 1);
}

#[test]
fn the_control_plane_is_not_begun_unless_all_of_it_fits() {
    let model = model();
    let mut run = Run::new(&model, &daily("09:00", "10:00"));
    run.now = at(TODAY, "09:49");
    assert!(run.tell(Input::Started).is_empty());
    assert_eq!(run.waiting_on("m1"), closed_until(TOMORROW, "09:00"));
    let mut run = Run::new(&model, &daily("09:00", "10:00"));
    run.now = at(TODAY, "09:48");
    assert_eq!(run.tell(Input::Started), ["upgrade m1"]);
}

#[test]
fn a_blackout_closes_a_window() {
    let mut policy = daily("00:00", "24:00");
    let freeze = r#"[{"from": "2027-01-14T00:00Z", "to": "2027-01-16T12:00Z"}]"#;
    policy.rollout.blackouts = serde_json::from_str(freeze).unwrap();
    let mut run = Run::started(&model(), &policy);
    assert_eq!(run.wait(), ["upgrade m1"]);
    assert_eq!(run.now, at(TOMORROW, "12:00"));
}

#[test]
fn only_open_time_counts_as_a_standstill() {
    let model = cluster()
        .deployment("db", &["general-1", "general-2"])
        .budget("db", 0)
        .build();
    let mut policy = daily("08:00", "08:40");
    policy.pools.max_unavailable = "4".parse().unwrap();
    let mut run = Run::started(&model, &policy);
    run.now = at(TODAY, "08:10");
    run.members_done();
    for node in ["general-3", "general-4"] {
        run.through(&["drain", "upgrade", "verify"], node);
    }
    // Patience is an hour: half of it today, half of it tomorrow.
    assert!(run.wait().is_empty());
    assert_eq!(run.now, at(TOMORROW, "08:00"));
    assert_eq!(run.wait(), ["stop: nothing can begin and 2 targets wait"]);
    assert_eq!(run.now, at(TOMORROW, "08:30"));
}

#[test]
fn a_window_that_will_never_do_is_a_blocker() {
    let model = model();
    let found = |policy: &Policy| {
        let plan = Planner::new(&model, policy, version(NEW)).plan().unwrap();
        let mut found = plan.findings.into_iter();
        found.find(|finding| finding.code == "KM-WINDOW-001")
    };
    let finding = found(&daily("09:00", "09:10")).unwrap();
    assert!(finding.blocks());
    let evidence = "the longest time that windows and blackouts leave within a year is 10 min, \
                    and 1 of the plan's targets need up to 12 min (the control plane)";
    assert_eq!(finding.evidence, evidence);
    assert_eq!(found(&daily("09:00", "09:12")), None);
    // Waived, it ends after as much open time as policy has patience.
    let mut run = Run::started(&model, &daily("09:00", "09:10"));
    let stop = std::iter::from_fn(|| Some(run.wait())).find(|answer| !answer.is_empty());
    let standstill = "stop: nothing can begin and 6 targets wait";
    assert_eq!(stop.unwrap(), [standstill]);
    assert_eq!(run.now, at("2027-01-20T", "09:10"));
    // A node that is too long for any window does not keep the others waiting.
    let mut skip = daily("09:00", "09:13");
    skip.deadlines.then = OnDeadline::Skip;
    skip.pools.max_unavailable = "4".parse().unwrap();
    let pods = ["general-1"; 30];
    let heavy = cluster().deployment("web", &pods).budget("web", 1).build();
    let plan = Planner::new(&heavy, &skip, version(NEW)).plan().unwrap();
    let verified = plan.schedule.iter().filter(|a| a.phase == Phase::Verify);
    assert_eq!(verified.count(), 2 + 3);
    // What has a window is in the schedule, at its time.
    let policy = daily("09:00", "09:12");
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_eq!(plan.schedule.len(), 2 * 2 + 4 * 3);
    assert_eq!(plan.schedule[0].start.as_secs(), 3600);
    let trace = Planner::new(&model, &policy, version(NEW)).trace().unwrap();
    let replayed = migrate_plan::replay(&plan, &model, &policy, &trace.inputs).unwrap();
    assert_eq!(replayed, trace.commands);
    // One that is over never opens: the run ends as policy says.
    let mut over = policy;
    let past = r#"[{"from": "2027-01-14T00:00Z", "to": "2027-01-15T00:00Z"}]"#;
    over.rollout.windows = serde_json::from_str(past).unwrap();
    assert!(found(&over).unwrap().evidence.contains("is 0 min"));
    let mut run = Run::started(&model, &over);
    assert_eq!(run.waiting_on("m1"), WaitingOn::Window { opens: None });
    assert_eq!(run.wait(), ["stop: nothing can begin and 6 targets wait"]);
}

/// Thirty days of patience are two years of such windows.
#[test]
fn a_standstill_ends_after_a_year_however_short_windows_are() {
    let model = (1..=4).fold(cluster(), |cluster, node| {
        cluster.node(&format!("general-{node}"), |node| node.ready = false)
    });
    let mut policy = daily("09:00", "10:00");
    policy.deadlines.drain = Duration::from_secs(30 * 86_400);
    let mut run = Run::started(&model.build(), &policy);
    assert_eq!(run.wait(), ["upgrade m1"]);
    assert!(run.members_done().is_empty());
    let still_from = run.now;
    let mut looks = 0;
    let answer = loop {
        looks += 1;
        let answer = run.wait();
        if !answer.is_empty() {
            break answer;
        }
    };
    assert_eq!(answer, ["stop: nothing can begin and 4 targets wait"]);
    assert_eq!(run.now.since(still_from).as_secs(), 366 * 86_400);
    assert_eq!(looks, 366);
}

#[test]
fn what_was_decided_in_time_and_held_until_its_window_was_over_waits_for_the_next() {
    let model = model();
    let late = ActionResult::TooLate;
    let mut run = Run::started(&model, &daily("09:00", "10:00"));
    assert_eq!(run.wait(), ["upgrade m1"]);
    let member = run.id("upgrade m1");
    assert!(!run.rollout.is_late(&member));
    // Twelve minutes are predicted for both members.
    run.now = at(TODAY, "09:49");
    assert!(run.poll().is_empty());
    assert!(run.rollout.is_late(&member));
    assert!(run.end("upgrade m1", late.clone()).is_empty());
    assert_eq!(run.waiting_on("m1"), closed_until(TOMORROW, "09:00"));
    assert_eq!(run.wait(), ["upgrade m1"]);
    assert_eq!(run.members_done(), ["drain general-1"]);
    let node = run.id("drain general-1");
    assert!(!run.rollout.is_late(&node));
    run.now = at(TOMORROW, "10:30");
    assert!(run.poll().is_empty());
    assert!(run.rollout.is_late(&node));
    assert!(run.end("drain general-1", late).is_empty());
    let day_after = "2027-01-17T";
    let closed = closed_until(day_after, "09:00");
    assert_eq!(run.waiting_on("general-1"), closed);
    assert_eq!(run.wait(), ["drain general-1"]);
    assert_eq!(run.now, at(day_after, "09:00"));
    // What has begun is brought to its end, however late.
    run.now = at(day_after, "12:00");
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert!(!run.rollout.is_late(&run.id("upgrade general-1")));
}

#[test]
fn the_planner_lets_what_was_late_begin_when_the_rollout_does() {
    let model = model();
    let policy = daily("08:00", "08:13");
    // A plan made when the members were found to be late.
    let mut later = model.clone();
    later.taken_at = at(TODAY, "08:02");
    let plan = Planner::new(&later, &policy, version(NEW)).plan().unwrap();
    let planned = later.taken_at + plan.schedule[0].start;
    let mut run = Run::started(&model, &policy);
    run.now = later.taken_at;
    assert!(run.end("upgrade m1", ActionResult::TooLate).is_empty());
    assert_eq!(run.wait(), ["upgrade m1"]);
    assert_eq!(run.now, planned);
    // Nothing that a plan foresees is late.
    let trace = Planner::new(&model, &policy, version(NEW)).trace().unwrap();
    let is_late = |input: &Input| {
        matches!(
            input,
            Input::ActionEnded {
                result: ActionResult::TooLate,
                ..
            }
        )
    };
    assert!(!trace.inputs.iter().any(|told| is_late(&told.input)));
}
