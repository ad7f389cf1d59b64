//! What actions really take: nothing here is read from the model of time.

use std::collections::BTreeMap;

use migrate_core::cost::Belief;
use migrate_core::{Action, Phase, Target};
use migrate_plan::{Beliefs, TargetKind};
use migrate_quality::random::Random;

/// Of the deviation of a cluster's and of a run's level; their squares add up to that
/// of the priors.
const CLUSTER: f64 = 0.35;
const RUN: f64 = 0.25;
/// Actions of one kind and phase around their level, where the truth is another than
/// what is believed.
const SPREAD: f64 = 0.35;

/// How the truth differs from what the forecasts take for granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// Not at all: a control.
    Believed,
    /// Everything takes a third longer in the median, and each kind and phase its own.
    Shifted,
    /// A drawn level, and around it Student's t with three degrees of freedom.
    Heavy,
    /// One zone of three is 1.6 times as slow in all that it does.
    Zones,
    /// The last three at once.
    All,
    /// Held out: one action in twelve takes three times as long.
    Outliers,
    /// Held out: what an action takes beyond its least is exponential.
    Skewed,
    /// Held out: each zone has a level of its own, and σ differs by kind and phase.
    Uneven,
}

impl Family {
    /// All of them, the control first.
    pub const EACH: [Self; 5] = [
        Self::Believed,
        Self::Shifted,
        Self::Heavy,
        Self::Zones,
        Self::All,
    ];
    /// What nothing of the forecasts was chosen by.
    pub const HELD_OUT: [Self; 3] = [Self::Outliers, Self::Skewed, Self::Uneven];

    /// In figures and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Believed => "believed",
            Self::Shifted => "shifted",
            Self::Heavy => "heavy",
            Self::Zones => "zones",
            Self::All => "all",
            Self::Outliers => "outliers",
            Self::Skewed => "skewed",
            Self::Uneven => "uneven",
        }
    }

    const fn is_shifted(self) -> bool {
        matches!(self, Self::Shifted | Self::All)
    }

    const fn is_heavy(self) -> bool {
        matches!(self, Self::Heavy | Self::All)
    }

    const fn has_zones(self) -> bool {
        matches!(self, Self::Zones | Self::All)
    }
}

/// One cluster, of which each run has a level of its own.
#[derive(Clone, Debug)]
pub struct Truth {
    family: Family,
    random: Random,
    /// What all runs have in common: of everything, and of each kind and phase.
    common: f64,
    of_cluster: BTreeMap<(TargetKind, Phase), f64>,
    /// The same of this run.
    common_of_run: f64,
    of_run: BTreeMap<(TargetKind, Phase), f64>,
    /// The slow one.
    zone: usize,
    /// How uneven each kind and phase is.
    spreads: BTreeMap<(TargetKind, Phase), f64>,
    zones: [f64; 3],
}

impl Truth {
    /// The cluster of `seed`.
    pub fn new(family: Family, seed: u64) -> Self {
        let mut random = Random::stream(seed, 0x7275);
        Self {
            family,
            common: random.normal() * CLUSTER * 0.5f64.sqrt(),
            of_cluster: BTreeMap::new(),
            common_of_run: 0.0,
            of_run: BTreeMap::new(),
            zone: random.below(3),
            spreads: BTreeMap::new(),
            zones: std::array::from_fn(|_| 0.3 * random.normal()),
            random,
        }
    }

    /// The same levels, and from now on luck of its own for each `run`.
    pub fn with_luck(&self, run: u64) -> Self {
        Self {
            random: Random::stream(self.random.clone().bits(), run),
            ..self.clone()
        }
    }

    /// Another run of the same cluster begins.
    pub fn begin_run(&mut self) {
        self.common_of_run = self.random.normal() * RUN * 0.5f64.sqrt();
        self.of_run.clear();
    }

    /// What `action`, in `zone`, takes, over what was expected of it.
    pub fn ratio(&mut self, action: &Action, zone: Option<usize>) -> f64 {
        let kind = TargetKind::of(&action.target).unwrap_or(TargetKind::Addons);
        let Belief { sigma, .. } = Beliefs::default().of(&kind, action.phase);
        let key = (kind, action.phase);
        let half = 0.5f64.sqrt();
        let random = &mut self.random;
        let mut drawn = |levels: &mut BTreeMap<_, f64>, deviation: f64| {
            let level = levels.entry(key.clone());
            *level.or_insert_with(|| random.normal() * deviation * half)
        };
        let cluster = self.common + drawn(&mut self.of_cluster, CLUSTER);
        let run = self.common_of_run + drawn(&mut self.of_run, RUN);
        let shift = match self.family.is_shifted() {
            true => (4f64 / 3.0).ln(),
            false => 0.0,
        };
        let is_slow = self.family.has_zones() && zone == Some(self.zone);
        let slow = match (self.family, zone) {
            (Family::Uneven, Some(zone)) => self.zones[zone % 3],
            _ if is_slow => 1.6f64.ln(),
            _ => 0.0,
        };
        let luck = match self.family {
            Family::Believed => sigma * self.random.normal(),
            Family::Outliers => {
                let times = if self.random.chance(1.0 / 12.0) {
                    3f64
                } else {
                    1.0
                };
                times.ln() + SPREAD * self.random.normal()
            }
            Family::Skewed => (0.6 - 0.6 * (1.0 - self.random.unit()).ln()).ln(),
            Family::Uneven => {
                let random = &mut self.random;
                let spread = self
                    .spreads
                    .entry(key)
                    .or_insert_with(|| 0.1 + 0.5 * random.unit());
                *spread * self.random.normal()
            }
            _ if self.family.is_heavy() => SPREAD * self.student(),
            _ => SPREAD * self.random.normal(),
        };
        // An action that takes twenty times as long is cut off by its deadline.
        (cluster + run + shift + slow + luck).clamp(-3.0, 3.0).exp()
    }

    /// Student's t with three degrees of freedom.
    fn student(&mut self) -> f64 {
        let square = (0..3).map(|_| self.random.normal().powi(2)).sum::<f64>();
        self.random.normal() / (square / 3.0).sqrt().max(1e-6)
    }
}

/// The name of the node of a target.
pub fn node_of(target: &Target) -> Option<&str> {
    match target {
        Target::Node { .. } => Some(target.name()),
        _ => None,
    }
}
