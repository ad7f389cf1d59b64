//! A rollout that is told what happens, action by action.

use migrate_core::{
    ActionId, ClusterModel, Moment, OnDeadline, Outcome, Phase, Plan, Policy, Target,
};
use migrate_plan::{ActionResult, Command, Input, Planner, Rollout, WaitingOn};

use crate::support::{Cluster, NEW, OLD, version};

/// A rollout and its clock; actions are named `drain general-1`.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) rollout: Rollout,
    pub(crate) now: Moment,
}

impl Run {
    pub(crate) fn new(model: &ClusterModel, policy: &Policy) -> Self {
        let plan = Planner::new(model, policy, version(NEW)).plan().unwrap();
        let rollout = Rollout::new(&plan, model, policy).unwrap();
        Self {
            plan,
            rollout,
            now: model.taken_at,
        }
    }

    pub(crate) fn started(model: &ClusterModel, policy: &Policy) -> Self {
        let mut run = Self::new(model, policy);
        run.tell(Input::Started);
        run
    }

    /// What is commanded in answer to `input`.
    pub(crate) fn tell(&mut self, input: Input) -> Vec<String> {
        self.rollout.handle(self.now, &input);
        self.poll()
    }

    pub(crate) fn poll(&mut self) -> Vec<String> {
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

    pub(crate) fn end(&mut self, action: &str, result: ActionResult) -> Vec<String> {
        let id = self.id(action);
        self.tell(Input::ActionEnded { id, result })
    }

    pub(crate) fn ok(&mut self, action: &str) -> Vec<String> {
        self.end(action, ActionResult::Succeeded(Outcome::SameNode))
    }

    pub(crate) fn fail(&mut self, action: &str, retryable: bool) -> Vec<String> {
        let reason = "it broke".to_owned();
        self.end(action, ActionResult::Failed { retryable, reason })
    }

    /// Brings a target through what is left of its phases from `drain` or
    /// `upgrade` on, and gives the answer to the last.
    pub(crate) fn through(&mut self, phases: &[&str], name: &str) -> Vec<String> {
        let mut answer = Vec::new();
        for phase in phases {
            answer = self.ok(&format!("{phase} {name}"));
        }
        answer
    }

    pub(crate) fn members_done(&mut self) -> Vec<String> {
        let members: Vec<String> = self
            .plan
            .control_plane
            .iter()
            .map(|member| member.name.clone())
            .collect();
        let done = |_, name: &String| self.through(&["upgrade", "verify"], name);
        members.iter().fold(Vec::new(), done)
    }

    pub(crate) fn node(&mut self, node: &str, ready: bool, unschedulable: bool) -> Vec<String> {
        self.tell(Input::NodeSeen {
            node: node.to_owned(),
            ready,
            unschedulable,
            kubelet_version: version(OLD),
            uid: None,
        })
    }

    pub(crate) fn id(&self, action: &str) -> ActionId {
        let (phase, name) = action.split_once(' ').unwrap();
        let phase = match phase {
            "provision" => Phase::Provision,
            "drain" => Phase::Drain,
            "upgrade" => Phase::Upgrade,
            "confirm" => Phase::Confirm,
            "backup" => Phase::BackUp,
            _ => Phase::Verify,
        };
        let mut tasks = self.plan.tasks.iter();
        let target = if let Some(task) = tasks.find(|task| task.target.name() == name) {
            task.target.clone()
        } else if self
            .plan
            .control_plane
            .iter()
            .any(|member| member.name == name)
        {
            Target::ControlPlane {
                member: name.into(),
            }
        } else {
            let slots = &self.plan.slots;
            let slot = slots.iter().find(|slot| slot.node == name);
            let pool = slot.map_or_else(|| "general".into(), |slot| slot.pool.clone());
            Target::Node {
                pool,
                node: name.into(),
            }
        };
        ActionId::new(&self.plan.id, &target, phase)
    }

    pub(crate) fn waiting_on(&self, name: &str) -> WaitingOn {
        let waiting = self.rollout.waiting();
        waiting
            .into_iter()
            .find(|w| w.target.name() == name)
            .unwrap()
            .on
    }

    pub(crate) fn wait(&mut self) -> Vec<String> {
        self.now = self.rollout.wake_at().unwrap();
        self.poll()
    }
}

pub(crate) fn policy(width: &str, canary: bool, then: OnDeadline) -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = width.parse().unwrap();
    policy.pools.canary = canary;
    policy.deadlines.then = then;
    policy.backup.after_control_plane = false;
    policy
}

pub(crate) fn cluster() -> Cluster {
    Cluster::new().member("m1").member("m2").pool("general", 4)
}
