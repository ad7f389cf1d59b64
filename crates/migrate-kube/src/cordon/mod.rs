//! Cordons that remember whose they are and what was before, and refuse who was
//! superseded.

mod all;
mod preference;
#[cfg(test)]
mod tests;

pub use all::{take_over_nodes, unstamp_nodes};
pub use preference::{TO_BE_UPGRADED, prefer_upgraded};

use std::convert::Infallible;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use migrate_core::Fence;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::anchor::EPOCH;
use crate::client::{READ_DEADLINE, within_deadline};
use crate::patch::{FIELD_MANAGER, merge};
use crate::resources::{self, annotation};
use crate::{Anchor, ApiCall, Error, Selection, list};

/// Annotation of a node: the run that cordoned it.
pub const CORDONED_BY: &str = "kube-migrate.dev/cordoned-by";
/// Annotation of a node: whether it was unschedulable before that.
pub const UNSCHEDULABLE_BEFORE: &str = "kube-migrate.dev/unschedulable-before";

/// The owner of cordons that a drain without a run sets: a person drained the
/// node for reasons of their own, so no run takes it over.
pub const DRAINED_BY_HAND: &str = "migrate-drain";

/// How often a change is tried anew when the node changes meanwhile.
const ATTEMPTS: u32 = 5;
const NODES: &str = "/api/v1/nodes";

/// A node that is cordoned by this run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Cordoned {
    /// Whether someone else had cordoned it before; it stays so afterwards.
    pub was_unschedulable: bool,
    /// The node's uid: a node of the same name may be another machine.
    pub uid: String,
}

/// What became of a cordon that was to be given back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "restored")]
pub enum Restored {
    /// The node does not exist any more.
    NodeGone,
    /// The run has no cordon on it; nothing was touched.
    NotOurs {
        /// The run that has.
        run: Option<String>,
    },
    /// The run's marks are gone.
    Released {
        /// The node stays unschedulable, because someone else wants it so.
        still_cordoned: bool,
    },
}

/// The mark a run leaves on a node that it cordons.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct CordonMark {
    /// The run.
    pub run: String,
    /// Whether the node was unschedulable before.
    pub was_unschedulable: bool,
}

impl CordonMark {
    /// The mark on `node`, if a run has left one.
    pub fn of(node: &resources::Node) -> Option<Self> {
        Self::read(&node.metadata)
    }

    /// A mark without a readable "before" counts as one on a node that was
    /// cordoned: what is not known to be ours is not lifted.
    fn read(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            run: annotation(metadata, CORDONED_BY)?.to_owned(),
            was_unschedulable: annotation(metadata, UNSCHEDULABLE_BEFORE) != Some("false"),
        })
    }
}

/// The epoch that last wrote to the node of `metadata`, as stamped there.
fn stamp_of(metadata: &ObjectMeta) -> u64 {
    let stamp = annotation(metadata, EPOCH).and_then(|text| text.parse().ok());
    stamp.unwrap_or(0)
}

/// Makes `node` unschedulable on behalf of the run of `fence`, and stamps it with
/// its epoch.
///
/// # Guarantees
/// * The change is made from what was read (compare and set by
///   `resourceVersion`), so a cordon that someone else sets at the same moment is
///   seen and remembered as theirs. Doing it twice changes nothing. If someone
///   lifted the run's cordon in between, it is set anew.
/// * The Lease is read after the node and before the write: nothing is written by
///   who has been superseded and whose successor has stamped the node, see
///   [`Anchor`]. A fence [without a Lease](Fence::without_lease) is not compared.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Fenced`]; [`Error::OtherOwner`] if another run has
/// cordoned it; [`Error::Conflict`] if the node keeps changing; any other of
/// [`Error`].
pub async fn cordon(client: &Client, node: &str, fence: &Fence) -> Result<Cordoned, Error> {
    let always = None::<(_, fn(&[resources::Node]) -> Result<(), Infallible>)>;
    let Ok(cordoned) = take(client, node, fence, always).await?;
    Ok(cordoned)
}

/// As [`cordon`], if `may` has nothing against it; else what it says, and
/// nothing is changed.
///
/// # Guarantees
/// `may` is shown the nodes `among` as the API server has them, read after
/// everything else and right before the write; again before each further attempt.
/// Nothing passes between that read and the write but one answer and one request.
/// A node that has the run's mark already is not asked about.
///
/// # Caveats
/// The API has no condition on other objects: what happens to another node while
/// the write is on its way is seen by nobody. Each attempt reads a list, so
/// narrow it.
///
/// # Errors
/// As [`cordon`].
pub async fn cordon_if<W>(
    client: &Client,
    node: &str,
    fence: &Fence,
    among: &Selection,
    may: impl Fn(&[resources::Node]) -> Result<(), W>,
) -> Result<Result<Cordoned, W>, Error> {
    take(client, node, fence, Some((among, may))).await
}

async fn take<W>(
    client: &Client,
    node: &str,
    fence: &Fence,
    may: Option<(&Selection, impl Fn(&[resources::Node]) -> Result<(), W>)>,
) -> Result<Result<Cordoned, W>, Error> {
    let mut attempt = 1;
    loop {
        let seen = read(client, node).await?;
        let stamp = stamp_of(&seen.metadata);
        let mark = CordonMark::read(&seen.metadata);
        let was_unschedulable = match &mark {
            Some(mark) if mark.run != fence.run => {
                return Err(Error::OtherOwner {
                    call: call("patch", node),
                    owner: mark.run.clone(),
                });
            }
            Some(mark) if seen.spec.unschedulable => {
                if stamp == fence.epoch {
                    return Ok(Ok(seen.cordoned(mark.was_unschedulable)));
                }
                mark.was_unschedulable
            }
            _ => seen.spec.unschedulable,
        };
        admit(client, fence, stamp, &call("patch", node)).await?;
        if let (None, Some((among, may))) = (&mark, &may) {
            let nodes = list(client, among).await?;
            if let Err(why) = may(&nodes) {
                return Ok(Err(why));
            }
        }
        let mut annotations = json!({
            CORDONED_BY: fence.run,
            UNSCHEDULABLE_BEFORE: was_unschedulable.to_string(),
        });
        if fence.epoch > 0 {
            annotations[EPOCH] = json!(fence.epoch.to_string());
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": seen.metadata.resource_version,
                "annotations": annotations,
            },
            "spec": { "unschedulable": true },
        });
        match write(client, node, &patch).await {
            Ok(now) => return Ok(Ok(now.cordoned(was_unschedulable))),
            Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whether who acts under `fence` may make `call` on a node that was read before
/// and shows `stamp`.
async fn admit(client: &Client, fence: &Fence, stamp: u64, call: &ApiCall) -> Result<(), Error> {
    if fence.epoch == 0 {
        return Ok(());
    }
    if stamp > fence.epoch {
        return Err(Error::Fenced {
            call: call.clone(),
            ours: fence.epoch,
            found: stamp,
        });
    }
    Anchor::read(client).await?.admits(fence, call)
}

/// Gives `node` back as the run of `fence` found it.
///
/// # Guarantees
/// Only a node that carries this run's mark is touched, and only its mark, its
/// stamp, the taint of [`prefer_upgraded`] and its `spec.unschedulable`. The latter is lifted only if the node was
/// schedulable before and nobody else has cordoned it since. Doing it twice
/// changes nothing. Who was superseded is refused as by [`cordon`](cordon()).
///
/// # Caveats
/// Someone who cordons a node that is cordoned already changes nothing that the
/// API would show, and so cannot be seen. To keep a node cordoned after a run, set
/// its annotation [`UNSCHEDULABLE_BEFORE`] to `true`. Someone who lifts the
/// cordon and sets it again is recognised by the owner of the field in
/// `managedFields`.
///
/// # Errors
/// [`Error::Fenced`]; [`Error::Conflict`] if the node keeps changing; any other of
/// [`Error`] except [`Error::NotFound`].
pub async fn restore_cordon(client: &Client, node: &str, fence: &Fence) -> Result<Restored, Error> {
    let mut attempt = 1;
    loop {
        let seen = match read(client, node).await {
            Ok(seen) => seen,
            Err(Error::NotFound { .. }) => return Ok(Restored::NodeGone),
            Err(error) => return Err(error),
        };
        let mark = match CordonMark::read(&seen.metadata) {
            Some(mark) if mark.run == fence.run => mark,
            other => {
                return Ok(Restored::NotOurs {
                    run: other.map(|mark| mark.run),
                });
            }
        };
        let stamp = stamp_of(&seen.metadata);
        admit(client, fence, stamp, &call("patch", node)).await?;
        let lift = seen.spec.unschedulable && !mark.was_unschedulable && !seen.is_foreign();
        let mut patch = json!({
            "metadata": {
                "resourceVersion": seen.metadata.resource_version,
                "annotations": { CORDONED_BY: null, UNSCHEDULABLE_BEFORE: null, EPOCH: null },
            },
        });
        if lift {
            patch["spec"]["unschedulable"] = json!(false);
        }
        if let Some(taints) = preference::without(&seen.spec.taints) {
            patch["spec"]["taints"] = json!(taints);
        }
        match write(client, node, &patch).await {
            Ok(now) => {
                return Ok(Restored::Released {
                    still_cordoned: now.spec.unschedulable,
                });
            }
            Err(Error::NotFound { .. }) => return Ok(Restored::NodeGone),
            Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A node with all of its metadata: who manages which field matters here.
#[derive(Deserialize)]
struct Seen {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: resources::NodeSpec,
}

impl Seen {
    fn cordoned(self, was_unschedulable: bool) -> Cordoned {
        Cordoned {
            was_unschedulable,
            uid: self.metadata.uid.unwrap_or_default(),
        }
    }

    /// Whether someone else set `spec.unschedulable` to what it is.
    fn is_foreign(&self) -> bool {
        self.metadata.managed_fields.iter().flatten().any(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            entry.manager.as_deref() != Some(FIELD_MANAGER)
                && fields.is_some_and(|f| f.pointer("/f:spec/f:unschedulable").is_some())
        })
    }
}

async fn read(client: &Client, node: &str) -> Result<Seen, Error> {
    let call = call("get", node);
    match Request::new(NODES).get(node, &GetParams::default()) {
        Ok(request) => within_deadline(call, READ_DEADLINE, client.request(request)).await,
        Err(error) => Err(call.failed(kube::Error::BuildRequest(error))),
    }
}

async fn write(client: &Client, node: &str, patch: &serde_json::Value) -> Result<Seen, Error> {
    merge(client, call("patch", node), NODES.to_owned(), node, patch).await
}

fn call(verb: &'static str, node: &str) -> ApiCall {
    ApiCall::new::<resources::Node>(verb).named(node)
}
