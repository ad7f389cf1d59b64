//! What an eviction would be answered now, asked without changing anything.
#![allow(
    clippy::unwrap_used,
    reason = "a cluster that cannot be observed has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use migrate_core::{BlockedReason, BudgetKey, Cancellation, ClusterModel, Policy, Wait};
use migrate_drain::{Drainer, Rehearsal, Rehearsed};
use migrate_kube::{EvictionAnswer, observe, read_only};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::store::ApiError;
use migrate_sim::{Budget, Workload};
use support::{Demo, context, policy, web};

const NODES: [&str; 3] = ["general-1", "general-2", "general-3"];

async fn model(demo: &Demo) -> ClusterModel {
    let now = context().clock.now();
    observe(&demo.client(), now).await.unwrap()
}

async fn rehearse(demo: &Demo, drainer: &Drainer) -> Vec<Rehearsal> {
    let cancel = Cancellation::new();
    let model = model(demo).await;
    drainer.rehearse(&model, NODES, &cancel).await
}

/// The results of each workload's pods, without repetitions.
fn by_workload(all: &[Rehearsal]) -> BTreeMap<String, Vec<&Rehearsed>> {
    let mut by: BTreeMap<String, Vec<&Rehearsed>> = BTreeMap::new();
    for entry in all {
        let name = entry.workload.as_ref().map_or("", |id| id.name.as_str());
        let results = by.entry(name.to_owned()).or_default();
        if !results.contains(&&entry.result) {
            results.push(&entry.result);
        }
    }
    by
}

fn answers(code: u16, message: &'static str, seconds: Option<u32>) -> Fault {
    Fault::Answer(ApiError::Other {
        code,
        reason: String::new(),
        message: message.into(),
        retry_after_seconds: seconds,
    })
}

#[tokio::test(start_paused = true)]
async fn each_pod_is_asked_once_in_a_dry_run_and_has_its_typed_answer() {
    let guarded = Workload::deployment("shop", "guarded", 3).with_budget(Budget::min_available(3));
    let roomy = Workload::deployment("shop", "roomy", 3).with_budget(Budget::max_unavailable(1));
    let agent = Workload::daemon_set("kube-system", "agent");
    let demo = Demo::small(3, [web(4), guarded, roomy, agent]).await;
    // An assumed budget of none: the API lets its pods go, policy does not.
    let mut strict = policy();
    strict.assumed_budgets.max_unavailable = migrate_core::IntOrPercent::Int(0);
    let guard = read_only(demo.client());
    let drainer = Drainer::new(guard).with_policy(strict);
    let all = rehearse(&demo, &drainer).await;

    assert_eq!(all.len(), 10, "{all:#?}");
    assert!(all.is_sorted_by_key(|entry| (&entry.node, &entry.pod)));
    let by = by_workload(&all);
    assert_eq!(by["roomy"], [&Rehearsed::Allowed]);
    let [Rehearsed::Budget { blocked, message }] = by["guarded"][..] else {
        panic!("{by:#?}");
    };
    assert_eq!(blocked.budget, Some(BudgetKey::real("shop", "guarded")));
    assert_eq!((blocked.desired, blocked.healthy), (3, 3));
    assert!(message.contains("needs 3 healthy pods"), "{message}");
    let [Rehearsed::AssumedBudget { blocked }] = by["web"][..] else {
        panic!("{by:#?}");
    };
    assert_eq!((blocked.desired, blocked.healthy), (4, 4));
    assert_eq!(blocked.reason, BlockedReason::Exhausted);

    // Nothing changed, no budget was spent, and nothing was cordoned.
    assert_eq!(demo.writes(), 0);
    let audit = demo.cluster.audit();
    let asked = audit.iter().filter(|e| e.request.subresource == "eviction");
    let asked: Vec<bool> = asked.map(|e| e.request.dry_run).collect();
    assert_eq!(asked, [true; 10]);
    assert!(NODES.iter().all(|node| !demo.unschedulable(node)));
    assert_eq!(demo.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_needs_consent_is_named_and_what_only_waits_is_not_asked() {
    let job = Workload::job("batch", "report", 1);
    let demo = Demo::small(3, [web(2), job]).await;
    let mut careful = Policy::default();
    careful.consent.empty_dir = false;
    let drainer = Drainer::new(demo.client()).with_policy(careful);
    let mut seen = model(&demo).await;
    for pod in &mut seen.pods {
        pod.empty_dir = pod.id.namespace == "shop";
    }
    let all = drainer.rehearse(&seen, NODES, &Cancellation::new()).await;
    let shop: Vec<&Rehearsal> = all.iter().filter(|e| e.pod.namespace == "shop").collect();
    assert_eq!(shop.len(), 2);
    for entry in shop {
        assert!(entry.consent.is_some() && !entry.goes(), "{entry}");
        assert_eq!(entry.result, Rehearsed::Allowed, "{entry}");
    }
    let by = by_workload(&all);
    assert_eq!(by["report"], [&Rehearsed::Waits { until: Wait::Job }]);
    let audit = demo.cluster.audit();
    let asked = audit.iter().filter(|e| e.request.subresource == "eviction");
    assert_eq!(asked.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_apart() {
    let demo = Demo::small(3, [web(3)]).await;
    let drainer = demo.drainer();
    let denied = "admission webhook \"hook.example\" denied the request: not now";
    let no_dry_run = "admission webhook \"hook.example\" does not support dry run";
    for (code, message) in [(500, denied), (400, no_dry_run)] {
        demo.cluster.api().set_faults(move |request| {
            if request.subresource != "eviction" {
                return Fault::Pass;
            }
            answers(code, message, None)
        });
        for entry in rehearse(&demo, &drainer).await {
            let by = matches!(&entry.result, Rehearsed::Webhook { webhook, .. } if webhook == "hook.example");
            assert!(by, "{entry}");
        }
    }
    demo.cluster.api().clear_faults();
    let reader = AccessRule::new(["get", "list"], ["*"], ["*"]);
    demo.cluster.api().set_access([reader]);
    for entry in rehearse(&demo, &drainer).await {
        let forbidden = matches!(entry.result, Rehearsed::Forbidden { .. });
        assert!(forbidden, "{entry}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_end_the_asking() {
    let demo = Demo::small(3, [web(9)]).await;
    demo.cluster.api().set_faults(|request| {
        if request.subresource != "eviction" {
            return Fault::Pass;
        }
        answers(401, "Unauthorized", None)
    });
    let all = rehearse(&demo, &demo.drainer().with_max_requests(1)).await;
    let refused = |entry: &&Rehearsal| matches!(entry.result, Rehearsed::Unauthorized { .. });
    assert_eq!(all.iter().filter(refused).count(), 1);
    let rest = all.iter().filter(|e| e.result == Rehearsed::NotAsked);
    assert_eq!(rest.count(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_three_times_and_no_more() {
    let demo = Demo::small(3, [web(1)]).await;
    demo.cluster.api().set_faults(|request| {
        if request.subresource != "eviction" {
            return Fault::Pass;
        }
        answers(429, "too many requests", Some(7))
    });
    let started = tokio::time::Instant::now();
    let all = rehearse(&demo, &demo.drainer()).await;
    let [
        Rehearsal {
            result: Rehearsed::Unanswered { answer },
            ..
        },
    ] = &all[..]
    else {
        panic!("{all:?}");
    };
    assert!(matches!(answer, EvictionAnswer::Throttled { .. }));
    assert_eq!(started.elapsed().as_secs(), 14);
}

#[tokio::test(start_paused = true)]
async fn answers_are_waited_for_a_few_at_a_time_and_a_cancel_ends_it() {
    let demo = Demo::small(3, [web(12)]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    demo.cluster.api().set_faults(move |request| {
        if request.subresource != "eviction" {
            return Fault::Pass;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Fault::Delay(Duration::from_secs(5))
    });
    let cancel = Cancellation::new();
    let seen = model(&demo).await;
    let drainer = demo.drainer().with_max_requests(4);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        cancel.cancel();
    };
    let started = tokio::time::Instant::now();
    let (all, ()) = tokio::join!(drainer.rehearse(&seen, NODES, &cancel), stop);
    assert_eq!(started.elapsed().as_secs(), 7);
    assert_eq!(
        asked.load(Ordering::SeqCst),
        8,
        "four at a time, two rounds begun"
    );
    let done = all
        .iter()
        .filter(|e| e.result == Rehearsed::Allowed)
        .count();
    let rest = all
        .iter()
        .filter(|e| e.result == Rehearsed::NotAsked)
        .count();
    assert_eq!((done, rest), (4, 8));
}
