//! Plans as tables, as JSON, and their identity.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{DocumentError, Phase, PlannedSlot, Policy, Target};
use migrate_plan::{Error, PlanTable, Planner, plan_from_json, plan_to_json};

use crate::support::{NEW, version};
use crate::{plan, small};

#[test]
fn the_table_of_a_small_cluster() {
    let model = small()
        .node("batch-2", |node| node.unschedulable = true)
        .build();
    let plan = plan(&model);
    // The id changes with every field of policy and model.
    let table = PlanTable::new(&plan)
        .to_string()
        .replace(&plan.id, "0123456789ab");
    let golden = include_str!("../golden/small.txt");
    assert_eq!(table, golden, "\n{table}");
    let short = PlanTable::new(&plan).with_rows(3).to_string();
    assert!(short.contains("... and 8 more"), "{short}");
}

#[test]
fn a_canary_that_soaks_says_until_when() {
    let model = small().build();
    let mut policy = Policy::default();
    policy.rollout.canary_soak = Duration::from_secs(600);
    let planner = Planner::new(&model, &policy, version(NEW));
    let plan = planner.plan().unwrap();
    let table = PlanTable::new(&plan).to_string();
    // Both canaries begin after the control plane; the longer one has pods.
    for note in [
        "canary, left alone until 0:38:54",
        "canary, left alone until 0:37:33",
    ] {
        assert!(table.contains(note), "{table}");
    }
    let confirmed = plan.schedule.iter().filter(|a| a.phase == Phase::Confirm);
    let last = confirmed.map(|action| action.end).max().unwrap();
    let is_other = |slot: &&PlannedSlot| slot.pool != "control-plane" && !slot.canary;
    for slot in plan.slots.iter().filter(is_other) {
        let of_slot = plan.schedule.iter().find(|a| a.target.name() == slot.node);
        assert!(of_slot.unwrap().start >= last, "{table}");
    }
}

#[test]
fn the_way_back_stands_under_its_target() {
    let plan = plan(&small().build());
    let plain = PlanTable::new(&plan).to_string();
    let target = Target::ControlPlane {
        member: plan.control_plane[0].name.clone(),
    };
    let undo = BTreeMap::from([(target.clone(), "POINT OF NO RETURN: ".repeat(9))]);
    let table = PlanTable::new(&plan).with_undo(&undo).to_string();
    let mut lines: Vec<&str> = table.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("POINT"))
        .unwrap();
    assert!(lines[at - 1].starts_with(&target.to_string()), "{table}");
    // However long it is, the columns stay as they are.
    lines.remove(at);
    assert_eq!(lines, plain.lines().collect::<Vec<_>>());
}

#[test]
fn json_gives_the_plan_back_and_a_newer_schema_is_refused() {
    let plan = plan(&small().build());
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
    let newer = json.replacen("\"schema\": 1", "\"schema\": 2", 1);
    let error = plan_from_json(&newer).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Document(DocumentError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{error}"
    );
    let error = plan_from_json("{}").unwrap_err();
    assert!(matches!(
        error,
        Error::Document(DocumentError::Invalid { .. })
    ));
}

#[test]
fn a_model_of_a_newer_release_is_neither_planned_for_nor_run_on() {
    let mut model = small().build();
    let policy = Policy::default();
    let plan = plan(&model);
    model.schema += 1;
    let planned = Planner::new(&model, &policy, version(NEW)).plan();
    let run = migrate_plan::Rollout::new(&plan, &model, &policy);
    for error in [planned.map(drop).unwrap_err(), run.map(drop).unwrap_err()] {
        let expected = "the cluster model has schema 2 and this release knows up to 1: use the \
                        release that wrote it, or make it anew";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn equal_input_gives_equal_bytes_and_any_change_another_id() {
    let model = small().build();
    assert_eq!(
        plan_to_json(&plan(&model)).unwrap(),
        plan_to_json(&plan(&model)).unwrap()
    );
    let first = plan(&model);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    let other = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    assert_ne!(first.id, other.id);
    let policy = Policy::default();
    let next = Planner::new(&model, &policy, version(NEW))
        .replacing(&first)
        .plan()
        .unwrap();
    assert_eq!(
        (next.parent.as_deref(), next.revision),
        (Some(first.id.as_str()), 2)
    );
    assert_ne!(first.id, next.id);
    // Predictions are not part of what a plan fixes.
    let durations = serde_json::from_str(r#"{"boot":{"secs":0,"nanos":0}}"#).unwrap();
    let faster = Planner::new(&model, &policy, version(NEW))
        .with_durations(durations)
        .plan()
        .unwrap();
    assert_eq!(first.id, faster.id);
    assert!(faster.makespan() < first.makespan());
}

/// Every schema that was ever written is read for good, and a plan keeps its
/// identity: a journal that goes on names it.
#[test]
fn a_plan_of_each_schema_is_read() {
    let fixtures = [include_str!("../golden/plan-1.json")];
    for (schema, json) in (1..).zip(fixtures) {
        let plan = plan_from_json(json).unwrap();
        assert_eq!(plan.schema, schema);
        assert_eq!(plan.id, plan.identity(), "schema {schema}");
        assert!(plan.makespan() > Duration::ZERO && plan.bounds.is_some());
        assert!(!plan.tasks.is_empty() && plan.slots.iter().any(|slot| slot.canary));
        let again = plan_to_json(&plan).unwrap();
        assert_eq!(plan_from_json(&again).unwrap(), plan);
    }
    assert_eq!(fixtures.len(), migrate_core::PLAN_SCHEMA as usize);
    // The newest is written as it was read.
    let newest = fixtures[fixtures.len() - 1];
    let plan = plan_from_json(newest).unwrap();
    assert_eq!(plan_to_json(&plan).unwrap(), newest.trim_end());
}

/// An order edited in the file is a plan of its own: nothing of it is at fault, and
/// a rollout goes by it.
#[test]
fn an_order_edited_by_hand_is_run_as_it_is() {
    let model = small().build();
    let policy = Policy::default();
    let plan = plan(&model);
    let mut file: serde_json::Value = serde_json::from_str(&plan_to_json(&plan).unwrap()).unwrap();
    let slots = file["slots"].as_array_mut().unwrap();
    let place = |slots: &[serde_json::Value], name: &str| {
        slots.iter().position(|slot| slot["node"] == name).unwrap()
    };
    let from = place(slots, "general-4");
    let last = slots.remove(from);
    let to = place(slots, "general-2");
    slots.insert(to, last);
    let read = plan_from_json(&file.to_string()).unwrap();
    let codes = |plan: &migrate_core::Plan| {
        let found = migrate_plan::lint(plan, &model, &policy);
        found.into_iter().map(|f| f.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&read), ["KM-LINT-002"]);
    let edited = read.edited();
    assert_eq!(codes(&edited), [""; 0]);
    let revision = (edited.parent.as_deref(), edited.revision);
    assert_eq!(revision, (Some(plan.id.as_str()), 2));
    assert_eq!(edited.clone().edited(), edited, "nothing was changed");
    // What was taken from the schedule is rehearsed in the new order.
    let none = migrate_plan::Measured::default();
    let run = migrate_plan::rehearse(&model, &policy, &edited, &none).unwrap();
    let begins = |name: &str| {
        let mut drains = run.actions.iter().filter(|a| a.phase == Phase::Drain);
        drains.find(|a| a.target.name() == name).unwrap().start
    };
    assert!(begins("general-4") < begins("general-2"));
}
