//! Pods whose other nodes are all away.

use migrate_core::{Blocked, Policy};

use super::super::super::Pools;
use super::*;

/// `pod`, which only these nodes admit.
fn at_home_on(mut pod: Pod, nodes: &[&str]) -> Pod {
    let requirement = NodeRequirement {
        key: "metadata.name".into(),
        operator: NodeSelectorOperator::In,
        values: nodes.iter().map(|node| (*node).to_owned()).collect(),
    };
    pod.placement.volume_affinity = vec![vec![NodeSelectorTerm(vec![requirement])]];
    pod
}

/// A drain of a run.
fn options() -> Options {
    let model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    super::options().with_pools(Pools::of(&model, &Policy::default()))
}

fn story(options: Options, pods: impl IntoIterator<Item = Pod>) -> Story {
    let mut story = Story::new(options).with_web(1, pods);
    story.node("c", false);
    story
}

impl Story {
    fn add(&mut self, node: &str) -> Vec<Output> {
        self.tell(Input::NodesAdded(vec![node.into()]))
    }

    /// A node with a cordon that a run will give back.
    fn marked(&mut self, name: &str) -> Vec<Output> {
        let mut node = Node::new(name, "v1.36.3".parse().unwrap());
        (node.unschedulable, node.marked, node.ready) = (true, true, false);
        let version = self.next();
        self.tell(Input::NodeSeen(Seen::new(node, version)))
    }
}

fn waits(outputs: &[Output], of: &str) -> Option<Vec<(PodId, Blocked)>> {
    outputs.iter().find_map(|output| match output {
        Output::Waiting { node, pods } if node == of => Some(pods.clone()),
        _ => None,
    })
}

fn nowhere(pod: &Pod, away: &str) -> Vec<(PodId, Blocked)> {
    vec![(pod.id.clone(), Blocked::nowhere_to_go(vec![away.into()]))]
}

#[test]
fn the_last_refuge_of_another_nodes_pods_waits_until_that_one_is_back() {
    let old = at_home_on(pod("w-1", "a"), &["a", "b"]);
    let mut story = story(options(), [old.clone()]);
    let outputs = story.begin("a");
    let waiting = story.add("b");
    assert!(!waiting.contains(&cordons("b")), "{waiting:?}");
    assert_eq!(waits(&waiting, "b"), Some(nowhere(&old, "a")));

    story.moves(&outputs, &old);
    let new = at_home_on(pod("w-2", "b"), &["a", "b"]);
    story.see(new);
    story.marked("a");
    assert!(looks(&story.pass(2)));
    let empty = story.looked("a", vec![]);
    assert!(matches!(
        outcome(&empty),
        Some(DrainOutcome::Empty { evictions: 1 })
    ));
    assert_eq!(waits(&story.told, "b"), Some(nowhere(&old, "a")));
    let held = !story.told.contains(&cordons("b"));
    assert!(held, "its own pod has only the node that is being upgraded");

    let back = story.node("a", false);
    assert_eq!(waits(&back, "b"), Some(Vec::new()));
    assert!(back.contains(&cordons("b")), "{back:?}");
}

#[test]
fn a_pod_that_has_left_and_is_not_made_again_yet_keeps_its_refuge() {
    let old = at_home_on(pod("w-1", "a"), &["a", "b"]);
    let mut story = story(options(), [old.clone()]);
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    let waiting = story.add("b");
    assert_eq!(waits(&waiting, "b"), Some(nowhere(&old, "a")));
    assert!(!waiting.contains(&cordons("b")), "{waiting:?}");
}

#[test]
fn negative_control_unguarded_the_last_refuge_is_taken() {
    let mut unguarded = options();
    unguarded.guarded = false;
    let old = at_home_on(pod("w-1", "a"), &["a", "b"]);
    let mut story = story(unguarded, [old]);
    story.begin("a");
    assert!(story.add("b").contains(&cordons("b")));
}

#[test]
fn who_names_nodes_may_name_the_last_refuge() {
    let old = at_home_on(pod("w-1", "a"), &["a", "b"]);
    let mut story = story(super::options(), [old]);
    story.begin("a");
    assert!(story.add("b").contains(&cordons("b")));
}

#[test]
fn with_a_third_node_nobody_waits() {
    let old = at_home_on(pod("w-1", "a"), &["a", "b", "c"]);
    let mut story = story(options(), [old]);
    story.begin("a");
    assert!(story.add("b").contains(&cordons("b")));
}

#[test]
fn a_pod_on_no_node_has_a_last_refuge_too() {
    let mut pending = at_home_on(pod("w-1", ""), &["a", "b"]);
    (pending.node, pending.ready) = (None, false);
    let mut story = story(options(), [pending.clone()]);
    story.tell(Input::Synced);
    story.marked("a");
    let waiting = story.add("b");
    assert_eq!(waits(&waiting, "b"), Some(nowhere(&pending, "a")));
    assert!(story.node("a", false).contains(&cordons("b")));
}

#[test]
fn a_pod_that_lost_its_refuge_after_the_cordon_is_not_asked() {
    let held = at_home_on(pod("w-1", "b"), &["a", "b", "c"]);
    let mut story = story(options(), [held.clone()]);
    story.tell(Input::Synced);
    story.marked("a");
    assert!(story.add("b").contains(&cordons("b")));
    story.node("c", true);
    let outputs = story.tell(Input::Cordoned {
        node: "b".into(),
        was_unschedulable: false,
    });
    assert_eq!(asked(&outputs), []);
    assert_eq!(waits(&outputs, "b"), Some(nowhere(&held, "a")));
    let back = story.node("a", false);
    assert_eq!(asked(&back).len(), 1, "{back:?}");
}

#[test]
fn the_wait_ends_with_the_deadline_and_says_why() {
    let old = at_home_on(pod("w-1", "b"), &["a", "b"]);
    let mut story = story(options(), [old]);
    story.tell(Input::Synced);
    story.marked("a");
    story.add("b");
    assert_eq!(outcome(&story.pass(899)), None);
    let Some(DrainOutcome::Failed {
        kind,
        reason,
        retryable,
        ..
    }) = outcome(&story.pass(1))
    else {
        panic!("{:?}", story.told);
    };
    assert_eq!(kind, DrainFailureKind::NotBegun);
    assert!(!retryable, "it would wait as long once more");
    assert!(reason.contains("until one of a is back"), "{reason}");
    assert!(!story.told.contains(&cordons("b")), "nothing was changed");
}

#[test]
fn nodes_that_nobody_gives_back_are_not_waited_for() {
    let old = at_home_on(pod("w-1", "b"), &["a", "b"]);
    let mut story = story(options(), [old]);
    story.tell(Input::Synced);
    story.node("a", true);
    assert!(story.add("b").contains(&cordons("b")));
}

#[test]
fn two_that_are_open_already_go_on_where_they_stand() {
    let pods = ["a", "b"].map(|node| at_home_on(pod(&format!("w-{node}"), node), &["a", "b"]));
    let mut story = story(options(), pods);
    story.tell(Input::Synced);
    story.marked("a");
    story.marked("b");
    assert!(story.add("a").contains(&cordons("a")));
    assert!(story.add("b").contains(&cordons("b")));
}
