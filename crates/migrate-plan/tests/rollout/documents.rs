//! What a rollout is made from, and its data as JSON.

use migrate_core::{ClusterModel, Moment, OnDeadline, Outcome, Policy};
use migrate_plan::{ActionResult, Command, Error, Input, Planner, Rollout, plan_from_json};

use crate::run::{cluster, policy};
use crate::support::{Cluster, NEW, version};

#[test]
fn a_plan_runs_only_on_what_it_was_made_for() {
    let model = cluster().build();
    let right = policy("1", true, OnDeadline::Stop);
    let plan = Planner::new(&model, &right, version(NEW)).plan().unwrap();
    let other = policy("2", true, OnDeadline::Stop);
    let error = Rollout::new(&plan, &model, &other).unwrap_err();
    assert!(matches!(error, Error::OtherPolicy { .. }), "{error}");
    assert!(error.to_string().contains("plan again"), "{error}");
    let stranger = Cluster::new().change(|m| {
        *m = ClusterModel::new(migrate_core::ClusterId::new("other"), Moment::EPOCH);
    });
    let error = Rollout::new(&plan, &stranger.build(), &right).unwrap_err();
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    assert!(error.to_string().contains("plan again"), "{error}");
    let smaller = Cluster::new().member("m1").pool("general", 3).build();
    let error = Rollout::new(&plan, &smaller, &right).unwrap_err();
    assert!(error.to_string().contains("no node general-4"), "{error}");
    let json = migrate_plan::plan_to_json(&plan).unwrap();
    let twice = json.replace("\"node\": \"general-2\"", "\"node\": \"general-1\"");
    let error = Rollout::new(&plan_from_json(&twice).unwrap(), &model, &right).unwrap_err();
    assert!(error.to_string().contains("in two slots"), "{error}");
}

#[test]
fn inputs_and_commands_have_a_json_form() {
    let model = cluster().build();
    let plan = Planner::new(&model, &Policy::default(), version(NEW))
        .plan()
        .unwrap();
    let mut rollout = Rollout::new(&plan, &model, &Policy::default()).unwrap();
    rollout.handle(Moment::EPOCH, &Input::Started);
    let command = rollout.poll(Moment::EPOCH).unwrap();
    let json = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
    let Command::Begin { action } = command else {
        unreachable!()
    };
    let nodes = vec!["a".to_owned()];
    let ended = Input::ActionEnded {
        id: action.id,
        result: ActionResult::Succeeded(Outcome::ReplacedBy { nodes }),
    };
    let recorded = migrate_plan::Recorded::new(Moment::from_millis(5), ended);
    let json = serde_json::to_value(&recorded).unwrap();
    assert_eq!(json["input"], "actionEnded");
    assert_eq!(json["at"], "1970-01-01T00:00:00.005Z");
    assert_eq!(json["result"]["result"], "succeeded");
    assert_eq!(
        serde_json::from_value::<migrate_plan::Recorded>(json).unwrap(),
        recorded
    );
    for waiting in rollout.waiting() {
        let json = serde_json::to_string(&waiting).unwrap();
        assert_eq!(
            serde_json::from_str::<migrate_plan::Waiting>(&json).unwrap(),
            waiting
        );
    }
}
