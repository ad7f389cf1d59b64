//! Who holds the virtual address of a control plane.

use kube::Client;
use migrate_core::ClusterModel;

use crate::client::{Selection, list};
use crate::resources::Lease;
use crate::{Error, anchor};

/// The Lease by which kube-vip elects who announces the control plane's address
/// (its `vip_leasename`, default).
const LEASE: &str = "plndr-cp-lock";
/// How kube-vip's pods begin: a static pod is `kube-vip-NODE`, those of a
/// DaemonSet are called after it.
const PODS: &str = "kube-vip";

/// The member of `model` on which kube-vip holds the virtual address of the
/// control plane: the one its Lease in `kube-system` names, if a pod of kube-vip
/// runs there. `None` without such a Lease, and for a Lease that is left over.
///
/// A hint, for the holder may change at any time.
///
/// # Errors
/// Those of a list of Leases.
pub async fn address_holder(
    client: &Client,
    model: &ClusterModel,
) -> Result<Option<String>, Error> {
    let of_system = Selection::all().within(anchor::NAMESPACE);
    let leases = list::<Lease>(client, &of_system).await?;
    let mut leases = leases.into_iter();
    let lease = leases.find(|lease| lease.metadata.name.as_deref() == Some(LEASE));
    let holder = lease.and_then(|lease| lease.spec.holder_identity);
    let is_member = |name: &String| {
        let mut members = model.control_plane.iter();
        members.any(|member| member.name == *name)
    };
    let runs_there = |name: &String| {
        model.pods.iter().any(|pod| {
            pod.id.namespace == anchor::NAMESPACE
                && pod.id.name.starts_with(PODS)
                && pod.node.as_ref() == Some(name)
        })
    };
    Ok(holder.filter(|name| is_member(name) && runs_there(name)))
}
