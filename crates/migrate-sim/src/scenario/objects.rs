//! A scenario as Kubernetes objects.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Pool, Scenario, Spread, Volume, VolumeReach, Workload, WorkloadKind};
use crate::annotations;
use crate::object::{array_at, set_at};
use crate::world::MEMBER_LABEL;

/// Label that names the pool of a node.
const POOL_LABEL: &str = "node.kubernetes.io/pool";
const ZONE_CLASS: &str = "zone-volumes";
const NODE_CLASS: &str = "node-disks";

pub(super) fn of(scenario: &Scenario) -> Vec<Value> {
    let mut objects: Vec<Value> = namespaces(scenario).collect();
    let mut address = 0;
    for pool in &scenario.pools {
        for (index, name) in pool.node_names().enumerate() {
            address += 1;
            objects.push(node(
                pool,
                &name,
                index,
                address,
                pool.version.as_deref().unwrap_or(&scenario.version),
            ));
        }
    }
    objects.extend(storage_classes(scenario));
    for workload in &scenario.workloads {
        for name in workload.names() {
            if let Some(volume) = &workload.volume
                && volume.reach == VolumeReach::Node
            {
                objects.extend(disks(scenario, workload, &name, volume));
            }
            objects.extend(controllers(workload, &name));
            objects.extend(budget(workload, &name));
            objects.extend(service(workload, &name));
        }
    }
    objects.extend(scenario.objects.iter().cloned());
    objects
}

fn namespaces(scenario: &Scenario) -> impl Iterator<Item = Value> {
    let names: BTreeSet<&str> = scenario
        .workloads
        .iter()
        .map(|workload| workload.namespace.as_str())
        .collect();
    let own = names
        .into_iter()
        .filter(|name| !matches!(*name, "default" | "kube-system"));
    own.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

fn node(pool: &Pool, name: &str, index: usize, address: u32, version: &str) -> Value {
    let zone = pool
        .zones
        .get(index % pool.zones.len().max(1))
        .map_or("", String::as_str);
    let mut labels: Map<String, Value> = pool
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut label = |key: &str, value: &str| {
        labels.entry(key).or_insert_with(|| json!(value));
    };
    label("kubernetes.io/hostname", name);
    label("kubernetes.io/os", "linux");
    label("kubernetes.io/arch", "amd64");
    label(POOL_LABEL, &pool.name);
    if !zone.is_empty() {
        label("topology.kubernetes.io/zone", zone);
        label("topology.kubernetes.io/region", "region-1");
    }
    let mut taints = pool.taints.clone();
    if pool.control_plane {
        label(MEMBER_LABEL, "");
        taints.push(json!({"key": MEMBER_LABEL, "effect": "NoSchedule"}));
    }
    let [_, _, high, low] = address.to_be_bytes();
    let capacity = json!({
        "cpu": pool.cpu, "memory": pool.memory, "pods": pool.pods.to_string(), "ephemeral-storage": "100Gi",
    });
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": format!("scenario://{name}")},
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": format!("192.168.{high}.{low}")},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "kubeletVersion": version, "kubeProxyVersion": version,
                "containerRuntimeVersion": "containerd://2.3.6", "osImage": "Linux", "operatingSystem": "linux",
                "architecture": "amd64", "kernelVersion": "6.1.0", "machineID": name, "systemUUID": name,
                "bootID": name,
            },
        },
    });
    if !taints.is_empty() {
        set_at(&mut node, &["spec", "taints"], taints);
    }
    node
}

fn storage_classes(scenario: &Scenario) -> Vec<Value> {
    let reaches: Vec<VolumeReach> = scenario
        .workloads
        .iter()
        .filter_map(|workload| Some(workload.volume.as_ref()?.reach))
        .collect();
    let class = |name: &str, provisioner: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        })
    };
    let mut classes = Vec::new();
    if reaches.contains(&VolumeReach::Zone) {
        classes.push(class(ZONE_CLASS, "zone.csi.example.com"));
    }
    if reaches.contains(&VolumeReach::Node) {
        classes.push(class(NODE_CLASS, "kubernetes.io/no-provisioner"));
    }
    classes
}

/// Disks of nodes, one reserved for each pod, on the worker nodes in turn.
fn disks(scenario: &Scenario, workload: &Workload, name: &str, volume: &Volume) -> Vec<Value> {
    let fits = |pool: &&Pool| {
        !pool.control_plane
            && workload.node_selector.iter().all(|(key, value)| {
                pool.labels.get(key) == Some(value) || (key == POOL_LABEL && *value == pool.name)
            })
    };
    let nodes: Vec<String> = scenario
        .pools
        .iter()
        .filter(fits)
        .flat_map(Pool::node_names)
        .collect();
    let pods = 0..workload.replicas;
    pods.zip(nodes.iter().cycle())
        .map(|(ordinal, node)| {
            let claim = format!("data-{name}-{ordinal}");
            let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": format!("{}-{claim}", workload.namespace)},
                "spec": {
                    "capacity": {"storage": volume.size}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": NODE_CLASS, "persistentVolumeReclaimPolicy": "Retain",
                    "local": {"path": format!("/disks/{claim}")},
                    "claimRef": {
                        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                        "namespace": workload.namespace, "name": claim,
                    },
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
                },
            })
        })
        .collect()
}

fn controllers(workload: &Workload, name: &str) -> Vec<Value> {
    let labels = json!({"app": name});
    let metadata = json!({"namespace": workload.namespace, "name": name, "labels": labels});
    let template =
        json!({"metadata": pod_metadata(workload, name), "spec": pod_spec(workload, name)});
    let selector = json!({"matchLabels": labels});
    let apps = |kind: &str, spec: Value| {
        vec![json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})]
    };
    match workload.kind {
        WorkloadKind::Deployment => apps(
            "Deployment",
            json!({"replicas": workload.replicas, "selector": selector, "template": template}),
        ),
        WorkloadKind::StatefulSet => {
            let mut spec = json!({
                "replicas": workload.replicas, "selector": selector, "template": template, "serviceName": name,
                "podManagementPolicy": if workload.parallel { "Parallel" } else { "OrderedReady" },
            });
            if let Some(volume) = &workload.volume {
                set_at(&mut spec, &["volumeClaimTemplates"], json!([claim_template(volume)]));
            }
            apps("StatefulSet", spec)
        }
        WorkloadKind::DaemonSet => apps("DaemonSet", json!({"selector": selector, "template": template})),
        WorkloadKind::ReplicationController => vec![json!({
            "apiVersion": "v1", "kind": "ReplicationController", "metadata": metadata,
            "spec": {"replicas": workload.replicas, "selector": labels, "template": template},
        })],
        WorkloadKind::Job => vec![json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {"completions": workload.replicas, "parallelism": workload.replicas, "template": template},
        })],
        WorkloadKind::Pod => (0..workload.replicas)
            .map(|index| {
                let mut metadata = template["metadata"].clone();
                set_at(&mut metadata, &["namespace"], workload.namespace.as_str());
                set_at(&mut metadata, &["name"], format!("{name}-{index}"));
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
            })
            .collect(),
    }
}

fn claim_template(volume: &Volume) -> Value {
    let class = match volume.reach {
        VolumeReach::Zone => ZONE_CLASS,
        VolumeReach::Node => NODE_CLASS,
    };
    json!({
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": volume.size}},
        },
    })
}

fn pod_metadata(workload: &Workload, name: &str) -> Value {
    let mut metadata = json!({"labels": {"app": name}});
    let times = [
        (annotations::STOP_SECONDS, workload.stop_seconds),
        (annotations::READY_SECONDS, workload.ready_seconds),
        (annotations::RUN_SECONDS, workload.run_seconds),
    ];
    for (key, seconds) in times {
        if let Some(seconds) = seconds {
            set_at(&mut metadata, &["annotations", key], seconds.to_string());
        }
    }
    metadata
}

fn pod_spec(workload: &Workload, name: &str) -> Value {
    let image = workload.image.clone().unwrap_or_else(|| {
        format!(
            "registry.example/{}/{}:1.0",
            workload.namespace, workload.name
        )
    });
    let mut spec = json!({
        "containers": [{
            "name": "main", "image": image,
            "resources": {"requests": {"cpu": workload.cpu, "memory": workload.memory}},
        }],
        "terminationGracePeriodSeconds": workload.grace_seconds,
    });
    if workload.kind == WorkloadKind::Job {
        set_at(&mut spec, &["restartPolicy"], "Never");
    }
    if !workload.node_selector.is_empty() {
        set_at(&mut spec, &["nodeSelector"], json!(workload.node_selector));
    }
    if workload.tolerates_everything {
        array_at(&mut spec, &["tolerations"]).push(json!({"operator": "Exists"}));
    }
    if workload.host_network {
        set_at(&mut spec, &["hostNetwork"], true);
    }
    if let Some(class) = &workload.priority_class {
        set_at(&mut spec, &["priorityClassName"], class.as_str());
    }
    let selector = json!({"matchLabels": {"app": name}});
    let topology = match workload.spread {
        Spread::None => None,
        Spread::Zone => Some("topology.kubernetes.io/zone"),
        Spread::Node => Some("kubernetes.io/hostname"),
    };
    if let Some(topology) = topology {
        array_at(&mut spec, &["topologySpreadConstraints"]).push(json!({
            "maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector, "nodeTaintsPolicy": "Honor",
        }));
    }
    if workload.apart {
        let term = json!({"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"});
        let path = [
            "affinity",
            "podAntiAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ];
        array_at(&mut spec, &path).push(term);
    }
    spec
}

fn budget(workload: &Workload, name: &str) -> Option<Value> {
    let budget = workload.budget.as_ref()?;
    let mut spec = json!({"selector": {"matchLabels": {"app": name}}});
    let policy = budget
        .unhealthy_pod_eviction_policy
        .as_ref()
        .map(|policy| json!(policy));
    let fields = [
        ("minAvailable", budget.min_available.clone()),
        ("maxUnavailable", budget.max_unavailable.clone()),
        ("unhealthyPodEvictionPolicy", policy),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            set_at(&mut spec, &[field], value);
        }
    }
    Some(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": workload.namespace, "name": name}, "spec": spec,
    }))
}

/// A StatefulSet has a headless Service in any case.
fn service(workload: &Workload, name: &str) -> Option<Value> {
    let is_headless = workload.kind == WorkloadKind::StatefulSet;
    if !workload.service && !is_headless {
        return None;
    }
    let mut spec = json!({"selector": {"app": name}, "ports": [{"name": "main", "port": 80, "targetPort": 8080}]});
    if is_headless {
        set_at(&mut spec, &["clusterIP"], "None");
    }
    Some(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": workload.namespace, "name": name}, "spec": spec,
    }))
}
