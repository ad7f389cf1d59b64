//! Uploads that nobody goes on with: their parts take room, and no list has them.

use std::fs::File;
use std::time::{Duration, SystemTime};

use super::*;
use crate::store::unfinished::hold;

/// As if nothing had come of the upload of that state for so many seconds.
fn age(state: &Path, seconds: u64) {
    let told = SystemTime::now() - Duration::from_secs(seconds);
    File::open(state).unwrap().set_modified(told).unwrap();
}

impl World {
    /// Stops the upload of `backup` by a cancellation in its middle.
    async fn stop(&self, store: &Store, backup: &Path) {
        let (stop, trusted) = (Cancellation::new(), self.trusted());
        let put = store.put(backup, &trusted, &stop, |done, _| {
            if done > 0 {
                stop.cancel();
            }
        });
        let error = put.await.unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cancelled_is_ended_in_the_store() {
    let world = World::new();
    let path = world.first().await;
    let beside = world.folder.path().join("a.db.upload.json");
    let (parts, store) = in_parts();
    world.stop(&store, &path).await;
    assert!(parts.known.lock().unwrap().is_empty());
    assert!(!beside.exists());
    let put = parts.put.load(Ordering::Relaxed);
    assert!(put > 0);
    world.put(&store, &path).await.unwrap();
    assert_eq!(parts.put.load(Ordering::Relaxed), put + 5);

    // Where no parts outlive the process, too.
    let at_once = Faulty::new();
    world.stop(&at_once.store(), &path).await;
    assert_eq!(at_once.aborted.load(Ordering::Relaxed), 1);
    world.put(&at_once.store(), &path).await.unwrap();
    assert_eq!(at_once.aborted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_upload_that_was_killed_is_ended_by_the_next_of_another_backup() {
    let world = World::new();
    let path = world.first().await;
    let beside = world.folder.path().join("a.db.upload.json");
    let next = world
        .backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
        .await;
    let (parts, store) = in_parts();
    parts.fail_at.store(3, Ordering::Relaxed);
    world.put(&store, &path).await.unwrap_err();
    parts.fail_at.store(usize::MAX, Ordering::Relaxed);
    let open = || parts.known.lock().unwrap().len();

    // Somebody is at it, here or on another machine; or the next one is to another place.
    age(&beside, 1000);
    let held = hold(&path).await.unwrap().unwrap();
    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (1, true));
    drop(held);
    age(&beside, 800);
    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (1, true));
    age(&beside, 1000);
    let elsewhere = store.clone().with_address("another region");
    world.put(&elsewhere, &next).await.unwrap();
    let other = Store::new(store.objects.clone(), "clusters/d").unwrap();
    let other = other.with_parts(parts.clone());
    world.put(&other, &next).await.unwrap();
    world.put(&memory().1, &path).await.unwrap();
    assert_eq!((open(), beside.exists()), (1, true));

    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (0, false));

    // Of a backup that is gone nobody can go on.
    parts.fail_at.store(3, Ordering::Relaxed);
    world.put(&store, &path).await.unwrap_err();
    fs::remove_file(&path).unwrap();
    age(&beside, 1000);
    assert_eq!((open(), beside.exists()), (1, true));
    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (0, false));
}

#[tokio::test]
async fn one_of_two_that_is_cancelled_leaves_the_upload_to_the_other() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    let other = hold(&path).await.unwrap();
    world.stop(&store, &path).await;
    assert_eq!(parts.known.lock().unwrap().len(), 1);
    let put = parts.put.load(Ordering::Relaxed);
    world.put(&store, &path).await.unwrap();
    // It goes on where that one was.
    assert_eq!(parts.put.load(Ordering::Relaxed), 5);
    assert!((1..5).contains(&put));
    drop(other);
}

/// As by a rule of the bucket, or by somebody who took it for given up.
#[tokio::test]
async fn an_upload_that_somebody_ends_in_its_middle_begins_again_once() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    let (trusted, end) = (world.trusted(), parts.clone());
    let mut times = 1;
    let ends = |done, _| {
        if done > 0 && times > 0 {
            times -= 1;
            end.known.lock().unwrap().clear();
        }
    };
    store
        .put(&path, &trusted, &world.cancel, ends)
        .await
        .unwrap();
    assert_eq!(parts.put.load(Ordering::Relaxed), 1 + 5);
    let next = world
        .backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
        .await;
    let ends = |done, _| {
        if done > 0 {
            end.known.lock().unwrap().clear();
        }
    };
    let error = store.put(&next, &trusted, &world.cancel, ends).await;
    assert!(matches!(error.unwrap_err(), Error::Store { .. }));
}

#[tokio::test]
async fn an_upload_that_nobody_could_tell_of_is_not_begun() {
    let world = World::new();
    let path = world.first().await;
    let beside = world.folder.path().join("a.db.upload.json");
    let (parts, store) = in_parts();
    fs::create_dir(&beside).unwrap();
    let error = world.put(&store, &path).await.unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert!(parts.known.lock().unwrap().is_empty());
    fs::remove_dir(&beside).unwrap();
    for id in [String::new(), "a".repeat(5000)] {
        *parts.id.lock().unwrap() = Some(id);
        let error = world.put(&store, &path).await.unwrap_err();
        assert!(error.to_string().contains("names an upload by"), "{error}");
        assert!(!beside.exists());
    }
}
