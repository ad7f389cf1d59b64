//! Plans of 10 to 40 nodes beside what an exact solver finds.

use std::ops::Range;
use std::time::Duration;

use migrate_core::IntOrPercent;
use migrate_core::cost::BoundKind;
use migrate_quality::instance::{Instance, Setting};
use migrate_quality::problem::{Problem, replay};
use migrate_quality::statistics::Distribution;

use crate::exact::{Answer, solve};

/// Rounds of improvement whose plan the solver begins with: what it cannot make
/// shorter in its time is the best known.
const LONG: u32 = 20_000;

/// What one instance showed.
struct Outcome {
    /// Planned over best known.
    gap: f64,
    /// The same after few and after more rounds of improvement.
    few: f64,
    more: f64,
    /// Best known over the planner's best bound.
    bound: f64,
    is_proven: bool,
    is_slots: bool,
    /// The plan has rooms.
    is_scarce: bool,
    /// The solver's order run by the machine, over the solver's makespan.
    replayed: f64,
}

/// Whether nodes say what they offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Capacity {
    Unknown,
    Known,
}

impl Capacity {
    fn of(self, instance: Instance) -> Instance {
        match self {
            Self::Unknown => instance.without_capacity(),
            Self::Known => instance,
        }
    }

    /// How its figures begin.
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "quality_small",
            Self::Known => "quality_small_room",
        }
    }
}

pub(crate) fn compare(seeds: Range<u64>, seconds: u64, capacity: Capacity) {
    if seeds.is_empty() {
        return;
    }
    println!("\ncapacity: {capacity:?}");
    println!(
        "seed,nodes,pools,width,canary,budgets,bottleneck,planned,few,more,best,proven,bound,replayed,rooms"
    );
    let limit = Duration::from_secs(seconds);
    let outcomes: Vec<Outcome> = seeds.map(|seed| one(seed, limit, capacity)).collect();
    let table = |name: &str, of: &dyn Fn(&Outcome) -> Option<f64>| {
        println!(
            "| {name} | {} |",
            Distribution::new(outcomes.iter().filter_map(of))
        );
    };
    println!("\n| ratio | n | mean | P50 | P90 | P95 | P99 | worst |");
    println!("|---|---|---|---|---|---|---|---|");
    table("plan / best known, all", &|it| Some(it.gap));
    table("plan / proven optimum", &|it| {
        it.is_proven.then_some(it.gap)
    });
    table("plan / best known, not proven", &|it| {
        (!it.is_proven).then_some(it.gap)
    });
    table("plan / best known, slots decide", &|it| {
        it.is_slots.then_some(it.gap)
    });
    table("plan / best known, others decide", &|it| {
        (!it.is_slots).then_some(it.gap)
    });
    table("100 rounds / best known, all", &|it| Some(it.few));
    table("1,000 rounds / best known, all", &|it| Some(it.more));
    table("1,000 rounds / proven optimum", &|it| {
        it.is_proven.then_some(it.more)
    });
    table("best known / best bound", &|it| Some(it.bound));
    table("machine in the solver's order / solver", &|it| {
        Some(it.replayed)
    });
    table("plan / best known, room is scarce", &|it| {
        it.is_scarce.then_some(it.gap)
    });
    table("1,000 rounds / best known, room is scarce", &|it| {
        it.is_scarce.then_some(it.more)
    });
    let name = capacity.name();
    let gaps = Distribution::new(outcomes.iter().map(|it| 100.0 * (it.gap - 1.0)));
    println!("figure {name}_gap_mean {:.2} percent", gaps.mean());
    println!("figure {name}_gap_worst {:.2} percent", gaps.worst());
    let gaps = Distribution::new(outcomes.iter().map(|it| 100.0 * (it.more - 1.0)));
    println!("figure {name}_improved_gap_mean {:.2} percent", gaps.mean());
    println!(
        "figure {name}_improved_gap_worst {:.2} percent",
        gaps.worst()
    );
    let proven = outcomes.iter().filter(|it| it.is_proven).count();
    println!("figure {name}_proven {proven} instances");
    let at_best = outcomes.iter().filter(|it| it.gap <= 1.0).count();
    println!("figure {name}_at_best {at_best} instances");
}

fn one(seed: u64, limit: Duration, capacity: Capacity) -> Outcome {
    let setting = Setting::small(seed);
    let instance = capacity.of(Instance::new(&setting, seed));
    let (model, policy) = (&instance.model, &instance.policy);
    let plan = instance.plan().unwrap();
    let problem = Problem::new(model, policy, &plan).unwrap();
    let planned = problem.starts(&plan);
    assert_eq!(
        problem.check(&planned),
        Ok(()),
        "seed {seed}: the plan itself"
    );
    let known = problem.makespan(&planned);
    let improved = |rounds| {
        let plan = instance.planner().with_improvement(rounds).plan().unwrap();
        let starts = problem.starts(&plan);
        assert_eq!(
            problem.check(&starts),
            Ok(()),
            "seed {seed}: {rounds} rounds"
        );
        (problem.makespan(&starts), starts)
    };
    let ((few, _), (more, _), (long, begin)) = (improved(100), improved(1000), improved(LONG));
    assert!(
        few <= known && more <= few && long <= more,
        "seed {seed}: longer by improvement"
    );
    let (solved, is_optimal) = match solve(&problem, &begin, limit) {
        Answer::Optimal(starts) => (starts, true),
        Answer::Best(starts) => (starts, false),
        Answer::Contradiction => panic!("seed {seed}: the solver says the plan cannot be"),
    };
    assert_eq!(
        problem.check(&solved),
        Ok(()),
        "seed {seed}: the solver's schedule"
    );
    let scheduled = problem.scheduled(&plan, &solved);
    let found = migrate_plan::lint(&scheduled, model, policy);
    assert!(
        found.iter().all(|finding| !finding.blocks()),
        "seed {seed}: {found:?}"
    );
    let again = replay(&problem, model, policy, &plan, &problem.order(&solved)).unwrap();
    assert_eq!(
        problem.check(&again.starts),
        Ok(()),
        "seed {seed}: the replay"
    );
    let solver = problem.makespan(&solved);
    let best = solver.min(again.makespan);
    assert!(
        !is_optimal || best == solver,
        "seed {seed}: {best} beats an optimum of {solver}"
    );
    let limits = plan.bounds.as_ref().unwrap();
    let bottleneck = limits.best().unwrap();
    let bound = bottleneck.time.as_millis() as i64 - problem.before;
    assert!(
        bound <= best,
        "seed {seed}: a bound of {bound} over a schedule of {best}"
    );
    let is_proven = is_optimal || bound == best;
    let is_slots = matches!(bottleneck.kind, BoundKind::Slots { .. });
    let width = match setting.width {
        IntOrPercent::Percent(percent) => format!("{percent}%"),
        IntOrPercent::Int(nodes) => nodes.to_string(),
    };
    let proven = match (is_optimal, is_proven) {
        (true, _) => "solver",
        (false, true) => "bound",
        _ => "no",
    };
    let kind = match bottleneck.kind {
        BoundKind::Slots { .. } => "slots",
        BoundKind::Budget { .. } => "budget",
        BoundKind::Capacity { .. } => "capacity",
        BoundKind::Node { .. } => "node",
        _ => "other",
    };
    println!(
        "{seed},{},{},{width},{},{},{kind},{known},{few},{more},{best},{proven},{bound},{},{}",
        problem.tasks.len(),
        problem.pools.len(),
        setting.canary,
        problem.budgets.len(),
        again.makespan,
        problem.rooms.len(),
    );
    let over = |time: i64, other: i64| time as f64 / other.max(1) as f64;
    Outcome {
        gap: over(known, best),
        few: over(few, best),
        more: over(more, best),
        bound: over(best, bound),
        is_proven,
        is_slots,
        replayed: over(again.makespan, solver),
        is_scarce: !problem.rooms.is_empty(),
    }
}
