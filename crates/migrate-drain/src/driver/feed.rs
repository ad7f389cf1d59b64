//! One watch of each kind, merged.

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use kube::{Api, Client};
use migrate_kube::resources::{
    Deployment, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodDisruptionBudget,
    ReplicaSet, StatefulSet, VolumeAttachment,
};
use migrate_kube::{Error, Selection, WatchEvent, Watchable, watch};

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Attachments,
    Budgets,
    Claims,
    Deployments,
    Nodes,
    Pods,
    ReplicaSets,
    StatefulSets,
    Volumes,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 9;

/// Something a watch showed.
pub(super) enum Change {
    Attachments(WatchEvent<VolumeAttachment>),
    Budgets(WatchEvent<PodDisruptionBudget>),
    Claims(WatchEvent<PersistentVolumeClaim>),
    Deployments(WatchEvent<Deployment>),
    Nodes(WatchEvent<Node>),
    Pods(WatchEvent<Pod>),
    ReplicaSets(WatchEvent<ReplicaSet>),
    StatefulSets(WatchEvent<StatefulSet>),
    Volumes(WatchEvent<PersistentVolume>),
    /// The watch goes on by itself if that can help.
    Failed(Kind, Error),
}

pub(super) type Feed = SelectAll<BoxStream<'static, Change>>;

impl Change {
    /// Which watch it is of.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Attachments(_) => Kind::Attachments,
            Self::Budgets(_) => Kind::Budgets,
            Self::Claims(_) => Kind::Claims,
            Self::Deployments(_) => Kind::Deployments,
            Self::Nodes(_) => Kind::Nodes,
            Self::Pods(_) => Kind::Pods,
            Self::ReplicaSets(_) => Kind::ReplicaSets,
            Self::StatefulSets(_) => Kind::StatefulSets,
            Self::Volumes(_) => Kind::Volumes,
            Self::Failed(kind, _) => *kind,
        }
    }
}

/// Watches everything a drain looks at, in all namespaces.
pub(super) fn feed(client: &Client) -> Feed {
    let mut feed = SelectAll::new();
    feed.push(one(client, Kind::Attachments, Change::Attachments));
    feed.push(one(client, Kind::Budgets, Change::Budgets));
    feed.push(one(client, Kind::Claims, Change::Claims));
    feed.push(one(client, Kind::Deployments, Change::Deployments));
    feed.push(one(client, Kind::Nodes, Change::Nodes));
    feed.push(one(client, Kind::Pods, Change::Pods));
    feed.push(one(client, Kind::ReplicaSets, Change::ReplicaSets));
    feed.push(one(client, Kind::StatefulSets, Change::StatefulSets));
    feed.push(one(client, Kind::Volumes, Change::Volumes));
    feed
}

fn one<K: Watchable>(
    client: &Client,
    kind: Kind,
    change: fn(WatchEvent<K>) -> Change,
) -> BoxStream<'static, Change> {
    let events = watch(Api::<K>::all(client.clone()), &Selection::all());
    let failed = move |error| Change::Failed(kind, error);
    events
        .map(move |event| event.map_or_else(failed, change))
        .boxed()
}
