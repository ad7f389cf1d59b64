//! A plan that was damaged, or edited by somebody who meant ill: an error or findings,
//! never a panic, and it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use migrate_core::cost::{Bytes, BytesPerSecond, Draws, Link};
use migrate_core::model::Resources;
use migrate_core::{ClusterModel, IntOrPercent, Plan, Policy};
use migrate_plan::{
    Beliefs, BudgetTable, DiffTable, Error, Forecaster, History, Input, Measured, PlanDiff,
    PlanMermaid, PlanPage, PlanTable, PlanTimeline, Planner, Rollout, Waves, budget_uses, lint,
    plan_from_json, plan_to_json, rehearse,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::furnished::furnished;
use support::scenario::planner;
use support::strategy::{config, scenario, surging};
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
        // What fails is small anyway.
        max_shrink_iters: 40,
        ..config(5)
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

/// What a planner is told besides cluster and policy, as it is written down.
fn told_of(plan: &Plan, model: &ClusterModel) -> Value {
    let link = |name: &str, bytes: u64| {
        let link = Link::new(name, BytesPerSecond(7)).with_per_node(Bytes(bytes));
        link.with_per_pod(Bytes(bytes / 90))
    };
    let links = [link("registry", 900), link("packages", 400)];
    let actions = plan.schedule.iter().map(|it| {
        let took = it.end.saturating_sub(it.start);
        (it.target.clone(), it.phase, took * 3 / 2)
    });
    let measured = Measured::of_run(model.taken_at, actions);
    let history = History::of_run(plan, &measured);
    json!({ "links": links, "measured": measured, "history": history.lines })
}

const YEAR: Duration = Duration::from_secs(31_536_000);

/// What one action took at most, or all of a phase together.
fn longest(measured: &Measured) -> Duration {
    let actions = measured.actions.iter().map(|it| it.millis);
    let phases = measured.phases.iter().map(|it| it.total_millis);
    Duration::from_millis(actions.chain(phases).max().unwrap_or(0))
}

/// Plans, lints and forecasts by whatever of `told` can be read; gives whether all could, and
/// was planned by.
fn planned_by(told: &Value, model: &ClusterModel, policy: &Policy) -> bool {
    let links: Result<Vec<Link>, _> = serde_json::from_value(told["links"].clone());
    let measured = Measured::from_json(&told["measured"].to_string());
    let lines = told["history"].as_array().into_iter().flatten();
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let history = History::from_text(&text);
    let all_read = links.is_ok() && measured.is_ok() && history.is_ok();
    // Each window that passes is looked at, which nobody's years are worth.
    let is_short = |link: &Link| link.latency.max(link.time(1, 1_000).unwrap_or(YEAR)) < YEAR;
    let are_short =
        links.iter().flatten().all(is_short) && measured.iter().all(|it| longest(it) < YEAR);
    if !policy.rollout.windows.is_empty() && !are_short {
        return false;
    }
    let mut planner = Planner::new(model, policy, version(NEW)).with_destinations();
    for link in links.into_iter().flatten() {
        planner = planner.with_link(link);
    }
    if let Ok(measured) = &measured {
        planner = planner.with_measured(measured);
    }
    let beliefs = match &history {
        Ok(history) => Beliefs::learned(history),
        Err(_) => Beliefs::default(),
    };
    let plan = match planner.with_beliefs(&beliefs).plan() {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let _ = lint(&plan, model, policy);
    let texts = [
        PlanTable::new(&plan).to_string(),
        PlanTimeline::new(&plan)
            .with_cluster(model, policy)
            .to_string(),
    ];
    assert!(texts.iter().all(|text| !text.is_empty()));
    let measured = measured.unwrap_or_default();
    assert!(rehearse(model, policy, &plan, &measured).is_ok());
    for beliefs in [beliefs, Beliefs::measured(&measured)] {
        let forecaster = Forecaster::new(model, policy, &plan, &beliefs).unwrap();
        let _ = forecaster.before_start(&Draws::new(0), 1);
    }
    all_read
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 40,
        ..config(10)
    })]

    #[test]
    fn damaged_links_durations_and_histories_are_refused_or_planned_by(
        scenario in prop_oneof![scenario(), surging()],
        seed in any::<u64>(),
        damages in 1..6usize,
    ) {
        let (model, policy) = furnished(&scenario);
        let plan = planner(&scenario, &model, &policy, None).plan().unwrap();
        let mut told = told_of(&plan, &model);
        prop_assert!(planned_by(&told, &model, &policy), "{told}");
        let mut random = Random(seed);
        for _ in 0..damages {
            damage(&mut told, &mut random);
            let _ = planned_by(&told, &model, &policy);
        }
    }

    /// Of a cluster in which room is scarce, whatever is made of it.
    #[test]
    fn damaged_rooms_are_refused_or_told(seed in any::<u64>(), damages in 1..12usize) {
        let (model, policy) = crowded();
        let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
        prop_assert_eq!(plan.rooms.len(), 1);
        let whole: Value = serde_json::from_str(&plan_to_json(&plan).unwrap()).unwrap();
        let mut random = Random(seed);
        let mut rooms = whole["rooms"].clone();
        for _ in 0..damages {
            damage(&mut rooms, &mut random);
            let mut json = whole.clone();
            json["rooms"] = rooms.clone();
            match plan_from_json(&json.to_string()) {
                Ok(damaged) => all_of_it(&damaged, &plan, &model, &policy),
                Err(error) => prop_assert!(matches!(error, Error::Document(_)), "{error}"),
            }
        }
    }
}

/// Ten nodes of 4 CPU, with pods that leave room for three of them to be away, of the five
/// that may be.
fn crowded() -> (ClusterModel, Policy) {
    let names: Vec<String> = (1..=10).map(|node| format!("general-{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cluster = support::Cluster::new().member("m").pool("general", 10);
    let mut model = cluster.deployment("web", &names).build();
    for node in &mut model.nodes {
        node.allocatable = Resources::new(4_000, 1 << 34, 100);
    }
    for pod in &mut model.pods {
        pod.requests = Resources::new(2_700, 1 << 20, 1);
    }
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(5);
    (model, policy)
}

/// Numbers at the ends of their types.
#[test]
fn rooms_with_the_least_and_the_most_numbers_end() {
    let (model, policy) = crowded();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    for number in [0, 1, u64::MAX] {
        let mut other = plan.clone();
        other.rooms[0].spare = number;
        all_of_it(&other, &plan, &model, &policy);
        let offers = other.rooms[0].offers.values_mut();
        offers.for_each(|offer| *offer = number);
        all_of_it(&other, &plan, &model, &policy);
        other.rooms[0].spare = u64::MAX - number;
        // The same resource twice, and one that nobody has.
        other.rooms.push(other.rooms[0].clone());
        other.rooms[1].resource = "example.com/none".to_owned();
        all_of_it(&other, &plan, &model, &policy);
        other.rooms[1] = other.rooms[0].clone();
        all_of_it(&other, &plan, &model, &policy);
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
