//! The default client of kube repeats refused requests by itself and cannot be
//! asked whether it does. Over a real connection it makes a drain slower,
//! never wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, Config};
use migrate_core::{Event, EventKind};
use migrate_drain::Drainer;
use migrate_sim::api::Fault;
use migrate_sim::store::ApiError;
use migrate_sim::{Budget, Times, Workload};
use support::{Demo, context, policy, scenario};

/// Everything within a tenth of a second: this test runs in real time.
fn quick() -> Times {
    let mut times = Times::default();
    let short = Duration::from_millis(20);
    times.image_pull = short;
    times.container_start = short;
    times.readiness = short;
    times.stop = short;
    times.volume_attach = short;
    times.volume_detach = short;
    times
}

#[tokio::test]
async fn a_client_that_retries_is_slower_never_wrong() {
    let one = Budget::max_unavailable(1);
    let workloads = [
        Workload::deployment("shop", "web", 6).with_budget(one),
        Workload::deployment("shop", "cart", 4),
    ];
    let demo = Demo::of(scenario(3, workloads), 3, quick()).await;
    let server = demo.cluster.api().listen().await.unwrap();
    let client = Client::try_from(Config::new(server.url().parse().unwrap())).unwrap();

    // Evictions fail for two seconds, in which the client goes on by itself
    // until each attempt's deadline; later every third loses its answer.
    let mut first = None;
    let mut count = 0;
    demo.cluster.api().set_faults(move |request| {
        if request.subresource != "eviction" {
            return Fault::Pass;
        }
        let now = tokio::time::Instant::now();
        if now.duration_since(*first.get_or_insert(now)) < Duration::from_secs(2) {
            return Fault::Answer(ApiError::Other {
                code: 503,
                reason: "ServiceUnavailable".into(),
                message: "the server is currently unable to handle the request".into(),
                retry_after_seconds: None,
            });
        }
        count += 1;
        if count % 3 == 0 {
            Fault::DropAnswer
        } else {
            Fault::Pass
        }
    });

    let unknown = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&unknown);
    let cx = context().with_events(Arc::new(move |event: &Event| {
        let EventKind::PodRefused { answer, .. } = &event.kind else {
            return;
        };
        if answer.starts_with("outcome unknown") {
            *counter.lock().unwrap() += 1;
        }
    }));
    let mut policy = policy();
    policy.deadlines.request = Duration::from_millis(300);
    let node = demo.hosts("web").into_keys().next().unwrap();
    let drainer = Drainer::new(client).with_policy(policy);
    let report = drainer.drain_in(&cx, [&node]).await.unwrap();

    assert!(report.all_nodes_empty(), "{report}");
    assert_eq!(demo.violations(), Vec::<String>::new());
    assert!(*unknown.lock().unwrap() > 0, "no attempt met its deadline");
    let requests = demo.evictions().len();
    let evictions = usize::try_from(report.evictions()).unwrap();
    assert!(
        requests > 2 * evictions,
        "{requests} requests for {evictions} evictions"
    );
}
