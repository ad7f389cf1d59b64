//! A bucket of a real server that speaks S3: `KUBE_MIGRATE_S3` is its address, with
//! the bucket `backups` made, and `versions` with versions on. `cargo xtask s3` starts one: moto,
//! a Python package (`xtask/src/s3.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;

use migrate_core::Cancellation;
use migrate_core::steps::BackupProof;
use migrate_etcd::{Error, Manifest, Retention, SigningKey, Store};
use object_store::aws::AmazonS3Builder;

fn bucket(name: &str, prefix: &str) -> Store {
    let endpoint = std::env::var("KUBE_MIGRATE_S3").expect("KUBE_MIGRATE_S3 names a server");
    let bucket = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(name)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .build();
    Store::s3(bucket.unwrap(), prefix).unwrap()
}

#[tokio::test]
#[ignore = "needs a server that speaks S3, see KUBE_MIGRATE_S3"]
async fn an_upload_to_s3_that_was_cut_off_goes_on_and_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::from_seed(&[5; 32]).unwrap();
    let trusted = [key.public()];
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().expect("the only one");
    let store = bucket("backups", "clusters/c");
    let mut bytes: Vec<u8> = (0..20_000_003_u32).map(|at| (at / 7 % 251) as u8).collect();
    let mut files = Vec::new();
    for (name, taken) in [
        ("a.db", "2026-11-28T00:00:00Z"),
        ("b.db", "2026-11-29T00:00:00Z"),
    ] {
        bytes.push(1);
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let mut manifest =
            Manifest::of(&path, taken.parse().unwrap(), BackupProof::Proven).unwrap();
        manifest.cluster = Some("c".to_owned());
        manifest.write(folder.path(), &key).await.unwrap();
        files.push(path);
    }
    let listed = async || {
        let catalogue = store.list(&trusted).await.unwrap();
        let names = catalogue.backups.into_iter().map(|backup| backup.file);
        names.collect::<Vec<_>>()
    };

    // Cancelled while the second of three parts is put: there is nothing to go on with.
    let (stop, beside) = (Cancellation::new(), folder.path().join("a.db.upload.json"));
    let stopping = stop.clone();
    let put = store.put(&files[0], &trusted, &stop, move |done, _| {
        if done >= 8 << 20 {
            stopping.cancel();
        }
    });
    let error = put.await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(!beside.exists(), "the server has ended it");
    // Dropped before the third of them, then begun again.
    let cancel = Cancellation::new();
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let (mut gone, mut told) = (Some(gone), Vec::new());
    let put = store.put(&files[0], &trusted, &cancel, |done, _| {
        told.push(done);
        if done >= 16 << 20 {
            gone.take().map(|gone| gone.send(()));
        }
    });
    tokio::select! {
        biased;
        _ = is_gone => {}
        put = put => panic!("{put:?}"),
    }
    assert_eq!(told.first(), Some(&0));
    assert!(beside.exists() && listed().await.is_empty());
    let mut told = Vec::new();
    for path in &files {
        let put = store.put(path, &trusted, &cancel, |done, _| told.push(done));
        put.await.unwrap();
    }
    assert_eq!(told.first(), Some(&(16 << 20)), "it went on where it was");
    assert_eq!(listed().await, ["a.db", "b.db"]);

    let to = folder.path().join("fetched");
    let fetched = store
        .fetch_newest(&trusted, |_| true, &to, &cancel, |_, _| {})
        .await;
    let (path, manifest, _) = fetched.unwrap();
    assert_eq!(manifest.file, "b.db");
    assert_eq!(fs::read(path).unwrap(), bytes);
    let pruned = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert_eq!(listed().await, ["b.db"]);
    assert_eq!(pruned.still_stored, [""; 0]);
    let all = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!((all.kept.len(), all.removed.len()), (1, 0));

    // The bucket that keeps versions.
    let store = bucket("versions", "clusters/c");
    for path in &files {
        store.put(path, &trusted, &cancel, |_, _| {}).await.unwrap();
    }
    let pruned = store.prune(&trusted, &Retention::least()).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.kept.len()), (1, 1));
    assert_eq!(pruned.still_stored, ["a.db"]);
}
