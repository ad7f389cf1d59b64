//! What is believed of each kind of target and phase.

use std::collections::BTreeMap;

use migrate_core::Phase;
use migrate_core::cost::{Belief, Sample};
use migrate_core::policy::CONTROL_PLANE_POOL;

use super::history::{End, History, Lasted};
use crate::TargetKind;

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
    /// By kind and phase: how many were stuck, and of how many.
    stuck: BTreeMap<Key, (u32, u32)>,
}

impl Default for Beliefs {
    fn default() -> Self {
        Self::with(public)
    }
}

impl Beliefs {
    fn with(prior: fn(&TargetKind, Phase) -> Belief) -> Self {
        Self {
            prior,
            learned: BTreeMap::new(),
            workers: BTreeMap::new(),
            stuck: BTreeMap::new(),
        }
    }

    /// Everything lasts as long as the plan predicts.
    pub fn certain() -> Self {
        Self::with(|_, _| Belief::CERTAIN)
    }

    /// What is believed after the runs of `history`.
    ///
    /// Of each run and key the level xᵣ and its variance vᵣ follow from its
    /// samples alone; then, with m the level of all workers (of the prior, for
    /// these and for what is no worker), the level is
    /// (m/0.35² + Σ xᵣ/(0.25² + vᵣ)) / (1/0.35² + Σ 1/(0.25² + vᵣ)), and the next run
    /// lies around it by what is left of the first variance and 0.25².
    #[must_use]
    pub fn learned(history: &History) -> Self {
        let mut beliefs = Self::default();
        let mut groups: BTreeMap<Key, BTreeMap<&str, Vec<Sample>>> = BTreeMap::new();
        let mut workers: BTreeMap<Phase, BTreeMap<&str, Vec<Sample>>> = BTreeMap::new();
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
        for (phase, runs) in workers {
            let pool = String::new();
            let prior = (beliefs.prior)(&TargetKind::Nodes { pool }, phase);
            beliefs.workers.insert(phase, over_runs(prior, &runs));
        }
        for (key, runs) in groups {
            let prior = beliefs.of(&key.0, key.1);
            beliefs.learned.insert(key, over_runs(prior, &runs));
        }
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

    /// How likely an action is to be stuck, so that it needs a person. Never a part
    /// of a duration.
    pub fn stuck(&self, kind: &TargetKind, phase: Phase) -> f64 {
        let seen = self.stuck.get(&(kind.clone(), phase)).copied();
        let (stuck, of) = seen.unwrap_or_default();
        (STUCK.0 + f64::from(stuck)) / (STUCK.1 + f64::from(of))
    }
}

fn is_worker(kind: &TargetKind) -> bool {
    matches!(kind, TargetKind::Nodes { pool } if pool != CONTROL_PLANE_POOL)
}

fn over_runs(prior: Belief, runs: &BTreeMap<&str, Vec<Sample>>) -> Belief {
    let mut precision = 1.0 / (POOL * POOL);
    let mut sum = prior.mean * precision;
    let mut sigma = prior.sigma;
    for samples in runs.values() {
        // So wide that the samples alone decide.
        let alone = Belief::new(prior.mean, 10.0, sigma).given(samples);
        let weight = 1.0 / (RUN * RUN + alone.sd * alone.sd);
        sigma = alone.sigma;
        precision += weight;
        sum += alone.mean * weight;
    }
    Belief::new(sum / precision, (1.0 / precision + RUN * RUN).sqrt(), sigma)
}

/// Priors from public figures.
fn public(kind: &TargetKind, phase: Phase) -> Belief {
    let sigma = match (kind, phase) {
        // A control plane on Huawei CCE: 10 to 30 minutes. Addons and backups:
        // nobody publishes figures, taken to be like it.
        (TargetKind::Members | TargetKind::Addons | TargetKind::Backup, _) => (30f64 / 10.0).ln(),
        // Images of 500 MB over 100 Mb/s: 30 to 90 seconds, the widest part of it.
        (_, Phase::Drain) => (90f64 / 30.0).ln(),
        // A reboot in a cloud (OpenShift): 1 to 2 minutes. Verification: taken to
        // be like it.
        _ => 2f64.ln(),
    };
    Belief::new(0.0, POOL.hypot(RUN), sigma / P10_TO_P90)
}
