//! Uploads that nobody goes on with: their parts take room, and no list has them.

use super::*;
use crate::store::unfinished::hold;

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

    // Somebody is at it; or the next one is to another place.
    let held = hold(&path);
    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (1, true));
    drop(held);
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
    assert_eq!((open(), beside.exists()), (1, true));
    world.put(&store, &next).await.unwrap();
    assert_eq!((open(), beside.exists()), (0, false));
}
