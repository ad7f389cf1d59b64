//! A world around a rollout that does everything a cluster may do to it, and a
//! log of all of it for whoever judges.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use migrate_core::{
    ActionId, BudgetKey, BudgetLedger, ClusterModel, Moment, Outcome, Phase, Plan, PlannedAction,
    Policy, Target,
};
use migrate_plan::{
    ActionResult, Command, Input, Measured, Recorded, Rollout, TargetState, Timeline,
};

pub(crate) use super::scenario::Scenario;
use super::scenario::{cluster, planner};
use super::{OLD, Random, linted, version};

/// What happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    In(Recorded),
    Out(Moment, Command),
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) model: ClusterModel,
    pub(crate) policy: Policy,
    pub(crate) plan: Plan,
    pub(crate) log: Vec<Entry>,
    pub(crate) rollout: Rollout,
    pub(crate) end: Moment,
    random: Random,
    now: Moment,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    sequence: u64,
    replaced: u64,
    /// Machines that were made anew.
    machines: u64,
    restarts: u64,
    noise_left: u64,
    draining: BTreeSet<String>,
    capacities: BTreeMap<BudgetKey, u32>,
    /// Budgets that allow less at first than while all their pods are healthy.
    pub(crate) recovering: BTreeSet<BudgetKey>,
    pub(crate) touches: BTreeMap<String, BTreeMap<BudgetKey, u32>>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    End(ActionId, Target, Phase),
    Node(String, bool, bool),
    /// Another machine of the old version under that name, Ready or not.
    NodeAnew(String, bool),
    NodeGone(String),
    Budget(BudgetKey, u32),
    Pause(bool),
    Runner(String),
    Cancel,
    Start,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut random = Random(scenario.seed);
        let (model, policy) = cluster(&scenario, &mut random);
        let place = scenario
            .runner
            .then(|| random.below(model.nodes.len() as u64) as usize);
        let runner = place.map(|place| model.nodes[place].name.as_str());
        let plan = planner(&scenario, &model, &policy, runner).plan().unwrap();
        Self::of(scenario, model, policy, plan, random)
    }

    /// A world in which `plan`, which the linter finds nothing in, is to be carried out.
    pub(crate) fn of(
        scenario: Scenario,
        model: ClusterModel,
        policy: Policy,
        plan: Plan,
        random: Random,
    ) -> Self {
        let plan = linted(plan, &model, &policy);
        let rollout = Rollout::new(&plan, &model, &policy).unwrap();
        let ledger = BudgetLedger::from_model(&model, policy.assumed_budgets.clone());
        let mut touches: BTreeMap<String, BTreeMap<BudgetKey, u32>> = model
            .nodes
            .iter()
            .map(|node| (node.name.clone(), BTreeMap::new()))
            .collect();
        for pod in &model.pods {
            let Some(node) = pod.node.clone() else {
                continue;
            };
            let of_node = touches.entry(node).or_default();
            for key in ledger.budgets_of(&pod.id.uid) {
                *of_node.entry(key.clone()).or_default() += 1;
            }
        }
        // Names that an earlier run of the same cluster has not given.
        let given = 1_000 * u64::from(plan.revision - 1);
        let accounts = ledger.accounts();
        let mut capacities: BTreeMap<BudgetKey, u32> =
            accounts.map(|view| (view.key, view.allowed)).collect();
        let mut recovering = BTreeSet::new();
        for budget in &model.budgets {
            let key = BudgetKey::real(&budget.namespace, &budget.name);
            let status = &budget.status;
            let steady = u32::try_from(status.expected_pods - status.desired_healthy).unwrap();
            if let Some(allowed) = capacities.get_mut(&key).filter(|it| **it < steady) {
                *allowed = steady;
                recovering.insert(key);
            }
        }
        let mut world = Self {
            capacities,
            recovering: recovering.clone(),
            now: model.taken_at,
            end: model.taken_at,
            scenario,
            model,
            policy,
            plan,
            log: Vec::new(),
            rollout,
            random,
            events: BinaryHeap::new(),
            sequence: 0,
            replaced: given,
            machines: given,
            restarts: 0,
            noise_left: 40,
            draining: BTreeSet::new(),
            touches,
        };
        for key in recovering {
            let later = 1 + world.random.below(400_000);
            let steady = world.capacities[&key];
            world.at(later, Event::Budget(key, steady));
        }
        world
    }

    pub(crate) fn capacities(&self) -> &BTreeMap<BudgetKey, u32> {
        &self.capacities
    }

    /// Runs until the rollout has finished or stopped for good.
    pub(crate) fn run(&mut self) {
        if self.scenario.abort == Some(0) {
            self.tell(Input::Aborted);
        }
        self.tell(Input::Started);
        for turn in 1..20_000 {
            if self.scenario.abort == Some(turn) {
                self.tell(Input::Aborted);
            }
            if self.rollout.is_finished() {
                self.end = self.now;
                return;
            }
            if self.rollout.stopped().is_some() && self.events.is_empty() {
                if self.restarts == 2 {
                    self.end = self.now;
                    return;
                }
                self.restarts += 1;
                self.at(60_000, Event::Start);
            }
            let next = self.events.peek().map(|Reverse((at, ..))| *at);
            let wake = self.rollout.wake_at();
            let idle = next.is_none();
            match (next, wake) {
                (_, Some(wake))
                    if (self.scenario.punctual || idle) && next.is_none_or(|at| wake < at) =>
                {
                    self.now = self.now.max(wake);
                    self.poll();
                }
                (Some(_), _) => self.step(),
                (None, _) => panic!("nothing will ever happen: {:#?}", self.rollout.waiting()),
            }
        }
        panic!("does not end: {:#?}", self.rollout.waiting());
    }

    fn step(&mut self) {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return;
        };
        self.now = self.now.max(at);
        match event {
            Event::End(id, target, phase) => self.action_ends(id, target, phase),
            Event::Node(node, ready, unschedulable) => {
                let kubelet_version = version(OLD);
                self.tell(Input::NodeSeen {
                    node,
                    ready,
                    unschedulable,
                    kubelet_version,
                    uid: None,
                });
            }
            Event::NodeAnew(node, ready) => {
                let input = self.made_anew(node, ready);
                self.tell(input);
            }
            Event::NodeGone(node) => self.tell(Input::NodeGone { node }),
            Event::Budget(key, allowed) => self.tell(Input::BudgetSeen { key, allowed }),
            Event::Pause(paused) => self.tell(Input::Paused { paused }),
            Event::Runner(node) => self.tell(Input::RunnerSeen { node: Some(node) }),
            Event::Cancel => self.tell(Input::Cancelled),
            Event::Start => self.tell(Input::Started),
        }
        if self.noise_left > 0 && self.random.percent(self.scenario.noise) {
            self.noise_left -= 1;
            self.make_noise();
        }
    }

    /// Another machine is seen under the name of `node`.
    fn made_anew(&mut self, node: String, ready: bool) -> Input {
        self.machines += 1;
        Input::NodeSeen {
            uid: Some(format!("{node} {}", self.machines)),
            node,
            ready,
            unschedulable: false,
            kubelet_version: version(OLD),
        }
    }

    fn action_ends(&mut self, id: ActionId, target: Target, phase: Phase) {
        // A last look right before it begins shows what no watch has told.
        let is_upgrade = phase == Phase::Upgrade && matches!(target, Target::Node { .. });
        if is_upgrade && self.noise_left > 0 && self.random.percent(self.scenario.lose) {
            self.noise_left -= 1;
            let node = target.name().to_owned();
            let seen = match self.random.percent(70) {
                true => self.made_anew(node, true),
                false => {
                    let later = self.random.below(400_000);
                    self.at(later, Event::NodeAnew(node.clone(), true));
                    Input::NodeGone { node }
                }
            };
            self.tell(seen);
        }
        let result = if self.rollout.is_late(&id) && self.random.percent(self.scenario.late) {
            ActionResult::TooLate
        } else if self.rollout.is_undrained(&id) && self.random.percent(70) {
            ActionResult::NotDrained
        } else if phase == Phase::Drain && self.random.percent(self.scenario.defer) {
            let away = self.neighbour(target.name());
            let wait = self.random.below(900_000);
            self.at(wait, Event::Node(away.clone(), true, false));
            ActionResult::Deferred { away: vec![away] }
        } else if self.random.percent(self.scenario.retry) {
            ActionResult::Failed {
                retryable: true,
                reason: "try again".into(),
            }
        } else if self.random.percent(self.scenario.fail) {
            ActionResult::Failed {
                retryable: false,
                reason: "broken".into(),
            }
        } else if phase == Phase::Upgrade && self.random.percent(self.scenario.replace) {
            let count = 1 + self.random.below(2);
            self.replaced += count;
            let names = (0..count).map(|n| format!("new-{}", self.replaced - n));
            ActionResult::Succeeded(Outcome::ReplacedBy {
                nodes: names.collect(),
            })
        } else {
            ActionResult::Succeeded(Outcome::SameNode)
        };
        let failed = matches!(result, ActionResult::Failed { .. });
        if phase == Phase::Drain && !failed {
            self.draining.remove(target.name());
        }
        let repeat = self.random.percent(10);
        let input = Input::ActionEnded { id, result };
        self.tell(input.clone());
        if repeat {
            self.tell(input);
        }
        if let Target::Node { node, .. } = &target {
            if phase == Phase::Verify && !failed && self.was_cordoned(node) {
                // Its cordon is lifted.
                self.at(0, Event::Node(node.clone(), true, false));
            }
            if failed {
                // Its cordon is lifted some time later, or stays for a while.
                self.draining.remove(node);
                let wait = self.random.below(600_000);
                self.at(wait, Event::Node(node.clone(), true, false));
            }
            if self.scenario.budget_status {
                self.show_budgets(node.clone());
            }
        }
    }

    fn was_cordoned(&self, node: &str) -> bool {
        let node = self.model.node(node);
        node.is_some_and(|node| node.unschedulable)
    }

    /// A node of the same pool, perhaps `node` itself.
    fn neighbour(&mut self, node: &str) -> String {
        let pool = |name: &str| name.rsplit_once('-').map(|(pool, _)| pool.to_owned());
        let nodes = self.model.nodes.iter().map(|node| node.name.clone());
        let same: Vec<String> = nodes.filter(|other| pool(other) == pool(node)).collect();
        same[self.random.below(same.len() as u64) as usize].clone()
    }

    /// Budgets show what is left of them, some time later.
    fn show_budgets(&mut self, node: String) {
        for key in self
            .touches
            .get(&node)
            .cloned()
            .unwrap_or_default()
            .into_keys()
        {
            let capacity = self.capacities[&key];
            let held = self
                .draining
                .iter()
                .filter(|n| self.touches[*n].contains_key(&key));
            let held = u32::try_from(held.count()).unwrap();
            let spent = u32::try_from(self.random.below(u64::from(held) + 1)).unwrap();
            let late = self.random.below(30_000);
            self.at(
                late,
                Event::Budget(key.clone(), capacity.saturating_sub(spent)),
            );
            // The last word is the truth.
            self.at(900_000, Event::Budget(key, capacity));
        }
    }

    fn make_noise(&mut self) {
        let nodes = &self.model.nodes;
        if nodes.is_empty() {
            return;
        }
        let node = nodes[self.random.below(nodes.len() as u64) as usize]
            .name
            .clone();
        let later = 1 + self.random.below(400_000);
        if self.scenario.runner && self.random.percent(20) {
            self.at(0, Event::Runner(node));
            return;
        }
        match self.random.below(9) {
            0 | 1 => {
                self.at(0, Event::Node(node.clone(), false, false));
                self.at(later, Event::Node(node, true, false));
            }
            2 | 3 => {
                self.at(0, Event::Node(node.clone(), true, true));
                self.at(later, Event::Node(node, true, false));
            }
            4 => {
                self.at(0, Event::NodeGone(node.clone()));
                if self.random.percent(70) {
                    self.at(later, Event::Node(node, true, false));
                }
            }
            5 | 6 => {
                let ready = self.random.percent(70);
                self.at(0, Event::NodeAnew(node.clone(), ready));
                self.at(later, Event::Node(node, true, false));
            }
            7 => {
                self.at(0, Event::Pause(true));
                self.at(later, Event::Pause(false));
            }
            _ => {
                self.at(0, Event::Cancel);
                self.at(later, Event::Start);
            }
        }
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.sequence += 1;
        let at = self.now + Duration::from_millis(millis);
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn tell(&mut self, input: Input) {
        // What a timer decided before is no answer to it.
        self.poll();
        self.rollout.handle(self.now, &input);
        self.log.push(Entry::In(Recorded::new(self.now, input)));
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(command) = self.rollout.poll(self.now) {
            self.log.push(Entry::Out(self.now, command.clone()));
            if let Command::Begin { action } = command {
                if action.phase == Phase::Drain {
                    self.draining.insert(action.target.name().to_owned());
                    if self.scenario.budget_status {
                        self.show_budgets(action.target.name().to_owned());
                    }
                }
                let lasts = 1_000 + self.random.below(300_000);
                self.at(lasts, Event::End(action.id, action.target, action.phase));
            }
        }
        self.nobody_is_forgotten();
    }

    /// Whoever has not begun waits on something: nothing is forgotten.
    fn nobody_is_forgotten(&self) {
        let waiting = self.rollout.waiting();
        let waiting: BTreeSet<&Target> = waiting.iter().map(|waiting| &waiting.target).collect();
        for standing in self.rollout.standings() {
            let is_known =
                standing.state != TargetState::Waiting || waiting.contains(&standing.target);
            assert!(is_known, "{} could begin and does not", standing.target);
        }
    }

    /// The log with each command at the time when it was decided, however late
    /// the world fetched it.
    pub(crate) fn decided(&self) -> Vec<Entry> {
        let mut rollout = Rollout::new(&self.plan, &self.model, &self.policy).unwrap();
        let mut log = Vec::new();
        let fetch = |rollout: &mut Rollout, log: &mut Vec<Entry>, at: Moment| {
            while let Some(command) = rollout.poll(at) {
                log.push(Entry::Out(at, command));
            }
        };
        for recorded in self.inputs() {
            while let Some(wake) = rollout.wake_at().filter(|wake| *wake <= recorded.at) {
                fetch(&mut rollout, &mut log, wake);
            }
            rollout.handle(recorded.at, &recorded.input);
            let at = recorded.at;
            log.push(Entry::In(recorded));
            fetch(&mut rollout, &mut log, at);
        }
        while let Some(wake) = rollout.wake_at().filter(|wake| *wake <= self.end) {
            fetch(&mut rollout, &mut log, wake);
        }
        assert_eq!(commands(&log), self.commands());
        log
    }

    pub(crate) fn inputs(&self) -> Vec<Recorded> {
        let of = |entry: &Entry| match entry {
            Entry::In(recorded) => Some(recorded.clone()),
            Entry::Out(..) => None,
        };
        self.log.iter().filter_map(of).collect()
    }

    /// Every action from its begin to its end, in the order of the begins.
    pub(crate) fn timeline(&self) -> Timeline {
        let start = self.model.taken_at;
        let mut actions: Vec<PlannedAction> = Vec::new();
        let mut running: BTreeMap<ActionId, usize> = BTreeMap::new();
        for entry in &self.log {
            match entry {
                Entry::Out(at, Command::Begin { action }) => {
                    let begin = at.since(start);
                    running.insert(action.id.clone(), actions.len());
                    let target = action.target.clone();
                    actions.push(PlannedAction::new(target, action.phase, begin, begin));
                }
                Entry::In(Recorded {
                    at,
                    input: Input::ActionEnded { id, .. },
                }) => {
                    if let Some(place) = running.remove(id) {
                        actions[place].end = at.since(start);
                    }
                }
                _ => {}
            }
        }
        Timeline::new(actions)
    }

    /// What each action took, in the order of the ends.
    pub(crate) fn measured(&self) -> Measured {
        let actions = self.timeline().actions;
        let ends = self.log.iter().filter_map(|entry| match entry {
            Entry::In(Recorded {
                input: Input::ActionEnded { id, .. },
                ..
            }) => {
                let of =
                    |it: &&PlannedAction| ActionId::new(&self.plan.id, &it.target, it.phase) == *id;
                actions.iter().find(of)
            }
            _ => None,
        });
        let took = ends.map(|it| (it.target.clone(), it.phase, it.end - it.start));
        let mut seen = BTreeSet::new();
        let first = took.filter(|it| seen.insert((it.0.clone(), it.1)));
        Measured::of_run(self.model.taken_at, first)
    }

    pub(crate) fn commands(&self) -> Vec<Command> {
        commands(&self.log)
    }
}

fn commands(log: &[Entry]) -> Vec<Command> {
    let of = |entry: &Entry| match entry {
        Entry::Out(_, command) => Some(command.clone()),
        Entry::In(_) => None,
    };
    log.iter().filter_map(of).collect()
}
