//! What people see of a plan.

mod diff;
mod page;
mod text;

use std::time::Duration;

use migrate_core::{BudgetKey, Policy, Target};
use migrate_plan::{BudgetTable, Gate, Planner, Quantiles, Waves, budget_uses};

use crate::support::{NEW, version};
use crate::{plan, small};

#[test]
fn budgets_say_what_is_taken_of_them() {
    let model = small().build();
    let policy = Policy::default();
    let plan = plan(&model);
    let uses = budget_uses(&plan, &model, &policy);
    let web = uses
        .iter()
        .find(|of| of.budget == BudgetKey::real("shop", "web"))
        .unwrap();
    // On the first three nodes, one at a time.
    let numbers = (web.allowed, web.most_held, web.drains, web.pods);
    assert_eq!(numbers, (1, 1, 3, 3));
    let drains = crate::drains(&plan).into_iter();
    let of_web = drains.filter(|(start, _)| *start >= Duration::from_secs(22 * 60));
    let longest = of_web.map(|(start, end)| end - start).max().unwrap();
    assert!(web.busy > longest * 2 && web.busy <= longest * 3, "{web:?}");
    assert_eq!(web.full, web.busy);
    // The one pod of `single` has no budget, `api` an assumed one.
    assert_eq!(uses.len(), 2, "{uses:?}");
    let table = BudgetTable::new(&uses).with_rows(1).to_string();
    assert!(table.contains("PodDisruptionBudget shop/web"), "{table}");
    assert!(table.ends_with("... and 1 more\n"), "{table}");
}

#[test]
fn waves_have_a_gate_after_each_and_a_price() {
    let model = small().build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "3".parse().unwrap();
    policy.rollout.canary_soak = Duration::from_secs(600);
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let waves = Waves::new(&plan, &model, &policy);
    let what: Vec<String> = waves.waves.iter().map(|wave| wave.what()).collect();
    assert_eq!(
        what,
        [
            "control plane control-plane-1",
            "control plane control-plane-2",
            "node control-plane-1",
            "node control-plane-2",
            "second backup",
            // The canaries.
            "2: node general-1, node batch-2",
            // web keeps the second and the third apart, api the third and the fourth.
            "3: node general-2, node general-4, node batch-1",
            "node general-3",
        ]
    );
    let gates: Vec<&Gate> = waves.waves.iter().map(|wave| &wave.gate).collect();
    assert_eq!(gates[0], &Gate::Settled);
    assert_eq!(gates[4], &Gate::Done);
    assert!(matches!(gates[5], Gate::Soaked { .. }));
    let ends = waves.waves.windows(2);
    assert!(ends.into_iter().all(|pair| pair[0].end <= pair[1].start));
    assert!(waves.barrier >= plan.makespan());
    let text = waves.to_string();
    assert!(text.ends_with(" times as long\n"), "{text}");
}

#[test]
fn a_wave_waits_for_a_window_that_is_long_enough() {
    let model = small().build();
    let mut policy = Policy::default();
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "09:20"}]"#).unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let waves = Waves::new(&plan, &model, &policy);
    let cut = waves.as_plan(&plan);
    assert_eq!(migrate_plan::lint(&cut, &model, &policy), []);
    assert!(waves.barrier > Duration::from_secs(2 * 86_400));
}

#[test]
fn what_never_begins_is_in_no_wave() {
    let model = small().node("general-2", |node| node.ready = false).build();
    let policy = Policy::default();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let waves = Waves::new(&plan, &model, &policy);
    let mut targets = waves.waves.iter().flat_map(|wave| &wave.targets);
    assert!(!targets.any(|target: &Target| target.name() == "general-2"));
}

/// 50, 60 and 75 minutes.
fn forecast() -> Quantiles {
    let minutes = |of: u64| Duration::from_secs(60 * of);
    let mut forecast = Quantiles::default();
    (forecast.p50, forecast.p80, forecast.p95) = (minutes(50), minutes(60), minutes(75));
    forecast
}
