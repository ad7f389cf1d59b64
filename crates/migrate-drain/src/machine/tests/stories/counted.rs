//! Pods of a controller whose objects are not read.

use super::*;

fn clone_set() -> WorkloadId {
    WorkloadId::new("CloneSet", "ns", "web")
}

/// A pod of that controller on `node`.
fn cloned(name: &str, node: &str) -> Pod {
    let mut pod = pod(name, node);
    pod.workload = Some(clone_set().into());
    pod.controller = Some(
        ControllerRef {
            group: "apps.kruise.io".into(),
            kind: "CloneSet".into(),
            name: "web".into(),
            uid: "clone-set".into(),
        }
        .into(),
    );
    pod
}

fn with(pods: &[Pod]) -> Story {
    let mut story = Story::new(options());
    for pod in pods {
        story.see(pod.clone());
    }
    story
}

/// Whether `account` is what is assumed: pods needed, and how many are there.
fn assumes(story: &Story, desired: u32, healthy: u32) {
    let key = migrate_core::BudgetKey::assumed(&clone_set());
    let mut accounts = story.drain.budgets().filter(|one| one.key == key);
    let counts = accounts.next().map(|one| (one.desired, one.healthy));
    assert_eq!(counts, Some((desired, healthy)));
}

#[test]
fn they_go_one_by_one_and_each_replacement_is_awaited() {
    let (first, second) = (cloned("w-1", "a"), cloned("w-2", "a"));
    let mut story = with(&[first.clone(), second.clone(), cloned("w-3", "b")]);
    let outputs = story.begin("a");
    assert_eq!(asked(&outputs).len(), 1);
    story.moves(&outputs, &first);
    assert_eq!(asked(&story.pass(60)), [], "the replacement is missing");
    let mut fresh = cloned("w-4", "b");
    fresh.ready = false;
    assert_eq!(asked(&story.see(fresh.clone())), []);
    fresh.ready = true;
    let outputs = story.see(fresh);
    story.moves(&outputs, &second);
    assert!(!looks(&story.pass(60)), "the last replacement is missing");
    assert!(looks(&story.see(cloned("w-5", "b"))));
    let outputs = story.looked("a", vec![]);
    assert_eq!(
        outcome(&outputs),
        Some(DrainOutcome::Empty { evictions: 2 })
    );
}

#[test]
fn a_replacement_that_never_comes_ends_the_drain_at_its_deadline_by_name() {
    let first = cloned("w-1", "a");
    let mut story = with(&[first.clone(), cloned("w-2", "b")]);
    let outputs = story.begin("a");
    story.moves(&outputs, &first);
    let outputs = story.pass(901);
    let Some(DrainOutcome::Deadline { blocked, .. }) = outcome(&outputs) else {
        panic!("{outputs:?}");
    };
    assert_eq!((blocked[0].1.desired, blocked[0].1.healthy), (2, 1));
    assert!(story.found(codes::NOT_REPLACED));
}

#[test]
fn pods_that_its_controller_takes_are_wanted_no_more() {
    let first = cloned("w-1", "a");
    let others = ["w-2", "w-3", "w-4"].map(|name| cloned(name, "b"));
    let mut all = vec![first.clone()];
    all.extend(others.clone());
    let mut story = with(&all);
    assumes(&story, 3, 4);
    story.see(terminating(others[2].clone()));
    story.gone(&others[2]);
    assumes(&story, 2, 3);
    let outputs = story.begin("a");
    story.moves(&outputs, &first);
    assert!(!looks(&story.pass(60)));
    story.gone(&others[1]);
    assert!(looks(&story.see(cloned("w-5", "b"))), "two are wanted now");
}

#[test]
fn a_restart_by_its_controller_changes_nothing_in_the_end() {
    let pods = ["w-1", "w-2", "w-3"].map(|name| cloned(name, "b"));
    let mut story = with(&pods);
    // First the new one, then the old one goes; and the other way round.
    story.see(cloned("w-4", "b"));
    assumes(&story, 3, 4);
    story.see(terminating(pods[0].clone()));
    story.gone(&pods[0]);
    assumes(&story, 2, 3);
    story.see(terminating(pods[1].clone()));
    story.gone(&pods[1]);
    story.see(cloned("w-5", "b"));
    assumes(&story, 2, 3);
}

/// In a list the replacement may come before the pod that it replaces.
#[test]
fn a_replacement_seen_early_is_not_one_pod_more() {
    let first = cloned("w-1", "a");
    let mut story = with(&[first.clone(), cloned("w-2", "b"), cloned("w-3", "b")]);
    let outputs = story.begin("a");
    let (request, _) = asked(&outputs).remove(0);
    story.see(cloned("w-4", "b"));
    story.answer(request, EvictionAnswer::Accepted);
    story.see(terminating(first.clone()));
    story.gone(&first);
    assumes(&story, 2, 3);
    assert!(looks(&story.pass(2)));
}

#[test]
fn a_single_pod_is_waited_for_as_soon_as_there_is_another() {
    let only = cloned("db-1", "a");
    let moved = || {
        let mut story = with(std::slice::from_ref(&only));
        let outputs = story.begin("a");
        story.moves(&outputs, &only);
        story
    };
    assert!(
        looks(&moved().pass(2)),
        "an operator need not make it again"
    );
    let mut story = moved();
    let mut next = cloned("db-2", "b");
    next.ready = false;
    story.see(next.clone());
    assert!(!looks(&story.pass(60)));
    next.ready = true;
    assert!(looks(&story.see(next)));
}

#[test]
fn a_resumed_run_counts_what_there_was_before() {
    let mut before = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    before.pods = ["w-1", "w-2", "w-3"].map(|name| cloned(name, "b")).into();
    before.workloads = Workload::count(&before.pods);
    before.sort();
    let mut story = with(&[]);
    story.drain = story.drain.with_baseline(&before);
    // One of them is away already.
    story.see(cloned("w-1", "a"));
    story.see(cloned("w-2", "b"));
    let outputs = story.begin("a");
    assert_eq!(asked(&outputs), []);
    assert_eq!(asked(&story.see(cloned("w-4", "b"))).len(), 1);
}
