//! Uploads that nobody goes on with: their parts take room, and no list has them.

use std::time::Duration;

use futures::FutureExt;

use super::stores::Parts;
use super::*;
use crate::store::unfinished::{Left, hold};

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

    /// Leaves an upload of `backup` that has three parts.
    async fn leave(&self, (parts, store): &(Arc<Parts>, Store), backup: &Path) {
        parts.fail_at.store(3, Ordering::Relaxed);
        self.put(store, backup).await.unwrap_err();
        parts.fail_at.store(usize::MAX, Ordering::Relaxed);
    }

    async fn next(&self) -> PathBuf {
        self.backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
            .await
    }

    async fn held(&self, backup: &Path) -> crate::store::unfinished::Held {
        hold(backup, &self.cancel).await.unwrap()
    }
}

/// The same store, so much later than its files say.
fn later(store: &Store, by: Duration) -> Store {
    let now = Moment::from(jiff::Timestamp::try_from(now_of_files()).unwrap());
    store.clone().with_clock(Arc::new(move || now + by))
}

/// What a file says that is written now.
fn now_of_files() -> std::time::SystemTime {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().metadata().unwrap().modified().unwrap()
}

const HOURS: Duration = Duration::from_secs(2 * 3600);

fn open(parts: &Parts) -> usize {
    parts.known.lock().unwrap().len()
}

#[tokio::test]
async fn an_upload_that_is_cancelled_is_ended_in_the_store() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    world.stop(&store, &path).await;
    assert_eq!((open(&parts), world.told().len()), (0, 0));
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
    let (path, next) = (world.first().await, world.next().await);
    let both = in_parts();
    world.leave(&both, &path).await;
    let (parts, store) = (&both.0, later(&both.1, HOURS));
    let left = || (open(parts), world.told().len());

    // Somebody is at it; or the next one is to another place.
    let held = world.held(&path).await;
    world.put(&store, &next).await.unwrap();
    assert_eq!(left(), (1, 1));
    drop(held);
    let mut other = store.clone();
    other.prefix = Location::parse("clusters/d").unwrap();
    world.put(&other, &next).await.unwrap();
    world.put(&memory().1, &path).await.unwrap();
    assert_eq!(left(), (1, 1));

    *parts.watched.lock().unwrap() = path.clone();
    world.put(&store, &next).await.unwrap();
    assert_eq!(left(), (0, 0));
    // Who comes meanwhile waits until it is ended, and does not go on with it.
    assert_eq!(*parts.was_held.lock().unwrap(), [true]);

    // Of a backup that is gone nobody can go on.
    world.leave(&both, &path).await;
    fs::remove_file(&path).unwrap();
    assert_eq!(left(), (1, 1));
    world.put(&store, &next).await.unwrap();
    assert_eq!(left(), (0, 0));
}

/// Locks of a network folder may end at each host.
#[tokio::test]
async fn an_upload_of_another_backup_that_was_heard_of_in_the_last_hour_is_not_ended() {
    let world = World::new();
    let (path, next) = (world.first().await, world.next().await);
    let both = in_parts();
    world.leave(&both, &path).await;
    let (parts, store) = &both;
    let minutes = |minutes: u64| later(store, Duration::from_secs(60 * minutes));
    for (store, left) in [(store.clone(), 1), (minutes(59), 1), (minutes(61), 0)] {
        world.put(&store, &next).await.unwrap();
        assert_eq!((open(parts), world.told().len()), (left, left));
    }
}

#[tokio::test]
async fn who_puts_a_backup_that_another_one_holds_waits_and_ends_nothing_of_it() {
    let world = World::new();
    let path = world.first().await;
    let both = in_parts();
    world.leave(&both, &path).await;
    let (parts, store) = &both;
    let held = world.held(&path).await;
    let (stop, trusted) = (Cancellation::new(), world.trusted());
    let mut second = Box::pin(store.put(&path, &trusted, &stop, |_, _| {}));
    assert!(second.as_mut().now_or_never().is_none());
    stop.cancel();
    let error = second.await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!((open(parts), world.told().len()), (1, 1));
    // The first is through.
    let mut third = Box::pin(world.put(store, &path));
    assert!(third.as_mut().now_or_never().is_none());
    drop(held);
    third.await.unwrap();
    assert_eq!((open(parts), world.told().len()), (0, 0));
    assert_eq!(parts.put.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn an_upload_that_somebody_ends_is_begun_again_once() {
    let world = World::new();
    let path = world.first().await;
    for times in [1, 2] {
        let (parts, store) = in_parts();
        let (trusted, mut left) = (world.trusted(), times);
        let put = store.put(&path, &trusted, &world.cancel, |done, of| {
            if left > 0 && done > 0 && done < of {
                left -= 1;
                parts.known.lock().unwrap().clear();
            }
        });
        match (times, put.await) {
            (1, put) => drop(put.unwrap()),
            (_, put) => drop(put.unwrap_err()),
        }
    }
}

/// A client asks again where an answer was lost.
#[tokio::test]
async fn an_upload_whose_end_nobody_heard_of_is_not_put_again() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    parts.loses_end.store(true, Ordering::Relaxed);
    world.put(&store, &path).await.unwrap();
    assert_eq!(parts.put.load(Ordering::Relaxed), 5);
    assert_eq!((open(&parts), world.told().len()), (0, 0));
}

/// A server of its own each: that buckets of two servers have one name is common.
struct At(&'static str);

#[async_trait]
impl Address for At {
    async fn of(&self, location: &Location) -> object_store::Result<String> {
        Ok(format!("{}/bucket/{location}", self.0))
    }
}

#[tokio::test]
async fn buckets_of_one_name_on_two_servers_are_two_places() {
    let world = World::new();
    let (path, next) = (world.first().await, world.next().await);
    let [mut one, mut two] = [in_parts(), in_parts()];
    one.1.address = Some(Arc::new(At("http://one")));
    two.1.address = Some(Arc::new(At("http://two")));
    world.leave(&one, &path).await;
    world.leave(&two, &path).await;
    assert_eq!((open(&one.0), open(&two.0), world.told().len()), (1, 1, 2));
    // Each goes on with its own, and ends its own only.
    world.put(&two.1, &path).await.unwrap();
    assert_eq!(two.0.put.load(Ordering::Relaxed), 5);
    assert_eq!((open(&one.0), open(&two.0), world.told().len()), (1, 0, 1));
    world.put(&later(&two.1, HOURS), &next).await.unwrap();
    assert_eq!((open(&one.0), world.told().len()), (1, 1));
    world.put(&later(&one.1, HOURS), &next).await.unwrap();
    assert_eq!((open(&one.0), world.told().len()), (0, 0));
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_bucket_of_s3_is_at_its_url_which_has_no_secret() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let at = async |endpoint: Option<&str>, region: &str| {
        let bucket = object_store::aws::AmazonS3Builder::new()
            .with_bucket_name("backups")
            .with_region(region)
            .with_access_key_id("AKIAPLANTED")
            .with_secret_access_key("planted")
            .with_token("planted");
        let bucket = match endpoint {
            Some(endpoint) => bucket.with_endpoint(endpoint).with_allow_http(true),
            None => bucket,
        };
        let store = Store::s3(bucket.build().unwrap(), "clusters/c").unwrap();
        store.destination(&store.at("a.db")).await.unwrap()
    };
    let places = [
        at(Some("http://one:9000"), "us-east-1").await,
        at(Some("http://two:9000"), "us-east-1").await,
        at(None, "us-east-1").await,
        at(None, "eu-west-1").await,
    ];
    assert_eq!(places[0], "http://one:9000/backups/clusters/c/a.db");
    let apart: std::collections::BTreeSet<_> = places.iter().collect();
    assert_eq!(apart.len(), places.len(), "{places:?}");
    for place in &places {
        assert!(!place.to_lowercase().contains("planted"), "{place}");
    }
}

/// As an older version has written it: it does not say on which server.
#[tokio::test]
async fn what_an_older_version_has_told_is_left_alone() {
    let world = World::new();
    let (path, next) = (world.first().await, world.next().await);
    let both = in_parts();
    let (parts, store) = (&both.0, later(&both.1, HOURS));
    let old = world.folder.path().join("a.db.upload.json");
    let to = store.name(&store.at("a.db"));
    let sha256 = Manifest::open(&path, &world.trusted()).unwrap().sha256;
    let state = serde_json::json!({
        "to": to, "sha256": sha256, "part": 999, "id": "old", "parts": ["0"],
    });
    fs::write(&old, state.to_string()).unwrap();
    world.put(&store, &next).await.unwrap();
    world.put(&store, &path).await.unwrap();
    assert_eq!(parts.put.load(Ordering::Relaxed), 10);
    assert_eq!(fs::read(&old).unwrap(), state.to_string().as_bytes());
    assert_eq!(world.told(), ["a.db.upload.json"]);
}

#[tokio::test]
async fn an_upload_without_a_name_or_with_an_endless_one_is_refused() {
    let world = World::new();
    let path = world.first().await;
    for id in [String::new(), "x".repeat(4097)] {
        let (parts, store) = in_parts();
        *parts.id.lock().unwrap() = Some(id);
        let error = world.put(&store, &path).await.unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error}");
        assert!(error.to_string().contains("gives an upload"), "{error}");
        assert_eq!(world.told(), [""; 0]);
    }
    // Nor one that somebody has written into the state.
    let (parts, store) = in_parts();
    let left = Left::of(&path, store.name(&store.at("a.db")));
    let sha256 = Manifest::open(&path, &world.trusted()).unwrap().sha256;
    let state = serde_json::json!({
        "to": left.to(), "sha256": sha256, "part": 999, "id": "", "parts": ["0"],
    });
    fs::write(left.path(), state.to_string()).unwrap();
    world.put(&store, &path).await.unwrap();
    assert_eq!(parts.put.load(Ordering::Relaxed), 5);
}

/// As where the disk is full: of an upload whose name is nowhere nobody would know.
#[tokio::test]
async fn an_upload_that_cannot_be_told_of_is_ended_at_once() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    let left = Left::of(&path, store.name(&store.at("a.db")));
    fs::create_dir(left.path()).unwrap();
    let error = world.put(&store, &path).await.unwrap_err();
    assert!(!matches!(error, Error::Store { .. }), "{error}");
    assert_eq!((open(&parts), parts.put.load(Ordering::Relaxed)), (0, 0));
    // The control.
    fs::remove_dir(left.path()).unwrap();
    world.put(&store, &path).await.unwrap();
}

/// Who looks at it from another host then sees that somebody is at it, before the first part.
#[tokio::test]
async fn who_goes_on_with_an_upload_is_heard_of_at_once() {
    let world = World::new();
    let path = world.first().await;
    let both = in_parts();
    world.leave(&both, &path).await;
    let told = world.folder.path().join(&world.told()[0]);
    let file = fs::File::options().write(true).open(&told).unwrap();
    file.set_modified(now_of_files() - HOURS).unwrap();
    let (trusted, mut heard) = (world.trusted(), Vec::new());
    let put = both.1.put(&path, &trusted, &world.cancel, |_, _| {
        heard.extend(fs::metadata(&told).and_then(|told| told.modified()).ok());
    });
    put.await.unwrap();
    assert!(heard[0] > now_of_files() - HOURS / 2, "{heard:?}");
}

/// Of a backup that is gone nobody can be kept from beginning another one of its name.
#[tokio::test]
async fn what_is_told_of_another_upload_is_not_forgotten() {
    let world = World::new();
    let path = world.first().await;
    let both = in_parts();
    world.leave(&both, &path).await;
    let left = Left::of(&path, both.1.name(&both.1.at("a.db")));
    left.forget("another").unwrap();
    assert_eq!(world.told().len(), 1);
    let id = left.told().unwrap().id;
    left.forget(&id).unwrap();
    assert_eq!(world.told().len(), 0);
}

#[cfg(unix)]
#[test]
fn a_backup_to_which_a_link_leads_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
    fs::write(&path, "a backup").unwrap();
    std::os::unix::fs::symlink("a.db", &link).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    // Who looks for the file at the link itself does so for ever, and nobody can stop it.
    std::thread::spawn(move || {
        let cancel = Cancellation::new();
        let held = hold(&link, &cancel).now_or_never().unwrap().unwrap();
        let _ = tell.send(held);
    });
    let held = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(held.is_sure());
    let file = fs::File::open(&path).unwrap();
    file.try_lock().unwrap_err();
}
