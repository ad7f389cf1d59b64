//! What has to be left of a window for targets to begin in it: P95 of what they take.

use std::time::Duration;

use migrate_core::Phase;
use migrate_core::cost::{Belief, Draws, Tail};
use rustc_hash::FxHashMap;

use super::levels::Levels;
use super::outlook::rank;
use super::{Beliefs, drawn};
use crate::TargetKind;

/// Sampled runs: P95 is the 950th, and where that lies has a deviation of 0.7 points.
const RUNS: u32 = 1_000;
/// The same in every plan, so that a plan made anew has the same lengths.
const DRAWS: Draws = Draws::new(1);

/// What the drain, the change (or the backup) and the verification of a target are predicted
/// to take; nothing for what it has not.
pub(crate) type Phases = [Duration; PHASES];
const PHASES: usize = 3;

/// What targets need of a window: what is predicted for them, or P95 of what they may take
/// where something is believed of that, if it is more. Schedules are made of predictions,
/// and what begins in one has to end in its window.
#[derive(Debug)]
pub(crate) struct Needs<'p> {
    beliefs: Option<&'p Beliefs>,
    /// Nodes of a pool, one for all pools that are believed to be alike.
    sampled: Vec<Sampled>,
    /// Which of them, by pool and by whether a node is in a zone.
    of_pool: FxHashMap<(&'p str, bool), usize>,
    known: FxHashMap<(usize, Phases), Duration>,
}

impl<'p> Needs<'p> {
    pub(crate) fn new(beliefs: Option<&'p Beliefs>) -> Self {
        Self {
            beliefs,
            sampled: Vec::new(),
            of_pool: FxHashMap::default(),
            known: FxHashMap::default(),
        }
    }

    /// Of a node of `pool`; zones have levels of their own.
    pub(crate) fn of_node(&mut self, pool: &'p str, in_zone: bool, predicted: Phases) -> Duration {
        let Some(beliefs) = self.beliefs else {
            return sum(&[predicted]);
        };
        let sampled = &mut self.sampled;
        let of_pool = self.of_pool.entry((pool, in_zone));
        let at = *of_pool.or_insert_with(|| {
            let pool = pool.to_owned();
            let kind = TargetKind::Nodes { pool };
            let priors = priors(beliefs, &kind);
            let is_it = |it: &Sampled| it.priors == priors && it.in_zone == in_zone;
            sampled.iter().position(is_it).unwrap_or_else(|| {
                sampled.push(Sampled::new(beliefs, &[&kind], in_zone));
                sampled.len() - 1
            })
        });
        let known = self.known.entry((at, predicted));
        *known.or_insert_with(|| self.sampled[at].p95(&[predicted]))
    }

    /// Of targets that go one after the other, and of which one begins only if those after it
    /// may follow: by how much each lengthens what is left. What is left is always P95 of a
    /// whole, and no sum of quantiles.
    pub(crate) fn in_a_row(&self, targets: &[(TargetKind, Phases)]) -> Vec<Duration> {
        // From the last on, so that what is left needs the same when others are done.
        let kinds: Vec<&TargetKind> = targets.iter().rev().map(|(kind, _)| kind).collect();
        let sampled = self
            .beliefs
            .map(|beliefs| Sampled::new(beliefs, &kinds, false));
        let (mut left, mut before) = (Vec::new(), Duration::ZERO);
        let lengths = targets.iter().rev().map(|(_, predicted)| {
            left.push(*predicted);
            let all = match &sampled {
                Some(sampled) => sampled.p95(&left),
                None => sum(&left),
            };
            all.saturating_sub(std::mem::replace(&mut before, all))
        });
        let mut lengths: Vec<Duration> = lengths.collect();
        lengths.reverse();
        lengths
    }
}

/// Some targets one after the other in sampled runs, as forecasts before the start have them.
#[derive(Debug)]
struct Sampled {
    /// Of each phase of each kind.
    priors: Vec<Belief>,
    in_zone: bool,
    /// By target and phase, then by run: what it takes of what is predicted.
    ratios: Vec<Vec<f64>>,
}

impl Sampled {
    fn new(beliefs: &Beliefs, targets: &[&TargetKind], in_zone: bool) -> Self {
        let mut kinds: Vec<&TargetKind> = Vec::new();
        for kind in targets {
            if !kinds.contains(kind) {
                kinds.push(kind);
            }
        }
        let of_kinds = kinds.iter().flat_map(|kind| priors(beliefs, kind));
        let priors: Vec<Belief> = of_kinds.collect();
        let nothing = vec![Vec::new(); priors.len()];
        let levels = Tail::EACH.map(|tail| Levels::given(&priors, &nothing, 1, tail));
        let keys = targets.iter().flat_map(|kind| {
            let of_kind = kinds.iter().position(|it| it == kind).unwrap_or_default();
            (0..PHASES).map(move |phase| of_kind * PHASES + phase)
        });
        let keys: Vec<usize> = keys.collect();
        let mut ratios = vec![Vec::new(); keys.len()];
        for run in 0..RUNS {
            let drawn = drawn(beliefs.tails(), &levels, &DRAWS, run);
            for (at, (key, ratios)) in (0..).zip(keys.iter().zip(&mut ratios)) {
                let zone = in_zone.then_some(0);
                ratios.push(drawn.ratio(*key, zone, &DRAWS, [run.into(), at, 0]));
            }
        }
        Self {
            priors,
            in_zone,
            ratios,
        }
    }

    /// P95 of what the first targets take together, which are predicted to take so long each;
    /// no less than all that.
    fn p95(&self, predicted: &[Phases]) -> Duration {
        let mut sums = vec![0.0; RUNS as usize];
        for (ratios, predicted) in self.ratios.iter().zip(predicted.iter().flatten()) {
            let millis = predicted.as_millis() as f64;
            for (sum, ratio) in sums.iter_mut().zip(ratios) {
                *sum += millis * ratio;
            }
        }
        let rank = rank(sums.len(), 95);
        let (_, p95, _) = sums.select_nth_unstable_by(rank, f64::total_cmp);
        // A cast saturates, and what is no number is nothing.
        Duration::from_millis(p95.ceil() as u64).max(sum(predicted))
    }
}

/// What is believed of each of [`Phases`].
fn priors(beliefs: &Beliefs, kind: &TargetKind) -> [Belief; PHASES] {
    let change = match kind {
        TargetKind::Backup => Phase::BackUp,
        _ => Phase::Upgrade,
    };
    [Phase::Drain, change, Phase::Verify].map(|phase| beliefs.of(kind, phase))
}

fn sum(targets: &[Phases]) -> Duration {
    let phases = targets.iter().flatten();
    phases.fold(Duration::ZERO, |sum, phase| sum.saturating_add(*phase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Public figures, so many per cent as wide.
    fn public<const WIDTH: u32>(kind: &TargetKind, phase: Phase) -> Belief {
        let Belief { sd, sigma, .. } = Beliefs::default().of(kind, phase);
        let times = f64::from(WIDTH) / 100.0;
        Belief::new(0.0, sd * times, sigma * times)
    }

    fn widths() -> [Beliefs; 6] {
        [
            Beliefs::with(public::<0>),
            Beliefs::with(public::<10>),
            Beliefs::with(public::<50>),
            Beliefs::with(public::<100>),
            Beliefs::with(public::<150>),
            Beliefs::with(public::<200>),
        ]
    }

    fn phases() -> impl Strategy<Value = Phases> {
        let seconds = prop_oneof![Just(0), 0..2_000u64];
        [seconds.clone(), seconds.clone(), seconds].prop_map(|it| it.map(Duration::from_secs))
    }

    fn of_node(beliefs: &Beliefs, in_zone: bool, predicted: Phases) -> Duration {
        Needs::new(Some(beliefs)).of_node("general", in_zone, predicted)
    }

    /// What is left, from the last on.
    fn left(beliefs: Option<&Beliefs>, targets: &[(TargetKind, Phases)]) -> Vec<Duration> {
        let lengths = Needs::new(beliefs).in_a_row(targets);
        let left = lengths.iter().rev().scan(Duration::ZERO, |left, length| {
            *left += *length;
            Some(*left)
        });
        left.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Each sample of an unbiased belief is convex in its width, and the predicted
        /// length where that is 0: what exceeds that only grows.
        #[test]
        fn wider_beliefs_need_no_less(
            node in phases(),
            in_zone in any::<bool>(),
            tasks in prop::collection::vec(phases(), 0..3),
            member in phases(),
            members in 1..4usize,
        ) {
            let tasks = tasks.into_iter().map(|phases| (TargetKind::Addons, phases));
            let members = vec![(TargetKind::Members, member); members];
            let row: Vec<_> = tasks.chain(members).collect();
            let mut narrower = (sum(&[node]), left(None, &row));
            for (at, beliefs) in widths().iter().enumerate() {
                let wider = (of_node(beliefs, in_zone, node), left(Some(beliefs), &row));
                prop_assert!(wider.0 >= narrower.0, "{:?} {:?}", wider, narrower);
                let mut each = wider.1.iter().zip(&narrower.1);
                prop_assert!(each.all(|(a, b)| a >= b), "{:?} {:?}", wider, narrower);
                // Nothing uncertain, nothing to wait for.
                prop_assert!(at > 0 || wider == narrower, "{:?} {:?}", wider, narrower);
                narrower = wider;
            }
        }
    }

    const NODE: Phases = [
        Duration::from_secs(50),
        Duration::from_secs(240),
        Duration::from_secs(60),
    ];

    #[test]
    fn a_zone_is_one_doubt_more_and_pools_alike_are_sampled_once() {
        let beliefs = Beliefs::default();
        let mut needs = Needs::new(Some(&beliefs));
        let [one, zoned] = [false, true].map(|in_zone| needs.of_node("one", in_zone, NODE));
        assert!(zoned > one && one > sum(&[NODE]), "{zoned:?} {one:?}");
        assert_eq!(needs.of_node("two", true, NODE), zoned);
        assert_eq!(needs.sampled.len(), 2);
    }

    /// Those who share a level share its doubt, and not their luck.
    #[test]
    fn what_goes_in_a_row_needs_less_than_its_quantiles_together() {
        let beliefs = Beliefs::default();
        let members = vec![(TargetKind::Members, NODE); 3];
        let left = left(Some(&beliefs), &members);
        let of_one = left[0];
        assert!(left[2] < of_one * 3 * 19 / 20, "{left:?}");
        assert!(left[2] > sum(&[NODE; 3]), "{left:?}");
        // When the first is done, the others need what they needed before.
        let lengths = Needs::new(Some(&beliefs)).in_a_row(&members);
        let of_two = Needs::new(Some(&beliefs)).in_a_row(&members[1..]);
        assert_eq!(lengths[1..], of_two);
    }
}
