//! Single pods moved off a node that stays in use.

use migrate_core::spread::PodMove;

use super::*;

fn a_move(pods: &[&Pod]) -> Input {
    let pods = pods
        .iter()
        .map(|pod| PodMove::new(pod.id.clone(), web(), "a"));
    Input::Move {
        node: "a".into(),
        pods: pods.collect(),
    }
}

fn moved(outputs: &[Output]) -> Option<DrainOutcome> {
    outputs.iter().find_map(|output| match output {
        Output::Done(DrainEvent::Moved { outcome, .. }) => Some(outcome.clone()),
        _ => None,
    })
}

const ONE: DrainOutcome = DrainOutcome::Empty { evictions: 1 };

#[test]
fn only_the_named_pod_goes_and_its_node_is_not_cordoned() {
    let (first, second) = (pod("w-1", "a"), pod("w-2", "a"));
    let mut story = Story::new(options()).with_web(2, [first.clone(), second]);
    assert_eq!(story.tell(a_move(&[&first])), [], "nothing is known yet");
    let outputs = story.tell(Input::Synced);
    assert_eq!(asked(&outputs).len(), 1, "{outputs:?}");
    assert_eq!(
        moved(&story.moves(&outputs, &first)),
        None,
        "one is missing"
    );
    // What comes to the node meanwhile is none of its business, nor is a cordon
    // that somebody sets and lifts.
    story.node("a", true);
    story.node("a", false);
    let outputs = story.see(pod("w-3", "a"));
    assert_eq!(moved(&outputs), Some(ONE));
    let touches_node = |output: &Output| {
        matches!(
            output,
            Output::Cordon { .. } | Output::RestoreCordon { .. } | Output::Look { .. }
        )
    };
    assert!(!story.told.iter().any(touches_node), "{:?}", story.told);
    assert_eq!(asked(&story.told).len(), 1);
    assert!(story.drain.is_idle());
}

#[test]
fn a_budget_holds_a_move_as_it_holds_a_drain() {
    let pods = [pod("w-1", "a"), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods.clone());
    let ask = |story: &mut Story| {
        story.tell(Input::Synced);
        asked(&story.tell(a_move(&[&pods[0], &pods[1]])))
    };
    let mut unguarded = Story::new(Options {
        guarded: false,
        ..options()
    });
    unguarded = unguarded.with_web(3, pods.clone());
    assert_eq!(
        ask(&mut unguarded).len(),
        2,
        "the control: it would break it"
    );
    assert_eq!(ask(&mut story).len(), 1, "the assumed one");
    // A drain beside it counts in the same ledger.
    let outputs = story.begin("b");
    assert_eq!(asked(&outputs), []);
}

#[test]
fn a_pod_that_is_gone_is_not_replaced_by_another_but_its_workload_is_waited_for() {
    let (first, second) = (pod("w-1", "a"), pod("w-2", "a"));
    let mut before = ClusterModel::new(ClusterId::new("c"), Moment::from_millis(0));
    before.workloads = vec![Workload::new(web(), 2)];
    before.pods = vec![pod("w-0", "b"), second.clone()];
    let mut story = Story::new(options());
    story.drain = Drain::new(options()).with_baseline(&before);
    story.node("a", false);
    story.web(2);
    story.see(second);
    story.tell(Input::Synced);
    let outputs = story.tell(a_move(&[&first]));
    assert_eq!((asked(&outputs), moved(&outputs)), (vec![], None));
    let outputs = story.see(pod("w-3", "b"));
    assert_eq!(moved(&outputs), Some(DrainOutcome::Empty { evictions: 0 }));
    assert_eq!(asked(&story.told), []);
}

#[test]
fn a_move_ends_at_the_deadline_of_a_pod_or_when_its_node_is_wanted() {
    let begun = || {
        let first = pod("w-1", "a");
        let mut story = Story::new(options()).with_web(2, [first.clone(), pod("w-2", "a")]);
        story.budget(budget(0, 2));
        story.tell(Input::Synced);
        assert_eq!(asked(&story.tell(a_move(&[&first]))), []);
        story
    };
    let mut story = begun();
    let outputs = story.pass(301);
    let Some(DrainOutcome::Deadline { blocked, .. }) = moved(&outputs) else {
        panic!("{outputs:?}")
    };
    assert_eq!(blocked.len(), 1);
    let mut story = begun();
    let outputs = story.tell(Input::NodesAdded(vec!["a".into()]));
    assert!(matches!(moved(&outputs), Some(DrainOutcome::Failed { .. })));
    assert_eq!(outputs.last(), Some(&cordons("a")), "{outputs:?}");
    let outputs = story.tell(a_move(&[&pod("w-1", "a")]));
    assert!(matches!(moved(&outputs), Some(DrainOutcome::Failed { .. })));
}
