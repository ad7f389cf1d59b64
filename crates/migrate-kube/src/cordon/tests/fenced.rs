//! Who was superseded changes no node, wherever it was frozen.

use std::time::Duration;

use migrate_core::{Fence, Moment};
use serde_json::json;

use super::{Fixture, PATH, US, cordoned};
use crate::anchor::{Claim, EPOCH};
use crate::testing::Objects;
use crate::{Anchor, Error, Restored, RunMark, cordon, restore_cordon, take_over_nodes};
use crate::{cordon_if, unstamp_nodes};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-migrate";

impl Fixture {
    /// The next epoch of the run, as a runner with this journal takes it.
    async fn next(&self, journal: &str) -> Fence {
        let client = &self.api.client;
        let holder = Anchor::read(client).await.unwrap().holder;
        let claim = Claim::new(RunMark::new(US, journal, "plan"), Duration::from_secs(30));
        let claim = claim.with_lapsed(holder);
        let anchor = Anchor::claim(client, &claim, Moment::EPOCH).await.unwrap();
        Fence::new(US, anchor.epoch)
    }

    fn stamp(&self) -> Option<String> {
        let stamp = &self.node()["metadata"]["annotations"][EPOCH];
        stamp.as_str().map(str::to_owned)
    }

    /// Before the next write that somebody else's request comes to, a successor
    /// takes the next epoch, and stamps the node.
    fn superseded_before_the_write(&self) {
        let hook = Box::new(|objects: &mut Objects| {
            objects.patch(
                LEASE,
                &json!({ "metadata": { "annotations": { EPOCH: "2" } } }),
            );
            objects.patch(
                PATH,
                &json!({ "metadata": { "annotations": { EPOCH: "2" } } }),
            );
        });
        self.objects.lock().unwrap().before_write.push(hook);
    }
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    let Err(error) = result else {
        return false;
    };
    assert!(!error.is_retryable() && error.to_string().contains("not sent"));
    matches!(
        error,
        Error::Fenced {
            ours: 1,
            found: 2,
            ..
        }
    )
}

#[tokio::test]
async fn a_cordon_stamps_its_epoch_and_giving_back_removes_it() {
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    let first = fixture.next("a").await;
    cordon(client, "a", &first).await.unwrap();
    assert_eq!(fixture.stamp().as_deref(), Some("1"));
    // Opened again: stamped anew before anything else, and still as it was before.
    let second = fixture.next("a").await;
    let cordoned = cordon(client, "a", &second).await.unwrap();
    assert_eq!(fixture.stamp().as_deref(), Some("2"));
    assert!(!cordoned.was_unschedulable);
    let restored = restore_cordon(client, "a", &second).await.unwrap();
    assert!(matches!(
        restored,
        Restored::Released {
            still_cordoned: false
        }
    ));
    assert_eq!(fixture.stamp(), None);
}

#[tokio::test]
async fn frozen_before_the_read_it_is_refused_by_the_lease_and_by_the_stamp() {
    for stamped in [false, true] {
        let fixture = Fixture::new(false);
        let client = &fixture.api.client;
        let old = fixture.next("a").await;
        let new = fixture.next("b").await;
        if stamped {
            take_over_nodes(client, &new).await.unwrap();
        }
        let before = fixture.node();
        assert!(is_fenced(cordon(client, "a", &old).await));
        assert_eq!(fixture.node(), before);

        cordon(client, "a", &new).await.unwrap();
        let before = fixture.node();
        assert!(is_fenced(restore_cordon(client, "a", &old).await));
        assert!(is_fenced(take_over_nodes(client, &old).await));
        assert_eq!(fixture.node(), before);
    }
}

#[tokio::test]
async fn frozen_between_its_reads_and_its_write_it_is_refused_by_the_version() {
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    let old = fixture.next("a").await;
    fixture.superseded_before_the_write();
    assert!(is_fenced(cordon(client, "a", &old).await));
    assert!(!fixture.is_unschedulable() && fixture.mark().is_none());
    assert_eq!(fixture.patches(), 1, "one was sent, and refused");

    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    let old = fixture.next("a").await;
    cordon(client, "a", &old).await.unwrap();
    fixture.superseded_before_the_write();
    assert!(is_fenced(restore_cordon(client, "a", &old).await));
    assert!(fixture.is_unschedulable() && fixture.mark().is_some());

    // The negative control: who is not compared writes in both cases.
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    fixture.next("a").await;
    fixture.superseded_before_the_write();
    let blind = Fence::without_lease(US);
    cordon(client, "a", &blind).await.unwrap();
    assert!(fixture.is_unschedulable());
    fixture.superseded_before_the_write();
    restore_cordon(client, "a", &blind).await.unwrap();
    assert!(!fixture.is_unschedulable());
}

#[tokio::test]
async fn the_node_is_read_first_then_the_lease_then_the_pool() {
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    let fence = fixture.next("a").await;
    let asked = fixture.api.asked().len();
    let all = crate::Selection::all();
    let may = |_: &[crate::resources::Node]| Ok::<(), ()>(());
    let _ = cordon_if(client, "a", &fence, &all, may).await.unwrap();
    let asked = fixture.api.asked().split_off(asked);
    let asked: Vec<&str> = asked.iter().map(|asked| asked.path()).collect();
    assert_eq!(asked, [PATH, LEASE, "/api/v1/nodes", PATH]);
}

#[tokio::test]
async fn an_older_lease_a_cleared_one_and_another_run_admit_nobody() {
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    fixture.next("a").await;
    let newer = Fence::new(US, 7);
    let error = cordon(client, "a", &newer).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Fenced {
                ours: 7,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("KM-RUN-007"), "{error}");
    let other = Fence::new("run-2", 1);
    assert!(matches!(
        cordon(client, "a", &other).await,
        Err(Error::Fenced { .. })
    ));
    let anchor = Anchor::read(client).await.unwrap();
    anchor.clear(client).await.unwrap();
    let ours = Fence::new(US, 1);
    assert!(matches!(
        cordon(client, "a", &ours).await,
        Err(Error::Fenced { .. })
    ));
    assert_eq!(fixture.stamp(), None);
}

#[tokio::test]
async fn taking_over_stamps_every_node_and_the_end_leaves_none() {
    let fixture = Fixture::new(false);
    let client = &fixture.api.client;
    let other = json!({ "metadata": { "name": "b" }, "spec": {} });
    fixture
        .objects
        .lock()
        .unwrap()
        .put("/api/v1/nodes/b", other);
    let old = fixture.next("a").await;
    cordon(client, "a", &old).await.unwrap();
    let new = fixture.next("b").await;
    // A node that changes meanwhile is looked at once more.
    fixture.race(&cordoned(), 1);
    assert_eq!(take_over_nodes(client, &new).await.unwrap(), ["a"]);
    let stamps = |fixture: &Fixture| {
        let objects = fixture.objects.lock().unwrap();
        let stamp = |path| objects.object(path)["metadata"]["annotations"][EPOCH].clone();
        [stamp(PATH), stamp("/api/v1/nodes/b")]
    };
    assert_eq!(stamps(&fixture), [json!("2"), json!("2")]);
    let patches = fixture.patches();
    assert_eq!(take_over_nodes(client, &new).await.unwrap(), ["a"]);
    assert_eq!(fixture.patches(), patches, "twice is once");
    unstamp_nodes(client, &new).await.unwrap();
    assert_eq!(
        stamps(&fixture),
        [json!("2"), json!(null)],
        "ours goes with its cordon"
    );
    restore_cordon(client, "a", &new).await.unwrap();
    assert_eq!(stamps(&fixture), [json!(null), json!(null)]);
}
