//! EndpointSlices: where the pods behind a Service are.

use serde_json::{Value, json};

use super::context::Context;
use super::settings::short_hash;
use super::work::Key;
use crate::object::{
    at, is_finished, is_ready, is_terminating, node_name, owner_reference, set_at, str_at,
};
use crate::store::{Object, Resource};

/// Looks at one Service; it gets one slice, whatever the number of its pods.
pub(crate) fn sync(cx: &mut Context<'_>, key: &Key) {
    let Some(service) = cx.get(Resource::SERVICES, key) else {
        return;
    };
    if at(&service.json, &["spec", "selector"]).is_none() || is_terminating(&service.json) {
        return;
    }
    let endpoints: Vec<Value> = cx
        .index
        .services
        .pods_of(key)
        .filter_map(|pod| cx.store.get(Resource::PODS, &key.namespace, pod))
        .filter(|pod| !is_finished(&pod.json))
        .filter_map(|pod| endpoint(pod))
        .collect();
    let there = cx
        .store
        .dependents(service.uid())
        .find(|object| object.resource == Resource::ENDPOINT_SLICES);
    let slice = Key::new(
        key.namespace.as_str(),
        match there {
            Some(slice) => slice.name.clone(),
            None => format!("{}-{}", key.name, short_hash(service.uid())),
        },
    );
    if cx.get(Resource::ENDPOINT_SLICES, &slice).is_some() {
        cx.modify(Resource::ENDPOINT_SLICES, &slice, |slice| {
            set_at(slice, &["endpoints"], endpoints)
        });
        return;
    }
    let ports = at(&service.json, &["spec", "ports"])
        .cloned()
        .unwrap_or_else(|| json!([]));
    let ports: Vec<Value> = ports.as_array().into_iter().flatten().map(port).collect();
    cx.create(
        Resource::ENDPOINT_SLICES,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": slice.namespace, "name": slice.name,
                "labels": {
                    "kubernetes.io/service-name": key.name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [owner_reference("v1", "Service", &service.json)],
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        }),
    );
}

fn endpoint(pod: &Object) -> Option<Value> {
    let address = at(&pod.json, &["status", "podIP"])?.as_str()?;
    let (is_serving, is_going) = (is_ready(&pod.json), is_terminating(&pod.json));
    Some(json!({
        "addresses": [address],
        "conditions": {"ready": is_serving && !is_going, "serving": is_serving, "terminating": is_going},
        "nodeName": node_name(&pod.json),
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid()},
    }))
}

fn port(port: &Value) -> Value {
    let number = at(port, &["targetPort"])
        .filter(|port| port.is_number())
        .or_else(|| at(port, &["port"]));
    json!({"name": str_at(port, &["name"]), "port": number, "protocol": "TCP"})
}
