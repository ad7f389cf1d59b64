//! The last look at a pool before a cordon.

use migrate_core::Policy;

use super::super::super::{Pools, Room};
use super::*;

/// A drain of a run whose one pool has the nodes `a`, `b` and `c`, `width` of
/// which may be away.
fn story(width: u32) -> Story {
    let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    let node = |name| Node::new(name, "v1.36.3".parse().unwrap());
    model.nodes = ["a", "b", "c"].map(node).to_vec();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    let mut story = Story::new(options().with_pools(Pools::of(&model, &policy)));
    story.tell(Input::Synced);
    story
}

fn room(outputs: &[Output], of: &str) -> Option<Room> {
    outputs.iter().find_map(|output| match output {
        Output::Cordon { node, room } if node == of => room.clone(),
        _ => None,
    })
}

impl Story {
    fn drain(&mut self, node: &str) -> Vec<Output> {
        self.tell(Input::NodesAdded(vec![node.into()]))
    }

    fn no_room(&mut self, node: &str) -> Vec<Output> {
        let away = vec!["c".to_owned()];
        let node = node.to_owned();
        self.tell(Input::NoRoom { node, away })
    }
}

#[test]
fn a_node_without_room_is_let_go_untouched() {
    let mut story = story(1);
    let outputs = story.drain("a");
    let room = room(&outputs, "a").unwrap();
    assert_eq!(room.missing([("c", true)]), Some(vec!["c".to_owned()]));
    let expected = DrainOutcome::NoRoom {
        pool: "default".into(),
        away: vec!["c".into()],
    };
    assert_eq!(outcome(&story.no_room("a")), Some(expected));
    assert!(story.drain.is_idle());
}

#[test]
fn of_two_that_are_asked_at_once_the_second_counts_the_first() {
    let mut story = story(2);
    let first = story.drain("a");
    let second = story.drain("b");
    let dead = [("a", false), ("b", false), ("c", true)];
    assert_eq!(room(&first, "a").unwrap().missing(dead), None);
    let missing = room(&second, "b").unwrap().missing(dead);
    assert_eq!(missing, Some(vec!["c".to_owned()]));
}

#[test]
fn one_that_is_not_asked_yet_takes_no_room() {
    let mut story = story(1);
    let both = story.tell(Input::NodesAdded(vec!["a".into(), "b".into()]));
    assert_eq!(room(&both, "a").unwrap().missing([]), None);
    assert_eq!(room(&both, "b").unwrap().missing([]), Some(Vec::new()));
}

/// A request without an answer may still arrive, and what it takes would be
/// nobody's once the drain has ended.
#[test]
fn after_an_attempt_without_an_answer_it_waits() {
    let mut story = story(1);
    story.drain("a");
    story.tell(Input::CordonFailed {
        node: "a".into(),
        failure: Failure::passing("no answer"),
    });
    assert!(room(&story.pass(1), "a").is_some());
    assert_eq!(outcome(&story.no_room("a")), None);
    assert!(room(&story.pass(2), "a").is_some());
    // By now the API server has dropped it.
    story.pass(60);
    assert!(outcome(&story.no_room("a")).is_some());
}

#[test]
fn a_cordon_that_was_there_and_was_lifted_needs_no_room() {
    let mut story = story(1);
    story.drain("a");
    story.tell(Input::Cordoned {
        node: "a".into(),
        was_unschedulable: false,
    });
    story.node("a", true);
    assert!(story.node("a", false).contains(&cordons("a")));
}
