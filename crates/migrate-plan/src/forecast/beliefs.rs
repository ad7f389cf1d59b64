//! What is believed of each kind of target and phase.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::{Belief, Sample, Tail};
use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Phase, Plan};
use serde::Serialize;

use super::history::{End, History, Lasted};
use super::levels::Levels;
use super::tails::Weights;
use crate::{Measured, TargetKind};

/// ln of a range that public sources give, read as P10 to P90, over the width of
/// that range in standard deviations.
const P10_TO_P90: f64 = 2.563;
/// Between clusters: a node takes 4 to 5 minutes on GKE and 8 to 12 on Huawei
/// CCE: ln(12 / 4) / 2.563 = 0.43 = √(0.35² + 0.25²), of which the second is
/// assumed to remain between runs on one cluster.
const POOL: f64 = 0.35;
const RUN: f64 = 0.25;
/// Assumed: of all actions one in a hundred is stuck, a prior of fifty actions.
const STUCK: (f64, f64) = (0.5, 50.0);

type Key = (TargetKind, Phase);
/// Samples by group and run.
type Groups<'h, K> = BTreeMap<K, BTreeMap<&'h str, Vec<Sample>>>;

/// How durations lie around what a plan predicts, by kind of target and phase.
///
/// With few or no runs in the history a pool goes by all workers, and these by
/// public figures (`docs/time.md` names the source of each).
#[derive(Clone, Debug)]
pub struct Beliefs {
    prior: fn(&TargetKind, Phase) -> Belief,
    learned: BTreeMap<Key, Belief>,
    /// Of all workers.
    workers: BTreeMap<Phase, Belief>,
    /// How likely each tail of single actions is.
    tails: Weights,
    /// By kind and phase: how many were stuck, and of how many.
    stuck: BTreeMap<Key, (u32, u32)>,
}

/// How likely actions of one kind are to be stuck: to need a person, however long one
/// waits. No part of any duration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// Of which targets.
    pub of: TargetKind,
    /// Which phase.
    pub phase: Phase,
    /// Of each of them, from 0 to 1.
    pub probability: f64,
    /// How many the plan has.
    pub actions: u32,
}

impl Default for Beliefs {
    fn default() -> Self {
        Self::with(public)
    }
}

impl Beliefs {
    pub(super) fn with(prior: fn(&TargetKind, Phase) -> Belief) -> Self {
        Self {
            prior,
            learned: BTreeMap::new(),
            workers: BTreeMap::new(),
            tails: Weights::default(),
            stuck: BTreeMap::new(),
        }
    }

    /// Everything lasts as long as the plan predicts.
    pub fn certain() -> Self {
        Self::with(|_, _| Belief::CERTAIN)
    }

    /// What is believed where the plan was made with `measured`
    /// ([`Planner::with_measured`](crate::Planner::with_measured)): durations lie around
    /// what it predicts from that, and less far where an earlier run was measured. A
    /// mean counts as one sample, whatever it is of: it tells nothing of how they differ.
    #[must_use]
    pub fn measured(measured: &Measured) -> Self {
        let rows = measured.phases.iter().map(|row| {
            let mean = row.total_millis.div_ceil(row.targets.get().into());
            let mean = Duration::from_millis(mean);
            Lasted::new("", row.of.clone(), row.phase, mean, mean, End::Took)
        });
        let mut beliefs = Self::learned(&History {
            lines: rows.collect(),
        });
        // A mean says nothing of what did not end.
        beliefs.stuck.clear();
        // One value is exactly at its own level, which would make actions seem alike.
        beliefs.tails = Weights::default();
        let prior = beliefs.prior;
        for ((kind, phase), belief) in &mut beliefs.learned {
            belief.sigma = prior(kind, *phase).sigma;
        }
        for (phase, belief) in &mut beliefs.workers {
            belief.sigma = of_workers(prior, *phase).sigma;
        }
        beliefs
    }

    /// What is believed after the runs of `history`.
    ///
    /// Of each run and key the level xᵣ and its variance vᵣ follow from its
    /// samples alone; then, with m the level of all workers (of the prior, for
    /// these and for what is no worker), the level is
    /// (m/0.35² + Σ xᵣ/(0.25² + vᵣ)) / (1/0.35² + Σ 1/(0.25² + vᵣ)), and the next run
    /// lies around it by what is left of the first variance and 0.25². All this is done
    /// under each [`Tail`], and the means count, by how well each explains the samples.
    #[must_use]
    pub fn learned(history: &History) -> Self {
        let mut beliefs = Self::default();
        let mut groups: Groups<'_, Key> = BTreeMap::new();
        let mut workers: Groups<'_, Phase> = BTreeMap::new();
        for line in &history.lines {
            let key = (line.of.clone(), line.phase);
            let (stuck, of) = beliefs.stuck.entry(key.clone()).or_default();
            *stuck += u32::from(line.end == End::Stuck);
            *of += 1;
            let Some(sample) = Lasted::sample(line) else {
                continue;
            };
            if is_worker(&line.of) {
                let runs = workers.entry(line.phase).or_default();
                runs.entry(&line.run).or_default().push(sample);
            }
            let runs = groups.entry(key).or_default();
            runs.entry(&line.run).or_default().push(sample);
        }
        let prior = beliefs.prior;
        let of_each = Tail::EACH.map(|tail| {
            let (workers, _) = under(tail, &workers, |phase| of_workers(prior, *phase));
            let lent = |(kind, phase): &Key| match workers.get(phase) {
                Some(belief) if is_worker(kind) => *belief,
                _ => prior(kind, *phase),
            };
            let (learned, evidence) = under(tail, &groups, lent);
            (workers, learned, evidence)
        });
        let evidence = of_each.each_ref().map(|(_, _, evidence)| *evidence);
        beliefs.tails = beliefs.tails.given(evidence);
        let tails = beliefs.tails;
        beliefs.workers = tails.mean_of(of_each.each_ref().map(|(workers, _, _)| workers));
        beliefs.learned = tails.mean_of(of_each.each_ref().map(|(_, learned, _)| learned));
        beliefs
    }

    /// What is believed of `phase` of targets of `kind`.
    pub fn of(&self, kind: &TargetKind, phase: Phase) -> Belief {
        let own = self.learned.get(&(kind.clone(), phase)).copied();
        let workers = || {
            self.workers
                .get(&phase)
                .filter(|_| is_worker(kind))
                .copied()
        };
        let prior = || (self.prior)(kind, phase);
        own.or_else(workers).unwrap_or_else(prior)
    }

    /// How likely each tail of single actions is.
    pub(super) const fn tails(&self) -> Weights {
        self.tails
    }

    /// How likely an action is to be stuck, so that it needs a person. Never a part
    /// of a duration.
    pub fn stuck(&self, kind: &TargetKind, phase: Phase) -> f64 {
        let seen = self.stuck.get(&(kind.clone(), phase)).copied();
        let (stuck, of) = seen.unwrap_or_default();
        (STUCK.0 + f64::from(stuck)) / (STUCK.1 + f64::from(of))
    }

    /// How likely the actions of `plan` are to be stuck, by kind and phase; only those of
    /// which earlier runs had some.
    pub fn stuck_in(&self, plan: &Plan) -> Vec<Stuck> {
        let mut actions: BTreeMap<Key, u32> = BTreeMap::new();
        for action in &plan.schedule {
            if let Some(kind) = TargetKind::of(&action.target) {
                *actions.entry((kind, action.phase)).or_default() += 1;
            }
        }
        let actions = actions.into_iter();
        let known = actions.filter(|(key, _)| self.stuck.contains_key(key));
        let stuck = known.map(|((of, phase), actions)| Stuck {
            probability: self.stuck(&of, phase),
            of,
            phase,
            actions,
        });
        stuck.collect()
    }
}

fn is_worker(kind: &TargetKind) -> bool {
    matches!(kind, TargetKind::Nodes { pool } if pool != CONTROL_PLANE_POOL)
}

/// The prior of what workers have in common.
fn of_workers(prior: fn(&TargetKind, Phase) -> Belief, phase: Phase) -> Belief {
    let pool = String::new();
    prior(&TargetKind::Nodes { pool }, phase)
}

/// What is believed of each group of runs under `tail`, and how likely they are.
fn under<K: Clone + Ord>(
    tail: Tail,
    groups: &Groups<'_, K>,
    prior: impl Fn(&K) -> Belief,
) -> (BTreeMap<K, Belief>, f64) {
    let mut all = 0.0;
    let beliefs = groups.iter().map(|(key, runs)| {
        let (belief, evidence) = over_runs(tail, prior(key), runs);
        all += evidence;
        (key.clone(), belief)
    });
    (beliefs.collect(), all)
}

fn over_runs(tail: Tail, prior: Belief, runs: &BTreeMap<&str, Vec<Sample>>) -> (Belief, f64) {
    let mut precision = 1.0 / (POOL * POOL);
    let mut sum = prior.mean * precision;
    let (mut sigma, mut all) = (prior.sigma, 0.0);
    for samples in runs.values() {
        let before = Belief::new(prior.mean, prior.sd, sigma);
        let (alone, evidence) = Levels::alone(before, samples, tail);
        let weight = 1.0 / (RUN * RUN + alone.sd * alone.sd);
        sigma = alone.sigma;
        all += evidence;
        precision += weight;
        sum += alone.mean * weight;
    }
    let belief = Belief::new(sum / precision, (1.0 / precision + RUN * RUN).sqrt(), sigma);
    (belief, all)
}

/// Priors from public figures.
fn public(kind: &TargetKind, phase: Phase) -> Belief {
    let sigma = match (kind, phase) {
        // A control plane on Huawei CCE: 10 to 30 minutes. Addons and backups:
        // nobody publishes figures, taken to be like it.
        (TargetKind::Members | TargetKind::Addons | TargetKind::Backup, _) => (30f64 / 10.0).ln(),
        // Images of 500 MB over 100 Mb/s: 30 to 90 seconds, the widest part of it.
        (_, Phase::Drain) => (90f64 / 30.0).ln(),
        // A machine that an autoscaler makes alone: 30 seconds; of a scaling group: 2 minutes.
        (_, Phase::Provision) => (120f64 / 30.0).ln(),
        // A reboot in a cloud (OpenShift): 1 to 2 minutes. Verification: taken to
        // be like it.
        _ => 2f64.ln(),
    };
    Belief::new(0.0, POOL.hypot(RUN), sigma / P10_TO_P90)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How likely the normal tail is after five runs, where of each so many actions
    /// one takes eight times as long.
    fn normal(late: u64) -> f64 {
        let kind = TargetKind::Nodes {
            pool: "general".to_owned(),
        };
        let expected = Duration::from_secs(100);
        let lines = (0..200).map(|action| {
            let seconds = 80 + 10 * (action % 5);
            let times = if action % late == late - 1 { 8 } else { 1 };
            let took = Duration::from_secs(seconds * times);
            let run = (action / 40).to_string();
            Lasted::new(
                &run,
                kind.clone(),
                Phase::Upgrade,
                took,
                expected,
                End::Took,
            )
        });
        let history = History {
            lines: lines.collect(),
        };
        Beliefs::learned(&history).tails().mean([1.0, 0.0, 0.0])
    }

    #[test]
    fn earlier_runs_tell_how_heavy_the_tails_are() {
        let (calm, spiky) = (normal(1000), normal(8));
        assert!(calm > 0.9 && spiky < 0.1, "{calm} {spiky}");
    }
}
