//! How long the control plane had been back when workers began to lose their pods: a
//! fold over what watches have shown.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::Moment;
use serde_json::Value;

use crate::real::cluster::key;
use crate::real::observer::Change;

/// From the latest return of an API server's pod or of a control-plane node to the first
/// eviction from the shop, none of which is on such a node; in whole seconds, as the API
/// tells times. `None` if nothing was evicted.
///
/// `changes` in the order of the API server's log: what came back later does not count.
pub(crate) fn settled_for(changes: &[Change]) -> Option<Duration> {
    let mut ready: BTreeMap<String, Moment> = BTreeMap::new();
    for change in changes.iter().filter(|change| !change.deleted) {
        let object = &change.object;
        let metadata = &object["metadata"];
        if metadata["namespace"] == "default" {
            if let Some(evicted) = since(object, "DisruptionTarget") {
                let back = ready.values().max().copied();
                return Some(evicted.since(back.unwrap_or_default()));
            }
        } else if metadata["labels"]["component"] == "kube-apiserver"
            || !metadata["labels"]["node-role.kubernetes.io/control-plane"].is_null()
        {
            let name = format!("{} {}", change.kind, key(object));
            match since(object, "Ready") {
                Some(since) => ready.insert(name, since),
                None => ready.remove(&name),
            };
        }
    }
    None
}

/// Since when a condition of an object is true.
fn since(object: &Value, wanted: &str) -> Option<Moment> {
    let conditions = object["status"]["conditions"].as_array()?;
    let mut conditions = conditions.iter();
    let found = conditions.find(|it| it["type"] == wanted && it["status"] == "True")?;
    serde_json::from_value(found["lastTransitionTime"].clone()).ok()
}

#[test]
fn it_counts_from_the_last_return_before_the_first_eviction() {
    use serde_json::json;

    let change = |kind, namespace, labels: Value, condition: [&str; 3]| Change {
        at: 0,
        kind,
        object: json!({
            "metadata": {"name": kind, "namespace": namespace, "labels": labels},
            "status": {"conditions": [{
                "type": condition[0], "status": condition[1],
                "lastTransitionTime": format!("2026-11-22T22:{}Z", condition[2]),
            }]},
        }),
        deleted: false,
    };
    let server = |time| {
        let labels = json!({"component": "kube-apiserver"});
        change("Pod", "kube-system", labels, ["Ready", "True", time])
    };
    let node = |status, time| {
        let labels = json!({"node-role.kubernetes.io/control-plane": ""});
        change("Node", "", labels, ["Ready", status, time])
    };
    let evicted = |time| {
        let condition = ["DisruptionTarget", "True", time];
        change("Pod", "default", json!({}), condition)
    };
    let run = [
        node("True", "10:00"),
        server("11:00"),
        node("False", "12:00"),
        server("12:30"),
        evicted("13:00"),
        node("True", "13:10"),
        evicted("14:30"),
    ];
    assert_eq!(settled_for(&run), Some(Duration::from_secs(30)));
    assert_eq!(settled_for(&run[..4]), None);
    // A node that came back before counts, one that is away does not.
    let run = [server("11:00"), node("True", "12:50"), evicted("13:00")];
    assert_eq!(settled_for(&run), Some(Duration::from_secs(10)));
}
