//! The objects themselves: one ordered table per kind.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Object, Resource};
use crate::object::{served_versions, str_at};

/// Objects of one kind by namespace and name.
type Table = BTreeMap<String, BTreeMap<String, Arc<Object>>>;

/// A table per kind, in the order of the kinds' indexes.
#[derive(Debug)]
pub(super) struct Tables {
    tables: Vec<Table>,
    resources: Vec<&'static Resource>,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            tables: vec![Table::new(); Resource::ALL.len()],
            resources: Resource::ALL.to_vec(),
        }
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &'static Resource> {
        self.resources.iter().copied()
    }

    pub(super) fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Option<&Arc<Object>> {
        self.tables.get(resource.index)?.get(namespace)?.get(name)
    }

    pub(super) fn count(&self, resource: &Resource) -> usize {
        self.tables
            .get(resource.index)
            .map_or(0, |table| table.values().map(BTreeMap::len).sum())
    }

    pub(super) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Object>> {
        let bounds = match namespace {
            Some(only) => (Bound::Included(only), Bound::Included(only)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        self.tables
            .get(resource.index)
            .into_iter()
            .flat_map(move |table| table.range::<str, _>(bounds))
            .flat_map(|(_, names)| names.values())
    }

    pub(super) fn list_after<'a>(
        &'a self,
        resource: &Resource,
        namespace: Option<&'a str>,
        (after_namespace, after_name): (&'a str, &'a str),
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let table = self.tables.get(resource.index);
        let rest_of_namespace = table
            .and_then(|table| table.get(after_namespace))
            .into_iter()
            .flat_map(move |names| {
                names.range::<str, _>((Bound::Excluded(after_name), Bound::Unbounded))
            })
            .map(|(_, object)| object);
        let end = match namespace {
            Some(only) => Bound::Included(only),
            None => Bound::Unbounded,
        };
        // The range of later namespaces is empty when one namespace is listed
        // and the page ended inside it; its bounds must not cross then.
        let start = Bound::Excluded(after_namespace);
        let later = table
            .filter(|_| namespace.is_none_or(|only| after_namespace < only))
            .into_iter()
            .flat_map(move |table| table.range::<str, _>((start, end)))
            .flat_map(|(_, names)| names.values());
        rest_of_namespace.chain(later)
    }

    pub(super) fn insert(&mut self, object: &Arc<Object>) {
        let Some(table) = self.tables.get_mut(object.resource.index) else {
            return;
        };
        let names = match table.get_mut(&object.namespace) {
            Some(names) => names,
            None => table.entry(object.namespace.clone()).or_default(),
        };
        match names.get_mut(&object.name) {
            Some(old) => *old = Arc::clone(object),
            None => {
                names.insert(object.name.clone(), Arc::clone(object));
            }
        }
    }

    pub(super) fn remove(&mut self, object: &Object) {
        let Some(table) = self.tables.get_mut(object.resource.index) else {
            return;
        };
        if let Some(names) = table.get_mut(&object.namespace) {
            names.remove(&object.name);
            if names.is_empty() {
                table.remove(&object.namespace);
            }
        }
    }

    /// Serves the kind that a CustomResourceDefinition describes, under each
    /// served version that is not served yet.
    ///
    /// Each version has objects of its own: nothing converts between versions.
    pub(super) fn define(&mut self, definition: &Object) {
        let spec = &definition.json["spec"];
        for version in served_versions(spec) {
            let path = [
                str_at(spec, &["group"]),
                str_at(version, &["name"]),
                str_at(spec, &["names", "plural"]),
            ];
            if path.contains(&"")
                || self
                    .resources
                    .iter()
                    .any(|r| [r.group, r.version, r.plural] == path)
            {
                continue;
            }
            // A descriptor lives as long as the process; there is one per defined kind.
            let [group, name, plural] = path.map(|text| &*String::leak(text.to_owned()));
            let kind = String::leak(str_at(spec, &["names", "kind"]).to_owned());
            let subresources = &version["subresources"];
            let resource = Resource {
                has_status: subresources["status"].is_object(),
                has_scale: subresources["scale"].is_object(),
                has_generation: true,
                ..Resource::bare(
                    self.resources.len(),
                    group,
                    name,
                    kind,
                    plural,
                    str_at(spec, &["scope"]) == "Namespaced",
                )
            };
            self.resources.push(Box::leak(Box::new(resource)));
            self.tables.push(Table::new());
        }
    }
}
