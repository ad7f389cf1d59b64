//! A plan as it comes from a file, edited by hand or damaged: an error, or findings and
//! views of it, and a rollout that begins or refuses.

#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use migrate_core::{ClusterModel, KubeVersion, Plan, Policy};
use migrate_plan::{
    Input, Measured, PlanDiff, PlanMermaid, PlanPage, PlanTable, PlanTimeline, Planner, Rollout,
    Waves, lint, plan_from_json, rehearse,
};

/// Larger ones only take longer.
const TARGETS: usize = 200;

struct Case {
    policy: Policy,
    model: ClusterModel,
    plan: Plan,
}

/// What the plans of the seeds were made of: one in which room is scarce, and one in which it
/// is not.
fn case(has_rooms: bool) -> &'static Case {
    static SMALL: OnceLock<Case> = OnceLock::new();
    static ROOMS: OnceLock<Case> = OnceLock::new();
    match has_rooms {
        false => SMALL.get_or_init(|| Case::of(include_str!("../seeds/plan/small"))),
        true => ROOMS.get_or_init(|| Case::of(include_str!("../seeds/plan/rooms"))),
    }
}

impl Case {
    fn of(seed: &str) -> Self {
        let mut documents = seed.split("\n---\n");
        let mut next = || documents.next().expect("two documents");
        let policy: Policy = toml::from_str(next()).expect("a policy");
        let model = ClusterModel::from_json(next()).expect("a model");
        let target: KubeVersion = "v1.37.2".parse().expect("a version");
        let plan = Planner::new(&model, &policy, target).plan();
        let plan = plan.expect("a plan");
        Self {
            policy,
            model,
            plan,
        }
    }
}

fuzz_target!(|input: &str| {
    let mut plan = match plan_from_json(input) {
        Ok(plan) => plan,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if plan.targets().count() > TARGETS || plan.schedule.len() > TARGETS {
        return;
    }
    let Case {
        policy,
        model,
        plan: before,
    } = case(!plan.rooms.is_empty());
    let found = lint(&plan, model, policy);
    let planner = Planner::new(model, policy, before.to.clone());
    drop(planner.replan(&plan));
    drop(planner.predict(&plan));
    let waves = Waves::new(&plan, model, policy);
    drop(lint(&waves.as_plan(&plan), model, policy));
    drop(PlanDiff::between(before, &plan));
    let page = PlanPage::new(&plan).with_cluster(model, policy);
    drop((
        PlanTable::new(&plan).to_string(),
        PlanTimeline::new(&plan).with_cluster(model, policy).to_string(),
        PlanMermaid::new(&plan).to_string(),
        page.with_findings(&found).to_string(),
    ));
    // What is of another cluster or policy goes no further.
    plan.cluster.clone_from(&before.cluster);
    plan.policy_hash.clone_from(&before.policy_hash);
    let rehearsed = rehearse(model, policy, &plan, &Measured::default());
    if let Ok(mut rollout) = Rollout::new(&plan, model, policy) {
        assert!(rehearsed.is_ok());
        rollout.handle(model.taken_at, &Input::Started);
        // Each window in between is looked at.
        let later = model.taken_at + Duration::from_secs(3 * 86_400);
        while rollout.poll(later).is_some() {}
    }
});
