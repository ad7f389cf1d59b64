//! A plan that was damaged, or edited by somebody who meant ill: an error or findings,
//! never a panic, and it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{ClusterModel, Plan, Policy};
use migrate_plan::{
    Beliefs, BudgetTable, DiffTable, Error, Forecaster, Input, Measured, PlanDiff, PlanMermaid,
    PlanPage, PlanTable, PlanTimeline, Planner, Rollout, Waves, budget_uses, lint, plan_from_json,
    plan_to_json, rehearse,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::furnished::furnished;
use support::scenario::planner;
use support::strategy::{cases, scenario, surging};
use support::{NEW, Random, version};

/// Numbers, and what is taken for one.
fn number(random: &mut Random) -> Value {
    let numbers = [
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(0.5),
        json!(u32::MAX),
        json!(u64::from(u32::MAX) + 1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(u64::MAX / 2),
        json!(f64::MAX),
        json!("NaN"),
        json!("1e400"),
        Value::Null,
    ];
    numbers[random.below(numbers.len() as u64) as usize].clone()
}

/// Where each value of `json` is.
fn places(json: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match json {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                places(value, &format!("{place}/{at}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{place}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// One thing in `json` is lost, there twice, in another's place, or another.
fn damage(json: &mut Value, random: &mut Random) {
    let mut all = Vec::new();
    places(json, "", &mut all);
    let mut any = || all[random.below(all.len() as u64) as usize].clone();
    let (place, other) = (any(), any());
    let elsewhere = json.pointer(&other).cloned().unwrap_or_default();
    let id = json["id"].clone();
    let Some(value) = json.pointer_mut(&place) else {
        return;
    };
    match value {
        Value::Array(values) if !values.is_empty() => {
            let (at, to) = (
                random.below(values.len() as u64) as usize,
                random.below(values.len() as u64) as usize,
            );
            match random.below(5) {
                0 => drop(values.remove(at)),
                1 => {
                    let again = values[at].clone();
                    values.insert(to, again);
                }
                2 => values.swap(at, to),
                3 => values[at] = elsewhere,
                _ => values.clear(),
            }
        }
        Value::Object(fields) => {
            let fields: &mut Map<String, Value> = fields;
            let name = fields
                .keys()
                .nth(random.below(fields.len().max(1) as u64) as usize);
            if let Some(name) = name.cloned() {
                match random.percent(50) {
                    true => drop(fields.remove(&name)),
                    false => drop(fields.insert(name, elsewhere)),
                }
            }
        }
        Value::Number(_) => *value = number(random),
        Value::Bool(is) => *is = !*is,
        Value::String(text) => match random.below(6) {
            0 => text.clear(),
            1 => *text = "nobody".into(),
            2 => *text = "x".repeat(3_000),
            3 => *value = id,
            4 => *value = number(random),
            _ => *value = elsewhere,
        },
        _ => *value = elsewhere,
    }
}

/// All that is made of a plan that was read.
fn all_of_it(plan: &Plan, other: &Plan, model: &ClusterModel, policy: &Policy) {
    let found = lint(plan, model, policy);
    assert_eq!(found, lint(plan, model, policy));
    let planner = Planner::new(model, policy, version(NEW));
    if let Ok(replan) = planner.replan(plan) {
        let _ = lint(&replan.plan, model, policy);
    }
    let _ = planner.predict(plan).map(|predicted| {
        predicted.map(|predicted| assert_eq!(predicted.identity(), plan.identity()))
    });
    let _ = planner.replacing(plan).plan().map(|plan| plan.revision);
    if let Some(bounds) = &plan.bounds {
        let _ = (bounds.best(), bounds.limits.len());
    }
    let waves = Waves::new(plan, model, policy);
    let _ = lint(&waves.as_plan(plan), model, policy);
    let uses = budget_uses(plan, model, policy);
    let diff = PlanDiff::between(other, plan);
    let timeline = PlanTimeline::new(plan).with_cluster(model, policy);
    let page = PlanPage::new(plan)
        .with_cluster(model, policy)
        .with_findings(&found);
    let texts = [
        PlanTable::new(plan).to_string(),
        BudgetTable::new(&uses).to_string(),
        waves.to_string(),
        DiffTable::new(&diff).to_string(),
        timeline.to_string(),
        PlanMermaid::new(plan).to_string(),
        page.to_string(),
    ];
    assert!(texts.iter().all(|text| text.len() < 20_000_000));
    let edited = plan.clone().edited();
    assert_eq!(edited.id, edited.identity());
    let beliefs = Beliefs::default();
    match Rollout::new(plan, model, policy) {
        Ok(mut rollout) => {
            rollout.handle(model.taken_at, &Input::Started);
            // Each window in between is looked at.
            let later = model.taken_at + Duration::from_secs(3 * 86_400);
            for at in [model.taken_at, later] {
                let _ = (rollout.waiting(), rollout.standings(), rollout.wake_at());
                while rollout.poll(at).is_some() {}
            }
            assert!(rehearse(model, policy, plan, &Measured::default()).is_ok());
            let forecaster = Forecaster::new(model, policy, plan, &beliefs).unwrap();
            let _ = forecaster.before_start(&Draws::new(0), 1);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(rehearse(model, policy, plan, &Measured::default()).is_err());
            assert!(Forecaster::new(model, policy, plan, &beliefs).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases().div_ceil(5),
        // What fails is small anyway.
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_damaged_plan_is_refused_or_told(
        scenario in prop_oneof![scenario(), surging()],
        seed in any::<u64>(),
        damages in 1..12usize,
    ) {
        let (model, policy) = furnished(&scenario);
        let plan = planner(&scenario, &model, &policy, None).with_destinations().plan().unwrap();
        let mut json: Value = serde_json::from_str(&plan_to_json(&plan).unwrap()).unwrap();
        let mut random = Random(seed);
        for _ in 0..damages {
            damage(&mut json, &mut random);
            match plan_from_json(&json.to_string()) {
                Ok(damaged) => all_of_it(&damaged, &plan, &model, &policy),
                Err(error) => prop_assert!(matches!(error, Error::Document(_)), "{error}"),
            }
        }
    }
}

/// A plan that says to be its own parent.
#[test]
fn a_plan_in_a_circle_of_parents_is_only_edited() {
    let model = support::Cluster::new()
        .member("m")
        .pool("general", 2)
        .build();
    let policy = Policy::default();
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    plan.parent = Some(plan.id.clone());
    let codes: Vec<_> = lint(&plan, &model, &policy)
        .into_iter()
        .map(|f| f.code)
        .collect();
    assert_eq!(codes, ["KM-LINT-002"]);
    all_of_it(&plan, &plan, &model, &policy);
}

/// Windows are looked at one by one, and what lasts for ever would pass without end.
#[test]
fn what_lasts_for_ever_is_shown_and_ends() {
    let nodes = support::Cluster::new().member("m").pool("general", 3);
    let model = nodes.deployment("web", &["general-1", "general-2"]).build();
    let mut policy = Policy::default();
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "11:00"}]"#).unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let for_ever = Duration::from_millis(u64::MAX);
    let mut lasting = plan.clone();
    lasting.schedule.last_mut().unwrap().end = for_ever;
    let mut long = plan.clone();
    long.slots
        .iter_mut()
        .for_each(|slot| slot.length = for_ever);
    long.control_plane[0].length = for_ever;
    let mut late = plan.clone();
    for action in late.schedule.iter_mut().rev().take(3) {
        (action.start, action.end) = (for_ever, for_ever);
    }
    for damaged in [lasting, long, late] {
        all_of_it(&damaged, &plan, &model, &policy);
    }
}
