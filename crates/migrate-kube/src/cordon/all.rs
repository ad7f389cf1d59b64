//! What a holder does to all nodes: stamp them when it takes over, and leave no
//! stamp when it is done.

use futures::StreamExt;
use futures::stream;
use kube::Client;
use migrate_core::Fence;
use serde_json::{Map, Value, json};

use super::{CORDONED_BY, CordonMark, DRAINED_BY_HAND, admit, call, preference, stamp_of, write};
use crate::anchor::EPOCH;
use crate::resources::{Node, Taint};
use crate::{Error, Selection, list};

/// Writes under way at once.
const WRITES: usize = 16;
/// How often all nodes are looked at until none has changed meanwhile. Each look
/// finds only the few left that changed between it and their write.
const LOOKS: u32 = 20;

/// Stamps every node with the epoch of `fence`, and makes the cordons of every
/// run ones of its run; those that people set by hand stay theirs. Gives the
/// nodes with cordons of the run.
///
/// # Guarantees
/// When this returns, no write of an older epoch takes effect on a node any more,
/// and what took effect before is to be seen. Doing it twice changes nothing.
///
/// # Errors
/// [`Error::Fenced`]; [`Error::Conflict`] if nodes keep changing; any other of
/// [`Error`].
pub async fn take_over_nodes(client: &Client, fence: &Fence) -> Result<Vec<String>, Error> {
    let is_taken = |mark: &CordonMark| mark.run != DRAINED_BY_HAND;
    let nodes = change_all(client, fence, |node| {
        let mut annotations = Map::new();
        if stamp_of(&node.metadata) != fence.epoch {
            annotations.insert(EPOCH.to_owned(), json!(fence.epoch.to_string()));
        }
        // Only the mark: whoever set `unschedulable` stays its manager, by which
        // a cordon of somebody else is recognised.
        let mark = CordonMark::of(node).filter(is_taken);
        if mark.is_some_and(|mark| mark.run != fence.run) {
            annotations.insert(CORDONED_BY.to_owned(), json!(fence.run));
        }
        Change {
            annotations,
            taints: None,
        }
    })
    .await?;
    let marked = nodes
        .into_iter()
        .filter(|node| CordonMark::of(node).as_ref().is_some_and(is_taken));
    let mut names: Vec<String> = marked.filter_map(|node| node.metadata.name).collect();
    names.sort();
    Ok(names)
}

/// Removes the stamps from nodes that have no cordon of ours, and from all the taint of
/// [`prefer_upgraded`](super::prefer_upgraded). For the end of a run, before the Lease is
/// cleared.
///
/// # Errors
/// As [`take_over_nodes`].
pub async fn unstamp_nodes(client: &Client, fence: &Fence) -> Result<(), Error> {
    let stamped = |node: &Node| stamp_of(&node.metadata) > 0 && CordonMark::of(node).is_none();
    change_all(client, fence, |node| Change {
        annotations: match stamped(node) {
            true => Map::from_iter([(EPOCH.to_owned(), Value::Null)]),
            false => Map::new(),
        },
        taints: preference::without(&node.spec.taints),
    })
    .await?;
    Ok(())
}

/// What is to become of a node.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Null removes one; others stay.
    pub(super) annotations: Map<String, Value>,
    /// All that it is to have, if they change.
    pub(super) taints: Option<Vec<Taint>>,
}

impl Change {
    /// The patch of a node that was read as `version`; `None` if nothing changes.
    fn patch(self, version: Option<&String>) -> Option<Value> {
        if self.annotations.is_empty() && self.taints.is_none() {
            return None;
        }
        let metadata = json!({ "resourceVersion": version, "annotations": self.annotations });
        let mut patch = json!({ "metadata": metadata });
        if let Some(taints) = self.taints {
            patch["spec"] = json!({ "taints": taints });
        }
        Some(patch)
    }
}

/// Changes every node for which `change` gives something, until there is none; gives the
/// nodes as last seen.
pub(super) async fn change_all(
    client: &Client,
    fence: &Fence,
    change: impl Fn(&Node) -> Change,
) -> Result<Vec<Node>, Error> {
    let mut look = 1;
    loop {
        let nodes = list::<Node>(client, &Selection::all()).await?;
        let mut patches = Vec::new();
        let mut newest = 0;
        for node in &nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            newest = newest.max(stamp_of(&node.metadata));
            let version = node.metadata.resource_version.as_ref();
            patches.extend(change(node).patch(version).map(|patch| (name, patch)));
        }
        let Some((first, _)) = patches.first() else {
            return Ok(nodes);
        };
        admit(client, fence, newest, &call("patch", first)).await?;
        let writes = patches
            .iter()
            .map(|(name, patch)| write(client, name, patch));
        let writes: Vec<_> = writes.collect();
        let mut writes = stream::iter(writes).buffer_unordered(WRITES);
        let mut changed = None;
        while let Some(written) = writes.next().await {
            match written {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error @ Error::Conflict { .. }) => changed = Some(error),
                Err(error) => return Err(error),
            }
        }
        if look == LOOKS {
            let call = call("patch", first);
            let message = "it does not stay as it was written".to_owned();
            return Err(changed.unwrap_or(Error::Conflict { call, message }));
        }
        look += 1;
    }
}
