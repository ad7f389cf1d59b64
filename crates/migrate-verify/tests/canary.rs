//! The pod that tries a node out, on the embedded cluster.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod canaries;

use std::time::Duration;

use canaries::{NAMESPACE, context, input, node};
use migrate_core::steps::StepReport;
use migrate_core::{CanaryPod, Policy, PrepareEnvironment, StepErrorKind, TryNode};
use migrate_sim::api::AccessRule;
use migrate_sim::store::Resource;
use migrate_sim::{NodeFault, SimCluster};
use migrate_verify::CanaryTrial;

async fn cluster() -> SimCluster {
    canaries::cluster(2, []).await
}

fn trial(cluster: &SimCluster) -> CanaryTrial {
    CanaryTrial::new(cluster.client(), CanaryPod::new("busybox"))
}

/// Canary pods that are there and not on their way out.
fn left(cluster: &SimCluster) -> usize {
    let store = cluster.store();
    let pods = store.list(Resource::PODS, Some(NAMESPACE));
    pods.filter(|pod| !pod.is_terminating()).count()
}

/// How many were ever made.
fn made(cluster: &SimCluster) -> usize {
    let audit = cluster.audit();
    let is_made = |entry: &&migrate_sim::api::AuditEntry| {
        entry.request.resource == "pods" && entry.request.verb == "create" && entry.code == 201
    };
    audit.iter().filter(is_made).count()
}

async fn prepare(cluster: &SimCluster) -> StepReport {
    let input = input(cluster, Policy::default()).await;
    trial(cluster).run(&context(cluster), &input).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_network_works_passes_and_nothing_stays() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    trial(&cluster).try_node(&cx, &node(0)).await.unwrap();
    assert_eq!((made(&cluster), left(&cluster)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_network_fails_until_it_has_one() {
    let cluster = cluster().await;
    cluster.set_node_fault(&node(0), NodeFault::NoNetwork);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cx = context(&cluster);
    let error = trial(&cluster).try_node(&cx, &node(0)).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("kube-proxy"), "{error}");
    // Its neighbour is well.
    trial(&cluster).try_node(&cx, &node(1)).await.unwrap();
    cluster.set_node_fault(&node(0), NodeFault::None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    trial(&cluster).try_node(&cx, &node(0)).await.unwrap();
    assert_eq!(left(&cluster), 0);
}

/// A kubelet that is away begins nothing.
#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_end_is_given_up_in_time_and_removed() {
    let cluster = cluster().await;
    cluster.set_node_fault(&node(0), NodeFault::Dead);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cx = context(&cluster);
    let error = trial(&cluster).try_node(&cx, &node(0)).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Deadline, "{error}");
    assert!(error.to_string().contains("120 s"), "{error}");
    assert_eq!(left(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_runner_that_died_has_left_is_removed_by_the_next() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    {
        let first = trial(&cluster);
        let node = node(0);
        let dies = tokio::time::timeout(Duration::from_secs(1), first.try_node(&cx, &node));
        dies.await.unwrap_err();
    }
    assert_eq!(left(&cluster), 1);
    trial(&cluster).try_node(&cx, &node(0)).await.unwrap();
    assert_eq!((made(&cluster), left(&cluster)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_cancelled_leaves_nothing() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    let (cancel, node) = (cx.cancel.clone(), node(0));
    let stop = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancel.cancel();
    };
    let first = trial(&cluster);
    let (tried, ()) = tokio::join!(first.try_node(&cx, &node), stop);
    assert_eq!(tried.unwrap_err().kind, StepErrorKind::Cancelled);
    assert_eq!(left(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn before_the_start_the_pod_is_only_rehearsed() {
    let cluster = cluster().await;
    assert_eq!(prepare(&cluster).await.findings, []);
    assert_eq!(left(&cluster), 0);
    let created = cluster.audit();
    let mut created = created
        .iter()
        .filter(|entry| entry.request.verb == "create");
    assert!(created.all(|entry| entry.request.dry_run));
}

#[tokio::test(start_paused = true)]
async fn each_right_that_is_missing_is_found_before_the_start() {
    let cluster = cluster().await;
    let (cx, input) = (context(&cluster), input(&cluster, Policy::default()).await);
    let verbs = ["create", "delete", "get", "list"];
    for missing in verbs {
        let others = verbs.into_iter().filter(|verb| *verb != missing);
        let rules = others.map(|verb| AccessRule::new([verb], [""], ["pods"]));
        cluster.api().set_access(rules);
        let findings = trial(&cluster).run(&cx, &input).await.unwrap().findings;
        let [finding] = findings.as_slice() else {
            panic!("{missing}: {findings:?}");
        };
        assert_eq!(finding.code, "KM-CANARY-001");
        let rule = format!("verbs: [\"{missing}\"]");
        assert!(finding.evidence.contains(&rule), "{missing}: {finding}");
    }
    assert_eq!(left(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_would_be_cut_off_is_found_before_the_start() {
    let cluster = cluster().await;
    for (verify, codes) in [(149, vec!["KM-CANARY-002"]), (150, vec![])] {
        let mut policy = Policy::default();
        policy.deadlines.verify = Duration::from_secs(verify);
        let input = input(&cluster, policy).await;
        let report = trial(&cluster)
            .run(&context(&cluster), &input)
            .await
            .unwrap();
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|found| found.code.as_str())
            .collect();
        assert_eq!(found, codes);
    }
}
