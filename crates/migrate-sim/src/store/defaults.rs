//! Fields that the API server fills in when an object is created.

use serde_json::{Value, json};

use super::Resource;
use crate::object::{array_at, items_at, quantity_milli, set_at, str_at};

/// Fills in what the object leaves out and other parts of the cluster rely on.
pub(super) fn apply(resource: &Resource, object: &mut Value) {
    if resource == Resource::PODS {
        pod(object);
    } else if resource == Resource::NAMESPACES {
        fill(object, &["spec", "finalizers"], json!(["kubernetes"]));
        fill(object, &["status", "phase"], json!("Active"));
        let name = object["metadata"]["name"].clone();
        fill(
            object,
            &["metadata", "labels", "kubernetes.io/metadata.name"],
            name,
        );
    } else if resource == Resource::DEPLOYMENTS {
        fill(object, &["spec", "replicas"], json!(1));
        fill(
            object,
            &["spec", "strategy", "type"],
            json!("RollingUpdate"),
        );
        if object["spec"]["strategy"]["type"] == "RollingUpdate" {
            fill(
                object,
                &["spec", "strategy", "rollingUpdate", "maxSurge"],
                json!("25%"),
            );
            fill(
                object,
                &["spec", "strategy", "rollingUpdate", "maxUnavailable"],
                json!("25%"),
            );
        }
        fill(object, &["spec", "progressDeadlineSeconds"], json!(600));
        fill(object, &["spec", "revisionHistoryLimit"], json!(10));
    } else if resource == Resource::REPLICA_SETS || resource == Resource::REPLICATION_CONTROLLERS {
        fill(object, &["spec", "replicas"], json!(1));
    } else if resource == Resource::STATEFUL_SETS {
        fill(object, &["spec", "replicas"], json!(1));
        fill(
            object,
            &["spec", "podManagementPolicy"],
            json!("OrderedReady"),
        );
        fill(
            object,
            &["spec", "updateStrategy", "type"],
            json!("RollingUpdate"),
        );
    } else if resource == Resource::DAEMON_SETS {
        fill(
            object,
            &["spec", "updateStrategy", "type"],
            json!("RollingUpdate"),
        );
    } else if resource == Resource::JOBS {
        fill(object, &["spec", "parallelism"], json!(1));
        fill(object, &["spec", "completions"], json!(1));
        fill(object, &["spec", "backoffLimit"], json!(6));
    }
}

fn pod(object: &mut Value) {
    fill(object, &["spec", "restartPolicy"], json!("Always"));
    fill(
        object,
        &["spec", "terminationGracePeriodSeconds"],
        json!(30),
    );
    fill(
        object,
        &["spec", "schedulerName"],
        json!("default-scheduler"),
    );
    fill(object, &["status", "phase"], json!("Pending"));
    let class = quality_of_service(object);
    fill(object, &["status", "qosClass"], json!(class));
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = items_at(object, &["spec", "tolerations"])
            .iter()
            .any(|t| ["", key].contains(&str_at(t, &["key"])));
        if !tolerated {
            array_at(object, &["spec", "tolerations"]).push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// Guaranteed: every container limits cpu and memory and requests exactly that;
/// BestEffort: nothing is requested; Burstable: the rest.
fn quality_of_service(pod: &Value) -> &'static str {
    let containers = items_at(pod, &["spec", "containers"]);
    let limited = containers.iter().all(|container| {
        let resources = &container["resources"];
        ["cpu", "memory"].iter().all(|unit| {
            let limit = quantity_milli(&resources["limits"][unit]);
            let request = quantity_milli(&resources["requests"][unit]).or(limit);
            limit.is_some() && request == limit
        })
    });
    let asks = |kind: &str| {
        containers.iter().any(|c| {
            c["resources"][kind]
                .as_object()
                .is_some_and(|m| !m.is_empty())
        })
    };
    match (
        limited && !containers.is_empty(),
        asks("requests") || asks("limits"),
    ) {
        (true, _) => "Guaranteed",
        (false, true) => "Burstable",
        (false, false) => "BestEffort",
    }
}

fn fill(object: &mut Value, path: &[&str], value: Value) {
    let mut place = &*object;
    for key in path {
        match place.get(key) {
            Some(next) if !next.is_null() => place = next,
            _ => return set_at(object, path, value),
        }
    }
}
