//! Every check over an embedded cluster, through the requests of a real one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::{
    Cancellation, ClusterId, ClusterModel, Fence, Finding, Policy, PrepareEnvironment, Severity,
    StepContext, StepErrorKind, StepInput,
};
use migrate_kube::{TokioClock, cordon, observe, read_only};
use migrate_preflight::{Error, Preflight, REQUIRED, Target};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::{Budget, Pool, SimCluster, SimClusterBuilder, Spread, Workload};
use serde_json::{Value, json};

const TARGET: &str = "v1.37.1";
const RUN: &str = "run-1";

fn small() -> SimClusterBuilder {
    SimCluster::builder()
        .seed(3)
        .nodes(Pool::control_plane(1))
        .nodes(Pool::new("general", 3))
}

async fn started(builder: SimClusterBuilder) -> SimCluster {
    let cluster = builder.start().await.unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(600))
        .await
        .unwrap();
    cluster
}

async fn model_of(cluster: &SimCluster) -> ClusterModel {
    let now = migrate_core::Moment::from_millis(cluster.now_ms());
    observe(&cluster.client(), now).await.unwrap()
}

async fn input(cluster: &SimCluster) -> StepInput {
    let model = Arc::new(model_of(cluster).await);
    StepInput::new(model, Arc::new(Policy::default()), TARGET.parse().unwrap())
}

async fn findings(cluster: &SimCluster) -> Vec<Finding> {
    let input = input(cluster).await;
    Preflight::new(cluster.client())
        .check(&input, RUN)
        .await
        .unwrap()
        .findings
}

/// `code severity object` of the findings of one area.
async fn found(cluster: &SimCluster, area: &str) -> Vec<String> {
    let findings = findings(cluster).await;
    let of_area = findings
        .iter()
        .filter(|finding| finding.code.starts_with(area));
    of_area
        .map(|f| format!("{} {} {}", f.code, f.severity, f.object))
        .collect()
}

fn context() -> StepContext {
    let clock = TokioClock::starting_at(migrate_core::Moment::EPOCH);
    StepContext::new(Arc::new(clock), Fence::new(RUN, 1))
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_order_is_only_read_and_has_no_blocker() {
    let web = Workload::deployment("shop", "web", 3).with_budget(Budget::max_unavailable(1));
    let cluster = started(small().workload(web)).await;
    let input = input(&cluster).await;
    drop(cluster.api().take_audit());

    // Behind a guard that refuses everything that could change something.
    let preflight = Preflight::new(read_only(cluster.client()));
    let report = preflight.run(&context(), &input).await.unwrap();
    assert_eq!(report.findings, [], "{:#?}", report.findings);
    for entry in cluster.api().take_audit() {
        assert!(!entry.is_mutating(), "{entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_demo_cluster_may_be_upgraded() {
    let cluster = SimCluster::demo(7).await.unwrap();
    let findings = findings(&cluster).await;
    let unexpected: Vec<&Finding> = findings
        .iter()
        .filter(|f| f.blocks() && !matches!(f.code.as_str(), "KM-POD-001" | "KM-POD-003"))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[tokio::test(start_paused = true)]
async fn versions_budgets_and_pods_are_judged_for_the_nodes_to_be_drained() {
    let stuck = Workload::deployment("shop", "db", 2).with_budget(Budget::min_available(2));
    let cluster = started(
        small()
            .workload(stuck)
            .workload(Workload::bare_pods("shop", "toy", 1)),
    )
    .await;
    let budget = "KM-PDB-001 blocker PodDisruptionBudget shop/db";
    assert_eq!(found(&cluster, "KM-PDB").await, [budget]);
    assert_eq!(found(&cluster, "KM-POD-001").await.len(), 1);
    assert_eq!(found(&cluster, "KM-SKEW").await, [""; 0]);

    let mut done = input(&cluster).await;
    done.target = "v1.36.3".parse().unwrap();
    let report = Preflight::new(cluster.client())
        .check(&done, RUN)
        .await
        .unwrap();
    assert_eq!(report.findings, [], "nothing is to be drained");
    let mut far = input(&cluster).await;
    far.target = "v1.38.0".parse().unwrap();
    let report = Preflight::new(cluster.client())
        .check(&far, RUN)
        .await
        .unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == "KM-SKEW-003" && f.blocks())
    );
}

#[tokio::test(start_paused = true)]
async fn cordons_of_others_are_told_from_our_own() {
    let cluster = started(small()).await;
    let nodes = model_of(&cluster).await.nodes;
    let workers: Vec<&str> = nodes
        .iter()
        .map(|n| n.name.as_str())
        .filter(|n| n.starts_with("general"))
        .collect();
    cordon(&cluster.client(), workers[0], &Fence::without_lease(RUN))
        .await
        .unwrap();
    assert_eq!(found(&cluster, "KM-NODE").await, [""; 0]);
    cordon(
        &cluster.client(),
        workers[1],
        &Fence::without_lease("run-0"),
    )
    .await
    .unwrap();
    assert_eq!(
        found(&cluster, "KM-NODE").await,
        [
            "KM-NODE-003 blocker Pool general".to_owned(),
            format!("KM-NODE-002 warning Node {}", workers[1])
        ],
    );
}

/// A webhook configuration whose one webhook is asked about `resources`.
fn webhook(name: &str, client: Value, resources: Value, more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.test"),
        "clientConfig": client,
        "rules": [{
            "apiGroups": ["", "coordination.k8s.io"], "apiVersions": ["*"],
            "operations": ["*"], "resources": resources,
        }],
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook[key] = value.clone();
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": name }, "webhooks": [webhook],
    })
}

fn service(name: &str) -> Value {
    json!({ "service": { "namespace": "hooks", "name": name } })
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_a_drain_would_take_away() {
    let hook = |name: &str, replicas| Workload::deployment("hooks", name, replicas).with_service();
    let evictions = || json!(["pods/eviction"]);
    let elsewhere = json!({ "namespaceSelector": {
        "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["other"] }],
    } });
    let mut mutating = webhook("mutating", service("one"), json!(["leases"]), json!({}));
    mutating["kind"] = json!("MutatingWebhookConfiguration");
    let cluster = started(
        small()
            .nodes(Pool::new("alone", 1).with_label("pool", "alone"))
            .workload(hook("one", 1))
            .workload(hook("two", 2).with_spread(Spread::Node).apart())
            .workload(hook("packed", 2).on_nodes("pool", "alone"))
            .object(webhook("a-one", service("one"), evictions(), json!({})))
            .object(webhook("b-two", service("two"), evictions(), json!({})))
            .object(webhook(
                "c-packed",
                service("packed"),
                json!(["*"]),
                json!({}),
            ))
            .object(webhook(
                "d-none",
                service("none"),
                json!(["nodes"]),
                json!({}),
            ))
            .object(webhook(
                "e-url",
                json!({ "url": "https://hook.example.test/" }),
                json!(["pods"]),
                json!({}),
            ))
            .object(webhook(
                "f-ignore",
                service("one"),
                evictions(),
                json!({ "failurePolicy": "Ignore" }),
            ))
            .object(webhook(
                "g-other",
                service("one"),
                json!(["configmaps"]),
                json!({}),
            ))
            .object(webhook(
                "h-elsewhere",
                service("one"),
                json!(["pods"]),
                elsewhere,
            ))
            .object(webhook(
                "i-nobody",
                service("one"),
                json!(["pods"]),
                json!({
                    "objectSelector": { "matchLabels": { "inject": "yes" } },
                }),
            ))
            .object(mutating),
    )
    .await;
    let name = "ValidatingWebhookConfiguration";
    assert_eq!(
        found(&cluster, "KM-HOOK").await,
        [
            format!("KM-HOOK-001 blocker {name} d-none"),
            "KM-HOOK-002 blocker MutatingWebhookConfiguration mutating".to_owned(),
            format!("KM-HOOK-002 blocker {name} a-one"),
            format!("KM-HOOK-003 blocker {name} c-packed"),
            format!("KM-HOOK-004 info {name} e-url"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn pods_that_lose_requests_when_they_move_are_told_by_namespace() {
    // Pods of the embedded cluster have neither hooks nor probes. A StatefulSet's own
    // Service has no cluster address.
    let cluster = started(
        small()
            .workload(Workload::deployment("shop", "web", 2).with_service())
            .workload(Workload::deployment("shop", "worker", 2))
            .workload(Workload::stateful_set("data", "store", 2)),
    )
    .await;
    assert_eq!(
        found(&cluster, "KM-SERVICE").await,
        [
            "KM-SERVICE-001 warning Namespace shop",
            "KM-SERVICE-003 warning Namespace shop",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn apis_that_do_not_answer_and_apis_that_go() {
    let api = |name: &str, service: Value, available: &str| {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": name }, "spec": { "service": service },
            "status": { "conditions": [{
                "type": "Available", "status": available, "reason": "MissingEndpoints", "message": "none",
            }] },
        })
    };
    let behind = || json!({ "namespace": "shop", "name": "metrics" });
    let cluster = started(
        small()
            .object(api("v1.ok.example.test", behind(), "True"))
            .object(api("v1.down.example.test", behind(), "False"))
            .object(api("v1.local", Value::Null, "False")),
    )
    .await;
    cluster.api().set_metrics(
        "apiserver_requested_deprecated_apis{group=\"old\",version=\"v1beta1\",resource=\"things\",\
         subresource=\"\",removed_release=\"1.37\"} 1\n",
    );
    assert_eq!(
        found(&cluster, "KM-API").await,
        [
            "KM-API-002 blocker API old/v1beta1 things",
            "KM-API-001 warning APIService v1.down.example.test",
        ]
    );
}

/// Each API server counts what it was asked, and one answers.
#[tokio::test(start_paused = true)]
async fn of_several_api_servers_the_use_of_apis_is_known_of_one() {
    let several = SimCluster::builder()
        .seed(3)
        .nodes(Pool::control_plane(3))
        .nodes(Pool::new("general", 3));
    let cluster = started(several).await;
    cluster.api().set_metrics("");
    assert_eq!(
        found(&cluster, "KM-API").await,
        ["KM-API-004 info Path /metrics"]
    );
    assert!(found(&started(small()).await, "KM-API").await.is_empty());
}

/// Rules that allow everything in [`REQUIRED`] on resources but `without`.
fn rules(without: &[(&str, &str)]) -> Vec<AccessRule> {
    let mut rules = vec![AccessRule::new(["create"], ["authorization.k8s.io"], ["*"])];
    for permission in REQUIRED {
        let Target::Resource { group, resource } = permission.target else {
            continue;
        };
        for verb in permission
            .verbs
            .iter()
            .filter(|verb| !without.contains(&(**verb, resource)))
        {
            let rule = AccessRule::new([*verb], [group], [resource]);
            rules.push(match permission.namespace {
                Some(namespace) => rule.in_namespaces([namespace]),
                None => rule,
            });
        }
    }
    rules
}

#[tokio::test(start_paused = true)]
async fn missing_permissions_name_the_rule_to_add() {
    let cluster = started(small()).await;
    cluster.api().set_access(rules(&[]));
    assert_eq!(
        found(&cluster, "KM-RBAC").await,
        [""; 0],
        "what is asked for is enough"
    );
    assert_eq!(found(&cluster, "KM-").await, [""; 0], "for every check");

    let input = input(&cluster).await;
    cluster.api().set_access(rules(&[
        ("create", "pods/eviction"),
        ("list", "endpointslices"),
        ("list", "apiservices"),
    ]));
    let report = Preflight::new(cluster.client())
        .check(&input, RUN)
        .await
        .unwrap();
    let found: Vec<String> = report
        .findings
        .iter()
        .map(|f| format!("{} {} {}", f.code, f.object, f.cure))
        .collect();
    assert_eq!(
        found,
        [
            "KM-RBAC-001 Permission create pods/eviction add the rule \
         {apiGroups: [\"\"], resources: [\"pods/eviction\"], verbs: [\"create\"]}",
            "KM-RBAC-002 Permission list apiservices add the rule \
         {apiGroups: [\"apiregistration.k8s.io\"], resources: [\"apiservices\"], verbs: [\"list\"]}",
            "KM-RBAC-002 Permission list endpointslices add the rule \
         {apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: [\"list\"]}",
        ]
    );
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.severity == Severity::Blocker)
    );
}

fn health_check(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck",
        "metadata": { "name": name, "namespace": "shop", "annotations": annotations },
    })
}

#[tokio::test(start_paused = true)]
async fn other_actors_are_found_by_name_image_and_object() {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "machinehealthchecks.cluster.x-k8s.io" },
        "spec": {
            "group": "cluster.x-k8s.io", "scope": "Namespaced",
            "names": { "plural": "machinehealthchecks", "singular": "machinehealthcheck", "kind": "MachineHealthCheck" },
            "versions": [{ "name": "v1beta2", "served": true, "storage": true }],
        },
    });
    let mut scaler = Workload::deployment("ops", "scaler", 1);
    scaler.image = Some("registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0".into());
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "tidy", "namespace": "ops", "labels": { "app.kubernetes.io/name": "descheduler" } },
        "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": { "spec": { "containers": [] } } } } },
    });
    let paused = health_check("paused", json!({ "cluster.x-k8s.io/paused": "" }));
    let cluster = started(
        small()
            .workload(scaler)
            .workload(Workload::daemon_set("ops", "kured"))
            .workload(Workload::deployment("ops", "karpenter", 0))
            .workload(Workload::deployment("shop", "web", 2))
            .object(cron)
            .object(definition)
            .object(paused),
    )
    .await;
    let programs = [
        "KM-ACTOR-001 warning Deployment ops/scaler",
        "KM-ACTOR-004 warning DaemonSet ops/kured",
        "KM-ACTOR-005 warning CronJob ops/tidy",
    ];
    assert_eq!(
        found(&cluster, "KM-ACTOR").await,
        programs,
        "paused and scaled to 0 are no actors"
    );
    let resource = cluster
        .store()
        .resources()
        .find(|resource| resource.kind == "MachineHealthCheck")
        .unwrap();
    // It is behind more than a page of paused ones.
    for index in 0..600 {
        let paused = json!({ "cluster.x-k8s.io/paused": "" });
        let paused = health_check(&format!("paused-{index}"), paused);
        cluster.store().create(resource, paused).unwrap();
    }
    cluster
        .store()
        .create(resource, health_check("workers", json!({})))
        .unwrap();
    let actors: BTreeSet<String> = found(&cluster, "KM-ACTOR").await.into_iter().collect();
    assert!(
        actors.contains("KM-ACTOR-003 blocker MachineHealthCheck shop/workers"),
        "{actors:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_cluster_a_slow_one_and_a_cancelled_run_are_errors() {
    let cluster = started(small()).await;
    let good = input(&cluster).await;
    let preflight = Preflight::new(cluster.client());

    let mut other = good.clone();
    let mut model = (*other.model).clone();
    model.cluster = ClusterId::new("elsewhere");
    other.model = Arc::new(model);
    let error = preflight.run(&context(), &other).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Conflict);
    assert!(error.message.contains("elsewhere"), "{error}");

    cluster
        .api()
        .set_faults(|request| match request.resource.as_str() {
            "apiservices" => Fault::Delay(Duration::from_secs(60)),
            _ => Fault::Pass,
        });
    let begun = tokio::time::Instant::now();
    let error = preflight.check(&good, RUN).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Deadline {
                check: "APIServices",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        begun.elapsed().as_secs(),
        good.policy.deadlines.request.as_secs()
    );

    let cancel = Cancellation::new();
    let cx = context().with_cancel(cancel.clone());
    let checking = preflight.run(&cx, &good);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    };
    let (answer, ()) = futures::join!(checking, stop);
    assert_eq!(answer.unwrap_err().kind, StepErrorKind::Cancelled);

    cluster.api().clear_faults();
    cluster.api().set_available(false);
    let error = preflight.run(&context(), &good).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Unavailable, "{error}");
}
