//! Plans of large clusters beside their lower bounds.

use std::collections::BTreeMap;

use migrate_core::IntOrPercent;
use migrate_core::cost::BoundKind;
use migrate_quality::instance::{Instance, Setting};
use migrate_quality::statistics::Distribution;

const SIZES: [usize; 3] = [1000, 2000, 5000];

pub(crate) fn compare(of_each: u64, is_trial: bool) {
    println!("\nseed,nodes,width,canary,fill,assumed,bottleneck,makespan,bound,ratio,improved");
    let mut ratios: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let mut better = ratios.clone();
    let sizes = if is_trial { &[50][..] } else { &SIZES[..] };
    for &nodes in sizes {
        for seed in 1..=of_each {
            let setting = Setting::large(nodes, seed);
            let instance = Instance::new(&setting, seed).without_capacity();
            let planner = instance.planner().with_model_hash("000000000000");
            let plan = planner.plan().unwrap();
            let bounds = plan.bounds.as_ref().unwrap();
            let best = bounds.best().unwrap();
            let kind = match best.kind {
                BoundKind::Slots { .. } => "slots",
                BoundKind::Budget { .. } => "budget",
                BoundKind::Node { .. } => "node",
                _ => "other",
            };
            let (makespan, bound) = (plan.makespan().as_secs(), best.time.as_secs());
            let ratio = makespan as f64 / bound.max(1) as f64;
            // So many rounds of more nodes take minutes.
            let improved = (nodes <= SIZES[0]).then(|| {
                let plan = planner.clone().with_improvement(300).plan().unwrap();
                plan.makespan().as_secs_f64() / bound.max(1) as f64
            });
            let shown = improved.map_or_else(String::new, |ratio| format!("{ratio:.4}"));
            println!(
                "{seed},{nodes},{},{},{},{},{kind},{makespan},{bound},{ratio:.4},{shown}",
                percent(setting.width),
                setting.canary,
                setting.fill,
                percent(setting.assumed),
            );
            ratios.entry((nodes, kind)).or_default().push(ratio);
            if let Some(ratio) = improved {
                let kind = match kind {
                    "slots" => "slots, 300 rounds",
                    _ => "others, 300 rounds",
                };
                better.entry((nodes, kind)).or_default().push(ratio);
            }
        }
    }
    println!("\n| nodes, what decides | n | mean | P50 | P90 | P95 | P99 | worst |");
    println!("|---|---|---|---|---|---|---|---|");
    for ((nodes, kind), ratios) in ratios.iter().chain(&better) {
        println!(
            "| {nodes}, {kind} | {} |",
            Distribution::new(ratios.iter().copied())
        );
    }
    let all = Distribution::new(ratios.into_values().flatten());
    println!("| all | {all} |");
    println!("figure quality_large_ratio_mean {:.4} ratio", all.mean());
    println!("figure quality_large_ratio_worst {:.4} ratio", all.worst());
}

fn percent(value: IntOrPercent) -> String {
    match value {
        IntOrPercent::Percent(percent) => format!("{percent}%"),
        IntOrPercent::Int(nodes) => nodes.to_string(),
    }
}
