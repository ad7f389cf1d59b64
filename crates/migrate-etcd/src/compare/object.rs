//! What an object of Kubernetes is outside of etcd.

use serde_json::Value;

use crate::inspect::kube::{BINARY, LARGEST, ObjectKey, part, parts};
use crate::inspect::kv::KeyValue;

/// The annotation of the pods that kubelets make of manifests.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// An object as far as it matters here.
pub(super) struct Object {
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) role: Role,
}

/// What there is of it beside what is in etcd.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Containers, where it has a node, and has neither ended nor is its kubelet's own.
    Pod { runs: bool, node: Option<String> },
    /// A disk: its driver and handle, or its path.
    Volume(Option<String>),
    /// A load balancer and its address.
    LoadBalancer(Option<String>),
    /// A machine.
    Node,
    /// Nothing.
    Other,
}

impl Object {
    /// `None` for a key that is no object's.
    pub(super) fn of(kv: &KeyValue<'_>) -> Option<Self> {
        let key = ObjectKey::parse(kv.key)?;
        let resource = key.resource();
        Some(Self {
            namespace: key.namespace.map(str::to_owned),
            name: key.name.to_owned(),
            role: Role::of(&resource, &Stored::of(kv.value)),
            resource,
        })
    }
}

impl Role {
    fn of(resource: &str, stored: &Stored<'_>) -> Self {
        match (resource, stored) {
            ("nodes", _) => Self::Node,
            // Encrypted: it may run anywhere.
            ("pods", Stored::Unread) => Self::Pod {
                runs: true,
                node: None,
            },
            ("pods", _) => {
                let node = stored.text(&[2, 10], "/spec/nodeName");
                let phase = stored.text(&[3, 1], "/status/phase");
                let has_ended = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
                Self::Pod {
                    runs: node.is_some() && !has_ended && !stored.has_annotation(MIRROR),
                    node,
                }
            }
            ("persistentvolumes", _) => Self::Volume(disk(stored)),
            ("services", _)
                if stored.text(&[2, 4], "/spec/type").as_deref() == Some("LoadBalancer") =>
            {
                let first = "/status/loadBalancer/ingress/0";
                let ip = stored.text(&[3, 1, 1, 1], &format!("{first}/ip"));
                let name = || stored.text(&[3, 1, 1, 2], &format!("{first}/hostname"));
                Self::LoadBalancer(ip.or_else(name))
            }
            _ => Self::Other,
        }
    }
}

/// Where a volume is: at its CSI driver, or a path of its node.
fn disk(stored: &Stored<'_>) -> Option<String> {
    if let Some(driver) = stored.text(&[2, 2, 22, 1], "/spec/csi/driver") {
        let handle = stored.text(&[2, 2, 22, 2], "/spec/csi/volumeHandle");
        return Some(format!("{driver} {}", handle.unwrap_or_default()));
    }
    let local = stored.text(&[2, 2, 20, 1], "/spec/local/path");
    local.or_else(|| stored.text(&[2, 2, 3, 1], "/spec/hostPath/path"))
}

/// A value as the API server has written it.
enum Stored<'a> {
    /// The message of its kind.
    Binary(&'a [u8]),
    Json(Value),
    /// Encrypted, no object, or too large.
    Unread,
}

impl<'a> Stored<'a> {
    fn of(value: &'a [u8]) -> Self {
        match value.strip_prefix(BINARY) {
            // `Unknown.raw`
            Some(unknown) => part(unknown, 2).map_or(Self::Unread, Self::Binary),
            None if value.len() > LARGEST => Self::Unread,
            None => serde_json::from_slice(value).map_or(Self::Unread, Self::Json),
        }
    }

    /// A text, by the numbers of the fields that lead to it, and as a pointer.
    fn text(&self, fields: &[u64], pointer: &str) -> Option<String> {
        match self {
            Self::Binary(message) => {
                let found = fields
                    .iter()
                    .try_fold(*message, |within, field| part(within, *field))?;
                // An absent text may be written as an empty one.
                (!found.is_empty()).then(|| String::from_utf8_lossy(found).into_owned())
            }
            Self::Json(object) => object.pointer(pointer)?.as_str().map(str::to_owned),
            Self::Unread => None,
        }
    }

    fn has_annotation(&self, name: &str) -> bool {
        match self {
            // `metadata`, in it the entries of `annotations`.
            Self::Binary(message) => part(message, 1).is_some_and(|metadata| {
                parts(metadata, 12).any(|entry| part(entry, 1) == Some(name.as_bytes()))
            }),
            Self::Json(object) => object["metadata"]["annotations"].get(name).is_some(),
            Self::Unread => false,
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::BINARY;
    use crate::protobuf::Message;

    /// An object as API servers write it: the fields of its three parts.
    pub(in crate::compare) fn binary(metadata: Message, spec: Message, status: Message) -> Vec<u8> {
        let object = Message::default()
            .bytes(1, &metadata.finish())
            .bytes(2, &spec.finish())
            .bytes(3, &status.finish());
        let unknown = Message::default().bytes(2, &object.finish()).finish();
        [BINARY, &unknown].concat()
    }

    /// One field after another, the last of them a text.
    pub(in crate::compare) fn nested(fields: &[u32], text: &str) -> Message {
        let (first, rest) = fields.split_first().unwrap();
        let inner = match rest {
            [] => text.as_bytes().to_vec(),
            _ => nested(rest, text).finish(),
        };
        Message::default().bytes(*first, &inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::samples::{binary, nested};
    use super::*;
    use crate::protobuf::Message;

    fn role(resource: &str, value: &[u8]) -> Role {
        Role::of(resource, &Stored::of(value))
    }

    fn both(resource: &str, binary: &[u8], object: &Value, expected: &Role) {
        let json = serde_json::to_vec(object).unwrap();
        assert_eq!(role(resource, binary), *expected, "{resource}, binary");
        assert_eq!(role(resource, &json), *expected, "{resource}, JSON");
    }

    #[test]
    fn a_pod_runs_where_it_is_bound_unless_it_has_ended_or_is_the_kubelets_own() {
        let none = Message::default;
        let bound = || nested(&[10], "n1");
        let pod = |runs, node: Option<&str>| Role::Pod {
            runs,
            node: node.map(str::to_owned),
        };
        let (plain, of_n1) = (none(), json!({"spec": {"nodeName": "n1"}}));
        let running = binary(plain, bound(), nested(&[1], "Running"));
        both("pods", &running, &of_n1, &pod(true, Some("n1")));
        let pending = json!({"spec": {}, "status": {"phase": "Pending"}});
        let unbound = binary(none(), nested(&[10], ""), nested(&[1], "Pending"));
        both("pods", &unbound, &pending, &pod(false, None));
        for phase in ["Succeeded", "Failed"] {
            let ended = json!({"spec": {"nodeName": "n1"}, "status": {"phase": phase}});
            let value = binary(none(), bound(), nested(&[1], phase));
            both("pods", &value, &ended, &pod(false, Some("n1")));
        }
        let other = nested(&[1], "a").bytes(2, b"b").finish();
        let mirror = nested(&[1], MIRROR).bytes(2, b"hash").finish();
        let metadata = none().bytes(12, &other).bytes(12, &mirror);
        let object = json!({
            "metadata": {"annotations": {"a": "b", MIRROR: "hash"}}, "spec": {"nodeName": "n1"},
        });
        let value = binary(metadata, bound(), none());
        both("pods", &value, &object, &pod(false, Some("n1")));
        let encrypted = b"k8s:enc:aescbc:v1:key1:\xff";
        assert_eq!(role("pods", encrypted), pod(true, None));
    }

    #[test]
    fn volumes_have_a_place_and_services_may_have_a_load_balancer() {
        let none = Message::default;
        let text = |text: &str| Some(text.to_owned());
        let csi = nested(&[1], "csi.example.org").bytes(2, b"vol-1").finish();
        let source = none().bytes(22, &csi).finish();
        let value = binary(none(), none().bytes(2, &source), none());
        let source = json!({"driver": "csi.example.org", "volumeHandle": "vol-1"});
        let object = json!({"spec": {"csi": source}});
        let expected = Role::Volume(text("csi.example.org vol-1"));
        both("persistentvolumes", &value, &object, &expected);
        for (field, name) in [(20, "local"), (3, "hostPath")] {
            let value = binary(none(), nested(&[2, field, 1], "/data"), none());
            let object = json!({"spec": {name: {"path": "/data"}}});
            both(
                "persistentvolumes",
                &value,
                &object,
                &Role::Volume(text("/data")),
            );
        }
        for (field, name, address) in [(1, "ip", "192.0.2.7"), (2, "hostname", "lb.example.org")] {
            let status = nested(&[1, 1, field], address);
            let value = binary(none(), nested(&[4], "LoadBalancer"), status);
            let object = json!({
                "spec": {"type": "LoadBalancer"},
                "status": {"loadBalancer": {"ingress": [{name: address}]}},
            });
            both(
                "services",
                &value,
                &object,
                &Role::LoadBalancer(text(address)),
            );
        }
        let value = binary(none(), nested(&[4], "ClusterIP"), none());
        let object = json!({"spec": {"type": "ClusterIP"}});
        both("services", &value, &object, &Role::Other);
        assert_eq!(role("nodes", b"k8s:enc:kms:v2:vault:\xff"), Role::Node);
        assert_eq!(role("persistentvolumes", b"\xff"), Role::Volume(None));
        assert_eq!(role("configmaps", b"{}"), Role::Other);
    }
}
