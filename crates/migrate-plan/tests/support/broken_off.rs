//! The cluster that a run leaves behind which is broken off.

use std::collections::BTreeMap;

use migrate_core::{Action, ActionId, ClusterModel, Node, Outcome, Phase, Plan, Target};
use migrate_plan::{ActionResult, Command, Input};

use super::scenario::{Scenario, planner};
use super::world::{Entry, World};
use super::{OLD, Random, version};

/// A cluster as a run has left it.
pub(crate) struct BrokenOff {
    pub(crate) model: ClusterModel,
    /// The node that the runner's pod is on.
    pub(crate) runner: Option<String>,
    /// Nodes that are there no more, for the time when they come back.
    gone: BTreeMap<String, Node>,
    running: BTreeMap<ActionId, Action>,
}

impl BrokenOff {
    /// Of `world`, after so many of its inputs and all that they had it begin.
    pub(crate) fn of(world: &World, inputs: usize) -> Self {
        let mut slots = world.plan.slots.iter();
        let runner = slots.find(|slot| slot.hosts_runner);
        let mut left = Self {
            model: world.model.clone(),
            runner: runner.map(|slot| slot.node.clone()),
            gone: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        let mut told = 0;
        for entry in &world.log {
            match entry {
                Entry::In(_) if told == inputs => break,
                Entry::In(recorded) => {
                    told += 1;
                    left.model.taken_at = recorded.at;
                    left.told(&recorded.input);
                }
                Entry::Out(_, Command::Begin { action }) => left.begun(action),
                Entry::Out(..) => {}
            }
        }
        left.model.sort();
        left.runner = left.runner.filter(|node| left.model.node(node).is_some());
        left
    }

    /// What is left of the plan of `world`, planned anew and to be carried out on `day`.
    pub(crate) fn planned_anew(self, world: &World, day: Scenario) -> (World, bool) {
        let planner = planner(&day, &self.model, &world.policy, self.runner.as_deref());
        let replan = planner.replan(&world.plan).unwrap();
        let (plan, keeps_order): (Plan, bool) = (replan.plan, replan.keeps_order);
        let random = Random(day.seed);
        let world = World::of(day, self.model, world.policy.clone(), plan, random);
        (world, keeps_order)
    }

    fn begun(&mut self, action: &Action) {
        self.running.insert(action.id.clone(), action.clone());
        if action.phase == Phase::Drain {
            self.cordon(action.target.name(), true);
        }
    }

    fn told(&mut self, input: &Input) {
        match input {
            Input::ActionEnded { id, result } => {
                if let Some(action) = self.running.remove(id) {
                    self.ended(&action, result);
                }
            }
            Input::NodeSeen {
                node,
                ready,
                unschedulable,
                uid,
                ..
            } => {
                // The version that it says is older than what was done.
                self.model.nodes.extend(self.gone.remove(node));
                let mut nodes = self.model.nodes.iter_mut();
                let Some(seen) = nodes.find(|one| one.name == *node) else {
                    return;
                };
                (seen.ready, seen.unschedulable) = (*ready, *unschedulable);
                if let Some(uid) = uid.as_ref().filter(|uid| **uid != seen.uid) {
                    seen.uid.clone_from(uid);
                    seen.kubelet_version = version(OLD);
                    self.empty(node);
                }
            }
            Input::NodeGone { node } => self.remove(node),
            Input::RunnerSeen { node } => self.runner.clone_from(node),
            _ => {}
        }
    }

    fn ended(&mut self, action: &Action, result: &ActionResult) {
        let name = action.target.name();
        let is_node = matches!(action.target, Target::Node { .. });
        match (action.phase, result) {
            (Phase::Drain, ActionResult::Succeeded(_)) => self.empty(name),
            (Phase::Drain, ActionResult::TooLate) => self.cordon(name, false),
            (Phase::Drain, ActionResult::Deferred { away }) => {
                self.cordon(name, false);
                let seen = |node: &&mut Node| away.contains(&node.name) && node.name != name;
                let away = self.model.nodes.iter_mut().filter(seen);
                away.for_each(|node| node.ready = false);
            }
            (Phase::Upgrade, ActionResult::Succeeded(outcome)) if is_node => {
                self.upgraded(action, outcome);
            }
            (Phase::Upgrade, ActionResult::Succeeded(_)) => {
                let mut members = self.model.control_plane.iter_mut();
                if let Some(member) = members.find(|member| member.name == name) {
                    member.version = action.to.clone();
                }
            }
            (Phase::Verify, ActionResult::Succeeded(_)) if is_node => self.cordon(name, false),
            _ => {}
        }
    }

    fn upgraded(&mut self, action: &Action, outcome: &Outcome) {
        let name = action.target.name();
        let known = self.model.nodes.iter().find(|node| node.name == name);
        let known = known.or_else(|| self.gone.get(name)).cloned();
        let Some(mut new) = known else {
            return;
        };
        new.kubelet_version = action.to.clone();
        match outcome {
            Outcome::ReplacedBy { nodes } => {
                self.remove(name);
                (new.ready, new.unschedulable) = (true, false);
                for name in nodes {
                    let mut named = new.clone();
                    named.name.clone_from(name);
                    named.uid = format!("uid-{name}");
                    self.model.nodes.push(named);
                }
            }
            _ => {
                let mut nodes = self.model.nodes.iter_mut();
                if let Some(node) = nodes.find(|node| node.name == name) {
                    *node = new;
                }
            }
        }
    }

    fn cordon(&mut self, name: &str, unschedulable: bool) {
        let mut nodes = self.model.nodes.iter_mut();
        if let Some(node) = nodes.find(|node| node.name == name) {
            node.unschedulable = unschedulable;
        }
    }

    fn remove(&mut self, name: &str) {
        self.empty(name);
        let nodes = &mut self.model.nodes;
        if let Some(at) = nodes.iter().position(|node| node.name == name) {
            let node = nodes.remove(at);
            self.gone.insert(node.name.clone(), node);
        }
    }

    /// The pods of `name` go to another node, best to one that takes some.
    fn empty(&mut self, name: &str) {
        let others = self.model.nodes.iter().filter(|node| node.name != name);
        let takes = |node: &&Node| node.ready && !node.unschedulable;
        let other = others.clone().find(takes).or_else(|| others.clone().next());
        let other = other.map(|node| node.name.clone());
        let pods = self.model.pods.iter_mut();
        for pod in pods.filter(|pod| pod.node.as_deref() == Some(name)) {
            pod.node.clone_from(&other);
        }
    }
}
