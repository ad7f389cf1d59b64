//! Look-ups that keep the cost of one change independent of the cluster's size.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::work::Key;
use crate::object::{at, is_finished, items_at, labels, name, node_name, str_at};
use crate::selector::Selector;
use crate::store::{Change, ChangeKind, Object, Resource, Store};

/// Relations between objects, kept up to date change by change.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Budgets and the pods that they select.
    pub(crate) budgets: SelectorIndex,
    /// Services and the pods that they select.
    pub(crate) services: SelectorIndex,
    /// Volume by the claim that it is bound or reserved to.
    volume_of_claim: BTreeMap<Key, String>,
    /// Unfinished bound pods by claim, with their node.
    users_of_claim: BTreeMap<Key, BTreeMap<String, String>>,
    /// Attachments by volume, with their node.
    attachments: BTreeMap<String, BTreeMap<String, String>>,
}

impl Index {
    /// The volume that is bound or reserved to a claim.
    pub(crate) fn volume_of(&self, claim: &Key) -> Option<&str> {
        self.volume_of_claim.get(claim).map(String::as_str)
    }

    /// Unfinished pods that use a claim, with their nodes.
    pub(crate) fn users_of(&self, claim: &Key) -> impl Iterator<Item = (&str, &str)> {
        let users = self.users_of_claim.get(claim).into_iter().flatten();
        users.map(|(pod, node)| (pod.as_str(), node.as_str()))
    }

    /// Attachments of a volume, with their nodes.
    pub(crate) fn attachments_of(&self, volume: &str) -> impl Iterator<Item = (&str, &str)> {
        let attachments = self.attachments.get(volume).into_iter().flatten();
        attachments.map(|(name, node)| (name.as_str(), node.as_str()))
    }

    /// Takes one change in.
    pub(crate) fn apply(&mut self, store: &Store, change: &Change) {
        let gone = change.kind == ChangeKind::Deleted;
        let object = &change.object;
        let key = Key::of(object);
        if object.resource == Resource::PODS {
            self.budgets.pod_changed(object, gone);
            self.services.pod_changed(object, gone);
            self.apply_claims(&object.json, gone);
        } else if object.resource == Resource::POD_DISRUPTION_BUDGETS {
            let selector = Selector::parse(at(&object.json, &["spec", "selector"]));
            self.budgets.selector_changed(store, &key, selector, gone);
        } else if object.resource == Resource::SERVICES {
            let selector = Selector::from_map(at(&object.json, &["spec", "selector"]));
            self.services.selector_changed(store, &key, selector, gone);
        } else if object.resource == Resource::PERSISTENT_VOLUMES {
            let claim = Key::new(
                str_at(&object.json, &["spec", "claimRef", "namespace"]),
                str_at(&object.json, &["spec", "claimRef", "name"]),
            );
            if gone {
                self.volume_of_claim.retain(|_, volume| *volume != key.name);
            } else if !claim.name.is_empty() {
                self.volume_of_claim.insert(claim, key.name);
            }
        } else if object.resource == Resource::VOLUME_ATTACHMENTS {
            let volume = str_at(&object.json, &["spec", "source", "persistentVolumeName"]);
            let node = str_at(&object.json, &["spec", "nodeName"]);
            let of_volume = self.attachments.entry(volume.to_owned()).or_default();
            if gone {
                of_volume.remove(&key.name);
            } else {
                of_volume.insert(key.name, node.to_owned());
            }
        }
    }

    fn apply_claims(&mut self, pod: &Value, gone: bool) {
        let node = node_name(pod);
        for claim in claims_of(pod) {
            let users = self.users_of_claim.entry(claim).or_default();
            if gone || node.is_empty() || is_finished(pod) {
                users.remove(name(pod));
            } else {
                users.insert(name(pod).to_owned(), node.to_owned());
            }
        }
    }
}

/// The volume claims that a pod mounts.
pub(crate) fn claims_of(pod: &Value) -> impl Iterator<Item = Key> {
    let namespace = crate::object::namespace(pod);
    items_at(pod, &["spec", "volumes"])
        .iter()
        .filter_map(move |volume| {
            let claim = at(volume, &["persistentVolumeClaim", "claimName"])?.as_str()?;
            Some(Key::new(namespace, claim))
        })
}

/// Objects that select pods of their own namespace, and what they select.
#[derive(Debug, Default)]
pub(crate) struct SelectorIndex {
    namespaces: BTreeMap<String, BTreeMap<String, Selection>>,
}

#[derive(Debug)]
struct Selection {
    selector: Selector,
    pods: BTreeSet<String>,
}

impl SelectorIndex {
    /// Names of the pods that an object selects.
    pub(crate) fn pods_of(&self, key: &Key) -> impl Iterator<Item = &str> {
        let selection = self
            .namespaces
            .get(&key.namespace)
            .and_then(|all| all.get(&key.name));
        selection
            .into_iter()
            .flat_map(|selection| &selection.pods)
            .map(String::as_str)
    }

    /// Objects that select a pod.
    pub(crate) fn selecting(&self, namespace: &str, pod: &str) -> impl Iterator<Item = Key> {
        let all = self.namespaces.get(namespace).into_iter().flatten();
        all.filter(move |(_, selection)| selection.pods.contains(pod))
            .map(move |(name, _)| Key::new(namespace, name.as_str()))
    }

    /// Every selecting object of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = Key> {
        let all = self.namespaces.get(namespace).into_iter().flatten();
        all.map(move |(name, _)| Key::new(namespace, name.as_str()))
    }

    fn pod_changed(&mut self, pod: &Object, gone: bool) {
        let Some(selections) = self.namespaces.get_mut(&pod.namespace) else {
            return;
        };
        for selection in selections.values_mut() {
            if !gone && selection.selector.matches(labels(&pod.json)) {
                if !selection.pods.contains(&pod.name) {
                    selection.pods.insert(pod.name.clone());
                }
            } else {
                selection.pods.remove(&pod.name);
            }
        }
    }

    fn selector_changed(&mut self, store: &Store, key: &Key, selector: Selector, gone: bool) {
        let selections = self.namespaces.entry(key.namespace.clone()).or_default();
        if gone {
            selections.remove(&key.name);
            return;
        }
        if selections
            .get(&key.name)
            .is_some_and(|selection| selection.selector == selector)
        {
            return;
        }
        let pods = store
            .list(Resource::PODS, Some(&key.namespace))
            .filter(|pod| selector.matches(labels(&pod.json)))
            .map(|pod| pod.name.clone())
            .collect();
        selections.insert(key.name.clone(), Selection { selector, pods });
    }
}
