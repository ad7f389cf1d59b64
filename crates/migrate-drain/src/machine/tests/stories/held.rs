//! What stays out of its budgets after the drain that asked for it.

use super::*;

/// `w-1` was accepted and nobody saw it go; the drain of its node has ended.
fn accepted_and_never_seen() -> (Story, Pod) {
    let pods = [pod("w-1", "a"), pod("w-2", "b"), pod("w-3", "b")];
    let gone = pods[0].clone();
    let mut story = Story::new(options()).with_web(3, pods);
    let (request, id) = asked(&story.begin("a")).remove(0);
    assert_eq!(id, gone.id);
    story.answer(request, EvictionAnswer::Accepted);
    let outputs = story.pass(301);
    let ended = outcome(&outputs);
    assert!(matches!(ended, Some(DrainOutcome::Deadline { .. })));
    (story, gone)
}

fn cordoned(story: &mut Story, node: &str) -> Vec<Output> {
    story.tell(Input::NodesAdded(vec![node.into()]));
    story.tell(Input::Cordoned {
        node: node.into(),
        was_unschedulable: false,
    })
}

#[test]
fn an_accepted_pod_is_held_until_it_is_seen_to_go_however_late() {
    for seen in [false, true] {
        let (mut story, gone) = accepted_and_never_seen();
        assert_eq!(asked(&cordoned(&mut story, "b")), []);
        assert_eq!(asked(&story.pass(250)), [], "no timer gives it back");
        // Its going alone is no replacement.
        let outputs = match seen {
            true => story.see(terminating(gone)),
            false => story.gone(&gone),
        };
        assert_eq!(asked(&outputs), []);
        let outputs = story.see(pod("w-4", "a"));
        assert_eq!(asked(&outputs).len(), 1, "seen going: {seen}");
    }
}

#[test]
fn a_second_drain_that_is_turned_away_at_the_door_gives_nothing_back() {
    let (mut story, gone) = accepted_and_never_seen();
    let (request, id) = asked(&cordoned(&mut story, "a")).remove(0);
    assert_eq!(id, gone.id);
    assert_eq!(asked(&cordoned(&mut story, "b")), []);
    // Says nothing about the attempt of the first drain.
    let outputs = story.answer(request, webhook());
    let others = asked(&outputs);
    assert!(others.iter().all(|(_, id)| *id == gone.id), "{others:?}");
    let later = asked(&story.pass(1));
    assert!(later.iter().all(|(_, id)| *id == gone.id), "{later:?}");
}
