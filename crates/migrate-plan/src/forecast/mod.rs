//! How long a rollout takes, with its uncertainty: the machine run many times on
//! sampled durations, before the start and from where it stands.

mod beliefs;
mod history;
mod outlook;
mod shared;

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::{Belief, Draws, Sample};
use migrate_core::{Action, ClusterModel, Moment, Phase, Plan, Policy};

pub use beliefs::Beliefs;
pub use history::{End, HISTORY_SCHEMA, History, Lasted};
pub use outlook::{Forecast, Outlook, Quantiles};

use crate::intern::Interned;
use crate::machine::{Machine, Mode, State};
use crate::planner::{Lasts, Step, play, simulate, target_of};
use crate::rollout::checked_spec;
use crate::{Error, Rollout, TargetKind};

/// Phases of one target, for flat arrays.
const PHASES: usize = 5;
/// Of the variance of a run's level, the share that all its phases have in common:
/// a slow cluster is slow in everything. Assumed.
const COMMON: f64 = 0.5;

/// Forecasts one rollout: before it starts, and while it runs, from what it is
/// told of actions that began and ended.
///
/// # Guarantees
/// - Pure, and the same for the same seed and the same calls.
/// - Every sample is a run of the machine that decides: quantiles are of
///   makespans, never sums of quantiles.
/// - With [`Beliefs::certain`] every quantile is the plan's makespan (for a plan
///   whose schedule has all its targets).
///
/// # Caveats
/// Failures, retries and stuck actions are not sampled.
#[derive(Debug)]
pub struct Forecaster<'a> {
    model: &'a ClusterModel,
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
    /// By key: what has ended.
    samples: Vec<Vec<Sample>>,
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
        let spec = checked_spec(plan, model, policy)?;
        let budgets = Interned::new(model, policy);
        let machine = Machine::new(&spec, &budgets);
        let targets: Vec<_> = (0..machine.targets())
            .map(|it| target_of(plan, it))
            .collect();
        let ids = targets.iter().map(ToString::to_string).zip(0..);
        let ids: BTreeMap<String, u32> = ids.collect();
        let mut expected = vec![Duration::ZERO; targets.len() * PHASES];
        for action in &plan.schedule {
            if let Some(&id) = ids.get(&action.target.to_string()) {
                let length = action.end.saturating_sub(action.start);
                expected[place(id, action.phase)] = length;
            }
        }
        let mut key_ids: BTreeMap<(TargetKind, Phase), usize> = BTreeMap::new();
        let mut keys = Vec::new();
        let mut key_of = vec![0; expected.len()];
        for (id, target) in (0..).zip(&targets) {
            for phase in ALL {
                let kind = TargetKind::of(target).unwrap_or(TargetKind::Addons);
                let key = (kind, phase);
                key_of[place(id, phase)] = *key_ids.entry(key.clone()).or_insert_with(|| {
                    keys.push(key);
                    keys.len() - 1
                });
            }
        }
        Ok(Self {
            model,
            plan,
            machine,
            budgets,
            expected,
            key_of,
            priors: keys
                .iter()
                .map(|(kind, phase)| beliefs.of(kind, *phase))
                .collect(),
            samples: vec![Vec::new(); keys.len()],
            keys,
            running: BTreeMap::new(),
            ids,
            started: None,
        })
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
            let sample = self.sample(id, phase, at.since(since), !succeeded);
            self.samples[self.key_of[place(id, phase)]].extend(sample);
        }
    }

    /// The forecast before the start, from `runs` samples (at least one).
    pub fn before_start(&self, draws: &Draws, runs: u32) -> Forecast {
        let start = self.model.taken_at;
        let common = vec![COMMON; self.keys.len()];
        let sampled = (0..runs.max(1)).map(|run| {
            let mut machine = self.machine.clone();
            let level = self.levels(&common, draws, run);
            let lasts = |_: &Machine, target: u32, phase: Phase| {
                self.lasts(&self.priors, &level, draws, run, target, phase)
            };
            simulate(
                &mut machine,
                start,
                self.model,
                &self.budgets,
                lasts,
                |_, _| {},
            )
        });
        self.forecast(sampled, start, self.priors.clone())
    }

    /// The forecast at `now`, from where `rollout` stands; it changes nothing there.
    pub fn at(&self, now: Moment, rollout: &Rollout, draws: &Draws, runs: u32) -> Forecast {
        let (beliefs, common) = self.corrected(now);
        let live = rollout.machine();
        let sampled = (0..runs.max(1)).map(|run| {
            let mut machine = live.clone();
            let level = self.levels(&common, draws, run);
            let in_work = self
                .running
                .iter()
                .filter(|(id, (phase, _))| live.state(**id) == State::Running(*phase));
            let in_work: Vec<Step> = in_work
                .map(|(&target, &(phase, begin))| {
                    let at = place(target, phase);
                    let (belief, level) = (beliefs[self.key_of[at]], level[self.key_of[at]]);
                    let length = self.rest(&belief, level, now.since(begin), draws, run, at);
                    let end = (begin + length).max(now);
                    Step {
                        target,
                        phase,
                        begin,
                        end,
                    }
                })
                .collect();
            if *machine.mode() == Mode::Idle {
                machine.start();
            }
            machine.advance(now);
            let lasts = |_: &Machine, target: u32, phase: Phase| {
                self.lasts(&beliefs, &level, draws, run, target, phase)
            };
            play(&mut machine, now, &in_work, self.model, lasts, |_, _| {})
        });
        self.forecast(sampled, self.started.unwrap_or(now), beliefs.clone())
    }

    /// What is believed at `now`: what has ended, and what has run for long already;
    /// and by key the share of the doubt about its level that all keys have in common.
    fn corrected(&self, now: Moment) -> (Vec<Belief>, Vec<f64>) {
        let mut samples = self.samples.clone();
        for (&id, &(phase, since)) in &self.running {
            let sample = self.sample(id, phase, now.since(since), true);
            samples[self.key_of[place(id, phase)]].extend(sample);
        }
        let others = shared::told_by_others(&self.priors, &samples, COMMON);
        let keys = self.priors.iter().zip(&samples).zip(others);
        keys.map(|((prior, samples), told)| {
            let own = 1.0 - COMMON;
            let belief = Belief::new(
                prior.mean + prior.sd * told.mean,
                prior.sd * (own + told.variance).sqrt(),
                prior.sigma,
            );
            (belief.given(samples), told.variance / (own + told.variance))
        })
        .unzip()
    }

    fn sample(&self, id: u32, phase: Phase, took: Duration, is_censored: bool) -> Option<Sample> {
        Sample::new(took, self.expected[place(id, phase)], is_censored)
    }

    /// Where the level of each key lies in sample `run`; `shares` of its doubt are common
    /// to all.
    fn levels(&self, shares: &[f64], draws: &Draws, run: u32) -> Vec<f64> {
        let common = draws.normal([run.into(), u64::MAX, 0]);
        let keys = shares.iter().zip(1..);
        keys.map(|(share, key)| {
            let own = draws.normal([run.into(), u64::MAX, key]);
            common * share.sqrt() + own * (1.0 - share).sqrt()
        })
        .collect()
    }

    fn lasts(
        &self,
        beliefs: &[Belief],
        level: &[f64],
        draws: &Draws,
        run: u32,
        target: u32,
        phase: Phase,
    ) -> Lasts {
        let at = place(target, phase);
        let key = self.key_of[at];
        let luck = draws.normal([run.into(), at as u64, 0]);
        Lasts {
            length: times(self.expected[at], beliefs[key].ratio(level[key], luck)),
            rank: 0,
        }
    }

    /// The whole length of what has run for `elapsed` and not ended.
    fn rest(
        &self,
        belief: &Belief,
        level: f64,
        elapsed: Duration,
        draws: &Draws,
        run: u32,
        at: usize,
    ) -> Duration {
        let expected = self.expected[at];
        let log_ratio = (elapsed.as_secs_f64() / expected.as_secs_f64()).ln();
        let least = belief.luck_at(level, log_ratio).clamp(-8.0, f64::MAX);
        let least = if least.is_nan() { -8.0 } else { least };
        let luck = draws.normal_beyond(least, [run.into(), at as u64, 0]);
        times(expected, belief.ratio(level, luck)).max(elapsed)
    }

    fn forecast(
        &self,
        sampled: impl Iterator<Item = Vec<Step>>,
        start: Moment,
        beliefs: Vec<Belief>,
    ) -> Forecast {
        let mut makespans = Vec::new();
        let mut ends: BTreeMap<&TargetKind, Vec<Duration>> = BTreeMap::new();
        let mut last = vec![Duration::ZERO; self.keys.len()];
        for steps in sampled {
            last.fill(Duration::ZERO);
            for step in &steps {
                let key = self.key_of[place(step.target, step.phase)];
                last[key] = last[key].max(step.end.since(start));
            }
            makespans.push(last.iter().copied().max().unwrap_or_default());
            let mut by_kind: BTreeMap<&TargetKind, Duration> = BTreeMap::new();
            for ((kind, _), end) in self.keys.iter().zip(&last) {
                let latest = by_kind.entry(kind).or_default();
                *latest = (*latest).max(*end);
            }
            for (kind, end) in by_kind {
                ends.entry(kind).or_default().push(end);
            }
        }
        let mut work = vec![Duration::ZERO; self.keys.len()];
        for (at, expected) in self.expected.iter().enumerate() {
            let sum = &mut work[self.key_of[at]];
            *sum = sum.saturating_add(*expected);
        }
        let paces = self.keys.iter().zip(beliefs).zip(work);
        let paces = paces.filter(|(_, work)| !work.is_zero());
        Forecast {
            makespan: Quantiles::of(makespans),
            ends: ends
                .into_iter()
                .map(|(kind, ends)| (kind.clone(), Quantiles::of(ends)))
                .collect(),
            planned: self.plan.makespan(),
            paces: paces
                .map(|(((kind, phase), belief), work)| {
                    (kind.clone(), *phase, belief.mean.exp(), work)
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

fn place(target: u32, phase: Phase) -> usize {
    let phase = ALL.iter().position(|it| *it == phase).unwrap_or_default();
    target as usize * PHASES + phase
}

/// Whole milliseconds, as moments are.
fn times(expected: Duration, ratio: f64) -> Duration {
    // A cast saturates, and what is no number is nothing.
    Duration::from_millis((expected.as_millis() as f64 * ratio).round() as u64)
}
