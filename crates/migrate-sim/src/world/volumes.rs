//! Volumes: claims are bound, volumes attached to the node of their pod and detached after it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::context::Context;
use super::settings::short_hash;
use super::work::{Key, Work};
use crate::object::{
    annotation, array_at, at, bool_at, is_terminating, items_at, label, set_at, str_at, uid,
};
use crate::store::{Object, Resource};

/// Annotation by which the scheduler tells where a volume is needed.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Provisioner of classes whose volumes are made by hand.
pub(crate) const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Binds volumes to claims and attaches them.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// Attach and detach operations under way: attachment to the moment of its end.
    attaching: BTreeMap<String, u64>,
    detaching: BTreeMap<String, u64>,
}

impl Volumes {
    /// Looks at a claim: binds it to the volume reserved for it, or provisions one.
    pub(crate) fn sync_claim(&mut self, cx: &mut Context<'_>, key: &Key) {
        let Some(claim) = cx.get(Resource::PERSISTENT_VOLUME_CLAIMS, key) else {
            release(cx, key);
            return;
        };
        if str_at(&claim.json, &["status", "phase"]) == "Bound" {
            return;
        }
        let reserved = cx.index.volume_of(key).map(str::to_owned);
        let Some(volume) = reserved.or_else(|| provision(cx, &claim)) else {
            cx.modify(Resource::PERSISTENT_VOLUME_CLAIMS, key, |claim| {
                set_at(claim, &["status", "phase"], "Pending")
            });
            return;
        };
        cx.modify(
            Resource::PERSISTENT_VOLUMES,
            &Key::global(&volume),
            |volume| {
                set_at(volume, &["spec", "claimRef", "uid"], uid(&claim.json));
                set_at(volume, &["status", "phase"], "Bound");
            },
        );
        cx.modify(Resource::PERSISTENT_VOLUME_CLAIMS, key, |claim| {
            set_at(claim, &["spec", "volumeName"], volume.as_str());
            set_at(claim, &["status", "phase"], "Bound");
            let capacity = at(claim, &["spec", "resources", "requests"]).cloned();
            set_at(
                claim,
                &["status", "capacity"],
                capacity.unwrap_or_else(|| json!({})),
            );
            let modes = at(claim, &["spec", "accessModes"]).cloned();
            set_at(
                claim,
                &["status", "accessModes"],
                modes.unwrap_or_else(|| json!(["ReadWriteOnce"])),
            );
        });
        cx.queue.insert(Work::Volume(volume));
    }

    /// Looks at a volume: attaches it where a pod needs it, detaches it elsewhere.
    pub(crate) fn sync_volume(&mut self, cx: &mut Context<'_>, name: &str) {
        let Some(volume) = cx.get_global(Resource::PERSISTENT_VOLUMES, name) else {
            return;
        };
        if at(&volume.json, &["spec", "csi"]).is_none() {
            self.wake_users(cx, &volume, None);
            return;
        }
        let claim = claim_of(&volume.json);
        let needed: BTreeSet<String> = cx
            .index
            .users_of(&claim)
            .map(|(_, node)| node.to_owned())
            .collect();
        let attached: Vec<(String, String)> = cx
            .index
            .attachments_of(name)
            .map(|(attachment, node)| (attachment.to_owned(), node.to_owned()))
            .collect();
        for (attachment, node) in &attached {
            if needed.contains(node) {
                self.detaching.remove(attachment);
                self.finish_attaching(cx, &volume, attachment, node);
            } else {
                self.detach(cx, &volume, attachment, node);
            }
        }
        let is_shared = items_at(&volume.json, &["spec", "accessModes"])
            .iter()
            .any(|mode| mode != "ReadWriteOnce");
        let mut free = is_shared || cx.index.attachments_of(name).next().is_none();
        for node in needed
            .iter()
            .filter(|node| attached.iter().all(|(_, on)| on != *node))
        {
            if free {
                self.attach(cx, &volume, node);
                // The next one waits until this attachment is gone.
                free = is_shared;
            }
        }
    }

    fn attach(&mut self, cx: &mut Context<'_>, volume: &Object, node: &str) {
        let name = format!("csi-{}", short_hash(&format!("{} {node}", volume.name)));
        let done_at = cx.now
            + cx.settings
                .jittered(cx.settings.times.volume_attach, &[&name, "attach"]);
        self.attaching.insert(name.clone(), done_at);
        cx.again_at(done_at, Work::Volume(volume.name.clone()));
        cx.create(
            Resource::VOLUME_ATTACHMENTS,
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": name},
                "spec": {
                    "attacher": str_at(&volume.json, &["spec", "csi", "driver"]),
                    "nodeName": node, "source": {"persistentVolumeName": volume.name},
                },
                "status": {"attached": false},
            }),
        );
        let device = device_name(&volume.json);
        cx.modify(Resource::NODES, &Key::global(node), |node| {
            let in_use = array_at(node, &["status", "volumesInUse"]);
            if !in_use.iter().any(|name| *name == device) {
                in_use.push(Value::from(device));
            }
        });
    }

    fn finish_attaching(
        &mut self,
        cx: &mut Context<'_>,
        volume: &Object,
        attachment: &str,
        node: &str,
    ) {
        let is_due = self
            .attaching
            .get(attachment)
            .is_some_and(|done_at| *done_at <= cx.now);
        if is_due {
            self.attaching.remove(attachment);
            cx.modify(
                Resource::VOLUME_ATTACHMENTS,
                &Key::global(attachment),
                |attachment| {
                    set_at(attachment, &["status", "attached"], true);
                },
            );
            let device = device_name(&volume.json);
            cx.modify(Resource::NODES, &Key::global(node), |node| {
                let attached = array_at(node, &["status", "volumesAttached"]);
                if !attached
                    .iter()
                    .any(|entry| str_at(entry, &["name"]) == device)
                {
                    attached.push(json!({"name": device, "devicePath": ""}));
                }
            });
        }
        self.wake_users(cx, volume, Some(node));
    }

    fn detach(&mut self, cx: &mut Context<'_>, volume: &Object, attachment: &str, node: &str) {
        let key = Key::global(attachment);
        let Some(done_at) = self.detaching.get(attachment).copied() else {
            let time = cx.settings.times.volume_detach;
            let done_at = cx.now + cx.settings.jittered(time, &[attachment, "detach"]);
            self.detaching.insert(attachment.to_owned(), done_at);
            cx.again_at(done_at, Work::Volume(volume.name.clone()));
            return;
        };
        if done_at > cx.now {
            return;
        }
        self.detaching.remove(attachment);
        self.attaching.remove(attachment);
        let device = device_name(&volume.json);
        cx.modify(Resource::NODES, &Key::global(node), |node| {
            array_at(node, &["status", "volumesAttached"])
                .retain(|entry| str_at(entry, &["name"]) != device);
            array_at(node, &["status", "volumesInUse"]).retain(|name| *name != device);
        });
        cx.remove(Resource::VOLUME_ATTACHMENTS, &key);
        cx.queue.insert(Work::Volume(volume.name.clone()));
    }

    fn wake_users(&self, cx: &mut Context<'_>, volume: &Object, node: Option<&str>) {
        let claim = claim_of(&volume.json);
        let users = cx
            .index
            .users_of(&claim)
            .filter(|(_, on)| node.is_none_or(|node| node == *on));
        let pods: Vec<Work> = users
            .map(|(pod, _)| Work::Pod(Key::new(claim.namespace.as_str(), pod)))
            .collect();
        cx.queue.extend(pods);
    }
}

/// The claim that a volume is bound or reserved to.
pub(crate) fn claim_of(volume: &Value) -> Key {
    Key::new(
        str_at(volume, &["spec", "claimRef", "namespace"]),
        str_at(volume, &["spec", "claimRef", "name"]),
    )
}

/// A volume whose claim is gone goes too, unless it is to be kept.
fn release(cx: &mut Context<'_>, claim: &Key) {
    let Some(volume) = cx
        .index
        .volume_of(claim)
        .and_then(|name| cx.get_global(Resource::PERSISTENT_VOLUMES, name))
    else {
        return;
    };
    let key = Key::of(&volume);
    if str_at(&volume.json, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete" {
        cx.delete(Resource::PERSISTENT_VOLUMES, &key);
    } else if str_at(&volume.json, &["status", "phase"]) == "Bound" {
        cx.modify(Resource::PERSISTENT_VOLUMES, &key, |volume| {
            set_at(volume, &["status", "phase"], "Released")
        });
    }
}

/// Makes a volume for a claim, once it is known where it is needed.
fn provision(cx: &mut Context<'_>, claim: &Object) -> Option<String> {
    if is_terminating(&claim.json) {
        return None;
    }
    let class = cx.get_global(
        Resource::STORAGE_CLASSES,
        str_at(&claim.json, &["spec", "storageClassName"]),
    )?;
    let provisioner = str_at(&class.json, &["provisioner"]);
    if provisioner == NO_PROVISIONER {
        return None;
    }
    let node = annotation(&claim.json, SELECTED_NODE)
        .and_then(|name| cx.get_global(Resource::NODES, name));
    if node.is_none() && str_at(&class.json, &["volumeBindingMode"]) == "WaitForFirstConsumer" {
        return None;
    }
    let zone = node
        .as_ref()
        .and_then(|node| label(&node.json, "topology.kubernetes.io/zone"));
    let name = format!("pvc-{}", claim.uid());
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": at(&claim.json, &["spec", "resources", "requests"]),
            "accessModes": at(&claim.json, &["spec", "accessModes"]),
            "storageClassName": class.name, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": provisioner, "volumeHandle": name},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": claim.uid(),
            },
        },
        "status": {"phase": "Available"},
    });
    if let Some(zone) = zone {
        let term =
            json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]});
        let terms = json!([{"matchExpressions": [term]}]);
        set_at(
            &mut volume,
            &["spec", "nodeAffinity", "required", "nodeSelectorTerms"],
            terms,
        );
    }
    cx.create(Resource::PERSISTENT_VOLUMES, volume)?;
    Some(name)
}

fn device_name(volume: &Value) -> String {
    let driver = str_at(volume, &["spec", "csi", "driver"]);
    format!(
        "kubernetes.io/csi/{driver}^{}",
        str_at(volume, &["spec", "csi", "volumeHandle"])
    )
}

/// Whether an attachment is finished.
pub(crate) fn is_attached(attachment: &Value) -> bool {
    bool_at(attachment, &["status", "attached"])
}
