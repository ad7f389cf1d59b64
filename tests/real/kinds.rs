//! Objects of every kind, with fields of every form.

use serde_json::{Value, json};

/// An object of each kind that the embedded cluster serves and the scenario has not, with
/// fields of every form.
pub(crate) fn of_every_kind() -> Vec<Value> {
    let object = |api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "every", "namespace": "shop", "annotations": {"empty": "", "text": "a\nb \u{e9}"}},
        });
        let map = object.as_object_mut().unwrap();
        map.extend(rest.as_object().unwrap().clone());
        object
    };
    let global = |api_version: &str, kind: &str, rest: Value| {
        let mut object = object(api_version, kind, rest);
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("namespace");
        object
    };
    let template = json!({
        "metadata": {"labels": {"app": "every"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "main"}],
        },
    });
    let job = json!({"suspend": true, "template": template, "backoffLimit": 0});
    let mut many = template;
    many["spec"]["restartPolicy"] = json!("Always");
    let webhook = json!([{
        "name": "every.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore", "timeoutSeconds": 1,
        "clientConfig": {"service": {"name": "none", "namespace": "shop", "path": "/", "port": 8443}},
        "namespaceSelector": {"matchLabels": {"never": "there"}},
        "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]}],
    }]);
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["get", "list"]}]);
    let subjects =
        json!([{"kind": "User", "name": "somebody", "apiGroup": "rbac.authorization.k8s.io"}]);
    let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "every"});
    vec![
        object(
            "v1",
            "ConfigMap",
            json!({"data": {"a": "b"}, "binaryData": {"c": "/wA="}, "immutable": true}),
        ),
        object(
            "v1",
            "Secret",
            json!({"data": {"a": "/wA="}, "type": "Opaque"}),
        ),
        object(
            "v1",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}),
        ),
        object(
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "default": {"memory": "512Mi"}}]}}),
        ),
        object(
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"pods": "100", "requests.cpu": "1500m"}}}),
        ),
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}},
            }}),
        ),
        global(
            "v1",
            "PersistentVolume",
            json!({"spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "other",
                "csi": {"driver": "csi.example.org", "volumeHandle": "vol-1", "volumeAttributes": {"a": "b"}},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]},
                ]}]}},
            }}),
        ),
        object(
            "v1",
            "ReplicationController",
            json!({"spec": {
                "replicas": 0, "selector": {"app": "every"}, "template": many,
            }}),
        ),
        object(
            "apps/v1",
            "Deployment",
            json!({"spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "rich"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
                "template": rich_pod(),
            }}),
        ),
        object(
            "apps/v1",
            "ControllerRevision",
            json!({"revision": 3, "data": {"any": {"thing": [1, "a", null]}}}),
        ),
        object("batch/v1", "Job", json!({"spec": job})),
        object(
            "batch/v1",
            "CronJob",
            json!({"spec": {
                "schedule": "0 4 * * *", "suspend": true, "jobTemplate": {"spec": job},
            }}),
        ),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {
                "maxUnavailable": "30%", "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["cart", "queue", "logs"]}]},
            }}),
        ),
        object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {
                "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            }}),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a.example.org", "http": {
                "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "cart", "port": {"number": 80}}}}],
            }}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}}], "ports": [{"port": 80, "endPort": 90}]}],
            }}),
        ),
        object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": rules}),
        ),
        object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"roleRef": role("Role"), "subjects": subjects}),
        ),
        global(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            json!({"rules": rules}),
        ),
        global(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            json!({"roleRef": role("ClusterRole"), "subjects": subjects}),
        ),
        global(
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": -5, "globalDefault": false, "preemptionPolicy": "Never"}),
        ),
        global(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({
                "provisioner": "csi.example.org", "allowVolumeExpansion": true, "mountOptions": ["ro"], "volumeBindingMode": "WaitForFirstConsumer",
            }),
        ),
        global(
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"attachRequired": false, "fsGroupPolicy": "File"}}),
        ),
        global(
            "storage.k8s.io/v1",
            "CSINode",
            json!({"spec": {"drivers": [
                {"name": "csi.example.org", "nodeID": "n", "topologyKeys": ["zone"], "allocatable": {"count": 8}},
            ]}}),
        ),
        global(
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"spec": {
                "attacher": "csi.example.org", "nodeName": "none", "source": {"persistentVolumeName": "every"},
            }}),
        ),
        global(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": webhook}),
        ),
        global(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            json!({"webhooks": webhook}),
        ),
        definition(),
    ]
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["w"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                        "size": {"type": "integer", "minimum": 0, "maximum": 1.5e3, "default": 3},
                        "list": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "x-kubernetes-list-type": "set"},
                        "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "map": {"type": "object", "additionalProperties": {"type": "number", "nullable": true}},
                    }},
                    "status": {"type": "object", "x-kubernetes-validations": [{"rule": "true", "message": "never"}]},
                }}},
            }],
        },
    })
}

/// A template with fields of every form, that no pod is made of.
fn rich_pod() -> Value {
    json!({
        "metadata": {"labels": {"app": "rich"}, "annotations": {"a": "b"}},
        "spec": {
            "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}],
            "securityContext": {"fsGroup": 7, "supplementalGroups": [1, 2], "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}]},
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}],
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "rich"}},
            }],
            "affinity": {
                "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3, "preference": {
                    "matchExpressions": [{"key": "disk", "operator": "Exists"}],
                }}]},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "rich"}}, "namespaces": ["shop"],
                }]},
            },
            "initContainers": [{"name": "first", "image": "first", "restartPolicy": "Always"}],
            "containers": [{
                "name": "main", "image": "main", "command": ["serve"], "args": ["", "--all"], "tty": true,
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "UDP"}],
                "env": [
                    {"name": "PLAIN", "value": "x"}, {"name": "EMPTY"},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "every", "key": "a", "optional": false}}},
                    {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "every"}, "prefix": "P_"}],
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]}, "periodSeconds": 3},
                "readinessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 1},
                "startupProbe": {"tcpSocket": {"port": 8080}, "failureThreshold": 30},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsUser": 0},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/config", "readOnly": true}, {"name": "scratch", "mountPath": "/scratch", "subPathExpr": "$(PLAIN)"},
                    {"name": "all", "mountPath": "/all"}, {"name": "disk", "mountPath": "/disk"},
                ],
            }],
            "volumes": [
                {"name": "config", "configMap": {"name": "every", "defaultMode": 256, "items": [{"key": "a", "path": "b"}]}},
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                {"name": "disk", "persistentVolumeClaim": {"claimName": "every"}},
                {"name": "all", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                    {"secret": {"name": "every"}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]}},
            ],
        },
    })
}
