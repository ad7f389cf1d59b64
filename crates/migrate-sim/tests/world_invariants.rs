//! What must hold after every single write, in clusters drawn at random.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use migrate_sim::store::{Change, ChangeKind, Object, Resource, Store};
use migrate_sim::{Budget, NodeFault, Pool, SimCluster, Spread, VolumeReach, Workload};
use serde_json::{Value, json};
use tokio::time::sleep;
use world_support::{MINUTE, evict, patch, send};

/// A small generator; the seed is printed when a check fails.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()].clone()
    }
}

#[tokio::test(start_paused = true)]
async fn no_write_breaks_what_the_cluster_promises() {
    for seed in 0..30 {
        let broken = Arc::new(Mutex::new(Vec::new()));
        let cluster = drawn_cluster(seed, Arc::clone(&broken)).await;
        disturb(&cluster, seed).await;
        let unsettled = cluster.wait_until_settled(30 * MINUTE).await.is_err();
        assert_eq!(*broken.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
        assert!(!unsettled, "seed {seed}: {:?}", unready(&cluster));
    }
}

async fn drawn_cluster(seed: u64, broken: Arc<Mutex<Vec<String>>>) -> SimCluster {
    let mut draw = Draw(seed);
    let zones: Vec<String> = (0..=draw.below(3))
        .map(|zone| format!("zone-{zone}"))
        .collect();
    let nodes = u32::try_from(4 + draw.below(5)).unwrap();
    let mut builder = SimCluster::builder()
        .seed(seed)
        .nodes(Pool::control_plane(1))
        .nodes(
            Pool::new("general", nodes)
                .with_zones(zones)
                .with_capacity("4", "16Gi", 12),
        )
        .workload(Workload::daemon_set("infra", "agent"))
        .on_change(move |store, change| broken.lock().unwrap().extend(check(store, change)));
    for index in 0..4 + draw.below(4) {
        let replicas = u32::try_from(1 + draw.below(4)).unwrap();
        let name = format!("app-{index}");
        let mut workload = match draw.below(3) {
            0 => Workload::stateful_set("shop", name, replicas).with_volume(VolumeReach::Zone),
            1 => Workload::job("shop", name, replicas),
            _ => Workload::deployment("shop", name, replicas),
        };
        // A volume ties its pod to a zone; with an even spread on top a set can lock itself out.
        let spread = if workload.volume.is_some() {
            Spread::None
        } else {
            draw.one_of(&[Spread::None, Spread::Zone])
        };
        workload = workload
            .with_spread(spread)
            .with_requests(draw.one_of(&["100m", "250m", "500m"]), "256Mi");
        workload.apart = replicas < nodes - 1 && draw.below(3) == 0;
        workload.parallel = draw.below(2) == 0;
        if draw.below(2) == 0 {
            workload = workload.with_budget(Budget::max_unavailable(1));
        }
        builder = builder.workload(workload);
    }
    builder.start().await.unwrap()
}

/// Evictions, deletions, cordons, failures and scale changes, one a second or so.
async fn disturb(cluster: &SimCluster, seed: u64) {
    let mut draw = Draw(seed ^ 0xfeed);
    let node = |draw: &mut Draw| format!("general-{}", 1 + draw.below(4));
    for _ in 0..60 {
        sleep(Duration::from_millis(200 + draw.below(3_000))).await;
        let pods: Vec<String> = cluster
            .store()
            .list(Resource::PODS, Some("shop"))
            .map(|pod| pod.name.clone())
            .collect();
        match draw.below(6) {
            0 | 1 if !pods.is_empty() => {
                evict(cluster, "shop", &draw.one_of(&pods)).await;
            }
            2 if !pods.is_empty() => {
                let path = format!("/api/v1/namespaces/shop/pods/{}", draw.one_of(&pods));
                send(cluster, "DELETE", &path, Value::Null).await;
            }
            3 => {
                let path = format!("/api/v1/nodes/{}", node(&mut draw));
                patch(
                    cluster,
                    &path,
                    json!({"spec": {"unschedulable": draw.below(2) == 0}}),
                )
                .await;
            }
            4 => {
                let fault = draw.one_of(&[NodeFault::None, NodeFault::Dead, NodeFault::Slow(2)]);
                cluster.set_node_fault(&node(&mut draw), fault);
            }
            _ => sleep(Duration::from_secs(draw.below(60))).await,
        }
    }
    for index in 1..=4 {
        cluster.set_node_fault(&format!("general-{index}"), NodeFault::None);
        patch(
            cluster,
            &format!("/api/v1/nodes/general-{index}"),
            json!({"spec": {"unschedulable": false}}),
        )
        .await;
    }
}

fn check(store: &Store, change: &Change) -> Vec<String> {
    let mut broken = Vec::new();
    let object = &change.object;
    if object.resource == Resource::PODS && change.kind != ChangeKind::Deleted {
        let was_bound = change
            .previous
            .as_ref()
            .is_some_and(|before| !before.node_name().is_empty());
        if !object.node_name().is_empty() && !was_bound {
            broken.extend(check_placement(store, object));
        }
        let before = change
            .previous
            .as_ref()
            .map_or("", |before| before.node_name());
        if !before.is_empty() && before != object.node_name() {
            broken.push(format!("{} moved from {before}", object.name));
        }
    }
    if object.resource == Resource::VOLUME_ATTACHMENTS && change.kind == ChangeKind::Added {
        let volume = &object.json["spec"]["source"]["persistentVolumeName"];
        let attachments = store.list(Resource::VOLUME_ATTACHMENTS, None);
        if attachments
            .filter(|other| other.json["spec"]["source"]["persistentVolumeName"] == *volume)
            .count()
            > 1
        {
            broken.push(format!("{volume} is attached twice"));
        }
    }
    if object.resource == Resource::POD_DISRUPTION_BUDGETS {
        let status = &object.json["status"];
        let [allowed, healthy, desired] =
            ["disruptionsAllowed", "currentHealthy", "desiredHealthy"]
                .map(|field| status[field].as_i64().unwrap_or(0));
        if allowed < 0 || allowed > (healthy - desired).max(0) {
            broken.push(format!("{}: {status}", object.name));
        }
    }
    broken
}

/// A pod that has just been bound fits where it is.
fn check_placement(store: &Store, pod: &Object) -> Vec<String> {
    let mut broken = Vec::new();
    let node = store.get(Resource::NODES, "", pod.node_name()).unwrap();
    let others: Vec<&Arc<Object>> = store
        .pods_on(&node.name)
        .filter(|other| !matches!(other.phase(), "Succeeded" | "Failed"))
        .collect();
    let cpu: u64 = others
        .iter()
        .map(|other| milli(&other.json["spec"]["containers"][0]["resources"]["requests"]["cpu"]))
        .sum();
    if cpu > milli(&node.json["status"]["allocatable"]["cpu"])
        || others.len() > 12 && node.name.starts_with("general")
    {
        broken.push(format!("{} is too full for {}", node.name, pod.name));
    }
    let is_plain = pod
        .controller()
        .is_some_and(|owner| owner["kind"] != "DaemonSet" && owner["kind"] != "Node");
    if is_plain
        && (node.json["spec"]["unschedulable"] == true || node.name.starts_with("control-plane"))
    {
        broken.push(format!("{} may not be on {}", pod.name, node.name));
    }
    if pod.json["spec"]["affinity"]["podAntiAffinity"].is_object()
        && others
            .iter()
            .filter(|other| other.label("app") == pod.label("app"))
            .count()
            > 1
    {
        broken.push(format!("{} is not alone on {}", pod.name, node.name));
    }
    broken.extend(check_zones(store, pod));
    broken
}

/// Pods with a spread constraint differ by one at most over the zones they may go to.
fn check_zones(store: &Store, pod: &Object) -> Option<String> {
    if !pod.json["spec"]["topologySpreadConstraints"].is_array() {
        return None;
    }
    let zone = |node: &str| {
        store
            .get(Resource::NODES, "", node)?
            .label("topology.kubernetes.io/zone")
            .map(str::to_owned)
    };
    let open: BTreeSet<String> = store
        .list(Resource::NODES, None)
        .filter(|node| node.json["spec"]["taints"].is_null())
        .filter_map(|node| zone(&node.name))
        .collect();
    let mut counts: BTreeMap<String, u64> = open.into_iter().map(|zone| (zone, 0)).collect();
    for other in store.list(Resource::PODS, Some(&pod.namespace)) {
        let counts_here = other.label("app") == pod.label("app")
            && !other.is_terminating()
            && !matches!(other.phase(), "Succeeded" | "Failed");
        if let Some(count) = zone(other.node_name())
            .filter(|_| counts_here)
            .and_then(|zone| counts.get_mut(&zone))
        {
            *count += 1;
        }
    }
    let own = counts[&zone(pod.node_name())?];
    let least = counts.values().min()?;
    (own > least + 1).then(|| format!("{}: {counts:?}", pod.name))
}

fn milli(quantity: &Value) -> u64 {
    let Some(text) = quantity.as_str() else {
        return 0;
    };
    text.strip_suffix('m').map_or_else(
        || text.parse::<u64>().unwrap() * 1000,
        |text| text.parse().unwrap(),
    )
}

fn unready(cluster: &SimCluster) -> Vec<String> {
    let store = cluster.store();
    let pods = store
        .list(Resource::PODS, None)
        .filter(|pod| !pod.is_ready() && pod.phase() != "Succeeded");
    pods.map(|pod| {
        format!(
            "{} on {:?}: {}",
            pod.name,
            pod.node_name(),
            pod.json["status"]
        )
    })
    .collect()
}
