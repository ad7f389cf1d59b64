//! What a run changes on purpose, and what goes on in a cluster without one.

use serde_json::Value;

use super::fields::is_within;
use super::{Key, Seen};

/// Differences that are none: of which object, in what, and why.
struct Explained {
    kind: &'static str,
    namespace: &'static str,
    name: Name,
    what: &'static [What],
    why: &'static str,
}

enum Name {
    Any,
    Is(&'static str),
    Begins(&'static str),
}

enum What {
    New,
    Gone,
    Another,
    /// A field or what is below it.
    Field(&'static str),
    /// A list that still holds all that it held.
    Grows(&'static str),
}

use Name::{Any, Begins, Is};
use What::{Another, Field, Gone, Grows, New};

const fn explained(
    kind: &'static str,
    namespace: &'static str,
    name: Name,
    what: &'static [What],
    why: &'static str,
) -> Explained {
    Explained {
        kind,
        namespace,
        name,
        what,
        why,
    }
}

const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";
const TRIGGER: &str = "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time";

/// Namespace `""` is any, as in objects that are in none.
const EXPLAINED: &[Explained] = &[
    explained(
        "Event",
        "",
        Any,
        &[New, Gone, Another, Field("")],
        "events expire",
    ),
    explained(
        "Job",
        "default",
        Begins("short-"),
        &[New, Gone],
        "a CronJob makes and removes them",
    ),
    explained(
        "EndpointSlice",
        "",
        Any,
        // An API server takes itself out and comes back: two writes, nothing else.
        &[
            Field("/endpoints"),
            Field(TRIGGER),
            Field("/metadata/generation"),
        ],
        "pods have moved",
    ),
    explained(
        "Endpoints",
        "",
        Any,
        &[Field("/subsets"), Field(TRIGGER)],
        "pods have moved",
    ),
    explained(
        "ReplicaSet",
        "kube-system",
        Begins("coredns-"),
        &[New, Field("/spec/replicas"), Field(REVISION)],
        "kubeadm's new template: the old one is scaled down",
    ),
    explained(
        "Deployment",
        "kube-system",
        Is("coredns"),
        &[
            Field("/spec/template/spec/containers/0/image"),
            Field(REVISION),
        ],
        "kubeadm's new image",
    ),
    explained(
        "DaemonSet",
        "kube-system",
        Is("kube-proxy"),
        &[
            Field("/spec/template/spec/containers/0/image"),
            Field("/metadata/annotations/deprecated.daemonset.template.generation"),
        ],
        "kubeadm's new image",
    ),
    explained(
        "ControllerRevision",
        "kube-system",
        Begins("kube-proxy-"),
        &[New],
        "kubeadm's new template",
    ),
    explained(
        "ConfigMap",
        "kube-system",
        Is("kubeadm-config"),
        &[Field("/data/ClusterConfiguration")],
        "it names the version",
    ),
    explained(
        "ConfigMap",
        "kube-system",
        Is("kubelet-config"),
        &[Field("/data/kubelet")],
        "kubeadm writes it anew, with the fields of its version",
    ),
    explained(
        "ConfigMap",
        "kube-system",
        Is("kube-proxy"),
        &[Field("/data/config.conf")],
        "kubeadm writes it anew, with the fields of its version",
    ),
    explained(
        "Lease",
        "",
        Any,
        &[Field("/spec")],
        "renewed, and its holder started anew",
    ),
    explained(
        "Lease",
        "kube-system",
        Begins("apiserver-"),
        &[New, Gone, Another],
        "one for each start of an API server, under the name of its host",
    ),
    explained(
        "Lease",
        "kube-system",
        Is("kube-migrate"),
        &[New],
        "the run's mark",
    ),
    explained(
        "Node",
        "",
        Any,
        &[Field("/metadata/annotations/kube-migrate.dev~1epoch")],
        "the last run that has acted on it: an older one is refused",
    ),
    explained(
        "Secret",
        "kube-system",
        Begins("bootstrap-token-"),
        &[Gone],
        "kubeadm's, with an end",
    ),
    explained(
        "ClusterRole",
        "",
        Begins("system:"),
        &[New, Grows("/rules")],
        BUILT_IN,
    ),
    explained(
        "ClusterRoleBinding",
        "",
        Begins("system:"),
        &[New, Grows("/subjects")],
        BUILT_IN,
    ),
    explained(
        "Role",
        "",
        Begins("system:"),
        &[New, Grows("/rules")],
        BUILT_IN,
    ),
    explained(
        "RoleBinding",
        "",
        Begins("system:"),
        &[New, Grows("/subjects")],
        BUILT_IN,
    ),
    explained(
        "APIService",
        "",
        Begins("v"),
        &[New],
        "what the new version serves",
    ),
    explained("FlowSchema", "", Any, &[New], BUILT_IN),
    explained("PriorityLevelConfiguration", "", Any, &[New], BUILT_IN),
    explained(
        "ClusterTrustBundle",
        "",
        Begins("kubernetes.io:kube-apiserver-serving:"),
        &[New],
        "published by the new controller manager",
    ),
    explained(
        "ServiceAccount",
        "kube-system",
        Is("kube-apiserver-serving-clustertrustbundle-publisher"),
        &[New],
        NEW_CONTROLLER,
    ),
    explained(
        "ServiceAccount",
        "kube-system",
        Is("podcertificaterequestcleaner"),
        &[New],
        NEW_CONTROLLER,
    ),
    explained(
        "ServiceAccount",
        "kube-system",
        Is("storage-version-migrator-controller"),
        &[New],
        NEW_CONTROLLER,
    ),
];

const BUILT_IN: &str = "the API server adds what its version has";
const NEW_CONTROLLER: &str = "of a controller that is new";

/// The reason that the table has for a difference; `None` if it has none.
pub(super) fn reason(key: &Key, seen: Seen<'_>) -> Option<&'static str> {
    let (kind, namespace, name) = key;
    let explained = EXPLAINED.iter().find(|explained| {
        explained.kind == kind
            && (explained.namespace.is_empty() || explained.namespace == namespace)
            && match explained.name {
                Any => true,
                Is(is) => name == is,
                Begins(begin) => name.starts_with(begin),
            }
            && explained.what.iter().any(|what| covers(what, seen))
    });
    explained.map(|explained| explained.why)
}

fn covers(what: &What, seen: Seen<'_>) -> bool {
    match (what, seen) {
        (New, Seen::New) | (Gone, Seen::Gone) | (Another, Seen::Another) => true,
        (Field(place), Seen::Field(field, ..)) => is_within(field, place),
        // Of lists of one length each element is compared by itself, and an
        // element that has changed is gone.
        (Grows(place), Seen::Field(field, Value::Array(old), Value::Array(new))) => {
            field == *place && old.iter().all(|one| new.contains(one))
        }
        (Grows(place), Seen::Field(field, Value::Null, Value::Array(_))) => field == *place,
        _ => false,
    }
}
