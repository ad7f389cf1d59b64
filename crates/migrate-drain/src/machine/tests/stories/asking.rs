//! Which pods are asked to go, and when.

use super::*;

#[test]
fn a_refused_precondition_keeps_its_budget_spent() {
    for shown in [false, true] {
        let pods = [pod("w-1", "a"), pod("w-2", "a"), pod("w-3", "b")];
        let mut story = Story::new(options()).with_web(3, pods);
        story.budget(budget(1, 1));
        let (request, first) = asked(&story.begin("a")).remove(0);
        let outputs = story.answer(request, EvictionAnswer::OtherPod);
        assert_eq!(asked(&outputs), []);
        let outputs = if shown {
            assert_eq!(asked(&story.pass(10)), []);
            let mut status = budget(1, 1);
            status.status.disrupted_pods.insert(first.name);
            story.budget(status)
        } else {
            assert_eq!(asked(&story.pass(119)), []);
            story.pass(2)
        };
        assert_eq!(asked(&outputs).len(), 1, "shown: {shown}");
    }
}

#[test]
fn refusals_by_a_webhook_are_tried_again_without_hammering() {
    let old = pod("w-1", "a");
    let mut story = Story::new(options()).with_web(1, [old.clone()]);
    let mut outputs = story.begin("a");
    let mut times = Vec::new();
    for _ in 0..7 {
        let (request, _) = asked(&outputs).remove(0);
        story.answer(request, webhook());
        let before = story.now;
        while asked(&outputs).len() != 1 || asked(&outputs)[0].0 == request {
            outputs = story.pass(1);
        }
        times.push(story.now.since(before).as_secs());
    }
    assert_eq!(times, [1, 2, 4, 8, 15, 15, 15]);
    assert!(story.found(codes::WEBHOOK));
    story.moves(&outputs, &old);
    assert!(
        story
            .told
            .iter()
            .any(|o| matches!(o, Output::Event(EventKind::PodEvicted { .. })))
    );
}

#[test]
fn throttling_pauses_every_request() {
    let mut story = Story::new(options().with_max_requests(1));
    story = story.with_web(0, [pod("w-1", "a"), pod("w-2", "a")]);
    let (request, _) = asked(&story.begin("a")).remove(0);
    let retry_after = Duration::from_secs(5);
    assert_eq!(
        asked(&story.answer(request, EvictionAnswer::Throttled { retry_after })),
        []
    );
    assert_eq!(asked(&story.pass(4)), []);
    assert_eq!(asked(&story.pass(1)).len(), 1);
}

#[test]
fn a_budget_that_says_no_is_asked_again_when_it_changes_and_only_once_for_all_its_pods() {
    let pods: Vec<Pod> = (0..6).map(|n| pod(&format!("w-{n}"), "a")).collect();
    let mut story = Story::new(options().with_max_requests(1)).with_web(6, pods);
    story.budget(budget(2, 2));
    let (request, _) = asked(&story.begin("a")).remove(0);
    assert_eq!(
        asked(&story.answer(request, exhausted())),
        [],
        "its other pods wait too"
    );
    // Sightings of pods change nothing about it.
    let mut sick = pod("w-5", "a");
    sick.priority = 1;
    assert_eq!(asked(&story.see(sick)), []);
    assert_eq!(
        asked(&story.budget(budget(1, 2))).len(),
        1,
        "at once, not after a timer"
    );
}

#[test]
fn without_a_change_an_exhausted_budget_is_asked_at_a_capped_pace() {
    let pods: Vec<Pod> = (0..6).map(|n| pod(&format!("w-{n}"), "a")).collect();
    let mut story = Story::new(options()).with_web(6, pods);
    story.budget(budget(2, 2));
    let mut outputs = story.begin("a");
    let mut requests = 0;
    for _ in 0..120 {
        for (request, _) in asked(&outputs) {
            requests += 1;
            outputs = story.answer(request, exhausted());
        }
        outputs.extend(story.pass(1));
    }
    assert!(
        (8..=24).contains(&requests),
        "{requests} requests in two minutes"
    );
}

#[test]
fn pods_that_come_straight_back_are_counted_and_left() {
    let tolerant = |name| {
        let mut pod = pod(name, "a");
        pod.placement.tolerations = vec![Toleration::everything()];
        pod
    };
    let mut story = Story::new(options()).with_web(1, [tolerant("w-1")]);
    let outputs = story.begin("a");
    story.moves(&outputs, &tolerant("w-1"));
    story.see(tolerant("w-2"));
    assert!(looks(&story.pass(5)));
    assert!(story.found(codes::RELANDS));
    let outputs = story.looked("a", vec![tolerant("w-2")]);
    assert_eq!(
        outcome(&outputs),
        Some(DrainOutcome::Empty { evictions: 1 })
    );
}

#[test]
fn a_pod_of_the_same_name_elsewhere_is_not_touched() {
    let old = pod("db-0", "a");
    let mut story = Story::new(options()).with_web(1, [old]);
    let (request, _) = asked(&story.begin("a")).remove(0);
    story.answer(request, webhook());
    let mut elsewhere = pod("db-0", "b");
    elsewhere.id.uid = "uid-other".into();
    story.see(elsewhere);
    assert!(
        looks(&story.pass(60)),
        "the old one is gone, since its name is taken"
    );
    assert_eq!(asked(&story.told).len(), 1);
}

#[test]
fn sightings_from_the_past_are_ignored() {
    let old = pod("w-1", "a");
    let mut story = Story::new(options()).with_web(1, [old.clone()]);
    let outputs = story.begin("a");
    story.moves(&outputs, &old);
    story.tell(Input::PodSeen(Seen::new(old.clone(), 1)));
    story.tell(Input::PodSeen(Seen::new(old, 0)));
    assert_eq!(asked(&story.pass(200)), []);
}

#[test]
fn a_namespace_that_is_being_deleted_is_waited_for_without_asking_again() {
    let old = pod("w-1", "a");
    let mut story = Story::new(options()).with_web(0, [old.clone()]);
    let (request, _) = asked(&story.begin("a")).remove(0);
    story.answer(request, EvictionAnswer::NamespaceTerminating);
    assert_eq!(asked(&story.pass(200)), []);
    assert!(looks(&story.gone(&old)));
}

#[test]
fn a_dry_run_asks_once_for_each_pod_and_ends() {
    let pods = [
        pod("w-1", "a"),
        pod("w-2", "a"),
        terminating(pod("w-3", "a")),
    ];
    let mut story = Story::new(options().with_dry_run(true)).with_web(3, pods);
    story.budget(budget(1, 1));
    story.tell(Input::Synced);
    let requests = asked(&story.tell(Input::NodesAdded(vec!["a".into()])));
    assert_eq!(requests.len(), 2, "each on its own: nothing is spent");
    story.answer(requests[0].0, EvictionAnswer::Accepted);
    let outputs = story.answer(requests[1].0, exhausted());
    let Some(DrainOutcome::Failed { reason, .. }) = outcome(&outputs) else {
        panic!("{outputs:?}");
    };
    assert!(
        reason.contains("1 of 2 pods cannot go now: ns/w-2"),
        "{reason}"
    );
    assert!(
        !story
            .told
            .iter()
            .any(|o| matches!(o, Output::Cordon { .. }))
    );
}

#[test]
fn pods_that_will_be_down_go_last() {
    let mut agreed = options();
    agreed.consent.downtime = true;
    let other = pod("w-1", "a");
    let mut story = Story::new(agreed).with_web(0, [tied(pod("db-0", "a")), other.clone()]);
    let outputs = story.begin("a");
    let outputs = story.moves(&outputs, &other);
    assert_eq!(asked(&outputs)[0].1.name, "db-0");
}

#[test]
fn a_pod_is_not_asked_before_its_workload_is_known() {
    let mut story = Story::new(options());
    story.see(pod("w-1", "a"));
    story.see(pod("w-2", "b"));
    assert_eq!(
        asked(&story.begin("a")),
        [],
        "it may have an assumed budget"
    );
    assert_eq!(asked(&story.web(2)).len(), 1);
}

#[test]
fn a_request_that_is_still_under_way_for_a_pod_that_went_keeps_its_budget() {
    let first = pod("w-1", "a");
    let pods = [first.clone(), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods);
    story.budget(budget(1, 1));
    let (request, _) = asked(&story.begin("a")).remove(0);
    assert_eq!(
        asked(&story.gone(&first)),
        [],
        "it may yet hit the next of its name"
    );
    assert_eq!(asked(&story.answer(request, EvictionAnswer::OtherPod)), []);
    assert_eq!(asked(&story.pass(110)), []);
    assert_eq!(asked(&story.pass(11)).len(), 1);
}

#[test]
fn a_refusal_at_the_door_says_nothing_about_an_earlier_attempt() {
    let pods = [pod("w-1", "a"), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods);
    let (request, first) = asked(&story.begin("a")).remove(0);
    let reason = "no answer within 10 s".to_owned();
    story.answer(request, EvictionAnswer::Unknown { reason });
    let (request, again) = asked(&story.pass(1)).remove(0);
    assert_eq!(again, first);
    let outputs = story.answer(request, webhook());
    assert_eq!(
        asked(&outputs),
        [],
        "the first attempt may have taken effect"
    );
    let (request, again) = asked(&story.pass(2)).remove(0);
    assert_eq!(again, first);
    let outputs = story.answer(request, EvictionAnswer::TwoBudgets);
    assert_eq!(
        asked(&outputs).len(),
        1,
        "the API looked at the pod: it stays"
    );
}

#[test]
fn a_pod_that_is_terminating_is_not_counted_twice() {
    let first = pod("w-1", "a");
    let pods = [first.clone(), pod("w-2", "a"), pod("w-3", "b")];
    let mut story = Story::new(options()).with_web(3, pods);
    story.budget(budget(1, 1));
    let (request, _) = asked(&story.begin("a")).remove(0);
    story.answer(request, EvictionAnswer::Accepted);
    story.see(terminating(first));
    let mut caught_up = budget(1, 1);
    caught_up.status.current_healthy = 2;
    story.budget(caught_up);
    assert_eq!(asked(&story.told).len(), 2, "the status says it too");
}
