//! The seeds of the fuzz targets are what these read: from a seed that is refused at once
//! nothing is found.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use migrate_core::cost::{BoundKind, Link};
use migrate_core::{ClusterModel, Plan, Policy};
use migrate_plan::{Beliefs, History, Measured, Planner, lint, plan_from_json};
use serde_json::Value;

fn seed(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
    std::fs::read_to_string(PathBuf::from(folder).join(name)).unwrap()
}

struct Read {
    policy: Policy,
    model: ClusterModel,
    told: Value,
}

impl Read {
    fn of(seed: &str) -> Self {
        let mut documents = seed.split("\n---\n");
        let mut next = || documents.next();
        Self {
            policy: toml::from_str(next().unwrap()).unwrap(),
            model: ClusterModel::from_json(next().unwrap()).unwrap(),
            told: next().map_or(Value::Null, |told| serde_json::from_str(told).unwrap()),
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner::new(&self.model, &self.policy, "v1.37.2".parse().unwrap())
    }
}

#[test]
fn each_seed_of_plans_is_planned() {
    for name in ["plan/small", "plan/held", "plan/rooms"] {
        let read = Read::of(&seed(name));
        let plan = read.planner().plan().unwrap();
        assert!(!plan.is_empty(), "{name}");
    }
}

#[test]
fn one_of_them_has_rooms_links_durations_and_a_history() {
    let read = Read::of(&seed("plan/rooms"));
    let told = &read.told;
    let links: Vec<Link> = serde_json::from_value(told["links"].clone()).unwrap();
    let measured = Measured::from_json(&told["measured"].to_string()).unwrap();
    let lines = told["history"].as_array().unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let history = History::from_text(&lines).unwrap();
    assert!(!measured.actions.is_empty() && !history.lines.is_empty());
    let plain = read.planner().plan().unwrap();
    assert_eq!(plain.rooms.len(), 1);
    let beliefs = Beliefs::learned(&history);
    let planner = read
        .planner()
        .with_beliefs(&beliefs)
        .with_measured(&measured);
    let plan: Plan = links
        .into_iter()
        .fold(planner, Planner::with_link)
        .plan()
        .unwrap();
    assert_ne!(plan.schedule, plain.schedule);
    let bounds = plan.bounds.unwrap();
    let is_link = |kind: &BoundKind| matches!(kind, BoundKind::Bandwidth { .. });
    assert!(
        bounds.limits.iter().any(|limit| is_link(&limit.kind)),
        "{bounds:?}"
    );
}

#[test]
fn the_edited_plans_are_of_the_clusters_that_they_are_read_beside() {
    for (name, of) in [
        ("edited/small", "plan/small"),
        ("edited/rooms", "plan/rooms"),
    ] {
        let read = Read::of(&seed(of));
        let edited = plan_from_json(&seed(name)).unwrap();
        assert_eq!(
            edited.rooms.len(),
            usize::from(of == "plan/rooms"),
            "{name}"
        );
        assert_eq!(edited.cluster, read.model.cluster, "{name}");
        // Whatever it says of it, the linter reads it to its end.
        let _ = lint(&edited, &read.model, &read.policy);
        let plan = read.planner().plan().unwrap();
        assert_eq!(edited.rooms.is_empty(), plan.rooms.is_empty(), "{name}");
    }
}
