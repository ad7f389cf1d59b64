//! Cordons whose answers come late or never: nothing is left under way.
#![allow(
    clippy::unwrap_used,
    reason = "a network that cannot be set up has failed"
)]

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use migrate_core::Cancellation;
use migrate_core::steps::{DrainFailureKind, DrainOutcome};
use migrate_drain::{Drainer, Error};
use support::{Demo, context, policy, web};

/// Longer than anything here lasts.
const LATER: Duration = Duration::from_secs(900);

/// A client behind a network that keeps back the first `many` changes of nodes
/// for `late`; they arrive even when nobody waits for them any more.
fn slow(demo: &Demo, many: usize, late: Duration) -> Client {
    let (inner, sent) = (demo.client(), Arc::new(AtomicUsize::new(0)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (inner, sent) = (inner.clone(), Arc::clone(&sent));
        async move {
            let is_late =
                request.method() == Method::PATCH && sent.fetch_add(1, Ordering::SeqCst) < many;
            let travels = tokio::spawn(async move {
                if is_late {
                    tokio::time::sleep(late).await;
                }
                inner.send(request).await.unwrap()
            });
            Ok::<_, Infallible>(travels.await.unwrap())
        }
    });
    Client::new(service, "default")
}

async fn demo() -> Demo {
    Demo::small(2, [web(2)]).await
}

/// Fails to cordon within its 5 s.
fn hasty(client: Client) -> Drainer {
    let mut policy = policy();
    policy.deadlines.drain = Duration::from_secs(5);
    policy.deadlines.request = Duration::from_secs(10);
    Drainer::new(client).with_policy(policy)
}

/// Whether it ended because of its own deadline and with nothing in doubt.
fn in_time(outcome: &DrainOutcome) -> bool {
    matches!(outcome, DrainOutcome::Failed { reason, .. }
        if reason.ends_with("waited for the answer to its cordon"))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_drain_waits_for_its_cordon_in_flight() {
    let demo = demo().await;
    let drainer = hasty(slow(&demo, 1, Duration::from_secs(12)));
    let mut policy = policy();
    policy.deadlines.drain = Duration::from_secs(5);
    let (commands, mut events) = demo.run_with(&drainer, &context(), policy, false).await;
    commands
        .unbounded_send(support::drain("general-1"))
        .unwrap();
    let (_, outcome) = support::drained(&mut events).await.unwrap();
    assert!(in_time(&outcome), "{outcome:?}");
    assert!(demo.unschedulable("general-1"), "it has arrived");
    commands
        .unbounded_send(support::release("general-1"))
        .unwrap();
    let (_, error) = support::released(&mut events).await.unwrap();
    assert_eq!(error, None);
    tokio::time::sleep(LATER).await;
    assert!(!demo.unschedulable("general-1"), "nothing came after that");
    assert_eq!(demo.evictions(), []);
}

#[tokio::test(start_paused = true)]
async fn a_cordon_whose_answer_is_lost_is_settled_by_one_more() {
    let demo = demo().await;
    let drainer = hasty(slow(&demo, 1, Duration::from_secs(120)));
    let report = drainer.drain(["general-1"]).await.unwrap();
    assert!(in_time(&report.nodes["general-1"]), "{report}");
    drainer.release(["general-1"]).await.unwrap();
    assert!(!demo.unschedulable("general-1"));
    tokio::time::sleep(LATER).await;
    assert!(
        !demo.unschedulable("general-1"),
        "the server refused the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cordon_that_cannot_be_settled_is_called_unknown() {
    let demo = demo().await;
    let drainer = hasty(slow(&demo, 2, Duration::from_secs(120)));
    let started = tokio::time::Instant::now();
    let report = drainer.drain(["general-1"]).await.unwrap();
    let outcome = &report.nodes["general-1"];
    let unknown = matches!(outcome, DrainOutcome::Failed { kind: DrainFailureKind::CordonUnknown, reason, retryable: true }
        if reason.contains("whether the node is cordoned is unknown"));
    assert!(unknown, "{report}");
    assert!(
        started.elapsed() <= Duration::from_secs(41),
        "two deadlines each"
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_in_the_middle_comes_after_the_cordon() {
    let demo = demo().await;
    let drainer = hasty(slow(&demo, 1, Duration::from_secs(12)));
    let (commands, mut events) = demo.run_with(&drainer, &context(), policy(), false).await;
    commands
        .unbounded_send(support::drain("general-1"))
        .unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        commands
            .unbounded_send(support::release("general-1"))
            .unwrap();
    };
    let (drained, ()) = tokio::join!(support::drained(&mut events), release);
    let (_, outcome) = drained.unwrap();
    assert!(
        matches!(outcome, DrainOutcome::Failed { .. }),
        "{outcome:?}"
    );
    let (_, error) = support::released(&mut events).await.unwrap();
    assert_eq!(error, None);
    tokio::time::sleep(LATER).await;
    assert!(!demo.unschedulable("general-1"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_drain_waits_for_its_cordon_in_flight() {
    let demo = demo().await;
    let drainer = hasty(slow(&demo, 1, Duration::from_secs(12)));
    let cancel = Cancellation::new();
    let cx = context().with_cancel(cancel.clone());
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(drainer.drain_in(&cx, ["general-1"]), stop);
    let Err(Error::Cancelled(report)) = ended else {
        panic!("{ended:?}");
    };
    let may_be_cordoned = matches!(
        report.nodes["general-1"],
        DrainOutcome::Cancelled { cordoned: true, .. }
    );
    assert!(may_be_cordoned, "{report}");
    assert!(demo.unschedulable("general-1"), "it has arrived");
    drainer
        .with_run("run-1")
        .release(["general-1"])
        .await
        .unwrap();
    tokio::time::sleep(LATER).await;
    assert!(!demo.unschedulable("general-1"));
}
