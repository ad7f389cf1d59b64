//! Control-plane members: their static pods, and how they change their version.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::context::Context;
use super::settings::short_hash;
use super::work::{Key, Timer, TimerId};
use crate::annotations;
use crate::object::{Condition, annotation, items_at, label, set_at, set_condition, str_at};
use crate::store::Resource;

/// Components of a member, one static pod each; the last keeps its own version.
const COMPONENTS: [&str; 4] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "etcd",
];

/// Image of etcd, which an upgrade of the others leaves alone.
const ETCD_IMAGE: &str = "registry.k8s.io/etcd:3.6.16-0";

/// Label that makes a node a control-plane member.
pub(crate) const MEMBER_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// The members, and which version each of them serves.
#[derive(Debug, Default)]
pub(crate) struct ControlPlane {
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    version: String,
    change: Option<VersionChange>,
}

/// A member is on its way to a version.
#[derive(Debug)]
struct VersionChange {
    timer: TimerId,
    version: String,
    action: Option<String>,
}

/// The change of a member's version comes to its end.
#[derive(Debug, Clone)]
pub(crate) struct MemberTimer {
    node: String,
}

impl ControlPlane {
    /// The version that the API answers with: the lowest of all members, for
    /// a load balancer may send the next request to any of them.
    pub(crate) fn version(&self) -> Option<&str> {
        let versions = self.members.values().map(|member| member.version.as_str());
        versions.min_by_key(|version| order(version))
    }

    /// Looks at a node: a member that is new, gone, or asked to change its version.
    pub(crate) fn sync(&mut self, cx: &mut Context<'_>, node: &str) {
        let object = cx
            .get_global(Resource::NODES, node)
            .filter(|node| label(&node.json, MEMBER_LABEL).is_some());
        let Some(object) = object else {
            self.members.remove(node);
            return;
        };
        let member = self
            .members
            .entry(node.to_owned())
            .or_insert_with(|| Member {
                version: served(cx, node).unwrap_or_else(|| {
                    str_at(&object.json, &["status", "nodeInfo", "kubeletVersion"]).to_owned()
                }),
                change: None,
            });
        if member.change.is_some() {
            return;
        }
        if let Some((version, action)) = request(&object.json, &member.version) {
            let what = [node, "control-plane", &version];
            let done_at = cx.now
                + cx.settings
                    .jittered(cx.settings.times.control_plane_restart, &what);
            let timer = cx.timers.set(
                done_at,
                Timer::Member(MemberTimer {
                    node: node.to_owned(),
                }),
            );
            member.change = Some(VersionChange {
                timer,
                version,
                action,
            });
            mark_unready(cx, node);
        }
        self.ensure_pods(cx, node);
    }

    /// The end of a version change: the member serves the version from now on.
    pub(crate) fn fire(&mut self, cx: &mut Context<'_>, id: TimerId, timer: &MemberTimer) {
        let Some(member) = self.members.get_mut(&timer.node) else {
            return;
        };
        let Some(change) = member.change.take_if(|change| change.timer == id) else {
            return;
        };
        member.version = change.version;
        for component in COMPONENTS.iter().filter(|component| **component != "etcd") {
            // The kubelet sees another manifest: another mirror pod, another uid.
            cx.remove(Resource::PODS, &pod_key(component, &timer.node));
        }
        for component in COMPONENTS {
            let now = cx.now;
            let key = pod_key(component, &timer.node);
            cx.modify(Resource::PODS, &key, |pod| set_ready(pod, "True", now));
        }
        self.ensure_pods(cx, &timer.node);
        if let Some(action) = change.action {
            cx.modify(Resource::NODES, &Key::global(&timer.node), |node| {
                set_at(
                    node,
                    &[
                        "metadata",
                        "annotations",
                        annotations::CONTROL_PLANE_ACTION_DONE,
                    ],
                    action,
                );
            });
        }
    }

    /// Creates the mirror pods that are missing.
    pub(crate) fn ensure_pods(&self, cx: &mut Context<'_>, node: &str) {
        let Some(member) = self.members.get(node) else {
            return;
        };
        let Some(owner) = cx.get_global(Resource::NODES, node) else {
            return;
        };
        for component in COMPONENTS {
            let key = pod_key(component, node);
            if cx.get(Resource::PODS, &key).is_none() {
                cx.create(
                    Resource::PODS,
                    mirror_pod(component, &member.version, &owner.json),
                );
            }
        }
    }
}

/// The version of the member's API server where one is there already: the cluster was
/// built with it.
fn served(cx: &Context<'_>, node: &str) -> Option<String> {
    let pod = cx.get(Resource::PODS, &pod_key("kube-apiserver", node))?;
    let image = str_at(
        items_at(&pod.json, &["spec", "containers"]).first()?,
        &["image"],
    );
    let (_, tag) = image.rsplit_once(':')?;
    // Tags cannot hold a `+`; builders write `_`.
    tag.starts_with('v').then(|| tag.replace('_', "+"))
}

/// A request that is still to be done: version and action.
fn request(node: &Value, current: &str) -> Option<(String, Option<String>)> {
    let version = annotation(node, annotations::CONTROL_PLANE_VERSION)?;
    let action = annotation(node, annotations::CONTROL_PLANE_ACTION);
    let is_done = match action {
        Some(action) => annotation(node, annotations::CONTROL_PLANE_ACTION_DONE) == Some(action),
        None => version == current,
    };
    (!is_done).then(|| (version.to_owned(), action.map(str::to_owned)))
}

fn mark_unready(cx: &mut Context<'_>, node: &str) {
    let now = cx.now;
    for component in COMPONENTS.iter().filter(|component| **component != "etcd") {
        cx.modify(Resource::PODS, &pod_key(component, node), |pod| {
            set_ready(pod, "False", now)
        });
    }
}

fn set_ready(pod: &mut Value, status: &str, now: u64) {
    for kind in ["ContainersReady", "Ready"] {
        set_condition(pod, Condition::new(kind, status), now);
    }
}

fn pod_key(component: &str, node: &str) -> Key {
    Key::new("kube-system", format!("{component}-{node}"))
}

fn mirror_pod(component: &str, version: &str, node: &Value) -> Value {
    let image = match component {
        "etcd" => ETCD_IMAGE.to_owned(),
        _ => format!("registry.k8s.io/{component}:{version}"),
    };
    let name = crate::object::name(node);
    let manifest = short_hash(&format!("{component} {image}"));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{component}-{name}"), "namespace": "kube-system",
            "labels": {"component": component, "tier": "control-plane"},
            "annotations": {
                "kubernetes.io/config.hash": manifest, "kubernetes.io/config.mirror": manifest,
                "kubernetes.io/config.source": "file",
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": name, "uid": crate::object::uid(node), "controller": true,
            }],
        },
        "spec": {
            "nodeName": name, "hostNetwork": true, "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical", "restartPolicy": "Always",
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
            "containers": [{
                "name": component, "image": image,
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
            }],
        },
    })
}

/// Versions in order of their numbers; what is no version comes first.
pub(crate) fn order(version: &str) -> (Vec<u64>, &str) {
    let core = version
        .trim_start_matches('v')
        .split(['-', '+'])
        .next()
        .unwrap_or_default();
    (
        core.split('.')
            .map_while(|part| part.parse().ok())
            .collect(),
        version,
    )
}

/// Whether a pod is run from a manifest on its node.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    annotation(pod, "kubernetes.io/config.mirror").is_some()
}

/// Nodes named as the owner of a mirror pod.
pub(crate) fn member_of(pod: &Value) -> Option<&str> {
    items_at(pod, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| str_at(owner, &["kind"]) == "Node")
        .map(|owner| str_at(owner, &["name"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(order("v1.9.0") < order("v1.10.0"));
        assert!(order("v1.36.3") < order("v1.37.0-rc.1"));
    }
}
