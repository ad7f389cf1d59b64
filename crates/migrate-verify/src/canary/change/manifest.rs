//! What the change is made of.

use std::net::{IpAddr, SocketAddr};

use migrate_core::CanaryPod;
use migrate_core::model::{STEP_LABEL, TRIAL};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::manifest::manifest as trial;
use super::super::objects::Metadata;

/// On everything that a change is made of.
pub(in super::super) const CHANGE_LABEL: &str = "kube-migrate.dev/change";
/// What no node has.
const NOWHERE: &str = "kube-migrate.dev/nowhere";
/// Of a domain that is reserved, so that nobody has it (RFC 2606).
const NO_IMAGE: &str = "kube-migrate.invalid/never-pulled:0";

/// A pod on `node` that its kubelet refuses at admission, as the node has not the
/// label that it asks for: the scheduler, who would see to that, is not asked.
pub(super) fn pod(node: &str) -> Value {
    let mut pod = trial(&CanaryPod::new(NO_IMAGE), node);
    let mut set = |pointer: &str, field: &str, value: Value| {
        if let Some(Value::Object(fields)) = pod.pointer_mut(pointer) {
            fields.insert(field.to_owned(), value);
        }
    };
    set("/metadata", "generateName", json!("kube-migrate-change-"));
    set("/metadata/labels", CHANGE_LABEL, json!("pod"));
    set("/spec", "nodeSelector", json!({ NOWHERE: "nowhere" }));
    let container = "/spec/containers/0";
    set(container, "imagePullPolicy", json!("Never"));
    set(container, "command", json!(["never-run"]));
    pod
}

/// What is read of the EndpointSlice of the API's own Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Slice {
    address_type: String,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Conditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    port: u16,
}

/// What is read of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) metadata: Metadata,
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
}

impl Slice {
    /// The one port that is led to.
    fn port(&self) -> Port {
        self.ports.first().cloned().unwrap_or_default()
    }

    /// Whether it leads anywhere.
    pub(super) fn leads(&self) -> bool {
        self.port().port != 0 && self.ready().next().is_some()
    }

    fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(|endpoint| endpoint.conditions.ready != Some(false))
    }

    /// A Service without a selector, which nobody but a slice of ours leads anywhere.
    pub(super) fn service(&self) -> Value {
        let Port { name, port } = self.port();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": labelled(json!({
                "generateName": "kube-migrate-change-",
            })),
            "spec": {
                "ipFamilies": [self.address_type],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{ "name": name, "port": port, "targetPort": port }],
            },
        })
    }

    /// Leads `service` where this one leads.
    pub(super) fn behind(&self, service: &Metadata) -> Value {
        let endpoints: Vec<Value> = self
            .ready()
            .map(|endpoint| json!({ "addresses": endpoint.addresses }))
            .collect();
        let mut slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": labelled(json!({
                "name": service.name,
                // So that it goes with its Service, too.
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service.name,
                    "uid": service.uid,
                }],
            })),
            "addressType": self.address_type,
            "endpoints": endpoints,
            "ports": [self.port()],
        });
        let of_service = [
            ("kubernetes.io/service-name", service.name.as_str()),
            ("endpointslice.kubernetes.io/managed-by", "kube-migrate"),
        ];
        if let Some(Value::Object(labels)) = slice.pointer_mut("/metadata/labels") {
            labels.extend(of_service.map(|(key, value)| (key.to_owned(), json!(value))));
        }
        slice
    }

    /// Where nodes reach the API through `service`; `None` if it has no address.
    pub(super) fn address(&self, service: &Service) -> Option<SocketAddr> {
        let ip: IpAddr = service.spec.cluster_ip.parse().ok()?;
        Some(SocketAddr::new(ip, self.port().port))
    }
}

fn labelled(mut metadata: Value) -> Value {
    let labels = json!({ STEP_LABEL: TRIAL, CHANGE_LABEL: "service" });
    if let Some(fields) = metadata.as_object_mut() {
        fields.insert("labels".to_owned(), labels);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn the_pod_is_for_no_node_and_pulls_nothing() {
        let pod = pod("w-1");
        assert_eq!(pod["spec"]["nodeName"], "w-1");
        assert_eq!(pod["spec"]["nodeSelector"][NOWHERE], "nowhere");
        assert_eq!(
            pod["spec"]["tolerations"],
            json!([{ "operator": "Exists" }])
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Never");
        assert_eq!(pod["metadata"]["labels"][STEP_LABEL], TRIAL);
        assert_eq!(pod["metadata"]["labels"][CHANGE_LABEL], "pod");
    }

    #[test]
    fn the_service_leads_where_the_api_is_and_not_to_who_is_not_ready() {
        let slice: Slice = from_value(json!({
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
                { "addresses": ["10.0.0.2"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.3"] },
            ],
            "ports": [{ "name": "https", "port": 6443, "protocol": "TCP" }],
        }))
        .unwrap();
        assert!(slice.leads() && !Slice::default().leads());
        let spec = &slice.service()["spec"];
        let port = json!({ "name": "https", "port": 6443, "targetPort": 6443 });
        assert_eq!(spec["ports"], json!([port]));
        let made: Service = from_value(json!({
            "metadata": { "name": "c-x", "uid": "u" }, "spec": { "clusterIP": "10.96.0.7" },
        }))
        .unwrap();
        assert_eq!(slice.address(&made), "10.96.0.7:6443".parse().ok());
        assert_eq!(slice.address(&Service::default()), None);
        let ours = slice.behind(&made.metadata);
        assert_eq!(
            ours["metadata"]["labels"]["kubernetes.io/service-name"],
            "c-x"
        );
        let addresses = json!([{ "addresses": ["10.0.0.1"] }, { "addresses": ["10.0.0.3"] }]);
        assert_eq!(ours["endpoints"], addresses);
        assert_eq!(ours["ports"], json!([{ "name": "https", "port": 6443 }]));
    }
}
