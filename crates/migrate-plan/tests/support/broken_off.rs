//! The cluster that a run leaves behind which is broken off.

use std::collections::BTreeMap;

use migrate_core::{
    Action, ActionId, BudgetKey, ClusterModel, Node, Outcome, Phase, Plan, Resources, Target,
};
use migrate_plan::{ActionResult, Command, Input};
use proptest::prelude::*;
use proptest::sample::Index;

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

/// What becomes of the cluster while nobody goes on with the run.
#[derive(Clone, Debug)]
pub(crate) struct Blow {
    /// A node is deleted.
    dropped: Option<Index>,
    /// A node of the old version comes that is otherwise like another.
    added: Option<Index>,
    /// Every node has room for so many pods more than it has, but this one, which is left
    /// with so many hundredths of what its pods ask for.
    shrunk: Option<(u64, Index, u64)>,
}

/// Blows of all kinds, and none.
pub(crate) fn blow() -> impl Strategy<Value = Blow> {
    let maybe = || prop::option::weighted(0.4, any::<Index>());
    let shrunk = prop::option::weighted(0.4, (0..4u64, any::<Index>(), 0..150u64));
    (maybe(), maybe(), shrunk).prop_map(|(dropped, added, shrunk)| Blow {
        dropped,
        added,
        shrunk,
    })
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

    /// The same after `blow`.
    pub(crate) fn struck(mut self, blow: &Blow) -> Self {
        let name = |model: &ClusterModel, at: &Index| {
            let nodes = &model.nodes;
            (!nodes.is_empty()).then(|| nodes[at.index(nodes.len())].name.clone())
        };
        if let Some(like) = blow.added.and_then(|at| name(&self.model, &at)) {
            let mut node = self.model.node(&like).unwrap().clone();
            let pool = like.rsplit_once('-').map_or("new", |(pool, _)| pool);
            node.name = format!("{pool}-99");
            node.uid = format!("uid-{}", node.name);
            node.kubelet_version = version(OLD);
            (node.ready, node.unschedulable) = (true, false);
            self.model.nodes.push(node);
        }
        if let Some(dropped) = blow.dropped.and_then(|at| name(&self.model, &at)) {
            self.remove(&dropped);
        }
        if let Some((spare, at, percent)) = &blow.shrunk {
            let shrunk = name(&self.model, at);
            for pod in &mut self.model.pods {
                pod.requests = Resources::new(100, 1, 1);
            }
            for node in &mut self.model.nodes {
                let pods = self.model.pods.iter();
                let pods = pods.filter(|pod| pod.node.as_ref() == Some(&node.name));
                let asked = 100 * pods.count() as u64;
                let cpu = match shrunk.as_ref() == Some(&node.name) {
                    true => asked * percent / 100,
                    false => asked + 100 * spare,
                };
                node.allocatable = Resources::new(cpu, 1 << 30, 110);
            }
        }
        self.model.sort();
        let runner = self.runner.take();
        self.runner = runner.filter(|node| self.model.node(node).is_some());
        self
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
            Input::BudgetSeen { key, allowed } => self.allows(key, *allowed),
            _ => {}
        }
    }

    /// What the status of a real budget showed last. An assumed one has none.
    fn allows(&mut self, key: &BudgetKey, allowed: u32) {
        let mut budgets = self.model.budgets.iter_mut();
        let is_it = |name: &str, namespace: &str| BudgetKey::real(namespace, name) == *key;
        if let Some(budget) = budgets.find(|budget| is_it(&budget.name, &budget.namespace)) {
            let status = &mut budget.status;
            status.disruptions_allowed = i32::try_from(allowed).unwrap();
            status.current_healthy = status.desired_healthy + status.disruptions_allowed;
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
