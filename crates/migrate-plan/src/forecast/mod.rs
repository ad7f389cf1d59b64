//! How long a rollout takes, with its uncertainty: the machine run many times on
//! sampled durations, before the start and from where it stands.

mod beliefs;
mod history;
mod levels;
mod needs;
mod outlook;
mod samples;
mod tails;
mod what_if;
mod zones;

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::{Belief, Draws, Sample, Tail};
use migrate_core::{Action, ClusterModel, Moment, Phase, Plan, Policy};

pub use beliefs::{Beliefs, Stuck};
pub use history::{End, EndedAction, HISTORY_SCHEMA, History, Lasted};
pub(crate) use needs::{Needs, Phases};
pub use outlook::{Forecast, Outlook, Quantiles};
pub use what_if::LiveWhatIf;
pub(crate) use zones::zones;

use crate::intern::Interned;
use crate::machine::{Machine, Mode, State};
use crate::planner::{LONGEST_ACTION, Lasts, Step, play, simulate, target_of};
use crate::rollout::checked_spec;
use crate::{Error, Rollout, TargetKind};
use levels::{Drawn, Levels, Seen};
use samples::{Ends, samples};
use tails::Weights;
use zones::Zones;

/// Phases of one target, for flat arrays.
const PHASES: usize = 5;
/// Of what takes less than this by the plan, the ratio to that says nothing.
const TELLING: Duration = Duration::from_secs(10);
/// An action that takes a smaller part of what was expected counts as one that takes
/// this: it had nothing to do, and is no sign of a fast cluster.
const LEAST_PART: u32 = 5;
/// Targets that the samples of a forecast have together, and how many samples at most
/// and at least.
const SIMULATED: u32 = 200_000;
const MOST: u32 = 200;
const LEAST: u32 = 20;
/// Deviations beyond which luck is taken to be there.
const FAR: f64 = 100.0;
/// ln of how many times its level an action may last: what would last longer is stuck.
const STUCK: f64 = 3.5;

/// Forecasts one rollout: before it starts, and while it runs, from what it is
/// told of actions that began and ended.
///
/// # Guarantees
/// - Pure, and the same for the same seed and the same calls, with the feature `rayon` and
///   on any number of its threads too.
/// - Every sample is a run of the machine that decides: quantiles are of
///   makespans, never sums of quantiles.
/// - With [`Beliefs::certain`] every quantile is the plan's makespan (for a plan
///   whose schedule has all its targets).
///
/// # Caveats
/// Failures, retries and stuck actions are not sampled: no action lasts 33 times as long
/// as its level, unless it has already, and then as long again at most.
#[derive(Debug)]
pub struct Forecaster<'a> {
    model: &'a ClusterModel,
    policy: &'a Policy,
    plan: &'a Plan,
    /// Not started: each sample begins with a clone of it.
    machine: Machine,
    budgets: Interned<'a>,
    /// What the plan predicts, by target and phase.
    expected: Vec<Duration>,
    /// By target and phase: which of `keys`.
    key_of: Vec<usize>,
    keys: Vec<(TargetKind, Phase)>,
    priors: Vec<Belief>,
    tails: Weights,
    /// Of each target.
    zones: Zones,
    /// By key: what has ended.
    seen: Vec<Vec<Seen>>,
    /// By target: what runs, since when.
    running: BTreeMap<u32, (Phase, Moment)>,
    ids: BTreeMap<String, u32>,
    started: Option<Moment>,
}

impl<'a> Forecaster<'a> {
    /// A forecaster of `plan`, which was made of `model` and `policy`.
    ///
    /// # Errors
    /// As [`Rollout::new`].
    pub fn new(
        model: &'a ClusterModel,
        policy: &'a Policy,
        plan: &'a Plan,
        beliefs: &Beliefs,
    ) -> Result<Self, Error> {
        let budgets = Interned::new(model, policy);
        let spec = checked_spec(plan, model, policy, &budgets)?;
        let machine = Machine::new(&spec, &budgets);
        let targets: Vec<_> = (0..machine.targets())
            .map(|it| target_of(plan, it))
            .collect();
        let count = machine.targets();
        let ids = targets.iter().map(ToString::to_string).zip(0..);
        let ids: BTreeMap<String, u32> = ids.collect();
        let has_surge = plan.pools.iter().any(|pool| pool.surge > 0);
        // Replacements come behind all others, so that those have the places they had.
        let places = targets.len() * (PHASES + usize::from(has_surge));
        let mut expected = vec![Duration::ZERO; places];
        for action in &plan.schedule {
            if let Some(&id) = ids.get(&action.target.to_string()) {
                let length = action.end.saturating_sub(action.start);
                let length = length.min(LONGEST_ACTION);
                expected[place(count, id, action.phase)] = length;
            }
        }
        let phases = || {
            let provision = has_surge.then_some(Phase::Provision);
            ALL.into_iter().chain(provision)
        };
        let mut key_ids: BTreeMap<(TargetKind, Phase), usize> = BTreeMap::new();
        let mut keys = Vec::new();
        let mut key_of = vec![0; expected.len()];
        for (id, target) in (0..).zip(&targets) {
            for phase in phases() {
                let kind = TargetKind::of(target).unwrap_or(TargetKind::Addons);
                let key = (kind, phase);
                key_of[place(count, id, phase)] =
                    *key_ids.entry(key.clone()).or_insert_with(|| {
                        keys.push(key);
                        keys.len() - 1
                    });
            }
        }
        Ok(Self {
            model,
            policy,
            plan,
            machine,
            budgets,
            expected,
            key_of,
            priors: keys
                .iter()
                .map(|(kind, phase)| beliefs.of(kind, *phase))
                .collect(),
            tails: beliefs.tails(),
            zones: Zones::of(model, &targets),
            seen: vec![Vec::new(); keys.len()],
            keys,
            running: BTreeMap::new(),
            ids,
            started: None,
        })
    }

    /// The forecast of `plan` before its start, from as many [`samples`](Self::samples) as
    /// its size allows; `None` for a plan that is empty, or in which something can never
    /// begin.
    ///
    /// # Errors
    /// As [`Rollout::new`].
    pub fn of_plan(
        model: &'a ClusterModel,
        policy: &'a Policy,
        plan: &'a Plan,
        beliefs: &Beliefs,
        draws: &Draws,
    ) -> Result<Option<Forecast>, Error> {
        if plan.is_empty() {
            return Ok(None);
        }
        let forecaster = Self::new(model, policy, plan, beliefs)?;
        let forecast = forecaster.before_start(draws, forecaster.samples());
        Ok((forecast.unended == 0).then_some(forecast))
    }

    /// Takes note that `action` began. The first one is the start of the rollout.
    pub fn began(&mut self, at: Moment, action: &Action) {
        self.started.get_or_insert(at);
        if let Some(&id) = self.ids.get(&action.target.to_string()) {
            self.running.insert(id, (action.phase, at));
        }
    }

    /// Takes note that `action` ended: with success, or in another way, which says
    /// only that it would have taken longer.
    pub fn ended(&mut self, at: Moment, action: &Action, succeeded: bool) {
        let Some(&id) = self.ids.get(&action.target.to_string()) else {
            return;
        };
        if let Some((phase, since)) = self.running.remove(&id) {
            let seen = self.seen(id, phase, at.since(since), !succeeded);
            let key = self.key_of[self.place(id, phase)];
            self.seen[key].extend(seen);
        }
    }

    /// How many samples a forecast can have that is to take less than a second up to 5,000
    /// nodes (`docs/time.md` has the figures): 200, fewer above 1,000 targets, and 20 at
    /// least, of which P95 is the last but one.
    pub fn samples(&self) -> u32 {
        SIMULATED
            .checked_div(self.machine.targets())
            .unwrap_or(MOST)
            .clamp(LEAST, MOST)
    }

    /// The forecast before the start, from `runs` samples (at least one).
    pub fn before_start(&self, draws: &Draws, runs: u32) -> Forecast {
        let start = self.model.taken_at;
        let (tails, levels) = self.levels(&vec![Vec::new(); self.keys.len()]);
        let ends = samples(runs, |run| {
            let mut machine = self.machine.clone();
            let drawn = drawn(tails, &levels, draws, run);
            let lasts = |machine: &Machine, target: u32, phase: Phase| {
                self.lasts(machine, &drawn, draws, run, target, phase)
            };
            let steps = simulate(&mut machine, start, &self.budgets, lasts, |_, _| {});
            self.ends(&machine, &steps, start)
        });
        self.forecast(ends, start, tails, &levels)
    }

    /// The forecast at `now`, from where `rollout` stands; it changes nothing there.
    ///
    /// As a plan does, it takes budgets to recover to what they allow while all their
    /// pods are healthy, and a node that was verified to be well: what is seen of both
    /// lags behind. Actions that were decided and not [begun](Self::began) begin now.
    pub fn at(&self, now: Moment, rollout: &Rollout, draws: &Draws, runs: u32) -> Forecast {
        self.ahead(now, &self.live(now, rollout), draws, runs)
    }

    /// The same from where `live` stands.
    fn ahead(&self, now: Moment, live: &Machine, draws: &Draws, runs: u32) -> Forecast {
        let mut seen = self.seen.clone();
        for (&id, &(phase, since)) in &self.running {
            let running = self.seen(id, phase, now.since(since), true);
            seen[self.key_of[self.place(id, phase)]].extend(running);
        }
        let (tails, levels) = self.levels(&seen);
        let in_work = (0..live.targets()).filter_map(|target| match live.state(target) {
            State::Running(phase) => {
                let known = self.running.get(&target).filter(|it| it.0 == phase);
                Some((target, phase, known.map_or(now, |(_, since)| *since)))
            }
            _ => None,
        });
        let in_work: Vec<(u32, Phase, Moment)> = in_work.collect();
        let start = self.started.unwrap_or(now);
        let ends = samples(runs, |run| {
            let mut machine = live.clone();
            let drawn = drawn(tails, &levels, draws, run);
            let in_work: Vec<Step> = in_work
                .iter()
                .map(|&(target, phase, begin)| {
                    let length = self.rest(&drawn, now.since(begin), draws, run, target, phase);
                    let end = (begin + length).max(now);
                    Step {
                        target,
                        phase,
                        begin,
                        end,
                    }
                })
                .collect();
            let lasts = |machine: &Machine, target: u32, phase: Phase| {
                self.lasts(machine, &drawn, draws, run, target, phase)
            };
            let steps = play(&mut machine, now, &in_work, lasts, |_, _| {});
            self.ends(&machine, &steps, start)
        });
        self.forecast(ends, start, tails, &levels)
    }

    /// The machine of `rollout` at `now`, with what had lagged behind, and nothing
    /// that waits to be begun: all that is decided is running.
    fn live(&self, now: Moment, rollout: &Rollout) -> Machine {
        let mut machine = rollout.machine().clone();
        if *machine.mode() == Mode::Idle {
            machine.start();
        }
        machine.advance(now);
        for (id, budget) in (0..).zip(&self.budgets.budgets) {
            if machine.allowed(id) < budget.steady {
                machine.budget_seen(id, budget.steady);
            }
        }
        for &node in &self.budgets.asking {
            machine.consent_missing(node, true);
        }
        while machine.pop().is_some() {}
        machine
    }

    /// What is believed after `seen`, by key, under each tail, and how likely that is.
    fn levels(&self, seen: &[Vec<Seen>]) -> (Weights, [Levels; Tail::EACH.len()]) {
        let zones = self.zones.count();
        let levels = Tail::EACH.map(|tail| Levels::given(&self.priors, seen, zones, tail));
        let evidence = levels.each_ref().map(|levels| levels.evidence);
        (self.tails.given(evidence), levels)
    }

    /// What an action tells of others: nothing where only seconds were expected, which
    /// tell of the pause between two looks.
    fn seen(&self, id: u32, phase: Phase, took: Duration, is_censored: bool) -> Option<Seen> {
        let expected = self.expected[self.place(id, phase)];
        let least = if is_censored {
            Duration::ZERO
        } else {
            expected / LEAST_PART
        };
        let took = took.max(least);
        let sample = Sample::new(took, expected, is_censored).filter(|_| expected >= TELLING)?;
        let zone = self.zones.of_target(id);
        Some(Seen { zone, sample })
    }

    fn lasts(
        &self,
        machine: &Machine,
        drawn: &Drawn,
        draws: &Draws,
        run: u32,
        target: u32,
        phase: Phase,
    ) -> Lasts {
        let zone = self.zones.of_target(target);
        let length = |phase: Phase| {
            let at = self.place(target, phase);
            let ratio = drawn.ratio(self.key_of[at], zone, draws, [run.into(), at as u64, 0]);
            times(self.expected[at], ratio)
        };
        // One that the plan has behind a replacement, and that has found no place there,
        // gets its new machine in its upgrade.
        let alone = |slot: u32| self.has_surge(target) && !machine.is_behind_replacement(slot);
        let is_made_late = phase == Phase::Upgrade && machine.slot_of(target).is_some_and(alone);
        let made = match is_made_late {
            true => length(Phase::Provision),
            false => Duration::ZERO,
        };
        Lasts {
            length: length(phase).saturating_add(made),
            rank: 0,
        }
    }

    /// Whether `target` may go behind a replacement.
    fn has_surge(&self, target: u32) -> bool {
        self.place(target, Phase::Provision) < self.expected.len()
    }

    fn place(&self, target: u32, phase: Phase) -> usize {
        place(self.machine.targets(), target, phase)
    }

    /// The whole length of what has run for `elapsed` and not ended.
    fn rest(
        &self,
        drawn: &Drawn,
        elapsed: Duration,
        draws: &Draws,
        run: u32,
        target: u32,
        phase: Phase,
    ) -> Duration {
        let at = self.place(target, phase);
        let (key, expected) = (self.key_of[at], self.expected[at]);
        let level = drawn.level(key, self.zones.of_target(target));
        let log_ratio = (elapsed.as_secs_f64() / expected.as_secs_f64()).ln();
        let (least, sigma) = (log_ratio - level, drawn.sigma(key));
        // Nothing is left to chance where σ is 0, and no ratio has no logarithm.
        let luck = (least / sigma).clamp(-FAR, FAR);
        let luck = if luck.is_nan() { -FAR } else { luck };
        let luck = draws.luck_beyond(drawn.tail, luck, [run.into(), at as u64, 0]);
        let most = STUCK.max(least + std::f64::consts::LN_2);
        times(expected, (level + (sigma * luck).min(most)).exp()).max(elapsed)
    }

    /// Where a sample ended, of which `machine` is what became and `steps` what it did.
    fn ends(&self, machine: &Machine, steps: &[Step], start: Moment) -> Ends {
        let mut last = vec![Duration::ZERO; self.keys.len()];
        for step in steps {
            let key = self.key_of[self.place(step.target, step.phase)];
            last[key] = last[key].max(step.end.since(start));
        }
        Ends {
            last,
            is_unended: *machine.mode() != Mode::Finished,
        }
    }

    fn forecast(
        &self,
        sampled: Vec<Ends>,
        start: Moment,
        tails: Weights,
        levels: &[Levels; Tail::EACH.len()],
    ) -> Forecast {
        let mut makespans = Vec::new();
        let mut ends: BTreeMap<&TargetKind, Vec<Duration>> = BTreeMap::new();
        let mut unended = 0;
        for sample in sampled {
            unended += u32::from(sample.is_unended);
            makespans.push(sample.last.iter().copied().max().unwrap_or_default());
            let mut by_kind: BTreeMap<&TargetKind, Duration> = BTreeMap::new();
            for ((kind, _), end) in self.keys.iter().zip(&sample.last) {
                let latest = by_kind.entry(kind).or_default();
                *latest = (*latest).max(*end);
            }
            for (kind, end) in by_kind {
                ends.entry(kind).or_default().push(end);
            }
        }
        // What each key was expected to take, and what it does.
        let mut work = vec![(Duration::ZERO, 0.0); self.keys.len()];
        for (at, expected) in self.expected.iter().enumerate() {
            let target = match at.checked_sub(self.machine.targets() as usize * PHASES) {
                None => at / PHASES,
                Some(target) => target,
            };
            let (key, zone) = (self.key_of[at], self.zones.of_target(target as u32));
            let (sum, takes) = &mut work[key];
            let ratio = tails.mean(levels.each_ref().map(|it| it.level(key, zone).exp()));
            *sum = sum.saturating_add(*expected);
            *takes += expected.as_secs_f64() * ratio;
        }
        let paces = self.keys.iter().zip(work);
        let paces = paces.filter(|(_, (work, _))| !work.is_zero());
        Forecast {
            start,
            unended,
            makespan: Quantiles::of(makespans),
            ends: ends
                .into_iter()
                .map(|(kind, ends)| (kind.clone(), Quantiles::of(ends)))
                .collect(),
            planned: self.plan.makespan(),
            paces: paces
                .map(|((kind, phase), (work, takes))| {
                    (kind.clone(), *phase, takes / work.as_secs_f64(), work)
                })
                .collect(),
        }
    }
}

const ALL: [Phase; PHASES] = [
    Phase::Drain,
    Phase::Upgrade,
    Phase::Verify,
    Phase::Confirm,
    Phase::BackUp,
];

/// Levels of sample `run`: of a tail that is as likely as it is.
fn drawn(tails: Weights, levels: &[Levels; Tail::EACH.len()], draws: &Draws, run: u32) -> Drawn {
    let uniform = draws.uniform([run.into(), u64::MAX, u64::MAX]);
    levels[tails.pick(uniform)].draw(draws, run)
}

/// Where `phase` of one of so many targets is in flat arrays.
fn place(targets: u32, target: u32, phase: Phase) -> usize {
    match ALL.iter().position(|it| *it == phase) {
        Some(phase) => target as usize * PHASES + phase,
        None => targets as usize * PHASES + target as usize,
    }
}

/// Whole milliseconds, as moments are.
fn times(expected: Duration, ratio: f64) -> Duration {
    // A cast saturates, and what is no number is nothing.
    Duration::from_millis((expected.as_millis() as f64 * ratio).round() as u64)
}
