use serde_json::{Value, json};

use super::*;

const CLAIMS: usize = 200;
const PODS_OF_A_CLAIM: usize = 3;

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn claim(number: usize, volume: Option<&str>) -> PersistentVolumeClaim {
    read(json!({
        "metadata": {"namespace": "shop", "name": format!("c-{number}")},
        "spec": {"volumeName": volume},
    }))
}

fn bound(number: usize) -> PersistentVolumeClaim {
    claim(number, Some(&format!("v-{number}")))
}

fn volume(number: usize, zone: &str) -> PersistentVolume {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    read(json!({
        "metadata": {"name": format!("v-{number}")},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
    }))
}

fn pod(uid: &str, owner: &str, claim: Option<usize>) -> Pod {
    let volumes = claim.map(|number| {
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": format!("c-{number}")}}])
    });
    read(json!({
        "metadata": {
            "namespace": "shop", "name": uid, "uid": uid, "resourceVersion": "7",
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
                "controller": true,
            }],
        },
        "spec": {"nodeName": "n-1", "volumes": volumes.unwrap_or_else(|| json!([]))},
    }))
}

/// Everything listed: 600 pods with claims of three each, and as many without.
fn lens() -> Lens {
    let mut lens = Lens::default();
    let pods = (0..CLAIMS * PODS_OF_A_CLAIM).flat_map(|number| {
        [
            pod(
                &format!("with-{number}"),
                &format!("rs-{number}"),
                Some(number / PODS_OF_A_CLAIM),
            ),
            pod(&format!("without-{number}"), &format!("rs-{number}"), None),
        ]
    });
    let volumes = (0..CLAIMS).map(|number| volume(number, "a"));
    for change in [
        Change::Pods(WatchEvent::Restarted(pods.collect())),
        Change::Budgets(WatchEvent::Restarted(Vec::new())),
        Change::Deployments(WatchEvent::Restarted(Vec::new())),
        Change::StatefulSets(WatchEvent::Restarted(Vec::new())),
        Change::ReplicaSets(WatchEvent::Restarted(Vec::new())),
        Change::Claims(WatchEvent::Restarted((0..CLAIMS).map(bound).collect())),
        Change::Volumes(WatchEvent::Restarted(volumes.collect())),
    ] {
        lens.show(change);
    }
    lens
}

/// Names of the pods that are shown again, and how many inputs there are besides.
fn shown(inputs: &[Input]) -> (Vec<String>, usize) {
    let names: Vec<String> = inputs
        .iter()
        .filter_map(|input| match input {
            Input::PodSeen(seen) => Some(seen.value.id.name.clone()),
            _ => None,
        })
        .collect();
    let others = inputs.len() - names.len();
    (names, others)
}

fn pods_of(claim: usize) -> Vec<String> {
    let first = claim * PODS_OF_A_CLAIM;
    let names = first..first + PODS_OF_A_CLAIM;
    let mut names: Vec<String> = names.map(|number| format!("with-{number}")).collect();
    names.sort();
    names
}

#[test]
fn a_volume_shows_the_pods_of_its_claims_again_and_no_others() {
    let mut lens = lens();
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(7, "b"))));
    assert_eq!(shown(&inputs), (pods_of(7), 0));
    let Some(Input::PodSeen(seen)) = inputs.first() else {
        panic!("{inputs:?}");
    };
    assert!(format!("{:?}", seen.value).contains("\"b\""), "{seen:?}");
    // Where it was, it is.
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(7, "b"))));
    assert_eq!(shown(&inputs), (Vec::new(), 0));
    // Listed once more: only what has changed meanwhile.
    let all = (0..CLAIMS).map(|number| volume(number, if number == 9 { "c" } else { "a" }));
    let inputs = lens.show(Change::Volumes(WatchEvent::Restarted(all.collect())));
    let mut expected = [pods_of(7), pods_of(9)].concat();
    expected.sort();
    assert_eq!(shown(&inputs), (expected, 0));
    // A pod that is gone is not shown any more.
    let gone = pod("with-21", "rs-21", Some(7));
    lens.show(Change::Pods(WatchEvent::Deleted(gone)));
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(7, "d"))));
    assert_eq!(shown(&inputs), (pods_of(7)[1..].to_vec(), 0));
}

#[test]
fn a_claim_shows_its_pods_and_is_told_when_it_goes() {
    let mut lens = lens();
    // Bound to another volume: that one's changes concern its pods from now on.
    let moved = claim(3, Some("v-5"));
    let inputs = lens.show(Change::Claims(WatchEvent::Applied(moved)));
    assert_eq!(shown(&inputs), (pods_of(3), 1), "and what it is bound to");
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(3, "x"))));
    assert_eq!(shown(&inputs), (Vec::new(), 0));
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(5, "x"))));
    let mut expected = [pods_of(3), pods_of(5)].concat();
    expected.sort();
    assert_eq!(shown(&inputs), (expected, 0));

    let gone = |inputs: Vec<Input>| {
        let names = inputs.into_iter().map(|input| match input {
            Input::ClaimGone { namespace, name } => format!("{namespace}/{name}"),
            other => panic!("{other:?}"),
        });
        names.collect::<Vec<_>>()
    };
    let inputs = lens.show(Change::Claims(WatchEvent::Deleted(bound(4))));
    assert_eq!(gone(inputs), ["shop/c-4"]);
    // It is told once; and what a list lacks is gone too.
    let inputs = lens.show(Change::Claims(WatchEvent::Deleted(bound(4))));
    assert_eq!(gone(inputs), Vec::<String>::new());
    let left = (0..CLAIMS).filter(|number| ![3, 4, 8].contains(number));
    let all = left.map(bound).collect();
    let inputs = lens.show(Change::Claims(WatchEvent::Restarted(all)));
    assert_eq!(gone(inputs), ["shop/c-3", "shop/c-8"]);
    // What is gone has no pods to show.
    let inputs = lens.show(Change::Volumes(WatchEvent::Applied(volume(4, "y"))));
    assert_eq!(shown(&inputs), (Vec::new(), 0));
}

#[test]
fn a_replica_set_shows_its_own_pods_again() {
    let mut lens = lens();
    let of_a_deployment: ReplicaSet = read(json!({
        "metadata": {
            "namespace": "shop", "name": "rs-5", "uid": "rs-5",
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d",
                "controller": true,
            }],
        },
    }));
    let inputs = lens.show(Change::ReplicaSets(WatchEvent::Applied(of_a_deployment)));
    let expected = ["with-5", "without-5"].map(String::from).to_vec();
    assert_eq!(shown(&inputs), (expected, 0));
}
