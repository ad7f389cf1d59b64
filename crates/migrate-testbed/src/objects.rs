//! Creating many objects.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::wait::PAUSE;

/// Requests in flight.
const CONCURRENCY: usize = 32;

/// How long a pod may be refused because the controller manager has not yet
/// made its namespace's service account.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a list of objects.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// Objects that did not exist before.
    pub created: usize,
    /// Objects that existed and were updated.
    pub updated: usize,
}

/// A kind as the server knows it.
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

/// An object on its way to the server.
struct Item {
    gvk: GroupVersionKind,
    name: String,
    object: Value,
}

pub(crate) async fn apply(client: &kube::Client, objects: Vec<Value>) -> Result<Applied, Error> {
    let items = objects.into_iter().enumerate();
    let items = items.map(|(index, object)| Item::parse(index, object));
    let mut phases: BTreeMap<u8, Vec<Item>> = BTreeMap::new();
    for item in items.collect::<Result<Vec<_>, _>>()? {
        phases.entry(item.phase()).or_default().push(item);
    }
    let mut kinds: BTreeMap<(String, String), Arc<Kind>> = BTreeMap::new();
    let mut applied = Applied::default();
    for items in phases.into_values() {
        let mut resolved = Vec::with_capacity(items.len());
        for item in items {
            let kind = match kinds.entry((item.gvk.api_version(), item.gvk.kind.clone())) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(unknown) => {
                    let kind = Kind::discover(client, &item.gvk).await?;
                    Arc::clone(unknown.insert(Arc::new(kind)))
                }
            };
            resolved.push((kind, item));
        }
        let results: Vec<bool> = stream::iter(resolved)
            .map(|(kind, item)| async move { put(client, &kind, item).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let created = results.iter().filter(|&&created| created).count();
        applied.created += created;
        applied.updated += results.len() - created;
    }
    Ok(applied)
}

impl Kind {
    async fn discover(client: &kube::Client, gvk: &GroupVersionKind) -> Result<Self, Error> {
        let (resource, capabilities) = pinned_kind(client, gvk).await.map_err(Error::api(
            format!("looking up {} {}", gvk.api_version(), gvk.kind),
        ))?;
        let namespaced = capabilities.scope == Scope::Namespaced;
        Ok(Self {
            resource,
            namespaced,
        })
    }
}

impl Item {
    fn parse(index: usize, mut object: Value) -> Result<Self, Error> {
        let malformed = |problem| Error::MalformedObject { index, problem };
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let api_version = text("/apiVersion").ok_or_else(|| malformed("no apiVersion"))?;
        let kind = text("/kind").ok_or_else(|| malformed("no kind"))?;
        let name = text("/metadata/name").ok_or_else(|| malformed("no metadata.name"))?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let name = name.to_owned();
        if let Some(metadata) = object
            .pointer_mut("/metadata")
            .and_then(Value::as_object_mut)
        {
            for field in [
                "creationTimestamp",
                "generation",
                "managedFields",
                "resourceVersion",
                "uid",
            ] {
                metadata.remove(field);
            }
        }
        Ok(Self { gvk, name, object })
    }

    /// What must exist before what: an object is created after the phases
    /// before its own.
    fn phase(&self) -> u8 {
        match self.gvk.kind.as_str() {
            "Namespace"
            | "CustomResourceDefinition"
            | "PriorityClass"
            | "StorageClass"
            | "Node" => 0,
            "CronJob"
            | "DaemonSet"
            | "Deployment"
            | "Job"
            | "Pod"
            | "ReplicaSet"
            | "ReplicationController"
            | "StatefulSet" => 2,
            _ => 1,
        }
    }
}

/// Creates or updates one object; whether it was created.
async fn put(client: &kube::Client, kind: &Kind, item: Item) -> Result<bool, Error> {
    let namespace = item.object.pointer("/metadata/namespace");
    let namespace = namespace
        .and_then(Value::as_str)
        .unwrap_or("default")
        .to_owned();
    let api: Api<DynamicObject> = if kind.namespaced {
        Api::namespaced_with(client.clone(), &namespace, &kind.resource)
    } else {
        Api::all_with(client.clone(), &kind.resource)
    };
    let what = format!("applying {} {namespace}/{}", item.gvk.kind, item.name);
    let object: DynamicObject = serde_json::from_value(item.object)
        .map_err(|error| Error::api(what.clone())(kube::Error::SerdeError(error)))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => break,
            Err(kube::Error::Api(status))
                if status.message.contains("serviceaccount") && Instant::now() < deadline =>
            {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(Error::api(what)(error)),
        }
    }
    let params = PatchParams::apply("testbed").force();
    api.patch(&item.name, &params, &Patch::Apply(&object))
        .await
        .map_err(Error::api(what))?;
    Ok(false)
}
