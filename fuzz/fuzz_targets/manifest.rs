//! Manifests of backups: whatever stands beside a file, and whatever a trusted key
//! has signed.

#![no_main]

use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use migrate_etcd::{Manifest, SigningKey};
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;

const SEED: [u8; 32] = [7; 32];
/// What a signature is about, as docs/etcd-backup.md tells it.
const DOMAIN: &str = "kube-migrate backup manifest 1\n";

static FOLDER: OnceLock<TempDir> = OnceLock::new();

fn signed(manifest: &str) -> Vec<u8> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed is a key");
    let signature = pair.sign(format!("{DOMAIN}{manifest}").as_bytes());
    let mut digits = String::new();
    for byte in signature.as_ref() {
        write!(digits, "{byte:02x}").expect("a text takes everything");
    }
    let file = serde_json::json!({ "manifest": manifest, "signature": digits });
    file.to_string().into_bytes()
}

fuzz_target!(|input: &[u8]| {
    let folder = FOLDER.get_or_init(|| TempDir::new().expect("a folder can be made"));
    let backup = folder.path().join("a.db");
    let (text, is_signed) = match (input.split_first(), std::str::from_utf8(input)) {
        (Some((b'{', _)), Ok(text)) => (signed(text), true),
        (Some((_, rest)), _) => (rest.to_vec(), false),
        (None, _) => return,
    };
    fs::write(Manifest::path_of(&backup), text).expect("a file can be written");
    let key = SigningKey::from_seed(&SEED).expect("a seed is a key");
    match Manifest::open(&backup, &[key.public()]) {
        Ok(manifest) => assert!(is_signed, "nobody has signed {manifest:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
