//! Two plans compared.

use migrate_core::{Node, Plan, Policy, Target};
use migrate_plan::{ChangeKind, DiffTable, PlanDiff, Planner, TargetChange};

use crate::support::{NEW, version};
use crate::{plan, small};

fn of<'d>(diff: &'d PlanDiff, id: &str) -> &'d TargetChange {
    let mut targets = diff.targets.iter();
    targets.find(|change| change.id == id).unwrap()
}

#[test]
fn a_plan_differs_from_itself_and_from_its_twin_in_nothing() {
    let model = small().build();
    let first = plan(&model);
    let policy = Policy::default();
    let next = Planner::new(&model, &policy, version(NEW)).replacing(&first);
    let next = next.plan().unwrap();
    assert_ne!(first.id, next.id);
    let diff = PlanDiff::between(&first, &next);
    assert!(diff.is_empty(), "{diff:#?}");
    let text = DiffTable::new(&diff).to_string();
    assert!(text.ends_with("nothing differs\n"), "{text}");
}

#[test]
fn a_wider_pool_begins_nodes_earlier() {
    let model = small().build();
    let before = plan(&model);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "2".parse().unwrap();
    let after = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let diff = PlanDiff::between(&before, &after);
    assert_eq!(diff.pools.len(), 2, "{:?}", diff.pools);
    assert_eq!(
        (diff.pools[1].before, diff.pools[1].after),
        (Some((4, 1)), Some((4, 2)))
    );
    assert_eq!(of(&diff, "node.general-4").kind, ChangeKind::Earlier);
    let text = DiffTable::new(&diff).to_string();
    for said in [
        "predicted: 0:47:57 -> ",
        "policy: ",
        "pool general: 4 nodes, 1 away",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("model: "), "{text}");
    let short = DiffTable::new(&diff).with_rows(0).to_string();
    assert!(short.contains("... and 1 more"), "{short}");
    // And the other way round later.
    let back = PlanDiff::between(&after, &before);
    assert_eq!(of(&back, "node.general-4").kind, ChangeKind::Later);
}

#[test]
fn added_done_left_out_and_unable_are_told_apart() {
    let model = small().build();
    let before = plan(&model);
    let later = small()
        .node("general-1", |node| node.kubelet_version = version(NEW))
        .node("general-4", |node| node.ready = false)
        .change(|model| {
            let mut node = Node::new("general-5", version(crate::support::OLD));
            node.labels
                .insert("node.kubernetes.io/pool".into(), "general".into());
            model.nodes.push(node);
            model.nodes.retain(|node| node.name != "batch-2");
        })
        .build();
    let policy = Policy::default();
    let after = Planner::new(&later, &policy, version(NEW)).plan().unwrap();
    let diff = PlanDiff::between(&before, &after);
    let kind = |id| of(&diff, id).kind;
    assert_eq!(kind("node.general-1"), ChangeKind::Done);
    assert_eq!(kind("node.batch-2"), ChangeKind::LeftOut);
    assert_eq!(kind("node.general-5"), ChangeKind::Added);
    assert_eq!(kind("node.general-4"), ChangeKind::CannotBegin);
    let back = PlanDiff::between(&after, &before);
    assert_eq!(of(&back, "node.general-4").kind, ChangeKind::NowBegins);
    assert!(
        diff.found
            .iter()
            .any(|finding| finding.code == "KM-NODE-001")
    );
    assert_eq!(diff.found, back.gone);
}

#[test]
fn an_edit_by_hand_shows_what_was_moved() {
    let model = small().build();
    let before = plan(&model);
    let mut after: Plan = before.clone();
    // From the last place to the first of its pool.
    let last = after.slots.pop().unwrap();
    let name = last.node.clone();
    after.slots.insert(2, last);
    after.slots[3].canary = !after.slots[3].canary;
    let other = after.slots[3].node.clone();
    let diff = PlanDiff::between(&before, &after);
    assert_eq!(diff.targets.len(), 2, "{:#?}", diff.targets);
    let moved = of(&diff, &format!("node.{name}"));
    assert!(moved.reordered && moved.kind == ChangeKind::Other);
    assert!(!of(&diff, &format!("node.{other}")).reordered);
    let text = DiffTable::new(&diff).to_string();
    assert!(text.contains("place 10 -> 5"), "{text}");
    assert!(text.contains("no longer canary"), "{text}");
}

#[test]
fn ids_are_those_of_the_thing_and_not_of_the_plan() {
    let model = small().build();
    let before = plan(&model);
    let mut after = before.clone();
    for slot in &mut after.slots {
        slot.pool = "other".into();
    }
    for action in &mut after.schedule {
        if let Target::Node { pool, .. } = &mut action.target {
            *pool = "other".into();
        }
    }
    let diff = PlanDiff::between(&before, &after);
    assert!(
        diff.targets
            .iter()
            .all(|change| change.kind == ChangeKind::Other)
    );
    assert!(
        DiffTable::new(&diff)
            .to_string()
            .contains("pool batch -> other")
    );
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["targets"][0]["kind"], "other");
    assert!(json["targets"][0]["before"]["start"].is_u64());
}
