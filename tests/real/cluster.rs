//! A cluster as a scenario describes it, and what is to be seen in it.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use migrate_sim::Scenario;
use migrate_testbed::{ControlPlane, Identity};
use serde_json::{Value, json};

/// Where every upgrade here goes to.
pub(crate) const TARGET: &str = "v1.37.2";
/// Where it comes from.
pub(crate) const ORIGIN: &str = "v1.36.3";

const PATIENCE: Duration = Duration::from_secs(300);

/// Creates what the scenario describes and waits until all of it is well.
pub(crate) async fn load(plane: &ControlPlane, scenario: &Scenario) {
    plane.apply(scenario.objects()).await.unwrap();
    settle(plane, scenario.node_names().count()).await;
}

/// Waits until `nodes` nodes and everything on them are well.
pub(crate) async fn settle(plane: &ControlPlane, nodes: usize) {
    let client = plane.client();
    let what = "everything to be ready";
    plane
        .wait_until(what, PATIENCE, || settled(&client, nodes))
        .await
        .unwrap();
}

/// Whether everything is well; the error says what is not.
async fn settled(client: &Client, nodes: usize) -> Result<bool, String> {
    let all = list(client, "/api/v1/nodes").await?;
    let ready = all
        .iter()
        .filter(|node| condition(node, "Ready") == "True")
        .count();
    expect("ready nodes", ready, nodes)?;
    for (path, wanted, have) in [
        (
            "/apis/apps/v1/deployments",
            "/spec/replicas",
            "/status/availableReplicas",
        ),
        (
            "/apis/apps/v1/statefulsets",
            "/spec/replicas",
            "/status/availableReplicas",
        ),
        (
            "/apis/apps/v1/daemonsets",
            "/status/desiredNumberScheduled",
            "/status/numberAvailable",
        ),
        (
            "/apis/policy/v1/poddisruptionbudgets",
            "/status/expectedPods",
            "/status/currentHealthy",
        ),
    ] {
        for object in list(client, path).await? {
            let number = |at: &str| object.pointer(at).and_then(Value::as_u64).unwrap_or(0);
            if object["metadata"]["generation"] != object["status"]["observedGeneration"] {
                return Err(format!("{} is not observed", key(&object)));
            }
            if number(wanted) == 0 || number(wanted) != number(have) {
                return Err(format!(
                    "{}: {} of {}",
                    key(&object),
                    number(have),
                    number(wanted)
                ));
            }
        }
    }
    for pod in list(client, "/api/v1/pods").await? {
        if pod["status"]["phase"] != "Succeeded" && condition(&pod, "Ready") != "True" {
            return Err(format!("pod {} is not ready", key(&pod)));
        }
    }
    Ok(true)
}

/// What a run must leave: every node Ready at the target, no cordon or mark but
/// those that others had set before, no run named by the anchor, all well.
pub(crate) async fn assert_upgraded(plane: &ControlPlane, foreign_cordons: &[&str]) {
    let client = plane.client();
    let nodes = list(&client, "/api/v1/nodes").await.unwrap();
    for node in &nodes {
        let name = key(node);
        assert_eq!(
            node["status"]["nodeInfo"]["kubeletVersion"], TARGET,
            "{name}"
        );
        let cordoned = node["spec"]["unschedulable"] == true;
        assert_eq!(
            cordoned,
            foreign_cordons.contains(&name.as_str()),
            "cordon of {name}"
        );
        assert_eq!(marks(node), Vec::<String>::new(), "{name}");
    }
    assert_eq!(anchored_run(&client).await, None, "the anchor");
    settle(plane, nodes.len()).await;
}

/// The annotations of ours on an object.
pub(crate) fn marks(object: &Value) -> Vec<String> {
    let annotations = object["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten();
    let ours = annotations.filter(|(key, _)| key.starts_with("kube-migrate.dev/"));
    ours.map(|(key, value)| format!("{key}={value}")).collect()
}

/// The run that the cluster says is under way.
pub(crate) async fn anchored_run(client: &Client) -> Option<String> {
    let anchor = migrate_kube::Anchor::read(client).await.unwrap();
    anchor.mark.map(|mark| mark.run)
}

/// Nodes that somebody has cordoned.
pub(crate) async fn cordoned(client: &Client) -> Vec<String> {
    let nodes = list(client, "/api/v1/nodes").await.unwrap();
    let cordoned = nodes
        .iter()
        .filter(|node| node["spec"]["unschedulable"] == true);
    cordoned.map(key).collect()
}

/// Versions of the kubelets by node.
pub(crate) async fn kubelets(client: &Client) -> BTreeMap<String, String> {
    let nodes = list(client, "/api/v1/nodes").await.unwrap();
    let version = |node: &Value| text(&node["status"]["nodeInfo"]["kubeletVersion"]);
    nodes
        .iter()
        .map(|node| (key(node), version(node)))
        .collect()
}

/// Makes every node what it was before an upgrade: Ready at [`ORIGIN`], in use,
/// without a mark.
pub(crate) async fn reset_nodes(plane: &ControlPlane) {
    let client = plane.client();
    let nodes = list(&client, "/api/v1/nodes").await.unwrap();
    for node in &nodes {
        let name = key(node);
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        let status = json!({"status": {
            "conditions": [ready],
            "nodeInfo": {"kubeletVersion": ORIGIN, "kubeProxyVersion": ORIGIN},
        }});
        kubectl(
            plane,
            &[
                "patch",
                "node",
                &name,
                "--subresource=status",
                "-p",
                &status.to_string(),
            ],
        )
        .await;
        let clean = json!({"spec": {"unschedulable": null}, "metadata": {"annotations": {
            "kube-migrate.dev/cordoned-by": null, "kube-migrate.dev/unschedulable-before": null,
        }}});
        kubectl(plane, &["patch", "node", &name, "-p", &clean.to_string()]).await;
    }
    let lease = [
        "delete",
        "lease",
        "kube-migrate",
        "-n",
        "kube-system",
        "--ignore-not-found",
    ];
    kubectl(plane, &lease).await;
    settle(plane, nodes.len()).await;
}

/// Runs kubectl as a user who may do everything; gives what it printed.
pub(crate) async fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(plane.binaries().await.kubectl)
        .arg("--kubeconfig")
        .arg(plane.kubeconfig_path())
        .args(arguments)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes `objects`, in their order, by the server's own apply.
pub(crate) async fn apply(plane: &ControlPlane, objects: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string()).unwrap();
    let file = file.to_str().unwrap();
    kubectl(plane, &["apply", "--server-side", "-f", file]).await;
}

/// A user with the rights that the project ships, except those that `spoil`
/// takes out of the rules.
pub(crate) async fn shipped_rights(
    plane: &ControlPlane,
    user: &str,
    spoil: impl Fn(&mut Vec<Value>),
) -> Identity {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rbac.yaml");
    // docs/rbac.yaml, as a test of migrate-preflight makes sure.
    std::fs::write(&file, migrate_preflight::rbac_manifest()).unwrap();
    kubectl(plane, &["apply", "-f", file.to_str().unwrap()]).await;
    let mut objects = Vec::new();
    for (kind, namespace) in [("ClusterRole", None), ("Role", Some("kube-system"))] {
        let shipped = [
            "get",
            kind,
            "kube-migrate",
            "-n",
            "kube-system",
            "-o",
            "json",
        ];
        let mut role: Value = serde_json::from_str(&kubectl(plane, &shipped).await).unwrap();
        let mut rules = role["rules"].as_array_mut().map(std::mem::take).unwrap();
        spoil(&mut rules);
        let mut metadata = json!({"name": user});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        let api = "rbac.authorization.k8s.io";
        objects.push(json!({
            "apiVersion": format!("{api}/v1"), "kind": kind, "metadata": metadata, "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": format!("{api}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": kind, "name": user},
            "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
        }));
    }
    plane.apply(objects).await.unwrap();
    Identity::new(user)
}

/// The objects of a list.
pub(crate) async fn list(client: &Client, path: &str) -> Result<Vec<Value>, String> {
    let request = Request::new(path).list(&ListParams::default()).unwrap();
    let mut list: Value = client
        .request(request)
        .await
        .map_err(|error| error.to_string())?;
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

/// The status of a condition: `True`, `False`, `Unknown`, or empty.
pub(crate) fn condition(object: &Value, wanted: &str) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == wanted);
    found
        .map(|condition| text(&condition["status"]))
        .unwrap_or_default()
}

/// `namespace/name`, or the name of what is in no namespace.
pub(crate) fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", text(&metadata["name"])),
        None => text(&metadata["name"]),
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn expect(what: &str, have: usize, wanted: usize) -> Result<(), String> {
    if have == wanted {
        Ok(())
    } else {
        Err(format!("{have} of {wanted} {what}"))
    }
}
