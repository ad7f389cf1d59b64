//! A drain that was admitted and could not be begun after all.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use migrate_core::{Action, Moment, OnDeadline, Outcome, Policy, Target};
use migrate_plan::{ActionResult, Command, Input, Planner, Rollout, WaitingOn};
use support::{Cluster, NEW, OLD, version};

struct Run {
    rollout: Rollout,
    now: Moment,
}

impl Run {
    /// One member that is done, and a pool of four of which `width` may be away.
    fn new(width: u32) -> (Self, Vec<Action>) {
        Self::with(width, OnDeadline::Stop)
    }

    /// One that goes on without nodes that fail.
    fn skipping(width: u32) -> (Self, Vec<Action>) {
        Self::with(width, OnDeadline::Skip)
    }

    fn with(width: u32, then: OnDeadline) -> (Self, Vec<Action>) {
        let model = Cluster::new().member("m1").pool("general", 4).build();
        let mut policy = Policy::default();
        policy.backup.after_control_plane = false;
        policy.pools.max_unavailable = width.to_string().parse().unwrap();
        policy.pools.canary = false;
        policy.deadlines.then = then;
        let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        let rollout = Rollout::new(&plan, &model, &policy).unwrap();
        let mut run = Self {
            rollout,
            now: model.taken_at,
        };
        let upgrade = run.tell(Input::Started).remove(0);
        let verify = run
            .ends(&upgrade, ActionResult::Succeeded(Outcome::SameNode))
            .remove(0);
        let drains = run.ends(&verify, ActionResult::Succeeded(Outcome::SameNode));
        (run, drains)
    }

    fn tell(&mut self, input: Input) -> Vec<Action> {
        self.rollout.handle(self.now, &input);
        self.poll()
    }

    fn poll(&mut self) -> Vec<Action> {
        let commands = std::iter::from_fn(|| self.rollout.poll(self.now));
        let begun = commands.filter_map(|command| match command {
            Command::Begin { action } => Some(action),
            _ => None,
        });
        begun.collect()
    }

    fn ends(&mut self, action: &Action, result: ActionResult) -> Vec<Action> {
        let id = action.id.clone();
        self.tell(Input::ActionEnded { id, result })
    }

    fn deferred(&mut self, action: &Action, away: &str) -> Vec<Action> {
        let away = vec![away.to_owned()];
        self.ends(action, ActionResult::Deferred { away })
    }

    fn seen(&mut self, node: &str, ready: bool) -> Vec<Action> {
        self.tell(Input::NodeSeen {
            node: node.to_owned(),
            ready,
            unschedulable: false,
            kubelet_version: version(OLD),
            uid: None,
        })
    }

    fn waits_on(&self, action: &Action) -> WaitingOn {
        let waiting = self.rollout.waiting().into_iter();
        let mut of_it = waiting.filter(|waiting| waiting.target == action.target);
        of_it.next().unwrap().on
    }
}

fn names(actions: &[Action]) -> Vec<&str> {
    actions.iter().map(|action| action.target.name()).collect()
}

/// Another node of the pool that is not to begin yet.
fn other(drains: &[Action]) -> String {
    let all = (1..=4).map(|number| format!("general-{number}"));
    let mut others = all.filter(|name| !names(drains).contains(&name.as_str()));
    others.next_back().unwrap()
}

#[test]
fn it_waits_for_the_dead_node_and_begins_again_with_the_same_id() {
    let (mut run, drains) = Run::new(1);
    let [drain] = &drains[..] else {
        panic!("{drains:?}")
    };
    let dead = other(&drains);
    assert!(run.deferred(drain, &dead).is_empty());
    let away = WaitingOn::NodeAway {
        pool: "general".into(),
        nodes: vec![dead.clone()],
    };
    assert_eq!(run.waits_on(drain), away);
    // The news that it is dead changes nothing, those that it is well do.
    assert!(run.seen(&dead, false).is_empty());
    assert_eq!(run.seen(&dead, true), std::slice::from_ref(drain));
    let Target::Node { node, .. } = &drain.target else {
        panic!()
    };
    assert_ne!(*node, dead);
}

#[test]
fn of_two_that_are_put_off_for_one_dead_node_one_goes_on() {
    let (mut run, drains) = Run::new(2);
    let [first, second] = &drains[..] else {
        panic!("{drains:?}")
    };
    let dead = other(&drains);
    assert!(run.deferred(first, &dead).is_empty());
    // With the first put off there is room for the second by our count.
    assert!(run.deferred(second, &dead).is_empty());
    assert!(matches!(
        run.waits_on(second),
        WaitingOn::Retry { attempt: 2, .. }
    ));
    run.now = run.rollout.wake_at().unwrap();
    assert_eq!(run.poll(), std::slice::from_ref(second));
    assert!(matches!(run.waits_on(first), WaitingOn::PoolSlot { .. }));
}

/// Whoever puts off what there is room for is not asked for ever.
#[test]
fn putting_off_without_a_reason_is_a_failure_in_the_end() {
    let (mut run, drains) = Run::new(2);
    let drain = &drains[0];
    for _ in 0..2 {
        assert!(run.deferred(drain, "nobody").is_empty());
        run.now = run.rollout.wake_at().unwrap();
        assert_eq!(run.poll(), std::slice::from_ref(drain));
    }
    assert!(run.deferred(drain, "nobody").is_empty());
    let stopped = run.rollout.stopped().unwrap().to_string();
    assert!(
        stopped.ends_with("its pool was full when it was to begin"),
        "{stopped}"
    );
}

#[test]
fn a_node_that_is_gone_by_then_is_given_up() {
    let (mut run, drains) = Run::new(1);
    let drain = &drains[0];
    let dead = other(&drains);
    let node = drain.target.name().to_owned();
    assert!(run.tell(Input::NodeGone { node }).is_empty());
    assert!(run.deferred(drain, &dead).is_empty());
    assert_eq!(run.rollout.progress().skipped, 1);
}

/// A look right before a drain sees more than was told: a node that is there after
/// all is waited for like any other.
#[test]
fn a_node_taken_for_gone_that_is_seen_away_is_left_out_no_longer() {
    let (mut run, drains) = Run::new(1);
    let drain = &drains[0];
    let dead = other(&drains);
    run.tell(Input::NodeGone { node: dead.clone() });
    assert_eq!(run.rollout.progress().skipped, 1);
    assert!(run.deferred(drain, &dead).is_empty());
    assert_eq!(run.rollout.progress().skipped, 0);
    let waiting = run.rollout.waiting().into_iter();
    let mut of_it = waiting.filter(|waiting| waiting.target.name() == dead);
    assert!(of_it.next().is_some());
}

/// The slot of two nodes that came in place of one is in work until both are
/// verified, also while nothing may begin between their verifications.
#[test]
fn a_slot_between_the_verifications_of_its_two_new_nodes_counts() {
    let (mut run, drains) = Run::new(2);
    let [first, second] = &drains[..] else {
        panic!("{drains:?}")
    };
    let ok = || ActionResult::Succeeded(Outcome::SameNode);
    let upgrade = run.ends(first, ok()).remove(0);
    let nodes = vec!["new-1".to_owned(), "new-2".to_owned()];
    let replaced = ActionResult::Succeeded(Outcome::ReplacedBy { nodes });
    let verify = run.ends(&upgrade, replaced).remove(0);
    run.tell(Input::Paused { paused: true });
    assert!(run.ends(&verify, ok()).is_empty());
    // The second new node, the drain and the dead node are three of two.
    let dead = other(&drains);
    assert!(run.deferred(second, &dead).is_empty());
    let begun = run.tell(Input::Paused { paused: false });
    assert_eq!(names(&begun), ["new-2"]);
    assert!(matches!(run.waits_on(second), WaitingOn::PoolSlot { .. }));
    // Nor does a look at the dead node, which is well, let another begin in its place.
    assert_eq!(
        names(&run.seen(&dead, true)),
        names(std::slice::from_ref(second))
    );
}

/// News that a node is well may be older than the cordon that its failed drain left
/// behind: it is away until it was seen to be.
#[test]
fn a_node_given_up_counts_for_whoever_is_put_off_after_it() {
    let (mut run, drains) = Run::skipping(2);
    let [first, second] = &drains[..] else {
        panic!("{drains:?}")
    };
    run.seen(first.target.name(), true);
    let reason = "broken".to_owned();
    let failed = ActionResult::Failed {
        retryable: false,
        reason,
    };
    let next = run.ends(first, failed);
    assert!(next.is_empty(), "{next:?} beside it");
    let dead = other(&drains);
    // It, the drain and the dead node are three of two: it is put back.
    assert!(run.deferred(second, &dead).is_empty());
    assert!(matches!(run.waits_on(second), WaitingOn::NodeAway { .. }));
    run.seen(&dead, true);
    assert_eq!(run.rollout.progress().running, 1);
}
