//! A plan cut into waves, with a gate after each.

mod cut;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use migrate_core::{ClusterModel, Phase, Plan, PlannedAction, Policy, Target, listed};
use serde::Serialize;

use super::millis;
use super::text::{clock, columns};

/// How many names a wave shows.
const NAMES_SHOWN: usize = 4;

/// The same work as a plan's, in waves: everything in a wave begins together, and
/// the next one begins when all of it is done.
///
/// A view for people and for tools that need a gate between waves. A rollout does
/// not go by waves: it begins each node as soon as it may, which is what
/// [`barrier`](Self::barrier) against [`sliding`](Self::sliding) is the price of.
///
/// # What it guarantees
/// - The rules of a rollout hold: order, widths, canaries and soaks, budgets,
///   windows, tasks, the runner's node. [`as_plan`](Self::as_plan) passes
///   [`lint`](crate::lint) whenever the plan itself does (property test).
/// - What the plan never begins is in no wave.
/// - Deterministic.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Waves {
    /// In order.
    pub waves: Vec<Wave>,
    /// How long it takes in waves (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub barrier: Duration,
    /// How long the plan takes (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub sliding: Duration,
}

/// What begins together.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// From 1.
    pub number: u32,
    /// When it begins, from the start of the rollout (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub start: Duration,
    /// When the last of it is verified, before any soak (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub end: Duration,
    /// What is in it, in the order of the schedule.
    pub targets: Vec<Target>,
    /// What has to be before the next one.
    pub gate: Gate,
}

/// What has to be before the next wave begins.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    tag = "gate",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Gate {
    /// The member is verified and the cluster has settled.
    Settled,
    /// All of the wave is verified.
    Verified,
    /// The canaries are verified, have been left alone and are verified once more.
    Soaked {
        /// When, from the start of the rollout (milliseconds in JSON).
        #[serde(serialize_with = "millis::one")]
        until: Duration,
    },
    /// The task is done.
    Done,
}

impl Waves {
    /// Cuts `plan`, which was made for `model` under `policy`, into waves: each
    /// node is in the first one with room in its pool and in all budgets that its drain takes
    /// of, nodes in the order of their begins. Near linear in nodes times the waves that
    /// a budget keeps them out of.
    #[must_use]
    pub fn new(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Self {
        cut::cut(plan, model, policy)
    }

    /// The plan with the times of the waves in the place of its schedule: its
    /// phases last as long as in the plan, and start with the wave.
    pub fn as_plan(&self, plan: &Plan) -> Plan {
        let mut cut = plan.clone();
        let mut starts = BTreeMap::new();
        for wave in &self.waves {
            for target in &wave.targets {
                starts.insert(target, wave.start);
            }
        }
        let mut begins: BTreeMap<&Target, Duration> = BTreeMap::new();
        for action in &plan.schedule {
            let begin = begins.entry(&action.target).or_insert(action.start);
            *begin = action.start.min(*begin);
        }
        let moved = plan.schedule.iter().filter_map(|action| {
            let begin = *begins.get(&action.target)?;
            let start = *starts.get(&action.target)?;
            let at = |time: Duration| start.saturating_add(time.saturating_sub(begin));
            let target = action.target.clone();
            let (from, to) = (at(action.start), at(action.end));
            Some(PlannedAction::new(target, action.phase, from, to))
        });
        cut.schedule = moved.collect();
        cut.schedule
            .sort_by_key(|action| (action.start, action.phase == Phase::Confirm));
        cut
    }

    /// What the gates cost, in words.
    pub fn price(&self) -> String {
        let (barrier, sliding) = (clock(self.barrier), clock(self.sliding));
        let ratio = self.barrier.as_millis() * 100;
        let times = match ratio.checked_div(self.sliding.as_millis()) {
            Some(times) => format!(", {}.{:02} times as long", times / 100, times % 100),
            None => String::new(),
        };
        format!("{barrier} with gates against {sliding} without{times}")
    }
}

impl Wave {
    /// What is in it, in a few words.
    pub fn what(&self) -> String {
        let targets = listed(&self.targets, NAMES_SHOWN);
        match self.targets.len() {
            1 => targets,
            count => format!("{count}: {targets}"),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled => f.write_str("verified, and the cluster has settled"),
            Self::Verified => f.write_str("all verified"),
            Self::Soaked { until } => write!(
                f,
                "verified, left alone, verified once more: until {}",
                clock(*until)
            ),
            Self::Done => f.write_str("done"),
        }
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["WAVE", "BEGINS", "ENDS", "WHAT", "GATE AFTER IT"];
        let row = |wave: &Wave| {
            let number = wave.number.to_string();
            let (start, end) = (clock(wave.start), clock(wave.end));
            vec![number, start, end, wave.what(), wave.gate.to_string()]
        };
        let header = header.map(str::to_owned).to_vec();
        let rows = std::iter::once(header).chain(self.waves.iter().map(row));
        columns(f, &rows.collect::<Vec<_>>())?;
        writeln!(f, "{}", self.price())
    }
}
