//! What is encrypted, and what is refused when it is opened.

use std::fs;
use std::sync::Arc;

use sha2::Digest;

use super::*;
use crate::folder::names;

/// Larger than several chunks of age, and not whole ones.
fn body() -> Vec<u8> {
    let line = b"/registry/secrets/ns/planted-marker ";
    line.iter().copied().cycle().take(300_001).collect()
}

fn ways() -> Vec<(Seal, KeyRing)> {
    let (secret, public) = KeyRing::generate();
    let keyed = || Seal::new(Lock::for_keys([&public]).unwrap());
    let ways = [
        (keyed(), KeyRing::parse(&secret).unwrap()),
        (
            Seal::new(Lock::with_passphrase("correct horse").unwrap()),
            KeyRing::with_passphrase("correct horse"),
        ),
    ];
    #[cfg(feature = "zstd")]
    let compressed = Some((keyed().compressed(), KeyRing::parse(&secret).unwrap()));
    #[cfg(not(feature = "zstd"))]
    let compressed = None;
    ways.into_iter().chain(compressed).collect()
}

#[tokio::test]
async fn what_was_encrypted_is_opened_again_and_nothing_of_it_shows() {
    let cancel = Cancellation::new();
    for (seal, keys) in ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.db");
        fs::write(&path, body()).unwrap();
        let sealed = seal.file(&path, &cancel).await.unwrap();
        let bytes = fs::read(&sealed.path).unwrap();
        assert_eq!(bytes.len() as u64, sealed.bytes);
        assert_eq!(
            migrate_core::hex(sha2::Sha256::digest(&bytes)),
            sealed.sha256
        );
        assert!(!bytes.windows(14).any(|part| part == b"planted-marker"));
        if seal.level.is_some() {
            assert!(bytes.len() < 10_000, "{}", bytes.len());
        }
        let again = seal.file(&path, &cancel).await.unwrap_err();
        assert!(matches!(again, Error::Exists { .. }), "{again}");

        let opened = tempfile::tempdir().unwrap();
        let keys = Arc::new(keys);
        let got = keys.unseal(&sealed.path, opened.path(), &cancel).await;
        assert_eq!(fs::read(got.unwrap()).unwrap(), body());
        assert_eq!(names(opened.path()), ["etcd.db"]);
    }
}

#[tokio::test]
async fn what_was_changed_or_cut_or_is_for_others_leaves_nothing() {
    let cancel = Cancellation::new();
    for (seal, keys) in ways() {
        let keys = Arc::new(keys);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.db");
        fs::write(&path, body()).unwrap();
        let sealed = seal.file(&path, &cancel).await.unwrap().path;
        let whole = fs::read(&sealed).unwrap();
        let opened = tempfile::tempdir().unwrap();
        let step = whole.len() / 40 + 1;
        let flipped = (0..whole.len()).step_by(step).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = (0..whole.len())
            .step_by(step)
            .map(|at| whole[..at].to_vec());
        let longer = [whole.as_slice(), b"x"].concat();
        for bytes in flipped.chain(cut).chain([longer]) {
            fs::write(&sealed, bytes).unwrap();
            let got = Arc::clone(&keys)
                .unseal(&sealed, opened.path(), &cancel)
                .await;
            let error = got.unwrap_err();
            assert!(matches!(error, Error::Locked { .. }), "{error}");
            assert!(names(opened.path()).is_empty());
        }
        fs::write(&sealed, &whole).unwrap();
        let (other, _) = KeyRing::generate();
        for keys in [
            KeyRing::parse(&other).unwrap(),
            KeyRing::with_passphrase("wrong"),
        ] {
            let got = Arc::new(keys).unseal(&sealed, opened.path(), &cancel).await;
            let error = got.unwrap_err();
            assert!(matches!(error, Error::Locked { .. }), "{error}");
        }
        let stop = Cancellation::new();
        stop.cancel();
        let got = Arc::clone(&keys)
            .unseal(&sealed, opened.path(), &stop)
            .await;
        assert!(matches!(got, Err(Error::Cancelled)), "{got:?}");
        assert!(names(opened.path()).is_empty());
    }
}

#[test]
fn keys_that_are_none_are_refused_without_being_shown() {
    let (secret, public) = KeyRing::generate();
    let line = secret.lines().last().unwrap();
    for error in [
        Lock::for_keys([line]).unwrap_err(),
        Lock::for_keys([""; 0]).unwrap_err(),
        Lock::with_passphrase("").unwrap_err(),
        KeyRing::parse(&public).unwrap_err(),
        KeyRing::parse("# nothing").unwrap_err(),
    ] {
        assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
        assert!(!error.to_string().contains(line) && !error.to_string().contains(&public));
    }
    let lock = Lock::with_passphrase("s3cret").unwrap();
    let keys = KeyRing::with_passphrase("s3cret");
    let text = format!("{:?} {lock:?} {keys:?}", Seal::new(lock.clone()));
    assert!(!text.contains("s3cret"), "{text}");
    assert!(format!("{:?}", Lock::for_keys([&public]).unwrap()).contains(&public));
}

/// Between the save and this it may have been exchanged, or damaged.
#[tokio::test]
async fn a_snapshot_that_is_another_by_now_is_not_encrypted() {
    let cancel = Cancellation::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.db");
    let sha256 = migrate_core::hex(sha2::Sha256::digest(body()));
    let saved = BackupArtifact::new(&path, body().len() as u64, sha256);
    let (seal, _) = ways().remove(0);
    let sealed = async || {
        let to = (folder.path(), "kept.db");
        seal.snapshot(&saved, to, Told::nobody(), &cancel).await
    };
    let mut other = body();
    other[7] ^= 1;
    fs::write(&path, other).unwrap();
    let error = sealed().await.unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert_eq!(names(folder.path()), ["etcd.db"]);
    // The control.
    fs::write(&path, body()).unwrap();
    sealed().await.unwrap();
}
