//! One simulated upgrade, and what was said of its end on the way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{Action, ClusterModel, Moment, Outcome, Phase, Plan, Target};
use migrate_plan::{
    ActionResult, Beliefs, Command, Forecast, Forecaster, History, Input, Measured, Quantiles,
    Rollout,
};
use migrate_quality::instance::{Instance, ZONE};
use migrate_quality::statistics::Distribution;

use crate::truth::{Truth, node_of};

/// Where on the way forecasts are made: when so many per cent of the nodes are done.
pub const POINTS: [usize; 4] = [0, 10, 25, 50];

/// What an upgrade took, and what was said of it at each of [`POINTS`].
#[derive(Clone, Debug)]
pub struct Upgrade {
    pub took: f64,
    pub said: Vec<Said>,
    /// What somebody would say at 25 % who knows how durations are distributed and
    /// every level of this run, but no action's luck.
    pub known: Option<Said>,
}

/// At one point, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub p50: f64,
    pub p80: f64,
    pub p95: f64,
    /// Elapsed over the part of the nodes that is done; none before anything is.
    pub elapsed_over_done: Option<f64>,
}

/// Runs the plan of `instance` with what `truth` says, `samples` for each forecast.
pub fn upgrade(
    instance: &Instance,
    plan: &Plan,
    truth: &mut Truth,
    beliefs: &Beliefs,
    samples: u32,
    luck: u32,
) -> (Upgrade, Measured) {
    let Instance { model, policy, .. } = instance;
    let zones = zones(model);
    let expected: BTreeMap<(&Target, Phase), Duration> = plan
        .schedule
        .iter()
        .map(|it| ((&it.target, it.phase), it.end.saturating_sub(it.start)))
        .collect();
    let mut rollout = Rollout::new(plan, model, policy).unwrap();
    let mut forecaster = Forecaster::new(model, policy, plan, beliefs).unwrap();
    let draws = Draws::new(instance.seed);
    let (start, nodes) = (model.taken_at, plan.slots.len());
    let mut said = Vec::new();
    let mut measured = Vec::new();
    let mut running: Vec<(Moment, Moment, Action)> = Vec::new();
    let (mut now, mut done) = (start, 0);
    truth.begin_run();
    rollout.handle(now, &Input::Started);
    let mut quarter = None;
    loop {
        while let Some(command) = rollout.poll(now) {
            let Command::Begin { action } = command else {
                continue;
            };
            let mut world = World {
                expected: &expected,
                zones: &zones,
                truth,
            };
            let took = world.lasts(&action);
            forecaster.began(now, &action);
            running.push((now + took, now, action));
        }
        while samples > 0 && said.len() < POINTS.len() && done * 100 >= POINTS[said.len()] * nodes {
            let forecast = match said.len() {
                0 => forecaster.before_start(&draws, samples),
                _ => forecaster.at(now, &rollout, &draws, samples),
            };
            if POINTS[said.len()] == 25 && luck > 0 {
                quarter = Some((now, rollout.clone(), running.clone()));
            }
            said.push(Said::new(&forecast, now.since(start), done, nodes));
        }
        running.sort_by_key(|(end, begin, action)| Reverse((*end, *begin, action.id.clone())));
        let Some((end, begin, action)) = running.pop() else {
            assert!(rollout.is_finished(), "seed {}", instance.seed);
            let took = now.since(start).as_secs_f64();
            let measured = Measured::of_run(start, measured);
            let known = quarter.map(|(now, rollout, running)| {
                let ends = (0..luck).map(|run| {
                    let mut truth = truth.with_luck(u64::from(run));
                    let mut world = World {
                        expected: &expected,
                        zones: &zones,
                        truth: &mut truth,
                    };
                    let end = world.rest(now, rollout.clone(), running.clone());
                    end.since(start).as_secs_f64()
                });
                Said::known(Distribution::new(ends))
            });
            return (Upgrade { took, said, known }, measured);
        };
        now = end;
        done += usize::from(matches!(
            (&action.target, action.phase),
            (Target::Node { .. }, Phase::Verify)
        ));
        forecaster.ended(now, &action, true);
        measured.push((action.target.clone(), action.phase, end.since(begin)));
        let id = action.id;
        let result = ActionResult::Succeeded(Outcome::SameNode);
        rollout.handle(now, &Input::ActionEnded { id, result });
    }
}

/// What decides how long actions last.
struct World<'a> {
    expected: &'a BTreeMap<(&'a Target, Phase), Duration>,
    zones: &'a BTreeMap<&'a str, usize>,
    truth: &'a mut Truth,
}

impl World<'_> {
    fn lasts(&mut self, action: &Action) -> Duration {
        let of_plan = self.expected[&(&action.target, action.phase)];
        let zone = node_of(&action.target).and_then(|node| self.zones.get(node).copied());
        of_plan.mul_f64(self.truth.ratio(action, zone))
    }

    /// When `rollout` ends, of which `running` is in work at `now`: with other luck.
    fn rest(
        &mut self,
        mut now: Moment,
        mut rollout: Rollout,
        mut running: Vec<(Moment, Moment, Action)>,
    ) -> Moment {
        for (end, begin, action) in &mut running {
            // What has not ended by now, tried until it has not. The last luck is what it was.
            let mut drawn = (0..1000).map(|_| *begin + self.lasts(action));
            let drawn = drawn.find(|end| *end > now);
            *end = drawn.unwrap_or(*end);
        }
        loop {
            while let Some(command) = rollout.poll(now) {
                if let Command::Begin { action } = command {
                    running.push((now + self.lasts(&action), now, action));
                }
            }
            running.sort_by_key(|(end, begin, action)| Reverse((*end, *begin, action.id.clone())));
            let Some((end, _, action)) = running.pop() else {
                return now;
            };
            now = end;
            let result = ActionResult::Succeeded(Outcome::SameNode);
            rollout.handle(
                now,
                &Input::ActionEnded {
                    id: action.id,
                    result,
                },
            );
        }
    }
}

impl Said {
    fn known(ends: Distribution) -> Self {
        Self {
            p50: ends.quantile(0.5),
            p80: ends.quantile(0.8),
            p95: ends.quantile(0.95),
            elapsed_over_done: None,
        }
    }

    fn new(forecast: &Forecast, elapsed: Duration, done: usize, nodes: usize) -> Self {
        let Quantiles { p50, p80, p95, .. } = forecast.makespan;
        let per_node = || elapsed.as_secs_f64() * nodes as f64 / done as f64;
        Self {
            p50: p50.as_secs_f64(),
            p80: p80.as_secs_f64(),
            p95: p95.as_secs_f64(),
            elapsed_over_done: (done > 0).then(per_node),
        }
    }
}

/// What `runs` upgrades of this cluster teach.
pub fn learned(instance: &Instance, plan: &Plan, truth: &mut Truth, runs: usize) -> Beliefs {
    let mut history = History::default();
    for run in 0..runs {
        let (_, measured) = upgrade(instance, plan, truth, &Beliefs::certain(), 0, 0);
        let mut of_run = History::of_run(plan, &measured);
        for line in &mut of_run.lines {
            line.run = run.to_string();
        }
        history.lines.extend(of_run.lines);
    }
    Beliefs::learned(&history)
}

fn zones(model: &ClusterModel) -> BTreeMap<&str, usize> {
    let zone = |node: &migrate_core::Node| node.labels.get(ZONE).cloned();
    let all: BTreeSet<String> = model.nodes.iter().filter_map(zone).collect();
    let nodes = model.nodes.iter();
    let nodes = nodes.filter_map(|node| {
        let zone = zone(node)?;
        Some((node.name.as_str(), all.iter().position(|it| *it == zone)?))
    });
    nodes.collect()
}

/// What formulas say before the start, in seconds, each with the plan's own figure for
/// what a node takes.
#[derive(Clone, Copy, Debug)]
pub struct Formulas {
    /// T = N · D / S: one node after the other.
    pub transfer_law: f64,
    /// Control plane + rounds of a pool · a node of it, of the slowest pool.
    pub rounds: f64,
    /// The plan's schedule.
    pub plan: f64,
}

impl Formulas {
    pub fn new(plan: &Plan) -> Self {
        let mut of_pool: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        let mut control_plane = 0f64;
        for action in &plan.schedule {
            let length = action.end.saturating_sub(action.start).as_secs_f64();
            match &action.target {
                Target::Node { pool, .. } => {
                    let (nodes, sum) = of_pool.entry(pool).or_default();
                    *nodes += f64::from(u8::from(action.phase == Phase::Drain));
                    *sum += length;
                }
                _ => control_plane += length,
            }
        }
        let rounds = plan.pools.iter().filter_map(|pool| {
            let (nodes, sum) = of_pool.get(pool.name.as_str())?;
            Some((nodes / f64::from(pool.width)).ceil() * sum / nodes)
        });
        Self {
            transfer_law: of_pool.values().map(|(_, sum)| sum).sum(),
            rounds: control_plane + rounds.fold(0.0, f64::max),
            plan: plan.makespan().as_secs_f64(),
        }
    }
}
