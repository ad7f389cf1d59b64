//! Pools that go to a version of their own.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::skew::PathError;
use migrate_core::{ClusterModel, Node, Plan, Policy, Severity, Target, content_hash};
use migrate_plan::{
    Command, DiffTable, Error, PlanDiff, PlanMermaid, PlanPage, PlanTable, Planner, lint,
    plan_from_json, plan_to_json, replay,
};

use crate::small;
use crate::support::{NEW, OLD, linted, version};

/// A patch between what small clusters run and where they go.
const PATCH: &str = "v1.36.5";

fn own(targets: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    for (pool, own) in targets {
        let own = version(own);
        policy.pools.target_of.insert((*pool).to_owned(), own);
    }
    policy
}

fn planned(model: &ClusterModel, policy: &Policy) -> Plan {
    let planner = Planner::new(model, policy, version(NEW));
    linted(planner.plan().unwrap(), model, policy)
}

#[test]
fn the_control_plane_goes_on_and_each_pool_to_its_own_target() {
    let model = small().build();
    let policy = own(&[("general", PATCH)]);
    let plan = planned(&model, &policy);
    let targets: Vec<_> = plan.own_targets().collect();
    assert_eq!(targets, [("general", &version(PATCH))]);
    assert_eq!((plan.slots.len(), plan.at_target.len()), (8, 0));
    let trace = Planner::new(&model, &policy, version(NEW)).trace().unwrap();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for command in &trace.commands {
        if let Command::Begin { action } = command {
            let kind = match &action.target {
                Target::Node { pool, .. } => pool.clone(),
                _ => "cluster".to_owned(),
            };
            seen.entry(kind).or_default().insert(action.to.to_string());
            assert_eq!(*plan.to_of(&action.target), action.to);
        }
    }
    let seen: Vec<(&str, Vec<&str>)> = seen
        .iter()
        .map(|(kind, to)| (kind.as_str(), to.iter().map(String::as_str).collect()))
        .collect();
    let expected = [
        ("batch", vec![NEW]),
        ("cluster", vec![NEW]),
        ("control-plane", vec![NEW]),
        ("general", vec![PATCH]),
    ];
    assert_eq!(seen, expected);
    // The rollout that is told of it commands the same.
    let again = replay(&plan, &model, &policy, &trace.inputs).unwrap();
    assert_eq!(again, trace.commands);
}

#[test]
fn nodes_that_are_where_their_pool_goes_are_skipped() {
    let model = small()
        .node("general-2", |node| node.kubelet_version = version(PATCH))
        .build();
    let plan = planned(&model, &own(&[("general", PATCH)]));
    assert_eq!(plan.at_target, ["general-2"]);
    let done = |of: &str| plan.slots.iter().filter(|slot| slot.pool == of).count();
    assert_eq!((done("general"), done("batch")), (3, 2));
    // Held where it is, its nodes have nothing to do, and others have.
    let held = planned(&small().build(), &own(&[("general", OLD)]));
    assert_eq!(held.at_target.len(), 4);
    assert!(held.slots.iter().all(|slot| slot.pool != "general"));
    assert_eq!(*held.to_of_pool("general"), version(OLD));
    // The controls: by the cluster's target, all of it is to be done.
    let all = planned(&model, &Policy::default());
    assert_eq!((all.at_target.len(), all.slots.len()), (0, 8));
}

#[test]
fn a_pool_whose_last_node_went_is_left_out_of_what_is_planned_anew() {
    let policy = own(&[("batch", PATCH)]);
    let first = planned(&small().build(), &policy);
    let without = |kept: &dyn Fn(&mut Node) -> bool| {
        let mut model = small().build();
        model.nodes.retain_mut(kept);
        model
    };
    let is_batch = |node: &Node| node.name.starts_with("batch");
    let model = without(&|node| !is_batch(node));
    let replan = |model: &ClusterModel, policy: &Policy, earlier: &Plan| {
        let planner = Planner::new(model, policy, version(NEW));
        let plan = planner.replan(earlier).map(|replan| replan.plan);
        plan.map(|plan| linted(plan, model, policy))
    };
    let is_told = |plan: &Plan| plan.findings.iter().any(|it| it.code == "KM-POLICY-002");
    let second = replan(&model, &policy, &first).unwrap();
    assert!(is_told(&second) && !is_told(&first));
    // The plan before does not have the pool either, and policy is the same.
    let third = replan(&model, &policy, &second).unwrap();
    assert!(is_told(&third));
    // The controls: nobody has accepted this policy; nodes that have another label now.
    let unknown = |result: Result<Plan, Error>| {
        let error = result.unwrap_err();
        let Error::NoPath(PathError::UnknownPool { pool, .. }) = &error else {
            panic!("{error}");
        };
        pool.clone()
    };
    assert_eq!(
        unknown(replan(&model, &own(&[("bach", PATCH)]), &first)),
        "bach"
    );
    let relabelled = without(&|node| {
        if is_batch(node) {
            node.labels.clear();
        }
        true
    });
    assert_eq!(unknown(replan(&relabelled, &policy, &first)), "batch");
}

#[test]
fn an_own_target_that_is_the_clusters_changes_no_node() {
    let model = small().build();
    let same = planned(&model, &own(&[("general", NEW)]));
    let plain = planned(&model, &Policy::default());
    assert_eq!(same.own_targets().count(), 0);
    assert_eq!((same.slots, same.schedule), (plain.slots, plain.schedule));
    assert_eq!(same.pools, plain.pools);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let behind = |node: &mut Node| node.kubelet_version = version("v1.33.1");
    let model = small()
        .node("batch-1", behind)
        .node("batch-2", |node| node.kubelet_version = version("v1.36.4"))
        .build();
    let refused = |targets: &[(&str, &str)]| {
        let policy = own(targets);
        let error = Planner::new(&model, &policy, version(NEW)).plan();
        match error.unwrap_err() {
            Error::NoPath(error) => error,
            other => panic!("{other}"),
        }
    };
    let unknown = refused(&[("gpu", OLD)]);
    assert!(
        matches!(unknown, PathError::UnknownPool { .. }),
        "{unknown}"
    );
    let reserved = refused(&[("control-plane", OLD)]);
    assert_eq!(reserved, PathError::ControlPlanePool);
    let ahead = refused(&[("general", "v1.37.3")]);
    assert!(matches!(ahead, PathError::PoolAhead { .. }), "{ahead}");
    let back = refused(&[("batch", "v1.36.1")]);
    let is_named = matches!(&back, PathError::PoolDowngrade { node, .. } if node == "batch-2");
    assert!(is_named, "{back}");
    // Behind the skew policy: with the other node gone it may be held there.
    let left = |own_target: &str| {
        let model = small()
            .node("batch-1", behind)
            .node("batch-2", behind)
            .build();
        let policy = own(&[("batch", own_target)]);
        Planner::new(&model, &policy, version(NEW))
            .plan()
            .unwrap_err()
    };
    let error = left("v1.33.9");
    assert!(
        matches!(error, Error::NoPath(PathError::PoolLeftBehind { .. })),
        "{error}"
    );
    for said in ["pool batch", "v1.33.9", "1.34 or newer"] {
        assert!(error.to_string().contains(said), "{error}");
    }
    // It gets there, in a hop of its own.
    let error = left("v1.35.2");
    assert!(matches!(error, Error::SeveralHops { .. }), "{error}");
}

#[test]
fn one_node_goes_back_whatever_its_pool_is_held_at() {
    let at = |text: &'static str| move |node: &mut Node| node.kubelet_version = version(text);
    let model = small()
        .node("general-1", at(PATCH))
        .change(|model| {
            model
                .control_plane
                .iter_mut()
                .for_each(|m| m.version = version(NEW))
        })
        .build();
    // To what is newer than that, and to what is older.
    for held in [PATCH, "v1.36.0"] {
        let policy = own(&[("general", held)]);
        let planner = Planner::new(&model, &policy, version("v1.36.1")).taking_back("general-1");
        let plan = linted(planner.plan().unwrap(), &model, &policy);
        assert_eq!(plan.way_back(), Some("general-1"), "{held}");
        assert_eq!(*plan.to_of_pool("general"), version("v1.36.1"), "{held}");
    }
}

#[test]
fn views_show_the_target_of_a_pool_and_only_then() {
    let model = small().build();
    let policy = own(&[("general", PATCH)]);
    let (plain, plan) = (
        planned(&model, &Policy::default()),
        planned(&model, &policy),
    );
    let table = PlanTable::new(&plan).to_string();
    let line = |start: &str| {
        let mut lines = table.lines().filter(|line| line.starts_with(start));
        let line = lines.next().unwrap();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("POOL")[..3], ["POOL", "TO", "NODES"], "{table}");
    assert_eq!(line("general")[..3], ["general", PATCH, "4"], "{table}");
    assert_eq!(line("batch")[..3], ["batch", NEW, "2"], "{table}");
    assert_eq!(
        line("node general-1")[2..5],
        ["general", OLD, PATCH],
        "{table}"
    );
    assert_eq!(line("second backup")[2..6], ["-", "-", "-", "-"], "{table}");
    let page = |plan: &Plan| PlanPage::new(plan).to_string();
    assert!(page(&plan).contains(PATCH) && page(&plan).contains("To</th>"));
    let mermaid = |plan: &Plan| PlanMermaid::new(plan).to_string();
    assert!(mermaid(&plan).contains(&format!("section pool general to {PATCH}\n")));
    for view in [
        PlanTable::new(&plain).to_string(),
        page(&plain),
        mermaid(&plain),
    ] {
        assert!(
            !view.contains("To</th>") && !view.contains(" TO  ") && !view.contains(" to v1.36")
        );
    }
    let json = plan_to_json(&plan).unwrap();
    assert_eq!(plan_from_json(&json).unwrap(), plan);
    assert_eq!(json.matches(PATCH).count(), 1, "{json}");
    assert!(!plan_to_json(&plain).unwrap().contains(PATCH));
    // Everything there: the pool's version is said, too.
    let mut done = model;
    done.control_plane
        .iter_mut()
        .for_each(|m| m.version = version(NEW));
    for node in &mut done.nodes {
        let is_held = node.name.starts_with("general");
        node.kubelet_version = version(if is_held { PATCH } else { NEW });
    }
    let nothing = PlanTable::new(&planned(&done, &policy)).to_string();
    assert!(
        nothing.contains("everything is at v1.37.2, pool general at v1.36.5"),
        "{nothing}"
    );
}

#[test]
fn a_diff_tells_a_target_that_is_another() {
    let model = small().build();
    let before = planned(&model, &Policy::default());
    let after = planned(&model, &own(&[("general", PATCH)]));
    let diff = PlanDiff::between(&before, &after);
    assert_eq!(diff.pools.len(), 1, "{:?}", diff.pools);
    let pool = &diff.pools[0];
    assert_eq!(
        (&pool.to_before, &pool.to_after),
        (&None, &Some(version(PATCH)))
    );
    assert_eq!(pool.before, pool.after);
    assert_eq!(diff.targets.len(), 4, "{:#?}", diff.targets);
    let text = DiffTable::new(&diff).to_string();
    for said in ["away at most, to v1.36.5", "to v1.36.5 of its own"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let back = DiffTable::new(&PlanDiff::between(&after, &before)).to_string();
    assert!(back.contains("to the plan's version"), "{back}");
    assert!(PlanDiff::between(&after, &after).is_empty());
}

#[test]
fn an_own_target_is_part_of_what_a_plan_fixes() {
    let model = small().build();
    let mut plan = planned(&model, &own(&[("general", PATCH)]));
    let id = plan.identity();
    let pool = plan.pools.iter_mut().find(|pool| pool.name == "general");
    pool.unwrap().to = Some(version("v1.36.6"));
    assert_ne!(plan.identity(), id);
}

/// What the linter finds in `plan` after `change`, without that it was edited.
fn found(change: impl FnOnce(&mut Plan, &mut ClusterModel, &mut Policy)) -> Vec<String> {
    let (mut model, mut policy) = (small().build(), own(&[("general", PATCH)]));
    let mut plan = planned(&model, &policy);
    change(&mut plan, &mut model, &mut policy);
    plan.policy_hash = content_hash(&policy);
    let found = lint(&plan, &model, &policy).into_iter();
    let found = found.filter(|f| f.severity == Severity::Blocker);
    let mut codes: Vec<String> = found.map(|f| f.code).collect();
    codes.dedup();
    codes
}

fn set(plan: &mut Plan, to: Option<&str>) {
    let pool = plan.pools.iter_mut().find(|pool| pool.name == "general");
    pool.unwrap().to = to.map(version);
}

#[test]
fn the_linter_finds_targets_that_are_not_those_of_the_policy() {
    assert_eq!(found(|_, _, _| {}), [""; 0]);
    assert_eq!(found(|plan, _, _| set(plan, None)), ["KM-LINT-003"]);
    assert_eq!(
        found(|plan, _, _| set(plan, Some("v1.36.6"))),
        ["KM-LINT-003"]
    );
    let held = |_: &mut Plan, _: &mut ClusterModel, policy: &mut Policy| {
        policy
            .pools
            .target_of
            .insert("batch".to_owned(), version(OLD));
    };
    assert_eq!(found(held), ["KM-LINT-003"]);
}

/// What it counts nodes by is the target of their pool.
#[test]
fn the_linter_finds_slots_of_what_is_there_and_nodes_that_are_left_out() {
    let at_own = |_: &mut Plan, model: &mut ClusterModel, _: &mut Policy| {
        let mut nodes = model.nodes.iter_mut();
        let node = nodes.find(|node| node.name == "general-3");
        node.unwrap().kubelet_version = version(PATCH);
    };
    assert_eq!(found(at_own), ["KM-LINT-003"]);
    let (model, policy) = (small().build(), own(&[("general", PATCH)]));
    let left_out = |policy: &Policy| {
        let mut plan = planned(&model, policy);
        plan.slots.retain(|slot| slot.node != "general-3");
        let found = lint(&plan, &model, policy).into_iter();
        let mut found = found.filter(|f| f.code == "KM-LINT-004");
        found.next().unwrap().evidence
    };
    let words = "nodes that are not at v1.37.2, nor at their pool's own target, and are not in it";
    let evidence = left_out(&policy);
    assert!(evidence.starts_with(words), "{evidence}");
    assert!(evidence.contains("general-3"), "{evidence}");
    let evidence = left_out(&Policy::default());
    assert!(!evidence.contains("own target"), "{evidence}");
}

#[test]
fn the_linter_finds_targets_that_break_the_skew_or_go_back() {
    // One of its nodes has been upgraded beyond it meanwhile.
    let newer = |_: &mut Plan, model: &mut ClusterModel, _: &mut Policy| {
        let mut nodes = model.nodes.iter_mut();
        let node = nodes.find(|node| node.name == "general-3");
        node.unwrap().kubelet_version = version("v1.36.6");
    };
    assert_eq!(found(newer), ["KM-LINT-003", "KM-LINT-019"]);
    // The control plane goes further than the pool may be behind it.
    for (to, expected) in [
        ("v1.39.1", vec!["KM-LINT-020"]),
        ("v1.40.1", vec!["KM-LINT-019", "KM-LINT-020"]),
    ] {
        let further = |plan: &mut Plan, _: &mut ClusterModel, _: &mut Policy| {
            plan.to = version(to);
        };
        assert_eq!(found(further), expected, "{to}");
    }
}
