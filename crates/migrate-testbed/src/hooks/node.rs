//! Looking at a simulated node and upgrading it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Error;
use crate::wait::eventually;

/// How long the API server may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node as its status shows it.
pub(super) struct Seen {
    pub(super) kubelet_version: String,
    pub(super) ready: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "Ready" } else { "NotReady" };
        write!(f, "{} and {ready}", self.kubelet_version)
    }
}

/// The node, or `None` if there is none of that name.
pub(super) async fn look(client: &kube::Client, name: &str) -> Result<Option<Seen>, Error> {
    let looking = format!("reading node {name}");
    let node = nodes(client)
        .get_opt(name)
        .await
        .map_err(Error::api(looking))?;
    Ok(node.map(|node| {
        let status = &node.data["status"];
        let conditions = status["conditions"].as_array();
        Seen {
            kubelet_version: text(&status["nodeInfo"]["kubeletVersion"]),
            ready: conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
        }
    }))
}

/// The node goes NotReady for `time` and comes back with another version, as
/// after a restart of its kubelet.
pub(super) async fn upgrade(
    client: &kube::Client,
    name: &str,
    to: &str,
    time: Duration,
) -> Result<(), Error> {
    // kwok leaves a node alone that gives this reason.
    let restarting = ready_condition("False", "KubeletNotReady", "the kubelet is being upgraded");
    patch_status(client, name, &json!({"conditions": [restarting]})).await?;
    sleep(time).await;
    let back = ready_condition("True", "KubeletReady", "kubelet is posting ready status");
    let info = json!({"kubeletVersion": to, "kubeProxyVersion": to});
    patch_status(
        client,
        name,
        &json!({"conditions": [back], "nodeInfo": info}),
    )
    .await
}

async fn patch_status(client: &kube::Client, name: &str, status: &Value) -> Result<(), Error> {
    let api = nodes(client);
    let patch = Patch::Strategic(json!({"status": status}));
    let (api, patch) = (&api, &patch);
    eventually(
        &format!("the status of node {name} to be written"),
        PATIENCE,
        || async move {
            let written = api.patch_status(name, &PatchParams::default(), patch).await;
            written.map(|_| true)
        },
    )
    .await
}

fn ready_condition(status: &str, reason: &str, message: &str) -> Value {
    let now = now();
    json!({
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a kubelet stamps its status with the clock of the machine, as real servers do"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

fn nodes(client: &kube::Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
    Api::all_with(client.clone(), &resource)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
