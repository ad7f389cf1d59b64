mod fenced;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::testing::{Objects, Scripted};

const PATH: &str = "/api/v1/nodes/a";
const US: &str = "run-1";
const OTHER: &str = "run-2";

struct Fixture {
    objects: Arc<Mutex<Objects>>,
    api: Scripted,
}

impl Fixture {
    fn new(unschedulable: bool) -> Self {
        let mut objects = Objects::default();
        let mut node = json!({
            "metadata": { "name": "a", "uid": "u-a", "annotations": { "theirs": "kept" } },
            "spec": { "podCIDR": "10.0.0.0/24" },
        });
        if unschedulable {
            node["spec"]["unschedulable"] = json!(true);
        }
        objects.put(PATH, node);
        let objects = Arc::new(Mutex::new(objects));
        let api = Objects::serve(&objects);
        Self { objects, api }
    }

    async fn cordon(&self, run: &str) -> Result<Cordoned, Error> {
        cordon(&self.api.client, "a", &Fence::without_lease(run)).await
    }

    async fn restore(&self, run: &str) -> Restored {
        restore_cordon(&self.api.client, "a", &Fence::without_lease(run))
            .await
            .unwrap()
    }

    fn node(&self) -> Value {
        self.objects.lock().unwrap().object(PATH).clone()
    }

    fn mark(&self) -> Option<CordonMark> {
        CordonMark::of(&serde_json::from_value(self.node()).unwrap())
    }

    fn is_unschedulable(&self) -> bool {
        self.node()["spec"]["unschedulable"] == true
    }

    /// Someone else changes the node.
    fn theirs(&self, patch: &Value) {
        self.objects.lock().unwrap().patch(PATH, patch);
    }

    /// Someone else changes the node just before our next writes.
    fn race(&self, patch: &Value, times: usize) {
        for _ in 0..times {
            let patch = patch.clone();
            let hook = Box::new(move |objects: &mut Objects| objects.patch(PATH, &patch));
            self.objects.lock().unwrap().before_write.push(hook);
        }
    }

    fn patches(&self) -> usize {
        self.api
            .asked()
            .iter()
            .filter(|asked| asked.method == "PATCH")
            .count()
    }
}

fn cordoned() -> Value {
    json!({ "spec": { "unschedulable": true } })
}

fn managed_by(manager: &str) -> Value {
    let fields = json!({ "f:spec": { "f:unschedulable": {} } });
    let entry = json!({
        "manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    json!({ "metadata": { "managedFields": [entry] }, "spec": { "unschedulable": true } })
}

#[tokio::test]
async fn ours_and_back_leaves_no_trace() {
    let fixture = Fixture::new(false);
    let before = fixture.node();
    let cordoned = fixture.cordon(US).await.unwrap();
    assert_eq!(
        cordoned,
        Cordoned {
            was_unschedulable: false,
            uid: "u-a".to_owned()
        }
    );
    assert!(fixture.is_unschedulable());
    let mark = CordonMark {
        run: US.to_owned(),
        was_unschedulable: false,
    };
    assert_eq!(fixture.mark(), Some(mark));
    let query = "?&fieldManager=kube-migrate";
    assert_eq!(
        fixture.api.asked()[1].line(),
        format!("PATCH {PATH}{query}")
    );

    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: false
        }
    );
    assert!(!fixture.is_unschedulable());
    assert_eq!(
        fixture.node()["metadata"]["annotations"],
        before["metadata"]["annotations"]
    );
    assert_eq!(fixture.node()["spec"]["podCIDR"], before["spec"]["podCIDR"]);
    assert_eq!(fixture.restore(US).await, Restored::NotOurs { run: None });
}

#[tokio::test]
async fn twice_is_once() {
    let fixture = Fixture::new(false);
    fixture.cordon(US).await.unwrap();
    let again = fixture.cordon(US).await.unwrap();
    assert!(!again.was_unschedulable);
    assert_eq!(fixture.patches(), 1);
    fixture.restore(US).await;
    assert!(!fixture.is_unschedulable());
}

#[tokio::test]
async fn cordoned_by_someone_before_stays_so() {
    let fixture = Fixture::new(true);
    assert!(fixture.cordon(US).await.unwrap().was_unschedulable);
    assert!(fixture.cordon(US).await.unwrap().was_unschedulable);
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: true
        }
    );
    assert!(fixture.is_unschedulable() && fixture.mark().is_none());
}

#[tokio::test]
async fn cordoned_by_someone_at_the_same_moment_stays_so() {
    let fixture = Fixture::new(false);
    fixture.race(&cordoned(), 1);
    assert!(fixture.cordon(US).await.unwrap().was_unschedulable);
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: true
        }
    );
}

#[tokio::test]
async fn a_cordon_that_someone_lifted_is_set_anew_and_one_that_stays_lifted_stays() {
    let fixture = Fixture::new(true);
    fixture.cordon(US).await.unwrap();
    let lift = json!({ "spec": { "unschedulable": null } });
    fixture.theirs(&lift);
    // They want it schedulable now, so that is what is given back.
    assert!(!fixture.cordon(US).await.unwrap().was_unschedulable);
    assert!(fixture.is_unschedulable());
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: false
        }
    );

    let fixture = Fixture::new(true);
    fixture.cordon(US).await.unwrap();
    fixture.theirs(&lift);
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: false
        }
    );
}

#[tokio::test]
async fn a_cordon_that_someone_set_again_stays() {
    for (manager, still_cordoned) in [("kubectl-cordon", true), (FIELD_MANAGER, false)] {
        let fixture = Fixture::new(false);
        fixture.cordon(US).await.unwrap();
        fixture.theirs(&managed_by(manager));
        assert_eq!(
            fixture.restore(US).await,
            Restored::Released { still_cordoned },
            "{manager}"
        );
        assert_eq!(fixture.is_unschedulable(), still_cordoned);
        assert_eq!(fixture.mark(), None);
    }
    // Also when it happens between our look and our write.
    let fixture = Fixture::new(false);
    fixture.cordon(US).await.unwrap();
    fixture.race(&managed_by("kubectl-cordon"), 1);
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: true
        }
    );
}

#[tokio::test]
async fn another_runs_cordon_is_not_touched() {
    let fixture = Fixture::new(false);
    fixture.cordon(OTHER).await.unwrap();
    let before = fixture.node();
    let error = fixture.cordon(US).await.unwrap_err();
    assert!(matches!(&error, Error::OtherOwner { owner, .. } if owner == OTHER));
    let theirs = Restored::NotOurs {
        run: Some(OTHER.to_owned()),
    };
    assert_eq!(fixture.restore(US).await, theirs);
    assert_eq!(fixture.node(), before);
}

#[tokio::test]
async fn what_is_not_known_to_be_ours_is_not_lifted() {
    let fixture = Fixture::new(false);
    fixture.cordon(US).await.unwrap();
    fixture.theirs(&json!({ "metadata": { "annotations": { UNSCHEDULABLE_BEFORE: null } } }));
    assert_eq!(
        fixture.restore(US).await,
        Restored::Released {
            still_cordoned: true
        }
    );
}

#[tokio::test]
async fn a_busy_node_is_tried_again_and_given_up_on() {
    let heartbeat = json!({ "status": { "phase": "x" } });
    let fixture = Fixture::new(false);
    fixture.race(&heartbeat, 4);
    fixture.cordon(US).await.unwrap();
    assert_eq!(fixture.patches(), 5);

    let fixture = Fixture::new(false);
    fixture.race(&heartbeat, 5);
    assert!(matches!(
        fixture.cordon(US).await,
        Err(Error::Conflict { .. })
    ));
    assert!(!fixture.is_unschedulable() && fixture.mark().is_none());
}

#[tokio::test]
async fn a_node_that_is_gone() {
    let objects = Arc::new(Mutex::new(Objects::default()));
    let api = Objects::serve(&objects);
    let restored = restore_cordon(&api.client, "a", &Fence::without_lease(US))
        .await
        .unwrap();
    assert_eq!(restored, Restored::NodeGone);
    let error = cordon(&api.client, "a", &Fence::without_lease(US))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    let text = error.to_string();
    assert!(text.starts_with("get nodes a: not found; see"), "{text}");
}

/// Cordons node `a` unless node `b` is cordoned.
async fn cordon_beside(fixture: &Fixture) -> Result<Cordoned, String> {
    let may = |nodes: &[resources::Node]| {
        let b = nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some("b"));
        match b.is_some_and(|node| node.spec.unschedulable) {
            true => Err(format!("b is one of {}", nodes.len())),
            false => Ok(()),
        }
    };
    let client = &fixture.api.client;
    let among = Selection::all().labels("pool=x");
    let fence = Fence::without_lease(US);
    cordon_if(client, "a", &fence, &among, may).await.unwrap()
}

#[tokio::test]
async fn the_last_look_comes_right_before_the_write() {
    let fixture = Fixture::new(false);
    cordon_beside(&fixture).await.unwrap();
    let asked: Vec<String> = fixture
        .api
        .asked()
        .iter()
        .map(|asked| asked.line())
        .collect();
    assert_eq!(asked[0], format!("GET {PATH}"));
    assert!(
        asked[1].starts_with("GET /api/v1/nodes?") && asked[1].contains("labelSelector=pool%3Dx")
    );
    assert!(asked[2].starts_with("PATCH"));
    // What is ours already is not asked about.
    cordon_beside(&fixture).await.unwrap();
    assert_eq!(fixture.api.asked().len(), 4);
}

#[tokio::test]
async fn what_the_last_look_shows_keeps_the_node_untouched() {
    let b = |unschedulable: bool| json!({ "metadata": { "name": "b" }, "spec": { "unschedulable": unschedulable } });
    let fixture = Fixture::new(false);
    fixture
        .objects
        .lock()
        .unwrap()
        .put("/api/v1/nodes/b", b(true));
    let before = fixture.node();
    assert_eq!(cordon_beside(&fixture).await.unwrap_err(), "b is one of 2");
    assert_eq!((fixture.node(), fixture.patches()), (before, 0));

    // It is repeated with the write: this time `b` goes in between.
    let fixture = Fixture::new(false);
    let hook = Box::new(move |objects: &mut Objects| {
        objects.put("/api/v1/nodes/b", b(true));
        objects.patch(PATH, &json!({ "status": { "phase": "x" } }));
    });
    fixture.objects.lock().unwrap().before_write.push(hook);
    assert_eq!(cordon_beside(&fixture).await.unwrap_err(), "b is one of 2");
    assert!(!fixture.is_unschedulable() && fixture.mark().is_none());
}
