//! The workloads as objects of the API.

use serde_json::{Value, json};

use super::ledger::LINES;
use super::{Kind, PORT, Workload};

/// Where the local volume lies on its node.
pub(super) const VOLUME: &str = "/var/lib/ledger";
/// Seconds until a server says that it is ready.
const READY_AFTER: &str = "10";

/// The volume of [`Kind::Pinned`], on a node.
pub(super) fn storage(node: &str) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "local"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "ledger"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local", "local": {"path": VOLUME},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                    "key": "kubernetes.io/hostname", "operator": "In", "values": [node],
                }]}]}},
            },
        }),
    ]
}

/// A workload with its Service and its budget.
pub(super) fn of(workload: &Workload) -> Vec<Value> {
    let mut objects = vec![match workload.kind {
        Kind::Deployment { replicas } => deployment(workload, replicas),
        Kind::Pinned => stateful_set(workload),
        Kind::LongJob => long_job(workload),
        Kind::ShortJobs => json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": metadata(workload),
            "spec": {
                "schedule": "* * * * *", "concurrencyPolicy": "Forbid",
                // Its standard input is empty: it ends at once.
                "jobTemplate": {"spec": job(workload, &["load", "1", "none=127.0.0.1:1"])},
            },
        }),
    }];
    if let Some(min_available) = workload.min_available {
        objects.push(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": metadata(workload),
            "spec": {"minAvailable": min_available, "selector": selector(workload)},
        }));
    }
    if let Some(node_port) = workload.node_port {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": metadata(workload),
            "spec": {
                "type": "NodePort", "selector": {"app": workload.name},
                "ports": [{"port": PORT, "targetPort": PORT, "nodePort": node_port}],
            },
        }));
    }
    objects
}

fn deployment(workload: &Workload, replicas: u32) -> Value {
    let mut pod = server(workload);
    pod["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector(workload),
    }]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": metadata(workload),
        "spec": {"replicas": replicas, "selector": selector(workload), "template": pod},
    })
}

fn stateful_set(workload: &Workload) -> Value {
    let mut pod = server(workload);
    let mut recorder = container(&["record", &format!("/data/{LINES}")]);
    recorder["name"] = json!("recorder");
    recorder["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let server = pod["spec"]["containers"][0].take();
    pod["spec"]["containers"] = json!([server, recorder]);
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": metadata(workload),
        "spec": {
            "replicas": 1, "serviceName": workload.name, "selector": selector(workload),
            "template": pod,
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }],
        },
    })
}

/// A pod that takes ten seconds until it is ready, and its preStop hook to go.
fn server(workload: &Workload) -> Value {
    let mut container = container(&["serve", &PORT.to_string(), READY_AFTER]);
    container["readinessProbe"] = json!({
        "httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 1,
    });
    if workload.pre_stop > 0 {
        container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": workload.pre_stop}}});
    }
    json!({
        "metadata": {"labels": {"app": workload.name}},
        "spec": {
            "terminationGracePeriodSeconds": workload.pre_stop + 10, "containers": [container],
        },
    })
}

/// A Job whose pod asks nobody for as long as its standard input is open. It
/// does not listen to SIGTERM: one that ended well would have done its work.
fn long_job(workload: &Workload) -> Value {
    let mut spec = job(workload, &["load", "1", "none=127.0.0.1:1"]);
    spec["template"]["spec"]["containers"][0]["stdin"] = json!(true);
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(workload), "spec": spec,
    })
}

/// A Job that an eviction does not make fail.
fn job(workload: &Workload, arguments: &[&str]) -> Value {
    json!({
        "podFailurePolicy": {"rules": [{
            "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}],
        }]},
        "template": {
            "metadata": {"labels": {"app": workload.name}},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
                "containers": [container(arguments)],
            },
        },
    })
}

fn container(arguments: &[&str]) -> Value {
    json!({
        "name": "main", "image": "testbed.local/traffic:1",
        "imagePullPolicy": "Never", "args": arguments,
        "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}},
    })
}

fn metadata(workload: &Workload) -> Value {
    json!({"name": workload.name, "namespace": "default"})
}

fn selector(workload: &Workload) -> Value {
    json!({"matchLabels": {"app": workload.name}})
}
