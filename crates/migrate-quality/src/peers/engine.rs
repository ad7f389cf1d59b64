//! One engine for the choices of all tools.

use std::collections::BTreeMap;

use super::{Old, Order, Outcome, SECOND, Surge, Then, Tool, Width, order, width_of};
use crate::cluster::{Ask, Cluster, Guard, Notice, Wake};
use crate::instance::Instance;

/// A standstill: so long after the last node was begun or done.
const STANDSTILL: u64 = 7 * 24 * 3600 * SECOND;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Old,
    /// Since.
    Draining(u64),
    Away,
    Done,
}

struct Engine<'t> {
    tool: &'t Tool,
    cluster: Cluster,
    /// What changing each node takes.
    times: &'t [u64],
    stages: Vec<Stage>,
    /// By pool, in the order of the tool.
    pools: Vec<Vec<usize>>,
    widths: Vec<usize>,
    /// With barriers: batches that have not begun, the next at the end.
    batches: Vec<Vec<usize>>,
    /// What each workload can spare when all is well.
    spare: BTreeMap<usize, u32>,
    latest: u64,
}

/// Upgrades the workers of `instance` as `tool` does; `times` is what changing each
/// takes, in their order.
pub fn run(tool: &Tool, instance: &Instance, guard: Guard, times: &[u64]) -> Outcome {
    let cluster = Cluster::new(instance, guard);
    let mut by_pool: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (id, host) in cluster.hosts().iter().enumerate() {
        by_pool.entry(&host.pool).or_default().push(id);
    }
    let widths = by_pool
        .iter()
        .map(|(pool, nodes)| width_of(tool.width, &instance.policy, pool, nodes.len()));
    let widths: Vec<usize> = widths.collect();
    let mut pools: Vec<Vec<usize>> = by_pool.into_values().collect();
    for nodes in &mut pools {
        order::sort(nodes, tool.order, &cluster, instance);
    }
    let guarded = (0..cluster.hosts().len()).flat_map(|node| cluster.guarded_on(node));
    let spare = guarded.map(|(app, _)| (app, cluster.spare(app))).collect();
    let mut engine = Engine {
        tool,
        times,
        stages: vec![Stage::Old; cluster.hosts().len()],
        batches: Vec::new(),
        pools,
        widths,
        spare,
        cluster,
        latest: 0,
    };
    engine.start();
    while let Some(notice) = engine.cluster.step() {
        engine.told(notice);
        let is_over = engine.stages.iter().all(|stage| *stage == Stage::Done);
        if is_over || engine.cluster.now() > engine.latest + STANDSTILL {
            break;
        }
    }
    let done = engine.stages.iter().filter(|stage| **stage == Stage::Done);
    Outcome {
        makespan: engine.latest,
        moves_per_pod: engine.cluster.moves_per_pod(),
        tally: engine.cluster.tally(),
        done: done.count(),
    }
}

impl Engine<'_> {
    fn start(&mut self) {
        let nodes: Vec<usize> = self.pools.iter().flatten().copied().collect();
        for (pool, width) in self.pools.clone().iter().zip(self.widths.clone()) {
            let more = match self.tool.surge {
                Surge::Nothing => 0,
                Surge::Nodes(nodes) => nodes as usize,
                Surge::Width(least) => width.max(least as usize),
            };
            for like in pool.iter().cycle().take(more) {
                self.cluster.add_like(*like);
            }
        }
        for node in nodes {
            match self.tool.old {
                Old::AsTheyAre => {}
                Old::Tainted => self.cluster.taint(node, true),
                Old::Cordoned => self.cluster.cordon(node),
            }
        }
        if self.tool.order == Order::Colours {
            self.batches = order::colours(&self.cluster, &self.pools, &self.widths);
            self.batches.reverse();
        }
        self.fill();
        if self.tool.poll > 0 {
            self.cluster.wake(self.tool.poll, Wake::Poll);
        }
    }

    fn told(&mut self, notice: Notice) {
        match notice {
            Notice::Empty(node) => {
                if let Stage::Draining(_) = self.stages[node] {
                    self.stages[node] = Stage::Away;
                    self.cluster.wake(self.tool.after_drain, Wake::Rested(node));
                }
            }
            Notice::Woken(Wake::Retry(node)) => self.retry(node),
            Notice::Woken(Wake::Timeout(node)) => self.give_up(node),
            Notice::Woken(Wake::Rested(node)) => {
                self.cluster.wake(self.times[node], Wake::Changed(node));
            }
            Notice::Woken(Wake::Changed(node)) => {
                self.cluster.give_back(node);
                self.cluster.wake(self.tool.after_node, Wake::Done(node));
            }
            Notice::Woken(Wake::Done(node)) => {
                self.stages[node] = Stage::Done;
                self.latest = self.cluster.now();
                if self.tool.poll == 0 {
                    self.fill();
                }
            }
            Notice::Woken(Wake::Poll) => {
                self.fill();
                self.cluster.wake(self.tool.poll, Wake::Poll);
            }
            // Nothing else may be left to wake those that wait for it.
            Notice::Healthier(_) => {
                if self.tool.is_joint && self.tool.poll == 0 {
                    self.fill();
                }
            }
        }
    }

    /// Begins whatever the tool would begin.
    fn fill(&mut self) {
        if self.tool.order == Order::Colours {
            if !self.stages.iter().any(|stage| is_in_flight(*stage)) {
                for node in self.batches.pop().unwrap_or_default() {
                    self.begin(node);
                }
            }
            return;
        }
        let total = match self.tool.width {
            Width::Total(nodes) => nodes as usize,
            // Of a tool that knows no pools.
            Width::Policy(_) if !self.knows_pools() => self.widths.iter().sum(),
            _ => usize::MAX,
        };
        for pool in 0..self.pools.len() {
            let nodes = self.pools[pool].clone();
            for node in &nodes {
                let in_flight = |nodes: &[usize]| {
                    let stages = nodes.iter().map(|node| self.stages[*node]);
                    stages.filter(|stage| is_in_flight(*stage)).count()
                };
                let all: usize = self.pools.iter().map(|nodes| in_flight(nodes)).sum();
                let of_pool = in_flight(&nodes);
                let is_full = self.knows_pools() && of_pool >= self.widths[pool];
                if all >= total || is_full {
                    break;
                }
                if self.stages[*node] == Stage::Old && (!self.tool.is_joint || self.fits(*node)) {
                    self.begin(*node);
                }
            }
            let is_done = |node: &usize| self.stages[*node] == Stage::Done;
            if self.tool.pools_in_turn && !nodes.iter().all(is_done) {
                break;
            }
        }
    }

    fn knows_pools(&self) -> bool {
        self.tool.order != Order::Hash || !matches!(self.tool.width, Width::Total(_))
    }

    /// Whether budgets allow the pods of `node` to go together with what is still on
    /// the nodes in flight.
    fn fits(&self, node: usize) -> bool {
        let mut reserved: BTreeMap<usize, u32> = BTreeMap::new();
        for (other, stage) in self.stages.iter().enumerate() {
            if let Stage::Draining(_) = stage {
                for pod in self.cluster.staying(other) {
                    *reserved.entry(self.cluster.app_of(pod)).or_default() += 1;
                }
            }
        }
        let guarded = self.cluster.guarded_on(node);
        guarded.into_iter().all(|(app, pods)| {
            let most = self.spare.get(&app).copied().unwrap_or(0).max(1);
            let reserved = reserved.get(&app).copied().unwrap_or(0).min(most);
            pods.min(most) + reserved <= self.cluster.spare(app)
        })
    }

    fn begin(&mut self, node: usize) {
        self.stages[node] = Stage::Draining(self.cluster.now());
        self.latest = self.cluster.now();
        self.cluster.cordon(node);
        if let Some((patience, _)) = self.tool.patience {
            self.cluster.wake(patience, Wake::Timeout(node));
        }
        self.retry(node);
    }

    fn retry(&mut self, node: usize) {
        let Stage::Draining(since) = self.stages[node] else {
            return;
        };
        let mut is_left = false;
        for pod in self.cluster.staying(node) {
            is_left |= !self.cluster.evict(pod, Ask::Plainly);
        }
        if is_left {
            let waited = self.cluster.now() - since;
            let delay = match self.tool.pause {
                // A round of attempts, then the pause.
                Some((round, pause)) if waited % (round + pause) + self.tool.retry > round => {
                    round + pause - waited % (round + pause)
                }
                _ => self.tool.retry,
            };
            self.cluster.wake(delay, Wake::Retry(node));
        }
    }

    fn give_up(&mut self, node: usize) {
        let (Stage::Draining(_), Some((patience, then))) = (self.stages[node], self.tool.patience)
        else {
            return;
        };
        self.cluster.note_failed_wait();
        match then {
            Then::Fail => self.cluster.wake(patience, Wake::Timeout(node)),
            Then::Force => {
                for pod in self.cluster.staying(node) {
                    self.cluster.evict(pod, Ask::Forcibly);
                }
            }
        }
    }
}

fn is_in_flight(stage: Stage) -> bool {
    matches!(stage, Stage::Draining(_) | Stage::Away)
}
