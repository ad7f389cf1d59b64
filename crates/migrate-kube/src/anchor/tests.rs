use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{Objects, Scripted};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-migrate";

fn cluster() -> (Arc<Mutex<Objects>>, Scripted) {
    let objects = Arc::new(Mutex::new(Objects::default()));
    let api = Objects::serve(&objects);
    (objects, api)
}

fn mark(run: &str) -> RunMark {
    RunMark::new(run, "host:/var/journal", "plan-1")
}

const LASTS: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

async fn claim(client: &Client, run: &str) -> Result<Anchor, Error> {
    Anchor::claim(client, &Claim::new(mark(run), LASTS), at(0)).await
}

#[tokio::test]
async fn a_run_claims_and_clears_and_pause_and_epoch_stay() {
    let (objects, api) = cluster();
    let nothing = Anchor::read(&api.client).await.unwrap();
    assert!(nothing.mark.is_none() && !nothing.paused && nothing.epoch == 0);
    let claimed = claim(&api.client, "run-1").await.unwrap();
    assert_eq!((claimed.mark, claimed.epoch), (Some(mark("run-1")), 1));
    let holder = claimed.holder.unwrap();
    assert_eq!(
        (&*holder.identity, holder.lasts),
        ("host:/var/journal", LASTS)
    );
    let again = claim(&api.client, "run-1").await.unwrap();
    assert_eq!((again.mark, again.epoch), (Some(mark("run-1")), 2));

    let pause = json!({ "metadata": { "annotations": { PAUSE: "true" } } });
    objects.lock().unwrap().patch(LEASE, &pause);
    let paused = Anchor::read(&api.client).await.unwrap();
    assert!(paused.paused);
    let cleared = paused.clear(&api.client).await.unwrap();
    assert!(cleared.mark.is_none() && cleared.holder.is_none() && cleared.paused);
    let annotations = objects.lock().unwrap().object(LEASE)["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({ PAUSE: "true", EPOCH: "2" }));
    assert_eq!(claim(&api.client, "run-2").await.unwrap().epoch, 3);
}

#[tokio::test]
async fn a_journal_is_told_from_another_by_run_and_by_holder() {
    let (objects, api) = cluster();
    let ours = || async { Anchor::read(&api.client).await.unwrap() };
    assert!(ours().await.names_no_other("host:/var/journal"));
    let claimed = claim(&api.client, "run-1").await.unwrap();
    assert!(claimed.names_no_other("host:/var/journal"));
    assert!(!claimed.names_no_other("elsewhere"));
    // Whose Lease was taken away by hand still names its run.
    let unheld = json!({ "spec": { "holderIdentity": null } });
    objects.lock().unwrap().patch(LEASE, &unheld);
    let unheld = ours().await;
    assert!(unheld.holder.is_none() && !unheld.names_no_other("elsewhere"));
    assert!(unheld.names_no_other("host:/var/journal"));
}

#[tokio::test]
async fn an_epoch_is_above_the_lease_and_the_journal() {
    let (_objects, api) = cluster();
    for (floor, epoch) in [(0, 1), (4, 5), (2, 6)] {
        let claim = Claim::new(mark("run-1"), LASTS).with_floor(floor);
        let claimed = Anchor::claim(&api.client, &claim, at(0)).await.unwrap();
        assert_eq!(claimed.epoch, epoch);
    }
}

#[tokio::test]
async fn another_run_is_named_and_another_holder_displaced_only_once_lapsed() {
    let (_objects, api) = cluster();
    claim(&api.client, "run-1").await.unwrap();
    let error = claim(&api.client, "run-2").await.unwrap_err().to_string();
    assert!(
        error.contains("run-1") && error.contains("host:/var/journal"),
        "{error}"
    );
    let elsewhere = RunMark::new("run-1", "elsewhere:/journal", "plan-2");
    let adopt = Claim::new(elsewhere.clone(), LASTS);
    let error = Anchor::claim(&api.client, &adopt, at(9)).await.unwrap_err();
    assert!(
        error.to_string().contains("held by host:/var/journal"),
        "{error}"
    );
    let seen = Anchor::read(&api.client).await.unwrap().holder;
    Anchor::renew(&api.client, &mark("run-1"), 1, at(10))
        .await
        .unwrap();
    let adopt = adopt.with_lapsed(seen);
    let error = Anchor::claim(&api.client, &adopt, at(40))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "it lives: {error}");
    let seen = Anchor::read(&api.client).await.unwrap().holder;
    let adopt = adopt.with_lapsed(seen);
    let adopted = Anchor::claim(&api.client, &adopt, at(50)).await.unwrap();
    assert_eq!((adopted.mark, adopted.epoch), (Some(elsewhere), 2));
    assert_eq!(adopted.holder.unwrap().identity, "elsewhere:/journal");
}

#[tokio::test]
async fn only_the_holder_renews() {
    let (objects, api) = cluster();
    claim(&api.client, "run-1").await.unwrap();
    let renewed = |anchor: &Anchor| anchor.holder.clone().unwrap().renewed;
    let first = Anchor::renew(&api.client, &mark("run-1"), 1, at(10))
        .await
        .unwrap();
    assert_eq!(renewed(&first), "1970-01-01T00:00:10.000000Z");
    // A person who pauses meanwhile does not keep it from it.
    let pause = json!({ "metadata": { "annotations": { PAUSE: "true" } } });
    let hook = Box::new(move |objects: &mut Objects| objects.patch(LEASE, &pause));
    objects.lock().unwrap().before_write.push(hook);
    let second = Anchor::renew(&api.client, &mark("run-1"), 1, at(20))
        .await
        .unwrap();
    assert!(second.paused && renewed(&second).contains(":20."));
    let elsewhere = RunMark::new("run-1", "elsewhere:/journal", "plan-1");
    for (mark, epoch) in [(mark("run-1"), 2), (mark("run-2"), 1), (elsewhere, 1)] {
        let seen = Anchor::renew(&api.client, &mark, epoch, at(30))
            .await
            .unwrap();
        assert_eq!(seen, second, "nothing was written");
    }
}

#[tokio::test]
async fn of_two_that_claim_at_once_one_wins() {
    let (_objects, api) = cluster();
    let first = Anchor::read(&api.client).await.unwrap();
    let second = first.clone();
    let of = |run| Claim::new(mark(run), LASTS);
    first.take(&api.client, &of("run-1"), at(0)).await.unwrap();
    let lost = second.take(&api.client, &of("run-2"), at(0)).await;
    assert!(matches!(lost, Err(Error::Conflict { .. })));
    let left = Anchor::read(&api.client).await.unwrap();
    assert_eq!((left.mark, left.epoch), (Some(mark("run-1")), 1));
}

#[test]
fn anything_but_true_does_not_pause() {
    for (text, paused) in [
        ("true", true),
        ("True", true),
        ("false", false),
        ("", false),
    ] {
        let lease = json!({ "metadata": { "annotations": { PAUSE: text } } });
        assert_eq!(
            Anchor::of(&serde_json::from_value(lease).unwrap()).paused,
            paused
        );
    }
}
