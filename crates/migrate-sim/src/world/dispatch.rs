//! Which controllers have to look at what after a change.

use super::World;
use super::control_plane::{is_mirror, member_of};
use super::garbage;
use super::index::claims_of;
use super::volumes::claim_of;
use super::work::{Key, ObjectRef, Work};
use crate::object::{controller_of, is_terminating, str_at};
use crate::store::{Change, ChangeKind, Object, Resource, Store};

impl World {
    /// Takes one change in and queues what follows from it.
    pub(super) fn take_in(&mut self, store: &mut Store, change: &Change) {
        let object = &change.object;
        if object.resource == Resource::PODS {
            // What selected the pod before must look as well as what selects it now.
            self.queue_selecting(object);
        }
        self.common.index.apply(store, change);
        self.scheduler.apply(change);
        self.queue_dependents(store, change);
        let key = Key::of(object);
        let is_gone = change.kind == ChangeKind::Deleted;
        let queue = &mut self.common.queue;
        if object.resource == Resource::PODS {
            self.queue_selecting(object);
            self.pod_changed(object, is_gone);
        } else if object.resource == Resource::NODES {
            queue.insert(Work::Agent(key.name.clone()));
            queue.insert(Work::Member(key.name.clone()));
            queue.insert(Work::Node(key.name));
            if is_gone || spec_or_labels_differ(change) {
                let sets = store
                    .list(Resource::DAEMON_SETS, None)
                    .map(|set| Work::DaemonSet(Key::of(set)));
                queue.extend(sets);
            }
        } else if object.resource == Resource::DEPLOYMENTS {
            queue.insert(Work::Deployment(key));
            self.scale_changed(change);
        } else if object.resource == Resource::REPLICA_SETS {
            queue.insert(Work::ReplicaSet(key));
            queue_owner(queue, object);
            self.scale_changed(change);
        } else if object.resource == Resource::REPLICATION_CONTROLLERS {
            queue.insert(Work::ReplicationController(key));
            self.scale_changed(change);
        } else if object.resource == Resource::STATEFUL_SETS {
            queue.insert(Work::StatefulSet(key));
            self.scale_changed(change);
        } else if object.resource == Resource::DAEMON_SETS {
            queue.insert(Work::DaemonSet(key));
        } else if object.resource == Resource::JOBS {
            queue.insert(Work::Job(key));
            if is_gone {
                self.jobs.forget(object.uid());
            }
        } else if object.resource == Resource::POD_DISRUPTION_BUDGETS {
            queue.insert(Work::Budget(key));
        } else if object.resource == Resource::SERVICES {
            queue.insert(Work::Endpoints(key));
        } else if object.resource == Resource::PERSISTENT_VOLUME_CLAIMS {
            queue.insert(Work::Claim(key));
        } else if object.resource == Resource::PERSISTENT_VOLUMES {
            queue.insert(Work::Claim(claim_of(&object.json)));
            queue.insert(Work::Volume(key.name));
        } else if object.resource == Resource::VOLUME_ATTACHMENTS {
            let volume = str_at(&object.json, &["spec", "source", "persistentVolumeName"]);
            queue.insert(Work::Volume(volume.to_owned()));
        } else if object.resource == Resource::NAMESPACES {
            if is_gone {
                self.leaving.remove(&key.name);
            } else if is_terminating(&object.json) {
                self.leaving.insert(key.name.clone());
                queue.insert(Work::Namespace(key.name));
            }
        }
    }

    fn pod_changed(&mut self, pod: &Object, is_gone: bool) {
        let queue = &mut self.common.queue;
        queue_owner(queue, pod);
        for claim in claims_of(&pod.json) {
            let volume = self.common.index.volume_of(&claim);
            queue.extend(volume.map(|volume| Work::Volume(volume.to_owned())));
        }
        if is_gone {
            self.kubelets.forget_pod(pod.uid());
            if is_mirror(&pod.json) {
                queue.extend(member_of(&pod.json).map(|node| Work::Member(node.to_owned())));
            }
        } else if !pod.node_name().is_empty() {
            queue.insert(Work::Pod(Key::of(pod)));
        }
    }

    fn queue_selecting(&mut self, pod: &Object) {
        let index = &self.common.index;
        let budgets = index
            .budgets
            .selecting(&pod.namespace, &pod.name)
            .map(Work::Budget);
        let services = index
            .services
            .selecting(&pod.namespace, &pod.name)
            .map(Work::Endpoints);
        self.common.queue.extend(budgets.chain(services));
    }

    /// A budget in percent follows the scale of the controllers in its namespace.
    fn scale_changed(&mut self, change: &Change) {
        let replicas = |object: &Object| object.json["spec"]["replicas"].clone();
        let before = change.previous.as_deref().map(replicas);
        if before != Some(replicas(&change.object)) || change.kind == ChangeKind::Deleted {
            let budgets = self
                .common
                .index
                .budgets
                .of_namespace(&change.object.namespace);
            self.common.queue.extend(budgets.map(Work::Budget));
        }
    }

    /// Owners, dependents and the namespace of what has changed.
    fn queue_dependents(&mut self, store: &mut Store, change: &Change) {
        let object = &change.object;
        let reference = ObjectRef::of(object);
        match change.kind {
            ChangeKind::Added => {
                if garbage::has_lost_owner(&self.common.context(store), object) {
                    self.common.queue.insert(Work::Garbage(reference));
                }
            }
            ChangeKind::Modified => {
                if garbage::waits(object) {
                    self.common.queue.insert(Work::Owner(reference));
                }
            }
            ChangeKind::Deleted => {
                let dependents = store
                    .dependents(object.uid())
                    .map(|object| Work::Garbage(ObjectRef::of(object)));
                self.common.queue.extend(dependents);
                let owners = garbage::waiting_owners(&self.common.context(store), object);
                self.common
                    .queue
                    .extend(owners.into_iter().map(Work::Owner));
                if self.leaving.contains(&object.namespace) {
                    self.common
                        .queue
                        .insert(Work::Namespace(object.namespace.clone()));
                }
            }
        }
    }
}

fn queue_owner(queue: &mut std::collections::BTreeSet<Work>, object: &Object) {
    let Some(owner) = controller_of(&object.json) else {
        return;
    };
    let key = Key::new(object.namespace.as_str(), str_at(owner, &["name"]));
    let work = match str_at(owner, &["kind"]) {
        "Deployment" => Work::Deployment(key),
        "ReplicaSet" => Work::ReplicaSet(key),
        "ReplicationController" => Work::ReplicationController(key),
        "StatefulSet" => Work::StatefulSet(key),
        "DaemonSet" => Work::DaemonSet(key),
        "Job" => Work::Job(key),
        _ => return,
    };
    queue.insert(work);
}

fn spec_or_labels_differ(change: &Change) -> bool {
    let now = &change.object.json;
    change.previous.as_ref().is_none_or(|before| {
        before.json["spec"] != now["spec"]
            || before.json["metadata"]["labels"] != now["metadata"]["labels"]
    })
}
