use migrate_core::model::{NodeSelectorOperator, PodPhase, Role, TaintEffect, UnhealthyPodPolicy};
use migrate_core::{IntOrPercent, Moment, WorkloadId};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn owner(group: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": true }])
}

#[test]
fn a_node_in_full() {
    let node: Node = read(json!({
        "metadata": {
            "name": "a", "uid": "u-a", "resourceVersion": "7",
            "labels": { "node-role.kubernetes.io/control-plane": "", "zone": "x" },
            "managedFields": [{ "manager": "kubelet", "fieldsV1": { "f:status": {} } }],
        },
        "spec": {
            "unschedulable": true,
            "taints": [
                { "key": "a", "value": "v", "effect": "NoExecute" },
                { "key": "b", "effect": "PreferNoSchedule" },
                { "key": "c", "effect": "AnEffectOfALaterVersion" },
            ],
        },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.36.3" },
            "allocatable": {
                "cpu": "3920m", "memory": "16Gi", "pods": "110",
                "hugepages-2Mi": "0", "example.com/gpu": "4",
            },
        },
    }));
    assert_eq!(node.metadata.managed_fields, None);
    let model = node.to_model().unwrap();
    assert_eq!((model.name.as_str(), model.uid.as_str()), ("a", "u-a"));
    assert_eq!(model.role, Role::ControlPlane);
    assert!(model.unschedulable && model.ready);
    let effects: Vec<TaintEffect> = model.taints.iter().map(|taint| taint.effect).collect();
    let (keeps, prefers) = (TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule);
    assert_eq!(effects, [TaintEffect::NoExecute, prefers, keeps]);
    assert_eq!(model.allocatable.cpu_milli, 3920);
    assert_eq!(model.allocatable.memory_bytes, 16 << 30);
    assert_eq!(model.allocatable.pods, 110);
    assert_eq!(
        model.allocatable.extended,
        [("example.com/gpu".to_owned(), 4)].into()
    );
}

#[test]
fn a_node_that_has_not_reported_has_no_model() {
    let node: Node = read(json!({ "metadata": { "name": "new" }, "spec": {}, "status": {} }));
    assert!(!node.has_reported());
    let error = node.to_model().unwrap_err().to_string();
    assert!(
        error.starts_with("get nodes new: unreadable answer"),
        "{error}"
    );
}

#[test]
fn a_pod_in_full() {
    let replica_set: ReplicaSet = read(json!({
        "metadata": { "name": "web-7f", "namespace": "shop", "uid": "rs-1",
                      "ownerReferences": owner("apps/v1", "Deployment", "web", "d-1") },
    }));
    let claim: PersistentVolumeClaim = read(json!({
        "metadata": { "name": "web-1-scratch", "namespace": "shop" },
        "spec": { "volumeName": "pv-1" },
    }));
    let hostname = "kubernetes.io/hostname";
    let volume: PersistentVolume = read(json!({
        "metadata": { "name": "pv-1" },
        "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [{
            "matchExpressions": [{ "key": hostname, "operator": "In", "values": ["a"] }],
        }] } } },
    }));
    let pod: Pod = read(json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "u-1",
            "labels": { "app": "web", "pod-template-hash": "7f" },
            "annotations": {
                "karpenter.sh/do-not-disrupt": "10m",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
            "deletionTimestamp": "2026-11-18T11:08:43Z",
            "ownerReferences": owner("apps/v1", "ReplicaSet", "web-7f", "rs-1"),
        },
        "spec": {
            "nodeName": "a", "priority": 5, "terminationGracePeriodSeconds": 60,
            "nodeSelector": { "zone": "x" },
            "volumes": [
                { "name": "tmp", "emptyDir": {} },
                { "name": "data", "persistentVolumeClaim": { "claimName": "data-1" } },
                { "name": "scratch", "ephemeral": { "volumeClaimTemplate": {} } },
                { "name": "config", "configMap": { "name": "x" } },
            ],
            "tolerations": [
                { "operator": "Exists" },
                { "key": "k", "value": "v", "effect": "NoSchedule" },
                { "key": "size", "operator": "Gt", "value": "4" },
            ],
            "affinity": {
                "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{
                        "matchExpressions": [{ "key": "zone", "operator": "Exists" }],
                        "matchFields":
                            [{ "key": "metadata.name", "operator": "NotIn", "values": ["b"] }],
                    }],
                } },
                "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                    { "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "own" },
                    { "labelSelector": {}, "topologyKey": "listed", "namespaces": ["shop"] },
                    { "labelSelector": {}, "topologyKey": "all", "namespaceSelector": {} },
                    { "labelSelector": {}, "topologyKey": "foreign", "namespaces": ["else"] },
                    { "labelSelector": {}, "topologyKey": "some",
                      "namespaceSelector": { "matchLabels": { "team": "x" } } },
                    { "topologyKey": "none" },
                ] },
            },
            "topologySpreadConstraints": [
                { "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                  "labelSelector": { "matchLabels": { "app": "web" } },
                  "matchLabelKeys": ["pod-template-hash", "absent"] },
                { "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                  "labelSelector": {} },
            ],
        },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }] },
    }));

    let mut resolver = Resolver::new();
    let unresolved = pod.to_model(&resolver);
    let stand_in = WorkloadId::new("ReplicaSet", "shop", "web-7f");
    assert_eq!(unresolved.workload, Some(stand_in));
    assert!(unresolved.placement.volume_affinity.is_empty());

    assert!(resolver.see_replica_set(&replica_set) && !resolver.see_replica_set(&replica_set));
    assert!(resolver.see_claim(&claim) && !resolver.see_claim(&claim));
    assert!(resolver.see_volume(&volume) && !resolver.see_volume(&volume));
    assert_eq!(resolver.volume_of("shop", "web-1-scratch"), Some("pv-1"));
    let model = pod.to_model(&resolver);
    assert_eq!(
        model.workload,
        Some(WorkloadId::new("Deployment", "shop", "web"))
    );
    assert_eq!(
        model.controller.as_ref().map(|c| c.group.as_str()),
        Some("apps")
    );
    assert_eq!(model.node.as_deref(), Some("a"));
    assert_eq!(model.phase, PodPhase::Running);
    assert!(!model.ready && !model.mirror && model.empty_dir);
    let asks = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    assert_eq!(model.do_not_disrupt.as_deref(), Some(asks));
    assert_eq!(model.deletion, Some(Moment::from_millis(1_795_000_123_000)));
    assert_eq!((model.grace_seconds, model.priority), (60, 5));
    assert_eq!(model.claims, ["data-1", "web-1-scratch"]);

    let placement = &model.placement;
    assert_eq!(placement.volume_affinity.len(), 1);
    assert_eq!(placement.volume_affinity[0][0].0[0].key, hostname);
    let requirements = &placement.node_affinity[0].0;
    assert_eq!(requirements[0].operator, NodeSelectorOperator::Exists);
    assert_eq!(requirements[1].key, "metadata.name");
    let domains: Vec<&str> = placement
        .anti_affinity
        .iter()
        .map(|term| term.topology_key.as_str())
        .collect();
    assert_eq!(domains, ["own", "listed", "all"]);
    assert_eq!(placement.tolerations.len(), 2);
    assert!(placement.tolerations[0].exists && placement.tolerations[0].key.is_none());
    assert_eq!(placement.spread.len(), 1);
    assert_eq!(
        placement.spread[0].selector.to_string(),
        "app=web,pod-template-hash=7f"
    );

    assert!(resolver.forget_replica_set(&replica_set) && resolver.forget_claim(&claim));
    assert!(resolver.forget_volume(&volume));
    assert_eq!(pod.to_model(&resolver), unresolved);
}

#[test]
fn pods_of_other_controllers() {
    let resolver = Resolver::new();
    let workload = |group, kind| {
        let pod: Pod = read(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u",
                          "ownerReferences": owner(group, kind, "o", "u-o") },
        }));
        pod.to_model(&resolver)
            .workload
            .map(|workload| workload.kind)
    };
    for (group, kind) in [
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
    ] {
        assert_eq!(workload(group, kind).as_deref(), Some(kind));
    }
    assert_eq!(workload("v1", "Node"), None);
    // Whose objects are not read.
    for (group, kind, named) in [
        ("v1", "ReplicationController", "ReplicationController"),
        ("apps.kruise.io/v1alpha1", "CloneSet", "CloneSet"),
        // Never taken for the one of `apps`.
        ("example.com/v1", "StatefulSet", "StatefulSet.example.com"),
        ("batch.volcano.sh/v1alpha1", "Job", "Job.batch.volcano.sh"),
    ] {
        assert_eq!(workload(group, kind).as_deref(), Some(named));
    }

    let bare: Pod = read(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u", "ownerReferences": [
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "no-controller", "uid": "x" },
        ] },
    }));
    let bare = bare.to_model(&resolver);
    assert!(bare.controller.is_none() && bare.workload.is_none() && bare.node.is_none());
    assert_eq!((bare.phase, bare.grace_seconds), (PodPhase::Pending, 30));
}

#[test]
fn pods_of_a_controller_that_is_not_read_are_its_own_only_if_it_keeps_them_running() {
    let workload = |group, kind, policy: Value| {
        let pod: Pod = read(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u",
                          "ownerReferences": owner(group, kind, "o", "u-o") },
            "spec": { "restartPolicy": policy },
        }));
        pod.to_model(&Resolver::new()).workload
    };
    let of_pipeline = |policy| workload("tekton.dev/v1", "TaskRun", policy);
    assert_eq!(of_pipeline(json!("Never")), None);
    assert_eq!(of_pipeline(json!("OnFailure")), None);
    assert!(of_pipeline(json!("Always")).is_some());
    assert!(of_pipeline(Value::Null).is_some());
    assert!(workload("batch/v1", "Job", json!("Never")).is_some());
}

#[test]
fn requests_are_counted_as_the_scheduler_counts_them() {
    let container = |cpu: &str| json!({ "resources": { "requests": { "cpu": cpu } } });
    let mut sidecar = container("300m");
    sidecar["restartPolicy"] = json!("Always");
    let mut spec = json!({
        "containers": [container("1"), container("500m"), { "name": "asks for nothing" }],
        "initContainers": [container("100m"), sidecar, container("600m")],
        "overhead": { "cpu": "10m", "memory": "64Mi" },
    });
    let requests = |spec: &Value| {
        let pod: Pod = read(json!({ "spec": spec }));
        pod.to_model(&Resolver::new()).requests
    };
    let all = requests(&spec);
    assert_eq!(
        (all.cpu_milli, all.memory_bytes, all.pods),
        (1810, 64 << 20, 1)
    );
    // A last initialisation that needs more than everything that runs later.
    spec["initContainers"][2] = container("2");
    assert_eq!(requests(&spec).cpu_milli, 2310);
    spec["resources"] = json!({ "requests": { "cpu": "4" } });
    assert_eq!(requests(&spec).cpu_milli, 4010);
}

#[test]
fn budgets() {
    let mut json = json!({
        "metadata": { "name": "b", "namespace": "shop", "generation": 3 },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } }, "maxUnavailable": "25%",
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
        "status": {
            "observedGeneration": 3, "disruptionsAllowed": 1, "currentHealthy": 4,
            "desiredHealthy": 3, "expectedPods": 4,
            "disruptedPods": { "web-1": "2026-11-18T11:08:43Z" },
            "conditions": [{ "type": "DisruptionAllowed", "status": "True",
                             "reason": "SufficientPods" }],
        },
    });
    let budget = read::<PodDisruptionBudget>(json.clone()).to_model();
    assert_eq!(budget.max_unavailable, Some(IntOrPercent::Percent(25)));
    assert_eq!(budget.unhealthy_pods, UnhealthyPodPolicy::AlwaysAllow);
    assert!(budget.status.observed && budget.status.sync_failed.is_none());
    assert!(budget.status.disrupted_pods.contains("web-1"));
    assert_eq!(budget.status.disruptions_allowed, 1);

    json["metadata"]["generation"] = json!(4);
    json["spec"] = json!({ "selector": null, "unhealthyPodEvictionPolicy": "OfALaterVersion" });
    json["status"]["disruptedPods"] = json!(null);
    json["status"]["conditions"][0] = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
        "message": "found no controllers",
    });
    let budget = read::<PodDisruptionBudget>(json).to_model();
    assert!(!budget.status.observed);
    assert_eq!(budget.selector, None);
    assert_eq!(budget.unhealthy_pods, UnhealthyPodPolicy::Unknown);
    assert_eq!(
        budget.status.sync_failed.as_deref(),
        Some("found no controllers")
    );
}

#[test]
fn workloads_say_how_many_pods_they_want() {
    let meta = json!({ "name": "x", "namespace": "ns", "uid": "u" });
    let deployment: Deployment = read(json!({
        "metadata": meta, "spec": { "replicas": 3 }, "status": { "readyReplicas": 2 },
    }));
    let model = deployment.to_model();
    assert_eq!(
        (model.replicas, model.ready, model.uid.as_str()),
        (3, 2, "u")
    );
    let defaulted: StatefulSet = read(json!({ "metadata": meta, "spec": {}, "status": {} }));
    assert_eq!(defaulted.to_model().replicas, 1);
    let daemon_set: DaemonSet = read(json!({
        "metadata": meta, "status": { "desiredNumberScheduled": 4, "numberReady": 3 },
    }));
    let model = daemon_set.to_model();
    assert_eq!((model.replicas, model.ready), (4, 3));

    // How many are available is said of the newest spec only.
    let available = |observed: i64| {
        let meta = json!({ "name": "x", "namespace": "ns", "generation": 2 });
        let counts = json!({ "availableReplicas": 2, "numberAvailable": 2,
                             "observedGeneration": observed });
        let object = json!({ "metadata": meta, "spec": {}, "status": counts });
        [
            read::<Deployment>(object.clone()).to_model().available,
            read::<StatefulSet>(object.clone()).to_model().available,
            read::<DaemonSet>(object).to_model().available,
        ]
    };
    assert_eq!(available(2), [Some(2); 3]);
    let waits = json!({ "metadata": meta, "spec": { "minReadySeconds": 30 }, "status": {} });
    let waits = [
        read::<Deployment>(waits.clone()).to_model(),
        read::<StatefulSet>(waits.clone()).to_model(),
        read::<DaemonSet>(waits).to_model(),
    ];
    assert_eq!(waits.map(|model| model.min_ready_seconds), [30; 3]);
    assert_eq!(available(1), [None; 3]);

    let job = |spec: Value, condition: &str| {
        let conditions = json!([{ "type": condition, "status": "True" }]);
        let job: Job =
            read(json!({ "metadata": meta, "spec": spec, "status": { "conditions": conditions } }));
        job.to_model().replicas
    };
    assert_eq!(job(json!({ "parallelism": 2 }), "SuccessCriteriaMet"), 2);
    assert_eq!(job(json!({ "parallelism": 2 }), "Complete"), 0);
    assert_eq!(job(json!({}), "Failed"), 0);
    assert_eq!(job(json!({ "suspend": true }), "Suspended"), 0);
}

proptest! {
    /// Lists, maps and optional fields, which the API's own types write as null.
    #[test]
    fn absent_and_null_read_alike(
        section in prop::sample::select(vec!["metadata", "spec", "status"]),
        field in prop::sample::select(vec![
            "annotations", "labels", "ownerReferences", "taints", "conditions", "allocatable",
            "volumesAttached", "containers", "initContainers", "volumes", "nodeSelector",
            "affinity", "tolerations", "topologySpreadConstraints", "overhead", "resources",
            "nodeName", "priority", "selector", "minAvailable", "disruptedPods",
        ]),
    ) {
        let absent = json!({ "metadata": { "name": "x" }, "spec": {}, "status": {} });
        let mut null = absent.clone();
        null[section][field] = Value::Null;
        prop_assert_eq!(read::<Node>(null.clone()), read::<Node>(absent.clone()));
        prop_assert_eq!(read::<Pod>(null.clone()), read::<Pod>(absent.clone()));
        prop_assert_eq!(read::<Deployment>(null.clone()), read::<Deployment>(absent.clone()));
        let budget: PodDisruptionBudget = read(null);
        prop_assert_eq!(budget, read::<PodDisruptionBudget>(absent));
    }
}
