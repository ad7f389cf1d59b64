//! The same cluster upgraded by a plan, with the rollout that runs every plan.

use std::collections::BTreeMap;

use migrate_core::{Action, BudgetKey, Moment, Outcome as ActionOutcome, Phase, Target};
use migrate_plan::{ActionResult, Command, Error, Input, Rollout};

use super::Outcome;
use crate::cluster::{Ask, Cluster, Guard, Notice, Wake, millis};
use crate::instance::Instance;

/// How pods are kept off nodes that are still to be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Marking {
    /// Not at all, as the drain does it.
    Nothing,
    /// By a taint that has the scheduler prefer others: what it would gain.
    Taint,
}

struct Run<'i> {
    instance: &'i Instance,
    cluster: Cluster,
    rollout: Rollout,
    times: &'i [u64],
    hosts: BTreeMap<String, usize>,
    /// By workload.
    keys: Vec<Option<BudgetKey>>,
    /// What runs on each host.
    running: BTreeMap<usize, Action>,
    first: Option<u64>,
    latest: u64,
    done: usize,
}

/// Plans the upgrade of `instance` and runs the plan; `times` is what changing each
/// worker takes, which the planner knows in the mean of each pool alone. What is
/// done to the control plane takes no time, as for the other tools. Evictions wait
/// for budgets as the drain's ledger does, real and assumed, and are asked for again
/// when a pod has become healthy.
///
/// # Errors
/// As [`Planner::plan`](migrate_plan::Planner::plan).
pub fn run_planned(
    instance: &Instance,
    guard: Guard,
    marking: Marking,
    times: &[u64],
) -> Result<Outcome, Error> {
    let plan = instance.plan()?;
    let cluster = Cluster::new(instance, guard);
    let hosts = cluster.hosts().iter().map(|host| host.name.clone());
    let budgets = &instance.model.budgets;
    let assumed = &instance.policy.assumed_budgets;
    let keys = instance.model.workloads.iter().map(|workload| {
        let id = &workload.id;
        let is_of = |budget: &&migrate_core::DisruptionBudget| {
            (&budget.namespace, &budget.name) == (&id.namespace, &id.name)
        };
        let real = budgets.iter().find(is_of);
        match real {
            Some(budget) => Some(BudgetKey::real(&budget.namespace, &budget.name)),
            None => assumed.needs(workload).map(|_| BudgetKey::assumed(id)),
        }
    });
    let mut run = Run {
        instance,
        rollout: Rollout::new(&plan, &instance.model, &instance.policy)?,
        times,
        hosts: hosts.zip(0..).collect(),
        keys: keys.collect(),
        running: BTreeMap::new(),
        cluster,
        first: None,
        latest: 0,
        done: 0,
    };
    if marking == Marking::Taint {
        for host in 0..run.cluster.hosts().len() {
            run.cluster.taint(host, true);
        }
    }
    run.tell(&Input::Started);
    while let Some(notice) = run.cluster.step() {
        run.told(notice);
        if run.rollout.is_finished() {
            break;
        }
    }
    Ok(Outcome {
        makespan: run.latest - run.first.unwrap_or(0),
        moves_per_pod: run.cluster.moves_per_pod(),
        tally: run.cluster.tally(),
        done: run.done,
    })
}

impl Run<'_> {
    fn now(&self) -> Moment {
        Moment::from_millis(self.cluster.now())
    }

    fn tell(&mut self, input: &Input) {
        self.rollout.handle(self.now(), input);
        while let Some(command) = self.rollout.poll(self.now()) {
            if let Command::Begin { action } = command {
                self.begin(action);
            }
        }
    }

    fn begin(&mut self, action: Action) {
        let host = match &action.target {
            Target::Node { node, .. } => self.hosts.get(node).copied(),
            _ => None,
        };
        let Some(host) = host else {
            self.ended(&action);
            return;
        };
        let phase = action.phase;
        self.running.insert(host, action);
        match phase {
            Phase::Drain => {
                let now = self.cluster.now();
                self.first.get_or_insert(now);
                self.cluster.cordon(host);
                let patience = millis(self.instance.policy.deadlines.drain);
                self.cluster.wake(patience, Wake::Timeout(host));
                self.evict_from(host);
            }
            Phase::Upgrade => self.cluster.wake(self.times[host], Wake::Changed(host)),
            _ => {
                self.cluster.give_back(host);
                let verify = millis(self.instance.durations.verify);
                self.cluster.wake(verify, Wake::Done(host));
            }
        }
    }

    fn evict_from(&mut self, host: usize) {
        for pod in self.cluster.staying(host) {
            let app = self.cluster.app_of(pod);
            if self.cluster.evict(pod, Ask::Carefully) {
                self.show(app);
            }
        }
    }

    /// Tells the rollout what a budget allows now.
    fn show(&mut self, app: usize) {
        if let Some(Some(key)) = self.keys.get(app).cloned() {
            let allowed = self.cluster.careful_spare(app);
            self.tell(&Input::BudgetSeen { key, allowed });
        }
    }

    fn told(&mut self, notice: Notice) {
        match notice {
            Notice::Empty(host) => self.end(host, Phase::Drain),
            Notice::Woken(Wake::Changed(host)) => self.end(host, Phase::Upgrade),
            Notice::Woken(Wake::Done(host)) => {
                let phase = self.running.get(&host).map(|action| action.phase);
                let phase = phase.unwrap_or(Phase::Verify);
                self.done += usize::from(phase == Phase::Verify);
                self.latest = self.cluster.now();
                self.end(host, phase);
            }
            Notice::Healthier(app) => {
                self.show(app);
                let drains = self.running.iter();
                let drains = drains.filter(|(_, action)| action.phase == Phase::Drain);
                let hosts: Vec<usize> = drains.map(|(host, _)| *host).collect();
                for host in hosts {
                    for pod in self.cluster.staying(host) {
                        if self.cluster.app_of(pod) == app
                            && self.cluster.evict(pod, Ask::Carefully)
                        {
                            self.show(app);
                        }
                    }
                }
            }
            Notice::Woken(Wake::Timeout(host)) => {
                let running = self.running.get(&host);
                if running.is_some_and(|action| action.phase == Phase::Drain) {
                    self.cluster.note_failed_wait();
                }
            }
            Notice::Woken(_) => {}
        }
    }

    fn end(&mut self, host: usize, phase: Phase) {
        if self.running.get(&host).is_some_and(|it| it.phase == phase)
            && let Some(action) = self.running.remove(&host)
        {
            self.ended(&action);
        }
    }

    fn ended(&mut self, action: &Action) {
        let id = action.id.clone();
        let result = ActionResult::Succeeded(ActionOutcome::SameNode);
        self.tell(&Input::ActionEnded { id, result });
    }
}
