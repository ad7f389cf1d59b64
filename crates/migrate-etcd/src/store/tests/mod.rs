//! Stores: what is listed, resumed, fetched, and removed.

#[cfg(unix)]
mod folder;
mod pruning;
mod sizes;
mod stores;
mod unfinished;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use migrate_core::steps::BackupProof;
use stores::{Faulty, in_parts, memory};

use super::*;
use crate::{Manifest, PublicKey, SigningKey};

struct World {
    folder: tempfile::TempDir,
    key: SigningKey,
    cancel: Cancellation,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: SigningKey::from_seed(&[7; 32]).unwrap(),
            cancel: Cancellation::new(),
        }
    }

    fn trusted(&self) -> [PublicKey; 1] {
        [self.key.public()]
    }

    async fn backup(&self, name: &str, taken: &str, proof: BackupProof) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, name.repeat(1000)).unwrap();
        let mut manifest = Manifest::of(&path, taken.parse().unwrap(), proof).unwrap();
        manifest.cluster = Some("c".to_owned());
        manifest.write(self.folder.path(), &self.key).await.unwrap();
        path
    }

    async fn first(&self) -> PathBuf {
        self.backup("a.db", "2026-11-29T00:00:00Z", BackupProof::Proven)
            .await
    }

    async fn put(&self, store: &Store, backup: &Path) -> Result<Manifest, Error> {
        store
            .put(backup, &self.trusted(), &self.cancel, |_, _| {})
            .await
    }

    async fn files(&self, store: &Store) -> Vec<String> {
        let catalogue = store.list(&self.trusted()).await.unwrap();
        let backups = catalogue.backups.into_iter();
        backups.map(|backup| backup.file).collect()
    }

    /// Files that tell how far uploads are.
    fn told(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut told: Vec<_> = names
            .filter(|name| name.ends_with(".upload.json"))
            .collect();
        told.sort();
        told
    }

    fn fetched(&self) -> PathBuf {
        self.folder.path().join("fetched")
    }

    /// Fetches the newest backup there is.
    async fn fetch(&self, store: &Store) -> Result<(PathBuf, Manifest, Vec<Error>), Error> {
        let (trusted, folder) = (self.trusted(), self.fetched());
        let any = |_: &Manifest| true;
        let silent = |_, _| {};
        store
            .fetch_newest(&trusted, any, &folder, &self.cancel, silent)
            .await
    }
}

#[test]
fn a_place_is_a_folder_or_a_bucket_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let name = place.to_str().unwrap();
    // Who looks for backups makes no empty store of a typing error.
    let error = Store::open(name).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error}");
    assert!(!place.exists());
    Store::open_or_create(name).unwrap();
    assert!(place.is_dir());
    Store::open(name).unwrap();
    let file = place.join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(file.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, Error::NoStore { .. }), "{error}");

    for open in [Store::open, Store::open_or_create] {
        let error = open("gs://bucket/c").unwrap_err();
        assert!(matches!(error, Error::NoStore { .. }), "{error}");
        let error = open("s3://bucket/clusters/c/").unwrap_err();
        match cfg!(feature = "s3") {
            true => assert!(error.to_string().contains("provider of TLS"), "{error}"),
            false => assert!(matches!(error, Error::NotBuilt { .. }), "{error}"),
        }
    }
    #[cfg(feature = "s3")]
    {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
        for open in [Store::open, Store::open_or_create] {
            let bucket = open("s3://bucket/clusters/c/").unwrap();
            assert_eq!(bucket.prefix.as_ref(), "clusters/c");
        }
    }
    assert!(!Path::new("s3:").exists() && !Path::new("gs:").exists());
}

#[tokio::test]
async fn what_was_put_is_listed_and_fetched_again() {
    let world = World::new();
    let path = world.first().await;
    let local = Store::folder(&world.folder.path().join("store")).unwrap();
    for store in [memory().1, in_parts().1, local] {
        assert!(world.files(&store).await.is_empty());
        let mut told = Vec::new();
        let trusted = world.trusted();
        let put = store.put(&path, &trusted, &world.cancel, |done, of| {
            told.push((done, of));
        });
        let manifest = put.await.unwrap();
        assert_eq!(told.last(), Some(&(4000, 4000)));
        assert!(told.is_sorted());
        assert_eq!(world.files(&store).await, ["a.db"]);
        // Again: nothing to do.
        assert_eq!(world.put(&store, &path).await.unwrap(), manifest);

        let fetched = world.fetch(&store).await;
        let (fetched, newest, damaged) = fetched.unwrap();
        assert_eq!((&newest, damaged.len()), (&manifest, 0));
        assert_eq!(fs::read(&fetched).unwrap(), fs::read(&path).unwrap());
        assert_eq!(
            Manifest::open(&fetched, &world.trusted()).unwrap(),
            manifest
        );
        fs::remove_dir_all(world.fetched()).unwrap();
        assert_eq!(world.told(), [""; 0]);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let data = fs::metadata(world.folder.path().join("store")).unwrap();
        assert_eq!(data.permissions().mode() & 0o777, 0o700);
    }
}

/// A request has a time, its body included, however slow the way is; so none may ask for
/// more than a part.
#[tokio::test]
async fn a_backup_is_read_by_parts_each_a_request_of_its_own() {
    let world = World::new();
    let path = world.first().await;
    let slow = Faulty::new();
    slow.longest.store(999, Ordering::Relaxed);
    let store = slow.store();
    world.put(&store, &path).await.unwrap();
    let (fetched, ..) = world.fetch(&store).await.unwrap();
    assert_eq!(fs::read(&fetched).unwrap(), fs::read(&path).unwrap());
    // Read back, and fetched.
    let once = [999, 999, 999, 999, 4];
    assert_eq!(*slow.asked.lock().unwrap(), [once, once].concat());
    // The control: one that is slower yet.
    slow.longest.store(998, Ordering::Relaxed);
    fs::remove_dir_all(world.fetched()).unwrap();
    world.fetch(&store).await.unwrap_err();
    assert!(!world.fetched().join("a.db").exists());
}

#[tokio::test]
async fn an_upload_that_was_killed_goes_on_and_is_not_listed_before_its_end() {
    let world = World::new();
    let path = world.first().await;
    let (parts, store) = in_parts();
    parts.fail_at.store(3, Ordering::Relaxed);
    let error = world.put(&store, &path).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error}");
    assert!(world.files(&store).await.is_empty());
    parts.fail_at.store(usize::MAX, Ordering::Relaxed);
    world.put(&store, &path).await.unwrap();
    // Five parts in all, each once.
    assert_eq!(parts.put.load(Ordering::Relaxed), 5);
    assert_eq!(world.files(&store).await, ["a.db"]);

    // The store has forgotten the upload meanwhile, or the file is another one.
    for is_another in [false, true] {
        let (parts, store) = in_parts();
        parts.fail_at.store(2, Ordering::Relaxed);
        world.put(&store, &path).await.unwrap_err();
        parts.fail_at.store(usize::MAX, Ordering::Relaxed);
        if is_another {
            fs::write(&path, "b".repeat(4000)).unwrap();
            let taken = "2026-11-29T00:00:00Z".parse().unwrap();
            let manifest = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
            manifest
                .write(world.folder.path(), &world.key)
                .await
                .unwrap();
        } else {
            parts.known.lock().unwrap().clear();
        }
        world.put(&store, &path).await.unwrap();
        assert_eq!(parts.put.load(Ordering::Relaxed), 2 + 5);
        assert_eq!(world.files(&store).await, ["a.db"]);
    }
}

#[tokio::test]
async fn what_is_half_there_or_of_others_is_not_listed() {
    let world = World::new();
    let path = world.first().await;
    let (memory, store) = memory();
    let text = fs::read(Manifest::path_of(&path)).unwrap();
    let put = async |name: &str, bytes: &[u8]| {
        let at = Location::parse(name).unwrap();
        memory.put(&at, bytes.to_vec().into()).await.unwrap();
    };
    // An upload that was cut off; a manifest alone; a backup of another length.
    put("clusters/c/half.db", b"half").await;
    assert_eq!(world.files(&store).await, [""; 0]);
    put("clusters/c/a.db.manifest.json", &text).await;
    let catalogue = store.list(&world.trusted()).await.unwrap();
    assert!(catalogue.backups.is_empty());
    assert_eq!(catalogue.unfinished, ["half.db"]);
    assert!(catalogue.refused[0].reason.contains("not there"));
    put("clusters/c/a.db", b"short").await;
    // Under another name; by another key; somebody else's folder.
    put("clusters/c/b.db", &fs::read(&path).unwrap()).await;
    put("clusters/c/b.db.manifest.json", &text).await;
    put("clusters/c/d.db.manifest.json", b"{}").await;
    put("clusters/c/deep/a.db", &fs::read(&path).unwrap()).await;
    put("clusters/c/deep/a.db.manifest.json", &text).await;
    put("clusters/other/a.db.manifest.json", &text).await;
    let catalogue = store.list(&world.trusted()).await.unwrap();
    assert!(catalogue.backups.is_empty(), "{:?}", catalogue.backups);
    assert_eq!(catalogue.refused.len(), 3);
    let wanted = world.fetch(&store).await;
    let error = wanted.unwrap_err();
    assert!(
        matches!(&error, Error::NoBackup { reasons, .. } if reasons.len() == 3),
        "{error}"
    );
    // The control: the whole of it.
    put("clusters/c/a.db", &fs::read(&path).unwrap()).await;
    assert_eq!(world.files(&store).await, ["a.db"]);
    let other = SigningKey::from_seed(&[8; 32]).unwrap().public();
    assert!(store.list(&[other]).await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn the_newest_that_is_sound_is_fetched_and_none_is_written_over() {
    let world = World::new();
    let (memory, store) = memory();
    let old = world.first().await;
    let new = world
        .backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
        .await;
    for path in [&new, &old] {
        world.put(&store, path).await.unwrap();
    }
    assert_eq!(world.files(&store).await, ["a.db", "b.db"]);
    // A flipped bit in the store.
    let at = Location::parse("clusters/c/b.db").unwrap();
    let mut bytes = fs::read(&new).unwrap();
    bytes[77] ^= 1;
    memory.put(&at, bytes.into()).await.unwrap();
    let fetched = world.fetch(&store).await;
    let (path, newest, damaged) = fetched.unwrap();
    assert_eq!(newest.file, "a.db");
    assert!(path.ends_with("a.db"));
    assert!(
        matches!(damaged[..], [Error::Changed { .. }]),
        "{damaged:?}"
    );
    assert!(!world.fetched().join("b.db").exists());

    // Another backup of a name that is taken.
    fs::write(&old, "another").unwrap();
    let taken = "2026-11-29T02:00:00Z".parse().unwrap();
    let manifest = Manifest::of(&old, taken, BackupProof::Proven).unwrap();
    manifest
        .write(world.folder.path(), &world.key)
        .await
        .unwrap();
    let error = world.put(&store, &old).await.unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    // A backup that is not what was signed is not put at all.
    let third = world
        .backup("c.db", "2026-11-29T03:00:00Z", BackupProof::Proven)
        .await;
    fs::write(&third, "changed since").unwrap();
    let error = world.put(&store, &third).await.unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    let stop = Cancellation::new();
    stop.cancel();
    let new = store.put(&third, &world.trusted(), &stop, |_, _| {}).await;
    assert!(new.is_err());
    assert_eq!(world.files(&store).await, ["a.db", "b.db"]);
}

/// As of another owner, in an archive, or on a disk that is broken.
#[tokio::test]
async fn what_a_store_does_not_give_is_passed_over_and_told() {
    let world = World::new();
    let faulty = Faulty::new();
    let store = faulty.store();
    for (name, taken) in [
        ("a.db", "2026-11-29T00:00:00Z"),
        ("b.db", "2026-11-29T01:00:00Z"),
        ("c.db", "2026-11-29T02:00:00Z"),
    ] {
        let path = world.backup(name, taken, BackupProof::Proven).await;
        world.put(&store, &path).await.unwrap();
    }
    let deny = |name| faulty.denied.lock().unwrap().insert(name);
    // The bytes of the newest, and the manifest of another.
    deny("c.db");
    deny("b.db.manifest.json");
    let catalogue = store.list(&world.trusted()).await.unwrap();
    let refused: Vec<_> = catalogue
        .refused
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(refused, ["b.db.manifest.json"]);
    assert!(
        catalogue.refused[0].reason.contains("AccessDenied"),
        "{:?}",
        catalogue.refused
    );
    assert_eq!(world.files(&store).await, ["a.db", "c.db"]);
    let (_, newest, passed_over) = world.fetch(&store).await.unwrap();
    assert_eq!(newest.file, "a.db");
    assert!(
        matches!(&passed_over[..], [error @ Error::Store { .. }] if error.to_string().contains("c.db")),
        "{passed_over:?}"
    );
    // None is left: each is told of.
    deny("a.db");
    fs::remove_dir_all(world.fetched()).unwrap();
    let error = world.fetch(&store).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoBackup { reasons, .. } if reasons.len() == 3),
        "{error}"
    );
    // Nothing can be read at all: that is the store's fault, and no lack of backups.
    deny("a.db.manifest.json");
    deny("c.db.manifest.json");
    let error = store.list(&world.trusted()).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error}");
}

/// Whoever can write to a store fills nobody's memory.
#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let world = World::new();
    let path = world.first().await;
    let (memory, store) = memory();
    let manifest = world.put(&store, &path).await.unwrap();
    let at = Location::parse("clusters/c/a.db.manifest.json").unwrap();
    let put = memory.put(&at, vec![b' '; (1 << 20) + 1].into());
    put.await.unwrap();
    let errors = [
        world.put(&store, &path).await.unwrap_err(),
        store
            .fetch(&manifest, &world.fetched(), &world.cancel, |_, _| {})
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("too large"), "{error}");
    }
    let catalogue = store.list(&world.trusted()).await.unwrap();
    assert!(catalogue.refused[0].reason.contains("too large"));
}
