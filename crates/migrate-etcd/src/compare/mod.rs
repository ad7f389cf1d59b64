//! What a restore takes back: all that came after the backup.

mod object;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use object::{Object, Role};
use serde::Serialize;

use crate::Error;
use crate::state::{Alive, State};

/// Resources whose objects are counted and not told one by one: they come and go by
/// themselves.
const PASSING: [&str; 2] = ["events", "leases"];

/// What came after a backup, and is gone, back or as before once that is restored.
///
/// Unlike an inspection it names objects, which is what it is for; no content of any
/// is in it but where a pod ran, what a volume is at its driver, and the address of a load balancer.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What the cluster is known by, where the files say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Last revision of the backup.
    pub backup_revision: i64,
    /// Last revision of the later state.
    pub later_revision: i64,
    /// What has changed, by resource.
    pub resources: Vec<ResourceChange>,
    /// Objects that were created or deleted, and others that a restore has an effect
    /// on; by resource, namespace and name. Events and Leases are left out.
    pub objects: Vec<ObjectChange>,
}

/// How many objects of a resource have changed since the backup.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ResourceChange {
    /// `pods`, `widgets.example.com`.
    pub resource: String,
    /// Created since, those that were made anew under their name included.
    pub created: u64,
    /// Deleted since, those that were made anew included.
    pub deleted: u64,
    /// Changed since.
    pub changed: u64,
}

/// An object that is another one since the backup.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// `pods`, `widgets.example.com`.
    pub resource: String,
    /// Its namespace, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// What a restore does beyond the API, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Where that is, as far as it can be read: the node of a pod; driver and handle, or
    /// path, of a volume; the address of a load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// What became of an object since the backup.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It is new.
    Created,
    /// It is there no more.
    Deleted,
    /// It is the same one with other contents.
    Changed,
}

/// What a restore of the backup does to something that is not in etcd.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The kubelet ends the pod: the API does not know it any more.
    PodEnds,
    /// The kubelet of its node starts the pod again.
    PodReturns,
    /// The disk stays behind, and nothing in the cluster names it.
    DiskOrphaned,
    /// The volume is there again, its disk may not be.
    DiskMissing,
    /// The load balancer stays behind, and nothing in the cluster names it.
    LoadBalancerOrphaned,
    /// The Service asks for a load balancer again, which may get another address.
    LoadBalancerMissing,
    /// The node is not in the cluster until its kubelet is restarted.
    NodeUnknown,
    /// The node is in the cluster again, NotReady if there is none.
    NodeReturns,
}

/// Compares a backup with a later state of the same cluster: another snapshot, or the
/// file `member/snap/db` of a data folder that no etcd has open.
///
/// Both are checked as [`inspect`](crate::inspect) does before anything is told. An object
/// is the same one if etcd has created its key at the same revision, so that this also
/// holds for what is encrypted; of such objects no effect but that of a pod, a volume or
/// a node can be told, and no place. Static pods belong to their kubelets, and pods that have ended
/// run nowhere: neither has an effect. Memory is some 36 bytes for each key of
/// either file, beside what is told.
///
/// # Errors
/// [`Error::Damaged`], and [`Error::NotComparable`] for files of two clusters, or a
/// second one that is older than the first.
pub fn compare(backup: &Path, later: &Path) -> Result<Comparison, Error> {
    let (before, after) = (State::of(backup)?, State::of(later)?);
    let refuse = |reason: String| {
        let path = later.to_owned();
        Err(Error::NotComparable { path, reason })
    };
    if let (Some(ours), Some(theirs)) = (&before.cluster, &after.cluster)
        && ours != theirs
    {
        return refuse(format!("is of cluster {theirs}, and the backup of {ours}"));
    }
    if after.revision < before.revision {
        let (at, of) = (after.revision, before.revision);
        return refuse(format!("is at revision {at}, and the backup at {of}"));
    }
    let mut told = Told::default();
    let mut was = BTreeMap::new();
    before.visit(|key, alive, kv| {
        let since = Since::of(after.keys.get(key), alive);
        match (since, Object::of(kv)) {
            (Some(Since::Replaced), Some(object)) => told.add(object, Change::Deleted),
            (Some(Since::Changed), Some(object)) => drop(was.insert(*key, object.role)),
            _ => {}
        }
    })?;
    after.visit(|key, alive, kv| {
        let since = Since::of(before.keys.get(key), alive);
        match (since, Object::of(kv), was.get(key)) {
            (Some(Since::Replaced), Some(object), _) => told.add(object, Change::Created),
            (Some(Since::Changed), Some(object), Some(was)) => told.change(object, was),
            _ => {}
        }
    })?;
    let mut objects = told.objects;
    objects.sort();
    Ok(Comparison {
        cluster: after.cluster.or(before.cluster),
        backup_revision: before.revision,
        later_revision: after.revision,
        resources: told.resources.into_values().collect(),
        objects,
    })
}

/// What of a key one state has and another one has not.
enum Since {
    /// The key is not there, or is that of another object.
    Replaced,
    Changed,
}

impl Since {
    fn of(other: Option<&Alive>, this: &Alive) -> Option<Self> {
        match other {
            Some(other) if other.created == this.created => {
                (other.changed != this.changed).then_some(Self::Changed)
            }
            _ => Some(Self::Replaced),
        }
    }
}

/// What is told so far.
#[derive(Default)]
struct Told {
    resources: BTreeMap<String, ResourceChange>,
    objects: Vec<ObjectChange>,
}

impl Told {
    /// An object that only one of the two states has.
    fn add(&mut self, object: Object, change: Change) {
        let is_new = change == Change::Created;
        let count = self.count(&object);
        *if is_new {
            &mut count.created
        } else {
            &mut count.deleted
        } += 1;
        if PASSING.contains(&object.resource.as_str()) {
            return;
        }
        let effect = match (&object.role, is_new) {
            (Role::Pod { runs: true, node }, true) => Some((Effect::PodEnds, node)),
            (Role::Pod { runs: true, node }, false) => Some((Effect::PodReturns, node)),
            (Role::Volume(disk), true) => Some((Effect::DiskOrphaned, disk)),
            (Role::Volume(disk), false) => Some((Effect::DiskMissing, disk)),
            (Role::LoadBalancer(address), true) => Some((Effect::LoadBalancerOrphaned, address)),
            (Role::LoadBalancer(address), false) => Some((Effect::LoadBalancerMissing, address)),
            (Role::Node, true) => Some((Effect::NodeUnknown, &None)),
            (Role::Node, false) => Some((Effect::NodeReturns, &None)),
            (Role::Pod { runs: false, .. } | Role::Other, _) => None,
        };
        let effect = effect.map(|(effect, place)| (effect, place.clone()));
        self.tell(object, change, effect);
    }

    /// An object that both states have, with what it was in the first one.
    fn change(&mut self, object: Object, was: &Role) {
        self.count(&object).changed += 1;
        let (effect, place) = match (was, &object.role) {
            (Role::Pod { runs: false, .. }, Role::Pod { runs: true, node }) => {
                (Effect::PodEnds, node)
            }
            (Role::Other, Role::LoadBalancer(address)) => (Effect::LoadBalancerOrphaned, address),
            (Role::LoadBalancer(address), Role::Other) => (Effect::LoadBalancerMissing, address),
            _ => return,
        };
        let place = place.clone();
        self.tell(object, Change::Changed, Some((effect, place)));
    }

    fn count(&mut self, object: &Object) -> &mut ResourceChange {
        let entry = self.resources.entry(object.resource.clone());
        entry.or_insert_with(|| ResourceChange {
            resource: object.resource.clone(),
            ..ResourceChange::default()
        })
    }

    fn tell(&mut self, object: Object, change: Change, effect: Option<(Effect, Option<String>)>) {
        let (effect, place) = effect.unzip();
        self.objects.push(ObjectChange {
            resource: object.resource,
            namespace: object.namespace,
            name: object.name,
            change,
            effect,
            place: place.flatten(),
        });
    }
}
