//! The pod that is made.

use migrate_core::CanaryPod;
use migrate_core::model::{STEP_LABEL, TRIAL};
use serde_json::{Value, json};

/// `nobody` of most images; it has to be named, for an image may say root.
const NOBODY: u32 = 65_534;

/// The pod of `pod` on `node`.
pub(super) fn manifest(pod: &CanaryPod, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "kube-migrate-canary-",
            "labels": { STEP_LABEL: TRIAL },
        },
        "spec": {
            // So that it ends when nobody is left to remove it.
            "activeDeadlineSeconds": pod.timeout.as_secs().max(1),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "canary",
                "image": pod.image,
                "imagePullPolicy": "IfNotPresent",
                "command": pod.command,
                "resources": {
                    "requests": { "cpu": "1m", "memory": "8Mi" },
                    "limits": { "memory": "64Mi" },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                },
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }],
            "enableServiceLinks": false,
            // Not the scheduler's choice: it would not choose a cordoned node.
            "nodeName": node,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsGroup": NOBODY,
                "runAsNonRoot": true,
                "runAsUser": NOBODY,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{ "operator": "Exists" }],
        },
    })
}
