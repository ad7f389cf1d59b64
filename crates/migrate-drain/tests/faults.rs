//! The driver when something goes wrong: the API, the network, other people.

mod support;

use std::time::Duration;

use migrate_core::Cancellation;
use migrate_core::steps::{DrainFailureKind, DrainOutcome};
use migrate_drain::{Error, machine::codes};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::store::{ApiError, DeleteOptions, Resource};
use migrate_sim::{Budget, Workload};
use serde_json::json;
use support::{Demo, context, drain, drained, policy, web};

fn refusal(code: u16, message: &str, retry_after_seconds: Option<u32>) -> Fault {
    Fault::Answer(ApiError::Other {
        code,
        reason: if code == 429 {
            "TooManyRequests".into()
        } else {
            String::new()
        },
        message: message.into(),
        retry_after_seconds,
    })
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_came_back_elsewhere_under_its_name_is_not_touched() {
    let db = Workload::stateful_set("shop", "db", 2)
        .with_budget(Budget::min_available(2))
        .apart();
    let demo = Demo::small(4, [db]).await;
    let node = demo.hosts("db").into_keys().next().unwrap();
    let name = demo.pods_on(&node, "db").remove(0);
    let (commands, mut events) = demo.run(&context(), policy(), false).await;
    commands.unbounded_send(drain(&node)).unwrap();
    drop(commands);
    let gone = async {
        while !demo.unschedulable(&node) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let now = DeleteOptions::now();
        demo.cluster
            .store()
            .delete(Resource::PODS, "shop", &name, &now)
            .unwrap();
    };
    let (ended, ()) = tokio::join!(drained(&mut events), gone);
    assert_eq!(ended, Some((node, DrainOutcome::Empty { evictions: 0 })));
    assert_eq!(
        demo.evictions(),
        [],
        "the budget never had room, and then it was another pod"
    );
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_denies_at_first_is_asked_again_with_growing_pauses() {
    let demo = Demo::small(3, [web(1)]).await;
    let node = demo.hosts("web").into_keys().next().unwrap();
    let mut left = 5;
    demo.cluster.api().set_faults(move |request| {
        if request.subresource != "eviction" || left == 0 {
            return Fault::Pass;
        }
        left -= 1;
        refusal(
            500,
            "admission webhook \"cleaner.example\" denied the request: later",
            None,
        )
    });
    let report = demo.drainer().drain([&node]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    let times: Vec<u64> = demo.evictions().iter().map(|(_, at, _)| *at).collect();
    let pauses: Vec<u64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) / 1_000)
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 15]);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.code == codes::WEBHOOK)
    );
}

#[tokio::test(start_paused = true)]
async fn throttling_is_not_a_budget_and_is_honoured() {
    let demo = Demo::small(3, [web(4)]).await;
    let mut left = 2;
    demo.cluster.api().set_faults(move |request| {
        if request.subresource != "eviction" || left == 0 {
            return Fault::Pass;
        }
        left -= 1;
        refusal(429, "Too many requests, please try again later.", Some(7))
    });
    let node = demo.hosts("web").into_keys().next().unwrap();
    let report = demo.drainer().drain([&node]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    let times: Vec<u64> = demo.evictions().iter().map(|(_, at, _)| *at).collect();
    assert!(
        times[1] - times[0] >= 7_000 && times[2] - times[1] >= 7_000,
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cordon_of_someone_else_stays_theirs() {
    let demo = Demo::small(3, [web(2)]).await;
    demo.set_unschedulable("general-1", true);
    let report = demo.drainer().drain(["general-1"]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    demo.drainer().release(["general-1"]).await.unwrap();
    assert!(demo.unschedulable("general-1"));
}

#[tokio::test(start_paused = true)]
async fn a_cordon_that_someone_lifts_in_mid_drain_is_set_again() {
    let slow = |mut workload: Workload| {
        workload.stop_seconds = Some(20);
        workload
    };
    let demo = Demo::small(3, [slow(web(6))]).await;
    let lift = async {
        while demo.evictions().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        demo.set_unschedulable("general-1", false);
    };
    let drainer = demo.drainer();
    let (report, ()) = tokio::join!(drainer.drain(["general-1"]), lift);
    let report = report.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert!(demo.unschedulable("general-1"));
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.code == codes::CORDON_LIFTED)
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_deleted_meanwhile_is_gone_and_not_empty() {
    let demo = Demo::small(3, [web(3).with_budget(Budget::min_available(3))]).await;
    let delete = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let now = DeleteOptions::now();
        demo.cluster
            .store()
            .delete(Resource::NODES, "", "general-1", &now)
            .unwrap();
    };
    let drainer = demo.drainer();
    let (report, ()) = tokio::join!(drainer.drain(["general-1"]), delete);
    let report = report.unwrap();
    assert_eq!(
        report.nodes["general-1"],
        DrainOutcome::NodeGone { evictions: 0 }
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_held_by_a_finalizer_is_named() {
    let demo = Demo::small(3, [web(1)]).await;
    let node = demo.hosts("web").into_keys().next().unwrap();
    let name = demo.pods_on(&node, "web").remove(0);
    let hold = |json: &mut serde_json::Value| {
        json["metadata"]["finalizers"] = json!(["example.com/hold"]);
    };
    demo.cluster
        .store()
        .modify(Resource::PODS, "shop", &name, hold)
        .unwrap();
    let report = demo.drainer().drain([&node]).await.unwrap();
    let Some(DrainOutcome::Deadline { remaining, .. }) = report.nodes.get(&node) else {
        panic!("{report}");
    };
    assert_eq!(remaining[0].name, name);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.code == codes::STUCK)
    );
}

#[tokio::test(start_paused = true)]
async fn answers_that_never_arrive_are_settled_by_the_watch() {
    let demo = Demo::start(5).await;
    let mut count = 0;
    demo.cluster.api().set_faults(move |request| {
        if request.subresource != "eviction" {
            return Fault::Pass;
        }
        count += 1;
        match count % 3 {
            0 => Fault::DropAnswer,
            1 => Fault::Delay(Duration::from_secs(60)),
            _ => Fault::Pass,
        }
    });
    let report = demo
        .drainer()
        .drain(["general-1", "general-2"])
        .await
        .unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_and_watches_that_break_only_cost_time() {
    let demo = Demo::start(6).await;
    demo.cluster.api().set_faults(|request| match request.verb {
        "watch" => Fault::CloseWatch(Duration::from_secs(3)),
        _ => Fault::Pass,
    });
    let away = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            demo.cluster.api().set_available(false);
            // Longer than the history is kept: everything is listed anew.
            demo.cluster.store().compact();
            tokio::time::sleep(Duration::from_secs(20)).await;
            demo.cluster.api().set_available(true);
        }
    };
    let drainer = demo.drainer();
    let (report, ()) = tokio::join!(drainer.drain(["general-1", "general-2"]), away);
    let report = report.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_with_the_rule_to_add() {
    let guarded = Workload::deployment("shop", "guarded", 3).with_budget(Budget::min_available(3));
    let demo = Demo::small(3, [web(3), guarded]).await;
    let node = demo.hosts("web").into_keys().next().unwrap();
    let cases = [
        (
            vec!["get", "list", "watch", "patch"],
            "resources: [\"pods/eviction\"], verbs: [\"create\"]",
        ),
        (vec!["create", "get", "list", "patch"], "verbs: [\"watch\"]"),
        (vec!["create", "get", "patch"], "verbs: [\"list\"]"),
    ];
    for (verbs, rule) in cases {
        let mut access = AccessRule::new([], ["*"], ["*"]);
        access.verbs = verbs.into_iter().map(str::to_owned).collect();
        demo.cluster.api().set_access([access]);
        let report = demo.drainer().drain([&node]).await.unwrap();
        let failed = matches!(
            report.nodes[&node],
            DrainOutcome::Failed {
                kind: DrainFailureKind::Forbidden,
                retryable: false,
                ..
            }
        );
        assert!(failed && report.to_string().contains(rule), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_a_few_times_and_no_more() {
    let demo = Demo::small(3, [web(6)]).await;
    let refuse = |times: usize| {
        let mut left = times;
        demo.cluster.api().set_faults(move |request| {
            if request.subresource != "eviction" || left == 0 {
                return Fault::Pass;
            }
            left -= 1;
            refusal(401, "Unauthorized", None)
        });
    };
    // As after the start of an API server: over after some seconds.
    refuse(3);
    let report = demo.drainer().drain(["general-1"]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");

    refuse(usize::MAX);
    let before = demo.evictions().len();
    let started = tokio::time::Instant::now();
    let report = demo.drainer().drain(["general-2"]).await.unwrap();
    let failed = matches!(
        report.nodes["general-2"],
        DrainOutcome::Failed {
            kind: DrainFailureKind::Forbidden,
            retryable: false,
            ..
        }
    );
    let cure = report.to_string().contains("renew them");
    assert!(failed && cure, "{report}");
    assert!(started.elapsed() < Duration::from_secs(45));
    assert!(demo.evictions().len() - before <= 6 * 6);
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_stream_and_every_request() {
    let demo = Demo::small(4, [web(3).with_budget(Budget::min_available(3))]).await;
    let cancel = Cancellation::new();
    let cx = context().with_cancel(cancel.clone());
    let drainer = demo.drainer();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        cancel.cancel();
    };
    // One is named twice, one has no pod to move.
    let nodes = [1, 1, 2, 3, 4].map(|n| format!("general-{n}"));
    let (ended, ()) = tokio::join!(drainer.drain_in(&cx, nodes), stop);
    let Err(Error::Cancelled(report)) = ended else {
        panic!("{ended:?}");
    };
    let cut_off = DrainOutcome::Cancelled {
        cordoned: true,
        evictions: 0,
    };
    let hosts = demo.hosts("web");
    assert_eq!((hosts.len(), report.nodes.len()), (3, 4));
    for (node, outcome) in &report.nodes {
        let expected = match hosts.contains_key(node) {
            true => cut_off.clone(),
            false => DrainOutcome::Empty { evictions: 0 },
        };
        assert_eq!(*outcome, expected, "{node}");
        assert!(demo.unschedulable(node));
    }
    let requests = demo.cluster.audit().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(demo.cluster.audit().len(), requests);
}

#[tokio::test(start_paused = true)]
async fn who_cancels_before_the_start_hears_that_nothing_was_touched() {
    let demo = Demo::small(3, [web(3)]).await;
    let cancel = Cancellation::new();
    cancel.cancel();
    let cx = context().with_cancel(cancel);
    let ended = demo.drainer().drain_in(&cx, ["general-1"]).await;
    let Err(Error::Cancelled(report)) = ended else {
        panic!("{ended:?}");
    };
    let untouched = DrainOutcome::Cancelled {
        cordoned: false,
        evictions: 0,
    };
    assert_eq!(report.nodes["general-1"], untouched);
    assert!(!demo.unschedulable("general-1"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_dropped_stops_and_the_next_one_goes_on() {
    let demo = Demo::start(9).await;
    let drainer = demo.drainer();
    let limit = Duration::from_secs(9);
    assert!(
        tokio::time::timeout(limit, drainer.drain(["general-1"]))
            .await
            .is_err()
    );
    let requests = demo.evictions().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(demo.evictions().len(), requests, "nothing goes on");
    let report = drainer.drain(["general-1"]).await.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forbids_everything_for_a_moment_only_costs_time() {
    let demo = Demo::small(3, [web(6)]).await;
    let away = async {
        while !demo.unschedulable("general-1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        demo.cluster.api().set_faults(|request| match request.verb {
            "watch" => Fault::CloseWatch(Duration::from_millis(10)),
            _ => Fault::Pass,
        });
        let no_watch = AccessRule::new(["create", "get", "patch"], ["*"], ["*"]);
        demo.cluster.api().set_access([no_watch]);
        tokio::time::sleep(Duration::from_secs(8)).await;
        demo.cluster.api().clear_faults();
        demo.cluster.api().set_access([AccessRule::all()]);
    };
    let drainer = demo.drainer();
    let (report, ()) = tokio::join!(drainer.drain(["general-1"]), away);
    let report = report.unwrap();
    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
}
