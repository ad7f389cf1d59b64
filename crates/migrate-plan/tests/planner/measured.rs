//! What was measured becomes what is predicted.

use std::time::Duration;

use migrate_core::{CanaryChange, CanaryPod, DocumentError, Phase, Plan, Policy, Target};
use migrate_plan::{Difference, Measured, Planner, TargetKind, Timeline, rehearse};

use crate::support::{Cluster, NEW, version};
use crate::took;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pool(name: &str) -> TargetKind {
    let pool = name.to_owned();
    TargetKind::Nodes { pool }
}

/// A pod each on two of its three nodes, and another pool.
fn cluster() -> Cluster {
    Cluster::new()
        .member("cp-1")
        .pool("general", 3)
        .pool("other", 1)
        .deployment("web", &["general-1", "general-2"])
}

#[test]
fn means_replace_constants_and_a_drain_is_stretched() {
    let (model, policy) = (cluster().build(), Policy::default());
    let planner = Planner::new(&model, &policy, version(NEW));
    let before = planner.plan().unwrap();
    let measured = Measured::default()
        .with_phase(TargetKind::Members, Phase::Upgrade, 3, secs(21))
        .with_phase(pool("general"), Phase::Upgrade, 2, secs(10))
        .with_phase(pool("general"), Phase::Upgrade, 1, secs(11))
        .with_phase(pool("general"), Phase::Drain, 5, secs(200))
        .with_phase(pool("control-plane"), Phase::Upgrade, 1, secs(99));
    let plan = planner.clone().with_measured(&measured).plan().unwrap();
    assert_eq!(took(&plan, "cp-1", Phase::Upgrade), secs(7));
    let verify = |plan| took(plan, "cp-1", Phase::Verify);
    assert_eq!(verify(&plan), verify(&before), "never measured");
    assert_eq!(took(&plan, "general-1", Phase::Upgrade), secs(7));
    let other = took(&plan, "other-1", Phase::Upgrade);
    assert_eq!(other, secs(7), "as other workers, not as the control plane");
    let drains =
        |plan| ["general-1", "general-2", "general-3"].map(|n| took(plan, n, Phase::Drain));
    let (now, was) = (drains(&plan), drains(&before));
    let sum: Duration = now.iter().sum();
    assert!(
        sum.abs_diff(secs(3 * 40)) < Duration::from_millis(3),
        "{now:?}"
    );
    assert!(now[2] < now[0] && was[2] < was[0], "an empty one is quick");
}

#[test]
fn a_record_is_read_back_and_what_is_none_is_refused() {
    let node = Target::Node {
        pool: "general".into(),
        node: "general-1".into(),
    };
    let at = cluster().build().taken_at;
    let measured = Measured::of_run(at, [(node, Phase::Drain, secs(3))]);
    let json = measured.to_json().unwrap();
    assert_eq!(Measured::from_json(&json).unwrap(), measured);
    assert_eq!(measured.phases[0].of, pool("general"));
    let nothing = json.replace(r#""targets": 1"#, r#""targets": 0"#);
    assert_ne!(json, nothing);
    let error = Measured::from_json(&nothing).unwrap_err();
    assert!(matches!(error, DocumentError::Invalid { .. }), "{error}");
    let newer = json.replace(r#""schema": 1"#, r#""schema": 2"#);
    let error = Measured::from_json(&newer).unwrap_err();
    assert!(
        error.to_string().contains("record of measured durations"),
        "{error}"
    );
    assert!(matches!(error, DocumentError::Newer { .. }), "{error}");
}

/// What a plan predicts is what it rehearses, where nothing was measured.
#[test]
fn a_plan_rehearses_its_own_schedule_and_each_difference_is_named() {
    let (model, policy) = (cluster().build(), Policy::default());
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let rehearsal = rehearse(&model, &policy, &plan, &Measured::default()).unwrap();
    assert_eq!(rehearsal, Timeline::new(plan.schedule.clone()));
    assert_eq!(rehearsal.end(), plan.makespan());
    let run = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        rehearsal.differences(&Timeline::new(plan.schedule), secs(1))
    };
    assert_eq!(run(&|_| {}), []);
    let last = plan.schedule.last().unwrap().clone();
    let missing = run(&|plan| drop(plan.schedule.pop()));
    let (target, phase) = (last.target.clone(), last.phase);
    assert!(
        missing.contains(&Difference::Missing { target, phase }),
        "{missing:?}"
    );
    let swapped = run(&|plan| plan.schedule.swap(2, 3));
    assert!(
        matches!(swapped[..], [Difference::Order { place: 2, .. }]),
        "{swapped:?}"
    );
    let late = run(&|plan| plan.schedule[1].start += secs(2));
    assert!(matches!(late[..], [Difference::Begin { .. }]), "{late:?}");
    let end = run(&|plan| plan.schedule.last_mut().unwrap().end += secs(2));
    assert!(matches!(end[..], [Difference::End { .. }]), "{end:?}");
    let within = run(&|plan| plan.schedule.last_mut().unwrap().end += secs(1));
    assert_eq!(within, []);
    let mut twice = last;
    twice.phase = Phase::Confirm;
    let other = Timeline::new([&plan.schedule[..], &[twice]].concat());
    let more = rehearsal.differences(&other, secs(1));
    assert!(
        matches!(more[..], [Difference::Unexpected { .. }, ..]),
        "{more:?}"
    );
}

#[test]
fn canary_change_and_canary_pod_are_predicted_where_the_policy_has_them() {
    let model = cluster().pool("control-plane", 1).build();
    let verify = |policy: &Policy| {
        let plan = Planner::new(&model, policy, version(NEW)).plan().unwrap();
        ["cp-1", "control-plane-1", "general-1"].map(|name| took(&plan, name, Phase::Verify))
    };
    let mut policy = Policy::default();
    let without = verify(&policy);
    assert_eq!(without, [secs(60); 3]);
    policy.canary_change = Some(CanaryChange::default());
    assert_eq!(verify(&policy), [secs(66), secs(66), secs(60)]);
    policy.canary_pod = Some(CanaryPod::new("busybox"));
    assert_eq!(verify(&policy), [secs(66), secs(69), secs(63)]);
}
