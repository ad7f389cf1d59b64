//! Scenarios of a rollout, told input by input.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use migrate_core::{
    ActionId, BudgetKey, ClusterModel, Moment, OnDeadline, Outcome, Phase, Plan, Policy, Target,
};
use migrate_plan::{
    ActionResult, Command, Error, Input, Planner, Rollout, StopReason, WaitingOn, plan_from_json,
};
use support::{Cluster, NEW, OLD, version};

/// A rollout and its clock; actions are named `drain general-1`.
struct Run {
    plan: Plan,
    rollout: Rollout,
    now: Moment,
}

impl Run {
    fn new(model: &ClusterModel, policy: &Policy) -> Self {
        let plan = Planner::new(model, policy, version(NEW)).plan().unwrap();
        let rollout = Rollout::new(&plan, model, policy).unwrap();
        Self {
            plan,
            rollout,
            now: model.taken_at,
        }
    }

    fn started(model: &ClusterModel, policy: &Policy) -> Self {
        let mut run = Self::new(model, policy);
        run.tell(Input::Started);
        run
    }

    /// What is commanded in answer to `input`.
    fn tell(&mut self, input: Input) -> Vec<String> {
        self.rollout.handle(self.now, &input);
        self.poll()
    }

    fn poll(&mut self) -> Vec<String> {
        let next = || self.rollout.poll(self.now);
        std::iter::from_fn(next)
            .map(|command| match command {
                Command::Begin { action } => format!("{} {}", action.phase, action.target.name()),
                Command::Stop { reason } => format!("stop: {reason}"),
                Command::Finished => "finished".to_owned(),
                _ => unreachable!(),
            })
            .collect()
    }

    fn end(&mut self, action: &str, result: ActionResult) -> Vec<String> {
        let id = self.id(action);
        self.tell(Input::ActionEnded { id, result })
    }

    fn ok(&mut self, action: &str) -> Vec<String> {
        self.end(action, ActionResult::Succeeded(Outcome::SameNode))
    }

    fn fail(&mut self, action: &str, retryable: bool) -> Vec<String> {
        let reason = "it broke".to_owned();
        self.end(action, ActionResult::Failed { retryable, reason })
    }

    /// Brings a target through what is left of its phases from `drain` or
    /// `upgrade` on, and gives the answer to the last.
    fn through(&mut self, phases: &[&str], name: &str) -> Vec<String> {
        let mut answer = Vec::new();
        for phase in phases {
            answer = self.ok(&format!("{phase} {name}"));
        }
        answer
    }

    fn members_done(&mut self) -> Vec<String> {
        let members: Vec<String> = self
            .plan
            .control_plane
            .iter()
            .map(|member| member.name.clone())
            .collect();
        let done = |_, name: &String| self.through(&["upgrade", "verify"], name);
        members.iter().fold(Vec::new(), done)
    }

    fn node(&mut self, node: &str, ready: bool, unschedulable: bool) -> Vec<String> {
        self.tell(Input::NodeSeen {
            node: node.to_owned(),
            ready,
            unschedulable,
            kubelet_version: version(OLD),
        })
    }

    fn id(&self, action: &str) -> ActionId {
        let (phase, name) = action.split_once(' ').unwrap();
        let phase = match phase {
            "drain" => Phase::Drain,
            "upgrade" => Phase::Upgrade,
            _ => Phase::Verify,
        };
        let target = if self
            .plan
            .control_plane
            .iter()
            .any(|member| member.name == name)
        {
            Target::ControlPlane {
                member: name.into(),
            }
        } else {
            let pool = "general".into();
            Target::Node {
                pool,
                node: name.into(),
            }
        };
        ActionId::new(&self.plan.id, &target, phase)
    }

    fn waiting_on(&self, name: &str) -> WaitingOn {
        let waiting = self.rollout.waiting();
        waiting
            .into_iter()
            .find(|w| w.target.name() == name)
            .unwrap()
            .on
    }

    fn wait(&mut self) -> Vec<String> {
        self.now = self.rollout.wake_at().unwrap();
        self.poll()
    }
}

fn policy(width: &str, canary: bool, then: OnDeadline) -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = width.parse().unwrap();
    policy.pools.canary = canary;
    policy.deadlines.then = then;
    policy
}

fn cluster() -> Cluster {
    Cluster::new().member("m1").member("m2").pool("general", 4)
}

#[test]
fn a_whole_run_in_order() {
    let model = cluster().build();
    let mut run = Run::new(&model, &policy("2", true, OnDeadline::Stop));
    assert_eq!(run.waiting_on("m1"), WaitingOn::Start);
    assert_eq!(run.tell(Input::Started), ["upgrade m1"]);
    assert_eq!(
        run.waiting_on("m2"),
        WaitingOn::ControlPlane {
            member: "m1".into()
        }
    );
    assert_eq!(
        run.waiting_on("general-1"),
        WaitingOn::ControlPlane {
            member: "m1".into()
        }
    );
    assert_eq!(run.ok("upgrade m1"), ["verify m1"]);
    assert_eq!(run.ok("verify m1"), ["upgrade m2"]);
    assert_eq!(
        run.through(&["upgrade", "verify"], "m2"),
        ["drain general-1"]
    );
    let canary = WaitingOn::Canary {
        pool: "general".into(),
        node: "general-1".into(),
    };
    assert_eq!(run.waiting_on("general-2"), canary);
    assert!(run.ok("verify general-1").is_empty(), "not running");
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert_eq!(run.ok("upgrade general-1"), ["verify general-1"]);
    assert_eq!(
        run.ok("verify general-1"),
        ["drain general-2", "drain general-3"]
    );
    assert!(run.ok("verify general-1").is_empty(), "told twice");
    assert!(matches!(
        run.waiting_on("general-2"),
        WaitingOn::PreviousPhase { .. }
    ));
    let slot = WaitingOn::PoolSlot {
        pool: "general".into(),
        width: 2,
    };
    assert_eq!(run.waiting_on("general-4"), slot);
    let progress = run.rollout.progress();
    assert_eq!(
        (progress.done, progress.running, progress.waiting),
        (3, 2, 1)
    );
    run.through(&["drain", "upgrade"], "general-3");
    assert_eq!(run.ok("verify general-3"), ["drain general-4"]);
    run.through(&["drain", "upgrade", "verify"], "general-2");
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-4"),
        ["finished"]
    );
    assert!(run.rollout.is_finished() && run.rollout.wake_at().is_none());
}

#[test]
fn a_budget_lets_nodes_go_in_turn_and_wakes_exactly_who_waits() {
    let model = cluster()
        .deployment("web", &["general-1", "general-2", "general-2", "general-3"])
        .budget("web", 2)
        .build();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    // general-2 has two pods of the budget and takes all of it; general-1 and
    // general-3 then wait, general-4 has none of them.
    let begun = run.members_done();
    assert_eq!(
        begun,
        ["drain general-1", "drain general-3", "drain general-4"]
    );
    let on = run.waiting_on("general-2");
    let key = BudgetKey::real("shop", "web");
    assert_eq!(
        on,
        WaitingOn::Budget {
            key: key.clone(),
            needed: 2,
            free: 0
        }
    );
    assert_eq!(
        on.to_string(),
        "PodDisruptionBudget shop/web has 0 free and it needs 2"
    );
    assert_eq!(run.ok("drain general-4"), ["upgrade general-4"]);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert_eq!(
        run.ok("drain general-3"),
        ["upgrade general-3", "drain general-2"]
    );
    // While it drains, the status shows what it has spent: no contradiction.
    assert!(run.tell(Input::BudgetSeen { key, allowed: 0 }).is_empty());
}

#[test]
fn a_budget_seen_to_recover_wakes() {
    let model = cluster()
        .deployment("web", &["general-1", "general-2"])
        .budget("web", 1)
        .change(|m| m.budgets[0].status.disruptions_allowed = 0)
        .build();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-3", "drain general-4"]);
    let key = BudgetKey::real("shop", "web");
    let seen = |allowed| Input::BudgetSeen {
        key: key.clone(),
        allowed,
    };
    assert!(run.tell(seen(0)).is_empty());
    assert_eq!(run.tell(seen(1)), ["drain general-1"]);
    // Spent by that drain, and given back when it ends.
    assert!(run.tell(seen(0)).is_empty());
    assert_eq!(
        run.ok("drain general-1"),
        ["upgrade general-1", "drain general-2"]
    );
    // Somebody else spends it: with nothing of ours in flight that is the truth.
    run.ok("drain general-2");
    run.tell(seen(0));
    assert!(
        run.tell(Input::BudgetSeen {
            key: BudgetKey::real("shop", "new"),
            allowed: 3
        })
        .is_empty()
    );
}

#[test]
fn failures_are_retried_with_the_same_action_and_then_policy_decides() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", false, OnDeadline::Skip));
    assert_eq!(run.members_done(), ["drain general-1"]);
    run.ok("drain general-1");
    let begin = run.now;
    assert!(run.fail("upgrade general-1", true).is_empty());
    let retry = WaitingOn::Retry {
        at: begin + Duration::from_secs(10),
        attempt: 2,
    };
    assert_eq!(run.waiting_on("general-1"), retry);
    assert_eq!(run.wait(), ["upgrade general-1"]);
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.wait(), ["upgrade general-1"]);
    assert_eq!(run.now, begin + Duration::from_secs(30));
    // Given up, and away until it is seen well.
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.rollout.progress().skipped, 1);
    let away = WaitingOn::NodeAway {
        pool: "general".into(),
        nodes: vec!["general-1".into()],
    };
    assert_eq!(run.waiting_on("general-2"), away);
    assert!(run.node("general-1", true, true).is_empty());
    assert_eq!(run.node("general-1", true, false), ["drain general-2"]);
}

#[test]
fn a_stopped_rollout_goes_on_where_it_stands() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    assert_eq!(
        run.fail("drain general-1", false),
        ["stop: node general-1 failed in drain: it broke"]
    );
    // What runs may end; nothing begins.
    assert!(run.ok("drain general-2").is_empty());
    assert_eq!(run.waiting_on("general-2"), WaitingOn::Stopped);
    assert!(matches!(
        run.rollout.stopped(),
        Some(StopReason::Failed { .. })
    ));
    assert!(run.rollout.wake_at().is_none());
    assert_eq!(
        run.tell(Input::Started),
        ["drain general-1", "upgrade general-2"]
    );
    assert_eq!(run.tell(Input::Cancelled), ["stop: cancelled"]);
    assert!(run.tell(Input::Cancelled).is_empty(), "once");
    assert!(run.ok("drain general-1").is_empty());
    assert_eq!(run.tell(Input::Started), ["upgrade general-1"]);
}

#[test]
fn a_member_that_fails_stops_whatever_policy_says() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    assert_eq!(
        run.fail("upgrade m1", false),
        ["stop: control plane m1 failed in upgrade: it broke"]
    );
    assert_eq!(run.tell(Input::Started), ["upgrade m1"]);
}

#[test]
fn a_canary_that_fails_after_its_drain_stops_and_before_it_hands_on() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    assert_eq!(run.members_done(), ["drain general-1"]);
    // Width 2: the one left behind takes a slot, the next canary the other.
    assert_eq!(run.fail("drain general-1", false), ["drain general-2"]);
    assert!(matches!(
        run.waiting_on("general-3"),
        WaitingOn::Canary { .. }
    ));
    run.ok("drain general-2");
    let stop = run.fail("upgrade general-2", false);
    assert_eq!(
        stop,
        ["stop: node general-2, the canary of its pool, failed in upgrade: it broke"]
    );
}

#[test]
fn pause_holds_every_begin_and_nothing_else() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    assert!(run.tell(Input::Paused { paused: true }).is_empty());
    assert!(run.ok("drain general-1").is_empty());
    assert!(run.fail("drain general-2", true).is_empty());
    assert_eq!(run.waiting_on("general-1"), WaitingOn::Paused);
    run.now = run.now + Duration::from_secs(3600);
    assert!(run.poll().is_empty());
    let resumed = run.tell(Input::Paused { paused: false });
    assert_eq!(resumed, ["upgrade general-1", "drain general-2"]);
}

#[test]
fn a_standstill_ends_as_policy_says() {
    let blocked = || {
        cluster()
            .deployment("db", &["general-1", "general-2"])
            .budget("db", 0)
            .build()
    };
    let patience = Policy::default().deadlines.drain;
    // Stop: said once, with how many wait.
    let model = blocked();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-3", "drain general-4"]);
    assert_eq!(run.rollout.wake_at(), None, "something is running");
    run.through(&["drain", "upgrade", "verify"], "general-3");
    run.through(&["drain", "upgrade", "verify"], "general-4");
    assert_eq!(run.rollout.wake_at(), Some(run.now + patience));
    assert_eq!(run.wait(), ["stop: nothing can begin and 2 targets wait"]);
    // Skip: they are given up and the rollout ends.
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Skip));
    run.members_done();
    run.through(&["drain", "upgrade", "verify"], "general-3");
    run.through(&["drain", "upgrade", "verify"], "general-4");
    // A pause is not a standstill.
    run.tell(Input::Paused { paused: true });
    assert_eq!(run.rollout.wake_at(), None);
    run.tell(Input::Paused { paused: false });
    assert_eq!(run.wait(), ["finished"]);
    assert_eq!(run.rollout.progress().skipped, 2);
}

#[test]
fn nodes_away_count_and_come_back() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    run.node("general-4", false, false);
    // One is not Ready: only one more may go.
    assert_eq!(run.members_done(), ["drain general-1"]);
    assert_eq!(run.waiting_on("general-4"), WaitingOn::NotReady);
    assert_eq!(run.node("general-4", true, false), ["drain general-2"]);
    // A cordon by somebody else counts too, but its node needs no further slot.
    run.node("general-3", true, true);
    run.through(&["drain", "upgrade"], "general-1");
    assert_eq!(run.ok("verify general-1"), ["drain general-3"]);
}

#[test]
fn a_replaced_machine_is_verified_under_its_new_name() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    run.members_done();
    run.ok("drain general-1");
    run.tell(Input::NodeGone {
        node: "general-1".into(),
    });
    let nodes = vec!["fresh-1".to_owned(), "fresh-2".to_owned()];
    let replaced = ActionResult::Succeeded(Outcome::ReplacedBy { nodes });
    assert_eq!(run.end("upgrade general-1", replaced), ["verify fresh-1"]);
    assert_eq!(run.ok("verify fresh-1"), ["verify fresh-2"]);
    assert_eq!(run.ok("verify fresh-2"), ["drain general-2"]);
    // A fresh node counts against its pool like any other.
    run.node("fresh-2", false, false);
    assert!(
        run.through(&["drain", "upgrade", "verify"], "general-2")
            .is_empty()
    );
    assert_eq!(run.node("fresh-2", true, false), ["drain general-3"]);
}

#[test]
fn nodes_that_leave_or_arrive_by_themselves_need_nothing() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    // The canary is upgraded by hand: the next one takes its place.
    run.tell(Input::NodeSeen {
        node: "general-1".into(),
        ready: true,
        unschedulable: false,
        kubelet_version: version(NEW),
    });
    assert_eq!(run.members_done(), ["drain general-2"]);
    run.tell(Input::NodeGone {
        node: "general-3".into(),
    });
    assert_eq!(run.rollout.progress().skipped, 1);
    run.tell(Input::NodeGone {
        node: "somebody-else".into(),
    });
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-2"),
        ["drain general-4"]
    );
    // It comes back before the end.
    assert!(run.node("general-3", true, false).is_empty());
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-4"),
        ["drain general-3"]
    );
}

#[test]
fn nodes_that_come_back_are_not_spared_the_canary() {
    let model = cluster().pool("other", 1).build();
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    run.members_done();
    for node in ["general-2", "general-3", "general-4"] {
        run.tell(Input::NodeGone { node: node.into() });
    }
    assert!(
        run.node("general-2", true, false).is_empty(),
        "behind the canary"
    );
    assert_eq!(run.fail("drain general-1", false), ["drain general-2"]);
    assert!(
        run.node("general-3", true, false).is_empty(),
        "behind the next one"
    );
    // Nobody is left to go first; whoever comes back goes alone.
    for node in ["general-3", "general-4"] {
        run.tell(Input::NodeGone { node: node.into() });
    }
    run.node("general-1", true, false);
    run.fail("drain general-2", false);
    run.node("general-2", true, false);
    assert_eq!(run.node("general-3", true, false), ["drain general-3"]);
    assert!(
        run.node("general-4", true, false).is_empty(),
        "behind the canary"
    );
}

#[test]
fn a_plan_runs_only_on_what_it_was_made_for() {
    let model = cluster().build();
    let right = policy("1", true, OnDeadline::Stop);
    let plan = Planner::new(&model, &right, version(NEW)).plan().unwrap();
    let other = policy("2", true, OnDeadline::Stop);
    let error = Rollout::new(&plan, &model, &other).unwrap_err();
    assert!(matches!(error, Error::OtherPolicy { .. }), "{error}");
    assert!(error.to_string().contains("plan again"), "{error}");
    let stranger = Cluster::new().change(|m| {
        *m = ClusterModel::new(migrate_core::ClusterId::new("other"), Moment::EPOCH);
    });
    let error = Rollout::new(&plan, &stranger.build(), &right).unwrap_err();
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    assert!(error.to_string().contains("plan again"), "{error}");
    let smaller = Cluster::new().member("m1").pool("general", 3).build();
    let error = Rollout::new(&plan, &smaller, &right).unwrap_err();
    assert!(error.to_string().contains("no node general-4"), "{error}");
    let json = migrate_plan::plan_to_json(&plan).unwrap();
    let twice = json.replace("\"node\": \"general-2\"", "\"node\": \"general-1\"");
    let error = Rollout::new(&plan_from_json(&twice).unwrap(), &model, &right).unwrap_err();
    assert!(error.to_string().contains("in two slots"), "{error}");
}

#[test]
fn inputs_and_commands_have_a_json_form() {
    let model = cluster().build();
    let plan = Planner::new(&model, &Policy::default(), version(NEW))
        .plan()
        .unwrap();
    let mut rollout = Rollout::new(&plan, &model, &Policy::default()).unwrap();
    rollout.handle(Moment::EPOCH, &Input::Started);
    let command = rollout.poll(Moment::EPOCH).unwrap();
    let json = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
    let Command::Begin { action } = command else {
        unreachable!()
    };
    let nodes = vec!["a".to_owned()];
    let ended = Input::ActionEnded {
        id: action.id,
        result: ActionResult::Succeeded(Outcome::ReplacedBy { nodes }),
    };
    let recorded = migrate_plan::Recorded::new(Moment::from_millis(5), ended);
    let json = serde_json::to_value(&recorded).unwrap();
    assert_eq!(json["input"], "actionEnded");
    assert_eq!(json["at"], "1970-01-01T00:00:00.005Z");
    assert_eq!(json["result"]["result"], "succeeded");
    assert_eq!(
        serde_json::from_value::<migrate_plan::Recorded>(json).unwrap(),
        recorded
    );
    for waiting in rollout.waiting() {
        let json = serde_json::to_string(&waiting).unwrap();
        assert_eq!(
            serde_json::from_str::<migrate_plan::Waiting>(&json).unwrap(),
            waiting
        );
    }
}
