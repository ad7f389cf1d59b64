//! How drains begin and end.

use super::*;
use crate::machine::Listed;

#[test]
fn consent_is_asked_before_anything_is_changed() {
    let mut story = Story::new(options()).with_web(2, [pod("w", "a")]);
    let bare = Pod::new(PodId::new("ns", "bare", "uid-bare"), "a");
    story.see(bare.clone());
    story.tell(Input::Synced);
    let outputs = story.tell(Input::NodesAdded(vec!["a".into()]));
    let pods = vec![(bare.id, NeedsConsent::Bare)];
    assert_eq!(outcome(&outputs), Some(DrainOutcome::NeedsConsent { pods }));
    assert!(story.drain.is_idle());
    story.pass(3_600);
    assert!(
        !story
            .told
            .iter()
            .any(|o| matches!(o, Output::Cordon { .. } | Output::Evict { .. }))
    );
}

#[test]
fn nothing_happens_before_all_lists_are_in() {
    let mut story = Story::new(options()).with_web(1, [pod("w", "a")]);
    assert_eq!(story.tell(Input::NodesAdded(vec!["a".into()])), []);
    let outputs = story.pass(901);
    assert!(matches!(
        outcome(&outputs),
        Some(DrainOutcome::Failed {
            retryable: true,
            ..
        })
    ));
}

#[test]
fn a_node_is_empty_when_pods_volumes_replacements_and_a_last_look_agree() {
    let old = {
        let mut old = pod("w-1", "a");
        old.claims = vec!["data".into()];
        old
    };
    let mut story = Story::new(options()).with_web(2, [old.clone(), pod("w-2", "b")]);
    let (namespace, name, volume) = ("ns".into(), "data".into(), "pv".to_owned());
    story.tell(Input::ClaimSeen {
        namespace,
        name,
        volume: volume.clone(),
    });
    let attachment = Attachment {
        name: "va".into(),
        node: "a".into(),
        volume: Some(volume),
    };
    story.tell(Input::VolumeSeen(attachment));
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    assert!(!looks(&story.pass(60)), "the replacement is missing");
    let mut fresh = pod("w-3", "b");
    fresh.ready = false;
    story.see(fresh.clone());
    assert!(!looks(&story.pass(60)), "the replacement is not ready");
    fresh.ready = true;
    assert!(!looks(&story.see(fresh)), "the volume is attached");
    assert!(looks(
        &story.tell(Input::VolumeDetached { name: "va".into() })
    ));
    let late = pod("w-4", "a");
    let outputs = story.looked("a", vec![late.clone()]);
    assert_eq!(outcome(&outputs), None, "a pod that no watch had shown yet");
    let outputs = story.moves(&outputs, &late);
    assert!(looks(&outputs));
    let outputs = story.looked("a", vec![]);
    assert_eq!(
        outcome(&outputs),
        Some(DrainOutcome::Empty { evictions: 2 })
    );
}

#[test]
fn a_node_just_cordoned_is_not_yet_called_empty() {
    let mut story = Story::new(options());
    assert!(!looks(&story.begin("a")));
    assert!(looks(&story.pass(2)));
}

#[test]
fn replicas_lowered_in_mid_drain_need_no_replacement() {
    let old = pod("w-1", "a");
    let mut story = Story::new(options()).with_web(2, [old.clone(), pod("w-2", "b")]);
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    assert!(!looks(&story.pass(60)));
    assert!(looks(&story.web(1)));
}

#[test]
fn terminating_pods_are_waited_for_and_stuck_ones_named() {
    let going = terminating(pod("w-1", "a"));
    let mut story = Story::new(options()).with_web(1, [going.clone()]);
    story.begin("a");
    let outputs = story.pass(301);
    let Some(DrainOutcome::Deadline { remaining, .. }) = outcome(&outputs) else {
        panic!("{outputs:?}");
    };
    assert_eq!(remaining, [going.id]);
    assert!(story.found(codes::STUCK));
    assert_eq!(asked(&story.told), []);
}

#[test]
fn a_deadline_ends_everything_with_names_counts_and_cures() {
    let pods = [pod("w-1", "a"), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods);
    let outputs = story.begin("a");
    let (request, first) = asked(&outputs).remove(0);
    let outputs = story.pass(301);
    let Some(DrainOutcome::Deadline { blocked, remaining }) = outcome(&outputs) else {
        panic!("{outputs:?}");
    };
    assert_eq!(remaining.len(), 2);
    let (who, why) = &blocked[0];
    assert_ne!(*who, first);
    assert_eq!((why.desired, why.healthy), (2, 2));
    assert!(outputs.contains(&Output::Abandon { request }));
    assert!(story.found(codes::ASSUMED_BLOCKED));
    // The request may have taken effect: its budget stays spent for a while.
    story.tell(Input::NodesAdded(vec!["b".into()]));
    let outputs = story.tell(Input::Cordoned {
        node: "b".into(),
        was_unschedulable: false,
    });
    assert_eq!(asked(&outputs), []);
    assert_eq!(asked(&story.pass(118)), []);
    assert_eq!(asked(&story.pass(5)).len(), 1);
}

#[test]
fn a_replacement_that_never_gets_ready_is_named_with_counts() {
    let old = pod("w-1", "a");
    let mut story = Story::new(options()).with_web(2, [old.clone(), pod("w-2", "b")]);
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    let outputs = story.pass(900);
    let Some(DrainOutcome::Deadline { blocked, remaining }) = outcome(&outputs) else {
        panic!("{outputs:?}");
    };
    assert_eq!(remaining, []);
    assert_eq!((blocked[0].1.desired, blocked[0].1.healthy), (2, 1));
    assert!(story.found(codes::NOT_REPLACED));
}

#[test]
fn a_cordon_that_someone_lifts_is_set_again_and_then_given_up() {
    let pods = [pod("w-1", "a"), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods);
    story.begin("a");
    for round in 1..=4 {
        let outputs = story.node("a", false);
        if round == 4 {
            assert!(matches!(
                outcome(&outputs),
                Some(DrainOutcome::Failed {
                    retryable: false,
                    ..
                })
            ));
            break;
        }
        assert!(outputs.contains(&cordons("a")), "{outputs:?}");
        story.gone(&pod("w-1", "a"));
        let outputs = story.see(pod(&format!("w-1{round}"), "b"));
        assert_eq!(asked(&outputs), [], "no eviction before the cordon is back");
        story.tell(Input::Cordoned {
            node: "a".into(),
            was_unschedulable: false,
        });
        story.node("a", true);
    }
    assert!(story.found(codes::CORDON_LIFTED));
}

#[test]
fn a_cordon_that_fails_is_tried_again_or_reported() {
    let mut story = Story::new(options());
    story.tell(Input::Synced);
    story.tell(Input::NodesAdded(vec!["a".into()]));
    let failure = Failure::passing("away");
    story.tell(Input::CordonFailed {
        node: "a".into(),
        failure,
    });
    assert!(story.pass(1).contains(&cordons("a")));
    let failure = Failure::permanent(DrainFailureKind::Forbidden, "forbidden; add the rule ...");
    let outputs = story.tell(Input::CordonFailed {
        node: "a".into(),
        failure,
    });
    assert!(matches!(
        outcome(&outputs),
        Some(DrainOutcome::Failed {
            retryable: false,
            ..
        })
    ));
}

/// A machine that is gone is not drained, and a cordon that went by its name may
/// have reached the next one.
#[test]
fn a_node_that_goes_away_is_gone_and_not_empty() {
    let mut anew = Node::new("a", "v1.36.3".parse().unwrap());
    anew.uid = "another machine".into();
    let anew = Seen::new(anew, 0);
    let restore = Output::RestoreCordon { node: "a".into() };
    for lost in [
        Input::NodeGone("a".into()),
        Input::NodeSeen(anew.clone()),
        Input::Listed(Listed::Nodes(vec![anew])),
        Input::Listed(Listed::Nodes(Vec::new())),
    ] {
        let mut story = Story::new(options()).with_web(1, [pod("w-1", "a")]);
        let (request, _) = asked(&story.begin("a")).remove(0);
        let outputs = story.tell(lost);
        assert_eq!(
            outcome(&outputs),
            Some(DrainOutcome::NodeGone { evictions: 0 })
        );
        assert!(outputs.contains(&Output::Abandon { request }));
        assert_eq!(outputs.first(), Some(&restore), "{outputs:?}");
    }
    // Its cordon found nobody.
    let mut story = Story::new(options()).with_web(1, [pod("w-1", "a")]);
    story.tell(Input::Synced);
    story.tell(Input::NodesAdded(vec!["a".into()]));
    let failure = Failure::permanent(DrainFailureKind::NoSuchNode, "no such node");
    let outputs = story.tell(Input::CordonFailed {
        node: "a".into(),
        failure,
    });
    assert_eq!(
        outcome(&outputs),
        Some(DrainOutcome::NodeGone { evictions: 0 })
    );
}

#[test]
fn downtime_is_announced_before_and_readiness_awaited_after() {
    let mut agreed = options();
    agreed.consent.downtime = true;
    for comes_back in [true, false] {
        let old = tied(pod("db-0", "a"));
        let mut story = Story::new(agreed.clone()).with_web(1, [old.clone()]);
        let outputs = story.begin("a");
        let cordon = story
            .told
            .iter()
            .position(|o| matches!(o, Output::Cordon { .. }));
        let found = story.told.iter().position(|o| {
            matches!(o, Output::Event(EventKind::Found { finding })
                if finding.code == codes::DOWNTIME)
        });
        assert!(found.unwrap() < cordon.unwrap());
        story.moves(&outputs, &old);
        assert!(
            looks(&story.pass(5)),
            "its replacement cannot be ready anywhere else"
        );
        let outputs = story.looked("a", vec![]);
        assert_eq!(
            outcome(&outputs),
            Some(DrainOutcome::Empty { evictions: 1 })
        );

        let outputs = story.tell(Input::Release("a".into()));
        assert_eq!(outputs, [Output::RestoreCordon { node: "a".into() }]);
        let outputs = story.tell(Input::Restored {
            node: "a".into(),
            still_cordoned: false,
        });
        assert_eq!(released(&outputs), None, "it is not back yet");
        if comes_back {
            assert_eq!(released(&story.see(tied(pod("db-0b", "a")))), Some(None));
        } else {
            let error = released(&story.pass(700)).flatten().unwrap();
            assert_eq!(error.kind, DrainFailureKind::NotBack);
            assert!(error.reason.contains("0 of 1 pods ready"), "{error}");
        }
    }
}

#[test]
fn a_run_that_goes_on_after_a_crash_still_waits_for_what_it_took_down() {
    let mut agreed = options();
    agreed.consent.downtime = true;
    let mut before = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    before.nodes = ["a", "b"]
        .map(|n| Node::new(n, "v1.36.3".parse().unwrap()))
        .to_vec();
    before.pods = vec![tied(pod("db-0", "a"))];
    before.workloads = vec![Workload::new(web(), 1)];
    let mut story = Story::new(agreed).with_web(1, []);
    story.drain = story.drain.with_baseline(&before);
    story.begin("a");
    assert!(looks(&story.pass(5)), "the pod is away already");
    story.looked("a", vec![]);
    story.tell(Input::Release("a".into()));
    let outputs = story.tell(Input::Restored {
        node: "a".into(),
        still_cordoned: false,
    });
    assert_eq!(released(&outputs), None);
    assert_eq!(released(&story.see(tied(pod("db-0b", "a")))), Some(None));
}

/// As after a crash between its eviction and its end, with or without knowledge
/// of what was before; or somebody else has deleted it.
#[test]
fn a_pod_that_only_its_node_can_host_is_away_also_if_it_was_going_already() {
    let mut agreed = options();
    agreed.consent.downtime = true;
    let old = tied(pod("db-0", "a"));
    let mut before = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
    before.nodes = ["a", "b"]
        .map(|n| Node::new(n, "v1.36.3".parse().unwrap()))
        .to_vec();
    before.pods = vec![old.clone()];
    before.workloads = vec![Workload::new(web(), 1)];
    for knows_before in [true, false] {
        let mut story = Story::new(agreed.clone()).with_web(1, [old.clone()]);
        if knows_before {
            story.drain = story.drain.with_baseline(&before);
        }
        story.see(terminating(old.clone()));
        let outputs = story.begin("a");
        assert_eq!(asked(&outputs).len(), 0);
        story.gone(&old);
        assert!(looks(&story.pass(5)), "nothing else is waited for");
        story.looked("a", vec![]);
        story.tell(Input::Release("a".into()));
        let outputs = story.tell(Input::Restored {
            node: "a".into(),
            still_cordoned: false,
        });
        // Who did not see it well does not know that it has to be again.
        if knows_before {
            assert_eq!(released(&outputs), None);
            assert_eq!(released(&story.see(tied(pod("db-0b", "a")))), Some(None));
        } else {
            assert_eq!(released(&outputs), Some(None));
        }
    }
}

#[test]
fn a_cordon_of_someone_else_is_kept_and_said_so() {
    let mut agreed = options();
    agreed.consent.downtime = true;
    let old = tied(pod("db-0", "a"));
    let mut story = Story::new(agreed).with_web(1, [old.clone()]);
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    story.pass(5);
    story.looked("a", vec![]);
    story.tell(Input::Release("a".into()));
    let outputs = story.tell(Input::Restored {
        node: "a".into(),
        still_cordoned: true,
    });
    let error = released(&outputs).flatten().unwrap();
    assert_eq!(error.kind, DrainFailureKind::CordonKept, "{error}");
}

#[test]
fn cancelling_drops_every_request_and_ends_all_output() {
    let mut story = Story::new(options()).with_web(1, [pod("w-1", "a")]);
    let (request, _) = asked(&story.begin("a")).remove(0);
    assert_eq!(story.tell(Input::Cancel), [Output::Abandon { request }]);
    assert_eq!(story.answer(request, EvictionAnswer::Accepted), []);
    assert_eq!(story.tell(Input::NodesAdded(vec!["b".into()])), []);
    assert_eq!(story.drain.wake_at(), None);
}

#[test]
fn watching_that_is_forbidden_fails_every_drain_with_the_rule() {
    let mut story = Story::new(options()).with_web(1, [pod("w-1", "a")]);
    story.begin("a");
    let rule = "list pods: forbidden; add the rule ...";
    let outputs = story.tell(Input::Unobservable(Failure::permanent(
        DrainFailureKind::Forbidden,
        rule,
    )));
    let failed = DrainOutcome::Failed {
        kind: DrainFailureKind::Forbidden,
        reason: rule.into(),
        retryable: false,
    };
    assert_eq!(outcome(&outputs), Some(failed.clone()));
    let outputs = story.tell(Input::NodesAdded(vec!["b".into()]));
    assert_eq!(outcome(&outputs), Some(failed));
}
